"""Fillers: how parameters are initialised (docs/engine.md section 3). One filler is one function in FILLERS.

All run on the CPU generator, in layer and blob order, so that a seed gives the same weights for CPU and GPU runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from caffe.blob import Blob
from caffe.errors import CaffeError, check
from caffe_proto import caffe_pb2
from caffe_proto.memory import check_memory

FILLERS = {}


def filler(
    function: Callable[[torch.Tensor, caffe_pb2.FillerParameter, torch.Generator], None],
) -> Callable[[torch.Tensor, caffe_pb2.FillerParameter, torch.Generator], None]:
    """Decorator: make a filler known under its function name. It gets a tensor and a generator on the CPU."""
    FILLERS[function.__name__] = function
    return function


def fill(blob: Blob, param: caffe_pb2.FillerParameter, generator: torch.Generator, where: str = "blob") -> None:
    """Fill the data of `blob` as FillerParameter `param` says, with numbers of `generator` (of the CPU).

    `where` names the owner in errors.
    """
    if param.type not in FILLERS:
        raise CaffeError(f"{where}: Unknown filler name: {param.type} (known fillers: {', '.join(sorted(FILLERS))})")
    check(blob.count > 0, where, "a blob with elements to fill", f"shape {blob.shape_string}")
    check(
        param.sparse == -1 or param.type == "gaussian",
        f"{where}: Sparsity not supported by this Filler ({param.type}).",
    )
    check_memory(4 * blob.count, where, "a blob to fill")
    values = torch.empty(tuple(blob.shape))
    try:
        FILLERS[param.type](values, param, generator)
    except CaffeError as error:
        raise CaffeError.at(f"{where}: {param.type} filler", error) from None
    blob.value.copy_(values)


def fan(values: torch.Tensor, param: caffe_pb2.FillerParameter) -> float:
    """The `n` of xavier and msra: fan_in = count/shape(0), fan_out = count/shape(1), or their mean."""
    count, shape = values.numel(), values.shape
    fan_in = count / shape[0] if len(shape) > 0 else count
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {
        caffe_pb2.FillerParameter.FAN_IN: fan_in,
        caffe_pb2.FillerParameter.FAN_OUT: fan_out,
        caffe_pb2.FillerParameter.AVERAGE: (fan_in + fan_out) / 2,
    }[param.variance_norm]


@filler
def constant(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Every number is `value`."""
    values.fill_(param.value)


@filler
def uniform(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Uniform between `min` and `max`."""
    most = torch.finfo(torch.float32).max
    check(0 <= param.max - param.min <= most, "", "a min that is not above max", f"{param.min:g} and {param.max:g}")
    values.uniform_(param.min, param.max, generator=generator)


@filler
def gaussian(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Normal with `mean` and `std`; with `sparse` each number is kept with probability sparse / shape[0], else 0."""
    check(param.std > 0, "", "a positive std", f"{param.std:g}")
    values.normal_(param.mean, param.std, generator=generator)
    if param.sparse >= 0:
        keep = torch.empty_like(values).bernoulli_(param.sparse / values.shape[0], generator=generator)
        values.mul_(keep)


@filler
def xavier(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Uniform in +-sqrt(3 / n), where n is fan(); Glorot and Bengio 2010."""
    bound = math.sqrt(3.0 / fan(values, param))
    values.uniform_(-bound, bound, generator=generator)


@filler
def msra(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Normal with mean 0 and variance 2 / n, where n is fan(); He et al. 2015."""
    values.normal_(0.0, math.sqrt(2.0 / fan(values, param)), generator=generator)


@filler
def positive_unitball(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Uniform in [0, 1], then divided so that each item of axis 0 has the sum 1; CaffeError for a scalar."""
    check(values.dim() > 0, "", "at least one axis", "a scalar")
    values.uniform_(0.0, 1.0, generator=generator)
    values.div_(values.flatten(1).sum(1).reshape((-1,) + (1,) * (values.dim() - 1)))


@filler
def bilinear(values: torch.Tensor, param: caffe_pb2.FillerParameter, generator: torch.Generator) -> None:
    """Kernels of bilinear interpolation, for upsampling; CaffeError unless there are 4 axes and a square kernel."""
    check(
        values.dim() == 4 and values.shape[2] == values.shape[3],
        "",
        "4 axes and a square kernel",
        f"shape {tuple(values.shape)}",
    )
    size = values.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2 * factor)
    profile = 1 - (torch.arange(size, dtype=torch.float64) / factor - centre).abs()
    values.copy_(torch.outer(profile, profile).expand_as(values))
