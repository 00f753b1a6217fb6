"""Resampling by the Fourier method, as `scipy.signal.resample` defines it, at the price of quick lengths.

The signal counts as one period, and its spectrum is cut at the lower of both Nyquist frequencies. From 48 to 8 kHz that
takes the lowest twelfth of a transform as long as the recording. Recordings have whatever length they have, and
transforms of lengths with large prime factors are slow; so it is done as a non-uniform transform of type 2 (Barnett,
Magland and af Klinteberg 2019): the samples are divided by the transform of a kernel and transformed at a quick length,
and the kernel interpolates between the frequencies of that. Its numbers are single, which costs less than 1e-6 of
the largest sample.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft

LONG = 4096  # samples from which interpolating is quicker than a transform of an awkward length
OVERSAMPLING = 8 / 5  # of the quick length over the signal's, at least; less would divide by smaller numbers
TAPS = 10  # frequencies that are interpolated between: an error of 1e-8 of the largest bin
WIDTH = 0.97 * np.pi * TAPS * (1 - 1 / (2 * OVERSAMPLING))  # of the kernel
POWERS = 9  # of the polynomials that stand for it between two frequencies: an error of 1e-9


def kernel(u: np.ndarray) -> np.ndarray:
    """exp(WIDTH (sqrt(1 - (2 u / TAPS)^2) - 1)), the "exponential of semicircle", for |u| <= TAPS / 2."""
    return np.exp(WIDTH * (np.sqrt(np.maximum(1 - (2 * u / TAPS) ** 2, 0)) - 1))


def quick_length(count: int) -> int:
    """The least length that oversamples enough among 4, 5, 6, 7 and 8 times the powers of two."""
    least = int(np.ceil(OVERSAMPLING * count))
    power = 2 ** max(3, (least - 1).bit_length() - 3)
    return next(quarters * power for quarters in range(4, 9) if quarters * power >= least)


@cache
def _correction(length: int) -> np.ndarray:
    """One over the kernel's Fourier transform at 0 .. 3/8 length, over `length`, float32.

    The transform is integrated by Gauss-Legendre quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    u, weights = nodes[32:] * TAPS / 2, weights[32:] * TAPS  # the positive half counts twice
    angles = 2 * np.pi / length * np.outer(np.arange(length * 3 // 8 + 1), u)
    return (1 / (np.cos(angles) @ (weights * kernel(u)))).astype(np.float32)


@cache
def _part_turns(length: int) -> np.ndarray:
    """exp(-2 pi i bin / length) for the lower half of the bins of a real transform, complex64."""
    return np.exp(-2j * np.pi / length * np.arange(length // 4 + 1)).astype(np.complex64)


@cache
def _polynomials() -> np.ndarray:
    """(TAPS, POWERS) float32: a place (x + 1) / 2 beyond a grid point, -1 <= x < 1, weighs tap t by sum_d x^d [t, d].

    The kernel's interpolation at Chebyshev's nodes.
    """
    x = np.cos(np.pi * (np.arange(POWERS) + 0.5) / POWERS)
    distances = np.arange(TAPS) + 1 - TAPS // 2 - (x[:, None] + 1) / 2
    series = np.polynomial.chebyshev.chebfit(x, kernel(distances), POWERS - 1)
    powers = np.zeros((POWERS, POWERS))  # column n: the coefficients of Chebyshev's polynomial n
    for n in range(POWERS):
        powers[: n + 1, n] = np.polynomial.chebyshev.cheb2poly(np.eye(POWERS)[n, : n + 1])
    return np.ascontiguousarray((powers @ series).T, np.float32)


def _weights(x: np.ndarray) -> np.ndarray:
    """The weights (TAPS, N) of places x (N,) as `_polynomials` counts them: a product, not N TAPS exponentials.

    Both float32.
    """
    powers = np.empty((POWERS, len(x)), np.float32)
    powers[0] = 1
    for degree in range(1, POWERS):
        np.multiply(powers[degree - 1], x, out=powers[degree])
    return _polynomials() @ powers


def _turns(angle: float, count: int) -> np.ndarray:
    """exp(i angle k), k = 0 .. count - 1, complex64, from the products of two short tables."""
    side = int(np.sqrt(count)) + 1
    steps = 1j * angle * np.arange(side)
    coarse, fine = np.exp(side * steps).astype(np.complex64), np.exp(steps).astype(np.complex64)
    return np.multiply.outer(coarse, fine).ravel()[:count]


def low_spectrum(samples: np.ndarray, bins: int) -> np.ndarray:
    """The first `bins` bins of the discrete Fourier transform of samples (N,), complex64; at most N / 6 of them."""
    samples = samples.astype(np.float32, copy=False)
    count = len(samples)
    length = quick_length(count)
    correction = _correction(length)
    half = count // 2  # the signal is laid around the origin, where the kernel's transform is large
    ring = np.zeros(length, np.float32)
    np.multiply(samples[half:], correction[: count - half], out=ring[: count - half])
    np.multiply(samples[:half], correction[half:0:-1], out=ring[length - half :])

    places = np.arange(bins) * (length / count)  # of the wanted frequencies among the quick transform's
    below = np.floor(places)
    weights = _weights((2 * (places - below) - 1).astype(np.float32))
    first = below.astype(np.intp) + (1 - TAPS // 2)

    needed = max(first[-1] + TAPS, TAPS + 1)
    interleaved = 4 if needed <= length // 8 else 2  # parts whose transforms reach as far as is needed
    parts = scipy.fft.rfft(ring.reshape(-1, interleaved).T)[:, :needed]
    turn = _part_turns(length)[:needed]
    low = parts[-1]  # each part begins one sample after the one before: their sum by Horner's scheme
    for part in parts[-2::-1]:
        low = low * turn
        low += part
    around = np.concatenate([low[TAPS:0:-1].conj(), low])  # negative frequencies are conjugates

    first += TAPS
    spectrum = np.zeros(bins, np.complex64)
    for tap, weight in enumerate(weights):
        spectrum += around[tap:].take(first) * weight
    return spectrum * _turns(-2 * np.pi * half / count, bins)


def fourier_resample(samples: np.ndarray, target: int) -> np.ndarray:
    """Samples (N,) -> (target,) over the same time, by the Fourier method, float64.

    Where a long signal gets a third of its samples or fewer they have single precision.

    The signal counts as one period; the spectrum is cut (or extended with zeros) at the lower Nyquist frequency, whose
    own bin keeps both halves' energy, as in `scipy.signal.resample`.
    """
    count = len(samples)
    kept = min(count, target)
    if count >= LONG and 3 * target <= count:
        spectrum = low_spectrum(samples, kept // 2 + 1).astype(np.complex128)  # single is no quicker here
    else:
        spectrum = scipy.fft.rfft(samples)[: kept // 2 + 1]
    if kept % 2 == 0 and target != count:
        spectrum[kept // 2] *= 2.0 if target < count else 0.5
    return scipy.fft.irfft(spectrum, target) * (target / count)
