"""Pictures of relevance: over a spectrogram (Hz, seconds), over a waveform (coloured samples, zoom), or over an image.

Red speaks for the target, blue against it, white is neither; the colour scale is symmetric around zero. Figures are
made without pyplot, so that nothing global is touched.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from audiomnist.signal.geometry import SPECTROGRAM, WAVEFORM, Geometry, study_geometry
from caffe_proto import atomic_file
from lrp.errors import LRPError
from lrp.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = "seismic"
CLIP = 99.9  # percentile of |R| at which colours saturate: relevance has long tails
ZOOM = 0.05  # s
FORMATS = (".png", ".svg", ".pdf")


def rule_summary(rules: Mapping[str, str]) -> str:
    """{layer name: rule repr} in one line, neighbours with one rule put together: "conv1-conv5 ZPlus(...), ..."."""
    parts = []
    for rule, members in groupby(rules.items(), key=lambda item: item[1]):
        names = [name for name, _ in members]
        parts.append(f"{names[0]}{'-' + names[-1] if len(names) > 1 else ''} {rule}")
    return ", ".join(parts)


def measure(explanation: Explanation, index: int, digits: int = 4) -> str:
    """What tells of one item how much its relevance is worth: sum(R)/score, or the method's own measures."""
    if explanation.measures:
        return ", ".join(f"{name} = {values[index]:.2%}" for name, values in explanation.measures.items())
    return f"sum(R)/score = {explanation.conserved[index]:.{digits}f}"


def resolution(explanation: Explanation, geometry: Geometry | None) -> str:
    """Within what the first layer's rule cannot tell values apart, "shared out within 193 Hz x 48 ms"; empty where it
    looks at every value, or where that is unknown."""
    if explanation.shared is None or explanation.shared == (1, 1):
        return ""
    rows, columns = explanation.shared
    if geometry is None:
        return f"shared out within {rows} x {columns} values"
    if not geometry.is_spectrogram:
        return f"shared out within {columns} samples ({1000 * columns / geometry.sample_rate:.2g} ms)"
    return f"shared out within {rows * geometry.bin_width:.0f} Hz x {1000 * columns * geometry.frame_step:.0f} ms"


def caption(
    explanation: Explanation,
    index: int = 0,
    classes: Sequence[str] | None = None,
    geometry: Geometry | None = None,
) -> str:
    """Lines about one item: prediction, target, composite and `measure`; `resolution` and what its composite loses,
    where there is such a thing; and the rules.

    classes: names of the classes, in order, or None. geometry: where the input's values lie.
    """

    def name(number: int) -> str:
        if number < 0:
            return "several classes"
        return f"{number}" if classes is None else f"{classes[number]} ({number})"

    first = (
        f"predicted {name(explanation.prediction[index])}, target {name(explanation.target[index])}; "
        f"{explanation.composite}, {measure(explanation, index)}, "
        f"score = {explanation.score[index]:.4g}"
    )
    about = "; ".join(filter(None, (resolution(explanation, geometry), explanation.note)))
    return "\n".join(filter(None, (first, about, rule_summary(explanation.rules))))


def limit(relevance: np.ndarray) -> float:
    """The |R| at which the symmetric colour scale ends: a high percentile of |R|, or 1 if all relevance is zero."""
    magnitudes = np.abs(relevance)
    end = np.percentile(magnitudes, CLIP) or magnitudes.max()
    return float(end) or 1.0


def _overlay(axes: Axes, relevance: np.ndarray, end: float, extent: tuple[float, float, float, float]) -> None:
    """Relevance as colour whose opacity is its size."""
    import matplotlib

    values = np.clip(relevance / end, -1, 1)
    colours = matplotlib.colormaps[COLOURS](0.5 + 0.5 * values)
    colours[..., 3] = np.abs(values) ** 0.5
    axes.imshow(colours, origin="lower", aspect="auto", extent=extent, interpolation="nearest")


def _colourbar(figure: Figure | SubFigure, axes: Axes | Sequence[Axes], end: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(-end, end), COLOURS), ax=axes, extend="both", pad=0.02)
    bar.set_label("R (red: for, blue: against)")


