"""Modules of torch as Caffe nets, so that everything here works on networks that never were in Caffe.

`Network.from_torch` is the way in. Needs torch, which nothing else in this package does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from caffe_proto import caffe_pb2
from lrp.errors import LRPError

Weights = dict[str, list[np.ndarray]]
Writer = Callable[["Draft", Any, list[str], tuple[Any, ...], dict[str, Any]], str]
# What code raises that is given torch.fx's stand-ins instead of tensors; TraceError is a ValueError
UNTRACED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
MODULES: dict[type, Writer] = {}
FUNCTIONS: dict[object, Writer] = {}  # functions, and methods of tensors by name


@dataclass(frozen=True)
class Translated:
    """A module as a Caffe net: its definition, its weights, and what the module says of the example.

    scores: float32 (N, classes), before the first softmax where there is one.
    """

    net: caffe_pb2.NetParameter
    weights: Weights
    scores: np.ndarray


class Draft:
    """A net while it is written: `net`, `weights`, and where in the module it is, for messages."""

    def __init__(self, name: str):
        self.net, self.weights, self.where = caffe_pb2.NetParameter(name=name), {}, name
        self.shapes: dict[str, tuple[int, ...]] = {}  # of blobs, in torch
        self.label, self.shape = "", ()  # of the node that is being written

    def add(self, kind: str, bottoms: list[str], weights: Sequence[torch.Tensor] = (), more: str = "") -> Any:
        """Add a layer named after the node; returns it. Its top has its name."""
        taken = {layer.name for layer in self.net.layer}
        name = next(n for n in (self.label + more + "_" * k for k in range(len(taken) + 1)) if n not in taken)
        layer = self.net.layer.add(name=name, type=kind, bottom=bottoms, top=[name])
        if weights:
            self.weights[name] = [w.detach().cpu().numpy().astype(np.float32) for w in weights]
        return layer

    def refuse(self, expected: str, got: object) -> None:
        """Raise LRPError at the node."""
        raise LRPError(f"{self.where}: {self.label}", expected, got)

    def pair(self, value: Any, neutral: int) -> tuple[int, int]:
        """(height, width) of a size that torch takes for one or two axes; along one axis the height is `neutral`."""
        axes = len(self.shape) - 2
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
        if axes not in (1, 2) or len(values) != axes or not all(isinstance(v, int) for v in values):
            self.refuse("sizes along one or two axes", value)
        return (neutral, *values) if axes == 1 else values


def writes(*keys: object) -> Callable[[Writer], Writer]:
    """Decorator: the function writes nodes of these module classes, functions or methods.

    It is called with (draft, module or None, bottoms, other positional arguments, keywords) and returns the top.
    """

    def register(function: Writer) -> Writer:
        for key in keys:
            (MODULES if isinstance(key, type) else FUNCTIONS)[key] = function
        return function

    return register


def translate(module: nn.Module, example: torch.Tensor) -> Translated:
    """The Caffe net of a module in eval mode that torch.fx can trace, with one input.

    example: a batch that it takes; its shape becomes the net's. Signals (N, C, L) become images of height 1. Raises
    LRPError for what has no form in Caffe.
    """
    name = type(module).__name__
    draft = Draft(name)
    if module.training:
        raise LRPError(name, "a module in eval mode (module.eval())", "one in training")
    try:
        traced = fx.symbolic_trace(module)
    except UNTRACED as error:
        raise LRPError(name, "a module that torch.fx can trace", f"{type(error).__name__}: {error}") from error
    run = Values(traced)
    with torch.no_grad():
        run.run(example)
    scores: fx.Node | None = None
    tops: dict[fx.Node, str] = {}
    for node in traced.graph.nodes:
        value = run.values[node]
        draft.label, draft.shape = _label(node), tuple(value.shape) if isinstance(value, torch.Tensor) else ()
        if node.op == "placeholder":
            if tops:
                draft.refuse("one input", "another")
            tops[node] = _input(draft, tuple(example.shape))
        elif node.op == "output":
            if not isinstance(value, torch.Tensor):
                draft.refuse("one output, a tensor", type(value).__name__)
            scores = scores or node.args[0]
        elif isinstance(value, torch.Tensor):
            tops[node] = _written(draft, traced, node, {**run.values, **tops})
            draft.shapes[tops[node]] = draft.shape
            if scores is None and draft.net.layer[-1].type == "Softmax":
                scores = node.args[0]
    return Translated(draft.net, draft.weights, run.values[scores].cpu().numpy().astype(np.float32))


class Values(fx.Interpreter):
    """Runs a module and keeps the value of every node: a tensor, or what is known of one, such as its size."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, which is kept."""
        value = super().run_node(n)
        self.values[n] = value.clone() if isinstance(value, torch.Tensor) else value  # operations in place may come
        return value


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _input(draft: Draft, shape: tuple[int, ...]) -> str:
    layer = draft.net.layer.add(name="input", type="Input", top=["input"])
    layer.input_param.shape.add(dim=shape)
    draft.shapes["input"] = shape
    if len(shape) != 3:
        return "input"
    draft.label = "as_image"
    layer = draft.add("Reshape", ["input"])
    layer.reshape_param.shape.dim.extend((0, shape[1], 1, shape[2]))
    draft.shapes[layer.name] = shape
    return layer.name


