"""Layer types that normalise: by mean and variance, by the neighbourhood (docs/engine.md sections 2.2 and 2.3)."""

from __future__ import annotations

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2
from caffe_proto.windows import MOST


@register
class MVN(Layer):
    """Subtracts the mean and, if normalize_variance, divides by (standard deviation + eps).

    Statistics are per item and channel, or per item if across_channels. The top has four axes.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        b = bottom[0]
        top[0].reshape(b.num, b.channels, b.height, b.width)

    def groups(self, blob: Blob, tensor: torch.Tensor) -> torch.Tensor:
        """View (groups, elements) of a tensor of this blob."""
        across = self.layer_param.mvn_param.across_channels
        return tensor.reshape(blob.num if across else blob.num * blob.channels, -1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, x = self.layer_param.mvn_param, self.groups(bottom[0], bottom[0].value)
        centred = x - x.mean(1, keepdim=True)
        if param.normalize_variance:
            self.deviation = (centred * centred).mean(1, keepdim=True).sqrt() + param.eps
            centred /= self.deviation
        top[0].value = centred.reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            dy, y = self.groups(top[0], top[0].grad), self.groups(top[0], top[0].value)
            grad = dy - dy.mean(1, keepdim=True)
            if self.layer_param.mvn_param.normalize_variance:
                grad = (grad - y * (dy * y).mean(1, keepdim=True)) / self.deviation
            bottom[0].grad = grad.reshape(bottom[0].shape)


@register
class BatchNorm(Layer):
    """Normalises each channel (axis 1) with statistics of the batch, or with stored ones (use_global_stats).

    blobs: sum of means (C), sum of variances (C), and the factor (1) that both are to be divided by. They are updated
    by every forward pass that uses batch statistics, never by the solver.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.batch_norm_param
        self.eps, self.fraction = param.eps, param.moving_average_fraction
        self.stored = param.use_global_stats if param.HasField("use_global_stats") else not self.training
        self.channels = bottom[0].shape[bottom[0].axis(1)]
        for size in (self.channels, self.channels, 1):
            self.add_param((size,), caffe_pb2.FillerParameter(type="constant"))
        specs = self.layer_param.param
        self.check(
            len(specs) <= 3 and all(spec.lr_mult == 0 for spec in specs),
            "Cannot configure batch normalization statistics as layer parameters.",
        )
        while len(specs) < 3:
            specs.add(lr_mult=0)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        found = bottom[0].shape[bottom[0].axis(1)]
        self.check(found == self.channels, f"{self.channels} channels", found)
        super().reshape(bottom, top)

    def channel_mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean of each channel, shaped to be broadcast."""
        return tensor.mean(self.others, keepdim=True)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        self.others = [d for d in range(x.dim()) if d != 1]
        mean_sum, variance_sum, factor = self.blobs
        if self.stored:
            scale = torch.where(factor.value == 0, 0, 1 / factor.value)
            shape = (1, -1) + (1,) * (x.dim() - 2)
            mean, variance = ((blob.value * scale).reshape(shape) for blob in (mean_sum, variance_sum))
        else:
            mean = self.channel_mean(x)
            variance = self.channel_mean((x - mean).square())
            count = x.numel() // self.channels
            factor.value.mul_(self.fraction).add_(1)
            mean_sum.value.mul_(self.fraction).add_(mean.flatten())
            unbiased = count / (count - 1) if count > 1 else 1
            variance_sum.value.mul_(self.fraction).add_(variance.flatten(), alpha=unbiased)
        self.mean, self.deviation = mean, (variance + self.eps).sqrt()
        y = (x - mean) / self.deviation
        # In place a later layer may overwrite y as well; otherwise y can be computed again from the bottom.
        self.normalised = y.clone() if bottom[0] is top[0] and not self.stored else None
        top[0].value = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy = top[0].grad
        if self.stored:
            bottom[0].grad = dy / self.deviation
            return
        y = self.normalised
        if y is None:
            y = (bottom[0].value - self.mean) / self.deviation
        bottom[0].grad = (dy - self.channel_mean(dy) - y * self.channel_mean(dy * y)) / self.deviation


@register
class LRN(Layer):
    """x * s^-beta with s = k + alpha/n * (sum of squares over n channels), or WITHIN_CHANNEL over n x n positions.

    WITHIN_CHANNEL divides the sum by n^2 and always has k = 1. What lies beyond the border counts as zero.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.lrn_param
        self.size, self.alpha, self.beta = param.local_size, param.alpha, param.beta
        self.check(self.size % 2 == 1, "LRN only supports odd values for local_size", "an odd number", self.size)
        self.check(self.size <= MOST, f"a local_size of at most {MOST}", self.size)
        self.within = param.norm_region == param.WITHIN_CHANNEL
        self.k = 1.0 if self.within else param.k

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(bottom[0].num_axes == 4, "Input must have 4 axes, corresponding to (num, channels, height, width)")
        super().reshape(bottom, top)

    def window_mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean over the window around each element, zeros beyond the border."""
        reach = max(tensor.shape[2:]) if self.within else tensor.shape[1]
        radius = min(self.size // 2, reach - 1)  # beyond there are zeros alone, however many the file asks for
        if self.within:
            return functional.avg_pool2d(tensor, 2 * radius + 1, 1, radius, divisor_override=self.size**2)
        padded = functional.pad(tensor, (0, 0, 0, 0, radius, radius))
        total = padded.narrow(1, 0, tensor.shape[1]).clone()
        for i in range(1, 2 * radius + 1):
            total += padded.narrow(1, i, tensor.shape[1])
        return total / self.size

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        self.sum = self.window_mean(x * x) * self.alpha + self.k
        top[0].value = x * self.sum.pow(-self.beta)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x, dy = bottom[0].value, top[0].grad
            factor = self.sum.pow(-self.beta)
            spread = self.window_mean(dy * x * factor / self.sum)
            bottom[0].grad = dy * factor - x * spread * (2 * self.alpha * self.beta)
