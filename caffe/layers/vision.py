"""Layer types over space: convolution, pooling and the inner product (docs/engine.md sections 2.2 and 2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from caffe import convolution, mode
from caffe.blob import Blob
from caffe.blocks import Block, make_block
from caffe.errors import CaffeError
from caffe.layer import Layer, register
from caffe_proto import CaffeFileError, caffe_pb2
from caffe_proto.windows import WindowParameter, window

aten = torch.ops.aten


def spatial(param: WindowParameter, name: str, axes: int, default: int | None, layer: Layer) -> list[int]:
    """The `axes` values of kernel_size, stride, pad or dilation; CaffeError names the layer."""
    try:
        return window(param, name, axes, default)
    except CaffeFileError as error:
        layer.check(False, str(error))


class ConvolutionBase(Layer):
    """Geometry and parameters shared by Convolution, Deconvolution and Im2col."""

    bottoms = tops = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.convolution_param
        self.axis = bottom[0].axis(param.axis)
        self.axes = bottom[0].num_axes - self.axis - 1
        self.check(self.axes <= 3, f"found {self.axes} spatial axes; at most 3 are possible")
        self.kernel = spatial(param, "kernel_size", self.axes, None, self) if self.axes else []
        self.stride = spatial(param, "stride", self.axes, 1, self)
        self.pad = spatial(param, "pad", self.axes, 0, self)
        self.dilation = spatial(param, "dilation", self.axes, 1, self)
        self.check(all(k > 0 for k in self.kernel), "Filter dimensions must be nonzero.")
        self.check(all(s > 0 for s in self.stride), "Stride dimensions must be nonzero.")
        self.group = param.group
        self.channels = bottom[0].shape[self.axis]

    def windows(self, sizes: Sequence[int]) -> list[int]:
        """Output sizes of a convolution over inputs of `sizes` (rounded down)."""
        out = [
            (n + 2 * p - (d * (k - 1) + 1)) // s + 1
            for n, p, d, k, s in zip(sizes, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        ]
        self.check(
            all(n > 0 for n in out),
            f"found input sizes {list(sizes)}, too small for kernel {self.kernel} with pad {self.pad}",
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
            f"Input size incompatible with convolution kernel: found {bottom[0].shape[self.axis]} channels; "
            f"wanted {self.channels}",
        )
        self.check(all(b.shape == bottom[0].shape for b in bottom), "All inputs must have the same shape.")


@register
class Convolution(ConvolutionBase):
    """Cross-correlation with zero padding, groups and dilation over 0 to 3 spatial axes."""

    transposed = False

    @property
    def epilogues(self) -> tuple[str, ...]:
        """A ReLU, where there are spatial axes."""
        return ("relu",) if self.axes and not self.transposed else ()

    def make_block(self, pooling: Layer, bottom: Blob, middle: Blob, top: Blob, propagate_down: bool) -> Block | None:
        return make_block(self, pooling, bottom, middle, top, propagate_down) if self.axes == 2 else None

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        num_output = self.layer_param.convolution_param.num_output
        self.check(num_output > 0, "found num_output 0; wanted a positive number")
        self.check(
            self.channels % self.group == 0 and num_output % self.group == 0,
            f"found {self.channels} input and {num_output} output channels in {self.group} groups; "
            "Number of output should be multiples of group.",
        )
        rows, columns = (self.channels, num_output) if self.transposed else (num_output, self.channels)
        self.add_weights((rows, columns // self.group, *self.kernel), num_output)
        self.weight()  # brings the stored weights into the quick memory format

    def out_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the tops' spatial axes for bottoms of `sizes`; CaffeError where the kernel does not fit."""
        return self.windows(sizes)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_bottoms(bottom)
        num_output = self.layer_param.convolution_param.num_output
        shape = bottom[0].shape
        for t in top:
            t.reshape(*shape[: self.axis], num_output, *self.out_sizes(shape[self.axis + 1 :]))

    def weight(self) -> torch.Tensor:
        """The weights; where that is the quicker format (mode.channels_last) two-axis kernels are kept channels-last.

        What comes out of channels-last weights is channels-last, and so ReLU and pooling work in that format as well
        (pooling on the CPU ten times as quickly).
        """
        blob = self.blobs[0]
        value = blob.value
        if self.axes == 2 and mode.channels_last(value.device) and value.stride(1) != 1:
            value = blob.value = convolution.channels_last(value)
        return value if self.axes else value.unsqueeze(-1)

    def planar(self, x: torch.Tensor) -> bool:
        """True for two spatial axes on the CPU, where caffe.convolution has quicker ways for some shapes."""
        return self.axes == 2 and not self.transposed and x.device.type == "cpu"

    def is_single_channel(self, x: torch.Tensor) -> bool:
        """True where the matrix form for one channel serves (caffe.convolution)."""
        return self.planar(x) and convolution.is_single_channel(self.channels, self.kernel, self.dilation)

    def items(self, tensor: torch.Tensor) -> torch.Tensor:
        """View with all axes before the channels merged into one, and at least one spatial axis."""
        tensor = tensor if self.axis == 1 else tensor.reshape(-1, *tensor.shape[self.axis :])
        return tensor if self.axes else tensor.unsqueeze(-1)

    def geometry(self) -> tuple[Any, ...]:
        """(stride, padding, dilation, transposed, output padding, groups) for torch."""
        spatial = (self.stride, self.pad, self.dilation) if self.axes else ([1], [0], [1])
        return *spatial, self.transposed, [0] * max(self.axes, 1), self.group

    def result(self, x: torch.Tensor, relu: bool = False) -> torch.Tensor:
        """The convolution of items `x`, with a ReLU as epilogue if `relu`."""
        weight = self.weight()
        bias = self.blobs[1].value if len(self.blobs) > 1 else None
        if self.is_single_channel(x):
            return convolution.single_channel_result(
                x, self.out_sizes(x.shape[2:]), weight, bias, self.stride, self.pad, relu
            )
        if relu and self.planar(x):  # this ReLU makes NaN 0 (see caffe.fusion)
            return torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, self.pad, self.stride, self.dilation, self.group, "relu", [], ""
            )
        y = torch.convolution(x, weight, bias, *self.geometry())
        return y.relu_() if relu else y

    def gradients(
        self, x: torch.Tensor, dy: torch.Tensor, propagate_down: bool, bias: bool = True
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(dx, dw, db) for items `x` and gradient `dy` of the result; None for what is not wanted.

        propagate_down: is dx wanted?
        """
        weight_grad = self.param_propagate_down[0]
        bias_grad = bias and len(self.blobs) > 1 and self.param_propagate_down[1]
        if self.is_single_channel(x) and not propagate_down:
            dw, db = convolution.single_channel_gradients(x, dy, self.kernel, self.stride, self.pad)
            return None, dw if weight_grad else None, db if bias_grad else None
        products = weight_grad and self.planar(x) and convolution.products_pay()
        dx = dw = None
        if propagate_down or not products:
            dx, dw, _ = aten.convolution_backward(
                dy,
                x,
                self.weight(),
                None,
                *self.geometry(),
                [bool(propagate_down), weight_grad and not products, False],
            )
        if products:
            dw = convolution.weight_gradient(x, dy, self.kernel, self.stride, self.pad, self.dilation, self.group)
        # the sum is quicker than the kernel's own gradient of the bias
        return dx, dw, dy.sum([0, *range(2, dy.dim())]) if bias_grad else None

    def add_gradients(self, *grads: torch.Tensor | None) -> None:
        """Add the gradients of weights and bias to their blobs; None for what is not wanted."""
        for blob, grad in zip(self.blobs, grads, strict=False):
            if grad is not None:
                blob.add_grad(grad)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.forward_with(None, bottom, top)

    def forward_with(self, function: str | None, bottom: list[Blob], top: list[Blob]) -> None:
        """forward() with the element-wise `function` of that name (None: none) applied to the result."""
        for b, t in zip(bottom, top, strict=True):
            t.value = self.result(self.items(b.value), function == "relu").reshape(t.shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for b, t, wanted in zip(bottom, top, propagate_down, strict=True):
            dx, *grads = self.gradients(self.items(b.value), self.items(t.grad), wanted)
            if wanted:
                b.grad = dx.reshape(b.shape)
            self.add_gradients(*grads)


@register
class Deconvolution(Convolution):
    """Transpose of Convolution; weights are (channels in, num_output / group, kernel)."""

    transposed = True

    def out_sizes(self, sizes: Sequence[int]) -> list[int]:
        return [
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, p, d, k, s in zip(sizes, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        ]


def torch_pooled(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int | None:
    """The output size of torch's pooling along one axis, None where torch refuses the padding."""
    if 2 * pad > kernel:
        return None
    out = (math.ceil if ceil else math.floor)((size + 2 * pad - kernel) / stride) + 1
    return out - 1 if ceil and (out - 1) * stride >= size + pad else out


@register
class Pooling(Layer):
    """MAX and AVE pooling with Caffe's sizes: rounded up, then clipped only if there is padding."""

    tops = (1, 2)
    divided = None  # what `counts` was made for

    @property
    def is_max(self) -> bool:
        """True for MAX pooling."""
        return self.method == caffe_pb2.PoolingParameter.MAX

    @property
    def gradient_epilogues(self) -> tuple[str, ...]:
        """A ReLU, before MAX pooling."""
        return ("relu",) if self.is_max else ()

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.pooling_param
        self.method = param.pool
        self.check(self.method != param.STOCHASTIC, "found pool STOCHASTIC; only MAX and AVE are known")
        self.check(bottom[0].num_axes == 4, "Input must have 4 axes, corresponding to (num, channels, height, width)")
        self.check(len(top) == 1 or self.method == param.MAX, "only MAX pooling has a second top (the mask)")
        sized = param.HasField("kernel_size") or param.HasField("kernel_h") or param.HasField("kernel_w")
        if param.global_pooling:
            self.check(not sized, "With Global_pooling: true Filter size cannot specified")
        else:
            self.check(
                param.HasField("kernel_size") != (param.HasField("kernel_h") and param.HasField("kernel_w")),
                "Filter size is kernel_size OR kernel_h and kernel_w; not both; found neither or both",
            )
            self.kernel = tuple(window(param, "kernel_size", 2, None))
            self.check(min(self.kernel) > 0, "Filter dimensions cannot be zero.")
        self.pad, self.stride = tuple(window(param, "pad", 2, 0)), tuple(window(param, "stride", 2, 1))
        self.check(min(self.stride) > 0, "Stride dimensions must be nonzero.")
        if param.global_pooling:
            self.check(
                self.pad == (0, 0) and self.stride == (1, 1), "With Global_pooling: true; only pad = 0 and stride = 1"
            )
        else:
            self.check(
                all(p < k for p, k in zip(self.pad, self.kernel, strict=True)),
                f"found pad {self.pad}; wanted less than the kernel {self.kernel}",
            )
        self.rounding = math.floor if param.round_mode == param.FLOOR else math.ceil

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        sizes = bottom[0].shape[2:]
        if self.layer_param.pooling_param.global_pooling:
            self.kernel = tuple(sizes)
        out = [
            self.rounding((n + 2 * p - k) / s) + 1
            for n, p, k, s in zip(sizes, self.pad, self.kernel, self.stride, strict=True)
        ]
        if any(self.pad):
            out = [
                o - 1 if (o - 1) * s >= n + p else o
                for o, n, p, s in zip(out, sizes, self.pad, self.stride, strict=True)
            ]
        self.check(min(out) > 0, f"found input sizes {list(sizes)}, too small for kernel {self.kernel}")
        self.out = out
        # torch's own padding serves where it may (at most half a kernel) and yields Caffe's sizes
        ceil = self.rounding is math.ceil
        own = [torch_pooled(*axis, ceil) for axis in zip(sizes, self.kernel, self.stride, self.pad, strict=True)]
        self.torch_pads = self.is_max and own == list(out)
        # zeros (AVE) or -inf (MAX) that windows reach beyond the image: in front and behind, per axis
        self.border = [
            (p, max(0, (o - 1) * s + k - n - p))
            for o, n, p, k, s in zip(out, sizes, self.pad, self.kernel, self.stride, strict=True)
        ]
        for t in top:
            t.reshape(*bottom[0].shape[:2], *out)

    def padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """The image with the border that the windows reach, so that every window is whole."""
        (up, down), (left, right) = self.border
        return functional.pad(x, (left, right, up, down), value=value) if any((up, down, left, right)) else x

    def divisor(self, x: torch.Tensor) -> torch.Tensor:
        """Elements of each window inside the padded image (H + pad), not those beyond it; made once per image size."""
        key = (x.shape[2:], self.kernel, x.device)
        if self.divided != key:
            counts = [
                torch.tensor([min(i * s - p + k, n + p) - (i * s - p) for i in range(o)], device=x.device)
                for o, n, p, k, s in zip(self.out, x.shape[2:], self.pad, self.kernel, self.stride, strict=True)
            ]
            self.divided, self.counts = key, torch.outer(*counts).to(x.dtype)
        return self.counts

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        if not self.is_max:
            total = functional.avg_pool2d(self.padded(x, 0.0), self.kernel, self.stride, divisor_override=1)
            top[0].value = total / self.divisor(x)
            return
        y, self.winner = self.max_pool(x)
        top[0].value = y
        if len(top) > 1:
            winner = self.winner
            if not self.torch_pads:
                (up, down), (left, right) = self.border
                width = x.shape[3] + left + right
                winner = (winner // width - up) * x.shape[3] + winner % width - left
            top[1].value = winner.to(x.dtype)

    def release(self) -> None:
        self.winner = None

    def max_arguments(self, x: torch.Tensor) -> tuple[Any, ...]:
        """(input, kernel, stride, padding, dilation, ceil_mode) of torch's max pooling."""
        if self.torch_pads:
            return x, self.kernel, self.stride, self.pad, (1, 1), self.rounding is math.ceil
        return self.padded(x, -math.inf), self.kernel, self.stride, (0, 0), (1, 1), False

    def max_pool(
        self, x: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The maximum of every window of `x` and its place, an index into the plane that torch pools; into `out`."""
        arguments = self.max_arguments(x)
        y, winner = (
            aten.max_pool2d_with_indices(*arguments)
            if out is None
            else aten.max_pool2d_with_indices.out(*arguments, out=out[0], indices=out[1])
        )
        if not self.torch_pads:
            y.clamp_min_(torch.finfo(y.dtype).min)  # Caffe's maximum of a window without elements
        return y, winner

    def unpool(
        self, dy: torch.Tensor, x: torch.Tensor, winner: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The gradient of max_pool(x): `dy` at the winners; into `out` (of `x` only shape and memory format matter)."""
        arguments = (dy, *self.max_arguments(x), winner)
        if self.torch_pads:
            return (
                aten.max_pool2d_with_indices_backward(*arguments)
                if out is None
                else aten.max_pool2d_with_indices_backward.grad_input(*arguments, grad_input=out)
            )
        dx = self.without_border(aten.max_pool2d_with_indices_backward(*arguments))
        return dx if out is None else out.copy_(dx)

    def without_border(self, dx: torch.Tensor) -> torch.Tensor:
        """The image's part of `dx`, which has the border of padded()."""
        (up, down), (left, right) = self.border
        return dx[:, :, up : dx.shape[2] - down, left : dx.shape[3] - right]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.backward_with(None, top, propagate_down, bottom)

    def backward_with(
        self, function: str | None, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]
    ) -> None:
        """backward() with the gradient of the element-wise `function` of that name (None: none) before this layer."""
        if not propagate_down[0]:
            return
        x, dy = bottom[0].value, top[0].grad
        if self.is_max:
            if function == "relu":
                dy = aten.threshold_backward(dy, top[0].value, 0)
            bottom[0].grad = self.unpool(dy, x, self.winner)
            return
        dx = aten.avg_pool2d_backward(
            dy / self.divisor(x), self.padded(x, 0.0), self.kernel, self.stride, [0, 0], False, True, 1
        )
        bottom[0].grad = self.without_border(dx)


@register
class InnerProduct(Layer):
    """y = x W^T + b over all axes from `axis` on (weights (num_output, K), or (K, num_output) if `transpose`)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.inner_product_param
        self.check(param.num_output > 0, "found num_output 0; wanted a positive number")
        self.axis = bottom[0].axis(param.axis)
        self.inputs = bottom[0].count_from(self.axis)
        shape = (param.num_output, self.inputs)
        self.add_param(shape[::-1] if param.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_param((param.num_output,), param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        found = bottom[0].count_from(self.axis)
        if found != self.inputs:
            raise CaffeError(
                f"{self.where}: Input size incompatible with inner product parameters.: found {found}; "
                f"wanted {self.inputs}"
            )
        top[0].reshape(*bottom[0].shape[: self.axis], self.layer_param.inner_product_param.num_output)

    def weight(self) -> torch.Tensor:
        """The weights as a (num_output, K) view."""
        weight = self.blobs[0].value
        return weight.T if self.layer_param.inner_product_param.transpose else weight

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value.reshape(-1, self.inputs)
        bias = self.blobs[1].value if len(self.blobs) > 1 else None
        top[0].value = functional.linear(x, self.weight(), bias).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = bottom[0].value.reshape(-1, self.inputs)
        dy = top[0].grad.reshape(x.shape[0], -1)
        if self.param_propagate_down[0]:
            transpose = self.layer_param.inner_product_param.transpose
            self.blobs[0].add_grad(x.T @ dy if transpose else dy.T @ x)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(dy.sum(0))
        if propagate_down[0]:
            bottom[0].grad = (dy @ self.weight()).reshape(bottom[0].shape)
