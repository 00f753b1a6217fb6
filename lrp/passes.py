"""The ways through a network: up with values, and down with relevance or gradients, which is one traversal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lrp import propagation
from lrp.errors import LRPError
from lrp.layer import Above, Arrays, Ties
from lrp.propagation import Denominators
from lrp.rules import Rule
from lrp.structure import Node, Structure

# (node, inputs, outputs, what comes down from the tops) -> what goes down to the bottoms
Step = Callable[[Node, Arrays, Arrays, Above], Arrays]


def forward(
    structure: Structure, x: np.ndarray, rules: Mapping[str, Rule] | None = None
) -> tuple[dict[int, np.ndarray], dict[int, Denominators]]:
    """Values of all blobs, {number: array}, for a batch x, and the denominators {blob number: `Denominators`}.

    rules: {layer name: rule} of the linear layers, or None where no relevance will be asked for.
    """
    values, denominators = {structure.input: x}, {}
    for node in structure.nodes:
        layer, inputs = node.layer, [values[bottom] for bottom in node.bottoms]
        if layer.linear:
            top = node.tops[0]
            values[top], kept = propagation.forward(layer, layer.join(inputs), rules and rules[layer.name])
            if kept is not None:
                denominators[top] = kept
        else:
            values.update(zip(node.tops, layer.forward(inputs, structure.may_overwrite(node)), strict=True))
    return values, denominators


def backward(structure: Structure, values: Mapping[int, np.ndarray], start: np.ndarray, step: Step) -> np.ndarray:
    """What arrives at the input when `start`, of the scores' shape, is carried down.

    values: of all blobs. step(node, inputs, outputs, above) -> below carries it through one layer: lists of arrays, one
    per bottom and top; in `above` None stands for a top that the scores do not depend on.
    """
    arrived = {structure.output: start}
    for node in reversed(structure.nodes):
        above = [arrived.pop(top, None) for top in node.tops]
        if all(one is None for one in above):
            continue
        inputs, outputs = [values[bottom] for bottom in node.bottoms], [values[top] for top in node.tops]
        below = step(node, inputs, outputs, above)
        if len(below) != len(node.bottoms):
            raise LRPError(node.layer.where, f"{len(below)} bottoms", len(node.bottoms))
        for bottom, one in zip(node.bottoms, below, strict=True):
            arrived[bottom] = one if bottom not in arrived else arrived[bottom] + one
    return arrived[structure.input]


def gradient(structure: Structure, values: Mapping[int, np.ndarray], start: np.ndarray, relu: str) -> np.ndarray:
    """Gradient of the input, where `start` is that of the scores. relu: one of `lrp.elementwise.RELU_WAYS`."""
    return backward(
        structure,
        values,
        start,
        lambda node, inputs, outputs, above: node.layer.modified_gradient(inputs, outputs, above, relu),
    )


def relevance(
    structure: Structure,
    values: Mapping[int, np.ndarray],
    start: np.ndarray,
    rules: Mapping[str, Rule],
    denominators: dict[int, Denominators],
    ties: Ties = "share",
    by_layer: dict[str, np.ndarray] | None = None,
    absorbed: dict[str, dict[str, np.ndarray]] | None = None,
) -> np.ndarray:
    """Relevance of the input, where `start` is that of the scores; `denominators` is used up.

    ties: whether tied maxima "share", or the "first" takes all.
    by_layer, absorbed: dicts that receive what `Explanation.layers` and `Explanation.absorbed` hold, or None.
    """

    def step(node: Node, inputs: Arrays, outputs: Arrays, above: Above) -> Arrays:
        layer = node.layer
        if by_layer is not None:
            for top, one in zip(node.tops, above, strict=True):
                if one is not None:
                    name = layer.name if len(node.tops) == 1 else f"{layer.name}:{structure.names[top]}"
                    by_layer[name] = one
        if not layer.linear:
            return layer.relevance_of_ties(inputs, outputs, above, ties)
        account = None if absorbed is None else absorbed.setdefault(layer.name, {})
        kept = denominators.pop(node.tops[0])
        below = propagation.backward(layer, layer.join(inputs), above[0], rules[layer.name], kept, account)
        return layer.part(below)

    return backward(structure, values, start, step)
