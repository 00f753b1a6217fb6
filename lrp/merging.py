"""Affine layers (Power, BatchNorm, Scale, Bias) folded into the linear layer beside them, where that is exact.

After a linear layer it always is: a (W x + b) + c = (a W) x + (a b + c). Before one it is, if no zero padding mixes
with the shift: W (a x + c) + b = (W a) x + (W c + b). What cannot be folded stays an affine layer of its own.
"""

import numpy as np

from lrp.linear import Convolution, Deconvolution, InnerProduct


def _with(layer, weights, bias):
    """A linear layer like `layer` with other parameters, in float64 (rounded where float32 is asked for)."""
    if isinstance(layer, InnerProduct):
        new = InnerProduct(weights, bias, layer.axis)
    else:
        new = type(layer)(weights, bias, layer.window, layer.group)
    new.name, new.type, new.where = layer.name, layer.type, layer.where
    return new


def _per_output(values, count):
    return np.broadcast_to(values.astype(np.float64), (count,))


def after(layer, affine):
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


def before(affine, layer, channels):
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

        def fit(values):
            return _per_output(values, per_group * layer.group).reshape(layer.group, per_group)[group_of]

        scale, shift = fit(affine.scale)[:, :, None, None], fit(affine.shift)[:, :, None, None]
        moved = (layer.weights * shift).sum(axis=(1, 2, 3))
    elif isinstance(layer, InnerProduct) and layer.axis == 1:
        inputs = layer.weights.shape[1]
        if affine.scale.ndim + affine.shift.ndim and (not channels or inputs % channels):
            return None

        def fit(values):
            return np.repeat(values.astype(np.float64), inputs // channels) if values.ndim else values

        scale, shift = fit(affine.scale), fit(affine.shift)
        moved = (layer.weights * np.broadcast_to(shift, (inputs,))).sum(axis=1, dtype=np.float64)
    else:
        return None
    return _with(layer, layer.weights * scale, moved if layer.bias is None else layer.bias + moved)
