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
from audiomnist.signal.wav import RecordingError
from caffe_proto.atomic import write_file


@cache
def hdf5_template(network: str, columns: int) -> tuple[bytes, int, int]:
    """An HDF5 file with a network's `data` and `label` (1, columns), all zero, and the positions of the two in it.

    All files of a network are equal but for these bytes; filling a template is many times faster than the library's
    path and gives the same bytes every time. The 1.8 file format keeps old Caffe builds able to read it. The file's
    attributes are the input's geometry, which Caffe does not look at.
    """
    kind = NETWORKS[network]
    small_old = {"libver": ("v108", "v108"), "meta_block_size": 512}
    with h5py.File("template", "w", driver="core", backing_store=False, **small_old) as file:
        places = []
        for name, size in (("data", kind.shape), ("label", (1, columns))):
            dataset = file.create_dataset(name, data=np.zeros(size, "<f4"), track_times=False)
            places.append(dataset.id.get_offset())
        for name, value in kind.geometry.attributes().items():
            file.attrs.create(name, value, dtype="<i4")
        file.flush()
        return file.id.get_file_image(), *places


def hdf5_bytes(network: str, data: np.ndarray, label: Iterable[float]) -> bytes:
    """The HDF5 file with float32 datasets `data` and `label` (1, columns): the bytes that Caffe's HDF5Data reads.

    data: float32, of the network's shape.
    """
    label = np.asarray([list(label)], "<f4")
    template, data_place, label_place = hdf5_template(network, label.shape[1])
    data = np.ascontiguousarray(data, "<f4")
    pieces, end = [], 0
    for place, values in sorted(((data_place, data), (label_place, label)), key=lambda item: item[0]):
        pieces += [template[end:place], memoryview(values).cast("B")]
        end = place + values.nbytes
    return b"".join([*pieces, template[end:]])


@dataclass(frozen=True)
class Job:
    """One recording to do: everything a worker has to know, and what is known of its earlier self."""

    recording: Recording
    labels: tuple[int, ...]
    made_from: str | None  # the fingerprint that the existing files were made from

    def files(self, destination: Path) -> dict[str, Path]:
        folder = destination / self.recording.speaker
        stem = self.recording.stem
        return {network: folder / f"{network}_{stem}.hdf5" for network in NETWORKS}


@dataclass(frozen=True)
class Outcome:
    """What became of a recording: the fingerprint of what its files were made from, or why there are none."""

    recording: Recording
    made_from: str | None
    defect: Defect | None = None


def fingerprint(wav: bytes, labels: Iterable[int]) -> str:
    """What decides a recording's files besides the destination's manifest: the WAV file's bytes and the labels."""
    return hashlib.sha256(wav).hexdigest() + ":" + ",".join(map(str, labels))


def process(job: Job, destination: Path, seed: int) -> Outcome:
    """Check one recording and write its files, unless whole files of the same making are there already."""
    recording = job.recording
    try:
        wav = recording.path.read_bytes()
        made_from = fingerprint(wav, job.labels)
        files = job.files(destination)
        if made_from == job.made_from and all(_is_whole(*item, len(job.labels)) for item in files.items()):
            return Outcome(recording, made_from)
        inputs = network_inputs(wav, recording.name, seed)
    except OSError as error:
        return Outcome(recording, None, _defect(recording, error.strerror or str(error), "a readable file"))
    except RecordingError as error:
        return Outcome(recording, None, _defect(recording, error.found, error.wanted))
    for network, path in files.items():
        # flushing each would cost more time than making it; see Journal for what a power failure may do
        write_file(path, hdf5_bytes(network, inputs[network], job.labels), flush=False)
    return Outcome(recording, made_from)


def _is_whole(network: str, path: Path, columns: int) -> bool:
    """Whether the file has its full size (after a power failure it may be there and empty)."""
    try:
        return path.stat().st_size == len(hdf5_template(network, columns)[0])
    except OSError:
        return False


def _defect(recording: Recording, found: str, wanted: str) -> Defect:
    return Defect(recording.relative, found, wanted, (recording.relative,))
