"""What one expression cannot say: functions and modules of torch alone, whose text goes into exported sources."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def largest(x: Tensor, count: int, axis: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values along an axis, and their indices; among equal ones the larger index comes first."""
    x, values, indices = x.flip(axis), [], []
    for _ in range(count):
        value, index = x.max(axis, keepdim=True)
        values.append(value)
        indices.append(x.shape[axis] - 1 - index)
        x = x.scatter(axis, index, -float("inf"))
    return torch.cat(values, axis), torch.cat(indices, axis).float()


def lstm_cell(c: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """(c, h) behind a time step, (N, H): c before, gates i f o g (N, 4H), cont (N, 1), 0 where a sequence begins."""
    i, f, o, g = gates.chunk(4, 1)
    c = cont * torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


class LSTM(nn.Module):
    """An LSTM with Caffe's order of gates, whose state may begin anew at any step."""

    def __init__(self, units: int, features: int, static: int = 0):
        super().__init__()
        self.w_x, self.b = nn.Parameter(torch.empty(4 * units, features)), nn.Parameter(torch.empty(4 * units))
        self.w_static = nn.Parameter(torch.empty(4 * units, static)) if static else None
        self.w_h = nn.Parameter(torch.empty(4 * units, units))

    def forward(
        self,
        x: Tensor,
        cont: Tensor,
        static: Tensor | None = None,
        h: Tensor | None = None,
        c: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h (T, N, H) of x (T, N, ...), cont (T, N), a static input (N, ...) and states (1, N, H); the last h and c."""
        seen = F.linear(x.flatten(2), self.w_x, self.b)
        if static is not None:
            seen = seen + F.linear(static.flatten(1), self.w_static)
        h = x.new_zeros(x.shape[1], self.w_h.shape[1]) if h is None else h[0]
        c = torch.zeros_like(h) if c is None else c[0]
        steps = []
        for at, going_on in zip(seen, cont.unsqueeze(2), strict=True):
            c, h = lstm_cell(c, at + F.linear(going_on * h, self.w_h), going_on)
            steps.append(h)
        return torch.stack(steps), h.unsqueeze(0), c.unsqueeze(0)


class RNN(nn.Module):
    """tanh(W_ho h + b_o) with h = tanh(W_xh x + b_h + W_hh h before), whose state may begin anew at any step."""

    def __init__(self, units: int, features: int, static: int = 0):
        super().__init__()
        self.w_x, self.b = nn.Parameter(torch.empty(units, features)), nn.Parameter(torch.empty(units))
        self.w_static = nn.Parameter(torch.empty(units, static)) if static else None
        self.w_h = nn.Parameter(torch.empty(units, units))
        self.w_o, self.b_o = nn.Parameter(torch.empty(units, units)), nn.Parameter(torch.empty(units))

    def forward(
        self, x: Tensor, cont: Tensor, static: Tensor | None = None, h: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output (T, N, H) of x (T, N, ...), cont (T, N), a static input (N, ...), a state (1, N, H); last h."""
        seen = F.linear(x.flatten(2), self.w_x, self.b)
        if static is not None:
            seen = seen + F.linear(static.flatten(1), self.w_static)
        h = x.new_zeros(x.shape[1], self.w_h.shape[1]) if h is None else h[0]
        steps = []
        for at, going_on in zip(seen, cont.unsqueeze(2), strict=True):
            h = torch.tanh(at + F.linear(going_on * h, self.w_h))
            steps.append(torch.tanh(F.linear(h, self.w_o, self.b_o)))
        return torch.stack(steps), h.unsqueeze(0)
