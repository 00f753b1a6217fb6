"""Does relevance point at what the network uses? The prediction while a growing share of the input is removed.

Parts of a recording that are not silent are replaced, most relevant first or least relevant first. If relevance is
faithful, the prediction falls soon in the first order and late in the second: the area between both curves is the
score. Orders that know nothing of the network stand beside it: amplitude, chance, and the relevance itself, shuffled
among parts of equal energy. Works with the forward pass of any engine.

    audiomnist deletion --model DEPLOY --weights X --list FILE [--limit N] --output CURVES.png [--save FILE.csv]

Letters: N items, C H W of an input, U units (parts that go together), S shares.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from audiomnist.arguments import command_parser, number, positive
from audiomnist.door import door
from audiomnist.explain import command, drawing
from audiomnist.explain.inputs import joined, named, read_list, read_recording
from caffe_proto import write_file
from lrp.baselines import explain, silence
from lrp.composites import DEFAULT
from lrp.errors import LRPError
from lrp.explanation import Explanation
from lrp.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # of the values that are not silent; beyond, little is left to fall
BLOCK = 40  # samples of a waveform that go together: 5 ms at 8 kHz
TILE = 8  # bins and frames of a spectrogram that go together: 141 Hz x 35 ms
UNITS = ("values", "blocks")
REPLACEMENTS = ("silence", "interpolation")
GROUP = 10  # units of neighbouring energies that `energy_matched` shuffles
BATCH = 50  # recordings in memory at once

Forward = Callable[[np.ndarray], np.ndarray]  # (N, C, H, W) -> scores (N, classes)


def energy(x: np.ndarray) -> np.ndarray:
    """Energy of every value of a batch (N, C, H, W), float64: x^2 of waveforms, 10^(x/10) of decibels; 0 in silence."""
    values = x.astype(np.float64)
    quiet = silence(values)
    return np.where(values == quiet, 0, np.where(quiet == 0, values**2, 10 ** (values / 10)))


def by_amplitude(x: np.ndarray) -> np.ndarray:
    """Distance from silence of every value of a batch (N, C, H, W)."""
    return np.abs(x - silence(x))


def interpolated(x: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The batch (N, C, H, W) whose values `gone` (bool, the same shape) are replaced by the straight line between the
    nearest kept values of their row (time is the last axis), at its ends by the nearest one; in a row of which nothing
    is kept by silence."""
    places, length = np.arange(x.shape[-1]), x.shape[-1]
    before = np.maximum.accumulate(np.where(gone, -1, places), axis=-1)
    after = np.minimum.accumulate(np.where(gone, length, places)[..., ::-1], axis=-1)[..., ::-1]
    first, last = before < 0, after >= length
    before, after = np.where(first, after, before), np.where(last, before, after)
    nothing = first & last
    before, after = np.where(nothing, 0, before), np.where(nothing, 0, after)
    left, right = np.take_along_axis(x, before, -1), np.take_along_axis(x, after, -1)
    share = ((places - before) / np.maximum(after - before, 1)).astype(x.dtype)
    line = np.where(nothing, silence(x), left + share * (right - left))
    return np.where(gone, line, x)


