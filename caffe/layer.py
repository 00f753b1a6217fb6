"""What a layer is, and the registry of layer types.

One layer type is one class, registered by `@register` under its class name, which is Caffe's type string. Methods are
Caffe's: setup once, reshape and forward every pass, backward for gradients. `bottom` and `top` are lists of Blobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from caffe.blob import Blob, BlobVec
from caffe.context import Context
from caffe.errors import CaffeError, check
from caffe.fillers import fill
from caffe_proto import array_to_blobproto, blobproto_to_array, caffe_pb2, check_finite
from caffe_proto.memory import check_memory

if TYPE_CHECKING:
    from caffe.blocks import Block

LAYERS = {}


def register(cls: type) -> type:
    """Class decorator: make `cls` known under its class name, for caffe.layer_factory."""
    LAYERS[cls.__name__] = cls
    return cls


class Layer:
    """Base of all layers, also of users' Python layers (caffe.layers.python).

    Class attributes to override:
      bottoms, tops: (least, most) number of blobs, most None for any.
      is_loss: True gives top 0 a default loss weight of 1.
      no_gradient_to: bottom indices that `force_backward` must leave alone (labels).
      in_place: False rejects a top that is also the bottom.
      needs_host: what its passes need the host for, as a text, so that they cannot be captured as a graph; or None.
      passes_values: True if every number of the tops is one of the bottoms or of the data, so that labels may pass.
      reads_labels: True if bottom 1 holds labels, which read_labels(bottom) reads and checks.
      as_feed: a Feed, in a layer that brings rows of a data set; or None.
      as_epilogue: the element-wise function that the layer computes, by its name, if others can do it; or None.
      epilogues: names of functions that forward_with(function, bottom, top) applies to the result.
      gradient_epilogues: names of functions before this layer whose gradient backward_with(function, ...) includes.
    Instance attributes: layer_param (LayerParameter), phase (0 TRAIN, 1 TEST), context (caffe.context.Context: where it
      computes, and where plans bring its blobs), blobs (BlobVec of parameters), param_propagate_down (bool per
      parameter), param_str (Python layers).
    """

    bottoms = (1, 1)
    tops = (1, 1)
    is_loss = False
    no_gradient_to = ()
    in_place = True
    needs_host = None
    passes_values = False
    reads_labels = False
    as_feed = None
    as_epilogue = None
    epilogues = gradient_epilogues = ()

    def __init__(self, layer_param: caffe_pb2.LayerParameter, phase: int, context: Context):
        self.layer_param, self.context = layer_param, context
        self.phase = int(phase)
        self.blobs = BlobVec()
        self.param_propagate_down = []
        self.memory_before = 0  # bytes of all blobs of the net's layers before this one, where they are on the CPU

    # -- what a layer type implements ----------------------------------------------------------------------------
    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Read the parameters, check them, create parameter blobs. Called once."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Give every top its shape. Called before every forward. Default: top 0 like bottom 0."""
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Compute the values of the tops from those of the bottoms; raises CaffeError unless a type implements it."""
        raise CaffeError(self.where, "a layer type with a forward pass", "none")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Overwrite the gradient of each bottom with propagate_down, add to the gradients of the parameters."""
        raise CaffeError(self.where, "a layer type with a backward pass", "none")

    def release(self) -> None:
        """Give back what was kept between the passes (called after backward where memory is to be saved)."""

    def make_block(self, following: Layer, bottom: Blob, middle: Blob, top: Blob, propagate_down: bool) -> Block | None:
        """One object with forward(), backward(), release() for this layer, an epilogue and layer `following`, or None.

        The blobs are those before, between and behind the two layers.
        """
        return None

    def position(self) -> dict[str, Any] | None:
        """State beyond the parameters that a resumed run needs (a dict of numpy arrays and numbers), or None."""
        return None

    def restore_position(self, position: dict[str, Any]) -> None:
        """Continue from a position() of before."""

    # -- for layer types -----------------------------------------------------------------------------------------
    @property
    def type(self) -> str:
        """Caffe's type string."""
        return self.layer_param.type

    @property
    def where(self) -> str:
        """The layer as error messages name it."""
        return f"layer '{self.layer_param.name}' ({self.layer_param.type})"

    @property
    def training(self) -> bool:
        """True in phase TRAIN."""
        return self.phase == caffe_pb2.TRAIN

    def check(self, condition: object, *parts: object) -> None:
        """Raise CaffeError naming the layer unless `condition` holds.

        parts: expected and got; before them, or alone, BVLC Caffe's words or a place in the layer.
        """
        *words, expected, got = parts if len(parts) > 1 else (*parts, "", "")
        check(condition, ": ".join([self.where, *map(str, words)]), expected, got)

    def add_param(self, shape: Sequence[int], filler: caffe_pb2.FillerParameter) -> Blob:
        """Append a parameter blob: filled by `filler` (FillerParameter), or taken from the prototxt's `blobs`."""
        blob = Blob(shape, self.context.device)
        given = self.layer_param.blobs
        index = len(self.blobs)
        if len(given):
            self.check(index < len(given), "a blob for every parameter", f"{len(given)} in the prototxt")
            array = blobproto_to_array(given[index], self.where)
            check_finite(array, f"{self.where}: blob {index} in the prototxt")
            load_blob(blob, array, f"{self.where}: Incorrect {'weight' if index == 0 else 'bias'} shape")
        else:
            memory = self.memory_before + 4 * (blob.count + sum(one.count for one in self.blobs))
            check_memory(memory, self.where, "all blobs so far")
            fill(blob, filler, self.context.random.generator(), self.where)
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def refuse_label_gradient(self, propagate_down: list[bool]) -> None:
        """Raise CaffeError if a gradient towards the label (bottom 1) is asked for."""
        if len(propagate_down) > 1 and propagate_down[1]:
            raise CaffeError(f"{self.layer_param.type} Layer cannot backpropagate to label inputs.")


