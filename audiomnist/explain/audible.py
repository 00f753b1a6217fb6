"""Relevance made audible: waveforms at 8 kHz in which the relevant parts of a recording sound.

Two readings of the paper's formula exist; both are here, and two more (`FORMULAS`). Relevance of a spectrogram masks
the recording's complex short-time spectrum, which is inverted with the recording's own phase.
"""

import io
import wave

import numpy as np

from caffe_proto import write_file
from lrp.errors import LRPError

SAMPLE_RATE = 8000  # Hz
# Geometry of the study's spectrograms (the preprocessing's, which the library does not import), in samples.
WINDOW, HOP = 455, 35
FIRST_FRAME = 2  # of the frames, which are centred at multiples of HOP, this is the first that is kept
PEAK = 0.9  # of full scale

FORMULAS = {
    "relu(R)*x": lambda relevance, x: np.maximum(relevance, 0) * x,
    "relu(x)*R": lambda relevance, x: np.maximum(x, 0) * relevance,
    "R*x": lambda relevance, x: relevance * x,
    "|R|*x": lambda relevance, x: np.abs(relevance) * x,
}
DEFAULT = "relu(R)*x"


def _formula(name):
    if name not in FORMULAS:
        raise LRPError(f"audible: formula {name!r} found; one of {', '.join(FORMULAS)} wanted")
    return FORMULAS[name]


def normalised(signal):
    """The signal (T,) with its largest magnitude at `PEAK`; silence stays silence."""
    peak = np.abs(signal).max(initial=0)
    return signal * (PEAK / peak) if peak > 0 else signal


def of_waveform(x, relevance, formula=DEFAULT):
    """Audible relevance of a waveform network: x and R of any shape with T values -> (T,) float64, peak-normalised."""
    x, relevance = np.asarray(x, np.float64).ravel(), np.asarray(relevance, np.float64).ravel()
    if x.shape != relevance.shape:
        raise LRPError(
            f"audible: a waveform of {x.size} and relevance of {relevance.size} values found; equally many wanted"
        )
    return normalised(_formula(formula)(relevance, x))


def _window():
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


def _frames(count):
    """Padding before the signal and the number of frames centred at multiples of HOP."""
    return WINDOW // 2, count // HOP + 1


def spectrum(signal):
    """Complex short-time spectrum (WINDOW // 2 + 1, frames) of a signal (T,), frames centred at multiples of HOP."""
    before, frames = _frames(len(signal))
    padded = np.pad(np.asarray(signal, np.float64), (before, WINDOW + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    return np.fft.rfft(windows * _window()).T


def inverse(coefficients, count):
    """The signal (T,), T = count, whose `spectrum` is nearest to the coefficients.

    Weighted overlap-add (Griffin and Lim 1984, eq. 6).
    """
    before, frames = _frames(count)
    total, weight = np.zeros(before + count + WINDOW + HOP), np.zeros(before + count + WINDOW + HOP)
    window = _window()
    for frame, part in enumerate(np.fft.irfft(coefficients.T, WINDOW)):
        place = slice(frame * HOP, frame * HOP + WINDOW)
        total[place] += window * part
        weight[place] += window**2
    return (total / np.maximum(weight, 1e-12))[before : before + count]


def of_spectrogram(signal, relevance, formula=DEFAULT):
    """Audible relevance of a spectrogram network: the recording's padded signal (8000,) and R (1, 227, 227) -> (8000,)
    float64, peak-normalised.

    The formula's x is the complex coefficient; `relu(x)*R`, which needs a sign, is refused.
    """
    if formula == "relu(x)*R":
        raise LRPError("audible: formula relu(x)*R found; one without the sign of x wanted for spectrograms")
    signal, relevance = np.asarray(signal, np.float64).ravel(), np.asarray(relevance, np.float64)
    coefficients = spectrum(signal)
    bins, frames = relevance.shape[-2:]
    if relevance.size != bins * frames or bins > len(coefficients) or FIRST_FRAME + frames > coefficients.shape[1]:
        raise LRPError(
            f"audible: relevance of shape {relevance.shape} found for a signal of {signal.size} samples; "
            f"(1, frequencies up to {len(coefficients)}, frames up to "
            f"{coefficients.shape[1] - FIRST_FRAME}) wanted"
        )
    mask = np.zeros(coefficients.shape)
    mask[:bins, FIRST_FRAME : FIRST_FRAME + frames] = relevance.reshape(bins, frames)
    return normalised(inverse(_formula(formula)(mask, coefficients), signal.size))


def wav_bytes(signal):
    """A WAV file (8 kHz, mono, 16 bit) with the signal (T,) in -1..1."""
    samples = np.clip(np.rint(np.asarray(signal) * 32767), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def write_wav(path, signal):
    """Write the signal (T,) in -1..1 as a WAV file, whole or not at all."""
    write_file(path, wav_bytes(signal))