def _written(draft, traced, node, tops):
    module = traced.get_submodule(node.target) if node.op == "call_module" else None
    writer = MODULES.get(type(module)) if module is not None else FUNCTIONS.get(node.target)
    if writer is None or node.op == "get_attr":
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
        draft.refuse("an operation that has a form in Caffe", what)
    args = [tops.get(arg, arg) if isinstance(arg, fx.Node) else arg for arg in node.args]
    if args and isinstance(args[0], (tuple, list)):  # torch.cat
        args = [*(tops.get(arg, arg) for arg in args[0]), *args[1:]]
    bottoms = [arg for arg in args if isinstance(arg, str) and arg in draft.shapes]
    rest = tuple(arg for arg in args if not (isinstance(arg, str) and arg in draft.shapes))
    if any(isinstance(arg, fx.Node) for arg in node.kwargs.values()):
        draft.refuse("tensors that layers make, first of all", "another one")
    return writer(draft, module, bottoms, rest, dict(node.kwargs))


# --- linear ----------------------------------------------------------------------------------------------------------


@writes(nn.Conv1d, nn.Conv2d)
def _convolution(draft, module, bottoms, rest, keywords):
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        draft.refuse("padding with zeros, in numbers", f"{module.padding} {module.padding_mode}")
    weight = module.weight if module.weight.dim() == 4 else module.weight.unsqueeze(2)
    layer = draft.add("Convolution", bottoms, [weight, *([] if module.bias is None else [module.bias])])
    param = layer.convolution_param
    param.num_output, param.bias_term, param.group = module.out_channels, module.bias is not None, module.groups
    param.kernel_h, param.kernel_w = draft.pair(module.kernel_size, 1)
    param.stride_h, param.stride_w = draft.pair(module.stride, 1)
    param.pad_h, param.pad_w = draft.pair(module.padding, 0)
    param.dilation.extend(draft.pair(module.dilation, 1))
    return layer.name


@writes(nn.Linear)
def _linear(draft, module, bottoms, rest, keywords):
    if len(draft.shapes[bottoms[0]]) != 2:
        draft.refuse("an input of two axes (flatten it before)", draft.shapes[bottoms[0]])
    layer = draft.add("InnerProduct", bottoms, [module.weight, *([] if module.bias is None else [module.bias])])
    layer.inner_product_param.num_output = module.out_features
    layer.inner_product_param.bias_term = module.bias is not None
    return layer.name