class Parts:
    """The parts of the recordings of a batch x (N, C, H, W) that can be removed, and what is left then.

    units: "values", or "blocks": 5 ms of a waveform, tiles of 8 bins x 8 frames of a spectrogram (an input with more
    than one row). Only what is not silent counts; a unit of which nothing sounds is never taken. U is the number of
    units of an item, silent ones included.
    """

    def __init__(self, x: np.ndarray, units: str = "values") -> None:
        if units not in UNITS:
            raise LRPError("units", f"one of {', '.join(UNITS)}", units)
        self.x, self.units = x, units
        self.size = (1, 1) if units == "values" else (1, BLOCK) if x.shape[2] == 1 else (TILE, TILE)
        self.sounding = x != silence(x)
        self.count = self._sum(self.sounding)  # (N, U) values that sound in each unit
        self.values = self.count.sum(axis=1)  # (N,) of the item
        self.energy = self._sum(energy(x))

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """(N, C, H, W) -> (N, U) float64, sums over the units."""
        height, width = self.size
        pad = [(0, 0), (0, 0), (0, -values.shape[2] % height), (0, -values.shape[3] % width)]
        padded = np.pad(values.astype(np.float64), pad)
        count, channels, rows, columns = padded.shape
        cut = padded.reshape(count, channels, rows // height, height, columns // width, width)
        return cut.sum(axis=(3, 5)).reshape(count, -1)

    def _spread(self, chosen: np.ndarray) -> np.ndarray:
        """(N, U) bool -> (N, C, H, W): a unit's answer for each of its values."""
        count, channels, rows, columns = self.x.shape
        height, width = self.size
        grid = chosen.reshape(count, channels, -(-rows // height), -(-columns // width))
        return grid.repeat(height, axis=2).repeat(width, axis=3)[:, :, :rows, :columns]

    def order(self, values: np.ndarray) -> np.ndarray:
        """(N, C, H, W) -> (N, U): the mean of a unit's values that are not silent, what the unit is ranked by; a mean,
        since it is the values that a share counts. Silent units have -inf."""
        sums = self._sum(np.where(self.sounding, values, 0))
        return np.where(self.count > 0, sums / np.maximum(self.count, 1), -np.inf)

    def at_random(self, draws: Sequence[np.random.Generator]) -> np.ndarray:
        """(N, U) an order by chance, from one generator for each item."""
        drawn = np.stack([rng.random(self.count.shape[1]) for rng in draws])
        return np.where(self.count > 0, drawn, -np.inf)

    def energy_matched(self, order: np.ndarray, draws: Sequence[np.random.Generator]) -> np.ndarray:
        """(N, U) the order (N, U) shuffled among units of equal energy: whatever share is taken, as many of every
        `GROUP` neighbours in energy are taken as by the order itself, at random which. What the order knows beyond
        energy is gone."""
        shuffled = order.copy()
        for item, rng in enumerate(draws):
            units = np.flatnonzero(self.count[item] > 0)
            units = units[np.argsort(self.energy[item, units], kind="stable")]
            within = np.lexsort((rng.random(len(units)), np.arange(len(units)) // GROUP))
            shuffled[item, units] = order[item, units[within]]
        return shuffled

    def taken(self, order: np.ndarray, shares: Sequence[float]) -> Iterator[np.ndarray]:
        """For each share: which units (N, U) bool go, those with the largest `order` (N, U; ties by place) first.

        As many units as bring the values that sound nearest to the share of all of the item's; the more where two
        numbers are equally near.
        """
        places = np.argsort(-order, axis=1, kind="stable")
        rank = np.empty_like(places)
        np.put_along_axis(rank, places, np.broadcast_to(np.arange(places.shape[1]), places.shape), axis=1)
        so_far = np.cumsum(np.take_along_axis(self.count, places, axis=1), axis=1)
        # a unit goes if the middle of its values lies below the share
        middles = so_far - np.take_along_axis(self.count, places, axis=1) / 2
        for share in shares:
            units = (middles <= share * self.values[:, None] + 1e-9).sum(axis=1) if share > 0 else np.zeros(len(rank))
            yield (rank < units[:, None]) & (self.count > 0)

    def without(self, units: np.ndarray, replacement: str = "silence") -> np.ndarray:
        """The batch (N, C, H, W) with the values of these units (N, U) bool that sound replaced, by `silence` or by
        interpolation along time (see `interpolated`)."""
        if replacement not in REPLACEMENTS:
            raise LRPError("replacement", f"one of {', '.join(REPLACEMENTS)}", replacement)
        gone = self._spread(units) & self.sounding
        return interpolated(self.x, gone) if replacement == "interpolation" else np.where(gone, silence(self.x), self.x)


@dataclass(frozen=True)
class Curves:
    """What became of N recordings while shares (S,) of what sounds were removed.

    right (N, S): bool, the target is still predicted; margin (N, S): the target's score minus the best other one;
    energy (N, S): share of the recording's energy that was taken.
    """

    right: np.ndarray
    margin: np.ndarray
    energy: np.ndarray


def best_other(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,) the best class beside the target, of scores (N, classes) and classes (N,): its rival."""
    others = scores.astype(np.float64)
    np.put_along_axis(others, target[:, None], -np.inf, axis=1)
    return others.argmax(axis=1)


def margins(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,) float64: the target's score minus its rival's, of scores (N, classes) and classes (N,)."""
    places = np.stack([target, best_other(scores, target)], axis=1)
    own, rival = np.take_along_axis(scores.astype(np.float64), places, axis=1).T
    return own - rival


def curves(
    forward: Forward,
    parts: Parts,
    target: np.ndarray,
    order: np.ndarray,
    replacement: str = "silence",
    shares: Sequence[float] = SHARES,
) -> Curves:
    """The `Curves` of one order (N, U). target: (N,) classes."""
    found = {"right": [], "margin": [], "energy": []}
    whole = np.maximum(parts.energy.sum(axis=1), np.finfo(np.float64).tiny)
    for units in parts.taken(order, shares):
        scores = forward(parts.without(units, replacement))
        found["right"].append(scores.argmax(axis=1) == target)
        found["margin"].append(margins(scores, target))
        found["energy"].append(np.where(units, parts.energy, 0).sum(axis=1) / whole)
    return Curves(**{name: np.stack(values, axis=1) for name, values in found.items()})


def area(values: np.ndarray, shares: Sequence[float] = SHARES) -> np.ndarray:
    """Area under curves (..., S) over the shares by trapezoids, divided by their range: the mean height."""
    shares = np.asarray(shares, np.float64)
    if len(shares) < 2 or np.any(np.diff(shares) <= 0) or shares[0] < 0 or shares[-1] > 1:
        raise LRPError("shares", "two at least that rise from 0 to 1 at most", shares.tolist())
    return np.trapezoid(np.asarray(values, np.float64), shares, axis=-1) / (shares[-1] - shares[0])


def generator(seed: int, name: str, purpose: str) -> np.random.Generator:
    """The random stream of one recording for one purpose: its company does not matter."""
    return np.random.default_rng([seed, *f"{purpose}:{os.path.basename(name)}".encode()])


MOST, LEAST = "most first", "least first"
# kinds of orders that stand beside a relevance's own
MAGNITUDE, RIVAL, MATCHED = "magnitude first", "most first for the rival", "energy-matched random"
AMPLITUDE, RANDOM = "amplitude", "random"  # sources of orders that know no network


@dataclass(frozen=True)
class Order:
    """An order: its source (a composite or method, `AMPLITUDE`, `RANDOM`), its kind, and how to make it: (N, U)."""

    source: str
    kind: str
    make: Callable[[], np.ndarray]


def orders(
    parts: Parts,
    relevances: Mapping[str, np.ndarray],
    names: Sequence[str],
    seed: int = 0,
    rivals: Mapping[str, np.ndarray] | None = None,
    controls: Iterable[str] | None = None,
) -> Iterator[Order]:
    """All orders of a batch: of every relevance {name: (N, C, H, W)} most and least first, with its energy-matched
    random one; amplitude and random, both ways.

    names: (N,) of the recordings, for `generator`. controls: names of the relevances that also get |R| and energy
    matching; None: all. rivals: relevance of the best other class, of some of them, for the signed control.
    """
    controls = tuple(relevances if controls is None else controls)
    for source, relevance in relevances.items():
        own = parts.order(relevance)
        yield Order(source, MOST, lambda own=own: own)
        yield Order(source, LEAST, lambda own=own: reverse(own))
        draws = [generator(seed, name, f"{MATCHED} {source}") for name in names]
        yield Order(source, MATCHED, lambda own=own, draws=draws: parts.energy_matched(own, draws))
        if source in controls:
            yield Order(source, MAGNITUDE, lambda relevance=relevance: parts.order(np.abs(relevance)))
        if source in (rivals or {}):
            yield Order(source, RIVAL, lambda source=source: parts.order(rivals[source]))
    for source, order in (
        (AMPLITUDE, parts.order(by_amplitude(parts.x))),
        (RANDOM, parts.at_random([generator(seed, name, RANDOM) for name in names])),
    ):
        yield Order(source, MOST, lambda order=order: order)
        yield Order(source, LEAST, lambda order=order: reverse(order))


def reverse(order: np.ndarray) -> np.ndarray:
    """(N, U) the other way round; silent units stay last."""
    return np.where(np.isneginf(order), order, -order)


# --- the command -----------------------------------------------------------------------------------------------------


@dataclass
class Mean:
    """An order's curves, summed up over recordings as they come."""

    source: str
    kind: str
    right: np.ndarray
    margin: np.ndarray
    energy: np.ndarray
    count: int = 0

    def add(self, one: Curves) -> None:
        """Count the recordings of `one`."""
        self.right = self.right + one.right.sum(axis=0)
        self.margin = self.margin + one.margin.sum(axis=0)
        self.energy = self.energy + one.energy.sum(axis=0)
        self.count += len(one.right)

    @cached_property
    def accuracy(self) -> np.ndarray:
        """(S,) share of the recordings whose target is still predicted."""
        return self.right / self.count

    @property
    def name(self) -> str:
        """Source and kind in one."""
        return f"{self.source}, {self.kind}"


def write_csv(path: str | os.PathLike, means: Iterable[Mean], shares: Sequence[float] = SHARES) -> None:
    """Write curves as a table: source and kind of the order, share taken, accuracy, margin, energy taken, and the area
    of the order's accuracy."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["source", "kind", "share", "accuracy", "margin", "energy", "area"])
    for one in means:
        rows = zip(shares, one.accuracy, one.margin / one.count, one.energy / one.count, strict=True)
        for row in rows:
            writer.writerow([one.source, one.kind, *(f"{v:.6g}" for v in row), f"{area(one.accuracy, shares):.6g}"])
    write_file(path, table.getvalue())


def draw(means: Sequence[Mean], shares: Sequence[float] = SHARES) -> Figure:
    """A matplotlib Figure of curves: accuracy, and below it the energy that is gone; a colour for each source."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    sources = list(dict.fromkeys(one.source for one in means))
    colours = {source: f"C{k}" for k, source in enumerate(sources)} | {AMPLITUDE: "k", RANDOM: "0.6"}
    lines = {MOST: "-", LEAST: "--", MATCHED: ":", MAGNITUDE: "-.", RIVAL: (0, (5, 1, 1, 1, 1, 1))}
    percent = 100 * np.asarray(shares)
    for one in means:
        style = {"color": colours[one.source], "linestyle": lines[one.kind], "marker": ".", "markersize": 4}
        upper.plot(percent, 100 * one.accuracy, label=f"{one.name} ({area(one.accuracy, shares):.3f})", **style)
        lower.plot(percent, 100 * one.energy / one.count, **style)
    upper.set(ylabel="target still predicted (%)", ylim=(0, 102))
    lower.set(xlabel="removed, of the values that are not silent (%)", ylabel="energy removed (%)", ylim=(0, 102))
    figure.legend(title="order (area under the curve)", fontsize="x-small", title_fontsize="small", loc="outside right")
    return figure


def parser() -> argparse.ArgumentParser:
    """The options."""
    run = "demo/runs/AudioNet_digit_0"
    demo = (
        f"audiomnist deletion --model {run}/deploy.prototxt --weights {run}/snapshots/AudioNet_iter_500.caffemodel "
        "--list demo/preprocessed/AudioNet_digit_0_test.txt --limit 20"
    )
    p = command_parser(
        "audiomnist deletion",
        __doc__.split("\n")[0],
        f"{demo} --output curves.png",
        f"{demo} --units values --replacement silence --composite epsilon_plus gradient --save curves.csv",
    )
    add = p.add_argument_group("what is looked at").add_argument
    add("--model", required=True, metavar="FILE", help="deploy prototxt")
    add("--weights", required=True, metavar="FILE", help="caffemodel, binary or HDF5")
    add("--list", required=True, metavar="FILE", help="text file with one preprocessed HDF5 file a line")
    add("--limit", type=number, metavar="N", help="only the first N recordings of the list (default, and 0: all)")
    target = "class that is explained (default: %(default)s)"
    add("--target", choices=("predicted", "label"), default="predicted", help=target)
    column = "column of the labels that --target label reads (default: as lrp --help says)"
    add("--label-column", type=int, metavar="N", help=column)
    add = p.add_argument_group("how").add_argument
    add("--units", choices=UNITS, default="blocks", help="what goes together (default: %(default)s)")
    replacement = "what takes its place (default: %(default)s)"
    add("--replacement", choices=REPLACEMENTS, default="interpolation", help=replacement)
    add("--seed", type=number, default=0, metavar="N", help="of the random orders (default: %(default)s)")
    batch = "recordings in memory at once (default: %(default)s)"
    add("--batch", type=positive, default=BATCH, metavar="N", help=batch)
    composites = f"composites, composite files or baselines (default: {DEFAULT})"
    add("--composite", type=command.how, nargs="+", default=[DEFAULT], metavar="NAME", help=composites)
    add = p.add_argument_group("what is written").add_argument
    add("--output", metavar="FILE", help="picture of the curves")
    add("--save", metavar="FILE", help="table of the curves, CSV")
    return p


def measure(options: argparse.Namespace) -> list[Mean]:
    """The curves that the options ask for, means over the recordings; a batch of them is in memory at a time."""
    network = Network(options.model, options.weights)
    shape = None if network.input_shape is None else network.input_shape[1:]
    files = read_list(options.list)[: options.limit or None]
    means: dict[tuple[str, str], Mean] = {}
    kind = None
    for start in range(0, len(files), options.batch):
        for group in joined(read_recording(path, shape) for path in files[start : start + options.batch]):
            kind = kind or group.data.shape[1:]
            if group.data.shape[1:] != kind:
                raise LRPError(group.path, f"data of shape {kind} as before", f"{group.data.shape[1:]}")
            with named(group.sources):
                scores = network.forward(group.data)
                target = scores.argmax(axis=1)
                if options.target == "label":
                    target = command.labels(group, scores.shape[1], options.label_column)

                def relevance(of: np.ndarray, how: str, x: np.ndarray = group.data) -> Explanation:
                    return explain(network, x, how, of)

                relevances = {how: relevance(target, how).relevance for how in options.composite}
                first = options.composite[0]
                others = {first: relevance(best_other(scores, target), first).relevance}
            parts = Parts(group.data, options.units)
            for order in orders(parts, relevances, group.sources, options.seed, others):
                one = curves(network.forward, parts, target, order.make(), options.replacement)
                means.setdefault((order.source, order.kind), Mean(order.source, order.kind, 0, 0, 0)).add(one)
    return list(means.values())


def run(options: argparse.Namespace) -> None:
    """Measure as the options say; prints the area under each curve and each source's score."""
    if options.output:
        drawing.check_format(options.output)
    means = measure(options)
    for one in means:
        print(f"{one.name}: area {area(one.accuracy):.4f}")
    by_name = {(one.source, one.kind): area(one.accuracy) for one in means}
    for source in dict.fromkeys(one.source for one in means):
        print(f"{source}: score {by_name[source, LEAST] - by_name[source, MOST]:.4f} (least first - most first)")
    if options.save:
        write_csv(options.save, means)
    if options.output:
        drawing.write(draw(means), options.output)


@door("deletion")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = parser()
    options = p.parse_args(arguments)
    if not (options.output or options.save):
        p.error("expected --output or --save, got nothing to write")
    run(options)
    return 0
