"""How fast recordings become inputs: this project's preprocessing beside a restatement of upstream's, in one run.

    python -m benchmarks.preprocessing [--recordings 400] [--jobs 1 2] [--rounds 2]

The recordings are made here: 48 kHz, 16 bits, lengths as AudioMNIST's (mean 0.64 s, at most 47,998 samples, nearly all
different, many with large prime factors). Both are commands that read the same files and write to the same disk; ours
includes its checks, its lists and waiting for the disk. Each is also run on the first recordings alone, which gives the
time that a further recording takes, without the start of Python, libraries and processes. The commands take turns for
some rounds, and a command's quickest run counts, so that another program's work disturbs neither. Results are compared.

Let five minutes pass after a run: ext4 steps over what was removed in that time, and making a file takes 0.8 ms
instead of 0.03.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import wave
from pathlib import Path

import h5py
import librosa
import numpy as np
import scipy.io.wavfile
import scipy.signal

from audiomnist.signal.inputs import padding_offset
from audiomnist.workers import available_cores

ROOT = Path(__file__).resolve().parents[1]
SPEAKERS = 10
RATE = 48000  # Hz
FEW = 20  # recordings of the run that tells what starting costs


def make_recordings(folder: Path, count: int) -> None:
    """A corpus of `count` noisy harmonic sounds with AudioMNIST's rate and lengths."""
    rng = np.random.default_rng(0)
    for number in range(count):
        speaker, digit, repetition = f"{number % SPEAKERS + 1:02d}", number // SPEAKERS % 10, number // SPEAKERS // 10
        length = int(np.clip(rng.normal(0.64, 0.12) * RATE, 14000, 47998))
        t = np.arange(length) / RATE
        x = sum(np.cos(2 * np.pi * k * rng.uniform(90, 110) * t) / k for k in range(1, 20)) * np.hanning(length)
        x += 0.01 * rng.standard_normal(length)
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / speaker / f"{digit}_{speaker}_{repetition}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((x / np.abs(x).max() * 9000).astype("<i2").tobytes())
    meta = {f"{s + 1:02d}": {"gender": ("male", "female")[s % 2]} for s in range(SPEAKERS)}
    (folder / "audioMNIST_meta.txt").write_text(json.dumps(meta))
    names = sorted(meta)
    splits = {"digit": [{"train": names[:6], "validate": names[6:8], "test": names[8:]}]}
    (folder / "splits.json").write_text(json.dumps(splits))


def reference(arguments: tuple[list[Path], Path]) -> None:
    """Upstream's steps for one speaker's files, with the libraries and in the order of upstream's description."""
    paths, destination = arguments
    destination.mkdir(parents=True, exist_ok=True)
    for path in paths:
        digit = int(path.name[0])
        rate, samples = scipy.io.wavfile.read(path)
        signal = librosa.resample(samples.astype(np.float32), orig_sr=rate, target_sr=8000, res_type="scipy")
        padded = np.zeros(8000)
        offset = padding_offset(path.name, len(signal))  # so that the results can be compared
        padded[offset : offset + len(signal)] = signal
        _, _, spectrum = scipy.signal.stft(padded, 8000, window="hann", nperseg=455, noverlap=420)
        decibels = librosa.amplitude_to_db(np.abs(spectrum[0:227, 2:-1]), ref=np.max)
        scaled = padded / (np.percentile(padded, 95) + 0.001)
        for network, data in (("AlexNet", decibels[None, None]), ("AudioNet", scaled[None, None, None])):
            with h5py.File(destination / f"{network}_{path.stem}.hdf5", "w") as file:
                file["data"] = data.astype(np.float64)
                file["label"] = np.array([[digit, 0]])


def run_reference(source: Path, destination: Path, jobs: int) -> None:
    """Upstream's steps in `jobs` processes, a speaker at a time."""
    work = [(sorted(folder.glob("*.wav")), destination / folder.name) for folder in sorted(source.glob("[0-9]*"))]
    if jobs == 1:
        for speaker in work:
            reference(speaker)
    else:
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            pool.map(reference, work, chunksize=1)


def run(*command: str | Path) -> tuple[float, float]:
    """(seconds, peak resident MB of its largest process) of a command, when the disk is done with all before it."""
    from benchmarks import engines  # not above: upstream's steps, which start with this file, would load it too

    os.sync()
    start = time.perf_counter()
    _, peak = engines.run([sys.executable, *command], ROOT)
    return time.perf_counter() - start, peak


