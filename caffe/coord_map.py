"""How spatial coordinates of one top map onto another's in a NetSpec, and the Crop that aligns two tops.

A map is (axis, a, b): coordinate x in one blob is a * x + b in the other, on the axes after `axis` (the channel axis;
None: the map holds whatever the axes). a and b are numbers, or arrays with one number per spatial axis. For a window of
extent k that moves in steps of s over an input padded by p, input position x is the centre of window number
(x + p - (k - 1) / 2) / s.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from caffe.net_spec import Function, Top, layers
from caffe_proto import sentence

PASS_THROUGH_LAYERS = (
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN", "Power", "PReLU",
    "ReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold",
)  # fmt: skip
WINDOW_PARAMS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "Pooling": "pooling_param",
}
Map = tuple[int | None, float | np.ndarray, float | np.ndarray]
IDENTITY = (None, 1, 0)


class UndefinedMapException(Exception):
    """The layer has no coordinate map: it does not keep the spatial layout."""


class AxisMismatchException(Exception):
    """Two maps that start at different axes were composed."""


def window_map(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, kernel extent, stride, pad) of a sliding-window layer, the last three as float arrays.

    Only the forms for all axes are understood (`kernel_size`, not `kernel_h`). The extent counts dilation.
    """
    params = fn.params.get(WINDOW_PARAMS[fn.type_name], fn.params)
    split = sorted(name for name in params if name.endswith(("_h", "_w")))
    if split:
        raise AssertionError(sentence(fn.type_name, "kernel_size, stride and pad alone", ", ".join(split)))
    if "kernel_size" not in params:
        raise KeyError(sentence(fn.type_name, "a kernel_size, which a coordinate map needs", "none"))
    kernel, dilation, stride, pad = (
        np.array(params.get(name, default), dtype=float, ndmin=1)
        for name, default in (("kernel_size", None), ("dilation", 1), ("stride", 1), ("pad", 0))
    )
    return params.get("axis", 1), (kernel - 1) * dilation + 1, stride, pad


def coord_map(fn: Function) -> Map:
    """The map from the bottom of layer `fn` (a net_spec Function) to its top; raises UndefinedMapException."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, extent, stride, pad = window_map(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, extent, stride, pad = window_map(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        params = fn.params.get("crop_param", fn.params)
        return params.get("axis", 2) - 1, 1, -np.array(params.get("offset", 0), dtype=float, ndmin=1)
    raise UndefinedMapException(sentence("coordinate map", "a layer type that has one", fn.type_name))


def compose(base_map: Map, next_map: Map) -> Map:
    """The map `base_map` after `next_map`; raises AxisMismatchException if both name an axis and they differ."""
    axis1, a1, b1 = base_map
    axis2, a2, b2 = next_map
    if None not in (axis1, axis2) and axis1 != axis2:
        raise AxisMismatchException(sentence("coordinate map", "maps from one axis", f"axes {axis1} and {axis2}"))
    return axis2 if axis1 is None else axis1, a1 * a2, a1 * b2 + b1


def inverse(coord_map: Map) -> Map:
    """The map back: x = (y - b) / a."""
    axis, a, b = coord_map
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from the coordinates of `top_from` to those of `top_to`, through their nearest common ancestor.

    Raises RuntimeError if no chain of spatial layers joins them, and AxisMismatchException.
    """
    from_maps, to_maps = {top_from: IDENTITY}, {top_to: IDENTITY}  # ancestor -> map from the ancestor to the top
    frontier = deque([top_from, top_to])
    while frontier:
        top = frontier.popleft()
        if top in from_maps and top in to_maps:
            return compose(to_maps[top], inverse(from_maps[top]))
        try:
            step = coord_map(top.fn)
        except UndefinedMapException:
            continue
        # a Crop takes its values from the first bottom; the second one only gives a size
        for bottom in top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs:
            for maps in (from_maps, to_maps):
                if top in maps and bottom not in maps:
                    maps[bottom] = compose(maps[top], step)
            frontier.append(bottom)
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop of `top_from` to the size of `top_to` and aligned with it.

    Raises AssertionError unless the two differ by a shift of whole, non-negative steps.
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    if not np.all(np.equal(a, 1)):
        raise AssertionError(f"scale mismatch on crop (a = {a})")
    if not np.all(np.less_equal(b, 0)):
        raise AssertionError(f"cannot crop negative offset (b = {b})")
    if not np.all(np.equal(np.round(b), b)):
        raise AssertionError(f"cannot crop noninteger offset (b = {b})")
    first = 2 if axis is None else axis + 1  # the first spatial axis where the path names none
    return layers.Crop(top_from, top_to, crop_param={"axis": first, "offset": [int(-x) for x in np.ravel(b)]})