@writes(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(draft, module, bottoms, rest, keywords):
    if module.running_mean is None:
        draft.refuse("stored statistics (track_running_stats)", "those of the batch")
    one = torch.ones(1)
    layer = draft.add("BatchNorm", bottoms, [module.running_mean, module.running_var, one])
    layer.batch_norm_param.eps = module.eps
    if not module.affine:
        return layer.name
    scaled = draft.add("Scale", [layer.name], [module.weight, module.bias], ".scale")
    scaled.scale_param.bias_term = True
    return scaled.name


@writes(operator.add, operator.iadd, torch.add, "add", "add_")
def _add(draft, module, bottoms, rest, keywords):
    if keywords:
        draft.refuse("a plain sum", keywords)
    if len(bottoms) == 1 and len(rest) == 1 and isinstance(rest[0], (int, float)):
        layer = draft.add("Power", bottoms)
        layer.power_param.shift = rest[0]
        return layer.name
    if len(bottoms) != 2 or draft.shapes[bottoms[0]] != draft.shapes[bottoms[1]]:
        draft.refuse("two tensors of one shape", [draft.shapes[bottom] for bottom in bottoms])
    return draft.add("Eltwise", bottoms).name


@writes(operator.mul, torch.mul, "mul")
def _multiply(draft, module, bottoms, rest, keywords):
    if len(bottoms) != 1 or not isinstance(rest[0], (int, float)):
        draft.refuse("a tensor times a number", "something else")
    layer = draft.add("Power", bottoms)
    layer.power_param.scale = rest[0]
    return layer.name


# --- element by element ----------------------------------------------------------------------------------------------


def _function(kind):
    return lambda draft, module, bottoms, rest, keywords: draft.add(kind, bottoms).name


for _kind, _keys in {
    "ReLU": (nn.ReLU, F.relu, torch.relu, "relu", "relu_"),
    "Sigmoid": (nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid"),
    "TanH": (nn.Tanh, torch.tanh, F.tanh, "tanh"),
    "AbsVal": (torch.abs, "abs"),
}.items():
    writes(*_keys)(_function(_kind))


@writes(nn.LeakyReLU, nn.ELU)
def _sloped(draft, module, bottoms, rest, keywords):
    layer = draft.add("ReLU" if isinstance(module, nn.LeakyReLU) else "ELU", bottoms)
    if isinstance(module, nn.LeakyReLU):
        layer.relu_param.negative_slope = module.negative_slope
    else:
        layer.elu_param.alpha = module.alpha
    return layer.name


@writes(nn.PReLU)
def _prelu(draft, module, bottoms, rest, keywords):
    layer = draft.add("PReLU", bottoms, [module.weight])
    layer.prelu_param.channel_shared = module.num_parameters == 1
    return layer.name


@writes(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity, F.dropout, "contiguous")
def _nothing(draft, module, bottoms, rest, keywords):
    return bottoms[0]


@writes(nn.Softmax, F.softmax, torch.softmax, "softmax")
def _softmax(draft, module, bottoms, rest, keywords):
    axis = module.dim if module is not None else keywords.get("dim", rest[0] if rest else None)
    layer = draft.add("Softmax", bottoms)
    layer.softmax_param.axis = axis if axis is not None else 1
    return layer.name


# --- pools and shapes ------------------------------------------------------------------------------------------------


def _pool(draft, bottoms, method, kernel, stride=None, padding=0, ceil_mode=False):
    layer = draft.add("Pooling", bottoms)
    param = layer.pooling_param
    param.pool = method
    param.kernel_h, param.kernel_w = draft.pair(kernel, 1)
    param.stride_h, param.stride_w = draft.pair(stride or kernel, 1)
    param.pad_h, param.pad_w = draft.pair(padding, 0)
    param.round_mode = param.CEIL if ceil_mode else param.FLOOR
    return layer.name


@writes(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(draft, module, bottoms, rest, keywords):
    if module.dilation not in (1, (1, 1)) or module.return_indices:
        draft.refuse("plain max pooling", "dilation, or indices")
    sizes = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return _pool(draft, bottoms, caffe_pb2.PoolingParameter.MAX, *sizes)


@writes(F.max_pool1d, F.max_pool2d)
def _max_pool_function(draft, module, bottoms, rest, keywords):
    known = ("stride", "padding", "ceil_mode")
    given = {key: value for key, value in keywords.items() if key in known}
    plain = {"kernel_size": None, "dilation": 1, "return_indices": False}
    if any(plain.get(key, value) not in (value, None) for key, value in keywords.items()) or len(rest) > 3:
        draft.refuse("plain max pooling", "dilation, or indices")
    sizes = [*rest, *([keywords["kernel_size"]] if "kernel_size" in keywords else [])]
    return _pool(draft, bottoms, caffe_pb2.PoolingParameter.MAX, *sizes, **given)


@writes(nn.AvgPool1d, nn.AvgPool2d)
def _average_pool(draft, module, bottoms, rest, keywords):
    padded = module.padding not in (0, (0,), (0, 0))
    if (padded and not module.count_include_pad) or getattr(module, "divisor_override", None):
        draft.refuse("averages that count the padding, without another divisor", "others")
    sizes = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return _pool(draft, bottoms, caffe_pb2.PoolingParameter.AVE, *sizes)


@writes(F.avg_pool1d, F.avg_pool2d)
def _average_pool_function(draft, module, bottoms, rest, keywords):
    if len(rest) > 2 or set(keywords) - {"kernel_size", "stride"}:
        draft.refuse("averages over a kernel with a stride alone", [*rest, *keywords])
    return _pool(draft, bottoms, caffe_pb2.PoolingParameter.AVE, *rest, **{
        {"kernel_size": "kernel"}.get(key, key): value for key, value in keywords.items()
    })  # fmt: skip


@writes(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
def _global_average(draft, module, bottoms, rest, keywords):
    if module.output_size not in (1, (1,), (1, 1)):
        draft.refuse("one value a channel", module.output_size)
    layer = draft.add("Pooling", bottoms)
    layer.pooling_param.pool, layer.pooling_param.global_pooling = layer.pooling_param.AVE, True
    return layer.name


@writes(nn.Flatten, torch.flatten, "flatten", "view", "reshape", torch.reshape)
def _flatten(draft, module, bottoms, rest, keywords):
    """All axes behind the first as one, however it is said."""
    before = draft.shapes[bottoms[0]]
    if draft.shape != (before[0], int(np.prod(before[1:]))):
        draft.refuse("all axes but the first as one", f"shape {draft.shape} of {before}")
    return draft.add("Flatten", bottoms).name


@writes(torch.cat, torch.concat)
def _concat(draft, module, bottoms, rest, keywords):
    axis = keywords.get("dim", rest[0] if rest else 0) % len(draft.shape)
    if axis > 1 or axis == 0:
        draft.refuse("tensors joined along the channels (axis 1)", f"axis {axis}")
    return draft.add("Concat", bottoms).name
