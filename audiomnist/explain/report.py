"""One HTML page, complete in itself, to look at and listen to explanations.

Every recording comes with its relevance for every class under every composite (8 bits a value), its sound, and its
audible heatmaps; the page switches between them (viewer.js).
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from audiomnist.explain import audible, drawing
from audiomnist.explain.inputs import Recording, named, sound
from audiomnist.explain.page import document, part
from audiomnist.signal.geometry import Geometry
from caffe_proto import write_file
from lrp.baselines import explain, read_method
from lrp.composites import Composite, find_composite
from lrp.errors import LRPError
from lrp.network import Network

TITLE = "Relevance report"
START = 'view(document.getElementById("relevance"), JSON.parse(document.getElementById("data").textContent));\n'
LARGEST = 200 * 2**20  # bytes of a page that a browser still opens willingly


def _base64(values: bytes) -> str:
    return base64.b64encode(values).decode("ascii")


def _eight_bits(values: ArrayLike, end: float) -> str:
    """Values as int8, `end` at 127; base64."""
    return _base64(np.clip(np.rint(127 * np.asarray(values, np.float64) / end), -127, 127).astype(np.int8).tobytes())


def _place(shape: tuple[int, ...], geometry: Geometry) -> dict[str, Any]:
    """{start, end: of the picture in s; hertz: its lower and upper edge, or None for a waveform}."""
    if not geometry.is_spectrogram:
        return {"start": 0.0, "end": shape[2] / geometry.sample_rate, "hertz": None}
    start, end, *hertz = geometry.extent(*shape[1:])
    return {"start": start, "end": end, "hertz": hertz}


def contents(entries: Sequence[dict[str, Any]], classes: Sequence[str] = ()) -> dict[str, Any]:
    """What viewer.js shows, as a JSON value, of at least one of `Report.entry`'s; classes: their names, or none."""
    rules, explanations = entries[0]["rules"], entries[0]["explanations"]
    numbers = list(next(iter(explanations.values())))
    return {"classes": list(classes) or numbers, "rules": rules, "recordings": list(entries)}


class Report:
    """Collects entries with `add`, then `write` makes folder/index.html.

    network: the `Network` to explain; seed: of the position of WAV files; count: how many entries there will be.
    """

    def __init__(
        self, folder: str | os.PathLike, network: Network, seed: int = 0, dtype: DTypeLike = "float32", count: int = 1
    ) -> None:
        self.folder, self.network, self.seed, self.dtype = os.fspath(folder), network, seed, dtype
        self.count, self.size, self.entries = count, 0, []

    @staticmethod
    def _wav(signal: np.ndarray, geometry: Geometry) -> str:
        """A signal (T,) in -1..1 as a WAV file, base64."""
        return _base64(audible.wav_bytes(signal, geometry.sample_rate))

    def _audible(
        self, data: np.ndarray, relevance: np.ndarray, signal: np.ndarray | None, geometry: Geometry
    ) -> str | None:
        if signal is None:
            return None
        return self._wav(audible.of_input(data, signal, relevance, geometry=geometry), geometry)

    def entry(self, recording: Recording, composites: Iterable[str | os.PathLike | Composite]) -> dict[str, Any]:
        """One `Recording` (one item) explained for every class by every composite (name, file, `Composite` or
        baseline), as a JSON value."""
        data, geometry = recording.data[0], recording.geometry
        if geometry is None:
            got = f"shape {data.shape} and no attribute sample_rate"
            raise LRPError(recording.path, "a spectrogram or a waveform for a report", got)
        signal = sound(recording, self.seed)
        classes = self.network.classes(recording.data.shape)
        copies, every = np.repeat(recording.data, classes, axis=0), np.arange(classes)
        explanations, rules = {}, {}
        for how in composites:
            name = how if read_method(how) else find_composite(how).name
            with named(recording.sources * classes):
                made = explain(self.network, copies, how, every, self.dtype)
            about = (drawing.rule_summary(made.rules) or made.composite, drawing.resolution(made, geometry), made.note)
            rules[name] = "; ".join(filter(None, about))
            explanations[name] = {}
            for k in range(classes):  # JSON's keys are text
                end = drawing.limit(made.relevance[k])
                explanations[name][str(k)] = {
                    "relevance": _eight_bits(made.relevance[k], end),
                    "limit": end,
                    "score": float(made.score[k]),
                    "measure": drawing.measure(made, k),
                    "sound": self._audible(data, made.relevance[k], signal, geometry),
                }
        flat = data.astype(np.float64)
        if geometry.is_spectrogram:  # decibels: from the least, -127, to the most, 127
            flat = 2 * (flat - flat.min()) / (np.ptp(flat) or 1) - 1
        return {
            "name": os.path.basename(recording.path),
            "shape": list(data.shape),
            **_place(data.shape, geometry),
            "input": _eight_bits(flat, np.abs(flat).max() or 1),
            "label": None if recording.label is None else " ".join(f"{v:g}" for v in recording.label.ravel()),
            "prediction": int(made.prediction[0]),
            "explanations": explanations,
            "rules": rules,
            "sound": None if signal is None else self._wav(audible.normalised(signal), geometry),
        }

    def add(self, entry: dict[str, Any]) -> None:
        """Put an `entry` on the page; LRPError as soon as the page can be seen to become too large."""
        self.entries.append(entry)
        self.size += len(json.dumps(entry, allow_nan=False))
        whole = self.size / len(self.entries) * max(self.count, len(self.entries))
        if whole > LARGEST:
            expected = f"a page of at most {LARGEST // 2**20} MB (fewer recordings with --limit, or fewer composites)"
            raise LRPError(self.folder, expected, f"{whole / 2**20:.0f} MB for {self.count} recordings")

    def write(self) -> str:
        """Write the page, whole or not at all; returns its path."""
        if not self.entries:
            raise LRPError(self.folder, "at least one recording for a report", "none")
        about = f"{self.network.model} with {self.network.weights_file}; {len(self.entries)} explained"
        body = f"""<main>
<h1>{TITLE}</h1>
<p class="quiet">{html.escape(about)}</p>
<div id="relevance"></div>
</main>
{part("viewer.html")}"""
        page = document(TITLE, body, [part("viewer.js"), START], contents(self.entries))
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, "index.html")
        write_file(path, page)
        return path
