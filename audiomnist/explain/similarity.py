"""How alike two explanations are, and how complex one is: what the sanity checks measure.

All take batches (N, ...) and answer for each item, float64.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.stats

WINDOW = 7  # values of each axis over which `ssim` compares
LUMINANCE, CONTRAST = 0.01, 0.03  # K1 and K2 of Wang et al. 2004
BINS = 100  # of `histogram_entropy`


def _rows(values: np.ndarray) -> np.ndarray:
    """(N, ...) -> (N, values of an item), float64."""
    return values.reshape(len(values), -1).astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) cosine of the angle between the items of two batches (N, ...); nan where one is all zero."""
    a, b = _rows(a), _rows(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def rank_correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N,) Spearman's correlation of the values of two batches (N, ...) where the mask (N, ...) is true: padding, of
    which all relevance is zero in both, would pass for agreement. nan where one has equal values only."""
    found = []
    for one, other, mask in zip(_rows(a), _rows(b), where.reshape(len(where), -1), strict=True):
        ranks = [scipy.stats.rankdata(values[mask]) for values in (one, other)]
        flat = any(len(r) == 0 or r.min() == r.max() for r in ranks)
        found.append(np.nan if flat else np.corrcoef(*ranks)[0, 1])
    return np.array(found)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) structural similarity of two batches (N, C, H, W), each item divided by its largest magnitude.

    Wang et al. 2004, eq. 13 with uniform windows of `WINDOW` along every axis that is as long (along time alone for
    waveforms), sample covariances, a range of 1; the mean over the windows that lie inside.
    """
    found = []
    for one, other in zip(a.astype(np.float64), b.astype(np.float64), strict=True):
        x, y = (values / (np.abs(values).max() or 1) for values in (one, other))
        size = [WINDOW if length >= WINDOW else 1 for length in x.shape]
        count = np.prod(size)

        def mean(values: np.ndarray, size: list[int] = size) -> np.ndarray:
            return scipy.ndimage.uniform_filter(values, size)

        unbiased = count / (count - 1)
        mx, my = mean(x), mean(y)
        vx, vy = unbiased * (mean(x * x) - mx * mx), unbiased * (mean(y * y) - my * my)
        both = unbiased * (mean(x * y) - mx * my)
        c1, c2 = LUMINANCE**2, CONTRAST**2
        similar = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        inside = tuple(slice(s // 2, length - s // 2) for s, length in zip(size, x.shape, strict=True))
        found.append(similar[inside].mean())
    return np.array(found)


def histogram_entropy(a: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(N,) entropy, in nats, of the histogram of each item's values between its least and its largest: the complexity
    of efficient MPRT (Hedstroem et al. 2023)."""
    return np.array([scipy.stats.entropy(np.histogram(values, bins=bins)[0]) for values in _rows(a)])
