#!/usr/bin/env python3
"""Turn recordings of spoken digits into the inputs of the two networks, one HDF5 file a recording and network.

    python preprocessing_data.py --source data --destination preprocessed_data --meta data/audioMNIST_meta.txt

The preprocessing is that of Becker et al., "AudioMNIST": resample to 8 kHz, embed at a random position in one second of
zeros, then a spectrogram in decibels (AlexNet) and the scaled waveform (AudioNet). The functions below stand in the
order of the data, and each is usable alone.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import h5py
import numpy as np
import scipy.fft
from tqdm import tqdm

from caffe_proto.atomic import WriteError, make_folder, remove_leftovers, write_error, write_file
from data.corpus import (
    META_NAME,
    PARTS,
    SPLITS_NAME,
    CorpusError,
    Defect,
    Recording,
    Splits,
    check_metadata,
    check_splits,
    find_splits,
    load_splits,
    members,
    read_metadata,
    scan,
)
from data.corrections import CORRECTIONS, NONE, Corrections, correct_metadata, load_corrections, spoken_digits
from data.resampling import fourier_resample
from data.wav import RecordingError, read_wav
from data.workers import available_cores, spread

SAMPLE_RATE = 8000  # Hz, what both networks hear
SAMPLES = 8000  # one second
WINDOW = 455  # samples, 56.9 ms, Hann
HOP = WINDOW - 420  # samples, 4.4 ms
FIRST_FRAME, FRAMES = 2, 227  # of the 230 frames that centred windows give, these stay
BINS = 227  # of 228, from 0 Hz in steps of 8000 / 455 Hz
AMIN = 1e-5  # amplitude below which decibels are not told apart
TOP_DB = 80.0  # dB, the range below the loudest point of a spectrogram
DECIBELS = np.float32(10 / np.log(10))  # dB of a power's natural logarithm, which numpy takes four times as quickly
PERCENTILE = 95  # of the signed samples
RANK = PERCENTILE / 100 * (SAMPLES - 1)  # between these two of the sorted samples, linearly
PERCENTILE_OFFSET = 0.001  # on the scale of 16-bit samples
MAX_SCALED_PEAK = 1e4  # a waveform beyond it makes the loss NaN; see `scaled_waveform`

DEFAULT_SEED = 0
FORMAT = 3  # raised whenever the same recording would give other files
MANIFEST, JOURNAL, LOCK, REJECTED = "preprocessing.json", "preprocessing.journal", ".preprocessing.lock", "rejected.csv"
LIBRARIES = ("h5py", "scipy.fft", "tqdm", "data.corpus", "data.wav")  # that every worker needs
ROOT = Path(__file__).resolve().parent


# ---------------------------------------------------------------------------------------------------------------------
# from samples to the networks' inputs


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (N,) at `rate` Hz -> (ceil(N * 8000 / rate),) at 8 kHz, float64."""
    if rate == SAMPLE_RATE:
        return np.asarray(samples, np.float64)
    return fourier_resample(samples, -(-len(samples) * SAMPLE_RATE // rate))


def padding_offset(name: str, length: int, seed: int = DEFAULT_SEED) -> int:
    """Where a signal of `length` samples begins in its second: uniform in [0, 8000 - length), 0 when it fills it.

    A function of the seed and the file's name alone (SHA-256 of both), so that neither order nor workers matter.
    """
    if length >= SAMPLES:
        return 0
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest, "big") % (SAMPLES - length)


def embed(signal: np.ndarray, offset: int) -> np.ndarray:
    """A signal (n,) at 8 kHz, n <= 8000 -> (8000,) float64, zeros around it."""
    padded = np.zeros(SAMPLES)
    padded[offset : offset + len(signal)] = signal
    return padded


@cache
def _window() -> np.ndarray:
    """The periodic Hann window (455,) float32, divided by its sum: a sinusoid's peak is half its amplitude."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return (hann / hann.sum()).astype(np.float32)


def spectrogram_db(padded: np.ndarray) -> np.ndarray:
    """The padded signal (8000,) -> its spectrogram (227 frequencies, 227 frames) in dB, -80 to 0, float32.

    Magnitude of the short-time Fourier transform (Hann window of 455 samples, hop 35, centred frames, scaled by the
    window's sum) without the last frequency, the first two frames and the last; then 20 log10 relative to its maximum.
    """
    first, frames = _sounding(padded)
    begin = first * HOP - WINDOW // 2
    end = begin + (frames - 1) * HOP + WINDOW
    extended = np.zeros(end - begin, np.float32)
    extended[max(-begin, 0) : SAMPLES - begin] = padded[max(begin, 0) : end]
    step = extended.itemsize
    windows = np.lib.stride_tricks.as_strided(extended, (frames, WINDOW), (HOP * step, step), writeable=False)
    windowed = windows * _window()
    spectrum = scipy.fft.rfft(windowed, overwrite_x=True)[:, :BINS]
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    reference = max(power.max(), np.float32(AMIN**2))
    power /= reference
    quietest = np.float32(max(AMIN**2 / float(reference), 10 ** (-TOP_DB / 10)))
    np.maximum(power, quietest, out=power)
    np.log(power, out=power)
    power *= DECIBELS
    decibels = np.full((BINS, FRAMES), max(DECIBELS * np.log(quietest), -TOP_DB), np.float32)  # as silence has
    sounding = decibels[:, first - FIRST_FRAME : first - FIRST_FRAME + frames]
    np.maximum(power.T, np.float32(-TOP_DB), out=sounding)  # single precision makes -80.00001 of the quietest
    return decibels


def _sounding(padded: np.ndarray) -> tuple[int, int]:
    """The first frame that is kept and holds anything but zeros, and how many frames there are from it to the last."""
    sound = padded != 0
    begin, end = int(sound.argmax()), SAMPLES - int(sound[::-1].argmax())  # all of it where nothing sounds
    first = max(FIRST_FRAME, -(-(begin + WINDOW // 2 + 1 - WINDOW) // HOP))
    last = min(FIRST_FRAME + FRAMES - 1, (end - 1 + WINDOW // 2) // HOP)
    return first, last - first + 1


def scaled_waveform(padded: np.ndarray) -> np.ndarray:
    """The padded signal (8000,) -> divided by (its signed 95th percentile + 0.001), float32 (8000,).

    Samples are on the 16-bit scale, to which 0.001 is relative. Where so few samples are positive that the percentile
    is (next to) zero, dividing by it makes values near 1e7, and one such recording turns the training into NaN: that
    is a RecordingError, here and only here.
    """
    below = int(RANK)
    low, high = np.partition(padded, (below, below + 1))[below : below + 2]
    percentile = float(low + (RANK - below) * (high - low))
    wanted = f"a value well above zero (over {100 - PERCENTILE} % positive samples in the padded second)"
    if percentile <= 0:
        raise RecordingError(f"a {PERCENTILE}th percentile of {percentile:.4g}", wanted)
    scaled = (padded / (percentile + PERCENTILE_OFFSET)).astype(np.float32)
    peak = float(max(scaled.max(), -scaled.min()))
    if peak > MAX_SCALED_PEAK:
        raise RecordingError(f"a {PERCENTILE}th percentile of {percentile:.4g}, a scaled peak of {peak:.4g}", wanted)
    return scaled


@dataclass(frozen=True)
class NetworkInput:
    """What a network gets: an array of this shape, float32, made from the padded signal (8000,)."""

    shape: tuple[int, int, int, int]
    make: Callable[[np.ndarray], np.ndarray]


NETWORKS = {
    "AlexNet": NetworkInput((1, 1, BINS, FRAMES), spectrogram_db),
    "AudioNet": NetworkInput((1, 1, 1, SAMPLES), scaled_waveform),
}


# ---------------------------------------------------------------------------------------------------------------------
# one recording: the gate


def padded_signal(wav: Path | bytes, name: str, seed: int = DEFAULT_SEED) -> np.ndarray:
    """A WAV file (path or bytes) -> its embedded signal (8000,) at 8 kHz on the 16-bit scale, float64.

    Raises RecordingError when the recording is unreadable, silent, longer than one second or sampled below 8 kHz.
    """
    samples, rate = read_wav(wav, max_seconds=SAMPLES / SAMPLE_RATE)
    if rate < SAMPLE_RATE:
        raise RecordingError(f"a sample rate of {rate} Hz", f"{SAMPLE_RATE} Hz or more")
    if samples.min() == samples.max():
        raise RecordingError(f"silence ({len(samples)} samples, all {samples[0]:g})", "a spoken digit")
    signal = resample(samples, rate)
    return embed(signal, padding_offset(name, len(signal), seed))


def network_inputs(wav: Path | bytes, name: str, seed: int = DEFAULT_SEED) -> dict[str, np.ndarray]:
    """The inputs of every network, {name: (1, C, H, W) float32}, for a WAV file (path or bytes) named `name`.

    Raises RecordingError when the recording is not fit for them: this is the gate that every recording passes.
    """
    padded = padded_signal(wav, name, seed)
    return {network: kind.make(padded).reshape(kind.shape) for network, kind in NETWORKS.items()}


# ---------------------------------------------------------------------------------------------------------------------
# the HDF5 file


@cache
def _hdf5_template(shape: tuple[int, ...], columns: int) -> tuple[bytes, int, int]:
    """An HDF5 file with `data` of this shape and `label` (1, columns), all zero, and the positions of the two in it.

    All files of a network are equal but for these bytes; filling a template is many times faster than the library's
    path and gives the same bytes every time. The 1.8 file format keeps old Caffe builds able to read it.
    """
    small_old = {"libver": ("v108", "v108"), "meta_block_size": 256}
    with h5py.File("template", "w", driver="core", backing_store=False, **small_old) as file:
        places = []
        for name, size in (("data", shape), ("label", (1, columns))):
            dataset = file.create_dataset(name, data=np.zeros(size, "<f4"), track_times=False)
            places.append(dataset.id.get_offset())
        file.flush()
        return file.id.get_file_image(), *places


def hdf5_bytes(data: np.ndarray, label: Iterable[float]) -> bytes:
    """The HDF5 file with float32 datasets `data` and `label` (1, columns): the bytes that Caffe's HDF5Data reads."""
    label = np.asarray([list(label)], "<f4")
    template, data_place, label_place = _hdf5_template(data.shape, label.shape[1])
    data = np.ascontiguousarray(data, "<f4")
    pieces, end = [], 0
    for place, values in sorted(((data_place, data), (label_place, label)), key=lambda item: item[0]):
        pieces += [template[end:place], memoryview(values).cast("B")]
        end = place + values.nbytes
    return b"".join([*pieces, template[end:]])


# ---------------------------------------------------------------------------------------------------------------------
# the work of one process


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
        write_file(path, hdf5_bytes(inputs[network], job.labels), flush=False)
    return Outcome(recording, made_from)


def _is_whole(network: str, path: Path, columns: int) -> bool:
    """Whether the file has its full size (after a power failure it may be there and empty)."""
    try:
        return path.stat().st_size == len(_hdf5_template(NETWORKS[network].shape, columns)[0])
    except OSError:
        return False


def _defect(recording: Recording, found: str, wanted: str) -> Defect:
    return Defect(recording.relative, found, wanted, (recording.relative,))


# ---------------------------------------------------------------------------------------------------------------------
# the destination: one run at a time, and it remembers what made it


def check_owner(destination: Path) -> None:
    """Refuse a folder that holds somebody else's files. Raises CorpusError, WriteError."""
    try:
        names = set(os.listdir(destination)) - {LOCK}
    except OSError as error:
        raise write_error(destination, error) from None
    if names and MANIFEST not in names:
        found = f"holds {min(names)} and no {MANIFEST}"
        raise CorpusError(f"{destination}: {found}; wanted an empty folder or one made here")


@contextmanager
def locked(destination: Path) -> Iterator[None]:
    """Hold the destination for this process; a killed process lets go by itself."""
    with open(destination / LOCK, "a") as file:  # a link's target is not emptied
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CorpusError(f"{destination}: another preprocessing is writing here; wanted one at a time") from None
        yield


def check_manifest(destination: Path, source: Path, seed: int) -> None:
    """Refuse to mix two makings in one folder; a new folder gets the manifest of this one."""
    mine = {"format": FORMAT, "seed": seed, "source": str(source.resolve())}
    path = destination / MANIFEST
    if path.exists():
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key in mine if theirs.get(key) != mine[key]]
        except (ValueError, AttributeError):
            raise CorpusError(f"{path}: not a preprocessing's manifest; wanted the one that was written here") from None
        if differing:
            key = differing[0]
            raise CorpusError(
                f"{destination}: was made with {key} {theirs.get(key)}; wanted {key} {mine[key]} (choose another "
                f"destination, or remove this one)"
            )
    else:
        write_file(path, (json.dumps(mine, indent=1) + "\n").encode())


class Journal:
    """Which recordings are done, and from what: a line each, written after their files are.

    A killed process loses nothing that it wrote, a power failure may: lines that another boot of the machine wrote
    count only up to the last mark that says that everything was flushed to the disk.
    """

    FLUSHED = "flushed"

    def __init__(self, path: Path):
        self.path = path
        self.made_from: dict[str, str] = {}
        pending: dict[str, str] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                fields = line.split("\t")
                if line == self.FLUSHED:
                    self.made_from = pending | self.made_from
                    pending = {}
                elif len(fields) == 4 and fields[3] == "." and fields[2] == boot():  # the dot: not torn
                    self.made_from[fields[0]] = fields[1]
                elif len(fields) == 4 and fields[3] == ".":
                    pending[fields[0]] = fields[1]

    def __enter__(self) -> Journal:
        self.file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed on exit)
        self.file.write("\n")  # a torn line ends here
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def flush(self) -> None:
        """Wait until the disk has everything, and say so."""
        os.sync()
        self.file.write(self.FLUSHED + "\n")

    def record(self, recording: Recording, made_from: str) -> None:
        if self.made_from.get(recording.relative) != made_from:
            self.made_from[recording.relative] = made_from
            try:
                self.file.write(f"{recording.relative}\t{made_from}\t{boot()}\t.\n")
            except OSError as error:
                raise write_error(self.path, error) from None


