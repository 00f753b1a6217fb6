"""Layer types that combine blobs element by element, some by broadcasting (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2


@register
class Eltwise(Layer):
    """Sum (with coefficients), product or maximum of bottoms of one shape.

    MAX: on equal values bottom 1 wins over bottom 0, and earlier bottoms over later ones.
    """

    bottoms = (2, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.eltwise_param
        self.operation, self.stable = param.operation, param.stable_prod_grad
        self.check(len(param.coeff) in (0, len(bottom)), "Eltwise Layer takes one coefficient per bottom blob.")
        self.check(
            not (self.operation == param.PROD and len(param.coeff)),
            "Eltwise layer only takes coefficients for summation.",
        )
        self.coefficients = list(param.coeff) or [1.0] * len(bottom)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            self.check(
                blob.shape == bottom[0].shape,
                "equal shapes",
                f"bottom[0]: {bottom[0].shape_string}, bottom[{i}]: {blob.shape_string}",
            )
        super().reshape(bottom, top)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.eltwise_param
        values = [blob.value for blob in bottom]
        if self.operation == param.SUM:
            total = values[0] * self.coefficients[0]
            for value, coefficient in zip(values[1:], self.coefficients[1:], strict=True):
                total.add_(value, alpha=coefficient)
        elif self.operation == param.PROD:
            total = values[0] * values[1]
            for value in values[2:]:
                total *= value
        else:
            self.winner = (values[0] <= values[1]).to(torch.uint8 if len(values) < 256 else torch.int32)
            total = torch.where(self.winner == 0, values[0], values[1])
            for i, value in enumerate(values[2:], start=2):
                larger = value > total
                self.winner.masked_fill_(larger, i)
                total = torch.where(larger, value, total)
        top[0].value = total

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        param, dy, y = self.layer_param.eltwise_param, top[0].grad, top[0].value
        grads = {}
        for i, wanted in enumerate(propagate_down):
            if not wanted:
                continue
            if self.operation == param.SUM:
                grads[i] = dy * self.coefficients[i]
            elif self.operation == param.MAX:
                grads[i] = dy * (self.winner == i)
            elif self.stable:
                others = [blob.value for j, blob in enumerate(bottom) if j != i]
                product = others[0] if len(others) == 1 else torch.stack(others).prod(0)
                grads[i] = dy * product
            else:
                grads[i] = dy * (y / bottom[i].value)
        for i, grad in grads.items():
            bottom[i].grad = grad


class Broadcast(Layer):
    """Base of Scale and Bias: an operand that covers the axes axis..axis+num_axes of bottom 0, learned or bottom 1."""

    bottoms = (1, 2)

    def operand_shape(
        self, bottom: list[Blob], param: caffe_pb2.ScaleParameter | caffe_pb2.BiasParameter
    ) -> torch.Size:
        """Shape of the learned operand."""
        shape, axis = bottom[0].shape, bottom[0].axis(param.axis)
        self.check(param.num_axes >= -1, "num_axes must be non-negative, or -1 to extend to the end of bottom[0]")
        self.check(
            axis + param.num_axes <= len(shape),
            f"the operand's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis = {axis}",
        )
        return shape[axis:] if param.num_axes == -1 else shape[axis : axis + param.num_axes]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        operand = bottom[1] if len(bottom) > 1 else self.blobs[0]
        shape, size = bottom[0].shape, operand.num_axes
        start = bottom[0].axis(self.param.axis) if size else 0
        self.check(
            shape[start : start + size] == operand.shape,
            f"dimension mismatch between bottom[0] ({bottom[0].shape_string}) from axis {start} and the operand "
            f"({operand.shape_string})",
        )
        # the operand with ones in front of and behind its axes, and the axes that gradients are summed over
        self.wide = (1,) * start + tuple(operand.shape) + (1,) * (len(shape) - start - size)
        self.summed = [d for d in range(len(shape)) if not start <= d < start + size]

    def collect(self, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Sum of `tensor` over the axes that the operand was broadcast along, always as new memory."""
        return (tensor.sum(self.summed) if self.summed else tensor.clone()).reshape(shape)


@register
class Scale(Broadcast):
    """Bottom 0 times a factor that is broadcast, plus a learned bias of the same shape if bias_term."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.param = param = self.layer_param.scale_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        if len(bottom) == 1:
            self.add_param(self.operand_shape(bottom, param), param.filler if param.HasField("filler") else one)
        if param.bias_term:
            shape = bottom[1].shape if len(bottom) > 1 else self.blobs[0].shape
            self.add_param(shape, param.bias_filler)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, factor = bottom[0].value, bottom[1] if len(bottom) > 1 else self.blobs[0]
        self.input = x.clone() if bottom[0] is top[0] else None
        y = x * factor.value.reshape(self.wide)
        if self.param.bias_term:
            y += self.blobs[-1].value.reshape(self.wide)
        top[0].value = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy, factor = top[0].grad, bottom[1] if len(bottom) > 1 else self.blobs[0]
        x = bottom[0].value if self.input is None else self.input
        if self.param.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].add_grad(self.collect(dy, factor.shape))
        if len(bottom) > 1 and propagate_down[1]:
            factor.grad = self.collect(dy * x, factor.shape)
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            factor.add_grad(self.collect(dy * x, factor.shape))
        if propagate_down[0]:
            bottom[0].grad = dy * factor.value.reshape(self.wide)


@register
class Bias(Broadcast):
    """Bottom 0 plus a term that is broadcast."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.param = param = self.layer_param.bias_param
        if len(bottom) == 1:
            self.add_param(self.operand_shape(bottom, param), param.filler)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        term = bottom[1] if len(bottom) > 1 else self.blobs[0]
        top[0].value = bottom[0].value + term.value.reshape(self.wide)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy = top[0].grad
        if len(bottom) > 1 and propagate_down[1]:
            bottom[1].grad = self.collect(dy, bottom[1].shape)
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            self.blobs[0].add_grad(self.collect(dy, self.blobs[0].shape))
        if propagate_down[0] and bottom[0] is not top[0]:
            bottom[0].grad = dy.clone()
