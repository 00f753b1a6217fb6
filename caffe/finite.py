"""Training stops where numbers are no longer finite: checks of losses, outputs, parameters and history.

Each raises CaffeError, whose text says which number it is, in which iteration, and what became of the snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caffe import glog
from caffe.blob import Blob
from caffe.errors import CaffeError, check
from caffe.net import Net
from caffe.plan import Plan


def check_loss(iteration: int, loss: float, net: Net, replayed: bool) -> None:
    """Check the training loss; a plain iteration also names the first blob that is not finite.

    replayed: the iteration was done by a graph, and its update has been made already.
    """
    if np.isfinite(loss):
        return
    after = (
        "(no snapshot was written since; earlier ones are untouched). Look at learning rate and input data; "
        "CAFFE_CUDA_GRAPH=0 names the first blob that is not finite."
        if replayed
        else "(weights were not updated and no snapshot was written; earlier snapshots are untouched). "
        + first_not_finite(net)
    )
    raise CaffeError(f"Iteration {iteration}", "a finite training loss", f"{glog.g(loss)} {after}")


def first_not_finite(net: Net) -> str:
    """A sentence that names the first parameter or blob that is not finite, from another forward pass over the same
    data."""
    plan = Plan.of(net)
    for i, node in enumerate(net.nodes):
        for k, param in enumerate(node.layer.blobs):
            if not bool(torch.isfinite(param.value).all()):
                return (
                    f"The first numbers that are not finite are in param {k} of layer '{node.name}': look at its "
                    "filler, its gradient (debug_info shows it) and the learning rate."
                )
        if node.bottoms:
            plan.forward(i, i)
        for k, blob in zip(node.top_ids, node.tops, strict=True):
            if not bool(torch.isfinite(blob.value).all()):
                return (
                    f"The first blob that is not finite is '{net.named_blobs[k].name}' of layer "
                    f"'{node.name}': look at the learning rate and the input data."
                )
    return "All blobs are finite: look at the loss weights."


def check_weights(iteration: int, net: Net, history: Sequence[Blob] = ()) -> None:
    """Check the parameters of `net` and the history blobs, and name the first that is not finite.

    The loss alone does not show them: a ReLU that oneDNN does as it writes a convolution makes NaN 0 (caffe.fusion).
    """
    blobs = {
        f"param {one.index} of layer '{net.nodes[one.node].name}'": one.blob
        for one in net.parameters
        if one.owner is None
    }
    blobs |= {f"history blob {k}": blob for k, blob in enumerate(history)}
    for blob in blobs.values():
        blob.to(net.context.device)  # a user may have looked at some of them
    # a sum shows each of them at a fraction of the cost; finite numbers may overflow it, so that we look again
    if not blobs or bool(torch.stack([blob.value.sum() for blob in blobs.values()]).isfinite().all()):
        return
    for name, blob in blobs.items():
        wrong = blob.count - int(blob.value.isfinite().sum())
        check(
            not wrong,
            f"Iteration {iteration}",
            f"finite numbers in {name}",
            f"{wrong} of {blob.count} that are NaN or infinite; no snapshot was written (earlier ones are untouched): "
            "look at learning rate and data",
        )


def check_output(iteration: int, name: str, values: float | np.ndarray) -> None:
    """Check one number, or the numbers of an output, which the message calls `name`."""
    for value in np.ravel(values):
        check(
            np.isfinite(value),
            f"Iteration {iteration}",
            f"a finite number as {name}",
            f"{glog.g(value)} (earlier snapshots are untouched): look at learning rate and data",
        )


def check_scores(iteration: int, kind: str, scores: list[tuple[str, float, np.ndarray]]) -> None:
    """Check the outputs [(name, weight, values)] of the net of this kind (Train, Test)."""
    for name, _, values in scores:
        check_output(iteration, f"{kind.lower()} net output {name}", values)
