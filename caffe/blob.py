"""Blobs: N-d float32 arrays with a gradient.

Layers read and write torch tensors (`value`, `grad`), on the device that plans move them to before a layer runs;
pycaffe users see live numpy views (`data`, `diff`), which are on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from caffe.context import CPU
from caffe.errors import CaffeError, check
from caffe_proto.files import MAX_AXES

MAX_COUNT = 2**31 - 1


class Storage:
    """Memory of one data or diff array, shareable between blobs.

    `tensor` is None (all zeros, not allocated yet), or where it was written or moved to. `device` is where it is
    allocated. `host` is set once a numpy view was handed out: from then on new values are copied into that memory, so
    that the view stays live.
    """

    __slots__ = ("tensor", "host", "device")

    def __init__(self, device: torch.device):
        self.tensor = None
        self.host = None
        self.device = device

    def to(self, device: torch.device) -> None:
        """Move the content to torch.device `device`, where it is not there already."""
        self.device = device
        if self.tensor is not None and self.tensor.device != device:
            self.tensor, self.host = self.tensor.to(device), None

    def get(self, shape: torch.Size) -> torch.Tensor:
        """The tensor in `shape`, wherever it is; allocated where nothing was written yet."""
        tensor = self.tensor
        if tensor is None:
            tensor = self.tensor = torch.zeros(shape, device=self.device)
        if tensor.shape != shape:
            if not tensor.is_contiguous():  # what is changed through the view must reach the stored tensor
                tensor = self.tensor = tensor.contiguous()
            tensor = tensor.view(shape)
        return tensor

    def set(self, tensor: torch.Tensor) -> None:
        """Take `tensor` as the new content (by reference, unless a numpy view must be kept alive)."""
        host = self.host
        if host is not None and tensor.device.type == "cpu" and host.numel() == tensor.numel():
            if host.data_ptr() != tensor.data_ptr() or host.stride() != tensor.stride():
                host.copy_(tensor.reshape(host.shape))
            self.tensor = host
        else:
            self.tensor, self.host = tensor, None

    def array(self, shape: torch.Size) -> np.ndarray:
        """A live C-contiguous numpy view; the content moves to the CPU."""
        tensor = self.tensor
        if tensor is None:
            tensor = torch.zeros(shape)
        self.tensor = self.host = tensor.cpu().contiguous().view(shape)
        return self.host.numpy()

    def resize(self, shape: torch.Size, count: int) -> None:
        """Reinterpret the content in a new shape; what no longer fits is dropped, growth starts from zeros."""
        if self.tensor is None:
            return
        if self.tensor.numel() == count:
            contiguous = self.tensor.contiguous()
            self.host = None if self.host is None else contiguous.view(shape)
            self.tensor = contiguous.view(shape)
        elif self.tensor.numel() > count:
            self.tensor, self.host = self.tensor.contiguous().view(-1)[:count].view(shape), None
        else:
            self.tensor, self.host = None, None


class Blob:
    """An N-d float32 array and its gradient (docs/engine.md section 0).

    value, grad: torch tensors, for layers. Assigning replaces the content; shapes must agree. They are where they were
    written last, until to(device) moves them; a new blob is on `device`.
    data, diff: live, writable numpy views (float32, C order) for users; in GPU mode each access copies to the host.
    """

    __slots__ = ("_shape", "_count", "_data", "_diff", "__weakref__")

    def __init__(self, shape: Sequence[int] = (), device: torch.device = CPU):
        self._shape = torch.Size(())
        self._count = 1
        self._data, self._diff = Storage(device), Storage(device)
        self.reshape(*shape)

    # -- shape ---------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> torch.Size:
        """Shape as a torch.Size (a tuple of ints)."""
        return self._shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return self._count

    @property
    def num_axes(self) -> int:
        """Number of axes; 0 for a scalar."""
        return len(self._shape)

    def reshape(self, *shape: int) -> None:
        """Change the shape; `reshape()` makes a scalar. Content follows Caffe's rule (see Storage.resize)."""
        if tuple(shape) == self._shape:
            return
        check(len(shape) <= MAX_AXES, "Blob", f"at most {MAX_AXES} axes", len(shape))
        check(all(int(n) >= 0 for n in shape), "Blob", "dimensions >= 0", f"shape {tuple(shape)}")
        shape = torch.Size(int(n) for n in shape)
        count = math.prod(shape)
        check(count <= MAX_COUNT, "blob size exceeds INT_MAX", f"at most {MAX_COUNT} elements", f"shape {tuple(shape)}")
        self._data.resize(shape, count)
        self._diff.resize(shape, count)
        self._shape, self._count = shape, count

    def axis(self, index: int) -> int:
        """Canonical axis of `index` in [-num_axes, num_axes); raises CaffeError outside."""
        if not -len(self._shape) <= index < len(self._shape):
            raise CaffeError(f"axis {index} out of range for {len(self._shape)}-D Blob with shape {self.shape_string}")
        return index % len(self._shape)

    def count_from(self, start: int, end: int | None = None) -> int:
        """Product of the dimensions start..end-1 (end: the last)."""
        return math.prod(self._shape[start:end])

    @property
    def shape_string(self) -> str:
        """The shape as Caffe prints it: `64 1 28 28 (50176)`."""
        return "".join(f"{n} " for n in self._shape) + f"({self._count})"

    def _legacy(self, index):
        check(len(self._shape) <= 4, "Cannot use legacy accessors on Blobs with > 4 axes.")
        return self._shape[index] if index < len(self._shape) else 1

    num = property(lambda self: self._legacy(0))
    channels = property(lambda self: self._legacy(1))
    height = property(lambda self: self._legacy(2))
    width = property(lambda self: self._legacy(3))

    # -- torch side ----------------------------------------------------------------------------------------------
    def to(self, device: torch.device) -> None:
        """Move value and gradient to torch.device `device`: what is there already stays as it is."""
        self._data.to(device)
        self._diff.to(device)

    @property
    def value(self) -> torch.Tensor:
        """The content as a float32 tensor in `shape`; assigning replaces it."""
        return self._data.get(self._shape)

    @value.setter
    def value(self, tensor: torch.Tensor) -> None:
        self._data.set(tensor)

    @property
    def grad(self) -> torch.Tensor:
        """The gradient as a float32 tensor in `shape`; assigning replaces it."""
        return self._diff.get(self._shape)

    @grad.setter
    def grad(self, tensor: torch.Tensor) -> None:
        self._diff.set(tensor)

    @property
    def has_grad(self) -> bool:
        """False while the gradient was never written (it then reads as zeros)."""
        return self._diff.tensor is not None

    def add_grad(self, tensor: torch.Tensor) -> None:
        """Accumulate into the gradient, as layers do for their parameters."""
        if self._diff.tensor is None:
            self._diff.set(tensor.reshape(self._shape))
        else:
            self.grad.add_(tensor.reshape(self._shape))

    def clear_grad(self) -> None:
        """Set the gradient to zero (the memory is given back unless a numpy view is alive)."""
        if self._diff.host is not None:
            self._diff.host.zero_()
            self._diff.tensor = self._diff.host
        else:
            self._diff.tensor = None

    def release_value(self) -> None:
        """Give the data's memory back; it reads as zeros until written (kept if a numpy view is alive)."""
        if self._data.host is None:
            self._data.tensor = None

    def share_data(self, other: Blob) -> None:
        """Alias the data of `other` (equal counts, any shape)."""
        check(self._count == other.count, "share_data", f"{self._count} elements", f"shape {other.shape_string}")
        self._data = other._data

    def share_diff(self, other: Blob) -> None:
        """Alias the gradient of `other` (equal counts, any shape)."""
        check(self._count == other.count, "share_diff", f"{self._count} elements", f"shape {other.shape_string}")
        self._diff = other._diff

    def alias(self, other: Blob) -> None:
        """Be the same memory as `other` (equal counts, any shape), data and gradient."""
        self.share_data(other)
        self.share_diff(other)

    # -- numpy side ----------------------------------------------------------------------------------------------
    @property
    def data(self) -> np.ndarray:
        """The content as a live, writable float32 array in `shape` (C order); it moves to the CPU."""
        return self._data.array(self._shape)

    @property
    def diff(self) -> np.ndarray:
        """The gradient as a live, writable float32 array in `shape` (C order); it moves to the CPU."""
        return self._diff.array(self._shape)


class BlobVec(list):
    """A list of blobs, as pycaffe shows parameters; `add_blob` lets Python layers make parameters."""

    def add_blob(self, *shape: int) -> None:
        """Append a new zero blob of this shape."""
        self.append(Blob(shape))
