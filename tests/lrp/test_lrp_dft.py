"""DFT-LRP by FFTs against its definition with dense matrices, conservation, and sinusoids whose place is known."""

import numpy as np
import pytest
import reference

from lrp import LRPError, dft


@pytest.mark.parametrize("count", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("silent", [False, True])
def test_dft_relevance_equals_the_dense_layer(count, silent):
    rng = np.random.default_rng(count)
    x, R = rng.normal(size=(3, count)), rng.normal(size=(3, count))
    if silent:
        x[:, count // 2 :] = 0
    found = dft.dft_relevance(x, R)
    assert found.shape == (3, count // 2 + 1)
    for n in range(3):
        wanted = reference.dft_relevance(x[n], R[n])
        np.testing.assert_allclose(found[n], wanted, rtol=1e-9, atol=1e-9 * max(np.abs(wanted).max(), 1))
    np.testing.assert_allclose(found.sum(axis=-1), np.where(x != 0, R, 0).sum(axis=-1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("count", "window", "length", "hop"),
    [
        (20, "hann", 8, 2),
        (23, "hann", 7, 3),
        (16, "rectangular", 4, 4),
        (17, "hamming", 6, 6),
        (9, "rectangular", 12, 5),
        (12, np.array([1.0, 2, 3, 2, 1]), 5, 2),
    ],
)
def test_stdft_relevance_equals_the_dense_layer(count, window, length, hop):
    rng = np.random.default_rng(length)
    x, R = rng.normal(size=count), rng.normal(size=count)
    found = dft.stdft_relevance(x, R, window, length, hop)
    wanted = reference.stdft_relevance(x, R, dft.window_values(window, length), hop)
    frequencies, times = dft.stdft_axes(count, length, hop, 8000)
    assert found.shape == wanted.shape == (len(frequencies), len(times))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    np.testing.assert_allclose(found.sum(), R.sum(), rtol=1e-9, atol=1e-9)


def test_one_second_conserves_and_needs_no_large_matrix():
    rng = np.random.default_rng(0)
    x, R = rng.normal(size=(2, 1, 1, 8000)), rng.normal(size=(2, 1, 1, 8000))
    np.testing.assert_allclose(dft.dft_relevance(x, R).sum(axis=-1), R.sum(axis=-1), rtol=1e-6)
    found = dft.stdft_relevance(x, R, "hann", 455, 35)
    assert found.shape[:4] == (2, 1, 1, 228)
    np.testing.assert_allclose(found.sum(axis=(-1, -2)), R.sum(axis=-1), rtol=1e-6)


def test_a_sinusoid_is_where_it_should_be():
    time = np.arange(8000) / 8000
    low, high = np.sin(2 * np.pi * 500 * time + 0.1), np.sin(2 * np.pi * 2000 * time + 0.2)
    x = low + 0.5 * high
    # a linear model that listens to the high tone alone: score <high, x>, relevance high * x
    found = dft.dft_relevance(x, high * x)
    frequencies = dft.dft_frequencies(8000, 8000)
    assert frequencies[found.argmax()] == 2000
    np.testing.assert_allclose(found[frequencies == 2000] / (high * x).sum(), 1, rtol=1e-6)
    spectrum = dft.stdft_relevance(x, high * x, "hann", 400, 100)
    axis, _ = dft.stdft_axes(8000, 400, 100, 8000)
    assert axis[spectrum.sum(axis=1).argmax()] == 2000


def test_errors():
    x = np.ones(10)
    for call, message in (
        (lambda: dft.dft_relevance(x, np.ones(9)), "equal shapes"),
        (lambda: dft.stdft_relevance(x, x, "triangle", 4, 2), "one of hann, hamming, rectangular"),
        (lambda: dft.stdft_relevance(x, x, "hann", 4, 5), "hop: 5 found"),
        (lambda: dft.stdft_relevance(x, x, "hann", 4, 4), "no window covers"),
        (lambda: dft.stdft_relevance(x, x, np.ones(3), 4, 2), r"\(4,\) wanted"),
    ):
        with pytest.raises(LRPError, match=message):
            call()
