"""Samples to network inputs: resampled, embedded in one second, as spectrogram in decibels and as scaled waveform.

The preprocessing is that of Becker et al., "AudioMNIST". The functions stand in the order of the data, and each is
usable alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy.fft

from audiomnist.signal.geometry import (
    BINS,
    FIRST_FRAME,
    FRAMES,
    HOP,
    SAMPLE_RATE,
    SAMPLES,
    SPECTROGRAM,
    WAVEFORM,
    WINDOW,
    Geometry,
)
from audiomnist.signal.wav import RecordingError, read_wav

AMIN = 1e-5  # amplitudes below this count as this
TOP_DB = 80.0  # dB, the range below the loudest point of a spectrogram
DECIBELS = np.float32(10 / np.log(10))  # dB of a power's natural logarithm, which is quicker than log10
PERCENTILE = 95  # of the signed samples
RANK = PERCENTILE / 100 * (SAMPLES - 1)  # position among the sorted samples, interpolated linearly
PERCENTILE_OFFSET = 0.001  # on the scale of 16-bit samples
MAX_SCALED_PEAK = 1e4  # a waveform beyond it makes the loss NaN; see `scaled_waveform`
DEFAULT_SEED = 0
FORMAT = 4  # raised whenever the same recording would give different files


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (N,) at `rate` Hz -> (ceil(N * 8000 / rate),) at 8 kHz by the Fourier method, float64."""
    samples = np.asarray(samples, np.float64)
    if rate == SAMPLE_RATE:
        return samples
    import scipy.signal  # takes half a second, which commands that resample nothing need not wait for

    return scipy.signal.resample(samples, -(-len(samples) * SAMPLE_RATE // rate))


def padding_offset(name: str, length: int, seed: int = DEFAULT_SEED) -> int:
    """Where a signal of `length` samples begins in its second: uniform in [0, 8000 - length), 0 when it fills it.

    It depends on nothing but the seed and the file's name (by SHA-256), so that neither order nor workers matter.
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
    """The first kept frame that holds anything but zeros, and the number of frames from it to the last such frame."""
    sound = padded != 0
    begin, end = int(sound.argmax()), SAMPLES - int(sound[::-1].argmax())  # all of it where nothing sounds
    first = max(FIRST_FRAME, -(-(begin + WINDOW // 2 + 1 - WINDOW) // HOP))
    last = min(FIRST_FRAME + FRAMES - 1, (end - 1 + WINDOW // 2) // HOP)
    return first, last - first + 1


def scaled_waveform(padded: np.ndarray) -> np.ndarray:
    """The padded signal (8000,) -> divided by (its signed 95th percentile + 0.001), float32 (8000,).

    Samples are on the 16-bit scale, and so is 0.001. When so few samples are positive that the percentile is (next to)
    zero, the result has values near 1e7, and one such recording turns the training into NaN: that is a
    RecordingError.
    """
    below = int(RANK)
    low, high = np.partition(padded, (below, below + 1))[below : below + 2]
    percentile = float(low + (RANK - below) * (high - low))
    positive = f"over {100 - PERCENTILE} % positive samples in the padded second"
    expected = f"a {PERCENTILE}th percentile well above zero ({positive})"
    if percentile <= 0:
        raise RecordingError(expected, f"{percentile:.4g}")
    scaled = (padded / (percentile + PERCENTILE_OFFSET)).astype(np.float32)
    peak = float(max(scaled.max(), -scaled.min()))
    if peak > MAX_SCALED_PEAK:
        raise RecordingError(expected, f"{percentile:.4g}, which scales the peak to {peak:.4g}")
    return scaled


@dataclass(frozen=True)
class NetworkInput:
    """What a network gets: an array of this shape, float32, made from the padded signal (8000,), and where its values
    lie in time and frequency."""

    shape: tuple[int, int, int, int]
    make: Callable[[np.ndarray], np.ndarray]
    geometry: Geometry


NETWORKS = {
    "AlexNet": NetworkInput((1, 1, BINS, FRAMES), spectrogram_db, SPECTROGRAM),
    "AudioNet": NetworkInput((1, 1, 1, SAMPLES), scaled_waveform, WAVEFORM),
}


def padded_signal(wav: Path | bytes, name: str, seed: int = DEFAULT_SEED) -> np.ndarray:
    """A WAV file (path or bytes) -> its embedded signal (8000,) at 8 kHz on the 16-bit scale, float64.

    Raises RecordingError when the recording is unreadable, silent, longer than one second or sampled below 8 kHz.
    """
    samples, rate = read_wav(wav, max_seconds=SAMPLES / SAMPLE_RATE)
    if rate < SAMPLE_RATE:
        raise RecordingError(f"a sample rate of {SAMPLE_RATE} Hz or more", f"{rate} Hz")
    if samples.min() == samples.max():
        raise RecordingError("a spoken digit", f"silence ({len(samples)} samples, all {samples[0]:g})")
    signal = resample(samples, rate)
    return embed(signal, padding_offset(name, len(signal), seed))


def network_inputs(wav: Path | bytes, name: str, seed: int = DEFAULT_SEED) -> dict[str, np.ndarray]:
    """The inputs of every network, {name: (1, C, H, W) float32}, for a WAV file (path or bytes) named `name`.

    Raises RecordingError when the recording cannot be used; every recording is checked here.
    """
    padded = padded_signal(wav, name, seed)
    return {network: kind.make(padded).reshape(kind.shape) for network, kind in NETWORKS.items()}
