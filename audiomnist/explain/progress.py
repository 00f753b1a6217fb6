"""Finished parts of a long run, kept beside its output until everything is done, so that a stopped run continues.

A run over a list makes parts of some recordings each. A part is kept in the folder `<output>.partial`, whole or not at
all, under a name that is made from its recordings' names and contents; settings.json beside it says what made the parts
(network, weights, composites with their rules, target, precision, code). The same command finds them again; a command
with other settings is refused, and so is a second one while the first one lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audiomnist.explain.results import file_hash, string_kind
from caffe_proto import CaffeFileError, atomic_hdf5, remove_leftovers, write_file
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_record
from lrp.errors import LRPError

SETTINGS, LOCK = "settings.json", ".lock"
_PART = re.compile(r"[0-9a-f]{64}\.hdf5")


@dataclass
class Part:
    """What some recordings of a list gave.

    lines: printed lines. files: pictures and sounds that it wrote. entries: the report's (JSON values). groups:
    `audiomnist.explain.results.columns`, one dict for each group of recordings that are alike; its order is kept as
    well. about: its `attributes`.
    """

    lines: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, np.ndarray]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


TEXTS = ("lines", "files", "entries", "about")  # of a Part, stored as JSON


class Progress:
    """The kept parts of one run.

    output: path that the run makes; settings: {name: JSON value}, whatever decides what the parts hold. The folder is
    made and held at once, until `remove` or `close`. Raises LRPError where another run holds it, or it holds the parts
    of a run with other settings or somebody else's files.
    """

    def __init__(self, output: str | os.PathLike, settings: Mapping[str, Any]) -> None:
        self.folder = os.fspath(output).rstrip(os.sep) + ".partial"
        self.settings = json.loads(json.dumps(settings))
        self._lock = None
        os.makedirs(self.folder, exist_ok=True)
        try:
            self._check_owner()
            self._hold()
            self._check_settings()
        except BaseException:
            self._let_go()
            raise

    def _check_owner(self) -> None:
        remove_leftovers(self.folder)
        names = set(os.listdir(self.folder)) - {LOCK}
        if names and SETTINGS not in names:
            got = f"one with {min(names)} and no {SETTINGS}"
            raise LRPError(self.folder, "an empty folder, or one with an unfinished run's parts", got)

    def _hold(self) -> None:
        self._lock = open(os.path.join(self.folder, LOCK), "a")  # noqa: SIM115 (held until the run ends)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):  # else the file system has no locks
                raise LRPError(f"another run works on {self.folder}") from None

    def _check_settings(self) -> None:
        path = os.path.join(self.folder, SETTINGS)
        found = {}
        with contextlib.suppress(CaffeFileError):
            found = read_record(path, "the settings of an unfinished run")
        ours = not os.path.exists(path) or found.keys() == self.settings.keys()
        if ours and not self.started:
            write_file(path, json.dumps(self.settings, indent=1))
            return
        different = sorted(name for name in {*found, *self.settings} if found.get(name) != self.settings.get(name))
        if different:
            expected = f"an unfinished run with the same {', '.join(different)}"
            raise LRPError(self.folder, expected, "others (repeat that command, or remove the folder)")

    @property
    def started(self) -> bool:
        """Whether something is kept."""
        return os.path.isdir(self.folder) and any(map(_PART.fullmatch, os.listdir(self.folder)))

    @staticmethod
    def key(paths: Iterable[str | os.PathLike]) -> str:
        """The name of the part that these recordings make."""
        digest = hashlib.sha256()
        for path in paths:
            content = file_hash(path) if os.path.isfile(path) else "missing"
            digest.update(json.dumps([os.fspath(path), content]).encode())
        return digest.hexdigest()

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"{key}.hdf5")

    def keep(self, key: str, part: Part) -> None:
        """Store a `Part`."""
        with atomic_hdf5(self._path(key)) as stream:
            for name in TEXTS:
                stream.file[name] = json.dumps(getattr(part, name))
            for number, made in enumerate(part.groups):
                group = stream.file.create_group(f"groups/{number}", track_order=True)
                for name, values in made.items():
                    group.create_dataset(name, data=values, dtype=string_kind(values))

    def read(self, key: str) -> Part | None:
        """The `Part` of that name, or None where it has not been made or has been damaged since: it is made again."""
        try:
            with open_hdf5(self._path(key), "a part of this run") as content:
                numbers = range(len(content.names("groups")) if "groups" in content else 0)
                groups = [
                    {name: content.array(f"groups/{k}/{name}") for name in content.names(f"groups/{k}")}
                    for k in numbers
                ]
                return Part(**{name: json.loads(content.text(name)) for name in TEXTS}, groups=groups)
        except (CaffeFileError, ValueError):
            return None

    def again(self, key: str) -> Part:
        """The `Part` of that name, which this run has found or kept before. Raises LRPError where it is gone."""
        part = self.read(key)
        if part is None:
            got = "one that is gone or cannot be read any more, and will be made again"
            raise LRPError(self._path(key), "a part of this run", got)
        return part

    def remove(self) -> None:
        """Forget all parts: everything is done. What is not this run's own stays."""
        for name in filter(_PART.fullmatch, os.listdir(self.folder)):
            os.unlink(os.path.join(self.folder, name))
        self.close()

    def close(self) -> None:
        """Let go of the folder, so that the same command can go on. Without parts it is removed."""
        if self._lock and not self.started:
            remove_leftovers(self.folder)
            for name in (SETTINGS, LOCK):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, name))
            with contextlib.suppress(OSError):  # somebody else's files are in it
                os.rmdir(self.folder)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None
