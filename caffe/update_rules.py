"""How each solver type turns gradients into steps, and the learning rate policies (docs/engine.md sections 4.4, 4.5).

One rule is one class in RULES. `step` replaces the gradients g in place by the steps u; the solver then does data -= u.
History tensors start at zero; a rule says how many it has per parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from caffe.errors import CaffeError, check
from caffe_proto import caffe_pb2

RULES = {}


def rule(cls: type[Rule]) -> type[Rule]:
    """Class decorator: make a rule known under its class name, Caffe's solver type."""
    RULES[cls.__name__] = cls
    return cls


class Rule:
    """Base of the rules: param is the SolverParameter, `histories` the number of history blobs per parameter."""

    histories = 1

    def __init__(self, param: caffe_pb2.SolverParameter):
        self.param = param

    def begin(self, rate: float, iteration: int) -> float:
        """Called once per update with the learning rate and the number of updates done; returns the rate to use."""
        return rate

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        """Turn the gradients `g` (a list of tensors) into steps, in place, with `rate` = learning rate times lr_mult.

        `history` holds `histories` lists of tensors. `rate` is a number, or a 0-d float32 tensor on their device; both
        give the same bits. Operations on lists are few kernels on CUDA, however many tensors there are.
        """
        raise CaffeError(type(self).__name__, "an update rule", "none")


@rule
class SGD(Rule):
    """V = mu V + r g; u = V. The learning rate is inside the history, unlike in torch.optim."""

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        torch._foreach_mul_(g, rate)
        torch._foreach_add_(g, history[0], alpha=self.param.momentum)
        torch._foreach_copy_(history[0], g)


@rule
class Nesterov(Rule):
    """V' = mu V + r g; u = (1 + mu) V' - mu V."""

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        momentum = self.param.momentum
        before = torch._foreach_mul(history[0], momentum)
        torch._foreach_mul_(g, rate)
        torch._foreach_add_(g, before)
        torch._foreach_copy_(history[0], g)
        torch._foreach_mul_(g, 1 + momentum)
        torch._foreach_sub_(g, before)


class _WithoutMomentum(Rule):
    def __init__(self, param: caffe_pb2.SolverParameter):
        super().__init__(param)
        check(param.momentum == 0, f"Momentum cannot be used with {type(self).__name__}.")

    def divide(self, g: list[torch.Tensor], squares: list[torch.Tensor], rate: float | torch.Tensor) -> None:
        """g = rate g / (sqrt(squares) + eps)."""
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, self.param.delta)
        torch._foreach_div_(g, roots)
        torch._foreach_mul_(g, rate)


@rule
class AdaGrad(_WithoutMomentum):
    """H += g^2; u = r g / (sqrt(H) + eps)."""

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        torch._foreach_addcmul_(history[0], g, g)
        self.divide(g, history[0], rate)


@rule
class RMSProp(_WithoutMomentum):
    """H = d H + (1 - d) g^2; u = r g / (sqrt(H) + eps), d = rms_decay."""

    def __init__(self, param: caffe_pb2.SolverParameter):
        super().__init__(param)
        check(
            0 <= param.rms_decay < 1,
            "rms_decay should lie between 0 and 1",
            "0 <= rms_decay < 1",
            f"{param.rms_decay:g}",
        )

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        running_mean(history[0], g, g, self.param.rms_decay)
        self.divide(g, history[0], rate)


def running_mean(mean: list[torch.Tensor], a: list[torch.Tensor], b: list[torch.Tensor], share: float) -> None:
    """mean = share mean + (1 - share) a b, over lists of tensors."""
    torch._foreach_mul_(mean, share)
    torch._foreach_addcmul_(mean, a, b, value=1 - share)


