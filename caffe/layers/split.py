"""Layer types that hand blobs on, cut them up and join them (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register


@register
class Split(Layer):
    """Every top is the bottom, with a gradient of its own; the bottom's gradient is their sum."""

    passes_values = True
    tops = (1, None)
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the tops share the bottom's memory."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            total = top[0].grad.clone() if len(top) == 1 else top[0].grad + top[1].grad
            for blob in top[2:]:
                total += blob.grad
            bottom[0].grad = total


@register
class Silence(Layer):
    """Takes blobs that nobody needs; their gradient is zero."""

    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """No tops."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing to compute."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.grad = torch.zeros_like(blob.value)


@register
class Slice(Layer):
    """Cuts the bottom along `axis`: at the slice_points, or into equal pieces. A single top is the bottom itself."""

    passes_values = True
    tops = (1, None)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.slice_param
        self.check(
            not (param.HasField("axis") and param.HasField("slice_dim")),
            "Either axis or slice_dim should be specified; not both.",
        )
        self.points = list(param.slice_point)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.slice_param
        self.axis = bottom[0].axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
        size = bottom[0].shape[self.axis]
        if self.points:
            self.check(
                len(self.points) == len(top) - 1,
                f"{len(top) - 1} slice points for {len(top)} tops",
                len(self.points),
            )
            edges = [0, *self.points, size]
            self.check(
                all(a < b for a, b in zip(edges, edges[1:], strict=False)),
                f"increasing slice points inside an axis of {size}",
                self.points,
            )
        else:
            self.check(
                size % len(top) == 0, f"Number of top blobs ({len(top)}) should evenly divide input slice axis ({size})"
            )
            edges = [size // len(top) * i for i in range(len(top) + 1)]
        self.sizes = [b - a for a, b in zip(edges, edges[1:], strict=False)]
        for blob, length in zip(top, self.sizes, strict=True):
            shape = list(bottom[0].shape)
            shape[self.axis] = length
            blob.reshape(*shape)
        if len(top) == 1:
            top[0].alias(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) > 1:
            for blob, piece in zip(top, bottom[0].value.split(self.sizes, self.axis), strict=True):
                blob.value = piece.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and len(top) > 1:
            bottom[0].grad = torch.cat([blob.grad for blob in top], self.axis)


@register
class Concat(Layer):
    """Joins the bottoms along `axis`. A single bottom is the top itself."""

    passes_values = True
    bottoms = (1, None)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.concat_param
        self.check(
            not (param.HasField("axis") and param.HasField("concat_dim")),
            "Either axis or concat_dim should be specified; not both.",
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.concat_param
        self.axis = bottom[0].axis(param.concat_dim if param.HasField("concat_dim") else param.axis)
        shape = list(bottom[0].shape)
        self.sizes = []
        for blob in bottom:
            self.check(blob.num_axes == len(shape), "All inputs must have the same #axes.")
            self.sizes.append(blob.shape[self.axis])
            shape[self.axis] = self.sizes[-1]
            self.check(
                list(blob.shape) == shape,
                "All inputs must have the same shape, except at concat_axis",
                f"as {bottom[0].shape_string}",
                blob.shape_string,
            )
        shape[self.axis] = sum(self.sizes)
        top[0].reshape(*shape)
        if len(bottom) == 1:
            top[0].alias(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) > 1:
            top[0].value = torch.cat([blob.value for blob in bottom], self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(bottom) > 1:
            pieces = top[0].grad.split(self.sizes, self.axis)
            for blob, piece, wanted in zip(bottom, pieces, propagate_down, strict=True):
                if wanted:
                    blob.grad = piece.clone()


@register
class Tile(Layer):
    """The bottom `tiles` times behind each other along `axis`."""

    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.tile_param
        self.axis, self.tiles = bottom[0].axis(param.axis), param.tiles
        self.check(
            param.HasField("tiles") and self.tiles > 0, "Number of tiles must be positive", "tiles > 0", self.tiles
        )
        shape = list(bottom[0].shape)
        shape[self.axis] *= self.tiles
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = torch.cat([bottom[0].value] * self.tiles, self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].grad = top[0].grad.unflatten(self.axis, (self.tiles, -1)).sum(self.axis)