def draw_spectrogram(
    figure: Figure | SubFigure,
    axes: Axes,
    data: np.ndarray,
    relevance: np.ndarray,
    colourbar: bool = True,
    geometry: Geometry = SPECTROGRAM,
) -> None:
    """Relevance (1, frequencies, frames) over the grey spectrogram `data` of that shape, in dB."""
    extent = geometry.extent(*data.shape[-2:])
    axes.imshow(data[0], origin="lower", aspect="auto", cmap="gray_r", extent=extent)
    end = limit(relevance)
    _overlay(axes, relevance[0], end, extent)
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)")
    if colourbar:
        _colourbar(figure, axes, end)


def _coloured_samples(
    axes: Axes, time: np.ndarray, data: np.ndarray, relevance: np.ndarray, end: float, width: float
) -> None:
    """The waveform as a line whose pieces, from halfway before a sample to halfway behind it, carry the colour of that
    sample's relevance."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    points = np.column_stack([time, data])
    halfway = np.concatenate([points[:1], (points[:-1] + points[1:]) / 2, points[-1:]])
    segments = np.stack([halfway[:-1], points, halfway[1:]], axis=1)
    axes.plot(time, data, color="0.8", linewidth=width, zorder=1)
    lines = LineCollection(segments, cmap=COLOURS, norm=Normalize(-end, end), linewidths=width, zorder=2)
    lines.set_array(relevance)
    lines.set_alpha(np.clip(np.abs(relevance) / end, 0.05, 1))
    axes.add_collection(lines)
    axes.set_xlim(time[0], time[-1])
    room = 0.05 * max(float(np.ptp(data)), 1e-6)
    axes.set_ylim(data.min() - room, data.max() + room)
    axes.set(xlabel="time (s)", ylabel="scaled amplitude")


def zoom_window(relevance: np.ndarray, length: int) -> int:
    """Start of the `length` samples that hold the most |R|."""
    total = np.concatenate([[0], np.cumsum(np.abs(relevance), dtype=np.float64)])
    length = min(length, len(relevance))
    return int(np.argmax(total[length:] - total[:-length]))


def draw_waveform(
    figure: Figure | SubFigure,
    axes: Axes,
    data: np.ndarray,
    relevance: np.ndarray,
    zoom: Axes | None = None,
    colourbar: bool = True,
    geometry: Geometry = WAVEFORM,
) -> None:
    """Relevance (1, 1, T) as the colour of the waveform `data`; `zoom`: axes for the stretch with the most of it."""
    data, relevance = data.ravel(), relevance.ravel()
    time = np.arange(len(data)) / geometry.sample_rate
    end = limit(relevance)
    _coloured_samples(axes, time, data, relevance, end, 0.8)
    if zoom is not None:
        length = min(len(data), max(2, int(ZOOM * geometry.sample_rate)))
        start = zoom_window(relevance, length)
        part = slice(start, start + length)
        axes.axvspan(time[start], time[part][-1], color="0.9", zorder=0)
        _coloured_samples(zoom, time[part], data[part], relevance[part], end, 1.5)
        zoom.set_title(f"the {1000 * ZOOM:.0f} ms with the most relevance", fontsize="small")
    if colourbar:
        _colourbar(figure, [axes] if zoom is None else [axes, zoom], end)


def draw_image(
    figure: Figure | SubFigure, axes: Axes, data: np.ndarray, relevance: np.ndarray, colourbar: bool = True
) -> None:
    """Relevance (C, H, W) of any other input, summed over channels, over the grey mean of its channels."""
    axes.imshow(data.mean(axis=0), cmap="gray_r", aspect="auto", origin="lower")
    total = relevance.sum(axis=0)
    end = limit(total)
    _overlay(axes, total, end, axes.get_images()[0].get_extent())
    axes.set(xlabel="column", ylabel="row")
    if colourbar:
        _colourbar(figure, axes, end)


def draw(
    data: ArrayLike, relevance: np.ndarray, text: str = "", title: str = "", geometry: Geometry | None = None
) -> Figure:
    """A matplotlib Figure of one item's relevance (C, H, W) over its input (C, H, W); geometry: see `compare`."""
    return compare(data, [relevance], [text], title, geometry)