@rule
class AdaDelta(Rule):
    """H = mu H + (1-mu) g^2; s = g sqrt((U+eps)/(H+eps)); U = mu U + (1-mu) s^2; u = r s."""

    histories = 2

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        momentum, delta = self.param.momentum, self.param.delta
        squares, updates = history
        running_mean(squares, g, g, momentum)
        ratio = torch._foreach_add(updates, delta)
        torch._foreach_div_(ratio, torch._foreach_add(squares, delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(g, ratio)
        running_mean(updates, g, g, momentum)
        torch._foreach_mul_(g, rate)


@rule
class Adam(Rule):
    """m, v: running means of g and g^2; u = r sqrt(1-b2^t)/(1-b1^t) m / (sqrt(v) + eps), t = iter + 1."""

    histories = 2

    def __init__(self, param: caffe_pb2.SolverParameter):
        super().__init__(param)
        for name in ("momentum", "momentum2"):
            value = getattr(param, name)
            check(0 <= value < 1, "Adam", f"{name} of at least 0 and less than 1", f"{value:g}")

    def begin(self, rate: float, iteration: int) -> float:
        t = iteration + 1
        return rate * math.sqrt(1 - self.param.momentum2**t) / (1 - self.param.momentum**t)

    def step(self, g: list[torch.Tensor], history: list[list[torch.Tensor]], rate: float | torch.Tensor) -> None:
        beta1, beta2 = self.param.momentum, self.param.momentum2
        m, v = history
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, g, alpha=1 - beta1)
        running_mean(v, g, g, beta2)
        roots = torch._foreach_sqrt(v)
        torch._foreach_add_(roots, self.param.delta)
        torch._foreach_copy_(g, m)
        torch._foreach_div_(g, roots)
        torch._foreach_mul_(g, rate)


# -- learning rate policies: iteration = number of updates done ----------------------------------------------------
POLICIES = {}


def policy(
    function: Callable[[caffe_pb2.SolverParameter, int, int], float],
) -> Callable[[caffe_pb2.SolverParameter, int, int], float]:
    """Decorator: make a learning rate policy known under its name without the trailing underscore."""
    POLICIES[function.__name__.rstrip("_")] = function
    return function


@policy
def fixed(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr."""
    return param.base_lr


@policy
def step(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr gamma^floor(iteration / stepsize)."""
    return param.base_lr * np.power(param.gamma, iteration // param.stepsize)


@policy
def exp(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr gamma^iteration."""
    return param.base_lr * np.power(param.gamma, iteration)


@policy
def inv(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr (1 + gamma iteration)^-power."""
    return param.base_lr * np.power(1 + param.gamma * iteration, -param.power)


@policy
def multistep(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr gamma^current_step; current_step counts the stepvalues that are reached."""
    return param.base_lr * np.power(param.gamma, current_step)


@policy
def poly(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr (1 - iteration / max_iter)^power."""
    return param.base_lr * np.power(1 - np.float64(iteration) / param.max_iter, param.power)


@policy
def sigmoid(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """base_lr / (1 + e^(-gamma (iteration - stepsize)))."""
    return param.base_lr / (1 + np.exp(-param.gamma * (iteration - param.stepsize)))


def check_policy(param: caffe_pb2.SolverParameter) -> None:
    """Raise CaffeError unless the learning rate policy of SolverParameter `param` is known and has what it needs."""
    known = ", ".join(sorted(POLICIES))
    check(param.lr_policy in POLICIES, f"Unknown learning rate policy: {param.lr_policy} (known policies: {known})")
    check(
        param.gamma >= 0 or param.lr_policy in ("fixed", "poly"),
        f"lr_policy {param.lr_policy}",
        "a gamma >= 0",
        f"{param.gamma:g}",
    )
    check(
        param.stepsize > 0 or param.lr_policy not in ("step", "sigmoid"),
        f"lr_policy {param.lr_policy}",
        "a positive stepsize",
        param.stepsize,
    )


def learning_rate(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    """The rate of SolverParameter `param` after `iteration` updates: inf or nan where C's pow and exp give them."""
    with np.errstate(all="ignore"):
        return float(POLICIES[param.lr_policy](param, iteration, current_step))
