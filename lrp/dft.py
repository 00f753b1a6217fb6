"""DFT-LRP: relevance of a waveform carried into frequency and into time-frequency.

A virtual layer before the network makes the waveform from its (short-time) Fourier coefficients; LRP through that
linear layer gives the coefficients' relevance (Vielhaben et al. 2024, "Explainable AI for time series via virtual
inspection layers", section 3). The definition is a product with a dense T x T matrix; since it is a Fourier matrix,
FFTs give the same numbers.

LRP-0 divides by x. Rules that give relevance to samples that are nearly zero (flat, z^B, the beta part of alpha-beta)
would make coefficients of both signs that are thousands of times as large as their sum, so c = R x / (x^2 + d^2) takes
the place of R / x: the share d^2 / (x^2 + d^2) of a sample's relevance stays behind. `kept_share` says how much was
carried over, `cancellation` whether what arrived can be read.

Letters: T samples of the waveform x, R their relevance, c = R x / (x^2 + d^2), y Fourier coefficients, L window,
M frames, K frequencies.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lrp.errors import LRPError

# d, as a share of the `LOUD` percentile of |x| over the samples that are not zero.
RIDGE = 0.01
LOUD = 95
# What the authors of DFT-LRP add to x where they divide by it (their dft_lrp.py), in units of the waveform.
AUTHORS_STABILISER = 1e-6

Variant = Literal["local", "full"]
VARIANTS = ("local", "full")


def _waveforms(x: ArrayLike, relevance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """x and R in float64; LRPError for shapes that differ."""
    x, relevance = np.asarray(x, np.float64), np.asarray(relevance, np.float64)
    if x.shape != relevance.shape or x.ndim == 0:
        expected = "a waveform and relevance of one shape (..., T)"
        raise LRPError("DFT-LRP", expected, f"{x.shape} and {relevance.shape}")
    return x, relevance


def ridge_width(x: ArrayLike, ridge: float = RIDGE) -> np.ndarray:
    """d of waveforms (..., T): `ridge` times the 95th percentile of |x| over samples that are not zero, (..., 1)."""
    loud = np.abs(np.asarray(x, np.float64))
    loud = np.where(loud > 0, loud, np.nan)
    silent = np.isnan(loud).all(axis=-1, keepdims=True)
    return ridge * np.nanpercentile(np.where(silent, 0.0, loud), LOUD, axis=-1, keepdims=True)


def _shares(x: np.ndarray, relevance: np.ndarray, ridge: float) -> np.ndarray:
    """c = R x / (x^2 + d^2), 0 where x is 0: with ridge 0 that is R / x."""
    if not ridge >= 0:
        raise LRPError("ridge", "a number of at least 0", ridge)
    quiet = np.divide(ridge_width(x, ridge), x, out=np.zeros_like(x), where=x != 0)
    with np.errstate(over="ignore"):  # of a sample that is next to nothing nothing is carried over
        return np.divide(relevance, x * (1 + quiet**2), out=np.zeros_like(x), where=x != 0)


def _multiplicity(count: int) -> np.ndarray:
    """How often each of the `count // 2 + 1` coefficients of a real signal counts: with its mirror image twice."""
    times = np.full(count // 2 + 1, 2.0)
    times[0] = 1
    if count % 2 == 0:
        times[-1] = 1
    return times


def kept_share(x: ArrayLike, relevance: ArrayLike, ridge: float = RIDGE) -> float:
    """Of one waveform: sum |R| x^2 / (x^2 + d^2) over sum |R|, what of its relevance is carried into frequency, 0 to 1;
    NaN where R is 0.

    The rest stayed behind with samples that are zero or small beside d. Magnitudes, so that what stays behind of both
    signs does not make up for one another, as it does in the sums.
    """
    x, relevance = _waveforms(x, relevance)
    total = np.abs(relevance).sum()
    return float(np.abs(_shares(x, relevance, ridge) * x).sum() / total) if total else float("nan")


def cancellation(carried: ArrayLike) -> float:
    """Of one waveform: sum |R_k| / |sum R_k| of its relevance in frequency (any shape).

    1 where all has one sign; infinite where everything cancels, NaN where nothing was carried. Where it is large, the
    coefficients are large numbers of both signs that only add up to the relevance; they do not show where it lies.
    """
    carried = np.asarray(carried, np.float64)
    size, total = np.abs(carried).sum(), abs(carried.sum())
    return float(np.divide(size, total)) if total else float("inf") if size else float("nan")


def dft_relevance(x: ArrayLike, relevance: ArrayLike, ridge: float = RIDGE) -> np.ndarray:
    """Relevance of the frequencies of a waveform: (..., T) -> (..., T // 2 + 1), float64.

    R_k = Re(y_k sum_n c_n exp(2 pi i k n / T)) m_k / T with y = DFT(x) and m_k = 2 for coefficients that stand for a
    mirror image too. The sum over k is that over n of R x^2 / (x^2 + d^2). ridge: d as a share of the waveform's loud
    samples (`ridge_width`); 0 is LRP-0, where samples that are exactly zero alone pass nothing.
    """
    x, relevance = _waveforms(x, relevance)
    count = x.shape[-1]
    spectrum = np.fft.rfft(x) * np.conj(np.fft.rfft(_shares(x, relevance, ridge)))
    return np.real(spectrum) * _multiplicity(count) / count


def dft_frequencies(count: int, rate: float) -> np.ndarray:
    """Frequencies of `dft_relevance` for T = count samples, `rate` of them a second; in Hz."""
    return np.fft.rfftfreq(count, 1 / rate)


def window_values(window: str | ArrayLike, length: int) -> np.ndarray:
    """A window by name, or the array itself; (L,) float64.

    "hann" and "hamming" are periodic; "rectangle"; "halfsine" is sin(pi (n + 1/2) / L).
    """
    if isinstance(window, str):
        angle = 2 * np.pi * np.arange(length) / length
        known = {
            "hann": 0.5 - 0.5 * np.cos(angle),
            "hamming": 0.54 - 0.46 * np.cos(angle),
            "rectangle": np.ones(length),
            "halfsine": np.sin(angle / 2 + np.pi / (2 * length)),
        }
        if window not in known:
            raise LRPError("window", f"one of {', '.join(known)} or an array", repr(window))
        return known[window]
    values = np.asarray(window, np.float64)
    if values.shape != (length,):
        raise LRPError("window", f"shape ({length},)", values.shape)
    return values


def frame_starts(count: int, length: int, hop: int, variant: Variant = "local") -> np.ndarray:
    """First samples of the frames of T = count samples, (M,) int.

    "local": frame m is centred at sample m * hop, m = 0, 1, ... until the end is covered: the grid of a spectrogram
    with centred windows. "full": the authors' frames, which begin at 0, hop, 2 hop, ... and lie inside the waveform.
    """
    if variant not in VARIANTS:
        raise LRPError("variant", f"one of {', '.join(VARIANTS)}", repr(variant))
    if not 1 <= hop <= length:
        raise LRPError("hop", f"1 to the window's {length} samples", hop)
    if variant == "full":
        return np.arange(0, count - length + 1, hop)
    half = length // 2
    frames = -(-(count + 2 * half - length) // hop) + 1
    return np.arange(frames) * hop - half


def stdft_relevance(
    x: ArrayLike,
    relevance: ArrayLike,
    window: str | ArrayLike,
    length: int,
    hop: int,
    variant: Variant = "local",
    ridge: float | None = None,
) -> np.ndarray:
    """Relevance of a waveform's short-time spectrum: (..., T) -> (..., K, M), float64.

    The virtual layer adds up inverse DFTs of the windowed frames w_m x and divides by the sum of the windows W.

    "local", ours: frame m has an L-point DFT of its own, K = L // 2 + 1, and its coefficients make the samples of that
    frame alone: R_mk = Re(DFT_L(w_m x)_k conj DFT_L(c / W over the frame)_k) m_k / L.
    "full", the authors' (create_short_time_fourier_weights in their dft_utils.py): every frame, zero outside its
    window, has a T-point DFT, K = T // 2 + 1, and its coefficients make all samples:
    R_mk = Re(DFT_T(w_m x)_k conj DFT_T(c / W)_k) m_k / T. A frame's sum over k is the same in both, sum_n R w_m / W.

    Frames start at `frame_starts`; samples outside the waveform are zero. ridge: see `dft_relevance`; None is `RIDGE`
    for "local" and the authors' c = R / (x + 1e-6) for "full". The sum is that of `dft_relevance` with the same ridge.
    Raises LRPError for a window and hop that leave samples uncovered.
    """
    x, relevance = _waveforms(x, relevance)
    count, values = x.shape[-1], window_values(window, length)
    starts = frame_starts(count, length, hop, variant)
    if ridge is None and variant == "full":
        raised = x + AUTHORS_STABILISER
        shares = np.divide(relevance, raised, out=np.zeros_like(x), where=raised != 0)
    else:
        shares = _shares(x, relevance, RIDGE if ridge is None else ridge)
    before, after = (length, length) if variant == "full" else (-starts[0], starts[-1] + length - count)
    cover = np.zeros(before + count + after)
    for start in starts:
        cover[before + start : before + start + length] += values
    cover = cover[before : before + count]
    if np.abs(cover).min() < 1e-9 * np.abs(values).max():
        place = f"window of {length} samples with hop {hop}"
        raise LRPError(place, "windows whose sum is nowhere zero", "samples that no window covers")
    shares = shares / cover
    if variant == "full":
        wanted = np.conj(np.fft.rfft(shares))
        made = np.empty((*x.shape[:-1], count // 2 + 1, len(starts)))
        for frame, start in enumerate(starts):
            alone = np.zeros_like(x)
            alone[..., start : start + length] = values * x[..., start : start + length]
            made[..., frame] = np.real(np.fft.rfft(alone) * wanted)
        return made * _multiplicity(count)[:, None] / count
    pad = [(0, 0)] * (x.ndim - 1) + [(before, after)]

    def spectra(signal: np.ndarray, weights: np.ndarray | float) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, pad), length, axis=-1)[..., ::hop, :]
        return np.fft.rfft(frames * weights)

    product = np.real(spectra(x, values) * np.conj(spectra(shares, 1.0)))
    return np.swapaxes(product * _multiplicity(length) / length, -1, -2)


def stdft_axes(
    count: int, length: int, hop: int, rate: float, variant: Variant = "local"
) -> tuple[np.ndarray, np.ndarray]:
    """(frequencies in Hz (K,), centres of the frames in s (M,)) of `stdft_relevance` for T = count samples, `rate` of
    them a second."""
    centres = frame_starts(count, length, hop, variant) + (length // 2 if variant == "local" else (length - 1) / 2)
    return np.fft.rfftfreq(length if variant == "local" else count, 1 / rate), centres / rate
