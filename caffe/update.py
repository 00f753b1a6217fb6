"""From gradients to new parameters: clip, normalise, regularise, update rule (docs/engine.md section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.net import Net
from caffe.update_rules import Rule, learning_rate
from caffe_proto import caffe_pb2


class Update:
    """Changes the parameters of `net` as SolverParameter `param` and `rule` (an update_rules.Rule) say.

    history: Blobs, `rule.histories` times as many as the net has parameters. current_step: multistep's steps so far.
    """

    def __init__(self, param: caffe_pb2.SolverParameter, rule: Rule, net: Net):
        self.param, self.rule, self.net = param, rule, net
        self.current_step = 0
        params = net.learnable_params
        self.history = [Blob(tuple(p.shape)) for _ in range(rule.histories) for p in params]
        for blob, p in zip(self.history, params * rule.histories, strict=True):
            blob.value = torch.zeros_like(p.value)  # in the memory format of the parameter

    def restore(self, current_step: int, history: Sequence[np.ndarray]) -> None:
        """Go on from arrays of as many numbers as the history blobs have, and from this step of multistep."""
        self.current_step = current_step
        for blob, array in zip(self.history, history, strict=True):
            blob.value.copy_(torch.from_numpy(array.reshape(blob.shape)))

    # -- rates ---------------------------------------------------------------------------------------------------
    def reach_step(self, iteration: int) -> bool:
        """Go on to multistep's next rate if its iteration has come; True if so."""
        param = self.param
        reached = (
            param.lr_policy == "multistep"
            and self.current_step < len(param.stepvalue)
            and iteration >= param.stepvalue[self.current_step]
        )
        self.current_step += reached
        return reached

    def rate(self, iteration: int) -> float:
        """The learning rate after `iteration` updates (a float)."""
        return learning_rate(self.param, iteration, self.current_step)

    def groups(self) -> dict[float, list[int]]:
        """{lr_mult: indices of the parameters that have it}."""
        groups = {}
        for i, mult in enumerate(self.net.lr_mults):
            groups.setdefault(mult, []).append(i)
        return groups

    def rates(self, rate: float, iteration: int) -> list[float]:
        """What the rule makes of learning rate `rate` in this iteration: one number for each of groups()."""
        factor = self.rule.begin(rate, iteration)
        return [factor * mult for mult in self.groups()]

    # -- the update ----------------------------------------------------------------------------------------------
    def apply(self, rates: Iterable[float | torch.Tensor]) -> torch.Tensor | None:
        """Update all parameters, on their device alone; returns the norm of the gradients if they are clipped.

        rates: a number or a 0-d tensor for each of groups(). The norm is a 0-d tensor, else None.
        """
        net = self.net
        for blob in (*net.learnable_params, *self.history):
            blob.to(net.context.device)  # a user may have looked at some of them
        grads, values = [p.grad for p in net.learnable_params], [p.value for p in net.learnable_params]
        if not grads:
            return None
        norm = self._clip(grads)
        self._normalise(grads)
        self._regularise(grads, values)
        for rate, group in zip(rates, self.groups().values(), strict=True):
            history = [[self.history[i + k * len(grads)].value for i in group] for k in range(self.rule.histories)]
            self.rule.step([grads[i] for i in group], history, rate)
        torch._foreach_sub_(values, grads)
        return norm

    def _clip(self, grads):
        """Scale gradients of a greater L2 norm than clip_gradients down to it; returns the norm before."""
        clip = self.param.clip_gradients
        if clip < 0:
            return None
        norm = torch.sqrt(sum(torch.dot(g.reshape(-1), g.reshape(-1)) for g in grads))
        exact = norm.double()
        scale = torch.where(exact > clip, torch.full_like(exact, clip) / exact, 1.0).float()
        torch._foreach_mul_(grads, scale)
        return norm

    def _normalise(self, grads):
        """Make sums over iter_size batches means."""
        if self.param.iter_size != 1:
            torch._foreach_mul_(grads, 1.0 / self.param.iter_size)

    def _regularise(self, grads, values):
        """Add the gradient of the weight decay."""
        kind = self.param.regularization_type
        for g, value, mult in zip(grads, values, self.net.decay_mults, strict=True):
            decay = self.param.weight_decay * mult
            if not decay:
                continue
            if kind == "L2":
                g.add_(value, alpha=decay)
            elif kind == "L1":
                g.add_(value.sign(), alpha=decay)
            else:
                raise CaffeError(f"Unknown regularization type: {kind} (known types: L1, L2)")
