"""Nets and solvers as pycaffe's users see them (docs/engine.md sections 6.2 and 6.4)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from caffe import glog, mode, net, solver
from caffe.blob import Blob, BlobVec
from caffe.context import Context
from caffe.errors import CaffeError
from caffe.layer import Layer
from caffe.layers.data import MemoryData
from caffe.update_rules import RULES
from caffe_proto import caffe_pb2, net_state, read_net, read_solver, sentence


class Net(net.Net):
    """A net from a prototxt file.

    Net(network_file, phase, level=0, stages=None, weights=None), or the legacy Net(network_file, weights_file, phase).
    `blobs` and `params` hold Blobs whose `data` and `diff` are live float32 numpy views.
    """

    def __init__(
        self,
        network_file: str | os.PathLike,
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | os.PathLike | None = None,
    ):
        if len(args) == 2 and isinstance(args[0], (str, os.PathLike)):
            glog.warning(
                "DEPRECATION WARNING - deprecated use of Python interface: use this instead (with the named "
                f"\"weights\" parameter): Net('{network_file}', {int(args[1])}, weights='{args[0]}')"
            )
            weights, phase = args
        else:
            names = ("phase", "level", "stages", "weights")
            given = dict(zip(names, args, strict=False))
            if len(args) > len(names):
                raise TypeError(sentence("Net", "at most 5 positional arguments", len(args) + 1))
            phase = given.get("phase", phase)
            level, stages = given.get("level", level), given.get("stages", stages)
            weights = given.get("weights", weights)
        if phase is None:
            raise TypeError(sentence("Net", "a phase, caffe.TRAIN or caffe.TEST", "none"))
        for path in (network_file, weights):
            if path is not None and not os.access(path, os.R_OK):
                raise RuntimeError(f"Could not open file {os.fspath(path)}")
        self._finish(net_state(read_net(os.fspath(network_file)), phase, level, stages or ()), mode.CONTEXT)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_param(
        cls,
        param: caffe_pb2.NetParameter,
        context: Context = mode.CONTEXT,
        debug_info: Callable[[], bool | None] | None = None,
    ) -> Net:
        """A net from a NetParameter whose state is set (solvers build their nets so)."""
        self = cls.__new__(cls)
        self._finish(param, context, debug_info)
        return self

    def _finish(self, param, context, debug_info=None):
        self._build(param, context, debug_info)
        self._kept = None  # arrays given to set_input_arrays, kept alive here

    # -- raw accessors that scripts use --------------------------------------------------------------------------
    def _bottom_ids(self, i):
        return list(self.nodes[i].bottom_ids)

    def _top_ids(self, i):
        return list(self.nodes[i].top_ids)

    def _forward(self, start, end):
        return self.forward_from_to(start, end)

    def _backward(self, start, end):
        self.backward_from_to(start, end)

    # -- dictionaries --------------------------------------------------------------------------------------------
    @property
    def blobs(self) -> OrderedDict[str, Blob]:
        """OrderedDict blob name -> Blob in creation order."""
        return self._cached("_blobs_dict", lambda: OrderedDict(zip(self._blob_names, self._blobs, strict=True)))

    @property
    def params(self) -> OrderedDict[str, BlobVec]:
        """OrderedDict layer name -> list of parameter Blobs, for layers that have parameters."""
        return self._cached(
            "_params_dict",
            lambda: OrderedDict(
                (name, layer.blobs) for name, layer in zip(self._layer_names, self.layers, strict=True) if layer.blobs
            ),
        )

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """OrderedDict layer name -> layer."""
        return self._cached("_layer_dict", lambda: OrderedDict(zip(self._layer_names, self.layers, strict=True)))

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """OrderedDict blob name -> loss weight."""
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights, strict=True))

    @property
    def inputs(self) -> list[str]:
        """Names of the input blobs (tops of Input layers), in order."""
        return [self._blob_names[i] for i in self._inputs]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that nobody consumes, sorted."""
        return [self._blob_names[i] for i in self._outputs]

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """OrderedDict layer name -> names of its tops."""
        return self._names_of(node.top_ids for node in self.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """OrderedDict layer name -> names of its bottoms (split copies by their own names)."""
        return self._names_of(node.bottom_ids for node in self.nodes)

    def _names_of(self, ids):
        names = self._blob_names
        return OrderedDict((name, [names[k] for k in own]) for name, own in zip(self._layer_names, ids, strict=True))

    def _cached(self, name, make):
        if name not in self.__dict__:
            self.__dict__[name] = make()
        return self.__dict__[name]

    def _layer_index(self, name):
        return self._layer_names.index(name)

    # -- passes --------------------------------------------------------------------------------------------------
    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run layers start..end (names; default all), after copying keyword arrays into the input blobs.

        Returns {blob name: live float32 array} of the outputs (or of layer `end`'s tops) and of `blobs`.
        """
        first = 0 if start is None else self._layer_index(start)
        if end is not None:
            last = self._layer_index(end)
            names = set(self.top_names[end]) | set(blobs or [])
        else:
            last = len(self.layers) - 1
            names = set(self.outputs) | set(blobs or [])
        if kwargs:
            if set(kwargs) != set(self.inputs):
                raise Exception("Input blob arguments do not match net inputs.")
            for name, array in kwargs.items():
                if array.shape[0] != self.blobs[name].shape[0]:
                    raise Exception("Input is not batch sized")
                self.blobs[name].data[...] = array
        self._forward(first, last)
        return {name: self.blobs[name].data for name in names}

    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run backward from layer `start` (default last) to `end` (default first), after copying output gradients.

        Returns {blob name: live float32 gradient} of the inputs (or of layer `end`'s bottoms) and of `diffs`.
        """
        first = len(self.layers) - 1 if start is None else self._layer_index(start)
        if end is not None:
            last = self._layer_index(end)
            names = set(self.bottom_names[end]) | set(diffs or [])
        else:
            last = 0
            names = set(self.inputs) | set(diffs or [])
        if kwargs:
            if set(kwargs) != set(self.outputs):
                raise Exception("Top diff arguments do not match net outputs.")
            for name, array in kwargs.items():
                if array.shape[0] != self.blobs[name].shape[0]:
                    raise Exception("Diff is not batch sized")
                self.blobs[name].diff[...] = array
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def forward_all(self, blobs: Iterable[str] | None = None, **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Forward over any number of rows, in batches; returns {blob name: array of all rows} (copies)."""
        outs = {name: [] for name in set(self.outputs) | set(blobs or [])}
        for batch in self._batches(kwargs):
            for name, array in self.forward(blobs=blobs, **batch).items():
                outs[name].extend(array.copy())
        return self._without_padding(outs, kwargs)

    def forward_backward_all(
        self, blobs: Iterable[str] | None = None, diffs: Iterable[str] | None = None, **kwargs: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Forward and backward over any number of rows; returns (all outputs, all gradients)."""
        outs = {name: [] for name in set(self.outputs) | set(blobs or [])}
        grads = {name: [] for name in set(self.inputs) | set(diffs or [])}
        inputs = {k: v for k, v in kwargs.items() if k in self.inputs}
        outputs = {k: v for k, v in kwargs.items() if k in self.outputs}
        for forward, backward in zip_longest(self._batches(inputs), self._batches(outputs), fillvalue={}):
            for name, array in self.forward(blobs=blobs, **forward).items():
                outs[name].extend(array.copy())
            for name, array in self.backward(diffs=diffs, **backward).items():
                grads[name].extend(array.copy())
        return self._without_padding(outs, kwargs), self._without_padding(grads, kwargs)

    def _batches(self, arrays):
        if not arrays:
            return
        rows = len(next(iter(arrays.values())))
        size = next(iter(self.blobs.values())).num
        for begin in range(0, rows, size):
            batch = {name: np.asarray(array[begin : begin + size]) for name, array in arrays.items()}
            short = size - min(size, rows - begin)
            yield {
                name: np.concatenate([a, np.zeros((short, *a.shape[1:]), a.dtype)]) if short else a
                for name, a in batch.items()
            }

    @staticmethod
    def _without_padding(collected, kwargs):
        rows = len(next(iter(kwargs.values()))) if kwargs else None
        return {name: np.asarray(values[:rows]) for name, values in collected.items()}

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give a net whose first layer is MemoryData its arrays, by reference (float32, C order).

        data (n, C, H, W), labels (n,) or (n, 1, 1, 1), n a multiple of the batch size; RuntimeError otherwise.
        """
        layer = self.layers[0]
        if not isinstance(layer, MemoryData):
            raise RuntimeError("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        labels = np.asarray(labels)
        if labels.ndim == 1:
            labels = labels[:, np.newaxis, np.newaxis, np.newaxis]
        batch, channels, height, width = layer.shape
        for array, name, shape in (
            (data, "data array", (channels, height, width)),
            (labels, "labels array", (1, 1, 1)),
        ):
            if not array.flags["C_CONTIGUOUS"]:
                raise RuntimeError(f"{name} must be C contiguous")
            if array.ndim != 4:
                raise RuntimeError(f"{name} must be 4-d")
            if array.dtype != np.float32:
                raise RuntimeError(f"{name} must be float32")
            for what, found, wanted in zip(("channels", "height", "width"), array.shape[1:], shape, strict=True):
                if found != wanted:
                    raise RuntimeError(f"{name} has wrong number of {what}")
        if data.shape[0] != labels.shape[0]:
            raise RuntimeError("data and labels must have the same first dimension")
        if data.shape[0] % batch:
            raise RuntimeError("first dimensions of input arrays must be a multiple of batch size")
        self._kept = (data, labels)
        layer.reset(data, labels)

    # -- callbacks -----------------------------------------------------------------------------------------------
    def before_forward(self, function: Callable[[int], object]) -> None:
        """Call function(layer index) before each layer's forward."""
        self.observer.before["forward"].append(function)

    def after_forward(self, function: Callable[[int], object]) -> None:
        """Call function(layer index) after each layer's forward."""
        self.observer.after["forward"].append(function)

    def before_backward(self, function: Callable[[int], object]) -> None:
        """Call function(layer index) before each layer's backward (also of layers that need none)."""
        self.observer.before["backward"].append(function)

    def after_backward(self, function: Callable[[int], object]) -> None:
        """Call function(layer index) after each layer's backward (also of layers that need none)."""
        self.observer.after["backward"].append(function)


class Solver(solver.Solver):
    """A solver whose nets are pycaffe's."""

    net_type = Net


def solver_class(rule: str) -> type[Solver]:
    """A pycaffe solver class: constructed from a prototxt file, with the update rule `rule` whatever the file says."""

    class FileSolver(Solver):
        def __init__(self, path):
            super().__init__(read_solver(os.fspath(path)), mode.CONTEXT, rule)

    FileSolver.__name__ = FileSolver.__qualname__ = f"{rule}Solver"
    FileSolver.__doc__ = f"A {rule} solver: {rule}Solver(solver_prototxt) with net, test_nets, iter, step(n), solve()."
    return FileSolver


SOLVERS = {rule: solver_class(rule) for rule in RULES}


def get_solver(path: str | os.PathLike) -> Solver:
    """A solver of the class that the file's `type` names."""
    rule = read_solver(os.fspath(path)).type
    if rule not in SOLVERS:
        raise CaffeError(f"{path}: Unknown solver type: {rule} (known types: {', '.join(sorted(SOLVERS))})")
    return SOLVERS[rule](path)


SGDSolver, NesterovSolver, AdaGradSolver = SOLVERS["SGD"], SOLVERS["Nesterov"], SOLVERS["AdaGrad"]
RMSPropSolver, AdaDeltaSolver, AdamSolver = SOLVERS["RMSProp"], SOLVERS["AdaDelta"], SOLVERS["Adam"]
