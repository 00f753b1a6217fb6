"""The structure of a net: splits, shapes, gradients, shared parameters (docs/engine.md section 1).

The result is made of frozen records: one Node a layer, one NamedBlob a blob, one Parameter a parameter blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from google.protobuf import text_format

from caffe import glog
from caffe.blob import Blob
from caffe.context import Context
from caffe.errors import check
from caffe.layer import Layer
from caffe.layer_factory import make_layer
from caffe_proto import caffe_pb2, filter_net
from caffe_proto.memory import check_memory

VIEWS = ("Split", "Reshape", "Flatten")  # whose tops share the memory of their bottom


@dataclass(frozen=True, eq=False)
class Node:
    """One layer of a net and what it is connected to; ids are indices into the net's blobs."""

    layer: Layer
    param: caffe_pb2.LayerParameter  # as the prototxt has it; the layer may complete a copy of its own
    bottom_ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    bottoms: list[Blob]
    tops: list[Blob]
    loss_weights: tuple[float, ...]  # one number per top
    need_backward: bool
    propagate_down: list[bool]  # per bottom: is its gradient wanted?

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.param.name

    def to(self, device: torch.device) -> None:
        """Move all that the layer reads and writes to torch.device `device`."""
        for blob in (*self.bottoms, *self.tops, *self.layer.blobs):
            blob.to(device)


@dataclass(frozen=True, eq=False)
class NamedBlob:
    """A blob of a net; the last layer that has it as a top decides on its loss weight."""

    name: str
    blob: Blob
    loss_weight: float


@dataclass(frozen=True, eq=False)
class Parameter:
    """Parameter blob `index` of node number `node`; lr_mult and decay_mult count for owners only."""

    blob: Blob
    node: int
    index: int
    owner: int | None  # which parameter of the net it shares its memory with, None: its own
    lr_mult: float
    decay_mult: float


