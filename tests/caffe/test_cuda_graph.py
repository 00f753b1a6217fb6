"""What CudaGraph leaves behind when a capture or a warm-up fails; torch.cuda is a stand-in, so no device is needed."""

import contextlib
import gc
import types

import pytest
import torch

from caffe import cuda_graph
from caffe.cuda_graph import CudaGraph


class Stream:
    device = torch.device("cuda", 0)

    def __init__(self, device):
        self.waited = []

    def wait_stream(self, other):
        self.waited.append(other)


class Card:
    """Streams and captures as torch.cuda has them; a capture that fails cannot be ended."""

    def __init__(self, monkeypatch):
        self.own = self.current = Stream(None)
        self.captured_on, self.strict = [], False
        for name, value in {
            "Stream": Stream,
            "current_stream": lambda: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "stream": self.stream,
            "CUDAGraph": types.SimpleNamespace,
            "graph": self.graph,
            "get_sync_debug_mode": lambda: "default",
            "set_sync_debug_mode": lambda mode: setattr(self, "strict", mode == "error"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(CudaGraph, "failed", [])
        cuda_graph._side_stream.cache_clear()

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        before, self.current = self.current, stream
        self.captured_on.append(stream)
        yield  # what raises here leaves the stream of the capture
        self.current = before


@pytest.fixture
def card(monkeypatch):
    yield Card(monkeypatch)
    cuda_graph._side_stream.cache_clear()


def fail():
    raise RuntimeError("operation not permitted")


def test_a_failed_capture_leaves_the_stream_and_the_collector_as_they_were(card):
    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraph(fail, ())
    assert card.current is card.own and gc.isenabled()
    assert len(CudaGraph.failed) == 1


def test_nothing_is_collected_during_a_capture(card):
    seen = []
    CudaGraph(lambda: seen.append(gc.isenabled()), ())
    assert seen == [False] and gc.isenabled()
    gc.disable()
    try:
        CudaGraph(lambda: None, ())
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("strict", [False, True])
def test_a_failed_warm_up_is_waited_for(card, strict):
    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraph.warm_up(fail, strict)
    (side,) = card.own.waited
    assert side.waited == [card.own] and card.current is card.own and not card.strict


def test_warm_ups_and_captures_share_a_stream(card):
    """The allocator keeps freed memory for each stream apart: a stream each would hold as much again."""
    seen = []
    for strict in (False, True):
        CudaGraph.warm_up(lambda: seen.append(card.current), strict)
    CudaGraph(lambda: seen.append(card.current), ())
    assert len(set(map(id, seen))) == 1 and seen[0] is not card.own and card.captured_on == seen[:1]
