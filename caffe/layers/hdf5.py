"""Layer types that read and write HDF5 files (docs/engine.md section 2.1)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from caffe import glog
from caffe.blob import Blob
from caffe.context import Settings
from caffe.errors import CaffeError, check
from caffe.layer import Layer, register
from caffe.prefetch import Ahead
from caffe_proto import CaffeFileError, atomic_hdf5, caffe_pb2
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_text

# Whole data sets are kept in memory up to this share of the machine's memory (per data layer), unless
# the settings (caffe.context) give the budget.
CACHE_SHARE = 0.25
# Those that fit this share of the GPU's free memory are kept there, unless the settings give the budget; 0 keeps them
# on the host. On the CPU only where it is set, which is of use for tests alone. The training set comes first and is the
# largest: AudioMNIST's spectrograms are 3.7 GB, and a card of 12 GB is to hold them.
DEVICE_SHARE = {caffe_pb2.TRAIN: 0.6, caffe_pb2.TEST: 0.25}


def cache_budget(settings: Settings) -> int:
    """Bytes of HDF5 content that one data layer may keep in memory."""
    given = settings.hdf5_cache
    return int(CACHE_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if given is None else given


def device_budget(settings: Settings, device: torch.device, phase: int) -> int:
    """Bytes of HDF5 content that one data layer of `phase` may keep on torch.device `device`."""
    given = settings.hdf5_device
    if given is None:
        return int(DEVICE_SHARE[phase] * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
    return given


def read_hdf5(path: str, names: Sequence[str], where: str) -> list[np.ndarray]:
    """The datasets `names` of HDF5 file `path` as a list of float32 arrays with equal first dimension >= 1."""
    with CaffeError.of_files(where), open_hdf5(path, f"HDF5 data with {', '.join(names)}") as content:
        arrays = [content.floats(name) for name in names]
    rows = [a.shape[0] if a.ndim else 0 for a in arrays]
    if len(set(rows)) != 1 or rows[0] == 0:
        raise CaffeError(f"{where}: {path}", f"datasets {list(names)} with as many rows each", rows)
    for name, array in zip(names, arrays, strict=True):
        finite = np.isfinite(array).reshape(array.shape[0], -1).all(axis=1)
        if not finite.all():
            raise CaffeError(
                f"{where}: {path}",
                f"finite numbers in row {int(np.argmin(finite))} of dataset {name}",
                "NaN or infinite values",
            )
    return arrays


class RowOrder:
    """The order in which Caffe emits rows: file after file, wrapping around; both permuted if `shuffle`.

    File order is permuted at the start and at every wrap-around, rows within each file when it is entered; rows of
    different files never mix. All from one stream of `seed`, so the position can be stored and restored.
    """

    def __init__(self, files: int, shuffle: bool, seed: int):
        self.shuffle = shuffle
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.files = np.arange(files)
        if shuffle:
            self.random.shuffle(self.files)
        self.file = self.row = self.offset = 0
        self.rows = None
        self.checked = True  # False after restore(): the current file may have changed since

    def current(self, count_rows: Callable[[int], int]) -> tuple[int, int]:
        """(file index, row) now; count_rows(file index) tells how many rows a file has."""
        index = int(self.files[self.file])
        if self.rows is None:
            self.rows = np.arange(count_rows(index))
            if self.shuffle:
                self.random.shuffle(self.rows)
        elif not self.checked and len(self.rows) != count_rows(index):
            raise CaffeError(
                "",
                f"{len(self.rows)} rows in file {index} (counted from 0) of the list, as when the snapshot was written",
                count_rows(index),
            )
        self.checked = True
        return index, int(self.rows[self.row])

    def advance(self) -> None:
        """Go on to the next row."""
        self.offset += 1
        self.row += 1
        if self.row < len(self.rows):
            return
        self.row = 0
        if len(self.files) > 1:
            self.rows = None
            self.file += 1
            if self.file == len(self.files):
                self.file = 0
                if self.shuffle:
                    self.random.shuffle(self.files)
        elif self.shuffle:
            self.random.shuffle(self.rows)

    def state(self) -> dict[str, Any]:
        """The position and the random state, as arrays and numbers."""
        return {
            "files": self.files.copy(),
            "rows": None if self.rows is None else self.rows.copy(),
            "file": self.file,
            "row": self.row,
            "offset": self.offset,
            "random": self.random.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state() of before; current() raises CaffeError if its file has another number of rows now.

        Raises CaffeError for an order that is none.
        """
        files, rows = np.array(state["files"]), None if state["rows"] is None else np.array(state["rows"])
        for what, order, now in (("files", files, state["file"]), ("rows", rows, state["row"])):
            if order is not None:
                whole = order.ndim == 1 and np.array_equal(np.sort(order), np.arange(order.size))
                check(whole and type(now) is int and 0 <= now < order.size, "", f"an order of {what} and a place in it",
                      f"place {now!r}, and {order.size} numbers")  # fmt: skip
        check(len(files) == len(self.files), "", f"an order of {len(self.files)} files", len(files))
        check(type(state["offset"]) is int and state["offset"] >= 0, "", "an offset >= 0", repr(state["offset"]))
        self.files, self.rows = files, rows
        self.file, self.row, self.offset = state["file"], state["row"], state["offset"]
        self.random.bit_generator.state = state["random"]
        self.checked = False


