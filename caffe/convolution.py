"""Convolutions over two axes on the CPU as matrix products, for the cases in which torch's own kernels are slow.

Images are (N, channels, height, width) tensors, in torch's channels_last memory format where speed matters; a matrix of
windows has one row per output position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

SINGLE_CHANNEL_KERNEL = 16  # most weights per output for the matrix form of a one-channel convolution
CHUNK_BYTES = 8 * 2**20  # of intermediate results at a time
LONG_ROW = 64  # fewest positions in a row of an image for products row by row


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` (four axes) in torch's channels_last memory format, with strides that say so.

    With one channel both formats have the same bytes, and torch takes such a tensor for a plain one: what comes out of
    it would be plain as well, and slow to pool.
    """
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = tensor.shape
    return tensor.as_strided(tensor.shape, (height * width * channels, 1, width * channels, channels))


def is_single_channel(channels: int, kernel: Sequence[int], dilation: Sequence[int]) -> bool:
    """True for one input channel and few weights per output.

    Convolution kernels waste their width there: the matrix of windows times the weights is twice as quick, image by
    image so that it stays in cache.
    """
    return channels == 1 and math.prod(kernel) <= SINGLE_CHANNEL_KERNEL and list(dilation) == [1, 1]


def chunks(images: int, image_bytes: int) -> list[slice]:
    """Slices of a batch of `images` images, of which each needs `image_bytes` of intermediate results."""
    step = max(1, CHUNK_BYTES // image_bytes)
    return [slice(start, min(start + step, images)) for start in range(0, images, step)]


def unfold(
    x: torch.Tensor,
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
) -> torch.Tensor:
    """The windows of padded images `x` as a view (N, out_h, out_w, kernel_h, kernel_w, channels)."""
    image = functional.pad(x.permute(0, 2, 3, 1), (0, 0, pad[1], pad[1], pad[0], pad[0]))
    n, h, w, c = image.stride()
    steps = (n, stride[0] * h, stride[1] * w, dilation[0] * h, dilation[1] * w, c)
    return image.as_strided((len(image), *out, *kernel, image.shape[3]), steps)


def single_channel_unfold(
    x: torch.Tensor, out: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> torch.Tensor:
    """(N, out_h * out_w, kernel elements) windows of one-channel images (N, 1, H, W)."""
    return unfold(x, out, kernel, stride, pad, (1, 1)).reshape(len(x), -1, math.prod(kernel))


def single_channel_result(
    x: torch.Tensor,
    out: Sequence[int],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    relu: bool,
) -> torch.Tensor:
    """The convolution of one-channel images `x` with `weight` (outputs, 1, kh, kw); `relu`: with a ReLU.

    `out` are the sizes (out_h, out_w) of the result.
    """
    y = torch.empty((len(x), weight.shape[0], *out), memory_format=torch.channels_last)
    rows = y.permute(0, 2, 3, 1).view(len(x), -1, weight.shape[0])
    matrix = weight.reshape(weight.shape[0], -1).T
    zero = torch.zeros(weight.shape[0]) if bias is None else bias
    for seen, positions in zip(single_channel_unfold(x, out, weight.shape[2:], stride, pad), rows, strict=True):
        torch.addmm(zero, seen, matrix, out=positions)
        if relu:
            positions.relu_()
    return y


def single_channel_gradients(
    x: torch.Tensor, dy: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of weights (outputs, kernel elements) and bias (outputs,) for `dy`, that of single_channel_result."""
    seen = single_channel_unfold(x, dy.shape[2:], kernel, stride, pad)
    seen = functional.pad(seen, (0, 1), value=1.0)  # the last column is the bias
    total = torch.bmm(seen.transpose(1, 2), dy.permute(0, 2, 3, 1).flatten(1, 2)).sum(0)
    return total[:-1].T, total[-1]


def products_pay() -> bool:
    """True where matrix products beat oneDNN's gradients of weights: on CPUs without AVX-512.

    With AVX2 the kernel for channels_last runs at a fifth to two thirds of a matrix product's rate.
    """
    return torch.backends.cpu.get_cpu_capability() != "AVX512"


def weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int,
) -> torch.Tensor:
    """The gradient (outputs, channels / group, kh, kw) of a convolution's weights for images `x` and gradient `dy`."""
    if kernel[0] == 1 and pad[0] == 0 and list(stride) == [1, 1] and dy.shape[3] >= LONG_ROW:
        return _by_shifts(x, dy, kernel[1], pad[1], dilation[1], group)
    return _by_unfold(x, dy, kernel, stride, pad, dilation, group)


def _columns(count, group):
    """Slices of `count` channels, one per group."""
    return [slice(q * count // group, (q + 1) * count // group) for q in range(group)]


def _by_shifts(x, dy, width, pad, dilation, group):
    """weight_gradient along rows: one product per weight, of the gradient and the shifted image; nothing is copied."""
    x, dy = (t.permute(0, 2, 3, 1).flatten(0, 1) for t in (x, dy))  # (rows, positions, channels)
    outputs, channels = dy.shape[2], x.shape[2]
    weight = x.new_zeros(outputs, channels // group, 1, width)
    for k in range(width):
        shift = k * dilation - pad
        first, last = max(0, -shift), min(dy.shape[1], x.shape[1] - shift)
        if first >= last:
            continue
        for to, of in zip(_columns(outputs, group), _columns(channels, group), strict=True):
            for chunk in chunks(len(x), 4 * outputs * channels // group**2):
                left, right = dy[chunk, first:last, to], x[chunk, first + shift : last + shift, of]
                weight[to, :, 0, k] += torch.bmm(left.transpose(1, 2), right).sum(0)
    return weight


def _by_unfold(x, dy, kernel, stride, pad, dilation, group):
    """weight_gradient as products of the matrix of windows and the gradient, some images at a time."""
    channels, outputs, out = x.shape[1], dy.shape[1], dy.shape[2:]
    rows = math.prod(kernel) * channels // group
    total = x.new_zeros(group, rows, outputs // group)
    for chunk in chunks(len(x), 4 * math.prod(out) * rows):
        seen = unfold(x[chunk], out, kernel, stride, pad, dilation)
        gradient = dy[chunk].permute(0, 2, 3, 1).reshape(-1, outputs)
        for q, (to, of) in enumerate(zip(_columns(outputs, group), _columns(channels, group), strict=True)):
            total[q].addmm_(seen[..., of].reshape(-1, rows).T, gradient[:, to])
    weight = total.view(group, *kernel, channels // group, outputs // group).permute(0, 4, 3, 1, 2)
    return weight.reshape(outputs, channels // group, *kernel)
