"""Recurrent layers: a cell that runs over time steps (docs/engine.md section 2.6)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.errors import check
from caffe.layer import DifferentiableLayer, register


class Cell(torch.autograd.Function):
    """(c, h) of an LSTM's cell for its state before (N, H), gates i f o g (N, 4H) before their curves, cont (N, 1).

    The gradient is Caffe's: it takes `cont sig(f)` for the value of the forget gate's curve, which is the true
    gradient where cont is 0 or 1.
    """

    @staticmethod
    def forward(
        ctx: Any, before: torch.Tensor, gates: torch.Tensor, cont: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(c, h), (N, H) each."""
        curved, g = gates.split((gates.shape[1] // 4 * 3, gates.shape[1] // 4), 1)
        (i, f, o), g = curved.sigmoid().chunk(3, 1), g.tanh()
        f = cont * f
        c = f * before + i * g
        ctx.save_for_backward(before, i, f, o, g, c.tanh())
        return c, o * c.tanh()

    @staticmethod
    def backward(ctx: Any, dc: torch.Tensor, dh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Gradients of the state before and of the gates."""
        before, i, f, o, g, curved = ctx.saved_tensors
        dc = dc + dh * o * (1 - curved**2)
        gates = (dc * g * i * (1 - i), dc * before * f * (1 - f), dh * curved * o * (1 - o), dc * i * (1 - g**2))
        return dc * f, torch.cat(gates, 1), None


@register
class LSTMUnit(DifferentiableLayer):
    """The cell of an LSTM for one time step: bottoms c (1, N, H), gates (1, N, 4H), cont (1, N); tops c, h."""

    bottoms = (3, 3)
    tops = (2, 2)
    in_place = False
    no_gradient_to = (2,)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, axes in enumerate((3, 3, 2)):
            self.check(bottom[i].num_axes == axes, f"{axes} axes in bottom {i}", bottom[i].num_axes)
        steps, items, units = bottom[0].shape
        wanted = [(1, items, units), (1, items, 4 * units), (1, items)]
        found = [tuple(b.shape) for b in bottom]
        self.check(found == wanted, f"bottoms of shapes {wanted}", found)
        for t in top:
            t.reshape(*wanted[0])

    def compute(self, inputs: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        c, gates, cont = inputs
        return [t[None] for t in Cell.apply(c[0], gates[0], cont[0, :, None])]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[2], "Cannot backpropagate to sequence indicators.")
        super().backward(top, propagate_down, bottom)


class Recurrent(DifferentiableLayer):
    """What runs a cell over the T steps of x (T, N, ...): bottoms x, cont (T, N), and maybe static x (N, ...).

    cont 0 where a sequence begins: the state before counts for nothing there. Without `expose_hidden` the state behind
    the last step is that before the first step of the next pass; with it, states (1, N, H) come in behind the other
    bottoms and go out behind the other tops. No gradient flows through either.
    Subclasses have `states` (how many) and set up their parameters; compute() runs over the steps.
    """

    states = 1
    in_place = False
    no_gradient_to = (1,)

    @property
    def exposed(self) -> bool:
        """True if the states are bottoms and tops."""
        return self.layer_param.recurrent_param.expose_hidden

    @property
    def bottoms(self) -> tuple[int, int]:
        """(least, most): x and cont, the states if they are exposed, a static input if there is one."""
        least = 2 + self.exposed * self.states
        return least, least + 1

    @property
    def tops(self) -> tuple[int, int]:
        """(least, most), which are one: the output, and the states if they are exposed."""
        return 1 + self.exposed * self.states, 1 + self.exposed * self.states

    @property
    def needs_host(self) -> str | None:
        """Why it is not captured: a state of its own that lives from pass to pass."""
        return None if self.exposed else "goes on from the state of the pass before"

    @abstractmethod
    def make_params(self, features: int, static: int | None) -> None:
        """Append the parameters, for so many features of x and of a static input (None: there is none)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.units = self.layer_param.recurrent_param.num_output
        self.check(self.units > 0, "num_output must be positive")
        axes = bottom[0].num_axes
        self.check(axes >= 3, "at least 3 axes in bottom 0 -- (#timesteps, #streams, features...)", axes)
        self.steps = bottom[0].shape[0]
        self.check(self.steps > 0, "at least one time step", 0)
        self.static = len(bottom) > self.bottoms[0]
        if self.static:
            axes = bottom[2].num_axes
            self.check(axes >= 2, "at least 2 axes in bottom 2 -- (#streams, features...)", axes)
        self.features = [bottom[0].count_from(2)] + ([bottom[2].count_from(1)] if self.static else [])
        self.make_params(*self.features, *([] if self.static else [None]))
        self.carried = [Blob((1, 0, self.units), self.context.device) for _ in range(self.states)]

    def matrix(self, *shape: int) -> None:
        """Append a matrix of parameters."""
        self.add_param(shape, self.layer_param.recurrent_param.weight_filler)

    def vector(self, size: int) -> None:
        """Append a vector of parameters."""
        self.add_param((size,), self.layer_param.recurrent_param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        steps, items = bottom[0].shape[:2]
        self.check(steps == self.steps, "input number of timesteps changed", self.steps, steps)
        shape = tuple(bottom[1].shape)
        self.check(shape == (steps, items), f"indicators of shape {(steps, items)}: (#timesteps, #streams)", shape)
        found = [bottom[0].count_from(2)] + ([bottom[2].count_from(1)] if self.static else [])
        self.check(found == self.features, f"{self.features} features", found)
        if self.static:
            self.check(bottom[2].shape[0] == items, f"a static input of {items} streams", bottom[2].shape[0])
        hidden = (1, items, self.units)
        for i, blob in enumerate(bottom[2 + self.static :], 2 + self.static):
            self.check(tuple(blob.shape) == hidden, f"a state of shape {hidden} in bottom {i}", tuple(blob.shape))
        for blob in self.carried:
            blob.reshape(*hidden)
        top[0].reshape(steps, items, self.units)
        for t in top[1:]:
            t.reshape(*hidden)

    def initial(self, bottom: list[Blob]) -> list[torch.Tensor]:
        """The states (N, H) before the first step."""
        return [blob.value[0] for blob in (bottom[2 + self.static :] if self.exposed else self.carried)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in self.carried:
            blob.to(self.context.device)
        self.before = self.initial(bottom)
        params = [p.value for p in self.blobs]
        output, *states = self.run([b.value for b in bottom], params, self.before)
        top[0].value = output
        for blob, state in zip(top[1:] if self.exposed else self.carried, states, strict=True):
            blob.value = state[None].clone()

    def run(
        self, inputs: list[torch.Tensor], params: list[torch.Tensor], states: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The output (T, N, H) and the states (N, H) behind the last step."""
        x, cont = inputs[0].flatten(2), inputs[1][..., None]
        static = functional.linear(inputs[2].flatten(1), params[2]) if self.static else 0
        seen = functional.linear(x, params[0], params[1]) + static
        own = params[3 if self.static else 2 :]
        outputs = []
        for step in range(self.steps):
            output, states = self.step(seen[step], cont[step], states, own)
            outputs.append(output)
        return [torch.stack(outputs), *states]

    @abstractmethod
    def step(
        self, seen: torch.Tensor, cont: torch.Tensor, states: list[torch.Tensor], params: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(output, states) of one step, (N, H) each: `seen` is what the inputs give, cont (N, 1)."""

    def compute(self, inputs: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return self.run(inputs, params, [state.detach() for state in self.before])[:1]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[1], "Cannot backpropagate to sequence indicators.")
        super().backward(top[:1], propagate_down, bottom)

    def release(self) -> None:
        self.before = None

    def position(self) -> dict[str, Any] | None:
        return None if self.exposed else {"states": [blob.value.cpu().numpy() for blob in self.carried]}

    def restore_position(self, position: dict[str, Any]) -> None:
        states = [np.array(state, np.float32) for state in position["states"]]
        wanted = [tuple(blob.shape) for blob in self.carried]
        check(wanted == [state.shape for state in states], self.where, f"states of shapes {wanted}", "others")
        for blob, state in zip(self.carried, states, strict=True):
            blob.value = torch.from_numpy(state).to(self.context.device)


@register
class LSTM(Recurrent):
    """h of an LSTM; states h, c. Blobs W_xc (4H, D), b_c (4H), with a static input W_xc_static, then W_hc (4H, H)."""

    states = 2

    def make_params(self, features: int, static: int | None) -> None:
        self.matrix(4 * self.units, features)
        self.vector(4 * self.units)
        if static is not None:
            self.matrix(4 * self.units, static)
        self.matrix(4 * self.units, self.units)

    def step(
        self, seen: torch.Tensor, cont: torch.Tensor, states: list[torch.Tensor], params: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        h, c = states
        c, h = Cell.apply(c, seen + functional.linear(cont * h, params[0]), cont)
        return h, [h, c]


@register
class RNN(Recurrent):
    """tanh(W_ho h + b_o) of h = tanh(W_xh x + b_h + W_hh h before); state h.

    Blobs W_xh (H, D), b_h (H), with a static input W_xh_static, then W_hh (H, H), W_ho (H, H), b_o (H).
    """

    def make_params(self, features: int, static: int | None) -> None:
        self.matrix(self.units, features)
        self.vector(self.units)
        if static is not None:
            self.matrix(self.units, static)
        self.matrix(self.units, self.units)
        self.matrix(self.units, self.units)
        self.vector(self.units)

    def step(
        self, seen: torch.Tensor, cont: torch.Tensor, states: list[torch.Tensor], params: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        h = torch.tanh(seen + functional.linear(cont * states[0], params[0]))
        return torch.tanh(functional.linear(h, params[1], params[2])), [h]
