"""A Caffe network in numpy: scores, relevance and gradient.

`Network` reads a prototxt and a caffemodel (or takes a pycaffe Net) and needs no engine. It is constant after loading;
calls leave nothing behind. What it consists of is a `lrp.structure.Structure`; `lrp.passes` goes through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from caffe_proto import caffe_pb2, read_net, read_weights
from caffe_proto.memory import check_memory
from lrp import passes
from lrp.batches import Result, by_chunks
from lrp.canonizer import canonize
from lrp.composites import DEFAULT, Composite, find_composite
from lrp.elementwise import RELU_WAYS
from lrp.errors import LRPError
from lrp.explanation import Explanation, Target, check_finite, joined, start, target_of
from lrp.layer import Linear, Shape
from lrp.linear import Convolution
from lrp.rules import Rule
from lrp.structure import read_structure

FROM_TORCH = 1e-5  # how far scores may lie from a module's, of the largest


class Network:
    """A trained network.

    model: prototxt path (or a NetParameter); weights: .caffemodel or HDF5 path (or {layer name: [arrays]}).
    output: name of the blob whose values are the scores; default: what the first Softmax or loss layer reads, or the
    last blob. merge: fold affine layers into linear neighbours. Raises LRPError or caffe_proto.CaffeFileError.
    """

    def __init__(
        self,
        model: str | os.PathLike | caffe_pb2.NetParameter,
        weights: str | os.PathLike | Mapping[str, Sequence[np.ndarray | None]],
        output: str | None = None,
        merge: bool = True,
    ) -> None:
        by_path = isinstance(model, (str, os.PathLike))
        net = read_net(model) if by_path else model
        self.model = os.fspath(model) if by_path else (net.name or "network")
        stored = isinstance(weights, (str, os.PathLike))
        self.weights_file = os.fspath(weights) if stored else None
        self.where = self.model if self.weights_file is None else f"{self.model} with {self.weights_file}"
        self.structure = read_structure(net, read_weights(weights) if stored else weights, self.where, output)
        if merge:
            canonize(self.structure)
        declared = self.structure.declared
        self.input_shape = None if declared is None else (None, *declared[1:])
        if declared is not None:
            self.structure.shapes((1, *declared[1:]))

    @classmethod
    def from_pycaffe(
        cls, net: Any, prototxt: str | os.PathLike, output: str | None = None, merge: bool = True
    ) -> Network:
        """The network of a pycaffe Net (of any engine); its parameters are copied.

        net: an object with `params`, {layer name: blobs with `.data`}; prototxt: the file that it was made from, which
        pycaffe does not keep.
        """
        weights = {
            name: [np.array(blob.data, dtype=np.float32) for blob in blobs] for name, blobs in net.params.items()
        }
        return cls(prototxt, weights, output, merge)

    @classmethod
    def from_torch(cls, module: Any, example: Any, output: str | None = None, merge: bool = True) -> Network:
        """The network of a torch module in eval mode that torch.fx can trace, with one input; its weights are copied.

        example: a tensor (N, C, H, W), (N, C, L) or (N, features) that the module takes. Layers have the names of their
        submodules. Raises LRPError for an operation that has no form in Caffe, and where the scores (before a softmax
        at the end) of the example differ from the module's by more than 1e-5 of the largest.
        """
        from lrp.from_torch import translate

        made = translate(module, example)
        network = cls(made.net, made.weights, output, merge)
        if output is None:
            found, wanted = network.forward(example.detach().cpu().numpy()), made.scores
            if found.shape != wanted.shape:
                raise LRPError(network.where, f"scores of shape {wanted.shape}", found.shape)
            gap = np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny)
            if not gap <= FROM_TORCH:
                raise LRPError(
                    network.where, f"the module's scores within {FROM_TORCH:g}", f"a difference of {gap:.2g}"
                )
        return network

    @property
    def linear_layers(self) -> list[Linear]:
        """The layers that rules apply to, bottom to top."""
        return [layer for layer, _ in self.structure.linear_layers()]

    def rules(self, composite: str | os.PathLike | Composite) -> dict[str, Rule]:
        """{layer name: rule} of a composite (name or `Composite`) on this network's linear layers."""
        composite = find_composite(composite)
        return {layer.name: composite.rule_for(layer, first) for layer, first in self.structure.linear_layers()}

    def shared(self, rules: Mapping[str, Rule]) -> tuple[int, int]:
        """(rows, columns) of input values among which the first layers share relevance without looking at them, under
        {layer name: rule}: the windows of convolutions whose rule has no x (flat, w^2), else (1, 1)."""
        blind = [layer for layer, first in self.structure.linear_layers() if first and not rules[layer.name].looks_at_x]
        extents = [layer.window.extent for layer in blind if isinstance(layer, Convolution)]
        return max((rows for rows, _ in extents), default=1), max((columns for _, columns in extents), default=1)

    def classes(self, shape: Shape) -> int:
        """Number of scores for a batch of that shape."""
        return self.structure.shapes((1, *shape[1:]))[self.structure.output][-1]

    def fitted(self, x: Any) -> Any:
        """x as this network takes it: what `lrp.read` gave of a recording, in its form for this input's shape; an array
        as it is. Raises LRPError where there is no such form."""
        if not hasattr(x, "for_input"):
            return x
        return x.for_input(None if self.input_shape is None else self.input_shape[1:])

    def check_input(self, x: ArrayLike, dtype: DTypeLike = np.float32) -> np.ndarray:
        """The batch as an array of `dtype`; LRPError for a wrong shape or values that are not finite."""
        x = np.asarray(self.fitted(x))
        if x.dtype.kind not in "fiu":
            raise LRPError("input", "numbers", f"values of type {x.dtype}")
        if self.input_shape is not None and (x.ndim != len(self.input_shape) or x.shape[1:] != self.input_shape[1:]):
            shape = ", ".join(["N", *map(str, self.input_shape[1:])])
            raise LRPError("input", f"shape ({shape}), as {self.model} declares it", x.shape)
        x = x.astype(dtype, copy=False)
        if not np.isfinite(x).all():
            raise LRPError("input", "finite numbers", f"{int((~np.isfinite(x)).sum())} that are NaN or infinite")
        return x

    def _by_chunks(self, x: np.ndarray, work: Callable[[np.ndarray, int], Result], workers: int | None) -> list[Result]:
        """[work(chunk, index of its first item)] over the batch x (see `by_chunks`)."""
        values = self.structure.values(x.shape)
        with LRPError.of_files():
            check_memory(values * x.itemsize, self.where, "an item's blobs")
        return by_chunks(x, values, work, workers)

    def forward(self, x: ArrayLike, dtype: DTypeLike = np.float32, workers: int | None = None) -> np.ndarray:
        """Scores (N, classes) of a batch x (N, ...): the values before softmax, in `dtype`.

        workers: see `relevance`. Raises NotFiniteError for scores that are NaN or infinite.
        """
        x = self.check_input(x, dtype)

        def scores(part: np.ndarray, first: int) -> np.ndarray:
            return passes.forward(self.structure, part)[0][self.structure.output]

        return check_finite("scores", np.concatenate(self._by_chunks(x, scores, workers)), self.where)

    def relevance(
        self,
        x: ArrayLike,
        target: Target = None,
        composite: str | os.PathLike | Composite = DEFAULT,
        dtype: DTypeLike = np.float32,
        layers: bool = False,
        absorbed: bool = False,
        workers: int | None = None,
    ) -> Explanation:
        """Relevance of a batch x (N, ...).

        target: None (each item's predicted class); a class number; a tuple of class numbers (explained together); an
        integer array (N,), one class per item; or a float array (N, classes), the relevance of the scores itself.
        composite: name or `Composite`. dtype: float32 or float64, of the whole computation. layers, absorbed: also
        return the relevance of every layer's output, and what biases and stabilisers absorbed. workers: threads that
        explain items side by side, each with a BLAS of one thread (without threadpoolctl there is one); default: the
        processors of this process. Returns `Explanation`. Raises NotFiniteError for scores or relevance that are NaN or
        infinite.
        """
        whole = self.fitted(x)
        x = self.check_input(whole, dtype)
        composite = find_composite(composite)
        rules = self.rules(composite)
        names = {name: repr(rule) for name, rule in rules.items()}
        shared = self.shared(rules)

        def explain(part: np.ndarray, first: int) -> Explanation:
            values, denominators = passes.forward(self.structure, part, rules)
            scores = values[self.structure.output]
            above, *classes = start(scores, target_of(target, first, len(part), len(x)), self.where)
            by_layer, kept = {} if layers else None, {} if absorbed else None
            below = passes.relevance(self.structure, values, above, rules, denominators, composite.ties, by_layer, kept)
            score = above.sum(axis=1, dtype=np.float64)
            more = {"note": composite.note, "shared": shared}
            return Explanation(
                below, scores, score, *classes, composite.name, names, by_layer or {}, kept or {}, **more
            )

        made = joined(self._by_chunks(x, explain, workers))
        for what, values in made.arrays():
            check_finite(what, values, self.where)
        made.input, made.weights = whole, self.weights_file
        return made

    def gradient(
        self,
        x: ArrayLike,
        target: Target = None,
        dtype: DTypeLike = np.float32,
        relu: str = "gradient",
        workers: int | None = None,
    ) -> np.ndarray:
        """Gradient of the target's score with respect to the batch x; an array of its shape.

        target: as in `relevance` (a given relevance of the scores weighs their gradients). relu: what happens at ReLU
        layers, one of `lrp.elementwise.RELU_WAYS`. Where the maximum of a pooling window is tied, the winners share.
        workers: see `relevance`. Raises NotFiniteError for gradients that are NaN or infinite.
        """
        if relu not in RELU_WAYS:
            raise LRPError("ReLU", f"one of the ways back {', '.join(RELU_WAYS)}", repr(relu))
        x = self.check_input(x, dtype)

        def explain(part: np.ndarray, first: int) -> np.ndarray:
            values, _ = passes.forward(self.structure, part)
            chosen = target_of(target, first, len(part), len(x))
            above, _, _ = start(values[self.structure.output], chosen, self.where, of_gradient=True)
            return passes.gradient(self.structure, values, above, relu)

        return check_finite("gradient", np.concatenate(self._by_chunks(x, explain, workers)), self.where)
