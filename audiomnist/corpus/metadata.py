"""The metadata of a corpus: what it says about each speaker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from audiomnist.corpus.layout import CorpusError, Defect, Recording, plain, read_json

GENDERS = ("male", "female")  # the position is the label
META_NAME = "audioMNIST_meta.txt"


def read_metadata(path: Path) -> dict[str, dict]:
    """The metadata: speaker -> {"gender", "accent", "age", ...}, exactly as in the file.

    Raises CorpusError when the file cannot be read or is not a JSON object of objects.
    """
    what = "metadata in JSON, one object for each speaker"
    meta = read_json(path, what)
    if not isinstance(meta, dict):
        raise CorpusError(path, what, f"a JSON {type(meta).__name__}")
    for speaker, entry in meta.items():
        if not isinstance(entry, dict):
            raise CorpusError(path, what, f"speaker {speaker} with {entry!r}")
    return meta


def gender_of(entry: Mapping) -> int | None:
    """The gender label of a metadata entry, 0 male and 1 female; None for any other value."""
    gender = plain(entry.get("gender", ""))
    return GENDERS.index(gender) if gender in GENDERS else None


def check_metadata(recordings: Iterable[Recording], meta: Mapping[str, Mapping], meta_path: Path) -> list[Defect]:
    """A defect for every speaker who has recordings but no usable gender."""
    by_speaker: dict[str, list[str]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording.relative)
    defects = []
    for speaker, paths in by_speaker.items():
        if speaker not in meta:
            got = f"none for speaker {speaker} ({count(paths)})"
            expected = "an entry with a gender for every speaker"
        elif gender_of(meta[speaker]) is None:
            gender = meta[speaker].get("gender")
            said = "no gender" if gender is None else f"gender {gender!r}"
            got = f"speaker {speaker} ({count(paths)}) with {said}"
            expected = " or ".join(GENDERS)
        else:
            continue
        defects.append(Defect(Path(meta_path).name, expected, got, tuple(paths)))
    return defects


def count(paths: Sequence) -> str:
    return f"{len(paths)} recording{'' if len(paths) == 1 else 's'}"
