"""Explanations as HDF5 files."""

import hashlib
import json

import numpy as np

from caffe_proto import write_atomically


def file_hash(path):
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def save(path, explanation, data, label=None, weights=None, sources=()):
    """Write an `Explanation` and its inputs `data` (N, C, H, W) to an HDF5 file, whole or not at all.

    Datasets: relevance, input (N, C, H, W) float32; scores (N, classes); score, prediction, target (N,); label (N, L)
    if given; source (N,) file names if given. Attributes: composite, rules (JSON, layer name to rule), and, if
    `weights` names a file, weights and weights_sha256.
    """
    import h5py

    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file["relevance"] = explanation.relevance.astype(np.float32)
        file["input"] = np.asarray(data, np.float32)
        file["scores"] = explanation.scores
        for name in ("score", "prediction", "target"):
            file[name] = getattr(explanation, name)
        if label is not None:
            file["label"] = label
        if len(sources):
            file.create_dataset("source", data=list(map(str, sources)), dtype=h5py.string_dtype())
        file.attrs["composite"] = explanation.composite
        file.attrs["rules"] = json.dumps(explanation.rules)
        if weights is not None:
            file.attrs["weights"] = str(weights)
            file.attrs["weights_sha256"] = file_hash(weights)
