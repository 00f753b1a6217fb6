"""Convolution, its transpose, and its matrix of windows (docs/engine.md section 2.2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from caffe import convolution
from caffe.blob import Blob
from caffe.blocks import Block, make_block
from caffe.errors import CaffeError
from caffe.layer import DifferentiableLayer, Layer, register
from caffe_proto.windows import WindowParameter, window

aten = torch.ops.aten


def spatial(param: WindowParameter, name: str, axes: int, default: int | None, layer: Layer) -> list[int]:
    """The `axes` values of kernel_size, stride, pad or dilation; CaffeError names the layer."""
    with CaffeError.of_files(layer.where):
        return window(param, name, axes, default)


class ConvolutionBase(Layer):
    """Geometry and parameters shared by Convolution, Deconvolution and Im2col."""

    bottoms = tops = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.convolution_param
        self.axis = bottom[0].axis(param.axis)
        self.axes = bottom[0].num_axes - self.axis - 1
        self.check(self.axes <= 3, "at most 3 spatial axes", self.axes)
        self.kernel = spatial(param, "kernel_size", self.axes, None, self) if self.axes else []
        self.stride = spatial(param, "stride", self.axes, 1, self)
        self.pad = spatial(param, "pad", self.axes, 0, self)
        self.dilation = spatial(param, "dilation", self.axes, 1, self)
        self.check(all(k > 0 for k in self.kernel), "Filter dimensions must be nonzero.")
        self.check(all(s > 0 for s in self.stride), "Stride dimensions must be nonzero.")
        self.check(all(d > 0 for d in self.dilation), "a dilation of at least 1", self.dilation)
        self.group = param.group
        self.check(self.group > 0, "a group of at least 1", self.group)
        self.channels = bottom[0].shape[self.axis]

    def windows(self, sizes: Sequence[int]) -> list[int]:
        """Output sizes of a convolution over inputs of `sizes` (rounded down)."""
        out = [
            (n + 2 * p - (d * (k - 1) + 1)) // s + 1
            for n, p, d, k, s in zip(sizes, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        ]
        self.check(
            all(n > 0 for n in out),
            f"an input that the kernel {self.kernel} with pad {self.pad} fits in",
            f"sizes {list(sizes)}",
        )
        return out

    def add_weights(self, shape: Sequence[int], num_output: int) -> None:
        """Make the parameter blobs: weights of this shape, and biases (num_output,) if bias_term."""
        param = self.layer_param.convolution_param
        self.add_param(shape, param.weight_filler)
        if param.bias_term:
            self.add_param((num_output,), param.bias_filler)

    def check_bottoms(self, bottom: list[Blob]) -> None:
        """Raise CaffeError unless the bottoms have the axes and channels of setup, and all the same shape."""
        self.check(bottom[0].num_axes == self.axis + 1 + self.axes, "bottom num_axes may not change.")
        self.check(
            bottom[0].shape[self.axis] == self.channels,
            "Input size incompatible with convolution kernel",
            f"{self.channels} channels",
            bottom[0].shape[self.axis],
        )
        self.check(all(b.shape == bottom[0].shape for b in bottom), "All inputs must have the same shape.")


class Filtering(ConvolutionBase):
    """Base: weights that slide over the bottom, what Convolution and its transpose, Deconvolution, have in common.

    transposed: whether it is the transpose. Subclasses implement out_sizes(sizes): the sizes of the tops' spatial axes.
    """

    transposed: bool
    out_sizes: Callable[[Sequence[int]], list[int]]

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        num_output = self.layer_param.convolution_param.num_output
        self.check(num_output > 0, "a positive num_output", "0")
        self.check(
            self.channels % self.group == 0 and num_output % self.group == 0,
            "Number of output should be multiples of group",
            f"multiples of {self.group}",
            f"{self.channels} input and {num_output} output channels",
        )
        rows, columns = (self.channels, num_output) if self.transposed else (num_output, self.channels)
        self.add_weights((rows, columns // self.group, *self.kernel), num_output)
        self.weight()  # brings the stored weights into the quick memory format

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_bottoms(bottom)
        num_output = self.layer_param.convolution_param.num_output
        shape = bottom[0].shape
        for t in top:
            t.reshape(*shape[: self.axis], num_output, *self.out_sizes(shape[self.axis + 1 :]))

    def weight(self) -> torch.Tensor:
        """The weights; two-axis kernels are kept channels-last where Context.channels_last says that it is quicker.

        What comes out of channels-last weights is channels-last, and so ReLU and pooling work in that format as well
        (pooling on the CPU ten times as quickly).
        """
        blob = self.blobs[0]
        value = blob.value
        if self.axes == 2 and self.context.channels_last and value.stride(1) != 1:
            value = blob.value = convolution.channels_last(value)
        return value if self.axes else value.unsqueeze(-1)

    @property
    def bias(self) -> torch.Tensor | None:
        """The biases (num_output,), if there are any."""
        return self.blobs[1].value if len(self.blobs) > 1 else None

    def items(self, tensor: torch.Tensor) -> torch.Tensor:
        """View with all axes before the channels merged into one, and at least one spatial axis."""
        tensor = tensor if self.axis == 1 else tensor.reshape(-1, *tensor.shape[self.axis :])
        return tensor if self.axes else tensor.unsqueeze(-1)

    def geometry(self) -> tuple[Any, ...]:
        """(stride, padding, dilation, transposed, output padding, groups) for torch."""
        spatial = (self.stride, self.pad, self.dilation) if self.axes else ([1], [0], [1])
        return *spatial, self.transposed, [0] * max(self.axes, 1), self.group

    def result(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer makes of items `x`."""
        return torch.convolution(x, self.weight(), self.bias, *self.geometry())

    def gradients(
        self, x: torch.Tensor, dy: torch.Tensor, propagate_down: bool, bias: bool = True
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(dx, dw, db) for items `x` and gradient `dy` of the result; None for what is not asked for.

        propagate_down: is dx asked for? bias: may db be?
        """
        dx, dw = self.torch_gradients(x, dy, propagate_down, self.param_propagate_down[0])
        return dx, dw, self.bias_gradient(dy) if bias else None

    def torch_gradients(
        self, x: torch.Tensor, dy: torch.Tensor, propagate_down: bool, weights: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(dx, dw) as torch computes them, each if asked for."""
        asked = [bool(propagate_down), weights, False]
        dx, dw, _ = aten.convolution_backward(dy, x, self.weight(), None, *self.geometry(), asked)
        return dx, dw

    def bias_gradient(self, dy: torch.Tensor) -> torch.Tensor | None:
        """db, if the layer has biases that learn; the sum is quicker than torch's own gradient of the bias."""
        asked = len(self.blobs) > 1 and self.param_propagate_down[1]
        return dy.sum([0, *range(2, dy.dim())]) if asked else None

    def add_gradients(self, *grads: torch.Tensor | None) -> None:
        """Add the gradients of weights and bias to their blobs; None for what is not asked for."""
        for blob, grad in zip(self.blobs, grads, strict=False):
            if grad is not None:
                blob.add_grad(grad)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for b, t in zip(bottom, top, strict=True):
            t.value = self.result(self.items(b.value)).reshape(t.shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for b, t, asked in zip(bottom, top, propagate_down, strict=True):
            dx, *grads = self.gradients(self.items(b.value), self.items(t.grad), asked)
            if asked:
                b.grad = dx.reshape(b.shape)
            self.add_gradients(*grads)


@register
class Convolution(Filtering):
    """Cross-correlation with zero padding, groups and dilation over 0 to 3 spatial axes."""

    transposed = False

    @property
    def epilogues(self) -> tuple[str, ...]:
        """A ReLU, where there are spatial axes."""
        return ("relu",) if self.axes else ()

    def make_block(self, pooling: Layer, bottom: Blob, middle: Blob, top: Blob, propagate_down: bool) -> Block | None:
        return make_block(self, pooling, bottom, middle, top, propagate_down) if self.axes == 2 else None

    def out_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the tops' spatial axes for bottoms of `sizes`; CaffeError where the kernel does not fit."""
        return self.windows(sizes)

    def planar(self, x: torch.Tensor) -> bool:
        """True for two spatial axes on the CPU, where caffe.convolution has quicker ways for some shapes."""
        return self.axes == 2 and x.device.type == "cpu"

    def is_single_channel(self, x: torch.Tensor) -> bool:
        """True where the matrix form for one channel serves (caffe.convolution)."""
        return self.planar(x) and convolution.is_single_channel(self.channels, self.kernel, self.dilation)

    def result(self, x: torch.Tensor, relu: bool = False) -> torch.Tensor:
        """The convolution of items `x`, with a ReLU as epilogue if `relu`."""
        if self.is_single_channel(x):
            return convolution.single_channel_result(
                x, self.out_sizes(x.shape[2:]), self.weight(), self.bias, self.stride, self.pad, relu
            )
        if relu and self.planar(x):  # this ReLU makes NaN 0 (see caffe.fusion)
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight(), self.bias, self.pad, self.stride, self.dilation, self.group, "relu", [], ""
            )
        y = super().result(x)
        return y.relu_() if relu else y

    def gradients(
        self, x: torch.Tensor, dy: torch.Tensor, propagate_down: bool, bias: bool = True
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        learns = self.param_propagate_down[0]
        if self.is_single_channel(x) and not propagate_down:
            dw, db = convolution.single_channel_gradients(x, dy, self.kernel, self.stride, self.pad)
            asked = bias and len(self.blobs) > 1 and self.param_propagate_down[1]
            return None, dw if learns else None, db if asked else None
        if not (learns and self.planar(x) and convolution.products_pay()):
            return super().gradients(x, dy, propagate_down, bias)
        dx = self.torch_gradients(x, dy, True, False)[0] if propagate_down else None
        dw = convolution.weight_gradient(x, dy, self.kernel, self.stride, self.pad, self.dilation, self.group)
        return dx, dw, self.bias_gradient(dy) if bias else None

    def forward_with(self, function: str | None, bottom: list[Blob], top: list[Blob]) -> None:
        """forward() with the element-wise `function` of that name (None: none) applied to the result."""
        for b, t in zip(bottom, top, strict=True):
            t.value = self.result(self.items(b.value), function == "relu").reshape(t.shape)


@register
class Deconvolution(Filtering):
    """Transpose of Convolution; weights are (channels in, num_output / group, kernel)."""

    transposed = True

    def out_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the tops' spatial axes for bottoms of `sizes`."""
        return [
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, p, d, k, s in zip(sizes, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        ]


@register
class Im2col(DifferentiableLayer, ConvolutionBase):
    """The elements that a convolution multiplies with its kernel, as channels ((c * kernel_h + i) * kernel_w + j)."""

    bottoms = tops = (1, 1)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        self.check(self.axes > 0, "at least one spatial axis", "none")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_bottoms(bottom)
        shape = bottom[0].shape
        self.out = self.windows(shape[self.axis + 1 :])
        elements = 1
        for size in self.kernel:
            elements *= size
        top[0].reshape(*shape[: self.axis], self.channels * elements, *self.out)

    def compute(self, inputs: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = inputs[0]
        x = functional.pad(x, [p for pad in reversed(self.pad) for p in (pad, pad)])
        pieces = []
        for offset in itertools.product(*(range(size) for size in self.kernel)):
            window = tuple(
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, d, n, s in zip(offset, self.dilation, self.out, self.stride, strict=True)
            )
            pieces.append(x[(..., *window)])
        return [torch.stack(pieces, self.axis + 1).flatten(self.axis, self.axis + 1)]