@register
class HDF5Data(Layer):
    """Rows of HDF5 files named in a list file; every top reads the dataset of its name.

    Files are kept in memory after their first reading within cache_budget(); when the data set does not fit, a thread
    reads the next batch ahead. Once it is read, a set within device_budget() moves to the device, where batches are
    gathered by the rows' numbers (keep_on reads it at once). Order and position are the same in all three cases.

    As a Feed, for passes that are captured as a graph, it has `slots` (passes, batch) on the device for the row numbers
    of several batches; `slot` counts the passes while it is captured.
    """

    bottoms = (0, 0)
    tops = (1, None)
    passes_values = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.hdf5_data_param
        self.check(not self.layer_param.HasField("transform_param"), "HDF5Data does not transform data.")
        self.check(param.batch_size > 0, "a positive batch_size", "0")
        try:
            self.paths = read_text(param.source, "a list of HDF5 files").split()
        except CaffeFileError as error:
            place = f"{self.where}: Failed to open source file: {error.place}"
            raise CaffeError(place, error.expected, error.got) from None
        self.check(self.paths, f"Must have at least 1 HDF5 filename listed in {param.source}")
        missing = [p for p in self.paths if not os.path.exists(p)]
        self.check(
            not missing,
            "Failed opening HDF5 file",
            f"the {len(self.paths)} files listed in {param.source} (paths are relative to {os.getcwd()})",
            f"{len(missing)} that do not exist, the first {missing[:1]}",
        )
        self.names = list(self.layer_param.top)
        self.digest = hashlib.sha256("\n".join(self.paths).encode()).hexdigest()
        self.memory, self.budget, self.entered = {}, cache_budget(self.context.settings), None
        self.prefetch = None
        self.device_cache = self.slots = self.slot = None
        self.asked = None  # the device that the set was last tried to be kept on
        seed = self.context.random.draw_seed() if param.shuffle else 0
        self.order = RowOrder(len(self.paths), param.shuffle, seed)
        self.inner = None
        first = self.load(int(self.order.files[0]))
        self.inner = [a.shape[1:] for a in first]
        for t, inner in zip(top, self.inner, strict=True):
            t.reshape(param.batch_size, *inner)
        self.consumed = self.order.state()

    @property
    def needs_host(self) -> str | None:
        """What it needs the host for: its rows, until the set is on the device."""
        return "reads its rows on the host" if self.device_cache is None else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Shapes are fixed at setup."""

    def load(self, index: int) -> list[np.ndarray]:
        """The arrays of file `index`, from memory if they were read before."""
        if index in self.memory:
            return self.memory[index]
        if self.entered is not None and self.entered[0] == index:
            return self.entered[1]
        path = self.paths[index]
        arrays = read_hdf5(path, self.names, self.where)
        if self.inner is not None:
            for name, array, inner in zip(self.names, arrays, self.inner, strict=True):
                self.check(
                    array.shape[1:] == inner,
                    path,
                    f"shape {inner} in row 0 of dataset {name} as in the first file",
                    array.shape[1:],
                )
        size = sum(a.nbytes for a in arrays)
        if size <= self.budget:
            self.budget -= size
            self.memory[index] = arrays
        self.entered = (index, arrays)
        return arrays

    def count_rows(self, index: int) -> int:
        """The number of rows of file `index`."""
        return (
            self.load(index)[0].shape[0]
            if self.device_cache is None
            else int(self.first[index + 1] - self.first[index])
        )

    def rows(self, count: int, rank: int) -> Iterator[tuple[int, int]]:
        """Yield (file index, row) of the next batch of solver `rank` out of `count`, and go on behind it."""
        left = self.layer_param.hdf5_data_param.batch_size
        while left:
            place = self.order.current(self.count_rows)
            if not self.training or self.order.offset % count == rank:
                yield place
                left -= 1
            self.order.advance()

    def ranks(self) -> tuple[int, int]:
        """(number of solvers that train together, which of them this is)."""
        return self.context.solver_count, self.context.solver_rank

    def read_batch(self, count: int, rank: int) -> tuple[list[np.ndarray], dict[str, Any]]:
        """The next batch of solver `rank` out of `count`, one float32 array per top, and the position after it."""
        size = self.layer_param.hdf5_data_param.batch_size
        batch = [np.empty((size, *inner), np.float32) for inner in self.inner]
        for i, (index, row) in enumerate(self.rows(count, rank)):
            for out, array in zip(batch, self.load(index), strict=True):
                out[i] = array[row]
        return batch, self.order.state()

    # -- a set on the device -------------------------------------------------------------------------------------
    def keep_on(self, device: torch.device) -> bool:
        """Keep the whole set on torch.device `device` if budgets allow; True if it is there. Reads every file."""
        if self.device_cache is not None and self.device_cache[0].device != device:  # the mode has changed
            self.device_cache, self.consumed = None, self.order.state()
            self.budget = cache_budget(self.context.settings)
        if self.device_cache is None and self.asked != device:
            self.asked, budget = device, device_budget(self.context.settings, device, self.phase)
            if budget and self._read_all(budget):
                self._move_to(device)
        return self.device_cache is not None

    def _read_all(self, budget):
        """Read every file; True if all are in memory and within `budget` bytes together."""
        first = sum(a.nbytes for a in self.load(int(self.order.files[0])))
        if first * len(self.paths) > 2 * budget:  # do not read for minutes what will hardly fit
            return self._too_large(first * len(self.paths), budget)
        left = len(self.paths) - len(self.memory)
        if left > 1:
            glog.info(f"{self.where}: reading {left} files")
        total = 0
        for index in range(len(self.paths)):
            total += sum(a.nbytes for a in self.load(index))
            if total > budget or index not in self.memory:
                return self._too_large(total, budget)
        return True

    def _too_large(self, size, budget):
        memory = cache_budget(self.context.settings)
        glog.info(
            f"{self.where}: {size / 2**20:.0f} MB of data or more; {budget / 2**20:.0f} MB of the device and "
            f"{memory / 2**20:.0f} MB of memory may be used: every batch is brought to the device anew"
        )
        return False

    def _move_to(self, device):
        files = [self.memory[index] for index in range(len(self.paths))]
        self.first = np.concatenate(([0], np.cumsum([arrays[0].shape[0] for arrays in files])))
        self.device_cache = [torch.empty((int(self.first[-1]), *inner), device=device) for inner in self.inner]
        for start, arrays in zip(self.first, files, strict=False):
            for whole, array in zip(self.device_cache, arrays, strict=True):
                whole[start : start + len(array)] = torch.from_numpy(array).to(device)
        self.memory, self.entered = {}, None
        self.make_slots(1)
        size = sum(whole.nbytes for whole in self.device_cache)
        glog.info(f"{self.where}: {self.first[-1]} rows ({size / 2**20:.0f} MB) are kept on {device}")

    @property
    def as_feed(self) -> HDF5Data:
        """The layer itself (caffe.layer.Feed)."""
        return self

    @property
    def batch_size(self) -> int:
        """Rows in a batch."""
        return self.layer_param.hdf5_data_param.batch_size

    @property
    def total_rows(self) -> int:
        """Rows of the whole set, which is on the device."""
        return int(self.first[-1])

    def make_slots(self, passes: int) -> None:
        """Make room on the device for the row numbers of this many batches."""
        self.slots = torch.zeros((passes, self.batch_size), dtype=torch.int64, device=self.device_cache[0].device)

    def fill_slots(self, rows: torch.Tensor) -> None:
        """Copy int64 row numbers (passes, batch_size) to the slots; nothing waits for it."""
        self.slots.copy_(rows, non_blocking=True)

    @contextlib.contextmanager
    def from_slots(self) -> Iterator[None]:
        """Context in which the n-th forward pass takes the rows of slot n."""
        self.slot = 0
        try:
            yield
        finally:
            self.slot = None

    def next_rows(self) -> np.ndarray:
        """The row numbers (of the whole set, int64 array) of the next batch, and go on behind it."""
        return np.array([self.first[index] + row for index, row in self.rows(*self.ranks())], np.int64)

    def describe_row(self, number: int) -> str:
        """`<file>, row <r>` of a row number."""
        index = int(np.searchsorted(self.first, number, side="right")) - 1
        return f"{self.paths[index]}, row {number - self.first[index]}"

    def _gather(self, top):
        turn = 0
        if self.slot is None:
            self.slots[0].copy_(torch.from_numpy(self.next_rows()))
        else:
            turn, self.slot = self.slot, self.slot + 1
        for t, whole in zip(top, self.device_cache, strict=True):
            t.value = whole.index_select(0, self.slots[turn])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        read = self.device_cache is not None or len(self.memory) == len(self.paths)
        if read and self.prefetch is None and self.keep_on(self.context.device):
            self._gather(top)
            return
        if self.prefetch is not None:
            batch, self.consumed = self.prefetch.result()
            self.prefetch = None
        else:
            batch, self.consumed = self.read_batch(*self.ranks())
        for t, array in zip(top, batch, strict=True):
            t.value = torch.from_numpy(array).to(self.context.device)
        if len(self.memory) < len(self.paths):
            self.prefetch = Ahead(self.read_batch, *self.ranks())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass

    def position(self) -> dict[str, Any]:
        return {"source": self.digest, **(self.consumed if self.device_cache is None else self.order.state())}

    def restore_position(self, position: dict[str, Any]) -> None:
        if position.get("source") != self.digest:
            glog.warning(
                f"{self.where}: the stored data position is of another list of files than "
                f"{self.layer_param.hdf5_data_param.source}; starting at the first row"
            )
            return
        if self.prefetch is not None:
            self.prefetch.result()
            self.prefetch = None
        self.order.restore(position)
        while self.training and self.order.offset % self.context.solver_count:  # to the next row of the first solver
            self.order.current(self.count_rows)
            self.order.advance()
        self.consumed = self.order.state()


@register
class HDF5Output(Layer):
    """Writes bottom 0 and 1 as datasets `data` and `label`; the file appears complete or not at all."""

    bottoms = (2, 2)
    tops = (0, 0)
    needs_host = "writes a file"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.file_name = self.layer_param.hdf5_output_param.file_name
        folder = os.path.dirname(self.file_name) or "."
        self.check(os.access(folder, os.W_OK), f"Failed to open HDF5 file: {self.file_name} cannot be created")
        self.written = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        pass

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(
            bottom[0].num == bottom[1].num,
            f"{bottom[0].num} labels",
            bottom[1].num,
        )
        self.check(not self.written, self.file_name, "one Forward, which writes dataset data", "a second one")
        glog.info(f"Saving HDF5 file {self.file_name}")  # a prototxt may name any
        with atomic_hdf5(self.file_name) as stream:
            for name, blob in zip(("data", "label"), bottom, strict=True):
                shape = (blob.num, blob.channels, blob.height, blob.width)
                stream.file[name] = blob.value.cpu().contiguous().numpy().reshape(shape)
        self.written = True

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass
