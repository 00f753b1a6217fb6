"""audiomnist.signal.wav against the standard library, SciPy and libsndfile, and what it says about broken files."""

import io
import re
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from small_corpus import speech, wav_file

from audiomnist.signal.wav import RecordingError, read_wav, to_int16, wav_bytes

SAMPLES = speech(1)


def test_sixteen_bits_equal_the_standard_librarys(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_file(SAMPLES.tobytes(), rate=48000))
    with wave.open(str(path)) as file:
        wanted = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        rate = file.getframerate()
    samples, found_rate = read_wav(path)
    assert samples.dtype == np.float64 and found_rate == rate == 48000
    np.testing.assert_array_equal(samples, wanted)


def test_samples_beyond_16_bits_are_clipped_and_others_rounded():
    samples = np.array([-1e9, -32768.4, -0.5, 0.4, 1.6, 32767.4, 32767.6, 1e9])
    assert to_int16(samples).tolist() == [-32768, -32768, 0, 0, 2, 32767, 32767, 32767]
    assert to_int16(samples).dtype == np.int16


def test_written_files_are_the_samples(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(SAMPLES, 44100))
    rate, samples = scipy.io.wavfile.read(tmp_path / "a.wav")
    assert rate == 44100 and samples.dtype == np.int16
    np.testing.assert_array_equal(samples, SAMPLES)
    with pytest.raises(TypeError):
        wav_bytes(SAMPLES / 2, 44100)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_every_format_has_libsndfiles_values_on_the_16_bit_scale(subtype, container):
    x = SAMPLES / 32768.0
    blob = io.BytesIO()
    soundfile.write(blob, x, 44100, format=container, subtype=subtype)
    wanted, rate = soundfile.read(io.BytesIO(blob.getvalue()), dtype="float64")
    samples, found_rate = read_wav(blob.getvalue())
    assert found_rate == rate
    np.testing.assert_allclose(samples, wanted * 32768, rtol=0, atol=1e-9)
    assert np.abs(samples - SAMPLES).max() <= (256 if subtype == "PCM_U8" else 0.51)


def test_other_chunks_and_odd_lengths_are_stepped_over():
    blob = wav_file(SAMPLES.tobytes(), before=b"LIST\x03\x00\x00\x00abc\x00" + b"fact\x04\x00\x00\x00\x00\x00\x00\x00")
    rate, wanted = scipy.io.wavfile.read(io.BytesIO(blob))
    samples, found_rate = read_wav(blob + b"trailing rubbish")
    assert found_rate == rate
    np.testing.assert_array_equal(samples, wanted)


def test_equal_channels_are_one_signal():
    twice = np.repeat(SAMPLES[:, None], 2, axis=1)
    samples, _ = read_wav(wav_file(twice.tobytes(), channels=2))
    np.testing.assert_array_equal(samples, SAMPLES)


BROKEN = {
    "empty file": (b"", "an empty file"),
    "no wav": (b"\x89PNG\r\n\x1a\n" + bytes(100), r"no RIFF/WAVE header .*PNG"),
    "big endian": (b"RIFX" + wav_file(SAMPLES.tobytes())[4:], "RIFX"),
    "header only": (wav_file(b"")[:20], "truncated"),
    "truncated": (wav_file(SAMPLES.tobytes())[:-1000], "truncated one: 8000 bytes of samples promised, 7000 there"),
    "unfinished": (wav_file(SAMPLES.tobytes(), promised=0xFFFFFFFF), "truncated one: an unknown number"),
    "half a sample": (wav_file(SAMPLES.tobytes()[:-1]), "truncated one: 7999 bytes of samples in blocks of 2"),
    "no samples": (wav_file(b""), "no samples"),
    "no data chunk": (wav_file(b"")[:-8], "no chunk of samples"),
    "stereo": (wav_file(SAMPLES.tobytes(), channels=2), "2 channels that differ"),
    "12 bits": (wav_file(SAMPLES.tobytes(), bits=12), "sample format 1 with 12 bits"),
    "mu-law": (wav_file(bytes(100), bits=8, tag=7), "sample format 7 with 8 bits"),
    "no channels": (wav_file(SAMPLES.tobytes(), channels=0), "0 channels"),
    "no rate": (wav_file(SAMPLES.tobytes(), rate=0), "sample rate of the recording, got 0 Hz"),
    "NaN": (wav_file(np.array([0, np.nan, 1], "<f4").tobytes(), bits=32, tag=3), "NaN or infinite"),
    "infinite": (wav_file(np.array([0, -np.inf, 1], "<f4").tobytes(), bits=32, tag=3), "NaN or infinite"),
    "float on the 16-bit scale": (wav_file(SAMPLES.astype("<f4").tobytes(), bits=32, tag=3), "samples up to 9000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(name):
    blob, message = BROKEN[name]
    with pytest.raises(RecordingError, match=message) as caught:
        read_wav(blob)
    assert re.fullmatch(r"expected [^\n]+, got [^\n]+", str(caught.value))


def test_length_is_judged_before_the_samples_are_touched():
    with pytest.raises(RecordingError, match="expected at most 1 s, got 1.250 s"):
        read_wav(wav_file(bytes(20000)), max_seconds=1)
    read_wav(wav_file(bytes(16000)), max_seconds=1)


@pytest.mark.parametrize("seed", range(20))
def test_any_damaged_byte_gives_samples_or_a_sentence(seed):
    rng = np.random.default_rng(seed)
    blob = bytearray(wav_file(SAMPLES[:50].tobytes()))
    for _ in range(50):
        damaged = bytearray(blob)
        for position in rng.integers(0, 60, rng.integers(1, 5)):
            damaged[position] = rng.integers(256)
        try:
            samples, rate = read_wav(bytes(damaged[: rng.integers(1, len(blob) + 1)]))
        except RecordingError:
            continue
        assert samples.ndim == 1 and len(samples) > 0 and rate > 0