@dataclass(frozen=True)
class Structure:
    """What a net is made of: nodes and blobs in order; inputs and outputs are indices of blobs."""

    nodes: tuple[Node, ...]
    blobs: tuple[NamedBlob, ...]
    parameters: tuple[Parameter, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Draft:
    """A record that is not finished: the fields as attributes, and `need_backward` of blobs while it is worked out."""

    def __init__(self, **fields: Any):
        self.__dict__.update(fields)

    def freeze(self, record: type) -> Any:
        """The finished `record` (a dataclass)."""
        return record(**{field: getattr(self, field) for field in record.__dataclass_fields__})


def read_structure(param: caffe_pb2.NetParameter, context: Context) -> tuple[caffe_pb2.NetParameter, Structure]:
    """(NetParameter with its splits, Structure) of NetParameter `param`, whose state says phase, level and stages.

    Blobs and layers compute in `context`.
    """
    phase = param.state.phase
    param = filter_net(param, glog.info)
    context.say("Initializing net from parameters: \n" + text_format.MessageToString(param))
    param = insert_splits(param)
    return param, Builder(phase, context).build(param)


# -- splits ----------------------------------------------------------------------------------------------------------
def insert_splits(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """The NetParameter with a Split layer after every blob that is used more than once."""
    producer = {}  # blob name -> (layer index, top index) of its latest production
    uses = {}  # (layer index, top index) -> number of bottoms that read it
    source = {}  # (layer index, bottom index) -> (layer index, top index)
    for i, layer in enumerate(param.layer):
        for j, name in enumerate(layer.bottom):
            check(name in producer, f"Unknown bottom blob '{name}' (layer '{layer.name}', bottom index {j})")
            source[i, j] = producer[name]
            uses[producer[name]] = uses.get(producer[name], 0) + 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
    weight = {
        (i, j): w for i, layer in enumerate(param.layer) for j, w in enumerate(layer.loss_weight[: len(layer.top)]) if w
    }
    for top in weight:
        if top in uses:
            uses[top] += 1
    result = caffe_pb2.NetParameter()
    result.CopyFrom(param)
    del result.layer[:]
    taken = {top: 1 if top in weight else 0 for top in uses}

    def split_blob(top, k):
        i, j = top
        return f"{split_name(top)}_{k}", param.layer[i].top[j]

    def split_name(top):
        i, j = top
        return f"{param.layer[i].top[j]}_{param.layer[i].name}_{j}_split"

    for i, layer in enumerate(param.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        for j in range(len(layer.bottom)):
            top = source[i, j]
            if uses[top] > 1:
                copy.bottom[j] = split_blob(top, taken[top])[0]
                taken[top] += 1
        for j, name in enumerate(layer.top):
            if uses.get((i, j), 0) > 1:
                split = result.layer.add(name=split_name((i, j)), type="Split", bottom=[name])
                split.top.extend(split_blob((i, j), k)[0] for k in range(uses[i, j]))
                if (i, j) in weight:
                    split.loss_weight.extend([weight[i, j]] + [0.0] * (uses[i, j] - 1))
                    del copy.loss_weight[:]
    return result


# -- layers ----------------------------------------------------------------------------------------------------------
class Builder:
    """Builds a structure layer by layer, as Caffe does and logs it."""

    def __init__(self, phase: int, context: Context):
        self.phase, self.context = phase, context
        self.nodes, self.blobs, self.parameters = [], [], []  # Drafts
        self.inputs = []
        self.available, self.named = {}, {}  # blob name -> index: not read yet; of all
        self.owners = {}  # parameter name -> index of the parameter that owns it
        self.memory = self.own_memory = 0  # bytes of all tops; of all blobs that are no other in another shape

    def build(self, param: caffe_pb2.NetParameter) -> Structure:
        """The Structure of NetParameter `param`, filtered and split; raises CaffeError for what does not fit."""
        for layer_param in param.layer:
            self._add(layer_param)
        self._decide_backward(param.force_backward)
        outputs = sorted(self.available.values(), key=lambda index: self.blobs[index].name.encode())
        for index in outputs:
            self.context.say(f"This network produces output {self.blobs[index].name}")
        self.context.say("Network initialization done.")
        return Structure(
            tuple(node.freeze(Node) for node in self.nodes),
            tuple(blob.freeze(NamedBlob) for blob in self.blobs),
            tuple(parameter.freeze(Parameter) for parameter in self.parameters),
            tuple(self.inputs),
            tuple(outputs),
        )

    def _add(self, layer_param):
        if not layer_param.HasField("phase"):
            layer_param.phase = self.phase
        if layer_param.propagate_down:
            check(
                len(layer_param.propagate_down) == len(layer_param.bottom),
                f"layer '{layer_param.name}': propagate_down param must be specified either 0 or bottom_size times",
            )
        own = caffe_pb2.LayerParameter()
        own.CopyFrom(layer_param)  # a layer may complete its own copy (BatchNorm does); flags go by the original
        layer = make_layer(own, layer_param.phase, self.context)
        self.context.say(f"Creating Layer {layer_param.name}")
        node = Draft(layer=layer, param=layer_param)
        self._connect_bottoms(node)
        self._connect_tops(node)
        self._set_up(node)
        self._add_parameters(node)
        self.nodes.append(node)

    def _connect_bottoms(self, node):
        param, ids = node.param, []
        for j, name in enumerate(param.bottom):
            check(name in self.available, f"Unknown bottom blob '{name}' (layer '{param.name}', bottom index {j})")
            self.context.say(f"{param.name} <- {name}")
            ids.append(self.available.pop(name))
        node.bottom_ids, node.bottoms = tuple(ids), [self.blobs[k].blob for k in ids]
        node.propagate_down = list(param.propagate_down) or [self.blobs[k].need_backward for k in ids]

    def _connect_tops(self, node):
        param, layer, ids = node.param, node.layer, []
        for j, name in enumerate(param.top):
            if j < len(param.bottom) and param.bottom[j] == name:
                self.context.say(f"{param.name} -> {name} (in-place)")
                check(
                    layer.in_place,
                    f"{layer.where}: top '{name}' is also its bottom; Layer does not allow in-place computation.",
                )
                index = node.bottom_ids[j]
            else:
                check(name not in self.named, f"Top blob '{name}' produced by multiple sources. (layer '{param.name}')")
                self.context.say(f"{param.name} -> {name}")
                index = self.named[name] = self._new_blob(name)
            if param.type == "Input":
                self.inputs.append(index)
            self.available[name] = index
            ids.append(index)
        if layer.is_loss:
            while len(ids) < max(layer.tops[0], 1):
                self.context.say(f"{param.name} -> (automatic)")
                ids.append(self._new_blob("(automatic)"))
        node.top_ids, node.tops = tuple(ids), [self.blobs[k].blob for k in ids]

    def _new_blob(self, name):
        self.blobs.append(Draft(name=name, blob=Blob((), self.context.device), loss_weight=0.0, need_backward=False))
        return len(self.blobs) - 1

    def _set_up(self, node):
        layer, param = node.layer, node.param
        self.context.say(f"Setting up {param.name}")
        for blobs, (least, most), verb, side in (
            (node.bottoms, layer.bottoms, "takes", "bottom blob(s) as input"),
            (node.tops, layer.tops, "produces", "top blob(s) as output"),
        ):
            right = least if least == most else f"at least {least}" if len(blobs) < least else f"at most {most}"
            words = f"layer '{param.name}': {param.type} Layer {verb} {right} {side}"
            check(least <= len(blobs) and (most is None or len(blobs) <= most), words, right, len(blobs))
        layer.memory_before = self.own_memory
        layer.setup(node.bottoms, node.tops)
        layer.param_propagate_down = [True] * len(layer.blobs)
        layer.reshape(node.bottoms, node.tops)
        given = list(param.loss_weight) or ([1.0] if layer.is_loss else [])
        check(
            len(given) in (0, len(node.tops)),
            f"layer '{param.name}': loss_weight must be unspecified or specified once per top blob",
            f"{len(node.tops)} of them",
            f"{len(given)} (a loss layer that names none has one, 1)",
        )
        node.loss_weights = tuple(given) or (0.0,) * len(node.tops)
        for k, weight, blob in zip(node.top_ids, node.loss_weights, node.tops, strict=True):
            self.blobs[k].loss_weight = weight
            if weight:
                blob.grad = torch.full(tuple(blob.shape), weight, device=self.context.device)
            self.context.say(f"Top shape: {blob.shape_string}")
            if weight:
                self.context.say(f"    with loss weight {glog.g(weight)}")
            check_memory(4 * blob.count, f"layer '{param.name}' ({param.type})", "a top")
            self.memory += 4 * blob.count
            if self.context.device.type == "cpu" and k not in node.bottom_ids and param.type not in VIEWS:
                self.own_memory += 4 * blob.count
                check_memory(self.own_memory, f"layer '{param.name}' ({param.type})", "all blobs so far")
        self.context.say(f"Memory required for data: {self.memory}")

    # -- parameters ----------------------------------------------------------------------------------------------
    def _add_parameters(self, node):
        param, layer = node.param, node.layer
        check(
            len(param.param) <= len(layer.blobs),
            f"Too many params specified for layer {param.name}",
            f"at most {len(layer.blobs)}, one for each parameter blob",
            len(param.param),
        )
        node.need_backward = any(self.blobs[k].need_backward for k in node.bottom_ids)
        for j, blob in enumerate(layer.blobs):
            asked, spec = (
                p.param[j] if j < len(p.param) else caffe_pb2.ParamSpec() for p in (param, layer.layer_param)
            )
            layer.param_propagate_down[j] = asked.lr_mult != 0
            node.need_backward |= asked.lr_mult != 0
            self._add_parameter(node, j, blob, spec)
        for k in node.top_ids:
            self.blobs[k].need_backward |= node.need_backward

    def _add_parameter(self, node, j, blob, spec):
        owner = self.owners.get(spec.name) if spec.name else None
        parameter = Draft(blob=blob, node=len(self.nodes), index=j, owner=owner)
        parameter.lr_mult, parameter.decay_mult = spec.lr_mult, spec.decay_mult
        if owner is not None:
            self._share(parameter, self.parameters[owner], node, spec)
        else:
            if spec.name:
                self.owners[spec.name] = len(self.parameters)
            self.own_memory += 4 * blob.count if self.context.device.type == "cpu" else 0
            parameter.given = {field for field in ("lr_mult", "decay_mult") if spec.HasField(field)}
        self.parameters.append(parameter)

    def _share(self, parameter, owner, node, spec):
        owner_name = self.nodes[owner.node].param.name if owner.node < len(self.nodes) else node.param.name
        names = f"Cannot share param '{spec.name}' owned by layer '{owner_name}' with layer '{node.param.name}'"
        self.context.say(f"Sharing parameters '{spec.name}' owned by layer '{owner_name}', param index {owner.index}")
        mine, theirs = parameter.blob, owner.blob
        if spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE:
            check(
                theirs.count == mine.count,
                f"{names}; count mismatch. Owner layer param shape is "
                f"{theirs.shape_string}; sharing layer shape is {mine.shape_string}",
            )
        else:
            check(
                theirs.shape == mine.shape,
                f"{names}; shape mismatch. Owner layer param shape is "
                f"{theirs.shape_string}; sharing layer expects shape {mine.shape_string}",
            )
        mine.alias(theirs)
        for field in ("lr_mult", "decay_mult"):
            if spec.HasField(field):
                value = getattr(spec, field)
                check(
                    field not in owner.given or getattr(owner, field) == value,
                    f"Shared param '{spec.name}' has mismatched {field}.",
                )
                owner.given.add(field)
                setattr(owner, field, value)

    # -- gradients -----------------------------------------------------------------------------------------------
    def _decide_backward(self, force):
        """Switch off the backward passes that no loss depends on, and those whose gradient nobody wants."""
        under_loss, skipped = set(), set()
        for node in reversed(self.nodes):
            names = [self.blobs[k].name for k in node.top_ids]
            contributes = any(node.loss_weights) or any(name in under_loss for name in names)
            if not contributes or all(name in skipped for name in names):
                node.need_backward = False
                node.propagate_down = [False] * len(node.bottom_ids)
            self.context.say(
                f"{node.param.name} {'needs' if node.need_backward else 'does not need'} backward computation."
            )
            for k, need in zip(node.bottom_ids, node.propagate_down, strict=True):
                name = self.blobs[k].name
                if contributes:
                    under_loss.add(name)
                if not need:
                    skipped.add(name)
        if force:
            for node in self.nodes:
                node.need_backward = True
                for j in range(len(node.bottom_ids)):
                    if j not in node.layer.no_gradient_to:
                        node.propagate_down[j] = True
                node.layer.param_propagate_down = [True] * len(node.layer.blobs)
