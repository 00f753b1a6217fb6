"""Explanations as HDF5 files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from audiomnist.signal.geometry import Geometry
from caffe_proto import atomic_hdf5
from caffe_proto.atomic import HDF5Stream
from lrp.errors import LRPError
from lrp.explanation import Explanation


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def columns(
    explanation: Explanation,
    data: ArrayLike,
    label: ArrayLike | None = None,
    sources: Iterable[str | os.PathLike] | None = None,
) -> dict[str, np.ndarray]:
    """{dataset: array} of an `Explanation` of the inputs `data` (N, C, H, W), their labels (N, L) and file names.

    relevance (N, C, H, W), scores (N, classes), score, prediction, target (N,); input (N, C, H, W) float32; label
    (N, L) float32 and source (N,) where given; absorbed_bias and absorbed_stabiliser (N, layers) where it has them.
    """
    made = {
        "relevance": explanation.relevance,
        "input": np.asarray(data, np.float32),
        "scores": explanation.scores,
        "score": explanation.score,
        "prediction": explanation.prediction,
        "target": explanation.target,
    }
    if label is not None:
        made["label"] = np.asarray(label, np.float32)
    if sources is not None:
        made["source"] = np.array(list(map(str, sources)), dtype=object)
    for kind in ("bias", "stabiliser") if explanation.absorbed else ():
        made[f"absorbed_{kind}"] = np.stack([kinds[kind] for kinds in explanation.absorbed.values()], axis=1)
    return made


def attributes(explanation: Explanation, geometry: Geometry | None = None) -> dict[str, str | int]:
    """{attribute: value} that goes with `columns`: composite; rules, {layer name: rule} as JSON; where there are
    columns of absorbed relevance, absorbed_layers, their layers as JSON; and the inputs' geometry, where it is known,
    under the names that their files have it (`audiomnist.signal.geometry`)."""
    made = {"composite": explanation.composite, "rules": json.dumps(explanation.rules)}
    if explanation.absorbed:
        made["absorbed_layers"] = json.dumps(list(explanation.absorbed))
    return made | (geometry.attributes() if geometry else {})


def check_same_attributes(source: str, made: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """LRPError unless a recording's `attributes` are those of the recordings before; source: its file."""
    for name in [*known, *made]:
        if made.get(name) != known.get(name):
            ours, theirs = (f"{name} {one[name]}" if name in one else f"no {name}" for one in (made, known))
            raise LRPError(source, f"{theirs}, as the recordings before have it", ours)


def check_alike(made: Mapping[str, np.ndarray], known: Collection[str]) -> None:
    """LRPError unless the columns `made` have the names `known` of the recordings before."""
    where = made["source"][0] if "source" in made else "recording"
    for name in made:
        if name not in known:
            raise LRPError(where, f"no {name}, as the recordings before have none", "one")
    for name in known:
        if name not in made:
            raise LRPError(where, f"a {name}, as the recordings before have one", "none")


def string_kind(values: np.ndarray) -> np.dtype:
    """The HDF5 type for an array: text for objects, else its own."""
    import h5py

    return h5py.string_dtype() if values.dtype == object else values.dtype


class Writer:
    """Appends `columns` to an HDF5 file that is being written; its datasets grow along their first axis."""

    def __init__(self, stream: HDF5Stream) -> None:
        self.stream = stream
        self.file = stream.file

    def append(self, made: Mapping[str, np.ndarray]) -> None:
        """Add the columns of further recordings; LRPError if they have others than the recordings before, WriteError if
        the disk did not take those before."""
        self.stream.check()
        if "relevance" not in self.file:
            for name, values in made.items():
                one = values.shape[1:]
                self.file.create_dataset(
                    name,
                    data=values,
                    dtype=string_kind(values),
                    maxshape=(None, *one),
                    chunks=(1, *one) if values.ndim == 4 else True,
                )
            return
        check_alike(made, self.file)
        for name, values in made.items():
            if values.shape[1:] != self.file[name].shape[1:]:
                expected = f"{name} of shape {('N', *self.file[name].shape[1:])}, as of the recordings before"
                raise LRPError(made["source"][0] if "source" in made else "recording", expected, values.shape)
        before = len(self.file["relevance"])
        for name, values in made.items():
            self.file[name].resize(before + len(values), axis=0)
            self.file[name][before:] = values


@contextlib.contextmanager
def writing(path: str | os.PathLike, about: Mapping[str, Any]) -> Iterator[Writer]:
    """Context manager: a `Writer` for the HDF5 file `path`, which appears when all was written, or not at all.

    about: {name: value}, the file's attributes; of the command line they are `attributes`, weights (its path),
    weights_sha256, version and commit of this project and, for a list, list.
    """
    with atomic_hdf5(path) as stream:
        stream.file.attrs.update(about)
        yield Writer(stream)
