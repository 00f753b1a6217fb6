"""A net: its structure, its passes, its weights (docs/engine.md section 1)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from caffe.build import read_structure
from caffe.context import Context
from caffe.errors import check
from caffe.layer import load_blob, save_layer
from caffe.observer import Observer
from caffe.plan import Plan
from caffe_proto import CaffeFileError, atomic_hdf5, caffe_pb2, read_weights, write_message


class LayerVec(list):
    """The layers of a net in execution order."""


class Net:
    """A net built from a NetParameter whose `state` says phase, level and stages.

    context: the caffe.context.Context that it computes in. debug_info() is asked in every pass whether it logs the mean
    size of all that it reads and writes (None, and no such function: as the NetParameter says).
    The structure does not change: `nodes` (caffe.build.Node, one a layer in the order of execution), `named_blobs`
    (NamedBlob), `parameters` (Parameter), `_inputs` and `_outputs` (indices of blobs).
    """

    def __init__(
        self,
        param: caffe_pb2.NetParameter,
        context: Context,
        debug_info: Callable[[], bool | None] | None = None,
    ):
        self._build(param, context, debug_info)

    @classmethod
    def from_param(
        cls,
        param: caffe_pb2.NetParameter,
        context: Context,
        debug_info: Callable[[], bool | None] | None = None,
    ) -> Net:
        """A net from a NetParameter whose state is set (solvers build their nets so)."""
        return cls(param, context, debug_info)

    def _build(self, param, context, debug_info=None):
        self.context = context
        self.phase = param.state.phase
        self.param, structure = read_structure(param, context)
        self.name = self.param.name
        self.nodes, self.named_blobs, self.parameters = structure.nodes, structure.blobs, structure.parameters
        self._inputs, self._outputs = list(structure.inputs), list(structure.outputs)
        self.layers = LayerVec(node.layer for node in self.nodes)
        # what the loops ask for in every pass
        owners = [one for one in self.parameters if one.owner is None]
        self.learnable_params = [one.blob for one in owners]
        self.lr_mults, self.decay_mults = [one.lr_mult for one in owners], [one.decay_mult for one in owners]
        own = self.param.debug_info

        def shows_blobs():  # knows not the net, which would otherwise live until it is found
            asked = None if debug_info is None else debug_info()
            return own if asked is None else asked

        self.observer = Observer(self.nodes, self.named_blobs, self.learnable_params, shows_blobs)

    @property
    def debug_info(self) -> bool:
        """True: every pass logs the mean size of what it reads and writes."""
        return self.observer.debug_info()

    # -- the structure as lists, as pycaffe shows it -------------------------------------------------------------
    @property
    def _layer_names(self):
        return [node.name for node in self.nodes]

    @property
    def _blob_names(self):
        return [one.name for one in self.named_blobs]

    @property
    def _blobs(self):
        return [one.blob for one in self.named_blobs]

    @property
    def _blob_loss_weights(self):
        return [one.loss_weight for one in self.named_blobs]

    # -- running: the plain plan, with callbacks and debug_info --------------------------------------------------
    @property
    def plan(self) -> Plan:
        """The plain Plan of this net, made anew: a plan knows its net, which would otherwise live until it is found."""
        return Plan.of(self, self.observer)

    def forward_from_to(self, start: int, end: int) -> float:
        """Run layers start..end (indices, inclusive); returns the weighted loss of those layers (a float)."""
        return float(self.plan.forward(start, end))

    def forward_tensors(self, start: int = 0, end: int | None = None) -> torch.Tensor | float:
        """As forward_from_to, but the loss stays a 0-d tensor (or 0.0), so that nothing waits for the device."""
        return self.plan.forward(start, end)

    def backward_from_to(self, start: int, end: int) -> None:
        """Run the backward passes of layers start down to end (indices, inclusive) that need one."""
        self.plan.backward(start, end)

    def run_backward(self) -> None:
        """The whole backward pass, with the debug summary that Caffe prints after it."""
        self.plan.run_backward()

    def reshape(self) -> None:
        """Run every layer's shape inference again (after input blobs were reshaped)."""
        for node in self.nodes:
            node.layer.reshape(node.bottoms, node.tops)

    def clear_param_diffs(self) -> None:
        """Zero the gradients of all learnable parameters."""
        for blob in self.learnable_params:
            blob.clear_grad()

    # -- outputs -------------------------------------------------------------------------------------------------
    def output_scores(self) -> list[tuple[str, float, np.ndarray]]:
        """[(blob name, loss weight, float array of its elements)] of the outputs, in Caffe's order."""
        outputs = [self.named_blobs[k] for k in self._outputs]
        return [(one.name, one.loss_weight, one.blob.value.reshape(-1).cpu().double().numpy()) for one in outputs]

    # -- weights -------------------------------------------------------------------------------------------------
    def copy_from(self, path: str | os.PathLike) -> None:
        """Load weights by layer name from a .caffemodel (binary or HDF5); unknown layers are logged and ignored."""
        path = os.fspath(path)
        weights = read_weights(path)
        index = {name: i for i, name in enumerate(self._layer_names)}
        used = 0
        for name, arrays in weights.items():
            if name not in index:
                self.context.say(f"Ignoring source layer {name}")
                continue
            blobs = self.layers[index[name]].blobs
            shared = {one.index for one in self.parameters if one.node == index[name] and one.owner is not None}
            absent = {j for j in range(len(blobs)) if j >= len(arrays) or arrays[j] is None}
            check(
                len(arrays) <= len(blobs) and absent <= shared,
                f"{path}: Incompatible number of blobs for layer {name}",
                len(blobs),
                len(arrays),
            )
            for j, array in enumerate(arrays):
                if j in absent:
                    continue
                load_blob(
                    blobs[j],
                    array,
                    f"{path}: Cannot copy param {j} weights from layer '{name}'; shape mismatch."
                    " To learn this layer's parameters from scratch rather than copying from a "
                    "saved net, rename the layer.",
                )
                used += 1
        wanted = sum(1 for layer in self.layers if len(layer.blobs))
        check(
            used or not wanted or not any(arrays for arrays in weights.values()),
            path,
            f"weights of layers of net '{self.name}', of "
            f"{[n for n, la in zip(self._layer_names, self.layers, strict=True) if len(la.blobs)]}",
            f"{sorted(n for n, a in weights.items() if a)} alone",
        )

    def load_hdf5(self, path: str | os.PathLike) -> None:
        """Load weights from an HDF5 file (see copy_from)."""
        self.copy_from(path)

    def to_proto(self, with_diff: bool = False) -> caffe_pb2.NetParameter:
        """The net as a NetParameter with parameter blobs, as .caffemodel files hold it."""
        result = caffe_pb2.NetParameter(name=self.name)
        for layer in self.layers:
            result.layer.append(save_layer(layer, with_diff))
        return result

    def save(self, path: str | os.PathLike, with_diff: bool = False) -> None:
        """Write the weights as a binary .caffemodel, atomically."""
        write_message(os.fspath(path), self.to_proto(with_diff))

    def save_hdf5(self, path: str | os.PathLike, with_diff: bool = False) -> None:
        """Write the weights as HDF5, `/data/<layer>/<index>` (and `/diff/...`), atomically."""
        for name in self._layer_names:
            if "/" in name:
                raise CaffeFileError(path, "layer names without '/', which HDF5 weights cannot hold", f"'{name}'")
        owners = {(one.node, one.index): one.owner for one in self.parameters}
        with atomic_hdf5(path) as stream:
            for i, (name, layer) in enumerate(zip(self._layer_names, self.layers, strict=True)):
                data = stream.file.require_group("data").create_group(name)
                diff = stream.file.require_group("diff").create_group(name) if with_diff else None
                for j, blob in enumerate(layer.blobs):
                    if owners[i, j] is None:
                        data[str(j)] = blob.value.cpu().numpy()
                    if diff is not None:
                        diff[str(j)] = blob.grad.cpu().numpy()

    def share_with(self, other: Net) -> None:
        """Alias the parameter data of same-named layers of `other`."""
        index = {name: i for i, name in enumerate(self._layer_names)}
        for name, layer in zip(other._layer_names, other.layers, strict=True):
            if name not in index:
                self.context.say(f"Ignoring source layer {name}")
                continue
            blobs = self.layers[index[name]].blobs
            check(len(blobs) == len(layer.blobs), f"Incompatible number of blobs for layer {name}")
            for j, (mine, theirs) in enumerate(zip(blobs, layer.blobs, strict=True)):
                check(
                    mine.shape == theirs.shape,
                    f"Cannot share param {j} weights from layer '{name}'; shape mismatch. Source param shape is "
                    f"{theirs.shape_string}; target param shape is {mine.shape_string}",
                )
                mine.share_data(theirs)

    # -- what a resumed run needs beyond the solverstate ---------------------------------------------------------
    def positions(self) -> dict[str, dict[str, Any]]:
        """{layer name: position} of the layers that have one (data layers)."""
        return {
            name: position
            for name, layer in zip(self._layer_names, self.layers, strict=True)
            if (position := layer.position()) is not None
        }

    def restore_positions(self, positions: Mapping[str, dict[str, Any]]) -> None:
        """Continue from positions() of before."""
        for name, layer in zip(self._layer_names, self.layers, strict=True):
            if name in positions:
                layer.restore_position(positions[name])
