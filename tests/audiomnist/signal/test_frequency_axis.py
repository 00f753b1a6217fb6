"""The frequency axis: scaled, and split into envelope and harmonics, beside slow twins and made-up voices."""

import numpy as np
import pytest

from audiomnist.signal import frequency_axis
from audiomnist.signal.frequency_axis import in_range, lifter, pitch_of, scale_frequency, split

HERTZ = np.arange(227) * 8000 / 455  # of the bins


def stretched(spectrogram, factor, fill):
    """A slow twin of `scale_frequency` for one (F, T): numpy's interpolation, column by column, float64."""
    bins = np.arange(len(spectrogram))
    columns = [np.interp(bins / factor, bins, column.astype(np.float64), right=np.nan) for column in spectrogram.T]
    result = np.array(columns).T
    return np.where(np.isnan(result), fill, result)


def voice(pitch, formants=(600, 1700), ripple=12, frames=3):
    """A spectrogram (227, frames) in dB: two formants of 300 Hz, and harmonics as a ripple of so many dB."""
    envelope = sum(25 * np.exp(-(((HERTZ - centre) / 300) ** 2) / 2) for centre in formants) - 45
    harmonics = ripple * np.cos(2 * np.pi * HERTZ / pitch)
    return np.repeat((envelope + harmonics)[:, None], frames, axis=1), envelope, harmonics


@pytest.mark.parametrize("factor", [1.5, 0.66, 1.0, 0.1, 3.7])
@pytest.mark.parametrize("fill", frequency_axis.FILLS)
def test_scaling_equals_its_slow_twin(factor, fill):
    data = np.random.default_rng(0).uniform(-80, 0, (2, 1, 227, 5)).astype(np.float32)
    scaled = scale_frequency(data, factor, fill)
    assert scaled.dtype == np.float32
    for item, result in zip(data[:, 0], scaled[:, 0], strict=True):
        empty = {"silence": item.min(), "repeat": item[-1:], "zero": 0}[fill]
        np.testing.assert_allclose(result, stretched(item, factor, empty), rtol=0, atol=1e-4)


def test_scaling_moves_a_tone_by_the_factor_and_refuses_nonsense():
    data = np.full((1, 1, 227, 3), -80, np.float32)
    data[:, :, 60] = 0
    assert scale_frequency(data, 1.5)[0, 0, :, 1].argmax() == 90
    assert scale_frequency(data, 0.66)[0, 0, :, 1].argmax() == 40  # 39.6 bins, to the nearest
    with pytest.raises(ValueError, match="factor: expected a positive number, got 0"):
        scale_frequency(data, 0)


def test_the_lifter_keeps_two_milliseconds_and_ends_at_two_and_a_half():
    """Coefficient n repeats every 2 * 227 / n bins, that is n / (2 * 227 * 17.58) s."""
    milliseconds = 1000 * np.arange(227) / (2 * 227 * 8000 / 455)
    kept = lifter()
    assert (kept[milliseconds <= 2] == 1).all() and (np.abs(kept[milliseconds >= 2.5]) < 1e-12).all()
    between = kept[(milliseconds > 2) & (milliseconds < 2.5)]
    assert len(between) == 4 and (np.diff(between) < 0).all() and 0 < between[-1] < between[0] < 1
    assert lifter(2, 2.25).tolist() == pytest.approx([1, 0.5])  # half way


@pytest.mark.parametrize("pitch", [80, 120, 210, 330])
def test_a_voice_is_split_into_what_it_was_made_of(pitch):
    data, envelope, harmonics = voice(pitch)
    found, rest = split(np.stack([data, data[:, ::-1]])[:, None])
    assert found.shape == rest.shape == (2, 1, 227, 3)
    np.testing.assert_allclose((found + rest)[0, 0], data)
    inner = slice(15, -15)  # at its ends a ripple that is cut off is no single quefrency
    np.testing.assert_allclose(found[0, 0, inner, 0], envelope[inner], atol=1.5)
    np.testing.assert_allclose(rest[0, 0, inner, 0], harmonics[inner], atol=1.5)


def test_the_transform_is_the_textbook_s():
    """The envelope by sums of cosines written out, DCT-II and its inverse."""
    data = np.random.default_rng(1).normal(size=(227, 2))
    n, k = np.meshgrid(np.arange(227), np.arange(227), indexing="ij")
    basis = np.cos(np.pi * n * (2 * k + 1) / (2 * 227))
    coefficients = 2 / 227 * basis @ data
    coefficients[0] /= 2
    wanted = basis.T @ (lifter()[:, None] * coefficients)
    np.testing.assert_allclose(split(data)[0], wanted, atol=1e-12)


@pytest.mark.parametrize("pitch", [70, 95, 120, 180, 210, 300, 390])
def test_the_pitch_of_a_made_up_voice(pitch):
    data = np.pad(voice(pitch, frames=6)[0] + 10, ((0, 0), (3, 3)), constant_values=-80)
    step = 1000 / (2 * 227 * 8000 / 455)  # ms
    assert 1000 / pitch_of(data) == pytest.approx(1000 / pitch, abs=step)


def test_what_is_made_lies_in_the_range_of_inputs():
    data = np.stack([np.linspace(-120, 10, 227)[:, None], np.linspace(-50, -5, 227)[:, None]])[:, None]
    found = in_range(data)
    assert found.max(axis=(1, 2, 3)).tolist() == [0, 0] and found.min(axis=(1, 2, 3)).tolist() == [-80, -45]
