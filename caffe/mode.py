"""pycaffe's functions that say where to compute: they change the context that pycaffe's nets and solvers are given."""

from __future__ import annotations

import threading

from caffe.context import Context, RandomState
from caffe.errors import CaffeError

_random = RandomState()


class ThreadContext(threading.local, Context):
    """A context that has values of its own in every thread, but for the random streams, which all share.

    Every thread starts on the CPU as the only solver, as with Caffe's thread-local context: nets follow the mode of the
    thread that uses them, whichever made them.
    """

    def __init__(self):
        Context.__init__(self, random=_random)


CONTEXT = ThreadContext()  # of all nets and solvers of pycaffe


def set_mode_cpu() -> None:
    """Compute on the CPU from now on (this thread)."""
    CONTEXT.use_cpu()


def set_mode_gpu() -> None:
    """Compute on the selected GPU from now on (this thread); raises CaffeError when there is no CUDA device.

    The log says which precision is in force (Context.precision).
    """
    CONTEXT.use_gpu()


def set_device(index: int) -> None:
    """Select the GPU that set_mode_gpu uses; if the GPU mode is on already, switch to it."""
    CONTEXT.select_gpu(index)


def solver_count() -> int:
    """Number of solvers that train this net together (1 unless set)."""
    return CONTEXT.solver_count


def set_solver_count(count: int) -> None:
    """Set the number of solvers that train this net together."""
    CONTEXT.solver_count = int(count)


def solver_rank() -> int:
    """Rank of this solver; 0 is the root, the only one that logs, tests and snapshots."""
    return CONTEXT.solver_rank


def set_solver_rank(rank: int) -> None:
    """Set the rank of this solver (0: the root)."""
    CONTEXT.solver_rank = int(rank)


def set_multiprocess(value: bool) -> None:
    """Nothing, for pycaffe's scripts: whether solvers that train together are processes makes no difference here."""


def set_random_seed(seed: int) -> None:
    """Seed all random streams of the runtime (fillers, dropout, data order)."""
    if seed < 0:
        raise CaffeError("random seed", "an integer >= 0", seed)
    CONTEXT.random.seed(seed)
