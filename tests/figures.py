"""What is drawn in a matplotlib Figure, read back from its artists.

How a picture looks (its words, scales, sizes, colours and kinds of artists, not the data, which other assertions hold)
is described in golden/figures/<name>.txt, which was read beside the picture. After a change that is meant, make them
again and look at the difference and at the pictures:

    FIGURES=folder tests/run.sh tests/audiomnist    writes the descriptions, and PNGs into the folder
"""

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

GOLDEN = Path(__file__).parent / "golden/figures"


def rows(figure):
    """[(title of the row, its axes)] of a figure made of subfigures."""
    return [(row.get_suptitle(), row.axes) for row in figure.subfigs]


def image(axes, number=0):
    """(array, extent, origin) of one of the images of the axes."""
    drawn = axes.images[number]
    return np.asarray(drawn.get_array(), np.float64), tuple(drawn.get_extent()), drawn.origin


def coloured_line(axes):
    """(pieces: [(points, 2)] in x and y, the value of each, colour limits) of a line coloured by a value."""
    (lines,) = (one for one in axes.collections if isinstance(one, LineCollection))
    return lines.get_segments(), np.asarray(lines.get_array()), lines.get_clim()


def overlay(axes):
    """(redness -1..1, opacity 0..1) of the relevance drawn over the first image of the axes."""
    colours = image(axes, 1)[0]
    return colours[..., 0] - colours[..., 2], colours[..., 3]


def bars(axes):
    """{tick label: height} of a bar plot with a label at each bar."""
    labels = {
        round(tick): text.get_text() for tick, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    return {labels[round(bar.get_x() + bar.get_width() / 2)]: bar.get_height() for bar in axes.patches}


def lines(axes):
    """{label: (x, y)} of the plain lines of the axes."""
    return {line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines}


def _numbers(*values):
    return " ".join(f"{float(value):.3g}" for value in values)


def _colour(value):
    return to_hex(value, keep_alpha=True) if isinstance(value, str) or len(np.shape(value)) == 1 else "by value"


def _alpha(artist):
    alpha = artist.get_alpha()
    return alpha if np.ndim(alpha) == 0 else "by value"


def _extent(x):
    x = np.asarray(x, np.float64)
    return f"{len(x)} points" + (f" from {_numbers(x.min(), x.max())}" if len(x) else "")


def _text(kind, text):
    if not text.get_text() or not text.get_visible():
        return []
    size, turned = _numbers(text.get_fontsize()), _numbers(text.get_rotation())
    return [f"{kind} {text.get_text()!r} {size} pt, {text.get_color()}, turned {turned}"]


def _legend(legend):
    if legend is None:
        return []
    title, entries = legend.get_title().get_text(), [text.get_text() for text in legend.get_texts()]
    return [f"legend {title!r}: {entries}, {legend._ncols} columns, frame {legend.get_frame_on()}"]


def _axis(name, axis, limits, scale):
    ticks = [label.get_text() for label in axis.get_ticklabels() if label.get_text()]
    size = axis.get_ticklabels()[0].get_fontsize() if ticks else 0
    return [
        *_text(f"{name} label", axis.label),
        f"{name} {scale} from {_numbers(*limits)}, ticks {ticks} {_numbers(size)} pt",
    ]


def _artists(axes):
    for line in axes.lines:
        label = "" if line.get_label().startswith("_") else f" {line.get_label()!r}"
        yield (
            f"line{label} {line.get_linestyle()} {_numbers(line.get_linewidth())} {_colour(line.get_color())}, "
            f"marker {line.get_marker()} {_numbers(line.get_markersize())}, alpha {_alpha(line)}, "
            f"{_extent(line.get_xdata())}"
        )
    for one in axes.collections:
        size = _numbers(*np.ravel(one.get_sizes())[:1]) if hasattr(one, "get_sizes") else ""
        widths = _numbers(*np.ravel(one.get_linewidths())[:1])
        faces = {_colour(face) for face in one.get_facecolors()} if one.get_array() is None else {"by value"}
        label = "" if one.get_label().startswith("_") else f" {one.get_label()!r}"
        yield f"{type(one).__name__}{label} {sorted(faces)[:3]}, size {size}, width {widths}, alpha {_alpha(one)}"
    for kind in sorted({type(patch).__name__ for patch in axes.patches}):
        same = [patch for patch in axes.patches if type(patch).__name__ == kind]
        faces = dict.fromkeys(_colour(patch.get_facecolor()) for patch in same)
        sizes = dict.fromkeys(_numbers(patch.get_width()) for patch in same if hasattr(patch, "get_width"))
        yield f"{len(same)} {kind} {list(faces)}, width {list(sizes)[:3]}"
    for drawn in axes.images:
        kind = (
            f"{drawn.get_cmap().name} from {_numbers(*drawn.get_clim())}" if drawn.get_array().ndim == 2 else "colours"
        )
        yield (
            f"image {drawn.get_array().shape} {kind}, extent {_numbers(*drawn.get_extent())}, {drawn.origin}, "
            f"{drawn.get_interpolation()}, aspect {axes.get_aspect()}"
        )
    for text in axes.texts:
        place = _numbers(*text.get_position())
        yield from (f"{line}, at {place} {text.get_ha()} {text.get_va()}" for line in _text("text", text))


def described(figure, depth=0):
    """What a picture looks like, in lines of text."""
    lines = [f"{'part' if depth else 'figure'} {_numbers(*figure.bbox.size / figure.dpi)} in"]
    for name in ("suptitle", "supxlabel", "supylabel"):
        text = getattr(figure, f"_{name}")
        lines += _text(name, text) if text else []
    for legend in figure.legends:
        lines += _legend(legend)
    for axes in (axes for axes in figure.axes if axes.figure is figure):
        if not axes.get_visible():
            continue
        own = [f"axes {'' if axes.axison else '(no frame)'}".rstrip()]
        for text in (axes.title, axes._left_title, axes._right_title):
            own += _text("title", text)
        if axes.axison:
            own += _axis("x", axes.xaxis, axes.get_xlim(), axes.get_xscale())
            own += _axis("y", axes.yaxis, axes.get_ylim(), axes.get_yscale())
        own += [*_legend(axes.get_legend()), *_artists(axes)]
        lines += [own[0], *("  " + line for line in own[1:])]
    for part in figure.subfigs:
        lines += described(part, depth + 1)
    return [lines[0], *("  " + line for line in lines[1:])]


def assert_looks(figure, name):
    """Assert that a picture looks as golden/figures/<name>.txt says; with FIGURES set, write that file instead."""
    FigureCanvasAgg(figure).draw()  # places ticks and parts
    found, path = "\n".join(described(figure)) + "\n", GOLDEN / f"{name}.txt"
    if folder := os.environ.get("FIGURES"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
        figure.savefig(Path(folder) / f"{name}.png")
    for axes in figure.axes:
        inside = axes.get_window_extent()
        for text in (text for text in axes.texts if text.get_transform() == axes.transAxes):
            extent = text.get_window_extent()
            assert inside.x0 <= extent.x0 < extent.x1 <= inside.x1, text
    assert found.splitlines() == path.read_text(encoding="utf-8").splitlines()
