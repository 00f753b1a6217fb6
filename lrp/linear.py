"""Linear layers: Convolution, Deconvolution, InnerProduct, average Pooling, Eltwise SUM.

Convolutions work on images whose memory runs (N, H, W, C): a window's row is then one run of memory, and every matrix
product has channels as its short side. Arrays keep Caffe's axis order (N, C, H, W) throughout; only strides differ.
Letters: N items, C channels, H W height and width, O outputs, G groups, K values of one window, P windows of one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from caffe_proto import CaffeFileError, caffe_pb2
from caffe_proto.windows import WindowParameter
from caffe_proto.windows import window as read_window
from lrp.errors import LRPError
from lrp.layer import Arrays, Blobs, Linear, Shape, caffe_type, canonical_axis, expect_shape
from lrp.rules import Selector

if TYPE_CHECKING:
    from lrp.pooling import Geometry

Pair = tuple[int, int]  # (for height, for width)


def pair(param: WindowParameter, name: str, default: int, where: str) -> Pair:
    """(value for height, value for width) of kernel_size, stride, pad or dilation; LRPError names the layer."""
    try:
        return tuple(read_window(param, name, 2, default))
    except CaffeFileError as error:
        raise LRPError(f"{where}: {error}") from None  # the error has no place of its own


# Rows that a matrix product of an inner product always has: BLAS chooses its kernel by size, and with it the order of
# summation; with a fixed size an item's numbers do not depend, to the last bit, on how many others are in the batch.
ROWS = 16


def rows_times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows @ matrix for rows (N, K), in blocks of `ROWS` rows (filled up with zeros)."""
    result = np.empty((len(rows), matrix.shape[1]), np.result_type(rows, matrix))
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        if len(block) < ROWS:
            filled = np.zeros((ROWS, rows.shape[1]), rows.dtype)
            filled[: len(block)] = block
            result[start:] = (filled @ matrix)[: len(block)]
        else:
            np.matmul(block, matrix, out=result[start : start + ROWS])
    return result


def images(x: np.ndarray) -> np.ndarray:
    """The batch (N, C, H, W) as a contiguous array (N, H, W, C)."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


class Window:
    """Geometry of windows that slide over an image: kernel, stride, pad, dilation, each (height, width)."""

    def __init__(self, kernel: Pair, stride: Pair = (1, 1), pad: Pair = (0, 0), dilation: Pair = (1, 1)) -> None:
        self.kernel, self.stride, self.pad, self.dilation = kernel, stride, pad, dilation

    @property
    def extent(self) -> Pair:
        """(rows, columns) of values from a window's first to its last."""
        height, width = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        return height, width

    def count(self, size: int, axis: int) -> int:
        """Number of windows along an axis (0 height, 1 width) of `size`: Caffe rounds down."""
        return (size + 2 * self.pad[axis] - self.extent[axis]) // self.stride[axis] + 1

    def padded(self, image: np.ndarray) -> np.ndarray:
        """The image (H, W, C) inside its frame of zeros; itself when there is none."""
        (top, left), (height, width, channels) = self.pad, image.shape
        if not top and not left:
            return image
        frame = np.zeros((height + 2 * top, width + 2 * left, channels), image.dtype)
        frame[top : top + height, left : left + width] = image
        return frame

    def view(self, frame: np.ndarray, rows: int, columns: int, groups: int = 1) -> np.ndarray:
        """Read-only view (G, rows, columns, kernel height, kernel width, C/G) of all windows of a padded image."""
        (sy, sx), (dy, dx), (kh, kw) = self.stride, self.dilation, self.kernel
        a, b, c = frame.strides
        channels = frame.shape[2] // groups
        return as_strided(
            frame,
            (groups, rows, columns, kh, kw, channels),
            (channels * c, sy * a, sx * b, dy * a, dx * b, c),
            writeable=False,
        )

    def fold(self, columns: np.ndarray, shape: Shape) -> np.ndarray:
        """Adjoint of `padded` + `view`: adds windows (G, rows, columns, kh, kw, C/G) up to an image (H, W, C)."""
        groups, rows, cols, kh, kw, channels = columns.shape
        (top, left), (height, width, _) = self.pad, shape
        (sy, sx), (dy, dx) = self.stride, self.dilation
        frame = np.zeros((height + 2 * top, width + 2 * left, groups, channels), columns.dtype)
        for i in range(kh):
            for j in range(kw):
                frame[i * dy : i * dy + sy * (rows - 1) + 1 : sy, j * dx : j * dx + sx * (cols - 1) + 1 : sx] += (
                    columns[:, :, :, i, j].transpose(1, 2, 0, 3)
                )
        return frame[top : top + height, left : left + width].reshape(shape)


