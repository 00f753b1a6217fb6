"""Layers that move values or put branches together: relevance follows the values and is never lost.

Flatten, Reshape, Concat, Slice, Split, Eltwise (SUM is linear; PROD, MAX), and the layers at which explanation starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from caffe_proto import caffe_pb2
from lrp.errors import LRPError
from lrp.layer import Above, Arrays, Blobs, Layer, Shape, caffe_type, canonical_axis
from lrp.linear import Sum


class Reshaping(Layer):
    """New shape, same values. target(shape) -> shape."""

    def __init__(self, target: Callable[[Shape], Shape]) -> None:
        self.target = target

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.target(shapes[0])]

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [inputs[0].reshape(self.target(inputs[0].shape))]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        return [relevances[0].reshape(inputs[0].shape)]

    gradient = relevance


class Split(Layer):
    """Copies; their relevances (gradients) add up."""

    def __init__(self, tops: int) -> None:
        self.tops = tops

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [shapes[0]] * self.tops

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [inputs[0]] * self.tops

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        total = np.zeros_like(inputs[0])
        for one in relevances:
            if one is not None:
                total = total + one
        return [total]

    gradient = relevance


class Concat(Layer):
    """Bottoms one after the other along an axis; each gets back its part."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        axis = canonical_axis(self.axis, shapes[0], self.where)
        others = {tuple(shape[:axis]) + tuple(shape[axis + 1 :]) for shape in shapes}
        if len(others) > 1:
            expected = f"inputs of shapes that are equal but for axis {self.axis}"
            raise LRPError(self.where, expected, ", ".join(map(str, shapes)))
        return [(*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])]

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [np.concatenate(inputs, axis=self.axis)]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        ends = np.cumsum([x.shape[self.axis] for x in inputs])[:-1]
        return list(np.split(relevances[0], ends, axis=self.axis))

    gradient = relevance


class Slice(Layer):
    """Cuts along an axis, at points or into equal parts; tops that nobody explains count as zero."""

    def __init__(self, axis: int, points: Sequence[int], tops: int) -> None:
        self.axis, self.points, self.tops = axis, points, tops

    def _points(self, shape: Shape) -> Sequence[int]:
        size = shape[canonical_axis(self.axis, shape, self.where)]
        points = self.points or [size * k // self.tops for k in range(1, self.tops)]
        if (not self.points and size % self.tops) or [0, *points, size] != sorted({0, *points, size}):
            expected = f"slice points that rise from 0 to size {size} for {self.tops} tops"
            raise LRPError(self.where, expected, list(points))
        return points

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        shape, axis = shapes[0], canonical_axis(self.axis, shapes[0], self.where)
        points = [0, *self._points(shape), shape[axis]]
        return [(*shape[:axis], b - a, *shape[axis + 1 :]) for a, b in zip(points[:-1], points[1:], strict=True)]

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return np.split(inputs[0], self._points(inputs[0].shape), axis=self.axis)

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        parts = [np.zeros_like(out) if one is None else one for out, one in zip(outputs, relevances, strict=True)]
        return [np.concatenate(parts, axis=self.axis)]

    gradient = relevance


class Maximum(Layer):
    """Eltwise MAX: relevance goes to the largest bottom; bottoms that tie share equally."""

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [np.maximum.reduce(inputs)]

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.equal_shapes(shapes)]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        winners = [x == outputs[0] for x in inputs]
        share = relevances[0] / np.maximum(sum(won.astype(outputs[0].dtype) for won in winners), 1)
        return [share * won for won in winners]

    gradient = relevance


class Product(Layer):
    """Eltwise PROD: every factor gets an equal share of the relevance (none is more of a cause than another)."""

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [np.multiply.reduce(inputs)]

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.equal_shapes(shapes)]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        return [relevances[0] / np.asarray(len(inputs), relevances[0].dtype)] * len(inputs)

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        results = []
        for index in range(len(inputs)):
            others = inputs[:index] + inputs[index + 1 :]
            results.append(gradients[0] * np.multiply.reduce(others))
        return results


class Head(Layer):
    """Softmax and losses: what follows the scores. Nothing is computed; explanation starts at its first bottom."""


@caffe_type("Flatten")
def read_flatten(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Reshaping:
    """Merges the axes from `axis` to `end_axis`."""
    p = param.flatten_param

    def target(shape: Shape) -> Shape:
        first, last = (canonical_axis(axis, shape, where) for axis in (p.axis, p.end_axis))
        if last < first:
            raise LRPError(where, "an end_axis not before the axis", f"axes {p.axis} and {p.end_axis}")
        return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])

    return Reshaping(target)


@caffe_type("Reshape")
def read_reshape(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Reshaping:
    """Replaces axes by `shape`: 0 copies, one -1 is inferred (caffe: reshape_layer.cpp)."""
    p = param.reshape_param
    dims = list(p.shape.dim)

    def target(shape: Shape) -> Shape:
        first = p.axis if p.axis >= 0 else len(shape) + p.axis + 1
        last = len(shape) if p.num_axes == -1 else first + p.num_axes
        if not 0 <= first <= last <= len(shape):
            raise LRPError(where, f"axes of an input of shape {tuple(shape)}", f"axis {p.axis}, num_axes {p.num_axes}")
        if any(dim < -1 or dim == 0 and first + k >= len(shape) for k, dim in enumerate(dims)) or dims.count(-1) > 1:
            raise LRPError(where, f"a shape for an input of shape {tuple(shape)}", dims)
        middle = [shape[first + i] if dim == 0 else dim for i, dim in enumerate(dims)]
        if -1 in middle:
            known = math.prod(d for d in middle if d != -1) * math.prod(shape[:first]) * math.prod(shape[last:])
            if known == 0 or math.prod(shape) % known:
                raise LRPError(where, f"a shape that divides an input of {tuple(shape)}", dims)
            middle[middle.index(-1)] = math.prod(shape) // known
        result = (*shape[:first], *middle, *shape[last:])
        if math.prod(result) != math.prod(shape):
            raise LRPError(where, f"a shape of as many values as an input of {tuple(shape)}", dims)
        return result

    return Reshaping(target)


@caffe_type("Split")
def read_split(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Split:
    """Copies."""
    return Split(len(param.top))


@caffe_type("Concat")
def read_concat(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Concat:
    """Concatenation."""
    p = param.concat_param
    return Concat(p.concat_dim if p.HasField("concat_dim") else p.axis)


@caffe_type("Slice")
def read_slice(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Slice:
    """Cuts."""
    p = param.slice_param
    return Slice(p.slice_dim if p.HasField("slice_dim") else p.axis, list(p.slice_point), len(param.top))


@caffe_type("Eltwise")
def read_eltwise(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Sum | Maximum | Product:
    """SUM (linear), PROD or MAX of the bottoms."""
    p = param.eltwise_param
    if p.operation == p.SUM:
        coefficients = list(p.coeff) or [1.0] * len(param.bottom)
        if len(coefficients) != len(param.bottom):
            raise LRPError(where, f"a coefficient for each of {len(param.bottom)} bottoms", len(coefficients))
        return Sum(coefficients)
    return Maximum() if p.operation == p.MAX else Product()


@caffe_type(
    "Softmax",
    "SoftmaxWithLoss",
    "SigmoidCrossEntropyLoss",
    "EuclideanLoss",
    "HingeLoss",
    "MultinomialLogisticLoss",
    "InfogainLoss",
    "ContrastiveLoss",
    "Accuracy",
    "ArgMax",
    "Silence",
)
def read_head(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Head:
    """What comes after the scores."""
    return Head()
