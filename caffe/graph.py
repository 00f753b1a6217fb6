"""Which training iterations and test passes are replayed as graphs (CUDA graphs), and whether they may be.

Before a graph is used it must do from the same state what the plain passes do. What cannot be captured, and what fails
or differs, runs plainly, and the log says why. caffe.replay is one such graph and what surrounds it; caffe.cuda_graph
captures.
"""

from __future__ import annotations

import functools

import torch

from caffe import glog
from caffe.cuda_graph import CudaGraph, Graph
from caffe.errors import CaffeError
from caffe.net import Net
from caffe.plan import Plan
from caffe.replay import Replay, from_slots
from caffe.solver import Solver

KINDS = {"cuda": CudaGraph}  # device type: what captures there
TOLERANCE = 1e-4  # of the largest element: what a replay may differ by from plain passes (sums in another order)


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
                        row = feeds[0].describe_row(number) if feeds else "constant data"
                        raise CaffeError.at(row, error) from None
                raise


def _read_labels(reader, path, feeds, numbers):
    """Let node `reader` look at the labels of the rows `numbers`, which come along the nodes of `path`."""
    for feed in feeds:
        feed.fill_slots(numbers[None])
    with from_slots(feeds):
        for node in path:
            node.layer.reshape(node.bottoms, node.tops)
            node.layer.forward(node.bottoms, node.tops)
        reader.layer.read_labels(reader.bottoms)


def accelerate(solver: Solver, kind: type[Graph]) -> None:
    """Let `solver` replay its iterations and test passes, captured by `kind`, where that can be done.

    The solver must be complete (restored, connected); training goes on by solver.step. The log says what is replayed.
    """
    if not solver.context.settings.cuda_graph:
        glog.info("Graph: not used (CAFFE_CUDA_GRAPH=0); every iteration runs layer by layer")
        return
    state = _on_device((*solver.net.learnable_params, *solver.history), solver.context)
    size = {"passes": solver.param.iter_size, "rates": len(solver.update.groups())}
    train = _replay(solver.plan, "the training iteration", kind, solver.iteration, state, solver.obstacle(), **size)
    tests = {}
    for i, plan in enumerate(solver.test_plans):
        plan.net.share_with(solver.net)
        state = _on_device(plan.net.learnable_params, solver.context)
        tests[i] = _replay(plan, f"the pass of test net #{i}", kind, functools.partial(_test, plan), state)
    solver.use_replays(train, tests)


def _test(plan, rates):
    """The scores of a test pass and its loss, one after another, (width,)."""
    net = plan.net
    loss = plan.forward()
    scores = [net.named_blobs[k].blob.value.reshape(-1) for k in net._outputs]
    return torch.cat([*scores, torch.zeros(1, device=net.context.device) + loss])


def _on_device(blobs, context):
    """The values of `blobs` where `context` computes: tensors that stay where they are from now on."""
    for blob in blobs:
        blob.to(context.device)
    return [blob.value for blob in blobs]


def _replay(plan, what, kind, function, state, reason=None, **size):
    """A tested Replay of `plan`, whose passes `function` does, or None; logs which."""
    device = plan.net.context.device
    for node in plan.net.nodes:
        if node.layer.as_feed is not None:
            node.layer.as_feed.keep_on(device)
    reason = reason or obstacle(plan)
    if reason:
        glog.info(f"Graph: {what} runs layer by layer: {reason}")
        return None
    check_labels(plan.net)
    try:
        replay = Replay(plan, state, **size)
        gap = replay.prepare(kind, function, [0.01] * replay.rates.numel())
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
            f"largest element, which is more than {glog.g(TOLERANCE)}"
        )
        return None
    glog.info(
        f"Graph: {what} is captured and replayed; a replay "
        + (f"agrees with plain passes to {glog.g(gap)}" if gap else "gives the bits of plain passes")
    )
    return replay
