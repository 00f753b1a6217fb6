"""Processes that share work evenly and never outlive the command that started them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

from threadpoolctl import threadpool_limits

from caffe_proto import UserError

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 16  # items handed to a worker at once
Item, Result = TypeVar("Item"), TypeVar("Result")


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def context(*preload: str) -> BaseContext:
    """Fresh processes, not forks: forking a process that has threads can deadlock. `preload` are modules they need."""
    methods = multiprocessing.get_all_start_methods()
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(preload))
    here = os.getcwd()
    os.chdir(ROOT)  # the server imports from the folder that it is started in; its processes come back to this one
    try:
        forkserver.ensure_running()
    except OSError as error:  # its socket lies there, and has a name of some hundred characters at most
        expected = "a folder of a short name, in which a socket can be made (TMPDIR)"
        raise UserError(tempfile.gettempdir(), expected, error.strerror or error) from None
    finally:
        os.chdir(here)
    return found


def die_with_parent() -> None:
    """The initializer of every worker: without it, the workers of a killed command would wait for ever.

    Ctrl-C reaches the whole process group; it is the command that decides what to do about it. Matrix products stay
    on the worker's own core.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # first: limiting the threads takes a while
    threadpool_limits(1)

    def watch() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _submit(executor: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    try:
        return executor.submit(function, item)
    except (EOFError, ConnectionError):  # the process that starts workers has been killed
        raise BrokenProcessPool from None


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """function(item) of every item, in whatever order they come, `workers` processes wide, with bounded memory.

    Raises what the function raises, and BrokenProcessPool when a process dies.
    """
    if workers == 1:
        with threadpool_limits(1):
            yield from map(function, items)
        return
    chunks = (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
    with ProcessPoolExecutor(workers, mp_context=context(*preload), initializer=die_with_parent) as executor:
        running = set()
        try:
            for chunk in chunks:
                running.add(_submit(executor, partial(_work, function), chunk))
                if len(running) > 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield from future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def apart(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """As `spread`, but each item has a process of its own, for functions that leave something behind."""
    processes = context(*preload)

    def one(item: Item) -> Result:
        with ProcessPoolExecutor(1, mp_context=processes, initializer=die_with_parent) as executor:
            return _submit(executor, function, item).result()

    with ThreadPoolExecutor(workers) as threads:
        try:
            for future in as_completed([threads.submit(one, item) for item in items]):
                yield future.result()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
