"""What a section is, how much it measures, and how its processes hand over results."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from audiomnist.runs.networks import NETWORKS
from caffe.context import Context
from caffe.cuda_graph import CudaGraph

RESULT = "RESULT "  # marks a line of a process that holds a result
PUBLISHED = tuple(name for name, network in NETWORKS.items() if network.published)  # the paper's, written by hand too
SECTIONS = {}


@dataclass(frozen=True)
class Section:
    """run(sizes, part) does one part in a process of its own, for at most `limit` seconds."""

    run: Callable
    parts: tuple[str, ...]
    limit: int


def section(name, parts=("",), limit=150):
    """Decorator: the section `name`, called for each of its parts."""

    def register(function):
        SECTIONS[name] = Section(function, tuple(parts), limit)
        return function

    return register


class Sizes:
    """How much is measured: on the GPU, or (tiny) on the CPU."""

    def __init__(self, cpu):
        self.cpu = cpu
        self.device = torch.device("cpu" if cpu else "cuda")
        self.batch = 2 if cpu else 100
        self.rows = 6 if cpu else 18_000  # recordings that train: AudioMNIST's
        self.seconds = 0.0 if cpu else 3.0  # of each measurement
        self.calls = 1 if cpu else 20  # between two looks at the clock, where one call is short
        self.matrix = 64 if cpu else 8192
        self.copied = 2**16 if cpu else 2**30  # floats

    @property
    def kind(self):
        """What captures there."""
        if not self.cpu:
            return CudaGraph
        from tests.graph_emulator import EmulatedGraph

        return EmulatedGraph

    def context(self, settings):
        """A Context that computes on the device as `settings` say."""
        context = Context(settings=settings)
        if not self.cpu:
            context.use_gpu()
        return context


def report(line, failed=False, **numbers):
    """One result: a line to read, and what the table wants to know."""
    print(RESULT + json.dumps({"line": line, "failed": failed, **numbers}), flush=True)


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(function, seconds, calls=1):
    """Calls of function() a second, after two that do not count; the clock is looked at after so many calls.

    With no seconds to measure, one round of calls says that it runs.
    """
    for _ in range(2 if seconds else 0):
        function()
    synchronize()
    begin, done = time.perf_counter(), 0
    while True:
        for _ in range(calls):
            function()
        done += calls
        synchronize()
        if (spent := time.perf_counter() - begin) >= seconds:
            return done / spent


def peak_memory(sizes):
    """Bytes that the device's memory was reserved for at most since reset_peak_memory(); 0 on the CPU."""
    return 0 if sizes.cpu else torch.cuda.max_memory_reserved()


def reset_peak_memory(sizes):
    if not sizes.cpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
