"""The sound card: the only file that loads `sounddevice` (PortAudio), and only when a device is opened."""

from __future__ import annotations

import fnmatch
import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from audiomnist.recording.session import SAMPLE_RATE
from audiomnist.signal.wav import FULL_SCALE
from caffe_proto import UserError

STALLED = 1.5  # s without a single sample, after which a microphone counts as gone
NO_LEVEL = -120.0  # dB of full scale
NEEDED = "the PortAudio library (Debian, Ubuntu: apt install libportaudio2) and the Python package sounddevice"


class SoundError(UserError, RuntimeError):
    """The microphone or loudspeaker cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Capture:
    """What was recorded: int16 samples (N,) at 48 kHz, how often samples were lost, and when digits were shown (s)."""

    samples: np.ndarray
    gaps: int = 0
    onsets: tuple[float, ...] = ()


class SoundSource(Protocol):
    """What the course of a session needs of a microphone and loudspeaker. All may raise SoundError."""

    name: str
    dry: bool  # there is no microphone

    def time(self) -> float: ...  # s, rising
    def begin(self) -> None: ...  # keep what is heard from now on
    def seconds(self) -> float: ...  # how much is kept
    def end(self) -> Capture: ...
    def level(self) -> float: ...  # dB of full scale of the loudest sample since the last call
    def play(self, samples: np.ndarray) -> None: ...
    @property
    def playing(self) -> bool: ...
    def stop_playing(self) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


def _portaudio():
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise SoundError("sound", NEEDED, error) from None
    return sounddevice


@dataclass(frozen=True)
class Device:
    """A device that can record, as PortAudio knows it."""

    index: int
    name: str
    channels: int
    rate: float  # Hz, its own
    default: bool

    def __str__(self) -> str:
        mark = "*" if self.default else " "
        return f"{mark} {self.index:3d}  {self.name}  ({self.channels} channels, {self.rate:.0f} Hz)"


def input_devices() -> list[Device]:
    """The devices that can record. Raises SoundError."""
    sounddevice = _portaudio()
    try:
        devices, default = sounddevice.query_devices(), sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise SoundError("sound", "a sound system", error) from None
    return [
        Device(d["index"], d["name"], d["max_input_channels"], d["default_samplerate"], d["index"] == default)
        for d in devices
        if d["max_input_channels"] > 0
    ]


def choose_device(devices: list[Device], asked: str | None) -> Device:
    """The device with that index, or the first whose name fits the pattern (case apart; a part of the name will do).

    asked None: the system's default, else the first. Raises SoundError, which lists those that are there.
    """
    if not devices:
        raise SoundError("sound", "a microphone", "no device that can record")
    if asked is None:
        return next((device for device in devices if device.default), devices[0])
    pattern = asked.casefold()
    for device in devices:
        if asked.isdigit() and device.index == int(asked):
            return device
    for device in devices:
        name = device.name.casefold()
        if fnmatch.fnmatchcase(name, pattern) or pattern in name:
            return device
    names = ", ".join(f"{device.index} {device.name}" for device in devices)
    raise SoundError("sound", f"the index of one of {names}, or a pattern of its name", repr(asked))


class Microphone:
    """A device that records at 48 kHz, 16 bit, mono, all the time it is open; `begin` and `end` cut out a take."""

    dry = False

    def __init__(self, asked: str | None = None):
        self.asked = asked
        self.name = "none"
        self._stream = None
        self._guard = threading.Lock()  # the sound system calls back in a thread of its own
        self._blocks: list[np.ndarray] | None = None
        self._count = self._gaps = self._peak = 0
        self._heard = 0.0
        self._open()

    def _open(self) -> None:
        sounddevice = _portaudio()
        device = choose_device(input_devices(), self.asked)
        self.name = device.name
        try:
            self._stream = sounddevice.InputStream(
                samplerate=SAMPLE_RATE, device=device.index, channels=1, dtype="int16", latency="high",
                callback=self._take,
            )  # fmt: skip
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            self._stream = None
            raise SoundError(device.name, f"mono at {SAMPLE_RATE} Hz with 16 bits", error) from None
        self._heard = time.monotonic()

    def _take(self, block: np.ndarray, frames: int, _time: object, status: object) -> None:
        with self._guard:
            self._heard = time.monotonic()
            self._peak = max(self._peak, int(np.abs(block.astype(np.int32)).max(initial=0)))
            if self._blocks is not None:
                self._blocks.append(block[:, 0].copy())
                self._count += frames
                self._gaps += bool(status.input_overflow)

    def _check(self) -> None:
        if self._stream is None or not self._stream.active or time.monotonic() - self._heard > STALLED:
            self._abandon()
            raise SoundError(self.name, "a microphone that is plugged in", "one that has vanished")

    def _abandon(self) -> None:
        with self._guard:
            self._blocks = None

    def time(self) -> float:
        return time.monotonic()

    def begin(self) -> None:
        self._check()
        with self._guard:
            self._blocks, self._count, self._gaps, self._peak = [], 0, 0, 0

    def seconds(self) -> float:
        self._check()
        return self._count / SAMPLE_RATE

    def end(self) -> Capture:
        with self._guard:
            blocks, gaps = self._blocks or [], self._gaps
            self._blocks = None
        return Capture(np.concatenate(blocks) if blocks else np.zeros(0, np.int16), gaps)

    def level(self) -> float:
        self._check()
        with self._guard:
            peak, self._peak = self._peak, 0
        return 20 * np.log10(peak / FULL_SCALE) if peak else NO_LEVEL

    def play(self, samples: np.ndarray) -> None:
        play(samples)

    @property
    def playing(self) -> bool:
        return is_playing()

    def stop_playing(self) -> None:
        _portaudio().stop()

    def reopen(self) -> None:
        """Look for the device again, as it may have been unplugged; PortAudio notices only when started anew."""
        sounddevice = _portaudio()
        self.close()
        sounddevice._terminate()
        sounddevice._initialize()
        self._open()

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)


def play(samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Begin to play int16 samples (N,). Raises SoundError."""
    sounddevice = _portaudio()
    try:
        sounddevice.play(samples, rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise SoundError("loudspeaker", f"a device that plays {rate} Hz", error) from None


def is_playing() -> bool:
    """Whether `play` is not yet at the end."""
    sounddevice = _portaudio()
    try:
        return sounddevice.get_stream().active
    except (RuntimeError, sounddevice.PortAudioError):
        return False


class NoMicrophone:
    """Nothing to record with: time passes, silence is kept. For dry runs."""

    name, dry, playing = "no microphone", True, False

    def __init__(self, clock=time.monotonic):
        self._clock, self._begun = clock, 0.0

    def time(self) -> float:
        return self._clock()

    def begin(self) -> None:
        self._begun = self._clock()

    def seconds(self) -> float:
        return self._clock() - self._begun

    def end(self) -> Capture:
        return Capture(np.zeros(round(self.seconds() * SAMPLE_RATE), np.int16))

    def level(self) -> float:
        return NO_LEVEL

    def play(self, samples: np.ndarray) -> None:
        pass

    def stop_playing(self) -> None:
        pass

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass
