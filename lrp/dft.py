"""DFT-LRP: relevance of a waveform carried into frequency and into time-frequency.

A virtual layer before the network makes the waveform from its (short-time) Fourier coefficients; LRP-0 through that
linear layer gives the coefficients' relevance (Vielhaben et al. 2024, "Explainable AI for time series via virtual
inspection layers", section 3). The definition is a product with a dense T x T matrix; since it is a Fourier matrix,
FFTs give the same numbers.

Letters: T samples of the waveform x, R their relevance, c = R / x, y Fourier coefficients, L window, K = L // 2 + 1
frequencies, M frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lrp.errors import LRPError


def _shares(x: ArrayLike, relevance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """c = R / x (0 where x is 0), in float64; LRPError for shapes that differ."""
    x, relevance = np.asarray(x, np.float64), np.asarray(relevance, np.float64)
    if x.shape != relevance.shape or x.ndim == 0:
        raise LRPError(
            f"DFT-LRP: a waveform {x.shape} and relevance {relevance.shape} found; equal shapes (..., T) wanted"
        )
    return x, np.divide(relevance, x, out=np.zeros_like(x), where=x != 0)


def _multiplicity(count: int) -> np.ndarray:
    """How often each of the `count // 2 + 1` coefficients of a real signal counts: with its mirror image twice."""
    times = np.full(count // 2 + 1, 2.0)
    times[0] = 1
    if count % 2 == 0:
        times[-1] = 1
    return times


def dft_relevance(x: ArrayLike, relevance: ArrayLike) -> np.ndarray:
    """Relevance of the frequencies of a waveform: (..., T) -> (..., T // 2 + 1), float64.

    R_k = Re(y_k sum_n c_n exp(2 pi i k n / T)) m_k / T with y = DFT(x) and m_k = 2 for coefficients that stand for a
    mirror image too. The sum over k is the sum over n of the relevance of samples that are not zero.
    """
    x, shares = _shares(x, relevance)
    count = x.shape[-1]
    return np.real(np.fft.rfft(x) * np.conj(np.fft.rfft(shares))) * _multiplicity(count) / count


def dft_frequencies(count: int, rate: float) -> np.ndarray:
    """Frequencies of `dft_relevance` for T = count samples, `rate` of them a second; in Hz."""
    return np.fft.rfftfreq(count, 1 / rate)


def window_values(window: str | ArrayLike, length: int) -> np.ndarray:
    """A window by name ("hann", "hamming", "rectangular", all periodic), or the array itself; (L,) float64."""
    if isinstance(window, str):
        angle = 2 * np.pi * np.arange(length) / length
        known = {
            "hann": 0.5 - 0.5 * np.cos(angle),
            "hamming": 0.54 - 0.46 * np.cos(angle),
            "rectangular": np.ones(length),
        }
        if window not in known:
            raise LRPError(f"window: {window!r} found; one of {', '.join(known)} or an array wanted")
        return known[window]
    values = np.asarray(window, np.float64)
    if values.shape != (length,):
        raise LRPError(f"window: shape {values.shape} found; ({length},) wanted")
    return values


def frame_starts(count: int, length: int, hop: int) -> np.ndarray:
    """First samples of the frames that cover T = count samples, from the first that touches sample 0 by `hop`."""
    if not 1 <= hop <= length:
        raise LRPError(f"hop: {hop} found; 1 to the window's {length} samples wanted")
    return np.arange(hop - length, count, hop)


def stdft_relevance(x: ArrayLike, relevance: ArrayLike, window: str | ArrayLike, length: int, hop: int) -> np.ndarray:
    """Relevance of a waveform's short-time spectrum: (..., T) -> (..., K, M), float64.

    The virtual layer adds up inverse DFTs of windowed frames and divides by the sum of the windows,
    x_n = sum_m IDFT(v_m)_n / sum_m w_m(n), so that R_{k,m} = Re(v_mk conj(DFT(c / sum w)_mk)) m_k / L; the sum is that
    of the samples that are not zero. Frames start at `frame_starts`; samples outside the waveform are zero.
    Raises LRPError for a window and hop that leave samples uncovered.
    """
    x, shares = _shares(x, relevance)
    count, values = x.shape[-1], window_values(window, length)
    starts = frame_starts(count, length, hop)
    before, after = -starts[0], starts[-1] + length - count
    cover = np.zeros(before + count + after)
    for start in starts:
        cover[before + start : before + start + length] += values
    cover = cover[before : before + count]
    if np.abs(cover).min() < 1e-9 * np.abs(values).max():
        raise LRPError(
            f"window of {length} samples with hop {hop}: samples found that no window covers; windows whose "
            "sum is nowhere zero wanted"
        )
    pad = [(0, 0)] * (x.ndim - 1) + [(before, after)]

    def spectra(signal: np.ndarray, weights: np.ndarray | float) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, pad), length, axis=-1)[..., ::hop, :]
        return np.fft.rfft(frames * weights)

    product = np.real(spectra(x, values) * np.conj(spectra(shares / cover, 1.0)))
    return np.swapaxes(product * _multiplicity(length) / length, -1, -2)


def stdft_axes(count: int, length: int, hop: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """(frequencies in Hz (K,), centres of the frames in s (M,)) of `stdft_relevance` for T = count samples, `rate` of
    them a second."""
    return np.fft.rfftfreq(length, 1 / rate), (frame_starts(count, length, hop) + length / 2) / rate
