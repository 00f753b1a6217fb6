"""Pooling with Caffe's geometry: output sizes round up, windows are clipped at the border; MAX, AVE, STOCHASTIC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType

import numpy as np

from caffe_proto import caffe_pb2
from lrp.errors import LRPError
from lrp.layer import Above, Arrays, Blobs, Layer, Shape, Ties, caffe_type
from lrp.linear import AveragePooling, Pair, pair

Places = tuple[EllipsisType, slice, slice]  # index of rows and columns
Tap = tuple[Places, Places]  # (of windows, of values)


class Geometry:
    """Where pooling windows lie. kernel, stride, pad: (height, width); None as kernel means the whole image."""

    def __init__(self, kernel: Pair | None, stride: Pair, pad: Pair, round_up: bool = True) -> None:
        self.kernel, self.stride, self.pad, self.round_up = kernel, stride, pad, round_up

    def _kernel(self, shape: Shape) -> Pair:
        return self.kernel or (shape[2], shape[3])

    def output_shape(self, shape: Shape, where: str = "") -> Shape:
        """(N, C, rows, columns) for an input (N, C, H, W): ceil((size + 2 pad - kernel) / stride) + 1, clipped so that
        no window starts beyond the padded image if there is padding (caffe: pooling_layer.cpp, Reshape)."""
        kernel = self._kernel(shape)
        counts = []
        for size, k, s, p in zip(shape[2:], kernel, self.stride, self.pad, strict=True):
            room = size + 2 * p - k
            if room < 0:
                least = f"{kernel[0]} x {kernel[1]}"
                raise LRPError(where, f"an input of at least one window of {least}", f"{shape[2]} x {shape[3]}")
            counts.append((-(-room // s) if self.round_up else room // s) + 1)
        if any(self.pad):
            counts = [
                count - 1 if (count - 1) * s >= size + p else count
                for count, size, s, p in zip(counts, shape[2:], self.stride, self.pad, strict=True)
            ]
        for count, size, s in zip(counts, shape[2:], self.stride, strict=True):
            if not any(self.pad) and (count - 1) * s >= size:
                got = f"{s}, with which the last of {count} windows lies outside an input of size {size}"
                raise LRPError(where, "a stride not larger than the kernel", got)
        return (*shape[:2], *counts)

    def _axis_taps(self, axis: int, size: int, count: int, k: int) -> Iterator[tuple[slice, slice]]:
        """For each offset in the window: (slice of windows, slice of values) along one axis, clipped to the image."""
        s, p = self.stride[axis], self.pad[axis]
        for offset in range(k):
            first = max(0, -(-(p - offset) // s))
            last = min(count - 1, (size - 1 + p - offset) // s)
            if last >= first:
                start = first * s - p + offset
                yield slice(first, last + 1), slice(start, start + (last - first) * s + 1, s)

    def taps(self, shape: Shape) -> Iterator[Tap]:
        """Pairs of indices (windows, values): values[index] is the same place within each of those windows.

        Together the pairs name every (window, value) pair once, in row-major order within a window.
        """
        _, _, rows, columns = self.output_shape(shape)
        kernel = self._kernel(shape)
        for row, y in self._axis_taps(0, shape[2], rows, kernel[0]):
            for column, x in self._axis_taps(1, shape[3], columns, kernel[1]):
                yield (..., row, column), (..., y, x)

    def sizes(self, shape: Shape) -> np.ndarray:
        """Divisor of average pooling for every window, (rows, columns): the window clipped to the padded image."""
        _, _, rows, columns = self.output_shape(shape)
        lengths = []
        for axis, count in enumerate((rows, columns)):
            size, k, s, p = shape[2 + axis], self._kernel(shape)[axis], self.stride[axis], self.pad[axis]
            start = np.arange(count) * s - p
            lengths.append(np.minimum(start + k, size + p) - start)
        return np.outer(*lengths).astype(np.float64)


class MaxPooling(Layer):
    """Maximum over windows. Relevance and gradient go to the winner; winners that tie share equally (relevance goes to
    the first of them, in row-major order, where a composite says so)."""

    def __init__(self, pooling: Geometry) -> None:
        self.pooling = pooling

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.pooling.output_shape(shapes[0], self.where)]

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        x = inputs[0]
        shape = self.pooling.output_shape(x.shape, self.where)
        y = np.empty_like(x, shape=shape)
        y.fill(-np.inf)
        for windows, values in self.pooling.taps(x.shape):
            np.maximum(y[windows], x[values], out=y[windows])
        return [y]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        return self.relevance_of_ties(inputs, outputs, relevances, "share")

    def relevance_of_ties(self, inputs: Arrays, outputs: Arrays, relevances: Above, ties: Ties) -> Arrays:
        x, y = inputs[0], outputs[0]
        taps = list(self.pooling.taps(x.shape))
        result = np.zeros_like(x)
        give = self._share if ties == "share" else self._give_to_first
        for item in range(len(x)):  # one at a time, so that the many passes over an item stay in the cache
            give(x[item], y[item], relevances[0][item], result[item], taps)
        return [result]

    @staticmethod
    def _give_to_first(
        x: np.ndarray, y: np.ndarray, relevance: np.ndarray, result: np.ndarray, taps: Sequence[Tap]
    ) -> None:
        """Add the relevance (C, rows, columns) of one item's windows to the first winner of each in `result`."""
        open_ = np.ones(y.shape, bool)
        for windows, values in taps:
            won = (x[values] == y[windows]) & open_[windows]
            open_[windows] &= ~won
            result[values] += relevance[windows] * won

    @staticmethod
    def _share(x: np.ndarray, y: np.ndarray, relevance: np.ndarray, result: np.ndarray, taps: Sequence[Tap]) -> None:
        """Add the relevance (C, rows, columns) of one item's windows to their winners in `result` (C, H, W)."""
        winners, ties = [], np.zeros_like(y, dtype=np.uint8 if len(taps) < 256 else np.uint32)
        for windows, values in taps:
            won = x[values] == y[windows]
            winners.append(won)
            ties[windows] += won
        share = relevance / np.maximum(ties, 1) if ties.max() > 1 else relevance
        for (windows, values), won in zip(taps, winners, strict=True):
            result[values] += share[windows] * won

    gradient = relevance


