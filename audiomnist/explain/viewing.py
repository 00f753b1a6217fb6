"""Explanations in one's hand: what `lrp.read` and the methods `draw`, `play` and `save` of an `Explanation` do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audiomnist.explain import audible, drawing
from audiomnist.explain.inputs import Recording, WavRecording, read, sound
from audiomnist.explain.page import player
from audiomnist.explain.results import attributes, columns, file_hash, writing
from audiomnist.provenance import made_by
from audiomnist.signal.geometry import study_geometry
from lrp.errors import LRPError
from lrp.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Recording", "Sound", "WavRecording", "draw", "play", "read", "save"]


@dataclass(frozen=True)
class Sound:
    """A signal (T,) float64 in -1..1 at `rate` Hz; a notebook shows it as a player."""

    signal: np.ndarray
    rate: int

    def write(self, path: str | os.PathLike) -> None:
        """Write it as a WAV file (mono, 16 bit), whole or not at all."""
        audible.write_wav(path, self.signal, self.rate)

    def _repr_html_(self) -> str:
        return player(audible.wav_bytes(self.signal, self.rate), "audible heatmap")


def explained(explanation: Explanation) -> Recording:
    """What was explained: the recordings as they were read, or an array with the geometry that its shape has in this
    study, of no source. Raises LRPError where the explanation has lost it."""
    given = explanation.input
    if isinstance(given, Recording):
        return given
    if given is None:
        raise LRPError("explanation", "the input that was explained", "none")
    data = np.asarray(given, np.float32)
    return Recording(data, None, (), study_geometry(data.shape[1:]))


def _item(explanation: Explanation, item: int) -> tuple[Recording, int]:
    """(what was explained, the item's number from the front). Raises LRPError for an item that is not there."""
    count = len(explanation.relevance)
    if not -count <= item < count:
        raise LRPError("explanation", f"an item from 0 to {count - 1}", item)
    return explained(explanation), item % count


def draw(explanation: Explanation, item: int = 0) -> Figure:
    """Relevance of one item over its spectrogram, waveform or image, with its caption. Raises LRPError."""
    recording, item = _item(explanation, item)
    title = os.path.basename(recording.sources[item]) if recording.sources else ""
    caption = drawing.caption(explanation, item, geometry=recording.geometry)
    return drawing.compare(recording.data[item], [explanation.relevance[item]], [caption], title, recording.geometry)


def play(explanation: Explanation, item: int = 0, formula: str | None = None) -> Sound:
    """One item's relevance made audible, by one of `audible.FORMULAS`; None: its DEFAULT.

    A spectrogram sounds where its recording is known: read from a WAV file, or with the waveform network's file beside
    it. Raises LRPError where there is nothing to hear.
    """
    recording, item = _item(explanation, item)
    geometry, data = recording.geometry, recording.data[item]
    heard = None
    if recording.sources:
        heard = sound(recording.item(item), recording.seed)
    elif geometry is not None and not geometry.is_spectrogram:
        heard = data.ravel()
    if heard is None:
        place = recording.sources[item] if recording.sources else "explanation"
        wanted = "a WAV file, or a preprocessed one beside the waveform network's, read with lrp.read"
        raise LRPError(place, wanted, "nothing that sounds")
    formula = formula or audible.DEFAULT
    return Sound(audible.of_input(data, heard, explanation.relevance[item], formula, geometry), geometry.sample_rate)


def save(explanation: Explanation, path: str | os.PathLike) -> None:
    """Write relevance, input, scores, prediction and target of all items to an HDF5 file, and as its attributes what
    made them: composite, rules, weights with their SHA-256, version and commit (`audiomnist.explain.results`)."""
    recording = explained(explanation)
    about = attributes(explanation, recording.geometry)
    if explanation.weights is not None:
        about |= {"weights": explanation.weights, "weights_sha256": file_hash(explanation.weights)}
    with writing(path, about | made_by()) as writer:
        writer.append(columns(explanation, recording.data, recording.label, recording.sources or None))
