"""Convolution, ReLU and MAX pooling in one pass over the batch, a few images at a time (docs/engine.md section 7.3).

The result of the convolution, the largest array of such networks, stays in cache and never exists for the whole batch.
Kept for the backward pass are the pooled values and, as small integers, the winners.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.convolution import chunks

if TYPE_CHECKING:
    from caffe.layers.convolution import Convolution
    from caffe.layers.pooling import Pooling

aten = torch.ops.aten


def make_block(
    convolution: Convolution, pooling: Pooling, bottom: Blob, middle: Blob, top: Blob, propagate_down: bool
) -> Block | None:
    """The block of these two layers and the ReLU between them, None where it does not pay.

    Windows side by side read every value once: there the layers one after the other are as quick, and small enough.
    """
    signal = (
        convolution.channels == 1
        and convolution.kernel[0] == 1
        and convolution.stride == [1, 1]
        and convolution.dilation == [1, 1]
        and convolution.pad[0] == 0
        and bottom.height == 1
        and not propagate_down
    )
    if signal and pooling.kernel[0] == 1 and pooling.pad == (0, 0) and pooling.kernel[1] >= pooling.stride[1]:
        return SingleChannelBlock(convolution, pooling, bottom, middle, top, propagate_down)
    overlap = any(k > s and n > k for k, s, n in zip(pooling.kernel, pooling.stride, middle.shape[2:], strict=True))
    return Block(convolution, pooling, bottom, middle, top, propagate_down) if overlap else None


class Block:
    """Convolution, ReLU and MAX pooling over blobs `bottom` -> `middle` -> `top`; `middle` never gets a value.

    propagate_down: is the gradient of `bottom` wanted?
    """

    def __init__(
        self, convolution: Convolution, pooling: Pooling, bottom: Blob, middle: Blob, top: Blob, propagate_down: bool
    ):
        self.convolution, self.pooling = convolution, pooling
        self.bottom, self.middle, self.top, self.propagate_down = bottom, middle, top, propagate_down

    kind = "block"

    def chunks(self) -> list[slice]:
        """Slices of the batch."""
        return chunks(self.middle.shape[0], 4 * self.middle.count_from(1))

    def forward(self) -> None:
        """Compute the value of `top` from that of `bottom`, chunk by chunk; TRAIN keeps the winners."""
        self.pooling.reshape([self.middle], [self.top])
        training, shape = self.convolution.training, self.top.shape
        y = torch.empty(shape, memory_format=torch.channels_last)
        rows, columns = (n + sum(b) for n, b in zip(self.middle.shape[2:], self.pooling.border, strict=True))
        small = torch.int16 if rows * columns <= 2**15 else torch.int32
        self.winner = torch.empty(shape, dtype=small, memory_format=torch.channels_last) if training else None
        for chunk in self.chunks():
            winner = torch.empty(y[chunk].shape, dtype=torch.int64, memory_format=torch.channels_last)
            self.pooling.max_pool(self.convolution.result(self.bottom.value[chunk], relu=True), (y[chunk], winner))
            if training:
                self.winner[chunk] = winner
        self.top.value = y

    def backward(self) -> None:
        """From the gradient of `top`: add those of the parameters, and overwrite that of `bottom` if it is wanted."""
        bias = torch.zeros(self.middle.shape[1])
        if self.propagate_down:  # the gradient for the input comes quickest from the whole batch
            gradient = torch.empty(self.middle.shape, memory_format=torch.channels_last)
            for chunk in self.chunks():
                self.pooling.unpool(
                    self.masked(chunk, bias), gradient[chunk], self.winner[chunk].long(), gradient[chunk]
                )
            self.bottom.grad, weight, _ = self.convolution.gradients(self.bottom.value, gradient, True, bias=False)
        else:
            weight = torch.zeros_like(self.convolution.weight())
            for chunk in self.chunks():
                masked = self.masked(chunk, bias)
                if self.convolution.param_propagate_down[0]:
                    x = self.bottom.value[chunk]
                    piece = torch.empty((len(x), *self.middle.shape[1:]), memory_format=torch.channels_last)
                    self.pooling.unpool(masked, piece, self.winner[chunk].long(), piece)
                    weight += self.convolution.gradients(x, piece, False, bias=False)[1].reshape(weight.shape)
        self.add(weight, bias)

    def masked(self, chunk: slice, bias: torch.Tensor) -> torch.Tensor:
        """The top's gradient for `chunk` behind the ReLU; its sum is added to the gradient of the bias."""
        gradient = aten.threshold_backward(self.top.grad[chunk], self.top.value[chunk], 0)
        bias.add_(gradient.sum([0, 2, 3]))
        return gradient

    def add(self, *grads: torch.Tensor) -> None:
        """Add the gradients of weights and bias to their blobs where they are wanted."""
        wanted = self.convolution.param_propagate_down
        self.convolution.add_gradients(*(g if w else None for g, w in zip(grads, wanted, strict=False)))

    def release(self) -> None:
        """Give back the winners."""
        self.winner = None