class StochasticPooling(Layer):
    """What stochastic pooling is when it is tested: the mean of a window weighted by its values, sum x^2 / sum x.

    Every value brings its weight times itself to the mean, so relevance is shared out like x^2; a window whose values
    sum to 0 or less is worth 0 and passes nothing on.
    """

    def __init__(self, pooling: Geometry) -> None:
        self.pooling = pooling

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.pooling.output_shape(shapes[0], self.where)]

    def _sum(self, x: np.ndarray) -> np.ndarray:
        """The sum over every window."""
        total = np.zeros_like(x, shape=self.pooling.output_shape(x.shape, self.where))
        for windows, values in self.pooling.taps(x.shape):
            total[windows] += x[values]
        return total

    def _spread(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Every window's y at all its values, summed; in the shape of x."""
        result = np.zeros_like(x)
        for windows, values in self.pooling.taps(x.shape):
            result[values] += y[windows]
        return result

    @staticmethod
    def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a / b where b > 0, else 0."""
        return np.divide(a, b, out=np.zeros_like(a), where=b > 0)

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        x = inputs[0]
        return [self._divide(self._sum(x * x), self._sum(x))]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        squares = inputs[0] ** 2
        worth = self._sum(squares) * (outputs[0] > 0)
        return [squares * self._spread(self._divide(relevances[0], worth), squares)]

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        x = inputs[0]
        share = self._divide(gradients[0], self._sum(x))
        return [2 * x * self._spread(share, x) - self._spread(share * outputs[0], x)]


@caffe_type("Pooling")
def read_pooling(
    param: caffe_pb2.LayerParameter, blobs: Blobs, where: str
) -> MaxPooling | AveragePooling | StochasticPooling:
    """MAX, AVE or STOCHASTIC pooling."""
    p = param.pooling_param
    kernel = None if p.global_pooling else pair(p, "kernel_size", 0, where)
    stride, pad = pair(p, "stride", 1, where), pair(p, "pad", 0, where)
    if kernel is not None and (min(kernel) < 1 or any(a >= b for a, b in zip(pad, kernel, strict=True))):
        raise LRPError(where, "a kernel larger than the pad", f"kernel {kernel} and pad {pad}")
    if min(stride) < 1:
        raise LRPError(where, "a stride of at least 1", stride)
    geometry = Geometry(kernel, stride, pad, round_up=p.round_mode == p.CEIL)
    if p.pool == p.MAX:
        return MaxPooling(geometry)
    if p.pool == p.AVE:
        return AveragePooling(geometry)
    if any(pad):
        raise LRPError(where, "no padding of STOCHASTIC pooling", f"pad {pad}")
    return StochasticPooling(geometry)
