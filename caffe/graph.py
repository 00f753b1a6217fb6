"""Training iterations and test passes as graphs: captured once, replayed without Python (CUDA graphs).

A graph is a fixed list of device operations on fixed addresses. What changes between replays therefore passes through
device memory that is written before each one: the row numbers of the batches, the learning rates; dropout masks come
from the device's generator, which is registered with the graph. What the host wants to know (losses, norms, scores) is
written to a table on the device and read back when it is displayed. Parameters and history are changed in place.

Before a graph is used it must do from the same state what the plain passes do. What cannot be captured, and what fails
or differs, runs plainly, and the log says why.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch

from caffe import glog
from caffe.context import current
from caffe.errors import CaffeError
from caffe.net import Net
from caffe.plan import Plan
from caffe.solver import Solver

CAPACITY = 200  # replays between two readings; pinned row numbers and results are kept for so many
TOLERANCE = 1e-4  # of the largest element: what a replay may differ by from plain passes (sums in another order)
WARM_UPS = 2  # plain runs before the capture: libraries choose and load kernels in the first one


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
        try:
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                function()
        except RuntimeError:
            self.failed.append(self.graph)
            raise

    def replay(self) -> None:
        """Do the captured operations once more; nothing waits for the device."""
        self.graph.replay()

    @staticmethod
    def warm_up(function: Callable[[], None], strict: bool) -> None:
        """Run `function()` as CUDA wants it before a capture: on a stream of its own.

        If `strict`, what waits for the device raises RuntimeError: a capture would fail there and leave a mess.
        """
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), _no_waiting() if strict else contextlib.nullcontext():
            function()
        torch.cuda.current_stream().wait_stream(stream)


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


KINDS = {"cuda": CudaGraph}  # device type: what captures there


class Replay:
    """Passes of `plan` that are replayed.

    function(rates) -> 1-d float32 tensor of results; it runs `passes` forward passes of the plan, without a look at the
    device's numbers, and changes nothing but the tensors of `state`, the net's blobs and the device's random stream.
    `rates` is the number of learning rates that it takes, as 0-d tensors.
    """

    def __init__(
        self,
        plan: Plan,
        function: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        state: Iterable[torch.Tensor],
        passes: int = 1,
        rates: int = 0,
    ):
        device = current().device
        pinned = device.type == "cuda"
        self.net, self.function, self.passes = plan.net, function, passes
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

    def _run(self):
        with _from_slots(self.feeds):
            numbers = self.function(self.rates.unbind())
        if self.results is None:
            self.results = numbers.new_zeros(CAPACITY, numbers.numel())
        self.results.index_copy_(0, self.slot, numbers[None])
        self.slot.add_(1)

    def prepare(self, kind: type[Graph], rates: Sequence[float] = ()) -> float:
        """Capture with `kind`; returns by how much a replay differs from plain passes. All state is as before."""
        generators = [current().random.generator(current().device)]
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
                kind.warm_up(self._run, strict=False)
            plain = outcome()
            restore()
            with current().capture():
                kind.warm_up(self._run, strict=True)
            restore()
            with current().capture():
                self.graph = kind(self._run, generators)
            restore()
            self.results.zero_()
            self.graph.replay()
            return max(difference(a, b) for a, b in zip(plain, outcome(), strict=True))
        except RuntimeError:
            generators[:] = [current().random.renew(current().device)]
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


# -- what can be captured --------------------------------------------------------------------------------------------
def obstacle(plan: Plan) -> str | None:
    """Why the passes of `plan` cannot be captured (a text), or None."""
    net = plan.net
    if plan.observer and plan.observer.reason():
        return plan.observer.reason()
    for node in net.nodes:
        if node.layer.needs_host:
            return f"{node.layer.where} {node.layer.needs_host}"
    for i in label_readers(net):
        layers = [net.nodes[j].layer for j in label_path(net, i)]
        strange = [layer for layer in layers if not layer.passes_values]
        if strange:
            return f"the labels of {net.nodes[i].layer.where} are computed by {strange[0].where}"
    return None


def label_readers(net: Net) -> list[int]:
    """Indices of the layers that read labels."""
    return [i for i, node in enumerate(net.nodes) if node.layer.reads_labels]


def label_path(net: Net, reader: int) -> list[int]:
    """Indices of the layers that the labels of layer `reader` come from, in order."""
    wanted, path = {net.nodes[reader].bottom_ids[1]}, []
    for i in reversed(range(reader)):
        if wanted & set(net.nodes[i].top_ids):
            wanted |= set(net.nodes[i].bottom_ids)
            path.append(i)
    return path[::-1]


def check_labels(net: Net) -> None:
    """Look at all labels of the data sets on the device; raises CaffeError naming the first wrong one's file and row.

    Captured passes cannot raise errors; after this they need not.
    """
    for reader in label_readers(net):
        path = [net.nodes[i] for i in label_path(net, reader)]
        feeds = [node.layer.as_feed for node in path if node.layer.as_feed is not None]
        rows = feeds[0].total_rows if feeds else 1
        batch = feeds[0].batch_size if feeds else 1
        numbers = torch.arange(-(-rows // batch) * batch).clamp_max(rows - 1).view(-1, batch)
        for chunk in numbers:
            try:
                _read_labels(net.nodes[reader], path, feeds, chunk)
            except CaffeError:
                for number in chunk.tolist():
                    try:
                        _read_labels(net.nodes[reader], path, feeds, torch.full_like(chunk, number))
                    except CaffeError as error:
                        raise CaffeError(
                            f"{feeds[0].describe_row(number) if feeds else 'constant data'}: {error}"
                        ) from None
                raise


def _read_labels(reader, path, feeds, numbers):
    """Let node `reader` look at the labels of the rows `numbers`, which come along the nodes of `path`."""
    for feed in feeds:
        feed.fill_slots(numbers[None])
    with _from_slots(feeds):
        for node in path:
            node.layer.reshape(node.bottoms, node.tops)
            node.layer.forward(node.bottoms, node.tops)
        reader.layer.read_labels(reader.bottoms)


@contextlib.contextmanager
def _from_slots(feeds):
    """Context in which forward passes take the rows that the slots of `feeds` hold."""
    with contextlib.ExitStack() as stack:
        for feed in feeds:
            stack.enter_context(feed.from_slots())
        yield


def accelerate(solver: Solver, kind: type[Graph]) -> None:
    """Let `solver` replay its iterations and test passes, captured by `kind`, where that can be done.

    The solver must be complete (restored, connected); training goes on by solver.step. The log says what is replayed.
    """
    if not current().settings.cuda_graph:
        glog.info("Graph: not used (CAFFE_CUDA_GRAPH=0); every iteration runs layer by layer")
        return
    train = _replay(solver.plan, "the training iteration", kind, _training(solver), solver.obstacle())
    tests = {}
    for i, plan in enumerate(solver.test_plans):
        plan.net.share_with(solver.net)
        tests[i] = _replay(plan, f"the pass of test net #{i}", kind, _testing(plan))
    solver.use_replays(train, tests)


def _training(solver):
    state = [blob.value for blob in (*solver.net.learnable_params, *solver.history)]
    return lambda: Replay(solver.plan, solver.iteration, state, solver.param.iter_size, len(solver.update.groups()))


def _testing(plan):
    net = plan.net

    def function(rates):
        loss = plan.forward()
        scores = [net.named_blobs[k].blob.value.reshape(-1) for k in net._outputs]
        return torch.cat([*scores, torch.zeros(1, device=current().device) + loss])

    return lambda: Replay(plan, function, [blob.value for blob in net.learnable_params])


def _replay(plan, what, kind, make, reason=None):
    """A tested Replay of `plan`, or None; logs which."""
    device = current().device
    for node in plan.net.nodes:
        if node.layer.as_feed is not None:
            node.layer.as_feed.keep_on(device)
    reason = reason or obstacle(plan)
    if reason:
        glog.info(f"Graph: {what} runs layer by layer: {reason}")
        return None
    check_labels(plan.net)
    try:
        replay = make()
        gap = replay.prepare(kind, [0.01] * replay.rates.numel())
    except CaffeError:
        raise
    except RuntimeError as error:
        glog.warning(f"Graph: {what} runs layer by layer: it could not be captured ({str(error).splitlines()[0]})")
        return None
    if device.type == "cuda":
        torch.cuda.empty_cache()  # of the plain passes
    if gap > TOLERANCE:
        glog.warning(
            f"Graph: {what} runs layer by layer: a replay differs from plain passes by {glog.g(gap)} of the "
            f"largest element, wanted at most {glog.g(TOLERANCE)}"
        )
        return None
    glog.info(
        f"Graph: {what} is captured and replayed; a replay "
        + (f"agrees with plain passes to {glog.g(gap)}" if gap else "gives the bits of plain passes")
    )
    return replay
