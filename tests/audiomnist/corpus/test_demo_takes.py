"""One take of a synthetic speaker in closed form: a voice and a randomness that are known in place of the real ones."""

from types import SimpleNamespace

import numpy as np
import pytest

from audiomnist.corpus import demo_corpus
from audiomnist.corpus.demo_corpus import SAMPLE_RATE, Speaker, Synthesiser, make_take
from audiomnist.corpus.layout import CorpusError
from audiomnist.signal.wav import RecordingError, read_wav
from tests.small_corpus import speech

MARGIN = 1680  # samples: the middle between 10 and 60 ms at 48 kHz
QUIET = -1000.0  # dB


class Middle:
    """Every draw is the middle of its range, of a normal one a quarter deviation more; noise is `noise`."""

    def __init__(self, noise=0.0):
        self.noise = noise

    def uniform(self, low, high, size=None):
        middle = (low + high) / 2 + 1e-9  # so that 1680 samples are not 1679.9999
        return middle if size is None else np.full(size, middle)

    def normal(self, mean, deviation):
        return mean + deviation / 4

    def standard_normal(self, size):
        return np.full(size, self.noise)


class Voice:
    """Says the samples that it was given, and keeps how it was asked."""

    def __init__(self, samples, rate=SAMPLE_RATE):
        self.samples, self.rate = np.asarray(samples, np.float64), rate

    def say(self, text, voice, **settings):
        self.asked = text, voice, settings
        return self.samples


def speaker(**changes):
    about = {"number": "07", "gender": "male", "accent": "en", "variant": "m3", "age": 30, "pitch": 50.0, "rate": 150.0,
             "intonation": 40.0, "tract": 1.0, "level": 10000.0, "noise_db": QUIET}  # fmt: skip
    return Speaker(**about | changes)


def test_a_take_is_the_sound_between_margins_at_the_speakers_level():
    """What is below a hundredth of the peak before and after the word is cut, and not one sample more."""
    word = np.array([0.02, -0.5, 0.001, 1.0, -0.25, 0.02])
    voice = Voice(np.r_[np.zeros(100), 0.009, word, -0.009, np.zeros(50)] * 20000)
    take = make_take(voice, speaker(), "one", Middle(), 0)
    assert take.dtype == np.int16
    wanted = np.r_[np.zeros(MARGIN), word * 10000, np.zeros(MARGIN)]
    np.testing.assert_allclose(take, wanted, rtol=0, atol=1)
    assert voice.asked == ("one", "en+m3", {"pitch": 51, "rate": 150, "intonation": 42})


def test_a_longer_tract_is_a_shorter_and_higher_word():
    voice = Voice(np.sin(np.arange(2205) * 2 * np.pi * 220 / 22050), rate=22050)  # 0.1 s of 220 Hz, from zero to zero
    take = make_take(voice, speaker(tract=1.1), "one", Middle(), 0)[MARGIN:-MARGIN].astype(float)
    assert len(take) == pytest.approx(4800 / 1.1, abs=5)
    spectrum = np.abs(np.fft.rfft(take * np.hanning(len(take)), 1 << 16))
    assert spectrum.argmax() * SAMPLE_RATE / (1 << 16) == pytest.approx(242, abs=2)


def test_the_room_is_as_loud_as_it_says_and_louder_at_low_frequencies():
    """A noise of ones becomes 1, 1.9, 1.9, ...: each value and nine tenths of the one before it."""
    take = make_take(Voice(np.ones(9)), speaker(noise_db=-20.0), "one", Middle(noise=1.0), 0)
    assert take[0] == 1000 and np.all(take[1:MARGIN] == 1900) and np.all(take[-MARGIN:] == 1900)


@pytest.mark.parametrize("attempt, rate", [(0, 150), (1, 165), (2, 181)])
def test_each_further_attempt_is_a_tenth_faster(attempt, rate):
    voice = Voice(np.ones(9))
    make_take(voice, speaker(), "two", Middle(), attempt)
    assert voice.asked[2]["rate"] == rate


