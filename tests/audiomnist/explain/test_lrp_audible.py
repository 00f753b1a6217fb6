"""Audible relevance: formulas by hand, the inverse of the short-time spectrum, masks, WAV files."""

import io
import wave

import numpy as np
import pytest
import scipy.signal

from audiomnist.explain import audible
from lrp import LRPError


def test_formulas_by_hand():
    x, R = np.array([2.0, -1.0, 1.0, -4.0]), np.array([0.5, 1.0, -3.0, -1.0])
    wanted = {"relu(R)*x": [1, -1, 0, 0], "relu(x)*R": [1, 0, -3, 0], "R*x": [1, -1, -3, 4], "|R|*x": [1, -1, 3, -4]}
    assert set(wanted) == set(audible.FORMULAS) and audible.DEFAULT == "relu(R)*x"
    for name, values in wanted.items():
        found = audible.of_waveform(x, R, name)
        np.testing.assert_allclose(found * np.abs(values).max(), np.array(values) * np.abs(found).max(), atol=1e-12)
    np.testing.assert_array_equal(audible.of_waveform(x, -np.ones(4)), 0)


@pytest.fixture
def signal():
    return np.random.default_rng(0).normal(size=8000)


def test_spectrum_is_the_preprocessing_geometry(signal):
    """Equal to scipy's STFT with the paper's arguments, up to its scaling."""
    _, _, wanted = scipy.signal.stft(signal, 8000, window="hann", nperseg=455, noverlap=420)
    found = audible.spectrum(signal)
    frames = min(found.shape[1], wanted.shape[1])
    assert found.shape[0] == wanted.shape[0] == 228 and frames >= 229
    ratio = np.abs(found[:, :frames]) / np.maximum(np.abs(wanted[:, :frames]), 1e-9)
    np.testing.assert_allclose(ratio, audible._window(455).sum(), rtol=1e-6)


def test_inverse_gives_the_signal_back(signal):
    np.testing.assert_allclose(audible.inverse(audible.spectrum(signal), 8000), signal, atol=1e-10)


def test_relevance_everywhere_keeps_what_the_network_saw():
    time = np.arange(8000) / 8000
    signal = np.sin(2 * np.pi * 700 * time)
    found = audible.of_spectrogram(signal, np.ones((1, 227, 227)))
    np.testing.assert_allclose(found[400:7600], np.sqrt(2) * audible.LEVEL * signal[400:7600], atol=5e-4)


def test_sounds_are_equally_loud_while_they_last():
    """The RMS from the first to the last sample that can be heard, by hand; a click stops at the peak."""
    rng = np.random.default_rng(1)
    short, sparse = np.zeros(8000), np.zeros(8000)
    short[1000:1800] = rng.normal(size=800)
    sparse[500:7500:7] = rng.uniform(1, 2, size=1000)
    for signal, first, last in ((short, 1000, 1799), (sparse, 500, 7493), (-40 * sparse, 500, 7493)):
        found = audible.normalised(signal)
        assert np.sqrt((found[first : last + 1] ** 2).mean()) == pytest.approx(0.04, rel=1e-3)
        np.testing.assert_allclose(found / np.abs(found).max(), signal / np.abs(signal).max(), atol=1e-12)
    click = np.zeros(8000)
    click[[100, 4000]] = 1, -3
    assert np.abs(audible.normalised(click)).max() == pytest.approx(0.9)
    faint = np.concatenate([np.full(500, 1e-3), short, np.full(500, 1e-3)])  # noise 60 dB below does not count
    np.testing.assert_allclose(
        np.abs(audible.normalised(faint)).max(), np.abs(audible.normalised(short)).max(), rtol=0.02
    )
    assert not audible.normalised(np.zeros(10)).any()


def test_a_relevant_frame_sounds_at_its_time():
    """The first frame of the network's input is the third of the recording's, centred at sample 70."""
    signal = np.random.default_rng(2).normal(size=8000)
    relevance = np.zeros((1, 227, 227))
    relevance[0, :, 100] = 1
    heard = np.flatnonzero(np.abs(audible.of_spectrogram(signal, relevance)) > 1e-9)
    assert (heard[0] + heard[-1]) / 2 == pytest.approx(102 * 35, abs=2) and len(heard) < 455


def test_relevance_of_one_tone_leaves_that_tone():
    time = np.arange(8000) / 8000
    low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 2500 * time)
    relevance = np.full((1, 227, 227), -1.0)
    relevance[0, 100:] = 1  # above 1758 Hz
    found = audible.of_spectrogram(low + high, relevance)
    power = np.abs(np.fft.rfft(found)) ** 2
    assert power.argmax() == 2500 and power[400:600].sum() < 1e-4 * power.sum()


def test_wav_files(tmp_path):
    path = tmp_path / "a.wav"
    audible.write_wav(path, np.array([0.0, 0.5, -1.0, 1.0]))
    with wave.open(io.BytesIO(path.read_bytes())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [0, 16384, -32767, 32767]


def test_errors(signal):
    for call, message in (
        (lambda: audible.of_waveform(signal, signal, "x*x"), "one of relu"),
        (lambda: audible.of_waveform(signal, signal[:-1]), "as much relevance as waveform"),
        (lambda: audible.of_spectrogram(signal, np.ones((1, 229, 227))), "at most 228 frequencies"),
        (lambda: audible.of_spectrogram(signal, np.ones((1, 227, 227)), "relu(x)*R"), "without the sign"),
    ):
        with pytest.raises(LRPError, match=message):
            call()
