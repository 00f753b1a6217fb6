"""Relevance made audible: waveforms in which the relevant parts of a recording sound.

Two readings of the paper's formula exist; both are here, and two more (`FORMULAS`). Relevance of a spectrogram masks
the recording's complex short-time spectrum, which is inverted with the recording's own phase.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from audiomnist.signal import wav
from audiomnist.signal.geometry import SAMPLE_RATE, SPECTROGRAM, Geometry
from caffe_proto import write_file
from lrp.errors import LRPError

LEVEL = 0.04  # RMS of the active part, of full scale (-28 dB); what is to be compared is heard equally loud
PEAK = 0.9  # of full scale, the most that a sound may reach: rare ones, of single clicks, stay quieter than LEVEL
ACTIVE = 0.01  # of the peak: the active part goes from the first to the last sample that is at least so loud

FORMULAS = {
    "relu(R)*x": lambda relevance, x: np.maximum(relevance, 0) * x,
    "relu(x)*R": lambda relevance, x: np.maximum(x, 0) * relevance,
    "R*x": lambda relevance, x: relevance * x,
    "|R|*x": lambda relevance, x: np.abs(relevance) * x,
}
DEFAULT = "relu(R)*x"


def _formula(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if name not in FORMULAS:
        raise LRPError("audible: formula", f"one of {', '.join(FORMULAS)}", repr(name))
    return FORMULAS[name]


def normalised(signal: np.ndarray) -> np.ndarray:
    """The signal (T,) with the RMS of its active part at `LEVEL`, or its peak at `PEAK` where that is quieter; silence
    stays silence.

    Its peak alone would make sounds of equal peak, but unlike loudness, of formulas that leave more or fewer clicks.
    """
    peak = np.abs(signal).max(initial=0)
    if not peak > 0:
        return signal
    signal = signal / peak
    heard = np.flatnonzero(np.abs(signal) >= ACTIVE)
    active = signal[heard[0] : heard[-1] + 1]
    return signal * min(LEVEL / np.sqrt(np.mean(active**2)), PEAK)


def of_waveform(x: ArrayLike, relevance: ArrayLike, formula: str = DEFAULT) -> np.ndarray:
    """Audible relevance of a waveform network: x and R of any shape with T values -> (T,) float64, `normalised`."""
    x, relevance = np.asarray(x, np.float64).ravel(), np.asarray(relevance, np.float64).ravel()
    if x.shape != relevance.shape:
        raise LRPError("audible", "as much relevance as waveform", f"{relevance.size} values and {x.size} samples")
    return normalised(_formula(formula)(relevance, x))


def _window(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def spectrum(signal: np.ndarray, geometry: Geometry = SPECTROGRAM) -> np.ndarray:
    """Complex short-time spectrum (window // 2 + 1, frames) of a signal (T,), frames centred at multiples of the hop
    from the first to the last sample: all frequencies and frames, those too that the geometry's input leaves out."""
    window, hop = geometry.window, geometry.hop
    padded = np.pad(np.asarray(signal, np.float64), (window // 2, window + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(signal) // hop + 1]
    return np.fft.rfft(windows * _window(window)).T


def inverse(coefficients: np.ndarray, count: int, geometry: Geometry = SPECTROGRAM) -> np.ndarray:
    """The signal (T,), T = count, whose `spectrum` is nearest to the coefficients.

    Weighted overlap-add (Griffin and Lim 1984, eq. 6).
    """
    length, hop = geometry.window, geometry.hop
    before = length // 2
    total, weight = np.zeros(before + count + length + hop), np.zeros(before + count + length + hop)
    window = _window(length)
    for frame, part in enumerate(np.fft.irfft(coefficients.T, length)):
        place = slice(frame * hop, frame * hop + length)
        total[place] += window * part
        weight[place] += window**2
    return (total / np.maximum(weight, 1e-12))[before : before + count]


def of_spectrogram(
    signal: ArrayLike, relevance: ArrayLike, formula: str = DEFAULT, geometry: Geometry = SPECTROGRAM
) -> np.ndarray:
    """Audible relevance of a spectrogram network: the recording's padded signal (T,) and R (1, frequencies, frames) ->
    (T,) float64, `normalised`.

    The formula's x is the complex coefficient; `relu(x)*R`, which needs a sign, is refused.
    """
    if formula == "relu(x)*R":
        raise LRPError("audible: formula", "one without the sign of x for a spectrogram", formula)
    signal, relevance = np.asarray(signal, np.float64).ravel(), np.asarray(relevance, np.float64)
    coefficients = spectrum(signal, geometry)
    bins, frames = relevance.shape[-2:]
    room = tuple(np.subtract(coefficients.shape, (geometry.first_bin, geometry.first_frame)))
    if relevance.size != bins * frames or bins > room[0] or frames > room[1]:
        most = f"(1, at most {room[0]} frequencies, at most {room[1]} frames)"
        raise LRPError("audible", f"relevance of shape {most} for {signal.size} samples", relevance.shape)
    mask = np.zeros(coefficients.shape)
    bin_, frame = geometry.first_bin, geometry.first_frame
    mask[bin_ : bin_ + bins, frame : frame + frames] = relevance.reshape(bins, frames)
    return normalised(inverse(_formula(formula)(mask, coefficients), signal.size, geometry))


def of_input(
    data: ArrayLike,
    signal: ArrayLike | None,
    relevance: ArrayLike,
    formula: str = DEFAULT,
    geometry: Geometry = SPECTROGRAM,
) -> np.ndarray:
    """Audible relevance (T,) of an input (1, H, W) with that geometry; `signal`: the recording, for a spectrogram."""
    if geometry.is_spectrogram:
        return of_spectrogram(signal, relevance, formula, geometry)
    return of_waveform(data, relevance, formula)


def wav_bytes(signal: ArrayLike, rate: int = SAMPLE_RATE) -> bytes:
    """A WAV file (`rate` Hz, mono, 16 bit) with the signal (T,) in -1..1."""
    return wav.wav_bytes(wav.to_int16(np.asarray(signal) * 32767), rate)


def write_wav(path: str | os.PathLike, signal: ArrayLike, rate: int = SAMPLE_RATE) -> None:
    """Write the signal (T,) in -1..1 as a WAV file of `rate` Hz, whole or not at all."""
    write_file(path, wav_bytes(signal, rate))
