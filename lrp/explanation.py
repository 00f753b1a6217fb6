"""What is explained (targets: the relevance that is handed in at the scores) and what an explanation holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lrp.errors import LRPError, NotFiniteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lrp.view import Sound

# What is explained (see `Network.relevance`).
Target = int | np.integer | tuple[int, ...] | np.ndarray | None


@dataclass
class Explanation:
    """The relevance of a batch and what it explains.

    relevance: shape and dtype of the input batch. scores: (N, classes). score: (N,) relevance that was handed in at the
    scores. prediction, target: (N,) class numbers (target is -1 where it is not one class). composite: what explained
    it. rules: {layer name: repr of its rule}. layers: {layer name: relevance of its output}, if asked for (a layer with
    several outputs has an entry "layer:blob" for each that the scores depend on).
    absorbed: {layer name: {"bias": (N,), "stabiliser": (N,)}}, if asked for. measures: {name: (N,)}, what tells more of
    the method's quality than sum(R)/score, if there is such a thing. note: what a reader of its pictures must know.
    shared: (rows, columns) of input values among which the first layer shares relevance without looking at them, so
    that nothing finer can be seen; (1, 1) where it looks at every value, None where that is unknown.
    input: the batch as it was given, an array or what `lrp.read` gave. weights: the file of the network's weights; None
    where they came from memory.

    `draw`, `play` and `save` go through `lrp.view`, which knows of pictures, recordings and sound.
    """

    relevance: np.ndarray
    scores: np.ndarray
    score: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    composite: str
    rules: dict[str, str]
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    absorbed: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""
    shared: tuple[int, int] | None = None
    input: Any = field(default=None, repr=False)
    weights: str | None = None

    def draw(self, item: int = 0) -> Figure:
        """A picture of one item's relevance over its input: a matplotlib Figure. Raises LRPError."""
        from lrp import view

        return view.draw(self, item)

    def play(self, item: int = 0, formula: str | None = None) -> Sound:
        """One item's relevance made audible: what a notebook shows as a player, and has `signal`, `rate`, `write`.

        formula: one of `audiomnist.explain.audible.FORMULAS`; None: its DEFAULT. Raises LRPError where nothing
        sounds.
        """
        from lrp import view

        return view.play(self, item, formula)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to the HDF5 file `path`, whole or not at all, as `lrp --save` does. Raises LRPError, OSError
        or caffe_proto.WriteError."""
        from lrp import view

        view.save(self, path)

    @property
    def conserved(self) -> np.ndarray:
        """sum(R) / score for every item, (N,): 1 where no relevance was absorbed."""
        total = self.relevance.reshape(len(self.relevance), -1).sum(axis=1, dtype=np.float64)
        return np.divide(total, self.score, out=np.full(len(total), np.nan), where=self.score != 0)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array) of everything that has numbers of the network's making."""
        yield "scores", self.scores
        yield f"relevance by {self.composite}", self.relevance
        for layer, values in self.layers.items():
            yield f"relevance by {self.composite} of layer {layer}", values
        for layer, kinds in self.absorbed.items():
            for kind, values in kinds.items():
                yield f"relevance by {self.composite} absorbed by the {kind} of layer {layer}", values


def joined(pieces: Sequence[Explanation]) -> Explanation:
    """One `Explanation` of a batch from those of its chunks, in order."""
    first = pieces[0]

    def together(values: Callable[[Explanation], np.ndarray]) -> np.ndarray:
        return np.concatenate([values(piece) for piece in pieces])

    return Explanation(
        *(
            together(lambda piece, name=name: getattr(piece, name))
            for name in ("relevance", "scores", "score", "prediction", "target")
        ),
        first.composite,
        first.rules,
        {name: together(lambda piece, name=name: piece.layers[name]) for name in first.layers},
        {
            layer: {kind: together(lambda p, layer=layer, kind=kind: p.absorbed[layer][kind]) for kind in kinds}
            for layer, kinds in first.absorbed.items()
        },
        note=first.note,
        shared=first.shared,
    )


def check_finite(what: str, values: np.ndarray, where: str) -> np.ndarray:
    """`values` (N, ...); NotFiniteError for the first item that holds NaN or infinite numbers.

    what: their name; where: of which network.
    """
    finite = np.isfinite(values).reshape(len(values), -1)
    if not finite.all():
        item = int(finite.all(axis=1).argmin())
        got = f"{np.count_nonzero(~finite[item])} of {finite[item].size} that are NaN or infinite"
        raise NotFiniteError(item, what, f"finite numbers of {where}", got)
    return values


def target_of(target: Target, start: int, count: int, total: int) -> Target:
    """The part of `target` that belongs to a chunk of `count` items from `start` on, of `total` items."""
    if target is None or isinstance(target, (int, np.integer, tuple)):
        return target
    target = np.asarray(target)
    if target.ndim not in (1, 2) or len(target) != total:
        expected = f"one class, or one row of output relevances, for each of {total} items"
        raise LRPError("target", expected, f"an array of shape {target.shape}")
    return target[start : start + count]


def _chosen(scores: np.ndarray, target: Target) -> np.ndarray:
    """(N, M) class numbers that a target (no relevance of the scores) means for scores (N, classes)."""
    count, classes = scores.shape
    if isinstance(target, tuple):
        chosen = np.tile(np.asarray(target, int), (count, 1))
    elif target is None:
        chosen = scores.argmax(axis=1)[:, None]
    else:
        chosen = np.broadcast_to(np.asarray(target), (count,))[:, None]
    if chosen.dtype.kind not in "iu" or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= classes:
        got = np.unique(chosen).tolist() if chosen.size else "nothing"
        raise LRPError("target", f"classes from 0 to {classes - 1}", got)
    return chosen


def start(
    scores: np.ndarray, target: Target, where: str, of_gradient: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(relevance of the scores (N, classes), prediction (N,), target class or -1 (N,)) for scores (N, classes).

    target: as in `Network.relevance`. where: the beginning of errors. of_gradient: ones instead of the scores at the
    target. Raises LRPError for a class that does not exist.
    """
    if scores.ndim != 2:
        raise LRPError(where, "scores of shape (N, classes)", scores.shape)
    prediction = scores.argmax(axis=1)
    if isinstance(target, np.ndarray) and target.ndim == 2:
        if target.shape != scores.shape:
            raise LRPError("target", f"output relevance of shape {scores.shape}", target.shape)
        return target.astype(scores.dtype), prediction, np.full(len(scores), -1)
    chosen = _chosen(scores, target)
    relevance = np.zeros_like(scores)
    rows = np.arange(len(scores))[:, None]
    relevance[rows, chosen] = 1 if of_gradient else scores[rows, chosen]
    single = chosen[:, 0] if chosen.shape[1] == 1 else np.full(len(scores), -1)
    return relevance, prediction, single.astype(np.int64)
