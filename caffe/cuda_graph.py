"""A fixed list of device operations, captured once and replayed without Python: CUDA graphs."""

from __future__ import annotations

import contextlib
import functools
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch


class Graph(Protocol):
    """What captures on a kind of device (KINDS): `kind(function, generators)` captures, as CudaGraph does."""

    def __init__(self, function: Callable[[], None], generators: Iterable[torch.Generator]): ...

    def replay(self) -> None:
        """Do the captured operations once more."""

    @staticmethod
    def warm_up(function: Callable[[], None], strict: bool) -> None:
        """Run `function()` as it must be run before a capture; `strict`: what waits for the device raises."""


class CudaGraph:
    """The device operations of `function()`, captured on construction without being done; replay() does them.

    `generators` are the torch generators that the function draws from; every replay advances them.
    """

    failed = []  # torch's allocator goes on asking graphs whose capture failed: they must live on

    def __init__(self, function: Callable[[], None], generators: Iterable[torch.Generator]):
        self.graph = torch.cuda.CUDAGraph()
        if hasattr(self.graph, "register_generator_state"):  # else torch does it by itself
            for generator in generators:
                self.graph.register_generator_state(generator)
        before = torch.cuda.current_stream()
        stream = _side_stream(before.device)
        try:
            with _no_collection(), torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                function()
        except RuntimeError:
            self.failed.append(self.graph)
            raise
        finally:
            torch.cuda.set_stream(before)  # which torch leaves undone where the capture cannot be ended

    def replay(self) -> None:
        """Do the captured operations once more; nothing waits for the device."""
        self.graph.replay()

    @staticmethod
    def warm_up(function: Callable[[], None], strict: bool) -> None:
        """Run `function()` as CUDA wants it before a capture: on the stream of captures.

        If `strict`, what waits for the device raises RuntimeError: a capture would fail there and leave a mess.
        """
        current = torch.cuda.current_stream()
        stream = _side_stream(current.device)
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream), _no_waiting() if strict else contextlib.nullcontext():
                function()
        finally:  # what comes next may write what is still read there
            current.wait_stream(stream)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream of `device` for warm-ups and captures: the allocator keeps memory for each stream apart."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Context without garbage collection: a graph that is destroyed during a capture invalidates it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _no_waiting():
    """Context in which CUDA operations that wait for the device raise RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the mode does not find everything
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
