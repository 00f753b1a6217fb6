"""Layer types that compare or sum up the elements along axes (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register


@register
class Softmax(Layer):
    """Softmax along `axis`."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = bottom[0].axis(self.layer_param.softmax_param.axis)
        super().reshape(bottom, top)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = bottom[0].value.softmax(self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            y, dy = top[0].value, top[0].grad
            bottom[0].grad = torch.ops.aten._softmax_backward_data(dy, y, self.axis, y.dtype)


@register
class Reduction(Layer):
    """Sum, sum of absolute values, sum of squares or mean over all axes from `axis` on, times `coeff`."""

    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.reduction_param
        axis = bottom[0].axis(param.axis)
        self.operation = param.operation
        self.size = bottom[0].count_from(axis)
        self.coefficient = param.coeff / self.size if self.operation == param.MEAN else param.coeff
        top[0].reshape(*bottom[0].shape[:axis])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, x = self.layer_param.reduction_param, bottom[0].value.reshape(-1, self.size)
        if self.operation == param.ASUM:
            x = x.abs()
        elif self.operation == param.SUMSQ:
            x = x * x
        top[0].value = (x.sum(1) * self.coefficient).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            param, x = self.layer_param.reduction_param, bottom[0].value.reshape(-1, self.size)
            dy = top[0].grad.reshape(-1, 1) * self.coefficient
            if self.operation == param.ASUM:
                grad = dy * x.sign()
            elif self.operation == param.SUMSQ:
                grad = dy * 2 * x
            else:
                grad = dy.repeat(1, self.size)
            bottom[0].grad = grad.reshape(bottom[0].shape)


@register
class ArgMax(Layer):
    """The top_k indices by descending value, along `axis` or over all axes behind the first; has no gradient.

    Among equal values the larger index comes first. With out_max_val the values are given: instead of the indices
    along an axis, behind them (axis 1 of the top) otherwise.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.argmax_param
        self.top_k, self.values = param.top_k, param.out_max_val
        self.axis = bottom[0].axis(param.axis) if param.HasField("axis") else None
        classes = bottom[0].count_from(1) if self.axis is None else bottom[0].shape[self.axis]
        self.check(
            1 <= self.top_k <= classes,
            "top_k must be at least 1 and less than or equal to the number of classes",
            f"1..{classes}",
            self.top_k,
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.axis is None:
            shape = [1] * max(bottom[0].num_axes, 3)
            shape[0], shape[1], shape[2] = bottom[0].shape[0], 2 if self.values else 1, self.top_k
        else:
            shape = list(bottom[0].shape)
            shape[self.axis] = self.top_k
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        x, axis = (x.reshape(x.shape[0], -1), 1) if self.axis is None else (x, self.axis)
        values, order = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, self.top_k)
        indices = (x.shape[axis] - 1 - order.narrow(axis, 0, self.top_k)).to(x.dtype)
        if self.axis is None:
            result = torch.stack((indices, values), 1) if self.values else indices
        else:
            result = values if self.values else indices
        top[0].value = result.reshape(top[0].shape).clone()
