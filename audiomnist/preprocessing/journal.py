"""The destination folder: used by one run at a time, it records how it was made and which recordings are done."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from audiomnist.corpus.layout import CorpusError, Recording
from audiomnist.signal.inputs import FORMAT
from caffe_proto.atomic import write_error, write_file
from caffe_proto.texts import read_record

MANIFEST, JOURNAL, LOCK = "preprocessing.json", "preprocessing.journal", ".preprocessing.lock"


def check_owner(destination: Path) -> None:
    """Refuse a folder with files that are not ours. Raises CorpusError, WriteError."""
    try:
        names = set(os.listdir(destination)) - {LOCK}
    except OSError as error:
        raise write_error(destination, error) from None
    if names and MANIFEST not in names:
        got = f"one with {min(names)} and no {MANIFEST}"
        raise CorpusError(destination, "an empty folder, or one that preprocessing made", got)


@contextmanager
def locked(destination: Path) -> Iterator[None]:
    """Lock the destination for this process; the lock of a killed process is gone. Raises CorpusError if locked."""
    with open(destination / LOCK, "a") as file:  # a link's target is not emptied
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CorpusError(
                destination, "a folder that no other preprocessing writes into", "one that is in use"
            ) from None
        yield


def check_manifest(destination: Path, source: Path, seed: int) -> None:
    """Refuse a folder made with other settings; a new folder gets a manifest with ours. Raises CorpusError."""
    mine = {"format": FORMAT, "seed": seed, "source": str(source.resolve())}
    path = destination / MANIFEST
    if path.exists():
        theirs = read_record(path, "the manifest of an earlier preprocessing")
        differing = [key for key in mine if theirs.get(key) != mine[key]]
        if differing:
            key = differing[0]
            got = f"one made with {key} {theirs.get(key)} (choose another destination, or remove this one)"
            raise CorpusError(destination, f"a folder made with {key} {mine[key]}", got)
    else:
        write_file(path, (json.dumps(mine, indent=1) + "\n").encode())


class Journal:
    """Which recordings are done, and from what: a line for each, written after its files.

    A killed process loses nothing that it wrote, but a power failure may: lines written before the machine's last start
    count only up to the last mark that says that everything was flushed to the disk.
    """

    FLUSHED = "flushed"

    def __init__(self, path: Path):
        self.path = path
        self.fingerprints: dict[str, str] = {}
        pending: dict[str, str] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                fields = line.split("\t")
                if line == self.FLUSHED:
                    self.fingerprints = pending | self.fingerprints
                    pending = {}
                elif len(fields) == 4 and fields[3] == "." and fields[2] == boot():  # the dot: not torn
                    self.fingerprints[fields[0]] = fields[1]
                elif len(fields) == 4 and fields[3] == ".":
                    pending[fields[0]] = fields[1]

    def __enter__(self) -> Journal:
        self.file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed on exit)
        self.file.write("\n")  # a torn line ends here
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def flush(self) -> None:
        """Wait until everything is on the disk, and write the mark that says so."""
        os.sync()
        self.file.write(self.FLUSHED + "\n")

    def record(self, recording: Recording, fingerprint: str) -> None:
        if self.fingerprints.get(recording.relative) != fingerprint:
            self.fingerprints[recording.relative] = fingerprint
            try:
                self.file.write(f"{recording.relative}\t{fingerprint}\t{boot()}\t.\n")
            except OSError as error:
                raise write_error(self.path, error) from None


@cache
def boot() -> str:
    """An identifier of the machine's current boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
