"""A corpus on disk: how files are named, which recordings there are, and which files do not fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caffe_proto import UserError, sentence, texts
from caffe_proto.errors import printable

DIGITS = tuple("0123456789")
# speakers may hold no white space (Caffe's lists are split at it) and no underscore (it separates the name's fields)
_WAV_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^\s_/]+)_(?P<repetition>0|[1-9][0-9]{0,8})\.wav")
MAX_DEPTH = 4  # of folders that are searched for misplaced recordings
GRAMMAR = "<speaker>/<digit>_<speaker>_<repetition>.wav"


class CorpusError(UserError, ValueError):
    """A corpus, metadata or splits file that cannot be used at all; the message is one sentence for the user."""


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a corpus: where, what was expected, what is there, and the recordings it costs."""

    where: str
    expected: str
    got: str
    recordings: tuple[str, ...] = ()  # paths relative to the corpus

    def __str__(self) -> str:
        return sentence(self.where, self.expected, self.got)


ALIKE = 3  # defects that expect the same and are told of one by one; of more there is one line for all


def in_short(found: Sequence[Any], verbose: bool = False) -> list[str]:
    """A line for each defect or finding, in their order; of more than `ALIKE` that expect the same, one line in place
    of the first: how many, where the first ones are, and what the first got. verbose: a line for each, however many.

    found: `Defect`s, or other frozen values with where, expected and got, and maybe a level.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in found:
        groups.setdefault((getattr(one, "level", ""), one.expected), []).append(one)
    lines = []
    for one in found:
        group = groups[getattr(one, "level", ""), one.expected]
        if verbose or len(group) <= ALIKE:
            lines.append(str(one))
        elif one is group[0]:
            places = f"{len(group)} times ({', '.join(other.where for other in group[:ALIKE])} ...)"
            got = one.got if all(other.got == one.got for other in group) else f"for example {one.got}"
            lines.append(f"{replace(one, where=places, got=got)}; audiomnist validate --verbose lists all")
    return lines


@dataclass(frozen=True, order=True)
class Recording:
    """One WAV file of a corpus, as its name describes it. Sorts by speaker, digit, repetition."""

    speaker: str
    digit: int
    repetition: int
    root: Path = field(compare=False)  # the corpus

    @property
    def stem(self) -> str:
        """`<digit>_<speaker>_<repetition>`."""
        return f"{self.digit}_{self.speaker}_{self.repetition}"

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.stem}.wav"

    @property
    def relative(self) -> str:
        """The path relative to the corpus, with forward slashes."""
        return f"{self.speaker}/{self.name}"

    @property
    def path(self) -> Path:
        return self.root / self.speaker / self.name


def scan(source: Path) -> tuple[list[Recording], list[Defect]]:
    """All recordings under `source`, sorted, and a defect for every WAV file whose name or place is wrong.

    Other files and anything hidden are ignored. Raises CorpusError when `source` is not a folder.
    """
    source = Path(source)
    if not source.is_dir():
        raise CorpusError(source, "a folder of recordings", "a file" if source.exists() else "none")
    recordings, defects = [], []
    for relative in _wav_files(source, defects):
        path = source / relative
        if shown(relative) != relative.as_posix():
            got = "bytes that are none, or signs for a terminal"
            defects.append(Defect(shown(relative), "a name in UTF-8", got, (shown(relative),)))
            continue
        match = _WAV_NAME.fullmatch(path.name)
        if match is None:
            got = f"the name {path.name!r}"
        elif len(relative.parts) != 2:
            got = "a file that is not in a speaker's folder"
        elif match["speaker"] != relative.parts[0]:
            got = f"a name with speaker {match['speaker']} in the folder {relative.parts[0]}"
        else:
            recordings.append(Recording(match["speaker"], int(match["digit"]), int(match["repetition"]), source))
            continue
        defects.append(Defect(relative.as_posix(), GRAMMAR, got, (relative.as_posix(),)))
    return sorted(recordings), defects


def shown(path: str | os.PathLike) -> str:
    """A path as text that can be written anywhere: bytes of a name that are no UTF-8, or for terminals, as \\xNN."""
    return printable(os.fsencode(path).decode(errors="backslashreplace").replace(os.sep, "/"), "")


def _wav_files(source: Path, defects: list[Defect]) -> Iterable[Path]:
    """The WAV files below `source`, relative to it. Speakers' folders may be links; unreadable ones are defects."""

    def unreadable(error: OSError) -> None:
        where = shown(os.path.relpath(error.filename, source))
        defects.append(Defect(where, "a readable folder", error.strerror or str(error)))

    for folder, folders, files in os.walk(source, onerror=unreadable, followlinks=True):
        relative = Path(folder).relative_to(source)
        deep = len(relative.parts) >= MAX_DEPTH  # links may lead in circles
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(".wav") and not name.startswith("."):
                yield relative / name


def read_json(path: Path, what: str) -> object:
    """The content of a JSON file; `what` says in an error what was expected. Raises CorpusError."""
    with CorpusError.of_files():
        return texts.read_json(path, what)


def plain(value: object) -> str:
    """A metadata value as text for comparisons: lower case, single spaces."""
    return " ".join(str(value).split()).casefold()
