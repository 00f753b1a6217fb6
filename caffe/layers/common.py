"""Layer types that rearrange, combine or normalise blobs (caffe_semantics: common layers)."""

import torch

from caffe.layer import Layer, register


@register
class Softmax(Layer):
    """Softmax along `axis`."""

    def reshape(self, bottom, top):
        self.axis = bottom[0].axis(self.layer_param.softmax_param.axis)
        super().reshape(bottom, top)

    def forward(self, bottom, top):
        top[0].value = bottom[0].value.softmax(self.axis)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y, dy = top[0].value, top[0].grad
            bottom[0].grad = torch.ops.aten._softmax_backward_data(dy, y, self.axis, y.dtype)


def alias(top, bottom):
    """Make `top` (shaped already) the same memory as `bottom`, value and gradient."""
    top.share_data(bottom)
    top.share_diff(bottom)


@register
class Split(Layer):
    """Every top is the bottom, with a gradient of its own; the bottom's gradient is their sum."""

    tops = (1, None)
    in_place = False

    def reshape(self, bottom, top):
        for blob in top:
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom, top):
        """Nothing: the tops share the bottom's memory."""

    def backward(self, top, propagate_down, bottom):
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

    def reshape(self, bottom, top):
        """No tops."""

    def forward(self, bottom, top):
        """Nothing to compute."""

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.grad = torch.zeros_like(blob.value)


@register
class Slice(Layer):
    """Cuts the bottom along `axis`: at the slice_points, or into equal pieces. A single top is the bottom itself."""

    tops = (1, None)
    in_place = False

    def setup(self, bottom, top):
        param = self.layer_param.slice_param
        self.check(not (param.HasField("axis") and param.HasField("slice_dim")),
                   "Either axis or slice_dim should be specified; not both.")
        self.points = list(param.slice_point)

    def reshape(self, bottom, top):
        param = self.layer_param.slice_param
        self.axis = bottom[0].axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
        size = bottom[0].shape[self.axis]
        if self.points:
            self.check(len(self.points) == len(top) - 1,
                       f"found {len(self.points)} slice points for {len(top)} tops; wanted {len(top) - 1}")
            edges = [0, *self.points, size]
            self.check(all(a < b for a, b in zip(edges, edges[1:], strict=False)),
                       f"found slice points {self.points} in an axis of {size}; wanted increasing ones inside it")
        else:
            self.check(size % len(top) == 0,
                       f"Number of top blobs ({len(top)}) should evenly divide input slice axis ({size})")
            edges = [size // len(top) * i for i in range(len(top) + 1)]
        self.sizes = [b - a for a, b in zip(edges, edges[1:], strict=False)]
        for blob, length in zip(top, self.sizes, strict=True):
            shape = list(bottom[0].shape)
            shape[self.axis] = length
            blob.reshape(*shape)
        if len(top) == 1:
            alias(top[0], bottom[0])

    def forward(self, bottom, top):
        if len(top) > 1:
            for blob, piece in zip(top, bottom[0].value.split(self.sizes, self.axis), strict=True):
                blob.value = piece.clone()

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0] and len(top) > 1:
            bottom[0].grad = torch.cat([blob.grad for blob in top], self.axis)
