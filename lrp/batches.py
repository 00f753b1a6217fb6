"""Batches cut into chunks that fit in the memory and travel side by side on threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from lrp.errors import LRPError

try:
    from threadpoolctl import threadpool_limits
except ImportError:  # then one item after the other, on as many threads as the BLAS likes
    threadpool_limits = None

Result = TypeVar("Result")

# Items that travel through the network together: enough to read the weights of inner products seldom, few enough to
# stay in the cache.
CHUNK = 16
# Values of a batch's blobs from which on threads cost less than they bring.
WORTH_A_THREAD = 10**6
# Activations of one call are held for as many items at a time as fit in here (bytes).
MEMORY = 512 * 2**20


def one_blas_thread() -> contextlib.AbstractContextManager:
    """Context in which matrix products use one thread, so that threads of our own can work side by side.

    Without threadpoolctl they keep theirs, and there are no threads of our own.
    """
    return threadpool_limits(1, user_api="blas") if threadpool_limits else contextlib.nullcontext()


def by_chunks(
    x: np.ndarray, values: int, work: Callable[[np.ndarray, int], Result], workers: int | None = None
) -> list[Result]:
    """[work(chunk, index of its first item)] over the batch x, cut so that what is held at once fits in `MEMORY`.

    values: number of values that one item gives in all blobs. Chunks run on `workers` threads: numpy lets go of the
    interpreter's lock while it computes. Results keep the order of the items. What overflows gives no warning: the
    results are checked. Raises LRPError for an empty batch.
    """
    if len(x) == 0:
        raise LRPError("input", "at least one item", "none")
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(x) * values >= WORTH_A_THREAD else 1
    workers = max(1, min(workers, len(x))) if threadpool_limits else 1
    # activations, a denominator or two beside them, and the relevance on its way
    most = max(1, MEMORY // (4 * values * x.itemsize * workers))
    count = -(-len(x) // min(most, CHUNK))
    count = min(len(x), -(-count // workers) * workers)
    ends = [len(x) * k // count for k in range(count + 1)]
    chunks = [(x[a:b], a) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    def quiet(chunk: tuple[np.ndarray, int]) -> Result:
        with np.errstate(over="ignore", invalid="ignore"):  # of this thread alone
            return work(*chunk)

    # one item alone too: with more threads the products add up in another order, and its company would show
    with one_blas_thread():
        if workers == 1:
            return [quiet(chunk) for chunk in chunks]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(quiet, chunks))
