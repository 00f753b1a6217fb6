"""What will run: a plan is the list of steps (forward, backward, release, check) that a net's passes consist of.

A plan runs in the context of its net: it moves the blobs of a layer to the device before the layer's turn, and sets the
precision around the whole pass. Layers find their blobs where they compute.

`Plan.of(net)` runs every layer by itself. caffe.fusion.fuse(plan) and free_memory(plan) return other plans of the same
net; none of them changes the net or its layers. `print(plan)` shows one line a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from caffe.observer import Observer
from caffe_proto import caffe_pb2

if TYPE_CHECKING:
    from caffe.net import Net


@dataclass(frozen=True, eq=False)
class Step:
    """`run()` does it; `what` and `text` say what it is; `kept` have the method release() for what they keep."""

    what: str
    text: str
    run: Callable[[], None]
    kept: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of `net`, by the index of the layer whose turn it is: forward in ascending order, backward descending.

    observer: a caffe.observer.Observer that looks at the net between the layers, which the plan then runs one by one.
    """

    net: Any
    forward_steps: tuple[tuple[Step, ...], ...]
    backward_steps: tuple[tuple[Step, ...], ...]
    observer: Any = None

    @classmethod
    def of(cls, net: Net, observer: Observer | None = None) -> Plan:
        """The plain plan: every layer by itself."""
        return cls(
            net,
            tuple((_forward(node),) for node in net.nodes),
            tuple((_backward(node),) if node.need_backward else () for node in net.nodes),
            observer,
        )

    def with_steps(
        self,
        forward: Mapping[int, tuple[Step, ...]] | None = None,
        backward: Mapping[int, tuple[Step, ...]] | None = None,
    ) -> Plan:
        """This plan, with other steps for some layers ({index: steps})."""
        return replace(
            self,
            forward_steps=_replaced(self.forward_steps, forward or {}),
            backward_steps=_replaced(self.backward_steps, backward or {}),
        )

    def __str__(self):
        steps = [step for steps in self.forward_steps for step in steps]
        steps += [step for steps in reversed(self.backward_steps) for step in steps]
        return "\n".join(f"{step.what:<8} {step.text}" for step in steps)

    # -- running -------------------------------------------------------------------------------------------------
    def forward(self, start: int = 0, end: int | None = None) -> torch.Tensor | float:
        """Run layers start..end (indices, inclusive); returns their weighted loss: a 0-d tensor, or 0.0.

        Nothing waits for the device.
        """
        with self.net.context.precision():
            return self._forward(range(start, len(self.forward_steps) if end is None else end + 1))

    def _forward(self, indices):
        loss, observer, device = 0.0, self.observer, self.net.context.device
        for i in indices:
            if observer:
                observer.before_forward(i)
            self.net.nodes[i].to(device)
            for step in self.forward_steps[i]:
                step.run()
            loss = _add_losses(loss, self.net.nodes[i], device)
            if observer:
                observer.after_forward(i)
        return loss

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward passes of layers start (default: the last) down to end, of those that need one."""
        with self.net.context.precision():
            self._backward(range(len(self.backward_steps) - 1 if start is None else start, end - 1, -1))

    def _backward(self, indices):
        observer, device = self.observer, self.net.context.device
        for i in indices:
            if observer:
                observer.before_backward(i)
            self.net.nodes[i].to(device)
            for step in self.backward_steps[i]:
                step.run()
            if observer:
                observer.after_backward(i)

    def run_backward(self) -> None:
        """The whole backward pass, with the summary that Caffe's debug_info prints after it."""
        self.backward()
        if self.observer:
            self.observer.after_all()


def _replaced(steps, changes):
    return tuple(tuple(changes.get(i, own)) for i, own in enumerate(steps))


def _forward(node):
    def run():
        node.layer.reshape(node.bottoms, node.tops)
        node.layer.forward(node.bottoms, node.tops)

    return Step("forward", f"{node.name} ({node.param.type})", run, (node.layer,))


def _backward(node):
    def run():
        node.layer.backward(node.tops, node.propagate_down, node.bottoms)

    return Step("backward", f"{node.name} ({node.param.type})", run, (node.layer,))


def _add_losses(loss, node, device):
    """`loss` and the weighted tops of `node`."""
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if weight:
            loss = loss + weight * (blob.value.sum() if blob.count != 1 else blob.value.reshape(()))
            if not blob.has_grad:  # the blob has grown since it was given its weight
                blob.grad = torch.full(tuple(blob.shape), weight, device=device)
    return loss


# -- memory ----------------------------------------------------------------------------------------------------------
def free_memory(plan: Plan) -> Plan:
    """`plan` with steps that give back the memory of what no later step reads.

    TRAIN: values and gradients of a layer's tops go once its backward pass is done (outputs, loss tops and memory that
    others share stay). TEST: values go when their last reader has run.
    """
    plan, nodes = replace(plan, observer=None), plan.net.nodes
    if plan.net.phase == caffe_pb2.TEST:
        steps = plan.forward_steps
        return plan.with_steps(forward={i: (*steps[i], *_release_read(plan, i)) for i in range(len(nodes))})
    steps = plan.backward_steps
    # data and inputs that are given once have no bottoms
    released = [i for i, node in enumerate(nodes) if node.need_backward and node.bottoms]
    return plan.with_steps(backward={i: (*steps[i], *_release_done(plan, i)) for i in released})


def _release_read(plan, i):
    """After the last pass that reads them: drop the values of layer i's bottoms (blobs may share storage)."""
    net, node = plan.net, plan.net.nodes[i]
    later = [blob for other in net.nodes[i + 1 :] for blob in other.bottoms]
    dropped = {
        net.named_blobs[k].name: blob
        for k, blob in zip(node.bottom_ids, node.bottoms, strict=True)
        if k not in node.top_ids and next(other for other in net.nodes if k in other.top_ids).bottoms
    }
    kept = [one for step in plan.forward_steps[i] for one in step.kept]

    def run():
        used = {id(blob._data) for blob in (*net.learnable_params, *node.tops, *later)}
        for blob in dropped.values():
            if id(blob._data) not in used:
                blob.release_value()
        for one in kept:
            one.release()

    return _release(f"what {node.name} kept", "values", dropped, kept, run)


def _release_done(plan, i):
    """After its backward pass: drop values and gradients of layer i's tops; all their readers have run backward."""
    net, node = plan.net, plan.net.nodes[i]
    dropped = {
        net.named_blobs[k].name: blob
        for k, weight, blob in zip(node.top_ids, node.loss_weights, node.tops, strict=True)
        if k not in (*net._outputs, *node.bottom_ids) and not weight
    }
    kept = [one for step in plan.backward_steps[i] for one in step.kept]

    def run():
        used = {id(blob._data) for blob in (*net.learnable_params, *node.bottoms)}
        for blob in dropped.values():
            if id(blob._data) not in used:
                blob.release_value()
                blob.clear_grad()
        for one in kept:
            one.release()

    return _release(f"what {node.name} kept", "values and gradients", dropped, kept, run)


def _release(kept_text, what, dropped, kept, run):
    """(the step,), or () where there is nothing to give back. Blobs may share storage: run() looks at that."""
    texts = [f"{what} of {', '.join(dropped)}"] if dropped else []
    texts += [kept_text] if kept else []
    return (Step("release", ", ".join(texts), run),) if texts else ()
