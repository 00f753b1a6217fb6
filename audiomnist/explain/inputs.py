"""Recordings for a network: preprocessed HDF5 files and WAV files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from audiomnist.signal.geometry import Geometry, read_geometry
from audiomnist.signal.inputs import NETWORKS, network_inputs, padded_signal
from audiomnist.signal.wav import RecordingError
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_text
from lrp.errors import LRPError, NotFiniteError

WAV, HDF5 = (".wav",), (".hdf5", ".h5")


@dataclass(frozen=True)
class Recording:
    """Recordings: data (N, C, H, W) float32, label (N, L) float32 or None, sources: the file that each came from,
    geometry: where the values lie in time and frequency, or None where that is not known (any other input), seed: of a
    WAV file's position in its second. An array of numpy's (`numpy.asarray`) is its data."""

    data: np.ndarray
    label: np.ndarray | None
    sources: tuple[str, ...]
    geometry: Geometry | None
    seed: int = 0

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype, copy=copy)

    @property
    def path(self) -> str:
        """The first source."""
        return self.sources[0]

    def item(self, index: int) -> Recording:
        """One of the recordings."""
        one = slice(index, index + 1)
        label = None if self.label is None else self.label[one]
        return Recording(self.data[one], label, self.sources[one], self.geometry, self.seed)


@dataclass(frozen=True)
class WavRecording:
    """A WAV file as every network takes it. path: the file; forms: {network: Recording of one item}."""

    path: str
    forms: dict[str, Recording]

    def for_input(self, shape: Sequence[int] | None) -> Recording:
        """The form whose data have `shape` (C, H, W); None: of a network that declares none. Raises LRPError."""
        if shape is None:
            got = "a network that declares no input shape"
            raise LRPError(self.path, "a deploy prototxt with an Input layer, as it is a WAV file", got)
        fitting = [one for one in self.forms.values() if one.data.shape[1:] == tuple(shape)]
        if not fitting:
            known = ", ".join(f"{name} {one.data.shape[1:]}" for name, one in self.forms.items())
            raise LRPError(self.path, f"a network for WAV files ({known})", f"one with input {tuple(shape)}")
        return fitting[0]


def read_hdf5(path: str | os.PathLike) -> Recording:
    """A preprocessed file: dataset `data` (N, C, H, W), `label` (N, L) if there is one, and the geometry that its
    attributes give. Raises LRPError."""
    with LRPError.of_files(), open_hdf5(path, "a preprocessed recording") as content:
        data = content.floats("data")
        label = content.numbers("label") if "label" in content else None
        attributes = content.attributes
    if data.ndim == 0 or not len(data) or label is not None and label.shape[:1] != data.shape[:1]:
        shapes = f"{data.shape} and label of shape {None if label is None else label.shape}"
        raise LRPError(
            path, "a row of data and of label for each of its recordings, one at least", f"data of shape {shapes}"
        )
    try:
        geometry = read_geometry(attributes, data.shape[1:])
    except RecordingError as error:
        raise LRPError(path, error.expected, error.got) from None
    return Recording(data, label, (os.fspath(path),) * len(data), geometry)


def read_wav(path: str | os.PathLike, seed: int = 0) -> WavRecording:
    """A WAV file, preprocessed as for every network.

    seed: of the random position of the recording in its second (a function of seed and file name). Raises LRPError.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise LRPError(path, "a WAV file", "no such file")
    try:
        made = network_inputs(path, os.path.basename(path), seed)
    except (RecordingError, OSError) as error:
        raise LRPError(f"{path}: {error}") from None
    return WavRecording(
        path,
        {
            name: Recording(array.astype(np.float32), None, (path,), NETWORKS[name].geometry, seed)
            for name, array in made.items()
        },
    )


def read(path: str | os.PathLike, seed: int = 0) -> Recording | WavRecording:
    """The recording at `path`, told by its extension; seed: see `read_wav`. Raises LRPError."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # pictures and HDF5 cannot hold it
        raise LRPError(ascii(os.fspath(path)), "a name in UTF-8", "bytes that are none") from None
    extension = os.path.splitext(path)[1].lower()
    if extension in WAV:
        return read_wav(path, seed)
    if extension in HDF5:
        return read_hdf5(path)
    raise LRPError(path, f"one of the extensions {', '.join(HDF5 + WAV)}", extension or "none")


def read_recording(path: str | os.PathLike, shape: Sequence[int] | None = None, seed: int = 0) -> Recording:
    """The recording at `path` for a network whose input has `shape` (C, H, W). Raises LRPError."""
    recording = read(path, seed)
    if isinstance(recording, WavRecording):
        recording = recording.for_input(shape)
    if shape is not None and recording.data.shape[1:] != tuple(shape):
        expected = f"data of shape (N, {', '.join(map(str, shape))}), as the network's input"
        raise LRPError(path, expected, recording.data.shape)
    if not np.isfinite(recording.data).all():
        wrong = int((~np.isfinite(recording.data)).sum())
        raise LRPError(path, "finite numbers", f"{wrong} that are NaN or infinite")
    return recording


def sound(recording: Recording, seed: int = 0) -> np.ndarray | None:
    """The recording (of one item) as a waveform (T,) at its geometry's rate, of any scale, or None where it cannot be
    found.

    Waveform inputs are it; for a spectrogram it comes from the WAV file, or from the file of the waveform network that
    the preprocessing wrote beside it. Raises LRPError where that has another rate.
    """
    source, geometry = recording.path, recording.geometry
    if geometry is None:
        return None
    if not geometry.is_spectrogram:
        return recording.data.ravel().astype(np.float64)
    if os.path.splitext(source)[1].lower() in WAV:
        return padded_signal(source, os.path.basename(source), seed)
    folder, name = os.path.split(source)
    beside = os.path.join(folder, "AudioNet_" + name.removeprefix("AlexNet_"))
    if name.startswith("AlexNet_") and os.path.isfile(beside):
        waveform = read_hdf5(beside)
        rate = waveform.geometry.sample_rate if waveform.geometry else None
        if rate != geometry.sample_rate:
            raise LRPError(beside, f"sample_rate {geometry.sample_rate}, as {source} has it", rate)
        return waveform.data[0].ravel().astype(np.float64)
    return None


def read_list(path: str | os.PathLike) -> list[str]:
    """The files that a list names, one a line; relative ones are relative to the list's folder. Raises LRPError."""
    with LRPError.of_files():
        lines = read_text(path, "a text file with one recording a line").splitlines()
    files = [os.path.join(os.path.dirname(path), line.strip()) for line in lines if line.strip()]
    if not files:
        raise LRPError(path, "one recording a line", "no lines")
    return files


@contextlib.contextmanager
def named(sources: Sequence[str]) -> Iterator[None]:
    """Context in which a NotFiniteError about an item of a batch becomes an LRPError that names its file.

    sources: the items' files, in order.
    """
    try:
        yield
    except NotFiniteError as error:
        raise LRPError(f"{sources[error.item]}: {error.what}", error.expected, error.got) from None


def joined(recordings: Iterable[Recording]) -> Iterator[Recording]:
    """Neighbouring recordings that are alike (shape of data and labels, geometry) put together, in order."""
    groups = []
    for recording in recordings:
        labelled = None if recording.label is None else recording.label.shape[1:]
        kind = recording.data.shape[1:], labelled, recording.geometry
        if not groups or groups[-1][0] != kind:
            groups.append((kind, []))
        groups[-1][1].append(recording)
    for (_, labelled, geometry), members in groups:
        label = None if labelled is None else np.concatenate([one.label for one in members])
        sources = tuple(source for one in members for source in one.sources)
        yield Recording(np.concatenate([one.data for one in members]), label, sources, geometry)