class Feed(Protocol):
    """What a data layer offers to passes that are captured as a graph: batches by row numbers, from the device."""

    batch_size: int
    total_rows: int  # of the set

    def keep_on(self, device: torch.device) -> bool:
        """Keep the whole set on torch.device `device` if budgets allow; True if it is there."""

    def make_slots(self, passes: int) -> None:
        """Make room on the device for the row numbers of this many batches."""

    def next_rows(self) -> np.ndarray:
        """The row numbers (int64 array) of the next batch, and go on behind it."""

    def fill_slots(self, rows: torch.Tensor) -> None:
        """Copy row numbers (passes, batch_size), in pinned memory on CUDA, to the slots; nothing waits for it."""

    def from_slots(self) -> AbstractContextManager[None]:
        """Context in which the n-th forward pass takes the rows of slot n."""

    def describe_row(self, number: int) -> str:
        """`<file>, row <r>` of a row number."""


class DifferentiableLayer(Layer):
    """A layer given by one differentiable function; gradients come from torch's automatic differentiation.

    Subclasses implement compute(inputs, params) -> list of top tensors. The function is evaluated again in the
    backward pass, so nothing but the bottoms is kept between the passes.
    """

    def compute(self, inputs: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of the tops for those of bottoms and parameters; CaffeError unless a type implements it."""
        raise CaffeError(self.where, "a layer type with a forward pass", "none")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        outputs = self.compute([b.value for b in bottom], [p.value for p in self.blobs])
        for blob, output in zip(top, outputs, strict=False):
            blob.value = output

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        inputs = [b.value.detach().requires_grad_(p) for b, p in zip(bottom, propagate_down, strict=True)]
        params = [
            p.value.detach().requires_grad_(d) for p, d in zip(self.blobs, self.param_propagate_down, strict=True)
        ]
        wanted = [t for t in (*inputs, *params) if t.requires_grad]
        if not wanted:
            return
        with torch.enable_grad():
            outputs = self.compute(inputs, params)
        pairs = [(o, t.grad) for o, t in zip(outputs, top, strict=False) if o.requires_grad]
        grads = torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
        grads = {id(t): torch.zeros_like(t) if g is None else g for t, g in zip(wanted, grads, strict=True)}
        for blob, tensor in zip(bottom, inputs, strict=True):
            if tensor.requires_grad:
                blob.grad = grads[id(tensor)]
        for blob, tensor in zip(self.blobs, params, strict=True):
            if tensor.requires_grad:
                blob.add_grad(grads[id(tensor)])


def load_blob(blob: Blob, array: np.ndarray, mismatch: str) -> None:
    """Copy `array` into `blob` under Caffe's shape rule; raises CaffeError starting with `mismatch`.

    Legacy 4-axis arrays match a blob whose shape, filled up with ones on the left, is the same.
    """
    shape = tuple(blob.shape)
    same = tuple(array.shape) == shape
    legacy = array.ndim == 4 and len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == tuple(array.shape)
    if not same and not legacy:
        raise CaffeError(
            f"{mismatch}: expected shape {blob.shape_string}; instead, shape was "
            + "".join(f"{n} " for n in array.shape)
            + f"({array.size})"
        )
    blob.value.copy_(torch.from_numpy(array.reshape(shape)))


def save_layer(layer: Layer, with_diff: bool = False) -> caffe_pb2.LayerParameter:
    """A copy of the layer's LayerParameter with its parameters as `blobs`."""
    result = caffe_pb2.LayerParameter()
    result.CopyFrom(layer.layer_param)
    del result.blobs[:]
    for blob in layer.blobs:
        diff = blob.grad.cpu().numpy() if with_diff else None
        result.blobs.append(array_to_blobproto(blob.value.cpu().numpy(), diff))
    return result
