"""What a layer is to LRP, and the registry of Caffe layer types.

A layer is made from its Caffe definition by a reader registered under the type's name: `reader(param, blobs, where)`
returns a `Layer`. Layers are constant after loading: activations travel through arguments, never through attributes.
All arrays have Caffe's axis order (N, C, H, W); their memory order is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from caffe_proto import caffe_pb2
from lrp.errors import LRPError
from lrp.rules import Selector, identity

Shape = tuple[int, ...]
Arrays = list[np.ndarray]  # one per bottom or top
Above = list[np.ndarray | None]  # what comes down from the tops; None for one that the scores do not depend on
Blobs = Sequence[np.ndarray | None]  # a layer's weights; None for one that a file leaves out
Ties = Literal["share", "first"]
Reader = Callable[[caffe_pb2.LayerParameter, Blobs, str], "Layer"]

READERS: dict[str, Reader] = {}


def caffe_type(*names: str) -> Callable[[Reader], Reader]:
    """Decorator: register a function (param, blobs, where) -> Layer as the reader of the Caffe types `names`."""

    def register(reader: Reader) -> Reader:
        for name in names:
            READERS[name] = reader
        return reader

    return register


def canonical_axis(axis: int, shape: Shape, where: str) -> int:
    """`axis` counted from 0; LRPError where the shape has none of that number."""
    if not -len(shape) <= axis < len(shape):
        raise LRPError(where, f"an axis of an input of shape {tuple(shape)}", axis)
    return axis % len(shape)


def read_layer(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """The `Layer` of a Caffe LayerParameter.

    blobs: list of weight arrays. where: "file: layer NAME", the beginning of every error. Raises LRPError for a type
    that is not known here.
    """
    if param.type not in READERS:
        raise LRPError(where, f"one of the types {', '.join(sorted(READERS))}", repr(param.type))
    layer = READERS[param.type](param, blobs, where)
    layer.name, layer.type, layer.where = param.name, param.type, where
    return layer


class Layer:
    """A layer without weights of its own: activations, pooling, shaping, merging.

    Subclasses give `output_shapes`, `forward`, `gradient` and `relevance`. inputs/outputs are lists of arrays, one per
    bottom/top; relevances and gradients are lists alike, with None for a top that the scores do not depend on.
    """

    name = type = where = ""
    linear = False
    #: the forward pass may overwrite its input when nobody else reads it (relevance and gradient do not need it)
    overwrites = False

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops for bottoms of the given shapes."""
        return list(shapes)

    def equal_shapes(self, shapes: Sequence[Shape]) -> Shape:
        """The shape that all bottoms have; LRPError where they differ."""
        if any(tuple(shape) != tuple(shapes[0]) for shape in shapes):
            raise LRPError(self.where, "inputs of equal shapes", ", ".join(map(str, shapes)))
        return shapes[0]

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        """The tops, for a list of bottoms."""
        raise NotImplementedError

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        """Gradients with respect to the bottoms, given those with respect to the tops."""
        raise NotImplementedError

    def modified_gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above, relu: str) -> Arrays:
        """`gradient`; where the layer is a ReLU, what `relu` makes of it (`lrp.elementwise.RELU_WAYS`)."""
        return self.gradient(inputs, outputs, gradients)

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        """Relevances of the bottoms, given those of the tops."""
        raise NotImplementedError

    def relevance_of_ties(self, inputs: Arrays, outputs: Arrays, relevances: Above, ties: Ties) -> Arrays:
        """`relevance`; where values compete and tie, the winners "share", or the "first" takes all."""
        return self.relevance(inputs, outputs, relevances)


class Linear(Layer):
    """z = W x + b: owes `weight`, `apply`, `adjoint`, `output_shape`; rules do the rest.

    A layer with several bottoms gives `join` and `part`, which make one x of them and take it apart again.

    bias: array in Caffe's shape or None. `prepare` turns weights into the form that apply and adjoint work on; what it
    returns is kept per (selectors, dtype), since weights never change.
    """

    linear = True
    bias = None

    def __init__(self) -> None:
        self._prepared = {}

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        """The weight array, in Caffe's shape."""
        raise NotImplementedError

    def bias_array(self, dtype: DTypeLike) -> np.ndarray:
        """The bias, shaped to broadcast against the output."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of that shape."""
        raise NotImplementedError

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.output_shape(shapes[0])]

    def join(self, inputs: Arrays) -> np.ndarray:
        """The bottoms as one array x."""
        return inputs[0]

    def part(self, joined: np.ndarray) -> Arrays:
        """The bottoms' shares of an array shaped like x."""
        return [joined]

    def prepare(self, weights: Arrays) -> np.ndarray | Arrays:
        """Working form of a list of weight arrays that are applied together."""
        return weights

    def prepared(self, selectors: Sequence[Selector], dtype: DTypeLike) -> np.ndarray | Arrays:
        """Working form of the weights that the selectors pick (computed once)."""
        key = (tuple(selectors), np.dtype(dtype))
        if key not in self._prepared:
            weight = self.weight(dtype)
            self._prepared[key] = self.prepare([np.asarray(select(weight), dtype) for select in selectors])
        return self._prepared[key]

    def hidden(self, x: np.ndarray, selector: Selector) -> np.ndarray | None:
        """Of every output, the sum of the weights (as the selector picks them) that meet padding and no value of x; an
        array of the output's shape, or None where there is no padding."""
        return None

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        """[W_k x for every weight selector k], without bias; fresh arrays."""
        raise NotImplementedError

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        """sum_k W_k^T s_k for arrays s_k of the output's shape; a fresh array of the input's shape `shape`."""
        raise NotImplementedError

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        return self.part(self.adjoint([gradients[0]], (identity,), self.join(inputs).shape))

    def dense(self, shape: Shape, dtype: DTypeLike = np.float64) -> np.ndarray:
        """The layer's matrix for one input of `shape` (without batch axis), (outputs, inputs): for small sizes."""
        inputs = np.eye(int(np.prod(shape)), dtype=dtype).reshape(-1, *shape)
        (outputs,) = self.apply(inputs, (identity,))
        return outputs.reshape(len(inputs), -1).T


def expect_shape(blobs: Blobs, index: int, shape: Shape, where: str, what: str) -> np.ndarray:
    """blobs[index] in this shape (legacy 4-axis blobs are squeezed to it); LRPError if it has another one."""
    if index >= len(blobs) or blobs[index] is None:
        raise LRPError(where, f"{what} of shape {shape} in the weights", "none")
    found = blobs[index].shape
    legacy = len(found) == 4 and len(shape) < 4 and tuple(found) == (1,) * (4 - len(shape)) + tuple(shape)
    if tuple(found) != tuple(shape) and not legacy:
        raise LRPError(where, f"{what} of shape {tuple(shape)} in the weights", tuple(found))
    return blobs[index].reshape(shape)