def measure(source: Path, few: Path, folder: Path, jobs: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """(seconds for all recordings, seconds for the few, peak MB) of upstream's steps and of ours, {theirs, ours: ...}.

    The least seconds of all rounds and the highest peak. Each round writes to folders of its own, `folder`/<round>/
    theirs and ours: making files is slow where many were removed.
    """
    commands = {
        "theirs": (("-m", "benchmarks.preprocessing", "--jobs", str(jobs), "--upstream"), ()),
        "ours": ((ROOT / "preprocessing_data.py", "--jobs", str(jobs), "-src"), ("-dst",)),
    }
    whole, small, peak = ({name: [] for name in commands} for _ in range(3))
    for k in range(rounds):
        for name, (command, between) in commands.items():
            seconds, _ = run(*command, few, *between, folder / str(k) / f"{name}_few")
            small[name].append(seconds)
            seconds, megabytes = run(*command, source, *between, folder / str(k) / name)
            whole[name].append(seconds)
            peak[name].append(megabytes)
    return {name: (min(whole[name]), min(small[name]), max(peak[name])) for name in commands}


def run_steps(source: Path, count: int) -> dict[str, float]:
    """Milliseconds a recording of our steps, in this process."""
    from audiomnist.preprocessing import store
    from audiomnist.signal import inputs
    from audiomnist.signal.wav import read_wav

    paths = sorted(source.glob("*/*.wav"))[:count]
    spent = dict.fromkeys(("read", "resample", "spectrogram", "waveform", "HDF5 bytes"), 0.0)

    def timed(step, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        spent[step] += (time.perf_counter() - start) / len(paths) * 1e3
        return result

    for path in paths:
        samples, rate = timed("read", read_wav, path)
        signal = timed("resample", inputs.resample, samples, rate)
        padded = inputs.embed(signal, 0)
        spectrogram = timed("spectrogram", inputs.spectrogram_db, padded)
        waveform = timed("waveform", inputs.scaled_waveform, padded)
        timed("HDF5 bytes", store.hdf5_bytes, "AlexNet", spectrogram.reshape(1, 1, 227, 227), (0, 0))
        timed("HDF5 bytes", store.hdf5_bytes, "AudioNet", waveform.reshape(1, 1, 1, 8000), (0, 0))
    return spent


def compare(reference_folder: Path, ours: Path) -> dict[str, float]:
    """The largest difference of every spectrogram (dB) and waveform (relative to its largest value)."""
    worst = {"AlexNet": 0.0, "AudioNet": 0.0}
    for path in reference_folder.glob("*/*.hdf5"):
        with h5py.File(path) as theirs, h5py.File(ours / path.relative_to(reference_folder)) as mine:
            a, b = theirs["data"][:], mine["data"][:]
        network = path.name.split("_")[0]
        difference = np.abs(a - b).max() / (1 if network == "AlexNet" else np.abs(a).max())
        worst[network] = max(worst[network], float(difference))
    return worst


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.hdf5"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Rates of preprocessing, ours beside upstream's steps.")
    parser.add_argument("--recordings", type=int, default=400)
    parser.add_argument("--jobs", type=int, nargs="+", default=sorted({1, available_cores()}))
    parser.add_argument("--rounds", type=int, default=2)
    what = "upstream's steps alone, from a folder of recordings to another, in --jobs processes"
    parser.add_argument("--upstream", type=Path, nargs=2, metavar=("SOURCE", "DESTINATION"), help=what)
    options = parser.parse_args()
    if options.upstream:
        run_reference(*options.upstream, options.jobs[0])
        return 0
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.recordings} recordings of 48 kHz")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, few = folder / "recordings", folder / "few"
        make_recordings(source, options.recordings)
        make_recordings(few, FEW)
        further = options.recordings - FEW
        print("| processes | | upstream's steps | ours | ratio |\n|---|---|---|---|---|")
        for jobs in options.jobs:
            written = folder / str(jobs)
            times = measure(source, few, written, jobs, options.rounds)
            (slow, slow_few, _), (fast, fast_few, peak) = times["theirs"], times["ours"]
            rates = [options.recordings / slow, options.recordings / fast]
            print(f"| {jobs} | whole command | {rates[0]:.0f} /s | {rates[1]:.0f} /s | {rates[1] / rates[0]:.1f} |")
            rates = [further / (slow - slow_few), further / (fast - fast_few)]
            ratio = rates[1] / rates[0]
            print(f"| {jobs} | further recordings | {rates[0]:.0f} /s | {rates[1]:.0f} /s | {ratio:.1f} |", flush=True)
            print(f"| {jobs} | peak of the largest process | | {peak:.0f} MB | |", flush=True)
        theirs, ours = written / "0" / "theirs", written / "0" / "ours"
        worst = compare(theirs, ours)
        print(f"largest difference: {worst['AlexNet']:.2g} dB, {worst['AudioNet']:.2g} of the largest sample")
        written = size(ours)
        each = written / options.recordings / 1e3
        print(f"disk: {written / size(theirs):.3f} of upstream's ({each:.0f} kB a recording)")
        steps = run_steps(source, min(200, options.recordings))
        print("ours, ms a recording: " + ", ".join(f"{step} {spent:.2f}" for step, spent in steps.items()))
        print(f"AudioMNIST's 30,000 at this rate: {30000 / rates[1]:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
