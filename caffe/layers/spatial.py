"""Layer types over space beside convolution and pooling: LRN, Crop, Im2col and SPP (docs/engine.md section 2.2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.layer import DifferentiableLayer, Layer, register
from caffe.layers.vision import ConvolutionBase, Pooling
from caffe_proto import caffe_pb2


@register
class LRN(Layer):
    """x * s^-beta with s = k + alpha/n * (sum of squares over n channels), or WITHIN_CHANNEL over n x n positions.

    WITHIN_CHANNEL divides the sum by n^2 and always has k = 1. What lies beyond the border counts as zero.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.lrn_param
        self.size, self.alpha, self.beta = param.local_size, param.alpha, param.beta
        self.check(self.size % 2 == 1, f"LRN only supports odd values for local_size; found {self.size}")
        self.within = param.norm_region == param.WITHIN_CHANNEL
        self.k = 1.0 if self.within else param.k

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(bottom[0].num_axes == 4, "Input must have 4 axes, corresponding to (num, channels, height, width)")
        super().reshape(bottom, top)

    def window_mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean over the window around each element, zeros beyond the border."""
        radius = self.size // 2
        if self.within:
            return functional.avg_pool2d(tensor, self.size, 1, radius)
        padded = functional.pad(tensor, (0, 0, 0, 0, radius, radius))
        total = padded.narrow(1, 0, tensor.shape[1]).clone()
        for i in range(1, self.size):
            total += padded.narrow(1, i, tensor.shape[1])
        return total / self.size

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        self.sum = self.window_mean(x * x) * self.alpha + self.k
        top[0].value = x * self.sum.pow(-self.beta)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x, dy = bottom[0].value, top[0].grad
            factor = self.sum.pow(-self.beta)
            spread = self.window_mean(dy * x * factor / self.sum)
            bottom[0].grad = dy * factor - x * spread * (2 * self.alpha * self.beta)


@register
class Crop(Layer):
    """The part of bottom 0 that has bottom 1's sizes on the axes from `axis` on, starting at `offset`."""

    bottoms = (2, 2)
    in_place = False
    no_gradient_to = (1,)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, shape = self.layer_param.crop_param, list(bottom[0].shape)
        axis, offsets = bottom[0].axis(param.axis), list(param.offset)
        self.check(
            bottom[1].num_axes == len(shape),
            f"found bottoms of {len(shape)} and {bottom[1].num_axes} axes; wanted as many",
        )
        self.check(
            len(offsets) in (0, 1, len(shape) - axis),
            f"number of offset values specified must be equal to the number of dimensions following axis; "
            f"found {len(offsets)}, wanted {len(shape) - axis}",
        )
        offsets = offsets or [0]
        offsets = [0] * axis + (offsets * (len(shape) - axis) if len(offsets) == 1 else offsets)
        sizes = shape[:axis] + list(bottom[1].shape[axis:])
        for i, (start, size) in enumerate(zip(offsets, sizes, strict=True)):
            self.check(
                start + size <= shape[i],
                f"the crop for dimension {i} is out of bounds: found offset {start} and size {size} in {shape[i]}",
            )
        self.window = tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True))
        top[0].reshape(*sizes)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = bottom[0].value[self.window].clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            grad = torch.zeros_like(bottom[0].value)
            grad[self.window] = top[0].grad
            bottom[0].grad = grad


@register
class Im2col(DifferentiableLayer, ConvolutionBase):
    """The elements that a convolution multiplies with its kernel, as channels ((c * kernel_h + i) * kernel_w + j)."""

    bottoms = tops = (1, 1)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        self.check(self.axes > 0, "found no spatial axis; wanted at least one")

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


@register
class SPP(Layer):
    """Spatial pyramid: pooling into 1, 2 x 2, 4 x 4, ... bins, flattened and joined along axis 1.

    A pyramid of height 1 keeps the four axes of its pooling.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.height = self.layer_param.spp_param.pyramid_height
        self.check(self.height > 0, "found pyramid_height 0; wanted at least 1")
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
        return Pooling(param, self.phase)

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