class Convolution(Linear):
    """Cross-correlation with weight (O, C/G, kh, kw), as in Caffe.

    `weights`, `bias`: arrays; window: `Window`; group: G.
    """

    def __init__(self, weights: np.ndarray, bias: np.ndarray | None, window: Window, group: int = 1) -> None:
        super().__init__()
        self.weights, self.bias, self.window, self.group = weights, bias, window, group

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        return self.weights.astype(dtype, copy=False)

    def bias_array(self, dtype: DTypeLike) -> np.ndarray:
        return self.bias.astype(dtype, copy=False)[:, None, None]

    def output_shape(self, shape: Shape) -> Shape:
        channels = self.weights.shape[1] * self.group
        if len(shape) != 4 or shape[1] != channels:
            raise LRPError(self.where, f"an input of shape (N, {channels}, H, W)", tuple(shape))
        rows, columns = (self.window.count(shape[2 + axis], axis) for axis in (0, 1))
        if rows < 1 or columns < 1:
            least = f"{self.window.kernel[0]} x {self.window.kernel[1]}"
            raise LRPError(self.where, f"an input of at least one window of {least}", f"{shape[2]} x {shape[3]}")
        return (shape[0], self.weights.shape[0], rows, columns)

    def prepare(self, weights: Arrays) -> np.ndarray:
        """(G, K, n O/G): the n weights side by side, window values in the order kh, kw, C/G."""
        g = self.group
        blocks = []
        for w in weights:
            outputs, channels, kh, kw = w.shape
            blocks.append(
                w.reshape(g, outputs // g, channels, kh, kw)
                .transpose(0, 3, 4, 2, 1)
                .reshape(g, kh * kw * channels, outputs // g)
            )
        return np.concatenate(blocks, axis=2)

    def hidden(self, x: np.ndarray, selector: Selector) -> np.ndarray | None:
        if not any(self.window.pad):
            return None
        (seen,) = self.apply(np.ones_like(x), (selector,))
        return selector(self.weight(x.dtype)).sum(axis=(1, 2, 3))[:, None, None] - seen

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        n, outputs, rows, columns = self.output_shape(x.shape)
        weights = self.prepared(selectors, x.dtype)
        g, k, width = weights.shape
        block = outputs // g
        results = [np.empty((n, rows, columns, outputs), x.dtype) for _ in selectors]
        for item, image in enumerate(images(x)):
            frame = self.window.padded(image)
            windows = self.window.view(frame, rows, columns, g)
            for index in range(g):
                values = windows[index].reshape(rows * columns, k) @ weights[index]
                for which, result in enumerate(results):
                    result[item, :, :, index * block : (index + 1) * block] = values[
                        :, which * block : (which + 1) * block
                    ].reshape(rows, columns, block)
        return [result.transpose(0, 3, 1, 2) for result in results]

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        n, channels, height, width = shape
        weights = self.prepared(selectors, s[0].dtype)
        g, k, _ = weights.shape
        _, outputs, rows, columns = s[0].shape
        block = outputs // g
        kh, kw = self.window.kernel
        result = np.empty((n, height, width, channels), s[0].dtype)
        sources = [images(one) for one in s]
        for item in range(n):
            folded = np.empty((g, rows, columns, kh, kw, channels // g), result.dtype)
            for index in range(g):
                stacked = np.concatenate(
                    [
                        source[item, :, :, index * block : (index + 1) * block].reshape(rows * columns, block)
                        for source in sources
                    ],
                    axis=1,
                )
                np.matmul(stacked, weights[index].T, out=folded[index].reshape(rows * columns, k))
            result[item] = self.window.fold(folded, (height, width, channels))
        return result.transpose(0, 3, 1, 2)


class Deconvolution(Linear):
    """The transpose of a convolution: weight (C, O/G, kh, kw); apply and adjoint change places."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray | None, window: Window, group: int = 1) -> None:
        super().__init__()
        self.weights, self.bias, self.window, self.group = weights, bias, window, group
        self._convolution = Convolution(weights, None, window, group)
        self._convolution.prepared = self.prepared

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        return self.weights.astype(dtype, copy=False)

    def bias_array(self, dtype: DTypeLike) -> np.ndarray:
        return self.bias.astype(dtype, copy=False)[:, None, None]

    def prepare(self, weights: Arrays) -> np.ndarray:
        return self._convolution.prepare(weights)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 4 or shape[1] != self.weights.shape[0]:
            raise LRPError(self.where, f"an input of shape (N, {self.weights.shape[0]}, H, W)", tuple(shape))
        w = self.window
        height, width = (
            w.stride[a] * (shape[2 + a] - 1) + w.dilation[a] * (w.kernel[a] - 1) + 1 - 2 * w.pad[a] for a in (0, 1)
        )
        return (shape[0], self.weights.shape[1] * self.group, height, width)

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        shape = self.output_shape(x.shape)
        return [self._convolution.adjoint([x], (selector,), shape) for selector in selectors]

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        total = None
        for one, selector in zip(s, selectors, strict=True):
            (back,) = self._convolution.apply(one, (selector,))
            total = back if total is None else total + back
        return total


class InnerProduct(Linear):
    """z = x W^T + b over everything from `axis` on; weight (O, K)."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray | None, axis: int = 1) -> None:
        super().__init__()
        self.weights, self.bias, self.axis = weights, bias, axis

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        return self.weights.astype(dtype, copy=False)

    def bias_array(self, dtype: DTypeLike) -> np.ndarray:
        return self.bias.astype(dtype, copy=False)

    def output_shape(self, shape: Shape) -> Shape:
        axis = canonical_axis(self.axis, shape, self.where)
        values = int(np.prod(shape[axis:]))
        if axis < 1 or values != self.weights.shape[1]:
            expected = f"an input of {self.weights.shape[1]} values from axis {self.axis} on"
            raise LRPError(self.where, expected, f"shape {tuple(shape)}")
        return (*shape[:axis], self.weights.shape[0])

    def prepare(self, weights: Arrays) -> np.ndarray:
        return weights[0] if len(weights) == 1 else np.concatenate(weights)

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        shape = self.output_shape(x.shape)
        rows = np.ascontiguousarray(x).reshape(-1, self.weights.shape[1])
        values = rows_times(rows, self.prepared(selectors, x.dtype).T)
        return [np.ascontiguousarray(part).reshape(shape) for part in np.split(values, len(selectors), axis=1)]

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        stacked = np.concatenate([one.reshape(-1, self.weights.shape[0]) for one in s], axis=1)
        return rows_times(stacked, self.prepared(selectors, stacked.dtype)).reshape(shape)


class AveragePooling(Linear):
    """Mean over windows; the weight of every value in a window is 1 / the window's size (its frame included)."""

    def __init__(self, pooling: Geometry) -> None:
        super().__init__()
        self.pooling = pooling

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        raise LRPError(f"{self.where}: the weights of average pooling depend on the size of its input")

    def output_shape(self, shape: Shape) -> Shape:
        return self.pooling.output_shape(shape, self.where)

    def _weights(self, selectors: Sequence[Selector], shape: Shape, dtype: DTypeLike) -> Arrays:
        return [select((1 / self.pooling.sizes(shape)).astype(dtype)) for select in selectors]

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        shape = self.output_shape(x.shape)
        total = np.zeros(shape, x.dtype)
        for windows, values in self.pooling.taps(x.shape):
            total[windows] += x[values]
        return [total * w for w in self._weights(selectors, x.shape, x.dtype)]

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        share = sum(one * w for one, w in zip(s, self._weights(selectors, shape, s[0].dtype), strict=True))
        result = np.zeros(shape, share.dtype)
        for windows, values in self.pooling.taps(shape):
            result[values] += share[windows]
        return result


class Sum(Linear):
    """Eltwise SUM: z = sum_m c_m x_m over bottoms, which are stacked on axis 1 to one x (N, M, ...)."""

    def __init__(self, coefficients: Sequence[float]) -> None:
        super().__init__()
        self.weights = np.asarray(coefficients, np.float64)

    def weight(self, dtype: DTypeLike) -> np.ndarray:
        return self.weights.astype(dtype)

    def join(self, inputs: Arrays) -> np.ndarray:
        """The bottoms, stacked."""
        return np.stack(inputs, axis=1)

    def part(self, joined: np.ndarray) -> Arrays:
        """The bottoms' shares of an array shaped like `join`'s result."""
        return [joined[:, index] for index in range(len(self.weights))]

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.equal_shapes(shapes)]

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *shape[2:])

    def apply(self, x: np.ndarray, selectors: Sequence[Selector]) -> Arrays:
        return [np.tensordot(x, w, axes=(1, 0)) for w in (self.prepared((s,), x.dtype)[0] for s in selectors)]

    def adjoint(self, s: Sequence[np.ndarray], selectors: Sequence[Selector], shape: Shape) -> np.ndarray:
        result = np.zeros(shape, s[0].dtype)
        for one, selector in zip(s, selectors, strict=True):
            w = self.prepared((selector,), one.dtype)[0]
            result += one[:, None] * w.reshape(-1, *(1,) * (one.ndim - 1))
        return result


@caffe_type("Convolution", "Deconvolution")
def read_convolution(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Convolution | Deconvolution:
    """Two-dimensional (de)convolution."""
    p = param.convolution_param
    if p.axis != 1:
        raise LRPError(where, "channel axis 1", p.axis)
    kernel = pair(p, "kernel_size", 0, where)
    window = Window(
        kernel, *(pair(p, name, least, where) for name, least in (("stride", 1), ("pad", 0), ("dilation", 1)))
    )
    if min(kernel) < 1 or min(window.stride) < 1 or min(window.dilation) < 1 or not blobs or blobs[0].ndim != 4:
        found = f"weights of shape {blobs[0].shape}" if blobs else "no weights"
        expected = "two-dimensional windows and their (O, C/group, height, width) weights"
        got = f"kernel {kernel}, stride {window.stride}, dilation {window.dilation} and {found}"
        raise LRPError(where, expected, got)
    outputs, groups = p.num_output, p.group
    if groups < 1:
        raise LRPError(where, "a group of at least 1", groups)
    first, second = blobs[0].shape[:2]
    shape = (outputs, second, *kernel) if param.type == "Convolution" else (first, outputs // groups, *kernel)
    weights = expect_shape(blobs, 0, shape, where, "weight")
    if outputs % groups or weights.shape[0] % groups:
        raise LRPError(where, f"a group that divides inputs and outputs ({outputs})", groups)
    bias = expect_shape(blobs, 1, (outputs,), where, "bias") if p.bias_term else None
    return (Convolution if param.type == "Convolution" else Deconvolution)(weights, bias, window, groups)


@caffe_type("InnerProduct")
def read_inner_product(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> InnerProduct:
    """Fully connected layer; a transposed weight is turned round."""
    p = param.inner_product_param
    if not blobs:
        raise LRPError(where, f"weight of shape ({p.num_output}, inputs) in the weights", "none")
    shape = blobs[0].shape
    if len(shape) < 2 or int(np.prod(shape[:-2])) != 1:
        raise LRPError(where, f"weight of shape ({p.num_output}, inputs) in the weights", shape)
    matrix = blobs[0].reshape(shape[-2:])
    if p.transpose:
        matrix = np.ascontiguousarray(matrix.T)
    weights = expect_shape([matrix], 0, (p.num_output, matrix.shape[1]), where, "weight")
    bias = expect_shape(blobs, 1, (p.num_output,), where, "bias") if p.bias_term else None
    return InnerProduct(weights, bias, p.axis)
