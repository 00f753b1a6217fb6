"""Do an export and the engine compute the same?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from caffe.errors import CaffeError
from caffe.export.source import Source
from caffe.net import Net

TOLERANCE = 1e-5  # of the largest value of a blob
SEED = 0
Run = Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]


def draw_inputs(source: Source) -> dict[str, np.ndarray]:
    """{argument: float32 array}, normally distributed, or integers where a layer wants these; seeded."""
    rng = np.random.default_rng(SEED)
    return {
        name: (rng.integers(source.below[name], size=shape) if name in source.below else rng.normal(size=shape)).astype(
            np.float32
        )
        for name, shape in source.inputs.items()
    }


def engine_blobs(net: Net, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{blob: what the engine makes of the inputs}, with states of zero before (those of the net stay as they are)."""
    states = {name: position["states"] for name, position in net.positions().items()}
    net.restore_positions({name: {"states": [np.zeros_like(one) for one in own]} for name, own in states.items()})
    for index, array in zip(net._inputs, inputs.values(), strict=True):
        net.named_blobs[index].blob.value = torch.from_numpy(array.copy()).to(net.context.device)
    with torch.no_grad():
        net.forward_tensors()
    net.restore_positions({name: {"states": own} for name, own in states.items()})
    return {one.name: one.blob.value.cpu().numpy() for one in net.named_blobs}


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a share of the largest value that is wanted; infinite for other shapes or NaN."""
    if found.shape != wanted.shape or (np.isfinite(found) != np.isfinite(wanted)).any():
        return np.inf
    at = np.isfinite(wanted)
    if not np.array_equal(found[~at], wanted[~at], equal_nan=True):
        return np.inf
    gap, size = np.abs(found[at] - wanted[at]).max(initial=0), np.abs(wanted[at]).max(initial=0)
    return float(gap / size) if size else float(gap)


def prove(net: Net, source: Source, whole: Run, exported: Run, path: str) -> float:
    """The largest difference between the engine and what was exported, on drawn inputs.

    whole computes all blobs of the source, exported its outputs. Raises CaffeError, which names `path` and the first
    blob, where a difference is above TOLERANCE.
    """
    inputs = draw_inputs(source)
    wanted = engine_blobs(net, inputs)
    worst = 0.0
    for blobs, run in ((source.blobs, whole), (source.outputs, exported)):
        for name, found in zip(blobs, run(inputs), strict=True):
            gap = difference(np.asarray(found), wanted[name])
            if not gap <= TOLERANCE:
                raise CaffeError(
                    f"{path}: blob '{name}'", f"the engine's values within {TOLERANCE:g} of the largest",
                    f"a difference of {gap:.2g} (nothing was written)",
                )  # fmt: skip
            worst = max(worst, gap)
    return worst
