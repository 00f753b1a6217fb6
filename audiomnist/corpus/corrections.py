"""Corrections of known mistakes in AudioMNIST, applied on request.

The corrections are data (data/corrections.json): attributes of speakers, which fill what is missing and replace what is
there only where it says so with another value, and digits of recordings whose name is wrong about them.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from audiomnist.corpus.layout import CorpusError, Recording, read_json
from audiomnist.corpus.metadata import META_NAME
from audiomnist.places import TABLES

CORRECTIONS = TABLES / "corrections.json"


@dataclass(frozen=True)
class Corrections:
    """`speakers`: speaker -> attributes; `recordings`: file name -> spoken digit; `why`: either -> the reason.

    `only_where` names a speaker and attributes by which the corpus is recognised; without it they apply to any corpus.
    """

    speakers: Mapping[str, Mapping]
    recordings: Mapping[str, int]
    why: Mapping[str, str]
    only_where: Mapping[str, str] | None = None

    def fit(self, meta: Mapping[str, Mapping]) -> bool:
        """Whether they apply to the corpus with this metadata."""
        if self.only_where is None:
            return True
        attributes = dict(self.only_where)
        entry = meta.get(attributes.pop("speaker", ""), {})
        return all(entry.get(key) == value for key, value in attributes.items())


NONE = Corrections({}, {}, {})


def is_audiomnist(meta: Mapping[str, Mapping]) -> bool:
    """Whether this is the metadata of AudioMNIST, some of whose faults are known."""
    return load_corrections().fit(meta)


def load_corrections(path: Path = CORRECTIONS) -> Corrections:
    """Read a file of corrections. Raises CorpusError when it cannot be read as one."""
    what = "corrections in the form of data/corrections.json"
    content = read_json(path, what)
    try:
        why = {key: entry.pop("why", "") for part in ("speakers", "recordings") for key, entry in content[part].items()}
        recordings = {name: entry["digit"] for name, entry in content["recordings"].items()}
        only_where = content.get("only where")
    except (KeyError, TypeError, AttributeError) as error:
        got = f"a file that has another form ({type(error).__name__}: {error})"
        raise CorpusError(path, what, got) from None
    for name, digit in recordings.items():
        if type(digit) is not int or digit not in range(10):
            raise CorpusError(path, what, f"{name} with digit {digit!r:.60}")
    named = isinstance(only_where, dict) and isinstance(only_where.get("speaker", ""), str)
    if only_where is not None and not named:
        raise CorpusError(path, what, f"'only where' that is {only_where!r:.60}")
    return Corrections(content["speakers"], recordings, why, only_where)


def add_corrections_option(parser: argparse.ArgumentParser) -> None:
    """The option --corrections [FILE] of every command that reads a corpus; without FILE those of AudioMNIST."""
    what = "first correct known mistakes of AudioMNIST (or those that FILE lists)"
    parser.add_argument("--corrections", type=Path, nargs="?", const=CORRECTIONS, metavar="FILE", help=what)


def chosen_corrections(options: argparse.Namespace) -> Corrections:
    """What the option --corrections chose; NONE without it. Raises CorpusError."""
    return load_corrections(options.corrections) if options.corrections else NONE


def add_corpus_options(parser: argparse.ArgumentParser) -> None:
    """CORPUS, --meta and --corrections, for commands that read one corpus."""
    add = parser.add_argument
    add("corpus", type=Path, metavar="CORPUS", help="folder with a folder for each speaker")
    add("--meta", "-m", type=Path, metavar="FILE", help=f"metadata (default: {META_NAME} in the corpus)")
    add_corrections_option(parser)


def correct_metadata(meta: Mapping[str, Mapping], corrections: Corrections) -> tuple[dict[str, dict], list[str]]:
    """The corrected metadata (a copy), and a line for each change."""
    corrected, log = copy.deepcopy(dict(meta)), []
    if not corrections.fit(meta):
        return corrected, ["nothing: the corrections are for another corpus"]
    for speaker, attributes in corrections.speakers.items():
        entry = corrected.setdefault(speaker, {})
        for key, value in attributes.items():
            if entry.get(key) != value:
                log.append(f"speaker {speaker}: {key} {entry.get(key)!r} -> {value!r} ({corrections.why[speaker]})")
                entry[key] = value
    return corrected, log


def spoken_digits(
    recordings: Iterable[Recording], meta: Mapping[str, Mapping], corrections: Corrections
) -> tuple[dict[Recording, int], list[str]]:
    """What is said in each recording (its name's digit unless corrected), and a line for each change."""
    digits, log = {}, []
    said = corrections.recordings if corrections.fit(meta) else {}
    for recording in recordings:
        digits[recording] = said.get(recording.name, recording.digit)
        if digits[recording] != recording.digit:
            why = corrections.why[recording.name]
            log.append(f"{recording.relative}: digit {recording.digit} -> {digits[recording]} ({why})")
    return digits, log
