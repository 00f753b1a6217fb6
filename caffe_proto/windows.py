"""Kernel size, stride, pad and dilation of a prototxt, in all the forms that Caffe's convolutions and poolings have."""

from __future__ import annotations

from caffe_proto import caffe_pb2
from caffe_proto.errors import CaffeFileError

MOST = 2**31 - 1  # what Caffe's int holds
WindowParameter = caffe_pb2.ConvolutionParameter | caffe_pb2.PoolingParameter


def pair_of(name: str) -> list[str]:
    """The fields that give `name` for height and width apart; none for dilation."""
    stem = name.removesuffix("_size")
    return [] if name == "dilation" else [f"{stem}_h", f"{stem}_w"]


def given_window(param: WindowParameter, name: str) -> list[int]:
    """The values that the file gives for `name`: kernel_size, stride, pad or dilation; [] if none.

    [height, width] from the pair of fields (docs/engine.md section 2.2) if either is there, where one that is left out
    has its default; else the values of the field of that name, one or several. Raises CaffeFileError, which does not
    name the layer, for a convolution that has both forms.
    """
    common = getattr(param, name, None)
    repeated = hasattr(common, "extend")
    pair = pair_of(name)
    given = [field for field in pair if param.HasField(field)]
    if given:
        if repeated and common:
            raise CaffeFileError("", "one of the forms", f"both {name} and {' and '.join(given)}")
        return [getattr(param, field) for field in pair]
    if repeated:
        return list(common)
    return [common] if common is not None and param.HasField(name) else []


def window(param: WindowParameter, name: str, axes: int, default: int | None) -> list[int]:
    """The `axes` values of `name`; a value that is given once holds for all axes, `default` where none is given.

    default None: one must be given. Raises CaffeFileError, which does not name the layer, if there are others than one
    or `axes` values, if height and width are given where there are not two axes, and for more than `MOST`.
    """
    given = given_window(param, name)
    pair = pair_of(name)
    if axes != 2 and any(param.HasField(field) for field in pair):
        raise CaffeFileError("", f"2D convolution for {' and '.join(pair)}", f"{axes} spatial axes")
    if len(given) not in (1, axes) and (given or default is None):
        raise CaffeFileError(
            f"{name} must be specified once, or once per spatial dimension ({name} specified {len(given)} times; "
            f"{axes} spatial dims)"
        )
    if max(given, default=0) > MOST:
        raise CaffeFileError("", f"a {name} of at most {MOST}", max(given))
    return given * axes if len(given) == 1 else given or [default] * axes
