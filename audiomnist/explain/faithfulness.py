"""Does relevance point at what the network uses? Accuracy while a growing share of the input is taken away.

Values are replaced in the order of their relevance, of their amplitude, or at random; a faithful explanation makes the
accuracy fall fastest, so its area under the curve is smallest. Works with the forward pass of any engine.

    audiomnist deletion --model DEPLOY --weights X --list FILE [--limit N] --output CURVES.png [--save FILE.csv]
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from audiomnist.arguments import positive
from audiomnist.door import door
from audiomnist.explain import command, drawing
from audiomnist.explain.inputs import joined, named, read_list, read_recording
from caffe_proto import write_file
from lrp.baselines import explain, silence
from lrp.composites import DEFAULT
from lrp.errors import LRPError
from lrp.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Curve:
    """shares (S,) of the input taken away; accuracy (S,) at each; spread (S,): standard deviation over seeds."""

    order: str
    shares: np.ndarray
    accuracy: np.ndarray
    spread: np.ndarray

    @property
    def area(self) -> float:
        """Area under the accuracy curve over the shares, divided by their range: the mean accuracy."""
        return float(np.trapezoid(self.accuracy, self.shares) / (self.shares[-1] - self.shares[0]))


def by_amplitude(x: np.ndarray) -> np.ndarray:
    """Distance from silence of every value of a batch (N, C, H, W)."""
    return np.abs(x - silence(x))


def deletion(x: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """The batch (N, C, H, W) with a share (0 to 1) of each item's values, those with the largest `order` (of the same
    shape; ties by place), replaced by silence."""
    count = int(round(share * x[0].size))
    result = x.reshape(len(x), -1).copy()
    places = np.argsort(-order.reshape(len(x), -1), axis=1, kind="stable")[:, :count]
    np.put_along_axis(result, places, np.broadcast_to(silence(x).reshape(len(x), 1), places.shape), axis=1)
    return result.reshape(x.shape)


def curve(
    forward: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    labels: np.ndarray,
    orders: Sequence[np.ndarray],
    name: str,
    shares: Sequence[float] = SHARES,
) -> Curve:
    """The `Curve` of one order, or the mean over several (random ones).

    forward: (N, C, H, W) -> scores (N, classes); labels: (N,) true classes; orders: list of arrays like x.
    """
    shares = np.asarray(shares, np.float64)
    if len(shares) < 2 or np.any(np.diff(shares) <= 0) or shares[0] < 0 or shares[-1] > 1:
        raise LRPError(f"shares: {shares.tolist()} found; at least two that rise from 0 to 1 at most wanted")
    accuracies = np.array(
        [
            [np.mean(np.argmax(forward(deletion(x, order, share)), axis=1) == labels) for share in shares]
            for order in orders
        ]
    )
    return Curve(name, shares, accuracies.mean(axis=0), accuracies.std(axis=0))


def compare(
    forward: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    labels: np.ndarray,
    relevances: Mapping[str, ArrayLike],
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = SEEDS,
) -> list[Curve]:
    """Curves for every relevance {name: array like x}, for the amplitude, and at random (mean over `seeds`)."""
    random = [np.stack([np.random.default_rng(seed).random(x.shape[1:])] * len(x)) for seed in seeds]
    named = [
        *((name, [np.asarray(r)]) for name, r in relevances.items()),
        ("amplitude", [by_amplitude(x)]),
        ("random", random),
    ]
    return [curve(forward, x, labels, orders, name, shares) for name, orders in named]


def draw(curves: Iterable[Curve]) -> Figure:
    """A matplotlib Figure of curves; the area under each is in its legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for one in curves:
        (line,) = axes.plot(100 * one.shares, 100 * one.accuracy, marker=".", label=f"{one.order} ({one.area:.3f})")
        axes.fill_between(
            100 * one.shares,
            100 * (one.accuracy - one.spread),
            100 * (one.accuracy + one.spread),
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    axes.set(xlabel="values taken away (%)", ylabel="accuracy (%)", ylim=(0, 102))
    axes.legend(
        title="order (area under the curve)",
        fontsize="small",
        title_fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
    )
    return figure


def write_csv(path: str | os.PathLike, curves: Iterable[Curve]) -> None:
    """Write curves as a table: order, share, accuracy, standard deviation over seeds, area of the order's curve."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["order", "share", "accuracy", "std", "area"])
    for one in curves:
        for row in zip(one.shares, one.accuracy, one.spread, strict=True):
            writer.writerow([one.order, *(f"{value:.6g}" for value in row), f"{one.area:.6g}"])
    write_file(path, table.getvalue())


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(prog="audiomnist deletion", description=__doc__.split("\n")[0])
    p.add_argument("--model", required=True, metavar="FILE", help="deploy prototxt")
    p.add_argument("--weights", required=True, metavar="FILE", help="caffemodel")
    p.add_argument("--list", required=True, metavar="FILE", help="preprocessed HDF5 files with labels, one a line")
    p.add_argument("--limit", type=positive, metavar="N", help="only the first N recordings")
    p.add_argument("--label-column", type=int, metavar="N", help="as for python -m lrp")
    p.add_argument(
        "--composite",
        type=command.how,
        nargs="+",
        default=[DEFAULT],
        metavar="NAME",
        help=f"composites, composite files or baselines (default: {DEFAULT})",
    )
    p.add_argument("--output", metavar="FILE", help="picture of the curves")
    p.add_argument("--save", metavar="FILE", help="table of the curves, CSV")
    return p


def run(options: argparse.Namespace) -> None:
    """Measure as the options say; prints the area under each curve."""
    if options.output:
        drawing.check_format(options.output)
    network = Network(options.model, options.weights)
    shape = None if network.input_shape is None else network.input_shape[1:]
    groups = list(joined(read_recording(path, shape) for path in read_list(options.list)[: options.limit]))
    if len(groups) != 1:
        raise LRPError(f"{options.list}: recordings of {len(groups)} kinds found; one shape of data and labels wanted")
    x = groups[0].data
    labels = command.labels(groups[0], network.classes(x.shape), options.label_column)
    with named(groups[0].sources):
        relevances = {name: explain(network, x, name, labels).relevance for name in options.composite}
    curves = compare(network.forward, x, labels, relevances)
    for one in curves:
        print(f"{one.order}: area {one.area:.4f}")
    if options.save:
        write_csv(options.save, curves)
    if options.output:
        drawing.write(draw(curves), options.output)


@door("deletion")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = parser()
    options = p.parse_args(arguments)
    if not (options.output or options.save):
        p.error("nothing to write found; --output or --save wanted")
    run(options)
    return 0
