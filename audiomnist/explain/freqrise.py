"""The deletion test that FreqRISE published, so that numbers are comparable (Bruesch et al. 2024, "FreqRISE").

The most relevant values of a waveform are set to zero in one of three domains, and the mean probability of the true
class is drawn against their share: 0, 0.05 ... 0.95 of *all* values, silent ones included, by positive relevance; the
area is the trapezoid over these shares (a probability of 1 throughout gives 0.95). Random and amplitude stand beside
it. This follows the authors' public code, whose ways are not all ours: the true class is explained, not the predicted
one; chance is drawn anew for every share; relevance in time-frequency lies on windows of 800 samples without overlap,
amplitude and chance on Hann windows of 455 every 35; DFT-LRP divides by x itself, without a ridge. Equal values, of
which all negative relevance is a case, go in the order of their places (in the authors' code in that of torch.topk).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special

from audiomnist.signal.geometry import HOP, WINDOW
from lrp.dft import dft_relevance

SHARES = np.arange(0, 1, 0.05)
LRP_WINDOW = 800  # samples, also the hop


@dataclass(frozen=True)
class Domain:
    """A domain: waveforms (N, T) to values (N, ...) and back, and waveform and relevance (N, T) to relevance there
    (None where the authors' relevance lies elsewhere)."""

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, int], np.ndarray]
    relevance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None


def _stft(x: np.ndarray) -> np.ndarray:
    import torch

    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    made = torch.stft(torch.from_numpy(x.astype(np.float64)), WINDOW, HOP, window=window, return_complex=True)
    return made.numpy()


def _istft(values: np.ndarray, length: int) -> np.ndarray:
    import torch

    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    return torch.istft(torch.from_numpy(values), WINDOW, HOP, window=window, length=length).numpy()


def _windows(x: np.ndarray) -> np.ndarray:
    """(N, T) -> (N, T // 800, 800)."""
    return x[:, : x.shape[1] // LRP_WINDOW * LRP_WINDOW].reshape(len(x), -1, LRP_WINDOW)


DOMAINS = {
    "time": Domain(lambda x: x, lambda values, length: values, lambda x, relevance: relevance),
    "frequency": Domain(np.fft.rfft, np.fft.irfft, lambda x, relevance: dft_relevance(x, relevance, ridge=0)),
    "time-frequency": Domain(_stft, _istft, None),
    "time-frequency, windows of 800": Domain(
        lambda x: np.fft.rfft(_windows(x)),
        lambda values, length: np.fft.irfft(values, LRP_WINDOW).reshape(len(values), -1),
        lambda x, relevance: dft_relevance(_windows(x), _windows(relevance), ridge=0),
    ),
}


def without(x: np.ndarray, domain: str, importance: np.ndarray, share: float) -> np.ndarray:
    """Waveforms (N, T) without a share of their values in a domain, the largest `importance` (N, ...) first."""
    values = DOMAINS[domain].there(x)
    flat = importance.reshape(len(x), -1)
    places = np.argsort(-flat, axis=1, kind="stable")[:, : int(share * flat.shape[1])]
    left = values.reshape(len(x), -1).copy()
    np.put_along_axis(left, places, 0, axis=1)
    return DOMAINS[domain].back(left.reshape(values.shape), x.shape[1])


def complexity(relevance: np.ndarray) -> np.ndarray:
    """(N,) entropy, in nats, of the positive relevance (N, ...) as shares of its sum; 0 where there is none."""
    positive = np.maximum(relevance.reshape(len(relevance), -1).astype(np.float64), 0)
    lowest, highest = positive.min(axis=1, keepdims=True), positive.max(axis=1, keepdims=True)
    scaled = (positive - lowest) / np.where(highest > lowest, highest - lowest, 1)
    return scipy.special.entr(scaled / np.maximum(scaled.sum(axis=1, keepdims=True), 1e-300)).sum(axis=1)


def probabilities(
    forward: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    labels: np.ndarray,
    domain: str,
    importance: Callable[[int], np.ndarray],
) -> np.ndarray:
    """(N, S) probability of the true class of waveforms x (N, T) at each of `SHARES`.

    forward: (N, 1, 1, T) -> scores (N, classes); labels: (N,) classes; importance(index of the share) -> (N, ...).
    """
    found = []
    for index, share in enumerate(SHARES):
        left = without(x, domain, importance(index), share).astype(np.float32)
        chances = scipy.special.softmax(forward(left[:, None, None]).astype(np.float64), axis=1)
        found.append(np.take_along_axis(chances, labels[:, None], axis=1)[:, 0])
    return np.stack(found, axis=1)