@cache
def boot() -> str:
    """What tells this running of the machine from an earlier one; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def list_name(network: str, task: str, split: int, part: str) -> str:
    return f"{network}_{task}_{split}_{part}.txt"


def write_lists(
    destination: Path, splits: Splits, usable: list[tuple[Recording, tuple[int, ...]]], without: set
) -> int:
    """Write the split lists (paths relative to the destination) and splits.json, remove other lists; returns how many.

    `without` are the (task, split) pairs that get no lists.
    """
    write_file(destination / SPLITS_NAME, splits.to_json().encode())
    wanted = set()
    for task, folds in splits.folds.items():
        for k in range(len(folds)):
            for part in PARTS if (task, k) not in without else ():
                names = [r for r, _ in members(splits, task, k, part, usable)]
                for network in NETWORKS:
                    lines = "".join(f"{r.speaker}/{network}_{r.stem}.hdf5\n" for r in names)
                    write_file(destination / list_name(network, task, k, part), lines.encode())
                    wanted.add(list_name(network, task, k, part))
    remove_lists(destination, keep=wanted)
    return len(wanted)


def remove_lists(destination: Path, keep: Iterable[str] = ()) -> None:
    pattern = re.compile(rf"({'|'.join(NETWORKS)})_[A-Za-z0-9-]+_\d+_({'|'.join(PARTS)})\.txt")
    for path in destination.iterdir():
        if pattern.fullmatch(path.name) and path.name not in keep:
            path.unlink()


def write_rejected(path: Path, defects: list[Defect]) -> None:
    """A CSV of what was left out: a row for each recording, or for what is wrong with a split."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "found", "wanted"])
    for defect in defects:
        writer.writerows([name, defect.found, defect.wanted] for name in defect.recordings or (defect.where,))
    write_file(path, text.getvalue().encode())


