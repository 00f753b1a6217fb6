"""Attributes of speakers, made comparable: plausible ages, and different spellings of the same value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher

AGES = range(3, 111)  # plausible ages in years
LIKE = 0.8  # similarity above which two spellings count as one value


def age_of(entry: Mapping) -> int | None:
    """The age in a metadata entry (a number or text) in whole years; None where it is missing or not plausible."""
    try:
        age = int(str(entry.get("age")))
    except ValueError:
        return None
    return age if age in AGES else None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def spellings(values: Iterable[str]) -> list[list[str]]:
    """Groups of two or more values that look like spellings of one: they differ in case, signs or a few letters."""
    groups: list[list[str]] = []
    for value in values:
        plain = _plain(value)
        for group in groups:
            other = _plain(group[0])
            alike = SequenceMatcher(None, plain, other).ratio()
            if plain == other or (alike > LIKE and len(plain) == len(other)):
                group.append(value)
                break
        else:
            groups.append([value])
    return [group for group in groups if len(group) > 1]
