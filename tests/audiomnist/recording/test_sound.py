"""The sound card, with a sound system in place of PortAudio that calls back when it is told to."""

from types import SimpleNamespace

import numpy as np
import pytest

from audiomnist.recording import sound

RATE = 48000


class PortAudioError(Exception):
    """What the package raises."""


class Stream:
    """An opened device; `hear` is what the sound system does every few milliseconds."""

    def __init__(self, samplerate, device, channels, dtype, latency, callback):
        assert (samplerate, channels, dtype) == (RATE, 1, "int16")
        self.device, self.callback, self.active = device, callback, False

    def start(self):
        self.active = True

    def abort(self, ignore_errors):
        self.active = False

    close = abort

    def hear(self, samples, lost=False):
        block = np.asarray(samples, np.int16).reshape(-1, 1)
        self.callback(block, len(block), None, SimpleNamespace(input_overflow=lost))
        block[:] = -1  # the buffer is the sound system's: it writes the next block into it


DEVICES = [
    {"index": 0, "name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 44100.0},
    {"index": 1, "name": "Built-in Mic", "max_input_channels": 2, "default_samplerate": 44100.0},
    {"index": 2, "name": "RODE NT-USB", "max_input_channels": 1, "default_samplerate": 48000.0},
]


@pytest.fixture
def card(monkeypatch):
    """A sound system with two microphones; `card.stream` is the one that was opened last."""
    card = SimpleNamespace(
        PortAudioError=PortAudioError,
        query_devices=lambda: DEVICES,
        default=SimpleNamespace(device=(1, 0)),
        stream=None,
    )

    def opened(**options):
        card.stream = Stream(**options)
        return card.stream

    card.InputStream = opened
    monkeypatch.setattr(sound, "_portaudio", lambda: card)
    return card


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(sound.time, "monotonic", lambda: clock.now)
    return clock


def test_a_take_holds_what_was_heard_between_begin_and_end(card, clock):
    microphone = sound.Microphone()
    card.stream.hear([1, 2, 3])
    microphone.begin()
    card.stream.hear([4, -5])
    card.stream.hear([6])
    assert microphone.seconds() == 3 / RATE
    take = microphone.end()
    card.stream.hear([7])
    assert microphone.level() == pytest.approx(20 * np.log10(7 / 2**15))  # of all that was heard since begin
    microphone.begin()
    assert microphone.level() == sound.NO_LEVEL
    assert take.samples.tolist() == [4, -5, 6] and take.samples.dtype == np.int16 and take.gaps == 0
    assert microphone.end().samples.tolist() == []


def test_every_loss_of_samples_counts(card, clock):
    """A clean block after a loss does not make the take whole, and two losses are two; the next take starts anew."""
    microphone = sound.Microphone()
    microphone.begin()
    for lost in (False, True, False, True, False):
        card.stream.hear([1], lost)
    assert microphone.end().gaps == 2
    card.stream.hear([1], lost=True)  # between two takes: nobody's
    microphone.begin()
    card.stream.hear([1])
    assert microphone.end().gaps == 0


def test_the_level_is_the_loudest_samples_since_it_was_last_asked(card, clock):
    microphone = sound.Microphone()
    assert microphone.level() == sound.NO_LEVEL == -120
    card.stream.hear([100, -32768, 5])
    card.stream.hear([16384])
    assert microphone.level() == 0
    card.stream.hear([16384])
    assert microphone.level() == pytest.approx(20 * np.log10(0.5))
    assert microphone.level() == -120


@pytest.mark.parametrize("what", ["begin", "seconds", "level"])
def test_a_microphone_that_is_silent_for_too_long_has_vanished(card, clock, what):
    microphone = sound.Microphone()
    microphone.begin()
    card.stream.hear([1, 2])
    clock.now += 1.5
    getattr(microphone, what)()
    clock.now += 0.01
    with pytest.raises(sound.SoundError, match="Built-in Mic: expected .* plugged in, got one that has vanished"):
        getattr(microphone, what)()
    assert microphone.end().samples.tolist() == []  # a take with a hole is none


def test_a_stream_that_stopped_has_vanished_at_once(card, clock):
    microphone = sound.Microphone()
    card.stream.active = False
    with pytest.raises(sound.SoundError, match="vanished"):
        microphone.begin()


@pytest.mark.parametrize(
    "wanted, index",
    [(None, 1), ("2", 2), ("1", 1), ("rode", 2), ("NT-usb", 2), ("*mic*", 1), ("built-in ???", 1), ("o", 2)],
)
def test_a_device_is_chosen_by_index_pattern_or_default(card, wanted, index):
    sound.Microphone(wanted)
    assert card.stream.device == index


def test_without_a_default_the_first_microphone_is_taken(card):
    card.default.device = (-1, -1)
    assert sound.Microphone().name == "Built-in Mic"
    assert [str(device) for device in sound.input_devices()] == [
        "    1  Built-in Mic  (2 channels, 44100 Hz)",
        "    2  RODE NT-USB  (1 channels, 48000 Hz)",
    ]


@pytest.mark.parametrize("wanted", ["0", "3", "Loudspeaker", "zoom"])
def test_an_unknown_device_names_those_that_there_are(card, wanted):
    with pytest.raises(sound.SoundError, match=f"one of 1 Built-in Mic, 2 RODE NT-USB, or .*, got '{wanted}'"):
        sound.Microphone(wanted)


def test_no_device_and_one_that_refuses(card, monkeypatch):
    monkeypatch.setattr(card, "query_devices", lambda: DEVICES[:1])
    with pytest.raises(sound.SoundError, match="no device that can record"):
        sound.Microphone()

    def refuses(**options):
        raise PortAudioError("Invalid sample rate")

    monkeypatch.setattr(card, "query_devices", lambda: DEVICES)
    monkeypatch.setattr(card, "InputStream", refuses)
    with pytest.raises(sound.SoundError, match="Built-in Mic: expected mono at 48000 Hz .*, got Invalid"):
        sound.Microphone()


def test_without_a_microphone_time_passes_in_silence():
    now = iter([10.0, 10.5, 10.75])
    dry = sound.NoMicrophone(lambda: next(now))
    dry.begin()
    assert dry.seconds() == 0.5
    take = dry.end()
    assert len(take.samples) == round(0.75 * RATE) and not take.samples.any()


def test_a_microphone_that_is_opened_again_lets_go_of_the_sound_system_first(card, clock):
    microphone = sound.Microphone("rode")
    first, order = card.stream, []
    card._terminate = lambda: order.append(("ended", first.active))
    card._initialize = lambda: order.append(("begun", card.stream is first))
    microphone.reopen()
    assert order == [("ended", False), ("begun", True)]
    assert card.stream is not first and card.stream.active and card.stream.device == 2
