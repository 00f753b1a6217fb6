"""Layers that treat every value by itself: activations, affine maps, dropout, local response normalisation.

One output has one input, so the whole relevance passes (the "pass" rule); only their gradients differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from caffe_proto import caffe_pb2
from lrp.errors import LRPError
from lrp.layer import Above, Arrays, Blobs, Layer, Shape, caffe_type, expect_shape

# What the way back through a ReLU does to a gradient: the gradient itself, a ReLU of its own, or both.
RELU_WAYS = ("gradient", "deconvolution", "guided")


class Elementwise(Layer):
    """y = f(x). function(x) -> y; derivative(x, y) -> dy/dx."""

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray], derivative: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> None:
        self.function, self.derivative = function, derivative

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        return [self.function(inputs[0])]

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        return [gradients[0] * self.derivative(inputs[0], outputs[0])]

    def relevance(self, inputs: Arrays, outputs: Arrays, relevances: Above) -> Arrays:
        return [relevances[0]]


class ReLU(Elementwise):
    """y = max(x, 0) + slope * min(x, 0); x may be overwritten by y where nobody else reads it."""

    overwrites = True

    def __init__(self, slope: float = 0.0) -> None:
        self.slope = slope

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        x = inputs[0]
        if self.slope == 0:
            return [np.maximum(x, 0, out=x if overwrite else None)]
        return [np.maximum(x, 0) + np.asarray(self.slope, x.dtype) * np.minimum(x, 0)]

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        return self.modified_gradient(inputs, outputs, gradients, "gradient")

    def modified_gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above, relu: str) -> Arrays:
        if relu == "deconvolution":
            return [np.maximum(gradients[0], 0)]
        # the sign of the output tells the sign of the input (for slopes >= 0), which may have been overwritten
        source = outputs[0] if self.slope >= 0 else inputs[0]
        if relu == "guided":
            return [np.where(source > 0, np.maximum(gradients[0], 0), np.zeros((), source.dtype))]
        return [np.where(source > 0, gradients[0], np.asarray(self.slope, source.dtype) * gradients[0])]


class Identity(Elementwise):
    """Dropout at test time, and layers that only hand their input on."""

    def __init__(self) -> None:
        super().__init__(lambda x: x, lambda x, y: np.ones((), x.dtype))


def expect_at(values: np.ndarray, axis: int, shape: Shape, where: str) -> None:
    """LRPError unless `values`, which lie from `axis` on, fit an input of that shape."""
    if values.ndim and tuple(shape[axis : axis + values.ndim]) != values.shape:
        raise LRPError(where, f"an input of shape {values.shape} from axis {axis} on", tuple(shape))


def spread(values: np.ndarray, x: np.ndarray, axis: int = 1) -> np.ndarray:
    """`values`, which lie from `axis` on, in x's dtype and so that they broadcast over it."""
    values = values.astype(x.dtype)
    return values.reshape(values.shape + (1,) * (x.ndim - axis - values.ndim)) if values.ndim else values


class Affine(Elementwise):
    """y = scale * x + shift with scale and shift of shape (), (C,) or any block of axes from `axis` on."""

    def __init__(self, scale: ArrayLike, shift: ArrayLike, axis: int = 1) -> None:
        self.scale, self.shift, self.axis = np.asarray(scale), np.asarray(shift), axis
        super().__init__(self._value, lambda x, y: spread(self.scale, x, axis))

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        for values in (self.scale, self.shift):
            expect_at(values, self.axis, shapes[0], self.where)
        return super().output_shapes(shapes)

    def _value(self, x: np.ndarray) -> np.ndarray:
        return x * spread(self.scale, x, self.axis) + spread(self.shift, x, self.axis)


class PReLU(Elementwise):
    """y = max(x, 0) + slope * min(x, 0) with a slope of shape () or (C,)."""

    def __init__(self, slope: np.ndarray) -> None:
        self.slope = slope
        super().__init__(
            lambda x: np.maximum(x, 0) + spread(slope, x) * np.minimum(x, 0),
            lambda x, y: np.where(x > 0, np.ones((), x.dtype), spread(slope, x)),
        )

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        expect_at(self.slope, 1, shapes[0], self.where)
        return super().output_shapes(shapes)