# ---------------------------------------------------------------------------------------------------------------------
# the command


def preprocess(
    source: Path,
    destination: Path,
    meta_path: Path,
    splits_path: Path | None = None,
    jobs: int = 1,
    seed: int = DEFAULT_SEED,
    skip_invalid: bool = False,
    corrections: Corrections = NONE,
) -> int:
    """Do a whole corpus; returns the exit code. Raises CorpusError or WriteError when nothing more can be done."""
    meta, corrected = correct_metadata(read_metadata(meta_path), corrections)
    splits = load_splits(splits_path) if splits_path else find_splits(source)
    recordings, defects = scan(source)
    if not recordings and not defects:
        raise CorpusError(f"{source}: no recordings; wanted {source}/<speaker>/<digit>_<speaker>_<repetition>.wav")
    digits, relabelled = spoken_digits(recordings, meta, corrections)
    for line in corrected + relabelled:
        print(f"corrected: {line}", file=sys.stderr)
    unknown = check_metadata(recordings, meta, meta_path)
    defects += unknown
    without_label = {name for defect in unknown for name in defect.recordings}
    labelled = [r for r in recordings if r.relative not in without_label]
    labels = {r: tuple(splits.labels(digits[r], meta[r.speaker])) for r in labelled}

    make_folder(destination)
    remove_leftovers(destination)  # also of a run that was killed while it wrote its manifest
    check_owner(destination)
    with locked(destination):
        check_manifest(destination, source, seed)  # first of all files: it says whose folder this is
        for speaker in {r.speaker for r in labels}:
            make_folder(destination / speaker)
        journal = Journal(destination / JOURNAL)
        work = [Job(r, row, journal.made_from.get(r.relative)) for r, row in labels.items()]
        check_space(destination, work, len(splits.columns))
        usable = set()
        with journal, tqdm(total=len(work), unit="rec", desc="preprocessing", smoothing=0.05) as bar:
            task = partial(process, destination=destination, seed=seed)
            for outcome in spread(task, work, jobs, LIBRARIES):
                if outcome.defect:
                    defects.append(outcome.defect)
                else:
                    journal.record(outcome.recording, outcome.made_from)
                    usable.add(outcome.recording)
                bar.update()
            journal.flush()
        rows = [(r, row) for r, row in labels.items() if r in usable]
        split_defects, unusable = check_splits(splits, rows, meta)
        defects = sorted(defects, key=lambda d: d.where) + split_defects
        for defect in defects:
            print(defect, file=sys.stderr)
        lost = len({name for defect in defects for name in defect.recordings})
        summary = f"{len(rows)} recordings in {destination}, {lost} rejected"
        (destination / REJECTED).unlink(missing_ok=True)
        if defects and not skip_invalid:
            remove_lists(destination)
            advice = "mend them, or leave them out with --skip-invalid"
            print(f"{source}: {len(defects)} defects; wanted none ({advice})", file=sys.stderr)
            print(f"{summary}; no lists written")
            return 1
        if skip_invalid:
            write_rejected(destination / REJECTED, defects)
        lists = write_lists(destination, splits, rows, unusable)
        if not lists:
            print(f"{splits.path}: no split can be used with these recordings; wanted one at least", file=sys.stderr)
        print(f"{summary}; {lists} lists" + (f"; see {destination / REJECTED}" if defects else ""))
        return 0 if lists else 1


