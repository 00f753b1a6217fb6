"""The frequency axis of spectrograms in decibels: scaled, and split into an envelope and the harmonics over it.

A voice is a source, whose fundamental and harmonics lie at equal distances in frequency, and a tract, whose formants
are broad. In decibels the two add up, and a cosine transform along frequency, a cepstrum, tells them apart: what
repeats every 1 / q Hz has the quefrency q (Noll, Journal of the Acoustical Society of America 41, 1967). A voice of
200 Hz has its harmonics at 5 ms; formants lie below 2 ms.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from audiomnist.signal.geometry import BINS, SPECTROGRAM

FILLS = {  # what is to stand where the axis of data (..., F, T) was squeezed away from
    "silence": lambda data: data.min(axis=(-2, -1), keepdims=True),  # the item's lowest value
    "repeat": lambda data: data[..., -1:, :],  # its highest frequency
    "zero": lambda data: np.zeros((), data.dtype),
}
ENVELOPE, HARMONICS = 2.0, 2.5  # ms: up to here all is envelope, from here on nothing
QUEFRENCY_STEP = 1000 / (2 * BINS * SPECTROGRAM.bin_width)  # ms of quefrency between cepstral coefficients
PITCHES = (60.0, 400.0)  # Hz, where a fundamental is looked for
SOUNDING = -40.0  # dB of a frame's loudest frequency, from which on it may hold a voice


def scale_frequency(data: np.ndarray, factor: float, fill: str = "silence") -> np.ndarray:
    """Spectrograms (..., F, T) with their frequency axis scaled: what was at f is then at factor * f. dtype is kept.

    New bin k takes the value at k / factor, interpolated linearly between the two bins around it (bin 0 is 0 Hz and
    stays); beyond the last bin it is `FILLS[fill]`.
    """
    if factor <= 0:
        raise ValueError(f"factor: expected a positive number, got {factor}")
    bins = data.shape[-2]
    position = np.arange(bins) / factor
    inside = position <= bins - 1
    position = position[inside]
    low = np.minimum(position.astype(int), bins - 2)
    share = (position - low).astype(data.dtype)[:, None]
    scaled = np.empty_like(data)
    scaled[..., inside, :] = (1 - share) * data[..., low, :] + share * data[..., low + 1, :]
    scaled[..., ~inside, :] = FILLS[fill](data)
    return scaled


def lifter(count: int = BINS, step: float = QUEFRENCY_STEP) -> np.ndarray:
    """The share (count,) of each cepstral coefficient that is envelope: 1, a raised cosine, 0 (see `ENVELOPE`)."""
    quefrency = step * np.arange(count)
    way = np.clip((quefrency - ENVELOPE) / (HARMONICS - ENVELOPE), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * way)


def split(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms (..., 227, T) in dB as (envelope, harmonics), whose sum they are. dtype is kept."""
    cepstrum = scipy.fft.dct(data.astype(np.float64), axis=-2, norm="ortho")
    envelope = scipy.fft.idct(lifter()[:, None] * cepstrum, axis=-2, norm="ortho").astype(data.dtype)
    return envelope, data - envelope


def in_range(data: np.ndarray, lowest: float = -80.0) -> np.ndarray:
    """Spectrograms (..., F, T) in dB with their maximum at 0 and nothing below `lowest`, as inputs have it."""
    return np.maximum(data - data.max(axis=(-2, -1), keepdims=True), lowest)


def pitch_of(data: np.ndarray) -> float:
    """The fundamental in Hz of a spectrogram (227, T) in dB: the highest peak of the mean cepstrum of what sounds."""
    cepstrum = scipy.fft.dct(data[:, data.max(axis=0) > SOUNDING].astype(np.float64), axis=0, norm="ortho").mean(axis=1)
    first, last = (round(1000 / hertz / QUEFRENCY_STEP) for hertz in PITCHES[::-1])
    return 1000 / (QUEFRENCY_STEP * (first + int(cepstrum[first : last + 1].argmax())))
