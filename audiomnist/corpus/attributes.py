"""What the metadata says of speakers, made comparable: ages that can be, and spellings of one thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher

AGES = range(3, 111)  # years that a speaker can have
LIKE = 0.8  # spellings more alike than this are thought to be one


def age_of(entry: Mapping) -> int | None:
    """The age in a metadata entry (a number or text) in whole years; None unless a speaker can have it."""
    try:
        age = int(str(entry.get("age")))
    except ValueError:
        return None
    return age if age in AGES else None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def spellings(values: Iterable[str]) -> list[list[str]]:
    """Groups of two or more values that look like spellings of one: equal but for case and signs, or nearly equal."""
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