def compare(
    data: ArrayLike,
    relevances: Sequence[np.ndarray],
    texts: Sequence[str],
    title: str = "",
    geometry: Geometry | None = None,
) -> Figure:
    """A Figure of several relevances (C, H, W) of one input (C, H, W), each with its own caption and colour scale.

    geometry: where the input's values lie; default: the study's own for inputs of its shapes. Without one they are an
    image. Spectrograms lie side by side, the input before them; waveforms and images one below the other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = np.asarray(data)
    for relevance in relevances:
        if relevance.shape != data.shape or data.ndim != 3:
            expected = "input and relevance of one shape (C, H, W)"
            raise LRPError("drawing", expected, f"{data.shape} and {relevance.shape}")
        if not (np.isfinite(relevance).all() and np.isfinite(data).all()):
            raise LRPError("drawing", "finite numbers", "some that are NaN or infinite")
    geometry = geometry or study_geometry(data.shape)
    spectrogram = geometry is not None and geometry.is_spectrogram
    line = geometry is not None and not spectrogram
    columns = min(2 if len(relevances) == 3 else 3, 1 + len(relevances)) if spectrogram else 1
    rows = -(-(spectrogram + len(relevances)) // columns)
    size = (4.75 * columns, 4.6 * rows + 0.4) if spectrogram else (9.5, (3.4 if line else 4.6) * rows + 0.4)
    figure = Figure(figsize=size, dpi=110 if len(relevances) == 1 else 80, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize="medium")
    cells = list(figure.subfigures(rows, columns, squeeze=False).ravel())
    if spectrogram:
        alone = cells.pop(0)
        axes = alone.subplots()
        draw_spectrogram_alone(axes, data, geometry)
        alone.colorbar(axes.get_images()[0], ax=axes, label="level (dB)")  # and as much room as beside it
    for part, relevance, text in zip(cells, relevances, texts, strict=False):
        if line:
            axes, zoom = part.subplots(1, 2, width_ratios=(2, 1))
            draw_waveform(part, axes, data, relevance, zoom, geometry=geometry)
        elif spectrogram:
            draw_spectrogram(part, part.subplots(), data, relevance, geometry=geometry)
        else:
            draw_image(part, part.subplots(), data, relevance)
        if text and len(relevances) > 1:
            part.supxlabel(_wrapped(text, 80 if spectrogram else 150), fontsize="x-small")
    if len(relevances) == 1 and texts[0]:
        figure.supxlabel(_wrapped(texts[0]), fontsize="x-small")
    return figure


def draw_spectrogram_alone(axes: Axes, data: np.ndarray, geometry: Geometry = SPECTROGRAM) -> None:
    """The grey spectrogram (1, frequencies, frames) in dB by itself."""
    extent = geometry.extent(*data.shape[-2:])
    axes.imshow(data[0], origin="lower", aspect="auto", cmap="gray_r", extent=extent)
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)", title="input (dB)")


def _wrapped(text: str, width: int = 150) -> str:
    """Captions broken between rules where they are too long for the picture."""
    lines = []
    for line in text.split("\n"):
        current = ""
        for piece in re.split(r"(?<=\)), |, (?=sum|score)", line):
            candidate = f"{current}, {piece}" if current else piece
            if current and len(candidate) > width:
                lines.append(current + ",")
                current = piece
            else:
                current = candidate
        lines.append(current)
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, width) or [""])


def check_format(path: str | os.PathLike) -> str:
    """The extension of a picture's name; LRPError unless it is one that can be written."""
    extension = os.path.splitext(path)[1].lower()
    if extension not in FORMATS:
        raise LRPError(path, f"an extension of {', '.join(FORMATS)}", extension or "none")
    return extension


def write(figure: Figure, path: str | os.PathLike) -> None:
    """Write a Figure as PNG, SVG or PDF (by the extension), whole or not at all; same figure, same bytes."""
    import matplotlib
    from matplotlib.text import Text

    extension = check_format(path)
    for text in figure.findobj(Text):
        if "$" in text.get_text():  # of a file's name, a task, a layer: no formula, and often none that can be drawn
            text.set_parse_math(False)
    dates = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "lrp"}), atomic_file(path) as file:
        figure.savefig(file, format=extension[1:], metadata=dates[extension])