def check_space(destination: Path, work: list[Job], columns: int) -> None:
    """Fail before the disk is full, where that can be foreseen."""
    each = sum(len(_hdf5_template(kind.shape, columns)[0]) for kind in NETWORKS.values())
    needed = each * sum(job.made_from is None for job in work)
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise WriteError(f"{destination}: {free / 1e9:.1f} GB free on the disk; wanted {needed / 1e9:.1f} GB")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Recordings of spoken digits -> HDF5 inputs of AlexNet and AudioNet, and split lists.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--source", "-src", type=Path, default=ROOT / "data", help="folder with a folder for each speaker")
    add("--destination", "-dst", type=Path, default=ROOT / "preprocessed_data", help="where the inputs go")
    add("--meta", "-m", type=Path, help=f"metadata of the speakers (None: {META_NAME} in the source)")
    add("--splits", type=Path, help=f"splits (None: {SPLITS_NAME} in the source, else AudioMNIST's)")
    add("--jobs", type=_positive, default=available_cores(), help="processes")
    add("--seed", type=int, default=DEFAULT_SEED, help="of the random positions in the padded second")
    add("--skip-invalid", action="store_true", help=f"leave defective recordings out and list them in {REJECTED}")
    what = "put known mistakes of AudioMNIST (or those of FILE) right"
    add("--corrections", type=Path, nargs="?", const=CORRECTIONS, metavar="FILE", help=what)
    options = parser.parse_args(arguments)
    meta = options.meta or options.source / META_NAME
    if options.destination.resolve() == options.source.resolve():
        parser.error("the destination is the source; wanted another folder")
    try:
        corrections = load_corrections(options.corrections) if options.corrections else NONE
        return preprocess(
            options.source,
            options.destination,
            meta,
            options.splits,
            options.jobs,
            options.seed,
            options.skip_invalid,
            corrections,
        )
    except (CorpusError, WriteError) as error:
        print(error, file=sys.stderr)
    except BrokenProcessPool:
        print(f"{options.destination}: a worker process died; wanted more memory or fewer --jobs", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; the same command continues where it stopped", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
