"""How each solver type turns gradients into steps (caffe_semantics section 4.4), and the learning rate policies (4.5).

One rule is one class in RULES. `step` replaces the gradient g in place by the step u; the solver then does data -= u.
History tensors start at zero; a rule says how many it has per parameter.
"""

import math

import numpy as np
import torch

from caffe.errors import CaffeError, check

RULES = {}


def rule(cls):
    """Class decorator: make a rule known under its class name, Caffe's solver type."""
    RULES[cls.__name__] = cls
    return cls


class Rule:
    """Base of the rules: param is the SolverParameter, `histories` the number of history blobs per parameter."""

    histories = 1

    def __init__(self, param):
        self.param = param

    def begin(self, rate, iteration):
        """Called once per update with the learning rate and the number of updates done; returns the rate to use."""
        return rate

    def step(self, g, history, rate):
        """Turn gradient `g` into the step, in place, with `rate` = learning rate times lr_mult.

        `rate` is a number, or a 0-d float32 tensor on g's device; both give the same bits.
        """
        raise CaffeError(f"{type(self).__name__}: no update rule")


@rule
class SGD(Rule):
    """V = mu V + r g; u = V. The learning rate is inside the history, unlike in torch.optim."""

    def step(self, g, history, rate):
        g.mul_(rate).add_(history[0], alpha=self.param.momentum)
        history[0].copy_(g)


@rule
class Nesterov(Rule):
    """V' = mu V + r g; u = (1 + mu) V' - mu V."""

    def step(self, g, history, rate):
        momentum = self.param.momentum
        before = history[0].clone()
        history[0].mul_(momentum).add_(g.mul_(rate))
        torch.mul(history[0], 1 + momentum, out=g).sub_(before, alpha=momentum)


class _WithoutMomentum(Rule):
    def __init__(self, param):
        super().__init__(param)
        check(param.momentum == 0, f"Momentum cannot be used with {type(self).__name__}.")


@rule
class AdaGrad(_WithoutMomentum):
    """H += g^2; u = r g / (sqrt(H) + eps)."""

    def step(self, g, history, rate):
        history[0].addcmul_(g, g)
        g.div_(history[0].sqrt().add_(self.param.delta)).mul_(rate)


@rule
class RMSProp(_WithoutMomentum):
    """H = d H + (1 - d) g^2; u = r g / (sqrt(H) + eps), d = rms_decay."""

    def __init__(self, param):
        super().__init__(param)
        check(0 <= param.rms_decay < 1, f"rms_decay: found {param.rms_decay:g}; rms_decay should lie between 0 and 1.")

    def step(self, g, history, rate):
        decay = self.param.rms_decay
        history[0].mul_(decay).addcmul_(g, g, value=1 - decay)
        g.div_(history[0].sqrt().add_(self.param.delta)).mul_(rate)


@rule
class AdaDelta(Rule):
    """H = mu H + (1-mu) g^2; s = g sqrt((U+eps)/(H+eps)); U = mu U + (1-mu) s^2; u = r s."""

    histories = 2

    def step(self, g, history, rate):
        momentum, delta = self.param.momentum, self.param.delta
        squares, updates = history
        squares.mul_(momentum).addcmul_(g, g, value=1 - momentum)
        g.mul_((updates + delta).div_(squares + delta).sqrt_())
        updates.mul_(momentum).addcmul_(g, g, value=1 - momentum)
        g.mul_(rate)


@rule
class Adam(Rule):
    """m, v: running means of g and g^2; u = r sqrt(1-b2^t)/(1-b1^t) m / (sqrt(v) + eps), t = iter + 1."""

    histories = 2

    def begin(self, rate, iteration):
        t = iteration + 1
        return rate * math.sqrt(1 - self.param.momentum2**t) / (1 - self.param.momentum**t)

    def step(self, g, history, rate):
        beta1, beta2 = self.param.momentum, self.param.momentum2
        m, v = history
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        torch.div(m, v.sqrt().add_(self.param.delta), out=g).mul_(rate)


# -- learning rate policies: iteration = number of updates done ----------------------------------------------------
POLICIES = {}


def policy(function):
    """Decorator: make a learning rate policy known under its name without the trailing underscore."""
    POLICIES[function.__name__.rstrip("_")] = function
    return function


@policy
def fixed(param, iteration, current_step):
    return param.base_lr


@policy
def step(param, iteration, current_step):
    return param.base_lr * np.power(param.gamma, iteration // param.stepsize)


@policy
def exp(param, iteration, current_step):
    return param.base_lr * np.power(param.gamma, iteration)


@policy
def inv(param, iteration, current_step):
    return param.base_lr * np.power(1 + param.gamma * iteration, -param.power)


@policy
def multistep(param, iteration, current_step):
    return param.base_lr * np.power(param.gamma, current_step)


@policy
def poly(param, iteration, current_step):
    return param.base_lr * np.power(1 - np.float64(iteration) / param.max_iter, param.power)


@policy
def sigmoid(param, iteration, current_step):
    return param.base_lr / (1 + np.exp(-param.gamma * (iteration - param.stepsize)))


def check_policy(param):
    """Raise CaffeError unless the learning rate policy of SolverParameter `param` is known and has what it needs."""
    known = ", ".join(sorted(POLICIES))
    check(param.lr_policy in POLICIES, f"Unknown learning rate policy: {param.lr_policy} (known policies: {known})")
    check(param.gamma >= 0 or param.lr_policy in ("fixed", "poly"),
          f"lr_policy {param.lr_policy}: found gamma {param.gamma:g}; wanted one >= 0")
    check(param.stepsize > 0 or param.lr_policy not in ("step", "sigmoid"),
          f"lr_policy {param.lr_policy}: found stepsize {param.stepsize}; wanted a positive one")


def learning_rate(param, iteration, current_step):
    """The rate of SolverParameter `param` after `iteration` updates: inf or nan where C's pow and exp give them."""
    with np.errstate(all="ignore"):
        return float(POLICIES[param.lr_policy](param, iteration, current_step))
