"""The second of sound that both networks hear, its spectrogram's grid, and how a file says where its values lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiomnist.signal.wav import RecordingError

SAMPLE_RATE = 8000  # Hz, what both networks hear
SAMPLES = 8000  # one second
WINDOW = 455  # samples, 56.9 ms, Hann
HOP = WINDOW - 420  # samples, 4.4 ms
FIRST_FRAME, FRAMES = 2, 227  # of the 230 frames that centred windows give, these stay
BINS = 227  # of 228, from 0 Hz in steps of 8000 / 455 Hz


@dataclass(frozen=True)
class Geometry:
    """Where an input's values lie: a waveform (1, 1, samples), or a spectrogram (1, frequencies, frames) with a window.

    sample_rate: Hz. window, hop: samples; frame m is centred at sample m * hop, frequency k is k * sample_rate / window
    Hz. first_bin, first_frame: numbers k and m of the first that the input holds.
    """

    sample_rate: int
    window: int | None = None
    hop: int | None = None
    first_bin: int = 0
    first_frame: int = 0

    @property
    def is_spectrogram(self) -> bool:
        return self.window is not None

    @property
    def bin_width(self) -> float:
        """Hz between the frequencies of a spectrogram."""
        return self.sample_rate / self.window

    @property
    def frame_step(self) -> float:
        """Seconds between the centres of a spectrogram's frames."""
        return self.hop / self.sample_rate

    def extent(self, bins: int, frames: int) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of a spectrogram's picture in s and Hz: every value is a rectangle around its time
        and frequency."""
        left, bottom = self.first_frame - 0.5, self.first_bin - 0.5
        return (
            left * self.frame_step,
            (left + frames) * self.frame_step,
            bottom * self.bin_width,
            (bottom + bins) * self.bin_width,
        )

    def attributes(self) -> dict[str, int]:
        """The attributes of a file with this geometry; a waveform has its rate alone."""
        names = NAMES if self.is_spectrogram else NAMES[:1]
        return {name: getattr(self, name) for name in names}

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an input of `shape` (C, H, W) can have this geometry."""
        if len(shape) != 3 or shape[0] != 1:
            return False
        if not self.is_spectrogram:
            return shape[1] == 1
        return self.first_bin + shape[1] <= self.window // 2 + 1


NAMES = ("sample_rate", "window", "hop", "first_bin", "first_frame")
SPECTROGRAM = Geometry(SAMPLE_RATE, WINDOW, HOP, 0, FIRST_FRAME)
WAVEFORM = Geometry(SAMPLE_RATE)


def study_geometry(shape: tuple[int, ...]) -> Geometry | None:
    """The study's own geometry of an input of `shape` (C, H, W): of its spectrograms, of waveforms of any length, or
    None of anything else."""
    if tuple(shape) == (1, BINS, FRAMES):
        return SPECTROGRAM
    return WAVEFORM if len(shape) == 3 and WAVEFORM.fits(shape) else None


def read_geometry(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Geometry | None:
    """The geometry that a file's attributes give an input of `shape` (C, H, W); the study's own where it has none.

    `sample_rate` alone makes a waveform, with `window` and `hop` it is a spectrogram. Raises RecordingError.
    """
    if "sample_rate" not in attributes:
        return study_geometry(shape)
    rate = _whole(attributes, "sample_rate", 1)
    if "window" not in attributes:
        found = Geometry(rate)
    else:
        window, hop = _whole(attributes, "window", 1), _whole(attributes, "hop", 1)
        first = {name: _whole(attributes, name, 0) for name in NAMES[3:] if name in attributes}
        found = Geometry(rate, window, hop, **first)
    if not found.fits(shape):
        expected = "data of shape (1, 1, samples) of a waveform"
        if found.is_spectrogram:
            most = found.window // 2 + 1 - found.first_bin
            shapes = f"(1, at most {most} frequencies, frames)"
            expected = f"data of shape {shapes} of a spectrogram with window {found.window}"
        raise RecordingError(expected, tuple(shape))
    return found


def _whole(attributes: Mapping[str, Any], name: str, least: int) -> int:
    """The attribute as a whole number of at least `least`; RecordingError where it is missing or anything else."""
    value = np.asarray(attributes[name]) if name in attributes else None
    if value is None or value.size != 1 or value.dtype.kind not in "iuf" or value.item() % 1 or value.item() < least:
        got = "none" if value is None else f"shape {value.shape}" if value.size != 1 else f"{value.item()!r}"
        raise RecordingError(f"a whole number of at least {least} as attribute {name}", got)
    return int(value.item())
