"""One HTML page, complete in itself, to look at and listen to explanations.

Every recording comes with its relevance for every class under every composite (8 bits a value), its sound, and its
audible heatmaps; the page switches between them. The script is in report.html.
"""

import base64
import json
import os
from pathlib import Path

import numpy as np

from caffe_proto import write_atomically
from lrp import audible, drawing
from lrp.baselines import METHODS, explain
from lrp.composites import find_composite
from lrp.errors import LRPError
from lrp.inputs import sound

PAGE = Path(__file__).with_name("report.html")
PLACE = "/*DATA*/"
LARGEST = 200 * 2**20  # bytes of a page that a browser still opens willingly


def _base64(values):
    return base64.b64encode(values).decode("ascii")


def _eight_bits(values, end):
    """Values as int8, `end` at 127; base64."""
    return _base64(np.clip(np.rint(127 * np.asarray(values, np.float64) / end), -127, 127).astype(np.int8).tobytes())


class Report:
    """Collects recordings with `add`, then `write` makes folder/index.html; network: the `Network` to explain."""

    def __init__(self, folder, network, seed=0, dtype="float32"):
        self.folder, self.network, self.seed, self.dtype = os.fspath(folder), network, seed, dtype
        self.recordings, self.rules, self.size, self.shape = [], {}, 0, None

    def _audible(self, data, relevance, signal):
        if data.shape[:2] == (1, 1):
            return _base64(audible.wav_bytes(audible.of_waveform(data, relevance)))
        if signal is None:
            return None
        return _base64(audible.wav_bytes(audible.of_spectrogram(signal, relevance)))

    def add(self, recording, composites):
        """Explain one `Recording` (one item) by every composite (name, file or baseline) for every class."""
        data = recording.data[0]
        if data.shape not in (drawing.SPECTROGRAM, drawing.WAVEFORM):
            raise LRPError(f"{recording.path}: an input of shape {data.shape} found; for a report a spectrogram "
                           f"{drawing.SPECTROGRAM} or a waveform {drawing.WAVEFORM} wanted")
        self.shape = data.shape
        signal = sound(recording, self.seed)
        classes = self.network.classes(recording.data.shape)
        copies, every = np.repeat(recording.data, classes, axis=0), np.arange(classes)
        explanations = {}
        for how in composites:
            name = how if how in METHODS else find_composite(how).name
            made = explain(self.network, copies, how, every, self.dtype)
            self.rules[name] = drawing.rule_summary(made.rules) or made.composite
            explanations[name] = {}
            for k in range(classes):
                end = drawing.limit(made.relevance[k])
                conserved = float(made.conserved[k])
                explanations[name][k] = {
                    "relevance": _eight_bits(made.relevance[k], end), "limit": end, "score": float(made.score[k]),
                    "conserved": conserved if np.isfinite(conserved) else None,
                    "sound": self._audible(data, made.relevance[k], signal),
                }
        flat = data.astype(np.float64)
        if data.shape == drawing.SPECTROGRAM:  # decibels: from the least, -127, to the most, 127
            flat = 2 * (flat - flat.min()) / (np.ptp(flat) or 1) - 1
        entry = {
            "name": os.path.basename(recording.path), "input": _eight_bits(flat, np.abs(flat).max() or 1),
            "label": None if recording.label is None else " ".join(f"{v:g}" for v in recording.label.ravel()),
            "prediction": int(made.prediction[0]), "explanations": explanations,
            "sound": None if signal is None else _base64(audible.wav_bytes(audible.normalised(signal))),
        }
        self.size += len(json.dumps(entry))
        if self.size > LARGEST:
            raise LRPError(f"{self.folder}: a page of more than {LARGEST // 2**20} MB found after "
                           f"{len(self.recordings)} recordings; fewer recordings (--limit) or composites wanted")
        self.recordings.append(entry)

    def write(self):
        """Write the page, whole or not at all; returns its path."""
        if not self.recordings:
            raise LRPError(f"{self.folder}: no recordings found; at least one wanted for a report")
        spectrogram = self.shape == drawing.SPECTROGRAM
        first = drawing.FIRST_FRAME * drawing.FRAME_STEP if spectrogram else 0.0
        length = self.shape[2] * (drawing.FRAME_STEP if spectrogram else 1 / drawing.SAMPLE_RATE)
        data = {
            "about": f"{self.network.model} with {self.network.weights_file}: {len(self.recordings)} recordings. Red "
                     "speaks for the class, blue against it; audible heatmaps play relu(R) * x.",
            "shape": list(self.shape[1:]), "hertz": self.shape[1] * drawing.BIN_WIDTH if spectrogram else 0,
            "start": first, "end": first + length,
            "classes": sorted(next(iter(self.recordings[0]["explanations"].values()))),
            "rules": self.rules, "recordings": self.recordings,
        }
        text = json.dumps(data).replace("<", "\\u003c")  # so that no name can end the script element
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, "index.html")
        with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(PAGE.read_text(encoding="utf-8").replace(PLACE, text))
        return path
