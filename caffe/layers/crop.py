"""Crop: the part of a blob that another blob's shape names (docs/engine.md section 2.2)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register


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
            "bottoms of as many axes",
            f"{len(shape)} and {bottom[1].num_axes}",
        )
        self.check(
            len(offsets) in (0, 1, len(shape) - axis),
            "number of offset values specified must be equal to the number of dimensions following axis",
            len(shape) - axis,
            len(offsets),
        )
        offsets = offsets or [0]
        offsets = [0] * axis + (offsets * (len(shape) - axis) if len(offsets) == 1 else offsets)
        sizes = shape[:axis] + list(bottom[1].shape[axis:])
        for i, (start, size) in enumerate(zip(offsets, sizes, strict=True)):
            self.check(
                start + size <= shape[i],
                f"the crop for dimension {i} is out of bounds",
                f"it inside {shape[i]}",
                f"offset {start} and size {size}",
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
