"""Explanations as HDF5 files."""

import contextlib
import hashlib
import json

import numpy as np

from caffe_proto import write_atomically
from lrp.errors import LRPError


def file_hash(path):
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


class Writer:
    """Appends explanations to an open HDF5 file, whose datasets grow along their first axis.

    Datasets: relevance, input (N, C, H, W) float32; scores (N, classes); score, prediction, target (N,); label (N, L)
    if every recording has one; source (N,) file names. Attributes of the file: composite; rules (JSON, layer name to
    rule); and, if known, weights and weights_sha256, list.
    """

    def __init__(self, file):
        self.file = file

    def append(self, explanation, data, label=None, sources=None):
        """Add an `Explanation` of the inputs `data` (N, C, H, W), their labels (N, L) and file names."""
        import h5py

        columns = {"relevance": explanation.relevance.astype(np.float32), "input": np.asarray(data, np.float32),
                   "scores": explanation.scores, "score": explanation.score, "prediction": explanation.prediction,
                   "target": explanation.target}
        if label is not None:
            columns["label"] = np.asarray(label, np.float32)
        if sources is not None:
            columns["source"] = np.array(list(map(str, sources)), dtype=object)
        first = "relevance" not in self.file
        before = 0 if first else len(self.file["relevance"])
        for name, values in columns.items():
            if first:
                kind = h5py.string_dtype() if values.dtype == object else values.dtype
                self.file.create_dataset(name, data=values, dtype=kind, maxshape=(None, *values.shape[1:]),
                                         chunks=(1, *values.shape[1:]) if values.ndim == 4 else True)
            else:
                if name not in self.file:
                    raise LRPError(f"{columns['source'][0] if 'source' in columns else 'recording'}: a {name} found; "
                                   f"none wanted, as the recordings before have none")
                self.file[name].resize(before + len(values), axis=0)
                self.file[name][before:] = values
        missing = [name for name in self.file if name not in columns]
        if missing:
            raise LRPError(f"{sources[0] if sources else 'recording'}: no {missing[0]} found; one wanted, as the "
                           "recordings before have one")
        if first:
            self.file.attrs["composite"] = explanation.composite
            self.file.attrs["rules"] = json.dumps(explanation.rules)


@contextlib.contextmanager
def writing(path, weights=None, source_list=None):
    """Context manager: a `Writer` for the HDF5 file `path`, which appears when all was written, or not at all."""
    import h5py

    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        if weights is not None:
            file.attrs["weights"] = str(weights)
            file.attrs["weights_sha256"] = file_hash(weights)
        if source_list is not None:
            file.attrs["list"] = str(source_list)
        yield Writer(file)
