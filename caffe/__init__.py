"""A runtime for BVLC Caffe 1.0's files and interfaces on PyTorch, with pycaffe's names.

`import caffe` gives pycaffe's API (Net, the solvers, NetSpec, io, ...); `python -m caffe` is the command line.
"""

import importlib

from caffe._caffe import (
    NCCL,
    Layer,
    Timer,
    get_solver,
    has_nccl,
    init_log,
    layer_type_list,
    log,
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
from caffe.context import allow_python_layers
from caffe.errors import CaffeError
from caffe.pycaffe import SOLVERS, Net
from caffe.version import __version__
from caffe_proto.caffe_pb2 import TEST, TRAIN

# loaded when first used: training and testing do not need them
_LATER = {
    "Classifier": "caffe.classifier",
    "Detector": "caffe.detector",
    "NetSpec": "caffe.net_spec",
    "layers": "caffe.net_spec",
    "params": "caffe.net_spec",
    "to_proto": "caffe.net_spec",
}
_MODULES = ("classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto")


def __getattr__(name):
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"caffe.{name}")
    raise AttributeError(f"module 'caffe' has no attribute '{name}'")


SGDSolver = SOLVERS["SGD"]
NesterovSolver = SOLVERS["Nesterov"]
AdaGradSolver = SOLVERS["AdaGrad"]
RMSPropSolver = SOLVERS["RMSProp"]
AdaDeltaSolver = SOLVERS["AdaDelta"]
AdamSolver = SOLVERS["Adam"]

__all__ = [
    "NCCL",
    "allow_python_layers",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "CaffeError",
    "Classifier",
    "Detector",
    "Layer",
    "Net",
    "NesterovSolver",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "__version__",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