class LRN(Elementwise):
    """Local response normalisation, across channels or within a channel (caffe: lrn_layer.cpp).

    Relevance passes unchanged: the normalising factor is taken as a constant, as the common toolboxes do. The gradient
    is exact.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float, within: bool) -> None:
        self.size, self.alpha, self.beta, self.k, self.within = size, alpha, beta, k, within

    def _window_sum(self, a: np.ndarray) -> np.ndarray:
        """Sum over the window of `size` channels, or of size x size values, zeros outside."""
        for axis in (2, 3) if self.within else (1,):
            n = a.shape[axis]
            half = min(self.size // 2, n)  # beyond there are zeros alone, however many the file asks for
            width = [(0, 0)] * 4
            width[axis] = (half + 1, half)
            total = np.cumsum(np.pad(a, width), axis=axis, dtype=np.float64)
            low = np.take(total, range(0, n), axis=axis)
            a = (np.take(total, range(2 * half + 1, 2 * half + 1 + n), axis=axis) - low).astype(a.dtype)
        return a

    def _scale(self, x: np.ndarray) -> np.ndarray:
        if self.within:
            return 1 + self.alpha / self.size**2 * self._window_sum(x * x)
        return self.k + self.alpha / self.size * self._window_sum(x * x)

    def forward(self, inputs: Arrays, overwrite: bool = False) -> Arrays:
        x = inputs[0]
        return [(x * self._scale(x) ** -self.beta).astype(x.dtype)]

    def gradient(self, inputs: Arrays, outputs: Arrays, gradients: Above) -> Arrays:
        x, y, g = inputs[0], outputs[0], gradients[0]
        scale = self._scale(x)
        n = self.size**2 if self.within else self.size
        spread = self._window_sum(g * y / scale)
        return [(g * scale**-self.beta - 2 * self.alpha * self.beta / n * x * spread).astype(x.dtype)]


@caffe_type("ReLU")
def read_relu(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """max(x, 0), or with a slope for negative values."""
    return ReLU(param.relu_param.negative_slope)


@caffe_type("PReLU")
def read_prelu(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """ReLU with a learned slope per channel, or one for all."""
    shared = param.prelu_param.channel_shared
    count = blobs[0].size if blobs else 0
    slope = expect_shape(blobs, 0, () if shared else (count,), where, "slope")

    return PReLU(slope)


@caffe_type("ELU")
def read_elu(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """x for x > 0, else alpha (exp x - 1)."""
    alpha = param.elu_param.alpha
    return Elementwise(
        lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype),
        lambda x, y: np.where(x > 0, 1, alpha + y).astype(x.dtype),
    )


@caffe_type("Sigmoid")
def read_sigmoid(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """1 / (1 + exp -x), in the form that does not overflow."""
    return Elementwise(lambda x: 0.5 * np.tanh(0.5 * x) + 0.5, lambda x, y: y * (1 - y))


@caffe_type("TanH")
def read_tanh(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """tanh x."""
    return Elementwise(np.tanh, lambda x, y: 1 - y * y)


@caffe_type("AbsVal")
def read_abs(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """|x|."""
    return Elementwise(np.abs, lambda x, y: np.sign(x))


@caffe_type("BNLL")
def read_bnll(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """log(1 + exp x)."""
    return Elementwise(lambda x: np.logaddexp(x, 0).astype(x.dtype), lambda x, y: 0.5 * np.tanh(0.5 * x) + 0.5)


@caffe_type("Dropout")
def read_dropout(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """Nothing at test time."""
    return Identity()


@caffe_type("Power")
def read_power(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """(shift + scale x) ^ power; an affine map when power is 1."""
    p = param.power_param
    power, scale, shift = p.power, p.scale, p.shift
    if power == 1:
        return Affine(scale, shift)
    if power * scale == 0:
        constant = 1.0 if power == 0 else shift**power
        return Elementwise(lambda x: np.full_like(x, constant), lambda x, y: np.zeros_like(x))
    return Elementwise(
        lambda x: (shift + scale * x) ** power, lambda x, y: power * scale * (shift + scale * x) ** (power - 1)
    )


@caffe_type("BatchNorm")
def read_batch_norm(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """(x - mean) / sqrt(variance + eps) per channel, with the stored statistics (caffe: batch_norm_layer.cpp)."""
    channels = (blobs[0].size,) if blobs else (0,)
    mean = expect_shape(blobs, 0, channels, where, "mean").astype(np.float64)
    variance = expect_shape(blobs, 1, channels, where, "variance").astype(np.float64)
    count = float(expect_shape(blobs, 2, (1,), where, "scale factor")[0])
    factor = 0 if count == 0 else 1 / count
    p = param.batch_norm_param
    if p.HasField("use_global_stats") and not p.use_global_stats:
        why = "statistics of the batch would make the relevance of one item depend on the others"
        raise LRPError(where, "use_global_stats true", f"false ({why})")
    scale = 1 / np.sqrt(variance * factor + p.eps)
    return Affine(scale, -mean * factor * scale)


def _learned(param: caffe_pb2.LayerParameter, field: str, blobs: Blobs, where: str) -> np.ndarray:
    if len(param.bottom) != 1:
        why = f"{field} with a computed factor is a product, not a linear layer"
        raise LRPError(where, "one bottom", f"{len(param.bottom)} ({why})")
    if not blobs:
        raise LRPError(where, f"the {field}'s values in the weights", "no blobs")
    return blobs[0].astype(np.float64)


def _axis(axis: int, where: str) -> int:
    if axis < 0:
        raise LRPError(where, "axis 0 or more", axis)
    return axis


@caffe_type("Scale")
def read_scale(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """A learned factor per channel, and a shift if there is one."""
    p = param.scale_param
    scale = _learned(param, "scale", blobs, where)
    shift = expect_shape(blobs, 1, scale.shape, where, "bias").astype(np.float64) if p.bias_term else np.zeros(())
    return Affine(scale, shift, _axis(p.axis, where))


@caffe_type("Bias")
def read_bias(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """A learned shift per channel."""
    return Affine(np.ones(()), _learned(param, "bias", blobs, where), _axis(param.bias_param.axis, where))


@caffe_type("LRN")
def read_lrn(param: caffe_pb2.LayerParameter, blobs: Blobs, where: str) -> Layer:
    """Local response normalisation."""
    p = param.lrn_param
    if p.local_size % 2 == 0:
        raise LRPError(where, "an odd local_size", p.local_size)
    return LRN(p.local_size, p.alpha, p.beta, p.k, p.norm_region == p.WITHIN_CHANNEL)
