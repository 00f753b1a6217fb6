"""Recordings for a network: preprocessed HDF5 files and WAV files."""

import os
from dataclasses import dataclass

import numpy as np

from lrp.errors import LRPError

WAV, HDF5 = (".wav",), (".hdf5", ".h5")


@dataclass(frozen=True)
class Recording:
    """What a file holds: data (N, C, H, W) float32, label (N, L) float32 or None, and the file's path."""

    data: np.ndarray
    label: np.ndarray | None
    path: str


def read_hdf5(path):
    """A preprocessed file: dataset `data` (N, C, H, W), `label` (N, L) if there is one. Raises LRPError."""
    import h5py

    if not os.path.isfile(path):
        raise LRPError(f"{path}: no such file; an HDF5 file with a dataset data wanted")
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise LRPError(f"{path}: datasets {', '.join(file) or 'none'} found; data wanted")
            data = np.asarray(file["data"][()])
            label = np.asarray(file["label"][()]) if "label" in file else None
    except OSError as error:
        raise LRPError(f"{path}: not a readable HDF5 file ({error}); a preprocessed recording wanted") from None
    if data.dtype.kind not in "fiu":
        raise LRPError(f"{path}: data of type {data.dtype} found; numbers wanted")
    return Recording(data.astype(np.float32), label, os.fspath(path))


def read_wav(path, shape, seed=0):
    """A WAV file, preprocessed as for the network whose input has `shape` (C, H, W).

    seed: of the random position of the recording in its second (a function of seed and file name). Raises LRPError.
    """
    try:
        import preprocessing_data
    except ImportError as error:
        raise LRPError(f"{path}: a WAV file found, and preprocessing_data cannot be imported ({error}); "
                       "a preprocessed HDF5 file, or this project's root on the Python path wanted") from None
    if not os.path.isfile(path):
        raise LRPError(f"{path}: no such file; a WAV file wanted")
    try:
        made = preprocessing_data.network_inputs(os.fspath(path), os.path.basename(path), seed)
    except (preprocessing_data.RecordingError, OSError) as error:
        raise LRPError(f"{path}: {error}") from None
    fitting = [array for array in made.values() if array.shape[1:] == tuple(shape)]
    if not fitting:
        known = ", ".join(f"{name} {array.shape[1:]}" for name, array in made.items())
        raise LRPError(f"{path}: a network with input {tuple(shape)} found; for WAV files one of {known} wanted")
    return Recording(fitting[0].astype(np.float32), None, os.fspath(path))


def read_recording(path, shape=None, seed=0):
    """The recording at `path`, told by its extension; `shape` (C, H, W) of the network's input. Raises LRPError."""
    extension = os.path.splitext(path)[1].lower()
    if extension in WAV:
        if shape is None:
            raise LRPError(f"{path}: a WAV file found for a network that declares no input shape; a deploy prototxt "
                           "with an Input layer wanted")
        recording = read_wav(path, shape, seed)
    elif extension in HDF5:
        recording = read_hdf5(path)
    else:
        raise LRPError(f"{path}: extension {extension or 'none'} found; one of {', '.join(HDF5 + WAV)} wanted")
    if shape is not None and recording.data.shape[1:] != tuple(shape):
        raise LRPError(f"{path}: data of shape {recording.data.shape} found; (N, {', '.join(map(str, shape))}) wanted "
                       "by the network")
    if not np.isfinite(recording.data).all():
        raise LRPError(f"{path}: {int((~np.isfinite(recording.data)).sum())} values that are NaN or infinite found; "
                       "finite numbers wanted")
    return recording
