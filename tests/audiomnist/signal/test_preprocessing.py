"""preprocessing_data: the paper's formulas against slow float64 twins and the libraries that upstream used."""

import math
import os
from pathlib import Path

import h5py
import librosa
import numpy as np
import pytest
import scipy.signal
from small_corpus import speech, wav_file

from audiomnist.preprocessing import store
from audiomnist.signal.inputs import (
    NETWORKS,
    embed,
    network_inputs,
    padded_signal,
    padding_offset,
    resample,
    scaled_waveform,
    spectrogram_db,
)
from audiomnist.signal.wav import RecordingError
from tests.needs import need

FSDD = Path(os.environ.get("FSDD", Path(__file__).resolve().parents[4] / "shared/data/fsdd"))
DB = 0.01  # dB that the spectrogram may differ
RELATIVE = 1e-5  # of the largest value, that the waveform may differ


# ---------------------------------------------------------------------------------------------------------------------
# the twins: the paper's formulas over plain sums and matrices, float64


def twin_resample(x, target):
    """Fourier interpolation as the textbook has it: x_hat(f) at every |f| below both Nyquist frequencies."""
    n = len(x)
    turn_in, turn_out = np.exp(-2j * np.pi * np.arange(n) / n), np.exp(2j * np.pi * np.arange(target) / target)
    y = np.zeros(target)
    half = min(n, target) / 2
    for f in range(0, math.floor(half) + 1):
        coefficient = np.sum(x * turn_in[f * np.arange(n) % n]) / n
        wave = (coefficient * turn_out[f * np.arange(target) % target]).real
        if f == 0:
            y += wave
        elif f == half and target >= n:
            y += wave  # the two halves of the Nyquist bin share what one had
        else:
            y += 2 * wave
    return y


