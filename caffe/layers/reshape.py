"""Layer types that give a blob another shape over the same memory (docs/engine.md section 2.3)."""

from __future__ import annotations

from caffe.blob import Blob
from caffe.layer import Layer, register


class SharedMemory(Layer):
    """Base: a layer whose top is the bottom's memory in another shape, which `reshape` gives it."""

    passes_values = True
    in_place = False

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the memory is shared."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the memory is shared."""


@register
class Flatten(SharedMemory):
    """Merges the axes `axis` to `end_axis` (inclusive) into one."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.flatten_param
        start, end = bottom[0].axis(param.axis), bottom[0].axis(param.end_axis)
        self.check(start <= end, "axis before or at end_axis", f"axis {start} behind end_axis {end}")
        shape = bottom[0].shape
        top[0].reshape(*shape[:start], bottom[0].count_from(start, end + 1), *shape[end + 1 :])
        top[0].alias(bottom[0])


@register
class Reshape(SharedMemory):
    """Replaces the axes axis..axis+num_axes by `shape` (0: keep that dimension, -1: infer it)."""

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
                "output count must match input count",
                f"{bottom[0].count} elements",
                f"shape {dims}",
            )
        top[0].reshape(*dims)
        top[0].alias(bottom[0])
