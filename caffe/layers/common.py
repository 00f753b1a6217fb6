"""Layer types that rearrange, combine or normalise blobs (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2


@register
class Softmax(Layer):
    """Softmax along `axis`."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = bottom[0].axis(self.layer_param.softmax_param.axis)
        super().reshape(bottom, top)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = bottom[0].value.softmax(self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            y, dy = top[0].value, top[0].grad
            bottom[0].grad = torch.ops.aten._softmax_backward_data(dy, y, self.axis, y.dtype)


def alias(top: Blob, bottom: Blob) -> None:
    """Make `top` (shaped already) the same memory as `bottom`, value and gradient."""
    top.share_data(bottom)
    top.share_diff(bottom)


@register
class Split(Layer):
    """Every top is the bottom, with a gradient of its own; the bottom's gradient is their sum."""

    passes_values = True
    tops = (1, None)
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the tops share the bottom's memory."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            total = top[0].grad.clone() if len(top) == 1 else top[0].grad + top[1].grad
            for blob in top[2:]:
                total += blob.grad
            bottom[0].grad = total


@register
class Silence(Layer):
    """Takes blobs that nobody needs; their gradient is zero."""

    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """No tops."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing to compute."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.grad = torch.zeros_like(blob.value)


@register
class Slice(Layer):
    """Cuts the bottom along `axis`: at the slice_points, or into equal pieces. A single top is the bottom itself."""

    passes_values = True
    tops = (1, None)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.slice_param
        self.check(
            not (param.HasField("axis") and param.HasField("slice_dim")),
            "Either axis or slice_dim should be specified; not both.",
        )
        self.points = list(param.slice_point)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.slice_param
        self.axis = bottom[0].axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
        size = bottom[0].shape[self.axis]
        if self.points:
            self.check(
                len(self.points) == len(top) - 1,
                f"found {len(self.points)} slice points for {len(top)} tops; wanted {len(top) - 1}",
            )
            edges = [0, *self.points, size]
            self.check(
                all(a < b for a, b in zip(edges, edges[1:], strict=False)),
                f"found slice points {self.points} in an axis of {size}; wanted increasing ones inside it",
            )
        else:
            self.check(
                size % len(top) == 0, f"Number of top blobs ({len(top)}) should evenly divide input slice axis ({size})"
            )
            edges = [size // len(top) * i for i in range(len(top) + 1)]
        self.sizes = [b - a for a, b in zip(edges, edges[1:], strict=False)]
        for blob, length in zip(top, self.sizes, strict=True):
            shape = list(bottom[0].shape)
            shape[self.axis] = length
            blob.reshape(*shape)
        if len(top) == 1:
            alias(top[0], bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) > 1:
            for blob, piece in zip(top, bottom[0].value.split(self.sizes, self.axis), strict=True):
                blob.value = piece.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and len(top) > 1:
            bottom[0].grad = torch.cat([blob.grad for blob in top], self.axis)


@register
class Concat(Layer):
    """Joins the bottoms along `axis`. A single bottom is the top itself."""

    passes_values = True
    bottoms = (1, None)
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.concat_param
        self.check(
            not (param.HasField("axis") and param.HasField("concat_dim")),
            "Either axis or concat_dim should be specified; not both.",
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.concat_param
        self.axis = bottom[0].axis(param.concat_dim if param.HasField("concat_dim") else param.axis)
        shape = list(bottom[0].shape)
        self.sizes = []
        for blob in bottom:
            self.check(blob.num_axes == len(shape), "All inputs must have the same #axes.")
            self.sizes.append(blob.shape[self.axis])
            shape[self.axis] = self.sizes[-1]
            self.check(
                list(blob.shape) == shape,
                "All inputs must have the same shape, except at concat_axis. "
                f"Found {bottom[0].shape_string} and {blob.shape_string}",
            )
        shape[self.axis] = sum(self.sizes)
        top[0].reshape(*shape)
        if len(bottom) == 1:
            alias(top[0], bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) > 1:
            top[0].value = torch.cat([blob.value for blob in bottom], self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(bottom) > 1:
            pieces = top[0].grad.split(self.sizes, self.axis)
            for blob, piece, wanted in zip(bottom, pieces, propagate_down, strict=True):
                if wanted:
                    blob.grad = piece.clone()


@register
class Flatten(Layer):
    """Merges the axes `axis` to `end_axis` (inclusive) into one; the memory is shared with the bottom."""

    passes_values = True
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.flatten_param
        start, end = bottom[0].axis(param.axis), bottom[0].axis(param.end_axis)
        self.check(start <= end, f"found axis {start} behind end_axis {end}")
        shape = bottom[0].shape
        top[0].reshape(*shape[:start], bottom[0].count_from(start, end + 1), *shape[end + 1 :])
        alias(top[0], bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the memory is shared."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the memory is shared."""


@register
class Reshape(Flatten):
    """Replaces the axes axis..axis+num_axes by `shape` (0: keep that dimension, -1: infer it); the memory is shared."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(
            list(self.layer_param.reshape_param.shape.dim).count(-1) <= 1,
            "new shape contains multiple -1 dims; at most a single (1) value of -1 may be specified",
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.reshape_param
        shape = list(bottom[0].shape)
        start = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        self.check(0 <= start <= len(shape), f"axis {param.axis} out of range for {len(shape)}-D bottom blob")
        self.check(param.num_axes >= -1, "num_axes must be >= 0, or -1 for all")
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        self.check(end <= len(shape), "end_axis = axis + num_axes is out of range")
        dims = list(param.shape.dim)
        for i, dim in enumerate(dims):
            if dim == 0:
                self.check(
                    start + i < len(shape), "new shape contains a 0, but there was no corresponding bottom axis to copy"
                )
                dims[i] = shape[start + i]
        dims = shape[:start] + dims + shape[end:]
        known = 1
        for dim in dims:
            known *= dim if dim != -1 else 1
        if -1 in dims:
            self.check(
                known and bottom[0].count % known == 0,
                f"bottom count ({bottom[0].count}) must be divisible by the product of the specified dimensions "
                f"({known})",
            )
            dims[dims.index(-1)] = bottom[0].count // known
        else:
            self.check(
                known == bottom[0].count,
                f"output count must match input count: found shape {dims} for {bottom[0].count} elements",
            )
        top[0].reshape(*dims)
        alias(top[0], bottom[0])


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
                f"bottom[0]: {bottom[0].shape_string}, bottom[{i}]: {blob.shape_string}; wanted equal shapes",
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


@register
class Tile(Layer):
    """The bottom `tiles` times behind each other along `axis`."""

    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.tile_param
        self.axis, self.tiles = bottom[0].axis(param.axis), param.tiles
        self.check(
            param.HasField("tiles") and self.tiles > 0, f"Number of tiles must be positive. Found tiles {self.tiles}"
        )
        shape = list(bottom[0].shape)
        shape[self.axis] *= self.tiles
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = torch.cat([bottom[0].value] * self.tiles, self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].grad = top[0].grad.unflatten(self.axis, (self.tiles, -1)).sum(self.axis)


@register
class Reduction(Layer):
    """Sum, sum of absolute values, sum of squares or mean over all axes from `axis` on, times `coeff`."""

    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.reduction_param
        axis = bottom[0].axis(param.axis)
        self.operation = param.operation
        self.size = bottom[0].count_from(axis)
        self.coefficient = param.coeff / self.size if self.operation == param.MEAN else param.coeff
        top[0].reshape(*bottom[0].shape[:axis])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, x = self.layer_param.reduction_param, bottom[0].value.reshape(-1, self.size)
        if self.operation == param.ASUM:
            x = x.abs()
        elif self.operation == param.SUMSQ:
            x = x * x
        top[0].value = (x.sum(1) * self.coefficient).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            param, x = self.layer_param.reduction_param, bottom[0].value.reshape(-1, self.size)
            dy = top[0].grad.reshape(-1, 1) * self.coefficient
            if self.operation == param.ASUM:
                grad = dy * x.sign()
            elif self.operation == param.SUMSQ:
                grad = dy * 2 * x
            else:
                grad = dy.repeat(1, self.size)
            bottom[0].grad = grad.reshape(bottom[0].shape)


@register
class ArgMax(Layer):
    """The top_k indices by descending value, along `axis` or over all axes behind the first; has no gradient.

    Among equal values the larger index comes first. With out_max_val the values are given: instead of the indices
    along an axis, behind them (axis 1 of the top) otherwise.
    """

    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.argmax_param
        self.top_k, self.values = param.top_k, param.out_max_val
        self.axis = bottom[0].axis(param.axis) if param.HasField("axis") else None
        classes = bottom[0].count_from(1) if self.axis is None else bottom[0].shape[self.axis]
        self.check(
            1 <= self.top_k <= classes,
            "top_k must be at least 1 and less than or equal to the number of "
            f"classes. Found top_k {self.top_k} of {classes}",
        )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.axis is None:
            shape = [1] * max(bottom[0].num_axes, 3)
            shape[0], shape[1], shape[2] = bottom[0].shape[0], 2 if self.values else 1, self.top_k
        else:
            shape = list(bottom[0].shape)
            shape[self.axis] = self.top_k
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        x, axis = (x.reshape(x.shape[0], -1), 1) if self.axis is None else (x, self.axis)
        values, order = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, self.top_k)
        indices = (x.shape[axis] - 1 - order.narrow(axis, 0, self.top_k)).to(x.dtype)
        if self.axis is None:
            result = torch.stack((indices, values), 1) if self.values else indices
        else:
            result = values if self.values else indices
        top[0].value = result.reshape(top[0].shape).clone()


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
        self.check(found == self.channels, f"found {found} channels; wanted {self.channels}")
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


@register
class Embed(Layer):
    """Row int(x) of the weights (input_dim, num_output) for every element x of the bottom, plus the bias."""

    in_place = False
    needs_host = "checks its indices"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.embed_param
        self.check(param.num_output > 0, "EmbedLayer num_output must be positive.")
        self.check(param.input_dim > 0, "EmbedLayer input_dim must be positive.")
        self.add_param((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_param((param.num_output,), param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.layer_param.embed_param.num_output)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.rows = read_indices(self, bottom[0], self.layer_param.embed_param.input_dim)
        y = self.blobs[0].value[self.rows]
        if len(self.blobs) > 1:
            y += self.blobs[1].value
        top[0].value = y.reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[0], "Can't backpropagate to EmbedLayer input.")
        dy = top[0].grad.reshape(self.rows.numel(), -1)
        if self.param_propagate_down[0]:
            self.blobs[0].add_grad(torch.zeros_like(self.blobs[0].value).index_add_(0, self.rows, dy))
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(dy.sum(0))


def read_indices(layer: Layer, blob: Blob, rows: int) -> torch.Tensor:
    """The elements of `blob` as int64 (count,), truncated towards 0; raises CaffeError outside 0..rows-1."""
    indices = blob.value.flatten().long()
    wrong = ((indices < 0) | (indices >= rows)).nonzero()
    if len(wrong):
        place = wrong[0].item()
        raise CaffeError(f"{layer.where}: found index {indices[place].item()} at element {place}; wanted 0..{rows - 1}")
    return indices


@register
class BatchReindex(Layer):
    """Items of bottom 0 in the order that bottom 1 (one axis) names; items may repeat or be left out."""

    bottoms = (2, 2)
    in_place = False
    no_gradient_to = (1,)
    needs_host = "checks its indices"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(bottom[1].num_axes == 1, f"found indices of shape {bottom[1].shape_string}; wanted one axis")
        top[0].reshape(bottom[1].shape[0], *bottom[0].shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.rows = read_indices(self, bottom[1], bottom[0].shape[0])
        top[0].value = bottom[0].value[self.rows]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[1], "Cannot backprop to index.")
        if propagate_down[0]:
            bottom[0].grad = torch.zeros_like(bottom[0].value).index_add_(0, self.rows, top[0].grad)


@register
class Filter(Layer):
    """Every top is the items of its bottom whose selector (the last bottom) is not zero."""

    bottoms = (2, None)
    tops = (1, None)
    in_place = False
    needs_host = "has tops whose shapes depend on the data"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(len(top) == len(bottom) - 1, f"found {len(top)} tops for {len(bottom)} bottoms; wanted one less")
        self.rows = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        *inputs, selector = bottom
        self.check(
            selector.count == selector.shape[0],
            f"Selector blob must have all axes but the first of size 1; found {selector.shape_string}",
        )
        for i, blob in enumerate(inputs):
            self.check(
                blob.shape[0] == selector.shape[0],
                f"Each bottom should have the same 0th dimension as the selector blob; found {blob.shape[0]} "
                f"and {selector.shape[0]} for bottom[{i}]",
            )
        # At construction the selector is not computed yet, and the tops show how large they may become.
        first, self.rows = self.rows is None, selector.value.flatten().nonzero().flatten()
        for blob, result in zip(inputs, top, strict=True):
            result.reshape(blob.shape[0] if first else len(self.rows), *blob.shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, result in zip(bottom[:-1], top, strict=True):
            result.reshape(len(self.rows), *blob.shape[1:])
            result.value = blob.value[self.rows]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[-1], "FilterLayer cannot backpropagate to filter index inputs")
        for blob, result, wanted in zip(bottom[:-1], top, propagate_down[:-1], strict=True):
            if wanted:
                blob.grad = torch.zeros_like(blob.value).index_copy_(0, self.rows, result.grad)


@register
class Parameter(Layer):
    """A learned blob, zero at first, as a top: value and gradient are the parameter's own memory."""

    bottoms = (0, 0)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = self.layer_param.parameter_param.shape.dim
        self.add_param(tuple(shape), caffe_pb2.FillerParameter(type="constant"))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*self.blobs[0].shape)
        alias(top[0], self.blobs[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the memory is shared."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the consumer has written the gradient."""
