"""What is drawn in a matplotlib Figure, read back from its artists."""

import numpy as np
from matplotlib.collections import LineCollection


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
