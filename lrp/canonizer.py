"""Networks brought into the form that rules are meant for: affine layers (Power, BatchNorm, Scale, Bias) are folded
into the linear layer beside them, where that is exact.

After a linear layer it always is: a (W x + b) + c = (a W) x + (a b + c). Before one it is, if no zero padding mixes
with the shift: W (a x + c) + b = (W a) x + (W c + b). What cannot be folded stays an affine layer of its own.
"""

from __future__ import annotations

import numpy as np

from lrp.elementwise import Affine, Identity
from lrp.layer import Layer, Linear
from lrp.linear import Convolution, Deconvolution, InnerProduct
from lrp.structure import Node, Structure


def canonize(structure: Structure) -> None:
    """Fold what can be folded and drop layers that only hand their input on; `structure` is changed, its scores not."""
    for node in [node for node in structure.nodes if isinstance(node.layer, Identity)]:
        structure.drop(node)
    for node in [node for node in structure.nodes if isinstance(node.layer, Affine)]:
        maker = structure.maker(node.bottoms[0])
        if maker is not None and structure.only_read_by_one(node.bottoms[0]):
            _replace(structure, maker, after(maker.layer, node.layer), node)
    # what is left goes into the layer above it, the topmost first, so that chains of affine layers go as a whole
    for node in [node for node in reversed(structure.nodes) if isinstance(node.layer, Affine)]:
        if structure.only_read_by_one(node.tops[0]):
            (reader,) = structure.readers(node.tops[0])
            merged = before(node.layer, reader.layer, structure.channels(node.bottoms[0]))
            _replace(structure, reader, merged, node)


def _replace(structure: Structure, neighbour: Node, merged: Linear | None, node: Node) -> None:
    """Put the merged layer, if there is one, in the place of `neighbour` and take `node` out."""
    if merged is not None:
        neighbour.layer = merged
        structure.drop(node)


def _with(layer: Convolution | Deconvolution | InnerProduct, weights: np.ndarray, bias: np.ndarray) -> Linear:
    """A linear layer like `layer` with other parameters, in float64 (rounded where float32 is asked for)."""
    if isinstance(layer, InnerProduct):
        new = InnerProduct(weights, bias, layer.axis)
    else:
        new = type(layer)(weights, bias, layer.window, layer.group)
    new.name, new.type, new.where = layer.name, layer.type, layer.where
    return new


def _per_output(values: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(values.astype(np.float64), (count,))


def after(layer: Layer, affine: Affine) -> Linear | None:
    """The linear layer that does `layer` and then `affine`, or None where that is not exact."""
    if affine.axis != 1 and affine.scale.ndim + affine.shift.ndim or max(affine.scale.ndim, affine.shift.ndim) > 1:
        return None
    if isinstance(layer, InnerProduct) and layer.axis != 1:
        return None
    if isinstance(layer, (Convolution, InnerProduct)):
        outputs = layer.weights.shape[0]
    elif isinstance(layer, Deconvolution):
        outputs = layer.weights.shape[1] * layer.group
    else:
        return None
    scale, shift = _per_output(affine.scale, outputs), _per_output(affine.shift, outputs)
    bias = shift if layer.bias is None else layer.bias * scale + shift
    if isinstance(layer, Deconvolution):  # input channels of group g meet that group's outputs only
        inputs, per_group = layer.weights.shape[:2]
        group_of = np.repeat(np.arange(layer.group), inputs // layer.group)
        factors = scale.reshape(layer.group, per_group)[group_of][:, :, None, None]
        return _with(layer, layer.weights * factors, bias)
    return _with(layer, layer.weights * scale.reshape(-1, *(1,) * (layer.weights.ndim - 1)), bias)


def before(affine: Affine, layer: Layer, channels: int | None) -> Linear | None:
    """The linear layer that does `affine` and then `layer`, or None where that is not exact.

    channels: size of axis 1 of the affine layer's input, where it is known, else None.
    """
    if affine.axis != 1 and affine.scale.ndim + affine.shift.ndim or max(affine.scale.ndim, affine.shift.ndim) > 1:
        return None
    if isinstance(layer, Convolution):
        if any(layer.window.pad) and np.any(affine.shift != 0):
            return None
        outputs, per_group = layer.weights.shape[:2]
        group_of = np.repeat(np.arange(layer.group), outputs // layer.group)

        def fit(values: np.ndarray) -> np.ndarray:
            return _per_output(values, per_group * layer.group).reshape(layer.group, per_group)[group_of]

        scale, shift = fit(affine.scale)[:, :, None, None], fit(affine.shift)[:, :, None, None]
        moved = (layer.weights * shift).sum(axis=(1, 2, 3))
    elif isinstance(layer, InnerProduct) and layer.axis == 1:
        inputs = layer.weights.shape[1]
        if affine.scale.ndim + affine.shift.ndim and (not channels or inputs % channels):
            return None

        def fit(values: np.ndarray) -> np.ndarray:
            return np.repeat(values.astype(np.float64), inputs // channels) if values.ndim else values

        scale, shift = fit(affine.scale), fit(affine.shift)
        moved = (layer.weights * np.broadcast_to(shift, (inputs,))).sum(axis=1, dtype=np.float64)
    else:
        return None
    return _with(layer, layer.weights * scale, moved if layer.bias is None else layer.bias + moved)
