"""Finished parts of a long run, kept beside its output until everything is done, so that a stopped run continues.

A run over a list makes parts of some recordings each. A part is kept in the folder `<output>.partial`, whole or not at
all, under a name that is made from its recordings' names and contents; settings.json beside it says what made the parts
(network, weights, composites with their rules, target, precision, code). The same command finds them again; a command
with other settings is refused.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field

import numpy as np

from caffe_proto import atomic_hdf5, write_file
from lrp.errors import LRPError
from lrp.results import file_hash, string_kind

SETTINGS = "settings.json"


def code_hash():
    """SHA-256 over this package's modules: parts that other code made are not mixed with this one's."""
    folder = os.path.dirname(__file__)
    digest = hashlib.sha256()
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".py")):
        digest.update(file_hash(os.path.join(folder, name)).encode())
    return digest.hexdigest()


@dataclass
class Part:
    """What some recordings of a list gave.

    lines: printed lines. files: pictures and sounds that it wrote. entries: the report's (JSON values). groups:
    `lrp.results.columns`, one dict for each group of recordings that are alike. about: `lrp.results.attributes`.
    """

    lines: list = field(default_factory=list)
    files: list = field(default_factory=list)
    entries: list = field(default_factory=list)
    groups: list = field(default_factory=list)
    about: dict = field(default_factory=dict)


TEXTS = ("lines", "files", "entries", "about")  # of a Part, stored as JSON


class Progress:
    """The kept parts of one run.

    output: path that the run makes; settings: {name: JSON value}, whatever decides what the parts hold. The folder is
    made with the first part. Raises LRPError where it holds the parts of a run with other settings.
    """

    def __init__(self, output, settings):
        self.folder = os.fspath(output).rstrip(os.sep) + ".partial"
        self.settings = json.loads(json.dumps(settings))
        path = os.path.join(self.folder, SETTINGS)
        if not os.path.exists(path):
            return
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        except ValueError:
            found = {}
        different = sorted(name for name in {*found, *self.settings} if found.get(name) != self.settings.get(name))
        if different:
            raise LRPError(f"{self.folder}: an unfinished run with other settings found ({', '.join(different)}); that "
                           "command again, or the folder removed wanted")

    @property
    def started(self):
        """Whether something is kept."""
        return os.path.isdir(self.folder)

    @staticmethod
    def key(paths):
        """The name of the part that these recordings make."""
        digest = hashlib.sha256()
        for path in paths:
            content = file_hash(path) if os.path.isfile(path) else "missing"
            digest.update(json.dumps([os.fspath(path), content]).encode())
        return digest.hexdigest()

    def _path(self, key):
        return os.path.join(self.folder, f"{key}.hdf5")

    def keep(self, key, part):
        """Store a `Part`."""
        os.makedirs(self.folder, exist_ok=True)
        settings = os.path.join(self.folder, SETTINGS)
        if not os.path.exists(settings):
            write_file(settings, json.dumps(self.settings, indent=1))
        with atomic_hdf5(self._path(key)) as stream:
            for name in TEXTS:
                stream.file[name] = json.dumps(getattr(part, name))
            for number, made in enumerate(part.groups):
                for name, values in made.items():
                    stream.file.create_dataset(f"groups/{number}/{name}", data=values, dtype=string_kind(values))

    def read(self, key):
        """The `Part` of that name, or None where it has not been made or has been damaged since: it is made again."""
        import h5py

        try:
            with h5py.File(self._path(key), "r") as file:
                groups = file.get("groups", {})
                return Part(**{name: json.loads(file[name].asstr()[()]) for name in TEXTS},
                            groups=[{name: _values(stored) for name, stored in groups[str(number)].items()}
                                    for number in range(len(groups))])
        except (OSError, KeyError, ValueError):
            return None

    def remove(self):
        """Forget all parts: everything is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _values(stored):
    """A dataset as an array; text as objects."""
    return np.asarray(stored.asstr()[()], object) if stored.dtype.kind == "O" else stored[()]