def maximum(tensors: Sequence[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """Element-wise maximum of the sequence `tensors`, written to `out`; of one tensor, that tensor."""
    first, *others = tensors
    for tensor in others:
        first = torch.maximum(first, tensor, out=out)
    return first


class SingleChannelBlock(Block):
    """The block for signals: one input channel, one row, windows that leave no gap, no gradient for the input.

    A window's k candidates are the results of k convolutions with the pooling's stride s, of which s differ by more
    than a shift: candidate j of window i is phase j mod s at i + j div s. The backward pass computes the candidates
    again, which costs less than reading them from memory. Of equal candidates the first wins, as in Caffe, so that the
    winner is j or later where the maximum of the later ones exceeds that of the earlier ones. With g_j the gradient
    there, 0 elsewhere, and x_j the samples that candidate j sees, the gradient of the weights is a telescoping sum:
    g_0 x_0 + g_1 (x_1 - x_0) + g_2 (x_2 - x_1) + ...
    """

    kind = "single-channel block"

    def geometry(self) -> tuple[int, int, int, int, int]:
        """(window k, step s and windows per signal of the pooling, kernel width, samples before the pooling)."""
        k, s, out = self.pooling.kernel[1], self.pooling.stride[1], self.pooling.out[1]
        return k, s, out, self.convolution.kernel[1], self.middle.shape[3]

    def unfold(self, first: int, rows: int) -> torch.Tensor:
        """(N, rows, width) windows of the padded signals from sample `first` in steps of the pooling."""
        _, s, _, width, _ = self.geometry()
        signal, pad = self.bottom.value[:, 0, 0], self.convolution.pad[1]
        reach = first + (rows - 1) * s + width
        signal = functional.pad(signal, (pad, max(pad, reach - pad - signal.shape[1])))
        return signal[:, first:].unfold(1, width, s)[:, :rows]

    def candidates(self) -> tuple[Callable[[int], None], list[torch.Tensor]]:
        """(function that computes image n's candidates, list of their k (out, channels) views)."""
        k, s, out, width, sizes = self.geometry()
        rows = out + (k - 1) // s
        convolution, channels = self.convolution, self.middle.shape[1]
        weight = convolution.blobs[0].value.reshape(channels, width)
        bias = convolution.blobs[1].value if len(convolution.blobs) > 1 else torch.zeros(channels)
        matrix = torch.cat([weight, bias[:, None]], 1).T.contiguous()
        phases = torch.full((s, rows, channels), -math.inf)  # beyond the last sample it stays so
        inside = [min(rows, -(-(sizes - r) // s)) for r in range(s)]
        windows = [functional.pad(self.unfold(r, n), (0, 1), value=1.0) for r, n in enumerate(inside)]

        def compute(image):
            for phase, n, w in zip(phases, inside, windows, strict=True):
                torch.mm(w[image], matrix, out=phase[:n])

        return compute, [phases[j % s, j // s : j // s + out] for j in range(k)]

    def forward(self) -> None:
        self.pooling.reshape([self.middle], [self.top])
        compute, candidates = self.candidates()
        y = torch.empty(self.top.shape, memory_format=torch.channels_last)
        for image, best in enumerate(y.permute(0, 2, 3, 1)[:, 0]):
            compute(image)
            torch.clamp_min(maximum(candidates, best), 0, out=best)
        self.top.value = y

    def backward(self) -> None:
        k, _, out, width, _ = self.geometry()
        compute, candidates = self.candidates()
        y, dy = (t.permute(0, 2, 3, 1)[:, 0].contiguous() for t in (self.top.value, self.top.grad))
        windows = [self.unfold(j, out) for j in range(k)]
        steps = [functional.pad(windows[0], (0, 1), value=1.0)]  # the last column is the bias
        steps += [functional.pad(later - earlier, (0, 1)) for earlier, later in itertools.pairwise(windows)]
        steps = [step.transpose(1, 2) for step in steps]
        left, lead, spare = (torch.empty_like(candidates[0]) for _ in range(3))
        total = torch.zeros(width + 1, y.shape[2])
        for image in range(len(y)):
            compute(image)
            aten.threshold_backward.grad_input(dy[image], y[image], 0, grad_input=left)
            total.addmm_(steps[0][image], left)
            for j in range(1, k):  # `left` keeps the gradients whose winner is candidate j or a later one
                torch.sub(maximum(candidates[j:], lead), maximum(candidates[:j], spare), out=lead)
                aten.threshold_backward.grad_input(left, lead, 0, grad_input=left)
                total.addmm_(steps[j][image], left)
        self.add(total[:-1].T.reshape(self.convolution.blobs[0].shape), total[-1])