def twin_spectrogram(x):
    """230 centred Hann frames, 228 bins from a DFT matrix, the crop, decibels relative to the maximum."""
    n, hop = 455, 455 - 420
    window = np.array([math.sin(math.pi * i / n) ** 2 for i in range(n)])
    dft = np.exp(-2j * np.pi * np.arange(n) / n)[np.outer(np.arange(228), np.arange(n)) % n]
    extended = np.concatenate([np.zeros(n // 2), x, np.zeros(n)])
    frames = np.stack([window * extended[frame * hop : frame * hop + n] for frame in range(230)], axis=1)
    magnitude = np.hypot(dft.real @ frames, dft.imag @ frames) / window.sum()
    magnitude = magnitude[0:227, 2:-1]
    decibels = 20 * np.log10(np.maximum(1e-5, magnitude)) - 20 * np.log10(max(1e-5, magnitude.max()))
    return np.maximum(decibels, decibels.max() - 80)


def twin_waveform(x):
    """The signed 95th percentile by sorting and linear interpolation."""
    ordered = sorted(x)
    position = 0.95 * (len(x) - 1)
    low = math.floor(position)
    percentile = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
    return np.array(x) / (percentile + 0.001)


def upstream_inputs(samples, rate, offset):
    """Upstream's own steps with upstream's libraries: librosa, scipy.signal, float32 samples, no twin of ours."""
    y = librosa.resample(samples.astype(np.float32), orig_sr=rate, target_sr=8000, res_type="scipy")
    padded = np.zeros(8000)
    padded[offset : offset + len(y)] = y
    _, _, z = scipy.signal.stft(padded, 8000, window="hann", nperseg=455, noverlap=420)
    assert z.shape == (228, 230)
    spectrogram = librosa.amplitude_to_db(np.abs(z[0:227, 2:-1]), ref=np.max)
    return spectrogram, padded / (np.percentile(padded, 95) + 0.001)


def assert_close(spectrogram, waveform, wanted_spectrogram, wanted_waveform):
    assert np.abs(spectrogram - wanted_spectrogram).max() <= DB
    assert np.abs(waveform - wanted_waveform).max() <= RELATIVE * np.abs(wanted_waveform).max()


# ---------------------------------------------------------------------------------------------------------------------
# step by step


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("length", [8, 9, 101, 640, 1009, 1250])
def test_resampling_is_fourier_interpolation(rate, length):
    x = np.random.default_rng(length).standard_normal(length)
    y = resample(x, rate)
    assert y.dtype == np.float64 and len(y) == math.ceil(length * 8000 / rate)
    np.testing.assert_allclose(y, twin_resample(x, len(y)), rtol=0, atol=1e-9)


def test_a_recording_of_prime_length_is_resampled_in_double_precision():
    x = speech(1, 47981 / 48000, 48000).astype(np.float64)
    assert len(x) == 47981
    wanted = twin_resample(x, 7997)
    np.testing.assert_allclose(resample(x, 48000), wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())


def test_the_offset_is_a_function_of_seed_and_name():
    offsets = [padding_offset(f"{d}_01_{r}.wav", 3000, 5) for d in range(10) for r in range(400)]
    assert offsets == [padding_offset(f"{d}_01_{r}.wav", 3000, 5) for d in range(10) for r in range(400)]
    assert offsets != [padding_offset(f"{d}_01_{r}.wav", 3000, 6) for d in range(10) for r in range(400)]
    # uniform over [0, 5000): the mean of 4,000 draws has a standard error of 23
    assert min(offsets) >= 0 and max(offsets) < 5000 and max(offsets) > 4950
    assert abs(np.mean(offsets) - 2499.5) < 5 * 23
    assert padding_offset("x", 7999) == 0  # [0, 1) holds only 0
    assert padding_offset("x", 8000) == 0
    # fixed for ever: changing it would change everybody's data
    assert [padding_offset("0_01_0.wav", n, 0) for n in (1, 4000, 7900)] == [4846, 3090, 90]


def test_embedding_keeps_the_signal_and_adds_zeros():
    signal = np.arange(1.0, 4.0)
    padded = embed(signal, 17)
    assert padded.shape == (8000,) and padded.sum() == 6
    np.testing.assert_array_equal(padded[17:20], signal)
    np.testing.assert_array_equal(embed(np.ones(8000), 0), 1)


@pytest.mark.parametrize("kind", ["speech", "noise", "impulse", "tone", "edges"])
def test_the_spectrogram_is_the_papers(kind):
    rng = np.random.default_rng(3)
    t = np.arange(8000) / 8000
    padded = {
        "speech": embed(speech(4).astype(float), 2000),
        "noise": rng.standard_normal(8000) * 1000,
        "impulse": np.where(np.arange(8000) == 4321, 30000.0, 0),
        "tone": 20000 * np.sin(2 * np.pi * 1000 * t),
        "edges": np.where((t < 0.01) | (t > 0.99), 5000.0, 0),
    }[kind]
    found = spectrogram_db(padded)
    assert found.shape == (227, 227) and found.dtype == np.float32
    assert found.max() == 0 and found.min() >= -80
    assert np.abs(found - twin_spectrogram(padded)).max() <= DB


@pytest.mark.parametrize("first", [0, 296, 297, 298, 331, 332, 4000, 7719, 7720, 7800, 7989])
def test_frames_that_hear_nothing_are_silent_and_no_other(first):
    """Ten samples anywhere, most of all where a frame just reaches them or just does not."""
    padded = embed(np.full(10, 20000.0), first)
    assert np.abs(spectrogram_db(padded) - twin_spectrogram(padded)).max() <= DB


def test_the_spectrogram_of_silence_is_flat():
    np.testing.assert_array_equal(spectrogram_db(np.zeros(8000)), 0)
    np.testing.assert_array_equal(twin_spectrogram(np.zeros(8000)), 0)


def test_a_tone_lies_at_its_frequency():
    tone = 20000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    assert np.argmax(spectrogram_db(tone)[:, 113]) == round(1000 * 455 / 8000)


def test_a_quiet_signal_meets_the_amplitude_floor():
    """Below 1e-5 decibels are not told apart: a signal whose maximum is 4e-5 has a range of 12 dB, not of 80."""
    padded = 8e-5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    found = spectrogram_db(padded)
    assert np.abs(found - twin_spectrogram(padded)).max() <= DB
    assert -13 < found.min() < -11


def test_the_percentile_is_signed_and_over_the_padded_second():
    padded = embed(speech(5).astype(float), 100)
    found = scaled_waveform(padded)
    assert found.shape == (8000,) and found.dtype == np.float32
    wanted = twin_waveform(padded)
    assert np.abs(found - wanted).max() <= RELATIVE * np.abs(wanted).max()
    assert np.abs(found - padded / (np.percentile(np.abs(padded), 95) + 0.001)).max() > 0.1


@pytest.mark.parametrize(
    "signal, message",
    [
        (np.full(6000, -1.0), "95th percentile well above zero .*, got 0"),  # nothing is positive
        (np.full(8000, -1.0), "95th percentile well above zero .*, got -1"),  # and nothing is padding
        (np.ones(399), "95th percentile well above zero .*, got 0"),  # too few to reach the percentile
        (np.r_[np.full(401, 1e-6), np.full(10, 30000.0)], "which scales the peak to"),  # positive, and as harmful
        (np.r_[np.full(401, 1e-6), np.full(10, -30000.0)], "which scales the peak to"),  # and so downwards
    ],
)
def test_a_percentile_that_would_ruin_the_training_is_refused(signal, message):
    with pytest.raises(RecordingError, match=message):
        scaled_waveform(embed(signal, 0))


def test_the_offset_of_the_percentile_is_a_thousandth():
    """401 ones of 8000 samples: the percentile is 1, so each becomes 1 / 1.001; of 400 it is 0.05."""
    found = scaled_waveform(embed(np.ones(401), 0))
    np.testing.assert_allclose(found, embed(np.full(401, 1 / 1.001), 0), rtol=1e-6)
    found = scaled_waveform(embed(np.ones(400), 0))
    np.testing.assert_allclose(found, embed(np.full(400, 1 / (0.05 + 0.001)), 0), rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_scaled_peaks_are_refused_beyond_ten_thousand(sign):
    """The percentile is 1 and the offset 0.001: a sample of 10,009 stays below 10,000, one of 10,011 does not."""
    below, above = (embed(np.r_[np.ones(500), sign * peak], 0) for peak in (10_009.0, 10_011.0))
    assert abs(scaled_waveform(below)[500]) == pytest.approx(10_009 / 1.001)
    with pytest.raises(RecordingError, match="scales the peak to 1e\\+04"):
        scaled_waveform(above)


# ---------------------------------------------------------------------------------------------------------------------
# the whole way


WHOLE = [(48000, 0.31234), (48000, 47998 / 48000), (44100, 0.3), (8000, 0.4), (8000, 1)]


@pytest.mark.parametrize("rate, seconds", WHOLE)
def test_both_inputs_equal_twins_and_upstreams_libraries(rate, seconds):
    samples = speech(7, seconds, rate)
    inputs = network_inputs(wav_file(samples.tobytes(), rate), "3_01_4.wav", seed=9)
    length = math.ceil(len(samples) * 8000 / rate)
    offset = padding_offset("3_01_4.wav", length, 9)
    padded = embed(twin_resample(samples.astype(float), length) if rate != 8000 else samples, offset)
    spectrogram, waveform = inputs["AlexNet"], inputs["AudioNet"]
    assert spectrogram.shape == (1, 1, 227, 227) and waveform.shape == (1, 1, 1, 8000)
    assert_close(spectrogram[0, 0], waveform[0, 0, 0], twin_spectrogram(padded), twin_waveform(padded))
    # upstream resampled in float32, whose rounding is 0.01 dB near the floor of some spectrograms
    wanted = upstream_inputs(samples, rate, offset)
    assert np.abs(spectrogram[0, 0] - wanted[0]).max() <= 3 * DB
    assert np.abs(waveform[0, 0, 0] - wanted[1]).max() <= RELATIVE * np.abs(wanted[1]).max()


def test_real_recordings_equal_the_twins():
    need("fsdd", FSDD.is_dir(), f"NO REAL RECORDINGS COMPARED: {FSDD} is not there (set FSDD)")
    for path in sorted(FSDD.glob("0*/[37]_*_13.wav")):
        inputs = network_inputs(path, path.name)
        padded = padded_signal(path, path.name)
        spectrogram, waveform = inputs["AlexNet"][0, 0], inputs["AudioNet"][0, 0, 0]
        assert_close(spectrogram, waveform, twin_spectrogram(padded), twin_waveform(padded))


REFUSED = {
    "silence": (wav_file(bytes(8000)), r"silence \(4000 samples, all 0\)"),
    "constant": (wav_file(np.full(4000, 77, "<i2").tobytes()), r"silence \(4000 samples, all 77\)"),
    "long": (wav_file(speech(1, 1.01).tobytes()), "expected at most 1 s, got 1.010 s"),
    "long at 48 kHz": (wav_file(speech(1, 48001 / 48000, 48000).tobytes(), 48000), "at most 1 s, got 1.000 s"),
    "low rate": (wav_file(speech(1, 0.5, 4000).tobytes(), 4000), "a sample rate of 8000 Hz or more, got 4000 Hz"),
    "negative": (wav_file((-np.abs(speech(1))).tobytes()), "95th percentile"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_gate(name):
    blob, message = REFUSED[name]
    with pytest.raises(RecordingError, match=message):
        network_inputs(blob, "0_01_0.wav")


# ---------------------------------------------------------------------------------------------------------------------
# the HDF5 file


@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_hdf5_file_holds_what_was_put_in(tmp_path, network, columns):
    shape = NETWORKS[network].shape
    data = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    label = list(range(3, 3 + columns))
    path = tmp_path / "a.hdf5"
    path.write_bytes(store.hdf5_bytes(network, data, label))
    with h5py.File(path, "r") as file:
        assert set(file) == {"data", "label"}
        assert file["data"].dtype == file["label"].dtype == np.dtype("<f4")
        np.testing.assert_array_equal(file["data"][:], data)
        np.testing.assert_array_equal(file["label"][:], [label])
        wanted = {"sample_rate": 8000}
        if network == "AlexNet":
            wanted |= {"window": 455, "hop": 35, "first_bin": 0, "first_frame": 2}
        assert dict(file.attrs) == wanted
    assert path.read_bytes() == store.hdf5_bytes(network, data, label)


def test_the_files_take_at_most_half_of_upstreams_space(tmp_path):
    ours = theirs = 0
    for network, kind in NETWORKS.items():
        ours += len(store.hdf5_bytes(network, np.zeros(kind.shape), [0, 0]))
        with h5py.File(tmp_path / network, "w") as file:
            file["data"] = np.zeros(kind.shape)
            file["label"] = np.array([[0, 0]])
        theirs += (tmp_path / network).stat().st_size
    assert ours <= theirs / 2