@pytest.mark.parametrize("pitch, intonation, asked", [(1.0, -3.0, (5, 0)), (99.0, 120.0, (95, 99))])
def test_the_voice_stays_within_its_range(pitch, intonation, asked):
    voice = Voice(np.ones(9))
    make_take(voice, speaker(pitch=pitch, intonation=intonation), "two", Middle(), 0)
    assert (voice.asked[2]["pitch"], voice.asked[2]["intonation"]) == asked


def test_a_voice_that_says_nothing_is_refused():
    with pytest.raises(RecordingError, match="the word six, got silence"):
        make_take(Voice(np.zeros(0)), speaker(), "six", Middle(), 0)


@pytest.mark.parametrize("too_long", [0, 2, 7, 8])
def test_a_take_that_preprocessing_would_refuse_is_spoken_again_up_to_eight_times(monkeypatch, too_long):
    """Each take has a randomness of its own, which nothing but seed, speaker, digit, repetition and attempt decide."""
    asked = []

    def take(voice, who, word, rng, attempt):
        asked.append((word, attempt))
        assert rng.random() == np.random.default_rng([3, 7, 4, 1, attempt]).random()
        return speech(attempt, (45_601 if attempt < too_long else 45_600) / SAMPLE_RATE, SAMPLE_RATE)

    monkeypatch.setattr(demo_corpus, "make_take", take)
    if too_long == 8:
        with pytest.raises(
            CorpusError, match=r"4_07_1.wav: expected at most 0.95 s, got 0.95 s \(in the last of 8 takes"
        ):
            demo_corpus.make_recording(None, speaker(), 4, 1, 3)
    else:
        blob = demo_corpus.make_recording(None, speaker(), 4, 1, 3)
        samples, rate = read_wav(blob)
        assert rate == SAMPLE_RATE
        np.testing.assert_array_equal(samples, speech(too_long, 0.95, SAMPLE_RATE))
    assert asked == [("four", attempt) for attempt in range(min(too_long + 1, 8))]


def test_a_synthesiser_is_asked_for_all_of_a_word_and_may_say_nothing():
    asked = []
    made = object.__new__(Synthesiser)
    made.blocks = [np.ones(3)]  # of the word before
    made.library = SimpleNamespace(
        espeak_SetVoiceByName=lambda name: asked.append(name), espeak_SetParameter=lambda *words: asked.append(words),
        espeak_Synth=lambda *words: asked.append(words), espeak_Synchronize=lambda: None,
    )  # fmt: skip
    assert made.say("six", "en+m3", 50, 150, 40).shape == (0,)
    text, size, *rest = asked.pop()
    assert (text, size.value, rest) == (b"six", 4, [0, 0, 0, 1, None, None])  # from 0 to the end, as UTF-8
    assert asked == [b"en+m3", (1, 150, 0), (3, 50, 0), (4, 40, 0)]  # rate, pitch and range of speak_lib.h


def test_a_synthesiser_ends_and_its_folder_may_be_gone(tmp_path):
    """What cleans temporary folders may have been quicker: that is no reason for a finished corpus to fail."""
    ended = []
    made = object.__new__(Synthesiser)
    made.folder, made.library = str(tmp_path / "link"), SimpleNamespace(espeak_Terminate=lambda: ended.append(1))
    (tmp_path / "link").mkdir()
    made.close()
    assert not (tmp_path / "link").exists()
    made.close()
    assert ended == [1, 1]


def test_the_sixtys_facts():
    """As eSpeak's settings and the corpus's docstring name them; other numbers would be other voices."""
    found = demo_corpus.make_speakers(60, 0)
    for gender, pitch, tract in (("male", (40, 75), (0.92, 1.04)), ("female", (42, 62), (0.98, 1.10))):
        own = [s for s in found if s.gender == gender]
        assert all(pitch[0] <= s.pitch <= pitch[1] and tract[0] <= s.tract <= tract[1] for s in own)
    for name, low, high in (("age", 22, 61), ("rate", 135, 190), ("intonation", 30, 70), ("level", 2500, 16000),
                            ("noise_db", -62, -48)):  # fmt: skip
        values = [getattr(s, name) for s in found]
        assert low <= min(values) < low + 0.2 * (high - low) and high - 0.2 * (high - low) < max(values) <= high
