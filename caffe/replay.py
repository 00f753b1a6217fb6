"""Passes of a plan as a graph: what changes between replays goes through device memory, results come through a table.

A graph is a fixed list of device operations on fixed addresses. What changes between replays therefore passes through
device memory that is written before each one: the row numbers of the batches, the learning rates; dropout masks come
from the device's generator, which is registered with the graph. What the host wants to know (losses, norms, scores) is
written to a table on the device and read back when it is displayed. Parameters and history are changed in place.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from caffe.cuda_graph import Graph
from caffe.layer import Feed
from caffe.plan import Plan

CAPACITY = 200  # replays between two readings; pinned row numbers and results are kept for so many
WARM_UPS = 2  # plain runs before the capture: libraries choose and load kernels in the first one


class Replay:
    """Passes of `plan` that are replayed; prepare() captures them.

    There are `passes` forward passes of the plan in each, which change nothing but the tensors of `state`, the net's
    blobs and the device's random stream, and take `rates` learning rates.
    """

    def __init__(
        self,
        plan: Plan,
        state: Iterable[torch.Tensor],
        passes: int = 1,
        rates: int = 0,
    ):
        self.context = context = plan.net.context
        device = context.device
        pinned = device.type == "cuda"
        self.net, self.passes = plan.net, passes
        self.layers = [node.layer for node in plan.net.nodes if node.layer.as_feed is not None]
        self.feeds = [layer.as_feed for layer in self.layers]
        for feed in self.feeds:
            feed.make_slots(passes)
        self.rows = [
            torch.zeros((CAPACITY, passes, feed.batch_size), dtype=torch.int64, pin_memory=pinned)
            for feed in self.feeds
        ]
        self.host_rates = torch.zeros((CAPACITY, rates), pin_memory=pinned)
        self.rates = torch.zeros(rates, device=device)
        self.last_rates = None
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.results = None
        self.state = [*state, self.slot]
        self.count = 0
        self.graph = None

    @property
    def full(self) -> bool:
        """True when the results must be read before the next launch."""
        return self.count == CAPACITY

    def launch(self, rates: Sequence[float] = ()) -> None:
        """Give the graph the next rows and these learning rates and start a replay; nothing waits for the device."""
        self._feed(rates)
        self.graph.replay()
        self.count += 1

    def read(self) -> np.ndarray:
        """Results of the launches since the last reading, (launches, width) float32; waits for the device."""
        found = self.results[: self.count].cpu().numpy()
        self.count = 0
        self.slot.zero_()
        return found

    def read_tests(self) -> list[tuple[torch.Tensor, list[tuple[str, float, np.ndarray]]]]:
        """[(loss as a 0-d tensor, Net.output_scores())] of the test passes since the last reading."""
        net, found = self.net, []
        outputs = [net.named_blobs[k] for k in net._outputs]
        ends = np.cumsum([one.blob.count for one in outputs])
        for numbers in self.read():
            pieces = zip(outputs, np.split(numbers, ends), strict=False)
            found.append(
                (
                    torch.tensor(numbers[-1]),
                    [(one.name, one.loss_weight, piece.astype(np.float64)) for one, piece in pieces],
                )
            )
        return found

    def _feed(self, rates):
        for feed, rows in zip(self.feeds, self.rows, strict=True):
            for turn in range(self.passes):
                rows[self.count, turn] = torch.from_numpy(feed.next_rows())
            feed.fill_slots(rows[self.count])
        if tuple(rates) != self.last_rates:
            self.last_rates = tuple(rates)
            self.host_rates[self.count] = torch.tensor(self.last_rates, dtype=torch.float64)
            self.rates.copy_(self.host_rates[self.count], non_blocking=True)

    def _run(self, function):
        with from_slots(self.feeds):
            numbers = function(self.rates.unbind())
        if self.results is None:
            self.results = numbers.new_zeros(CAPACITY, numbers.numel())
        self.results.index_copy_(0, self.slot, numbers[None])
        self.slot.add_(1)

    def prepare(
        self,
        kind: type[Graph],
        function: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        rates: Sequence[float] = (),
    ) -> float:
        """Capture function(rates: 0-d tensors) -> 1-d float32 tensor of results with `kind`; all state is as before.

        The function does the passes, without a look at the device's numbers. It is not kept: a solver's iteration knows
        the solver, which knows this replay, and neither would be freed with its last user.
        Returns by how much a replay differs from plain passes.
        """
        run = functools.partial(self._run, function)
        generators = [self.context.generator]
        positions = [layer.position() for layer in self.layers]
        saved = [tensor.clone() for tensor in self.state], [generator.get_state() for generator in generators]

        def restore():
            for tensor, value in zip(self.state, saved[0], strict=True):
                tensor.copy_(value)
            for generator, value in zip(generators, saved[1], strict=True):
                generator.set_state(value)

        def outcome():
            return [tensor.clone() for tensor in (*self.state, self.results[0])]

        try:
            self._feed(rates)
            for _ in range(WARM_UPS):
                restore()
                kind.warm_up(run, strict=False)
            plain = outcome()
            restore()
            with self.context.capture():
                kind.warm_up(run, strict=True)
            restore()
            with self.context.capture():
                self.graph = kind(run, generators)
            restore()
            self.results.zero_()
            self.graph.replay()
            return max(difference(a, b) for a, b in zip(plain, outcome(), strict=True))
        except RuntimeError:
            generators[:] = [self.context.random.renew(self.context.device)]
            raise
        finally:
            restore()
            for layer, position in zip(self.layers, positions, strict=True):
                layer.restore_position(position)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest |a - b| as a share of the largest |a|; inf where one is not finite."""
    if not a.numel() or torch.equal(a, b):
        return 0.0
    gap = float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-30))
    return gap if np.isfinite(gap) else float("inf")


@contextlib.contextmanager
def from_slots(feeds: Iterable[Feed]) -> Iterator[None]:
    """Context in which forward passes take the rows that the slots of `feeds` hold."""
    with contextlib.ExitStack() as stack:
        for feed in feeds:
            stack.enter_context(feed.from_slots())
        yield
