"""pycaffe's functions that say where to compute: they change the current context (caffe.context), no net or solver."""

from __future__ import annotations

import torch

from caffe import glog
from caffe.context import CPU, current
from caffe.errors import CaffeError


def set_mode_cpu() -> None:
    """Compute on the CPU from now on (this thread)."""
    current().device = CPU


def set_mode_gpu() -> None:
    """Compute on the selected GPU from now on (this thread); raises CaffeError when there is no CUDA device.

    Matrix products and convolutions are float32 without TF32, as Caffe's, unless the settings allow TF32. cuDNN uses
    algorithms that give the same bits every time. The log says which precision is in force.
    """
    context = current()
    _require_gpu(context.gpu)
    set_precision(context.settings.tf32)
    context.device = torch.device("cuda", context.gpu)


def set_precision(tf32: bool) -> None:
    """Let CUDA's matrix products and convolutions round their inputs to TF32, or not; results are reproducible."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    glog.info("GPU precision: " + ("TF32 (CAFFE_TF32=1)" if tf32 else "float32"))


def channels_last(on: torch.device) -> bool:
    """True if convolutions over two axes on torch.device `on` work in torch's channels_last memory format.

    On the CPU it is the quickest. Tensor cores, which TF32 uses, read it as well; float32 on CUDA prefers the plain
    format. The settings may decide otherwise on CUDA.
    """
    if on.type == "cpu":
        return True
    asked = current().settings.channels_last
    return torch.backends.cuda.matmul.allow_tf32 if asked is None else asked


def set_device(index: int) -> None:
    """Select the GPU that set_mode_gpu uses; if the GPU mode is on already, switch to it."""
    _require_gpu(index)
    context = current()
    context.gpu = int(index)
    torch.cuda.set_device(context.gpu)
    if context.device.type == "cuda":
        context.device = torch.device("cuda", context.gpu)


def _require_gpu(index):
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= int(index) < count:
        raise CaffeError(
            f"GPU {index}: found {count} usable CUDA devices; use CPU mode or one of 0..{count - 1}"
            if count
            else f"GPU {index}: no usable CUDA device was found; use CPU mode"
        )


def solver_count() -> int:
    """Number of solvers that train this net together (1 unless set)."""
    return current().solver_count


def set_solver_count(count: int) -> None:
    """Set the number of solvers that train this net together."""
    current().solver_count = int(count)


def solver_rank() -> int:
    """Rank of this solver; 0 is the root, the only one that logs, tests and snapshots."""
    return current().solver_rank


def set_solver_rank(rank: int) -> None:
    """Set the rank of this solver (0: the root)."""
    current().solver_rank = int(rank)


def set_multiprocess(value: bool) -> None:
    """Say whether the solvers that train together are processes; kept for pycaffe's scripts."""
    current().multiprocess = bool(value)


def set_random_seed(seed: int) -> None:
    """Seed all random streams of the runtime (fillers, dropout, data order)."""
    if seed < 0:
        raise CaffeError(f"random seed: found {seed}; wanted an integer >= 0")
    current().random.seed(seed)
