"""Layer types that bring numbers into a net from the user and from fillers (docs/engine.md section 2.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from caffe.blob import Blob
from caffe.fillers import fill
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2
from caffe_proto.memory import check_memory


@register
class Input(Layer):
    """The net's inputs: blobs that the user fills."""

    bottoms = (0, 0)
    tops = (1, None)
    needs_host = "is filled by the user"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = self.layer_param.input_param.shape
        self.check(
            len(shapes) in (0, 1, len(top)),
            f"Must specify 'shape' once, once per top blob, or not at all: {len(top)} tops vs. {len(shapes)} shapes.",
        )
        for i, t in enumerate(top):
            if len(shapes):
                t.reshape(*shapes[i if len(shapes) > 1 else 0].dim)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        pass

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        pass

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass


@register
class DummyData(Layer):
    """Blobs from fillers: constant ones are filled once, all others at every forward."""

    bottoms = (0, 0)
    tops = (1, None)
    passes_values = True

    @property
    def needs_host(self) -> str | None:
        """What it needs the host for: fillers that draw numbers."""
        return None if all(filler.type == "constant" for filler in self.fillers) else "draws numbers on the host"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.dummy_data_param
        fillers = list(param.data_filler) or [caffe_pb2.FillerParameter()]
        self.check(
            len(fillers) in (1, len(top)),
            "Number of data fillers must be 0, 1 or equal to the number of tops",
            f"0, 1 or {len(top)} data fillers",
            len(fillers),
        )
        self.fillers = fillers * len(top) if len(fillers) == 1 else fillers
        legacy = [list(getattr(param, name)) for name in ("num", "channels", "height", "width")]
        if param.shape:
            self.check(
                not any(legacy),
                "Both shape and legacy fields were specified",
                "shape, or num, channels, height and width",
                "both",
            )
            shapes = [tuple(s.dim) for s in param.shape]
        else:
            self.check(
                all(len(v) == len(legacy[0]) for v in legacy) and legacy[0],
                "Must specify either 'shape' or num, channels, height and width, once or once per top blob",
                "equally many values of each",
                [len(v) for v in legacy],
            )
            shapes = list(zip(*legacy, strict=True))
        self.check(
            len(shapes) in (1, len(top)), "Must specify 1 shape or one per top", f"1 or {len(top)} shapes", len(shapes)
        )
        for i, t in enumerate(top):
            t.reshape(*shapes[i if len(shapes) > 1 else 0])
        check_memory(self.memory_before + 4 * sum(t.count for t in top), self.where, "all blobs so far")
        for t, filler in zip(top, self.fillers, strict=True):
            fill(t, filler, self.context.random.generator(), self.where)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        pass

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for t, filler in zip(top, self.fillers, strict=True):
            if filler.type != "constant":
                fill(t, filler, self.context.random.generator(), self.where)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass


@register
class MemoryData(Layer):
    """Batches from arrays that the user holds (Net.set_input_arrays); each forward exposes the next rows."""

    bottoms = (0, 0)
    tops = (2, 2)
    needs_host = "takes its rows from the user's memory"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.memory_data_param
        self.shape = (param.batch_size, param.channels, param.height, param.width)
        self.check(
            math.prod(self.shape) > 0,
            "batch_size, channels, height, and width must be specified and positive in memory_data_param",
        )
        top[0].reshape(*self.shape)
        top[1].reshape(param.batch_size)
        self.data = self.labels = None
        self.row = 0

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Take rows from `data` (n, C, H, W) and `labels` (n, 1, 1, 1), float32, by reference; n a multiple of B."""
        self.data, self.labels, self.row = torch.from_numpy(data), torch.from_numpy(labels), 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        pass

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(self.data is not None, "MemoryDataLayer needs to be initialized by calling Reset")
        batch = self.shape[0]
        rows = slice(self.row, self.row + batch)
        top[0].reshape(*self.shape)
        top[1].reshape(batch, 1, 1, 1)
        # copies: a numpy view of a top keeps its memory for later batches, which must not be the user's
        top[0].value = self.data[rows].to(self.context.device, copy=True)
        top[1].value = self.labels[rows].to(self.context.device, copy=True)
        self.row = (self.row + batch) % len(self.data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass

    def position(self) -> dict[str, Any]:
        return {"row": self.row}

    def restore_position(self, position: dict[str, Any]) -> None:
        self.row = position["row"]
