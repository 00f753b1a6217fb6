"""Layer types that work element by element: the top has the bottom's shape (docs/engine.md section 2.4).

In place (top 0 is bottom 0) the bottom's value is gone after the forward pass, as in Caffe: a backward formula that
reads `bottom[0].value` then reads the top's value (BNLL and Clip, whose gradients in place are Caffe's, not the true
ones). Where Caffe's gradient in place does not depend on the top's gradient at all (Log, Power), the true one is given
instead.
"""

from __future__ import annotations

import math

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2

aten = torch.ops.aten


class Neuron(Layer):
    """Base of element-wise layers: subclasses give function(x, out) and derivative(dy, x, y)."""

    keeps_input = False  # in place, derivative gets a copy of the overwritten input

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        """The top's value for bottom value `x`; `out` is None, or `x` itself where it may be overwritten."""
        raise NotImplementedError

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The bottom's gradient for the top's gradient `dy`, bottom value `x` and top value `y`."""
        raise NotImplementedError

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        in_place = bottom[0] is top[0]
        self.input = x.clone() if in_place and self.keeps_input else None
        top[0].value = self.function(x, x if in_place else None)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x = bottom[0].value if self.input is None else self.input
            bottom[0].grad = self.derivative(top[0].grad, x, top[0].value)


@register
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0); the slope is the derivative at 0. In place, both passes reuse memory."""

    @property
    def as_epilogue(self) -> str | None:
        """The name relu where the slope is 0, else None."""
        return "relu" if self.slope == 0 else None

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.slope = self.layer_param.relu_param.negative_slope

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        out = x if bottom[0] is top[0] else torch.empty_like(x)
        top[0].value = (
            torch.clamp_min(x, 0, out=out) if self.slope == 0 else aten.leaky_relu.out(x, self.slope, out=out)
        )

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x, dy = bottom[0].value, top[0].grad
            out = dy if bottom[0] is top[0] else torch.empty_like(dy)
            bottom[0].grad = (
                aten.threshold_backward.grad_input(dy, x, 0, grad_input=out)
                if self.slope == 0
                else aten.leaky_relu_backward.grad_input(dy, x, self.slope, False, grad_input=out)
            )


@register
class PReLU(Layer):
    """x where x > 0, else slope * x, with a learned slope per channel (axis 1), or one for all (channel_shared)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.prelu_param
        self.check(bottom[0].num_axes >= 2, "Number of axes of bottom blob must be >=2.")
        self.shared = param.channel_shared
        quarter = caffe_pb2.FillerParameter(type="constant", value=0.25)
        self.add_param(
            () if self.shared else (bottom[0].shape[1],), param.filler if param.HasField("filler") else quarter
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(
            self.shared or bottom[0].shape[1] == self.blobs[0].count,
            f"{self.blobs[0].count} channels, one for each slope",
            bottom[0].shape[1],
        )
        top[0].reshape(*bottom[0].shape)

    def slopes(self, x: torch.Tensor) -> torch.Tensor:
        """The slopes, shaped to be broadcast over `x`."""
        return self.blobs[0].value if self.shared else self.blobs[0].value.view((1, -1) + (1,) * (x.dim() - 2))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        # In place the input is overwritten, but both gradients need it.
        self.input = x.clone() if bottom[0] is top[0] else None
        top[0].value = torch.where(x > 0, x, x * self.slopes(x))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = bottom[0].value if self.input is None else self.input
        dy = top[0].grad
        if self.param_propagate_down[0]:
            slope_grad = torch.where(x > 0, 0, dy * x)
            self.blobs[0].add_grad(
                slope_grad.sum() if self.shared else slope_grad.sum([d for d in range(x.dim()) if d != 1])
            )
        if propagate_down[0]:
            bottom[0].grad = torch.where(x > 0, dy, dy * self.slopes(x))


@register
class ELU(Neuron):
    """x where x > 0, else alpha * (e^x - 1)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.alpha = self.layer_param.elu_param.alpha

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.where(x > 0, x, torch.expm1(x) * self.alpha)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, dy, dy * (y + self.alpha))


@register
class Sigmoid(Neuron):
    """1 / (1 + e^-x)."""

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.sigmoid(x, out=out)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return aten.sigmoid_backward(dy, y)


@register
class TanH(Neuron):
    """Hyperbolic tangent."""

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.tanh(x, out=out)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return aten.tanh_backward(dy, y)


@register
class Swish(Neuron):
    """x * sigmoid(beta * x)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.beta = self.layer_param.swish_param.beta

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        self.gate = torch.sigmoid(x * self.beta)
        return torch.mul(x, self.gate, out=out)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * (self.beta * y + self.gate * (1 - self.beta * y))


@register
class AbsVal(Neuron):
    """|x|, with derivative 0 at 0."""

    in_place = False

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return x.abs()

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * x.sign()


@register
class Power(Neuron):
    """(shift + scale * x) ^ power.

    Except for powers 0, 1 and 2 the derivative is power * scale * y / (shift + scale * x), as Caffe computes it: it is
    not a number where the base is 0.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.keeps_input = self.power not in (0, 1)

    def base(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """shift + scale * x."""
        if self.scale != 1:
            x = out = torch.mul(x, self.scale, out=out)
        return x if self.shift == 0 else torch.add(x, self.shift, out=out)

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        if self.power * self.scale == 0:
            constant = 1.0 if self.power == 0 else self.shift**self.power
            return torch.full_like(x, constant) if out is None else out.fill_(constant)
        base = self.base(x, out)
        if self.power != 1:
            return torch.pow(base, self.power, out=base if base is not x else out)
        return base.clone() if base is x and out is None else base

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        slope = self.power * self.scale
        if slope == 0:
            return torch.zeros_like(dy)
        if self.power == 1:
            return dy * self.scale
        if self.power == 2:
            return dy * self.base(x) * slope
        return dy * (y / self.base(x)) * slope


def check_base(layer: Layer, base: float) -> None:
    """Refuse a base of Exp or Log that is neither positive nor -1, which means e."""
    layer.check(base == -1 or base > 0, "base must be strictly positive", "a base > 0, or -1 for e", f"{base:g}")


@register
class Exp(Neuron):
    """base ^ (shift + scale * x); base -1 is e."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.exp_param
        check_base(self, param.base)
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        self.inner = log_base * param.scale
        self.outer = math.exp(log_base * param.shift)

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.mul(x, self.inner, out=out).exp_().mul_(self.outer)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * y * self.inner


@register
class Log(Neuron):
    """Logarithm to `base` of shift + scale * x; base -1 is e."""

    keeps_input = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.log_param
        check_base(self, param.base)
        self.check(param.base != 1, "a base other than 1, whose logarithm cannot divide", "1")
        self.factor = 1.0 if param.base == -1 else 1.0 / math.log(param.base)
        self.scale, self.shift = param.scale, param.shift

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.mul(x, self.scale, out=out).add_(self.shift).log_().mul_(self.factor)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * (self.factor * self.scale) / (x * self.scale + self.shift)


@register
class BNLL(Neuron):
    """Binomial normal log likelihood: log(1 + e^x)."""

    THRESHOLD = 50.0  # the derivative is 1 in float32 long before

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.logaddexp(x, x.new_zeros(()), out=out)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * torch.sigmoid(x.clamp_max(self.THRESHOLD))


@register
class Threshold(Layer):
    """1 where x > threshold, else 0; has no gradient."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.threshold = self.layer_param.threshold_param.threshold

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        top[0].value = (x > self.threshold).to(x.dtype)


@register
class Clip(Neuron):
    """x limited to min..max; the derivative is 1 at both limits."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.clip_param
        self.check(param.min < param.max, "min < max", f"min {param.min:g}, max {param.max:g}")
        self.low, self.high = param.min, param.max

    def function(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return torch.clamp(x, self.low, self.high, out=out)

    def derivative(self, dy: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return dy * ((x >= self.low) & (x <= self.high))


@register
class Dropout(Layer):
    """Keeps each element with probability 1 - dropout_ratio, scaled by 1 / (1 - dropout_ratio); the others become 0.

    That is phase TRAIN, with a fresh mask in every forward pass from the random stream of the device. In phase TEST it
    is the identity.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ratio = self.layer_param.dropout_param.dropout_ratio
        self.check(0 <= self.ratio < 1, "0 <= dropout_ratio < 1", f"{self.ratio:g}")
        self.mask = None

    def apply(self, source: torch.Tensor, in_place: bool) -> torch.Tensor:
        """`source` times the mask; in TEST phase a copy, or `source` itself where that is the same memory."""
        if self.mask is None:
            return source if in_place else source.clone()
        return torch.mul(source, self.mask, out=source if in_place else None)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        if self.training and self.ratio > 0:
            self.mask = (
                torch.empty_like(x).bernoulli_(1 - self.ratio, generator=self.context.generator).div_(1 - self.ratio)
            )
        top[0].value = self.apply(x, bottom[0] is top[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].grad = self.apply(top[0].grad, bottom[0] is top[0])
