"""What a network consists of: its layers in order, and the blobs between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import lrp.elementwise
import lrp.linear
import lrp.pooling
import lrp.shaping  # noqa: F401 (importing these modules registers their layer types)
from caffe_proto import caffe_pb2, filter_net, net_state
from lrp.errors import LRPError
from lrp.layer import Blobs, Layer, Linear, Shape, read_layer
from lrp.shaping import Head

DATA_TYPES = ("Input", "HDF5Data", "Data", "MemoryData", "ImageData", "WindowData", "DummyData")
NO_SCORES = ("Accuracy", "ArgMax", "Silence")  # heads whose bottom need not be the scores


@dataclass
class Node:
    """A layer in its place: blobs are numbered in the order of their making (in-place layers make new ones too)."""

    layer: Layer
    bottoms: list[int]
    tops: list[int]


@dataclass
class Structure:
    """The layers between the input and the scores.

    nodes: list of `Node`, bottom to top. names: {blob number: name}. input, output: numbers of the blobs that hold the
    input and the scores. declared: the input's shape in the prototxt, batch axis included, or None. where: the
    beginning of errors.
    """

    nodes: list[Node]
    names: dict[int, str]
    input: int
    output: int
    declared: Shape | None
    where: str

    def readers(self, number: int) -> list[Node]:
        """The nodes that read a blob."""
        return [node for node in self.nodes if number in node.bottoms]

    def maker(self, number: int) -> Node | None:
        """The node that makes a blob; None for the input."""
        return next((node for node in self.nodes if number in node.tops), None)

    def only_read_by_one(self, number: int) -> bool:
        """Whether nobody but one layer needs a blob's values."""
        return number != self.output and len(self.readers(number)) == 1

    def drop(self, node: Node) -> None:
        """Take a layer with one bottom and one top out; who read its top reads its bottom."""
        top, bottom = node.tops[0], node.bottoms[0]
        self.nodes.remove(node)
        for other in self.nodes:
            other.bottoms = [bottom if number == top else number for number in other.bottoms]
        if self.output == top:
            self.output = bottom

    def may_overwrite(self, node: Node) -> bool:
        """Whether a layer that can work in place may: its input is a linear layer's output that nobody else reads."""
        bottom = node.bottoms[0]
        maker = self.maker(bottom) if node.layer.overwrites else None
        return maker is not None and maker.layer.linear and self.only_read_by_one(bottom)

    def shapes(self, shape: Shape) -> dict[int, Shape]:
        """{blob number: shape} for an input of that shape; raises LRPError where layers do not fit together."""
        shapes = {self.input: tuple(shape)}
        for node in self.nodes:
            for bottom in node.bottoms:
                if bottom not in shapes:
                    raise LRPError(node.layer.where, "bottoms that the input gives", f"'{self.names[bottom]}'")
            tops = node.layer.output_shapes([shapes[bottom] for bottom in node.bottoms])
            if len(tops) != len(node.tops):
                got = f"{len(node.tops)} for {len(node.bottoms)} bottoms"
                raise LRPError(node.layer.where, f"{len(tops)} tops", got)
            shapes.update(zip(node.tops, map(tuple, tops), strict=True))
        return shapes

    def channels(self, number: int) -> int | None:
        """Size of axis 1 of a blob, where the input's shape is declared, else None."""
        if self.declared is None:
            return None
        shape = self.shapes((1, *self.declared[1:]))[number]
        return shape[1] if len(shape) > 1 else None

    def values(self, shape: Shape) -> int:
        """Number of values in all blobs of one item of a batch of `shape`."""
        return sum(math.prod(one) for one in self.shapes((1, *shape[1:])).values())

    def linear_layers(self) -> list[tuple[Linear, bool]]:
        """[(layer, whether no other linear layer comes before it)], bottom to top."""
        reached, found = set(), []  # blobs that some linear layer comes before
        for node in self.nodes:
            below = any(bottom in reached for bottom in node.bottoms)
            if node.layer.linear:
                found.append((node.layer, not below))
            if below or node.layer.linear:
                reached.update(node.tops)
        return found


def _blobs(
    param: caffe_pb2.LayerParameter, blobs: Mapping[str, Blobs], owners: dict[str, np.ndarray]
) -> list[np.ndarray | None]:
    """The layer's weights; blobs that an HDF5 file leaves out because they are shared come from their owner."""
    own = list(blobs.get(param.name, []))
    for index, spec in enumerate(param.param):
        if not spec.name:
            continue
        if index < len(own) and own[index] is not None:
            owners.setdefault(spec.name, own[index])
        elif spec.name in owners:
            own += [None] * (index + 1 - len(own))
            own[index] = owners[spec.name]
    return own


def read_structure(
    net: caffe_pb2.NetParameter, blobs: Mapping[str, Blobs], where: str, output: str | None = None
) -> Structure:
    """The `Structure` of a NetParameter in its TEST phase.

    blobs: {layer name: [arrays]}. where: the beginning of errors. output: name of the blob with the scores; default:
    what the first Softmax or loss layer reads, or the last blob. What the scores do not depend on is left out. Raises
    LRPError.
    """
    current, names, nodes, leaves, owners = {}, {}, [], {}, {}
    head = None

    def make(top: str) -> int:
        number = len(names)
        names[number], current[top] = top, number
        return number

    for param in filter_net(net_state(net, caffe_pb2.TEST)).layer:
        place = f"{where}: layer {param.name}"
        if param.type in DATA_TYPES:
            shapes = [tuple(shape.dim) for shape in param.input_param.shape] if param.type == "Input" else []
            for index, top in enumerate(param.top):
                leaves[make(top)] = shapes[min(index, len(shapes) - 1)] if shapes else None
            continue
        for bottom in param.bottom:
            if bottom not in current:
                raise LRPError(place, "bottoms that an earlier layer makes", repr(bottom))
        layer = read_layer(param, _blobs(param, blobs, owners), place)
        bottoms = [current[bottom] for bottom in param.bottom]
        if isinstance(layer, Head):
            if head is None and param.type not in NO_SCORES and bottoms:
                head = bottoms[0]
            continue
        nodes.append(Node(layer, bottoms, [make(top) for top in param.top]))
    if not nodes:
        raise LRPError(where, "a network", "no layers that compute scores")
    if output is not None:
        if output not in current:
            raise LRPError(where, f"an output out of {', '.join(current)}", repr(output))
        head = current[output]
    scores = nodes[-1].tops[0] if head is None else head
    needed = {scores}
    for node in reversed(nodes):
        if needed.intersection(node.tops):
            needed.update(node.bottoms)
    used = [number for number in leaves if number in needed]
    if len(used) != 1:
        found = ", ".join(names[number] for number in used) or "none"
        raise LRPError(where, "exactly one input before the scores", found)
    nodes = [node for node in nodes if needed.intersection(node.tops)]
    return Structure(nodes, names, used[0], scores, leaves[used[0]], where)
