"""A runtime for BVLC Caffe 1.0's files and interfaces on PyTorch, with pycaffe's names.

`import caffe` gives pycaffe's API (Net, the solvers, NetSpec, io, ...); `python -m caffe` is the command line. What is
used is loaded then, and torch with it.
"""

import importlib

from caffe.version import __version__

_HOME = {  # module: the names that it has
    "_caffe": (
        "NCCL", "Layer", "Timer", "get_solver", "has_nccl", "init_log", "layer_type_list", "log", "set_device",
        "set_mode_cpu", "set_mode_gpu", "set_multiprocess", "set_random_seed", "set_solver_count", "set_solver_rank",
        "solver_count", "solver_rank",
    ),
    "classifier": ("Classifier",),
    "context": ("allow_python_layers",),
    "detector": ("Detector",),
    "errors": ("CaffeError",),
    "net_spec": ("NetSpec", "layers", "params", "to_proto"),
    "pycaffe": (
        "Net", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "RMSPropSolver", "SGDSolver",
    ),
    "proto.caffe_pb2": ("TEST", "TRAIN"),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("_caffe", "classifier", "cli", "coord_map", "detector", "draw", "io", "net_spec", "proto", "pycaffe")


def __getattr__(name):
    if name in _MODULE:
        return getattr(importlib.import_module(f"caffe.{_MODULE[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"caffe.{name}")
    raise AttributeError(f"module 'caffe' has no attribute '{name}'")


__all__ = ["__version__", "io", *_MODULE]
