"""The functions and raw classes of pycaffe's extension module, under its name (docs/engine.md section 6.1)."""

from __future__ import annotations

import time

import torch

from caffe import glog
from caffe.blob import Blob, BlobVec
from caffe.layer_factory import layer_type_list
from caffe.layers.python import PythonLayer as Layer
from caffe.mode import (
    CONTEXT,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe.net import LayerVec
from caffe.pycaffe import Net, Solver, get_solver
from caffe.version import __version__
from caffe_proto.caffe_pb2 import LayerParameter, SolverParameter

RawBlobVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list


def init_log(level: int = 0, stderr: bool = False) -> None:
    """Log lines of at least `level` (0 INFO, 1 WARNING, 2 ERROR, 3 FATAL); they always go to stderr."""
    glog.set_minimum(level)


def log(message: str) -> None:
    """Write one INFO line."""
    glog.info(message)


def has_nccl() -> bool:
    """False: several GPUs are driven by the command line, not through pycaffe's NCCL class."""
    return False


class NCCL:
    """Present but without methods, as in builds of pycaffe without NCCL."""


class Timer:
    """Wall-clock timer: start(), stop(), ms; waits for the GPU in GPU mode."""

    def __init__(self):
        self._started = None
        self._ms = 0.0

    @staticmethod
    def _now():
        if CONTEXT.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        """Start, or start anew."""
        self._started = self._now()

    def stop(self) -> None:
        """Stop, if the timer runs; `ms` keeps the time."""
        if self._started is not None:
            self._ms = 1000.0 * (self._now() - self._started)
            self._started = None

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop (stops the timer if it runs)."""
        self.stop()
        return self._ms


__all__ = [
    "NCCL",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "Net",
    "NetVec",
    "RawBlobVec",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "__version__",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
