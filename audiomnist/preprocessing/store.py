"""One recording as HDF5 files, one for each network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from audiomnist.corpus.layout import Defect, Recording
from audiomnist.signal.inputs import NETWORKS, network_inputs
from audiomnist.signal.wav import RecordingError, wav_file
from caffe_proto.atomic import write_file


def hdf5_bytes(network: str, data: np.ndarray, label: Iterable[float]) -> bytes:
    """The HDF5 file with float32 datasets `data` and `label` (1, columns): the bytes that Caffe's HDF5Data reads.

    data: float32, of the network's shape. The file's attributes are the input's geometry, which Caffe does not look at.
    Equal arguments give equal bytes. The file format is that of HDF5 1.8, which old builds of Caffe can read.
    """
    small_old = {"libver": ("v108", "v108"), "meta_block_size": 512}
    with h5py.File("recording", "w", driver="core", backing_store=False, **small_old) as file:
        file.create_dataset("data", data=np.asarray(data, "<f4"), track_times=False)
        file.create_dataset("label", data=np.asarray([list(label)], "<f4"), track_times=False)
        for name, value in NETWORKS[network].geometry.attributes().items():
            file.attrs.create(name, value, dtype="<i4")
        file.flush()
        return file.id.get_file_image()


@cache
def file_size(network: str, columns: int) -> int:
    """Bytes of a network's HDF5 file with this many labels."""
    return len(hdf5_bytes(network, np.zeros(NETWORKS[network].shape), [0] * columns))


@dataclass(frozen=True)
class Job:
    """One recording to preprocess: everything that a worker has to know."""

    recording: Recording
    labels: tuple[int, ...]
    fingerprint: str | None  # of what the existing files were made from

    def files(self, destination: Path) -> dict[str, Path]:
        folder = destination / self.recording.speaker
        stem = self.recording.stem
        return {network: folder / f"{network}_{stem}.hdf5" for network in NETWORKS}


@dataclass(frozen=True)
class Processed:
    """The result for one recording: the fingerprint of what its files were made from, or why there are none."""

    recording: Recording
    fingerprint: str | None
    defect: Defect | None = None


def fingerprint(wav: bytes, labels: Iterable[int]) -> str:
    """What a recording's files depend on besides the manifest's settings: the WAV file's bytes and the labels."""
    return hashlib.sha256(wav).hexdigest() + ":" + ",".join(map(str, labels))


def process(job: Job, destination: Path, seed: int) -> Processed:
    """Check one recording and write its files, unless complete files made from the same are there."""
    recording = job.recording
    try:
        wav = wav_file(recording.path)
        source = fingerprint(wav, job.labels)
        files = job.files(destination)
        if source == job.fingerprint and all(_is_whole(*item, len(job.labels)) for item in files.items()):
            return Processed(recording, source)
        inputs = network_inputs(wav, recording.name, seed)
    except OSError as error:
        return Processed(recording, None, _defect(recording, "a readable file", error.strerror or str(error)))
    except RecordingError as error:
        return Processed(recording, None, _defect(recording, error.expected, error.got))
    for network, path in files.items():
        # flushing a file takes longer than making it; Journal says what follows after a power failure
        write_file(path, hdf5_bytes(network, inputs[network], job.labels), flush=False)
    return Processed(recording, source)


def _is_whole(network: str, path: Path, columns: int) -> bool:
    """Whether the file has its full size (a power failure may leave an empty one)."""
    try:
        return path.stat().st_size == file_size(network, columns)
    except OSError:
        return False


def _defect(recording: Recording, expected: str, got: str) -> Defect:
    return Defect(recording.relative, expected, got, (recording.relative,))
