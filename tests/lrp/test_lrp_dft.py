"""DFT-LRP by FFTs against its definition with dense matrices, conservation, and sinusoids whose place is known."""

import numpy as np
import pytest
import reference
import scipy.signal

from lrp import LRPError, dft


@pytest.mark.parametrize("count", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.01, 0.7])
def test_dft_relevance_equals_the_dense_layer(count, silent, ridge):
    rng = np.random.default_rng(count)
    x, R = rng.normal(size=(3, count)), rng.normal(size=(3, count))
    x[1] *= 1000  # every waveform has a ridge of its own
    if silent:
        x[:, count // 2 :] = 0
    found = dft.dft_relevance(x, R, ridge)
    assert found.shape == (3, count // 2 + 1)
    for n in range(3):
        wanted = reference.dft_relevance(x[n], R[n], ridge)
        np.testing.assert_allclose(found[n], wanted, rtol=1e-9, atol=1e-9 * max(np.abs(wanted).max(), 1))
        d = reference.ridge_width(x[n], ridge)
        np.testing.assert_allclose(dft.ridge_width(x, ridge)[n, 0], d, rtol=1e-12)
        there = x[n] != 0
        carried = (R[n] * x[n] ** 2)[there] / (x[n] ** 2 + d**2)[there]
        np.testing.assert_allclose(found[n].sum(), carried.sum(), rtol=1e-9, atol=1e-9)


WINDOWS = [
    (20, "hann", 8, 2),
    (23, "hann", 7, 3),
    (16, "rectangle", 4, 4),
    (17, "hamming", 6, 6),
    (9, "rectangle", 12, 5),
    (12, np.array([1.0, 2, 3, 2, 1]), 5, 2),
]


@pytest.mark.parametrize(("count", "window", "length", "hop"), WINDOWS)
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_stdft_relevance_equals_the_dense_layer(count, window, length, hop, ridge):
    rng = np.random.default_rng(length)
    x, R = rng.normal(size=count), rng.normal(size=count)
    found = dft.stdft_relevance(x, R, window, length, hop, ridge=ridge)
    wanted = reference.stdft_relevance(x, R, dft.window_values(window, length), hop, ridge)
    frequencies, times = dft.stdft_axes(count, length, hop, 8000)
    assert found.shape == wanted.shape == (len(frequencies), len(times))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    np.testing.assert_allclose(found.sum(), dft.dft_relevance(x, R, ridge).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("count", "window", "length", "hop"), [(24, "rectangle", 8, 4), (24, "halfsine", 8, 4), (21, "halfsine", 6, 3)]
)
def test_the_authors_definition(count, window, length, hop):
    """Frames from 0, a DFT over all samples for each of them, their two windows and their stabiliser."""
    rng = np.random.default_rng(count + length)
    x, R = rng.normal(size=(2, count)), rng.normal(size=(2, count))
    found = dft.stdft_relevance(x, R, window, length, hop, "full")
    values = {"rectangle": np.ones(length), "halfsine": np.sin(np.pi / length * (np.arange(length) + 0.5))}[window]
    for n in range(2):
        wanted = reference.authors_stdft_relevance(x[n], R[n], values, hop)
        np.testing.assert_allclose(found[n], wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    frequencies, times = dft.stdft_axes(count, length, hop, 8000, "full")
    assert found.shape[1:] == (len(frequencies), len(times))
    np.testing.assert_allclose(times, [(m * hop + (length - 1) / 2) / 8000 for m in range(len(times))])
    np.testing.assert_allclose(frequencies, np.arange(count // 2 + 1) * 8000 / count)


def test_frames_sum_alike_in_both_variants():
    """Of one frame both hand over sum_n R w_m / W; between frequencies they share it out differently."""
    rng = np.random.default_rng(2)
    x, R = rng.normal(size=40), rng.normal(size=40)
    for variant in dft.VARIANTS:
        found = dft.stdft_relevance(x, R, "halfsine", 10, 5, variant, ridge=0)
        window, cover = np.sin(np.pi * (np.arange(10) + 0.5) / 10), np.zeros(60)
        starts = range(-5, 40, 5) if variant == "local" else range(0, 31, 5)
        for start in starts:
            cover[start + 10 : start + 20] += window  # sample 0 is at place 10
        for m, start in enumerate(starts):
            own = sum(R[n] * window[n - start] / cover[n + 10] for n in range(40) if 0 <= n - start < 10)
            np.testing.assert_allclose(found[:, m].sum(), own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("length", "hop", "count"), [(455, 35, 8000), (400, 160, 6400), (7, 7, 20)])
def test_frames_lie_on_the_spectrograms_grid(length, hop, count):
    """As scipy's spectrogram with centred windows: as many frames, the same centres; the study's are 230."""
    _, times, spectrum = scipy.signal.stft(np.zeros(count), 8000, "boxcar", length, length - hop)
    starts = dft.frame_starts(count, length, hop)
    assert len(starts) == spectrum.shape[1] and (length, len(starts)) != (455, 228)
    np.testing.assert_allclose(dft.stdft_axes(count, length, hop, 8000)[1], times, rtol=1e-12)
    np.testing.assert_array_equal(starts + length // 2, np.arange(len(starts)) * hop)


@pytest.mark.parametrize("variant", dft.VARIANTS)
@pytest.mark.parametrize("length", [45, 40])
def test_a_click_lies_at_its_time(variant, length):
    x = np.zeros(300)
    x[133] = 1
    weight = dft.stdft_relevance(x, x, "halfsine", length, 1, variant).sum(axis=0)
    _, times = dft.stdft_axes(300, length, 1, 8000, variant)
    # the middle of a window of even length lies between two samples
    np.testing.assert_allclose((weight * times).sum() / weight.sum(), 133 / 8000, atol=0.501 / 8000)


def test_one_second_conserves_and_needs_no_large_matrix():
    rng = np.random.default_rng(0)
    x, R = rng.normal(size=(2, 1, 1, 8000)), rng.normal(size=(2, 1, 1, 8000))
    np.testing.assert_allclose(dft.dft_relevance(x, R, 0).sum(axis=-1), R.sum(axis=-1), rtol=1e-6)
    found = dft.stdft_relevance(x, R, "hann", 455, 35, ridge=0)
    assert found.shape == (2, 1, 1, 228, 230)
    np.testing.assert_allclose(found.sum(axis=(-1, -2)), R.sum(axis=-1), rtol=1e-6)


def test_relevance_of_nearly_silent_samples_does_not_drown_the_rest():
    """A tone that speaks for the class, and a little relevance on samples that are a millionth as loud: LRP-0 makes
    noise of it, whose sum is right; with the ridge the tone is found and the little that stayed behind is told."""
    time = np.arange(8000) / 8000
    x = np.sin(2 * np.pi * 440 * time + 0.1) * (time < 0.5)
    rng = np.random.default_rng(3)
    x[4000:] = 1e-6 * rng.normal(size=4000)
    R = np.where(time < 0.5, x**2, 1e-3 * np.abs(rng.normal(size=8000)))
    noise, found = dft.dft_relevance(x, R, 0), dft.dft_relevance(x, R)
    assert dft.kept_share(x, R, 0) == pytest.approx(1) and dft.cancellation(noise) > 100
    assert dft.cancellation(found) < 2 and found.argmax() == 440
    assert dft.kept_share(x, R) == pytest.approx((x**2)[:4000].sum() / R.sum(), rel=2e-3)
    assert dft.stdft_relevance(x, R, "hann", 455, 35).sum() == pytest.approx(found.sum(), rel=1e-9)


def test_measures_by_hand():
    assert dft.cancellation([3.0, -1.0, 0.5]) == pytest.approx(4.5 / 2.5)
    assert dft.cancellation([1.0, -1.0]) == np.inf and np.isnan(dft.cancellation([0.0, 0.0]))
    assert np.isnan(dft.kept_share([1.0], [0.0]))
    # d = 0.5 of the loud ones, which are all 2: 1; parts of 4/5 of 3 and 1, and none of what lies on silence
    assert dft.kept_share([2.0, -2.0, 0.0], [3.0, -1.0, 4.0], ridge=0.5) == pytest.approx(0.8 * 4 / 8)
    assert not dft.dft_relevance(np.zeros(8), np.ones(8)).any()


def test_a_sinusoid_is_where_it_should_be():
    time = np.arange(8000) / 8000
    low, high = np.sin(2 * np.pi * 500 * time + 0.1), np.sin(2 * np.pi * 2000 * time + 0.2)
    x = low + 0.5 * high
    # a linear model that listens to the high tone alone: score <high, x>, relevance high * x
    found = dft.dft_relevance(x, high * x, ridge=0)
    frequencies = dft.dft_frequencies(8000, 8000)
    assert frequencies[found.argmax()] == 2000
    np.testing.assert_allclose(found[frequencies == 2000] / (high * x).sum(), 1, rtol=1e-6)
    stable = dft.dft_relevance(x, high * x)  # near its zero crossings some of a waveform's relevance stays behind
    assert frequencies[stable.argmax()] == 2000 and 0.9 < stable[2000] / (high * x).sum() < 1
    spectrum = dft.stdft_relevance(x, high * x, "hann", 400, 100)
    axis, _ = dft.stdft_axes(8000, 400, 100, 8000)
    assert axis[spectrum.sum(axis=1).argmax()] == 2000


def test_errors():
    x = np.ones(10)
    for call, message in (
        (lambda: dft.dft_relevance(x, np.ones(9)), "of one shape"),
        (lambda: dft.stdft_relevance(x, x, "triangle", 4, 2), "one of hann, hamming, rectangle, halfsine"),
        (lambda: dft.stdft_relevance(x, x, "hann", 4, 5), "hop: expected 1 to .* 4 samples, got 5"),
        (lambda: dft.stdft_relevance(x, x, "hann", 4, 4), "no window covers"),
        (lambda: dft.stdft_relevance(x, x, np.ones(3), 4, 2), r"expected shape \(4,\)"),
        (lambda: dft.stdft_relevance(x, x, "halfsine", 4, 4, "full"), "no window covers"),
        (lambda: dft.stdft_relevance(x, x, "hann", 4, 2, "theirs"), "one of local, full"),
        (lambda: dft.dft_relevance(x, x, -1), "at least 0"),
    ):
        with pytest.raises(LRPError, match=message):
            call()


def test_a_sample_that_the_authors_addend_makes_zero_carries_nothing():
    """Their c = R / (x + 1e-6) has no value there; everything else is as without that sample's relevance."""
    rng = np.random.default_rng(0)
    x, R = rng.normal(size=(2, 16))
    x[5] = -1e-6
    silent = R.copy()
    silent[5] = 0
    for _ in range(9):
        before = [np.full(16, np.nan) for _ in range(9)]
        del before  # memory that was somebody else's, where nothing is written
        found = dft.stdft_relevance(x, R, "rectangle", 4, 4, "full")
        np.testing.assert_allclose(found, dft.stdft_relevance(x, silent, "rectangle", 4, 4, "full"), rtol=1e-12)
    assert np.isfinite(found).all() and np.abs(found).max() > 0.1
