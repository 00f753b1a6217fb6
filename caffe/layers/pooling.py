"""Pooling, and pyramids of it (docs/engine.md section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe.layers.convolution import spatial
from caffe_proto import caffe_pb2

aten = torch.ops.aten


def torch_pooled(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int | None:
    """The output size of torch's pooling along one axis, None where torch refuses the padding."""
    if 2 * pad > kernel:
        return None
    out = (math.ceil if ceil else math.floor)((size + 2 * pad - kernel) / stride) + 1
    return out - 1 if ceil and (out - 1) * stride >= size + pad else out


@register
class Pooling(Layer):
    """MAX, AVE and STOCHASTIC pooling with Caffe's sizes: rounded up, then clipped only if there is padding.

    STOCHASTIC, for inputs >= 0: in TRAIN an element of each window drawn with a probability like its value, from the
    random stream of the device; in TEST the mean weighted by the values.
    """

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
        self.stochastic = self.method == param.STOCHASTIC
        self.check(bottom[0].num_axes == 4, "Input must have 4 axes, corresponding to (num, channels, height, width)")
        self.check(
            len(top) == 1 or self.method == param.MAX,
            "one top, or MAX pooling, whose second is the mask",
            f"{len(top)} tops",
        )
        sized = param.HasField("kernel_size") or param.HasField("kernel_h") or param.HasField("kernel_w")
        if param.global_pooling:
            self.check(not sized, "With Global_pooling: true Filter size cannot specified")
        else:
            self.check(
                param.HasField("kernel_size") != (param.HasField("kernel_h") and param.HasField("kernel_w")),
                "Filter size is kernel_size OR kernel_h and kernel_w; not both",
            )
            self.kernel = tuple(spatial(param, "kernel_size", 2, None, self))
            self.check(min(self.kernel) > 0, "Filter dimensions cannot be zero.")
        self.pad = tuple(spatial(param, "pad", 2, 0, self))
        self.check(not (self.stochastic and any(self.pad)), "Padding implemented only for average and max pooling.")
        self.stride = tuple(spatial(param, "stride", 2, 1, self))
        self.check(min(self.stride) > 0, "Stride dimensions must be nonzero.")
        if param.global_pooling:
            self.check(
                self.pad == (0, 0) and self.stride == (1, 1), "With Global_pooling: true; only pad = 0 and stride = 1"
            )
        else:
            self.check(
                all(p < k for p, k in zip(self.pad, self.kernel, strict=True)),
                f"a pad less than the kernel {self.kernel}",
                self.pad,
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
        self.check(min(out) > 0, f"an input that the kernel {self.kernel} fits in", f"sizes {list(sizes)}")
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

    def total(self, x: torch.Tensor) -> torch.Tensor:
        """The sum over every window."""
        return functional.avg_pool2d(self.padded(x, 0.0), self.kernel, self.stride, divisor_override=1)

    def spread(self, dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The gradient of total(x): each window's `dy` at all its elements."""
        padded = self.padded(x, 0.0)
        return self.without_border(
            aten.avg_pool2d_backward(dy, padded, self.kernel, self.stride, [0, 0], False, True, 1)
        )

    def draw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An element of every window with a probability like its value, and its place in the plane of padded()."""
        (rows, columns), (down, right) = self.kernel, self.stride
        padded = self.padded(x, 0.0)
        windows = padded.unfold(2, rows, down).unfold(3, columns, right).flatten(4)
        running = windows.cumsum(-1)
        share = 1 - torch.rand(running.shape[:-1], generator=self.context.generator, device=x.device)  # in (0, 1]
        reached = running >= share[..., None] * running[..., -1:]
        place = (reached.cumsum(-1) == 0).sum(-1).clamp_max(rows * columns - 1)  # of the first that is reached
        top = torch.arange(self.out[0], device=x.device)[:, None] * down
        left = torch.arange(self.out[1], device=x.device) * right
        drawn = windows.gather(-1, place[..., None]).squeeze(-1)
        return drawn, (top + place // columns) * padded.shape[3] + left + place % columns

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        if self.stochastic and self.training:
            top[0].value, self.winner = self.draw(x)
            return
        if self.stochastic:
            total = self.total(x)
            top[0].value = torch.where(total > 0, self.total(x * x) / total, 0)
            return
        if not self.is_max:
            top[0].value = self.total(x) / self.divisor(x)
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
        if not self.stochastic:
            bottom[0].grad = self.spread(dy / self.divisor(x), x)
        elif self.training:
            padded = self.padded(x, 0.0)
            dx = torch.zeros_like(padded).flatten(2).scatter_add_(2, self.winner.flatten(2), dy.flatten(2))
            bottom[0].grad = self.without_border(dx.view_as(padded))
        else:
            total = self.total(x)
            share = torch.where(total > 0, dy / total, 0)
            bottom[0].grad = 2 * x * self.spread(share, x) - self.spread(share * top[0].value, x)


@register
class SPP(Layer):
    """Spatial pyramid: pooling into 1, 2 x 2, 4 x 4, ... bins, flattened and joined along axis 1.

    A pyramid of height 1 keeps the four axes of its pooling.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.height = self.layer_param.spp_param.pyramid_height
        self.check(0 < self.height <= 31, "a pyramid_height of at least 1, and at most 31 (2^30 bins)", self.height)
        self.sizes = None

    def level(self, level: int, sizes: Sequence[int]) -> Pooling:
        """The Pooling layer of 2^level bins per axis for images of `sizes` (h, w)."""
        bins = 2**level
        kernel = [-(-size // bins) for size in sizes]
        pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, sizes, strict=True)]
        param = caffe_pb2.LayerParameter(name=f"{self.layer_param.name}, level {level}", type="Pooling")
        pooling = param.pooling_param
        pooling.pool = self.layer_param.spp_param.pool
        pooling.kernel_h, pooling.kernel_w = pooling.stride_h, pooling.stride_w = kernel
        pooling.pad_h, pooling.pad_w = pad
        return Pooling(param, self.phase, self.context)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(bottom[0].num_axes == 4, "Input must have 4 axes, corresponding to (num, channels, height, width)")
        if self.sizes != bottom[0].shape[2:]:
            self.sizes = bottom[0].shape[2:]
            self.pools = [self.level(i, self.sizes) for i in range(self.height)]
            self.pooled = [Blob() for _ in self.pools]
            for pool, blob in zip(self.pools, self.pooled, strict=True):
                pool.setup(bottom, [blob])
        for pool, blob in zip(self.pools, self.pooled, strict=True):
            pool.reshape(bottom, [blob])
        if self.height == 1:
            top[0].reshape(*self.pooled[0].shape)
        else:
            top[0].reshape(bottom[0].shape[0], sum(blob.count_from(1) for blob in self.pooled))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for pool, blob in zip(self.pools, self.pooled, strict=True):
            pool.forward(bottom, [blob])
        top[0].value = torch.cat([blob.value.flatten(1) for blob in self.pooled], 1).view(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            pieces = top[0].grad.flatten(1).split([blob.count_from(1) for blob in self.pooled], 1)
            total = 0
            for pool, blob, piece in zip(self.pools, self.pooled, pieces, strict=True):
                blob.grad = piece.reshape(blob.shape)
                pool.backward([blob], [True], bottom)
                total = total + bottom[0].grad
            bottom[0].grad = total
