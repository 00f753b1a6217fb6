"""How each layer type is written in torch, as it is in phase TEST (docs/engine.md section 2)."""

from __future__ import annotations

import math

import torch

from caffe.export.pieces import LSTM, RNN, largest, lstm_cell
from caffe.export.source import Draft, number, sized, writes
from caffe.layers.pooling import Pooling

# --- element by element ----------------------------------------------------------------------------------------------


@writes("ReLU")
def _relu(d: Draft) -> None:
    d.assign(f"F.relu({d.x[0]})" if d.layer.slope == 0 else f"F.leaky_relu({d.x[0]}, {number(d.layer.slope)})")


@writes("PReLU")
def _prelu(d: Draft) -> None:
    slopes = d.params[0].flatten()
    d.assign(f"{d.module(f'nn.PReLU({len(slopes)})', weight=slopes)}({d.x[0]})")


@writes("ELU")
def _elu(d: Draft) -> None:
    d.assign(f"F.elu({d.x[0]}, {number(d.layer.alpha)})")


@writes("Sigmoid", "TanH", "AbsVal")
def _function(d: Draft) -> None:
    d.assign(f"torch.{ {'Sigmoid': 'sigmoid', 'TanH': 'tanh', 'AbsVal': 'abs'}[d.layer.type] }({d.x[0]})")


@writes("Swish")
def _swish(d: Draft) -> None:
    d.assign(f"{d.x[0]} * torch.sigmoid({_times(d.layer.beta, d.x[0])})")


@writes("BNLL")
def _bnll(d: Draft) -> None:
    d.assign(f"F.softplus({d.x[0]})")


@writes("Clip")
def _clip(d: Draft) -> None:
    d.assign(f"torch.clamp({d.x[0]}, {number(d.layer.low)}, {number(d.layer.high)})")


@writes("Threshold")
def _threshold(d: Draft) -> None:
    d.assign(f"({d.x[0]} > {number(d.layer.threshold)}).float()")


@writes("Power")
def _power(d: Draft) -> None:
    power, scale, shift = d.layer.power, d.layer.scale, d.layer.shift
    if power * scale == 0:
        d.assign(f"torch.full_like({d.x[0]}, {number(1.0 if power == 0 else shift**power)})")
        return
    base = _affine(d.x[0], scale, shift)
    if power == 1 and base == d.x[0]:
        d.is_bottom()
        return
    d.assign(base if power == 1 else f"torch.pow({base}, {number(power)})")


@writes("Exp")
def _exp(d: Draft) -> None:
    d.assign(_times(d.layer.outer, f"torch.exp({_times(d.layer.inner, d.x[0])})"))


@writes("Log")
def _log(d: Draft) -> None:
    d.assign(_times(d.layer.factor, f"torch.log({_affine(d.x[0], d.layer.scale, d.layer.shift)})"))


def _times(factor: float, expression: str) -> str:
    return expression if factor == 1 else f"{number(factor)} * {expression}"


def _affine(x: str, scale: float, shift: float) -> str:
    return _times(scale, x) + (f" + {number(shift)}" if shift else "")


# --- weights ---------------------------------------------------------------------------------------------------------


def _weights(d: Draft, text: str, options: dict[str, object], weight: torch.Tensor) -> str:
    """A module of torch with a weight and maybe a bias; returns the expression that names it."""
    bias = {"bias": d.params[1]} if len(d.params) > 1 else {}
    options = options if bias else {**options, "bias": False}
    given = "".join(f", {name}={value}" for name, value in options.items())
    return d.module(f"{text}{given})", weight=weight, **bias)


@writes("Convolution", "Deconvolution")
def _convolution(d: Draft) -> None:
    layer, axes = d.layer, d.layer.axes
    weight = d.params[0] if axes else d.params[0].unsqueeze(-1)
    options = {}
    for name, values, default in (
        ("stride", layer.stride, 1), ("padding", layer.pad, 0), ("dilation", layer.dilation, 1),
    ):  # fmt: skip
        if any(value != default for value in values):
            options[name] = sized(values)
    if layer.group > 1:
        options["groups"] = layer.group
    kind = ("ConvTranspose" if layer.transposed else "Conv") + f"{max(axes, 1)}d"
    outputs = layer.layer_param.convolution_param.num_output
    text = f"nn.{kind}({layer.channels}, {outputs}, {sized(layer.kernel) if axes else 1}"
    module = _weights(d, text, options, weight.contiguous())
    for x, y in zip(d.x, d.y, strict=True):
        d.lines.append(f"{y} = {_on_items(d, f'{module}({{}})', x, d.top_shape)}")


def _on_items(d: Draft, call: str, x: str, top_shape: tuple[int, ...]) -> str:
    """`call` of x, a text with {}, with all axes before the channels merged, and at least one spatial axis."""
    merged = x if d.layer.axis == 1 else f"{x}.reshape(-1, {', '.join(map(str, d.shape[d.layer.axis :]))})"
    result = call.format(merged) if d.layer.axes else call.format(f"{merged}.unsqueeze(-1)") + ".squeeze(-1)"
    return result if d.layer.axis == 1 else f"{result}.reshape({', '.join(map(str, top_shape))})"


@writes("Im2col")
def _im2col(d: Draft) -> None:
    layer, axes = d.layer, d.layer.axes
    if axes > 2:
        d.refuse(f"{axes} spatial axes, of which torch unfolds two")
    kernel, dilation, pad, stride = (
        tuple([neutral] * (2 - axes) + list(values))
        for values, neutral in ((layer.kernel, 1), (layer.dilation, 1), (layer.pad, 0), (layer.stride, 1))
    )
    x = f"{d.x[0]}.reshape(-1, {layer.channels}, {'1, ' * (2 - axes)}{', '.join(map(str, d.shape[-axes:]))})"
    unfolded = f"F.unfold({x}, {kernel}, dilation={dilation}, padding={pad}, stride={stride})"
    d.assign(f"{unfolded}.reshape({', '.join(map(str, d.top_shape))})")


@writes("InnerProduct")
def _inner_product(d: Draft) -> None:
    layer, axis = d.layer, d.layer.axis
    weight = layer.weight().detach().cpu().contiguous()
    module = _weights(d, f"nn.Linear({weight.shape[1]}, {weight.shape[0]}", {}, weight)
    x = d.x[0] if axis == len(d.shape) - 1 else f"{d.x[0]}.flatten({axis})"
    d.assign(f"{module}({x})")


@writes("Embed")
def _embed(d: Draft) -> None:
    weight = d.tensor("weight", d.params[0])
    bias = f" + {d.tensor('bias', d.params[1])}" if len(d.params) > 1 else ""
    d.integers(0, len(d.params[0]))
    d.assign(f"F.embedding({d.x[0]}.long(), {weight}){bias}")


@writes("Scale", "Bias")
def _scale(d: Draft) -> None:
    layer, sign = d.layer, "*" if d.layer.type == "Scale" else "+"
    if len(d.x) > 1:
        operand = f"{d.x[1]}.reshape({', '.join(map(str, layer.wide))})"
    else:
        operand = d.tensor("factor" if sign == "*" else "term", d.params[0].reshape(layer.wide))
    bias = ""
    if layer.type == "Scale" and layer.param.bias_term:
        bias = f" + {d.tensor('bias', d.params[-1].reshape(layer.wide))}"
    d.assign(f"{d.x[0]} {sign} {operand}{bias}")


@writes("Parameter")
def _parameter(d: Draft) -> None:
    d.aliases[0] = d.tensor("", d.params[0])


# --- windows ---------------------------------------------------------------------------------------------------------


@writes("Pooling")
def _pooling(d: Draft) -> None:
    pool = d.layer
    if len(d.y) == 1:
        d.assign(_pooled(d, pool, d.x[0], "pool"))
        return
    values, places = d.y
    d.lines.append(f"{values}, {places} = {_pooled(d, pool, d.x[0], 'pool', ', return_indices=True')}")
    (up, _), (left, right) = pool.border
    width = d.shape[3]
    if up or left or right:  # places in the padded image become those in the image
        padded = width + left + right
        d.lines.append(f"{places} = ({places} // {padded} - {up}) * {width} + {places} % {padded} - {left}")
    d.lines.append(f"{places} = {places}.float()")


@writes("SPP")
def _spp(d: Draft) -> None:
    pooled = [f"{_pooled(d, pool, d.x[0], f'level{i}')}.flatten(1)" for i, pool in enumerate(d.layer.pools)]
    if len(pooled) == 1:
        d.assign(pooled[0].removesuffix(".flatten(1)"))
    else:
        d.assign(f"torch.cat([{', '.join(pooled)}], 1)")


def _pooled(d: Draft, pool: Pooling, x: str, key: str, more: str = "") -> str:
    """Pooling of the expression `x`, over an image that is padded as far as windows reach, rounded down.

    Runtimes disagree about windows at borders that are rounded up, and about what an average divides by there.
    """
    (up, down), (left, right) = pool.border
    border = (left, right, up, down)
    window = f"{sized(pool.kernel)}, {sized(pool.stride)}"
    if pool.is_max:
        empty = any(
            (out - 1) * stride - pad >= size
            for out, stride, pad, size in zip(pool.out, pool.stride, pool.pad, d.shape[2:], strict=True)
        )
        lowest = "torch.finfo().min" if empty else '-float("inf")'  # Caffe's maximum of nothing is the lowest number
        padded = f"F.pad({x}, {border}, value={lowest})" if any(border) else x
        return f"F.max_pool2d({padded}, {window}{more})"
    padded = f"F.pad({x}, {border})" if any(border) else x
    mean = f"F.avg_pool2d({padded}, {window})"
    if pool.stochastic:
        d.lines.append(f"{d.y[0]}_mean = {mean}")
        squares = mean.replace(padded, f"{padded} ** 2", 1)
        return f"torch.where({d.y[0]}_mean > 0, {squares} / {d.y[0]}_mean, torch.zeros_like({d.y[0]}_mean))"
    counted = pool.divisor(d.node.bottoms[0].value).cpu()
    share = math.prod(pool.kernel) / counted
    return mean if bool((share == 1).all()) else f"{mean} * {d.tensor(f'{key}_share', share, learned=False)}"


@writes("LRN")
def _lrn(d: Draft) -> None:
    layer = d.layer
    reach = max(d.shape[2:]) if layer.within else d.shape[1]
    radius = min(layer.size // 2, reach - 1)  # beyond there are zeros alone
    size = 2 * radius + 1
    if layer.within:
        alpha = number(layer.alpha * size**2 / layer.size**2)
        mean = f"F.avg_pool2d({d.x[0]} ** 2, {size}, 1, {radius})"
        d.assign(f"{d.x[0]} * ({number(layer.k)} + {alpha} * {mean}) ** {number(-layer.beta)}")
    else:
        alpha = number(layer.alpha * size / layer.size)
        numbers = f"{size}, {alpha}, {number(layer.beta)}, {number(layer.k)}"
        d.assign(f"F.local_response_norm({d.x[0]}, {numbers})")


@writes("Crop")
def _crop(d: Draft) -> None:
    def part(window: slice, size: int) -> str:
        return ":" if (window.start, window.stop) == (0, size) else f"{window.start}:{window.stop}"

    d.assign(f"{d.x[0]}[{', '.join(map(part, d.layer.window, d.shape))}]")


# --- statistics ------------------------------------------------------------------------------------------------------


@writes("BatchNorm")
def _batch_norm(d: Draft) -> None:
    if not d.layer.stored:
        axes = tuple(axis for axis in range(len(d.shape)) if axis != 1)
        mean, variance = f"{d.x[0]}.mean({axes}, keepdim=True)", f"{d.x[0]}.var({axes}, correction=0, keepdim=True)"
        d.assign(f"({d.x[0]} - {mean}) / torch.sqrt({variance} + {number(d.layer.eps)})")
        return
    mean, variance, factor = d.params
    scale = 0.0 if factor.item() == 0 else 1 / factor.item()
    shape = (1, -1) + (1,) * (len(d.shape) - 2)
    deviation = (variance * scale + d.layer.eps).sqrt()
    mean = d.tensor("mean", (mean * scale).reshape(shape), learned=False)
    d.assign(f"({d.x[0]} - {mean}) / {d.tensor('deviation', deviation.reshape(shape), learned=False)}")


@writes("MVN")
def _mvn(d: Draft) -> None:
    param = d.layer.layer_param.mvn_param
    axes = (1, 2, 3) if param.across_channels else (2, 3)
    x = d.x[0] if len(d.shape) == 4 else f"{d.x[0]}.reshape({', '.join(map(str, d.top_shape))})"
    d.assign(f"{x} - {x}.mean({axes}, keepdim=True)")
    if param.normalize_variance:
        deviation = f"torch.sqrt(({d.y[0]} ** 2).mean({axes}, keepdim=True))"
        d.assign(f"{d.y[0]} / ({deviation} + {number(param.eps)})")


@writes("Softmax")
def _softmax(d: Draft) -> None:
    d.assign(f"{d.x[0]}.softmax({d.layer.axis})")


@writes("Reduction")
def _reduction(d: Draft) -> None:
    param = d.layer.layer_param.reduction_param
    axis = d.node.bottoms[0].axis(param.axis)
    x = d.x[0] if axis == len(d.shape) - 1 else f"{d.x[0]}.flatten({axis})"
    if param.operation == param.ASUM:
        x = f"{x}.abs()"
    elif param.operation == param.SUMSQ:
        x = f"({x} ** 2)"
    d.assign(_times(d.layer.coefficient, f"{x}.sum(-1)"))


@writes("ArgMax")
def _argmax(d: Draft) -> None:
    layer = d.layer
    x, axis = (f"{d.x[0]}.flatten(1)", 1) if layer.axis is None else (d.x[0], layer.axis)
    if layer.axis is None and len(d.shape) < 2:
        x = f"{d.x[0]}.unsqueeze(1)"
    d.classes.append(largest)
    values, indices = f"{d.y[0]}_values", f"{d.y[0]}_indices"
    d.lines.append(f"{values}, {indices} = largest({x}, {layer.top_k}, {axis})")
    if layer.axis is None:
        result = f"torch.stack([{indices}, {values}], 1)" if layer.values else indices
        result = f"{result}.reshape({', '.join(map(str, d.top_shape))})"
    else:
        result = values if layer.values else indices
    d.assign(result)


# --- shapes, pieces, sums --------------------------------------------------------------------------------------------


@writes("Split", "Dropout")
def _same(d: Draft) -> None:
    d.is_bottom()


@writes("Silence")
def _silence(d: Draft) -> None:
    """Nothing to write."""


@writes("Flatten")
def _flatten(d: Draft) -> None:
    param, axis = d.layer.layer_param.flatten_param, d.node.bottoms[0].axis
    d.assign(f"{d.x[0]}.flatten({axis(param.axis)}, {axis(param.end_axis)})")


@writes("Reshape")
def _reshape(d: Draft) -> None:
    d.assign(f"{d.x[0]}.reshape({', '.join(map(str, d.top_shape)) or '()'})")


@writes("Concat")
def _concat(d: Draft) -> None:
    if len(d.x) == 1:
        d.is_bottom()
    else:
        d.assign(f"torch.cat([{', '.join(d.x)}], {d.layer.axis})")


@writes("Slice")
def _slice(d: Draft) -> None:
    if len(d.y) == 1:
        d.is_bottom()
    else:
        d.lines.append(f"{', '.join(d.y)} = {d.x[0]}.split({d.layer.sizes}, {d.layer.axis})")


@writes("Tile")
def _tile(d: Draft) -> None:
    d.assign(f"torch.cat([{d.x[0]}] * {d.layer.tiles}, {d.layer.axis})")


@writes("Eltwise")
def _eltwise(d: Draft) -> None:
    layer, param = d.layer, d.layer.layer_param.eltwise_param
    if layer.operation == param.PROD:
        d.assign(" * ".join(d.x))
    elif layer.operation == param.SUM:
        terms = [_times(factor, x) for factor, x in zip(layer.coefficients, d.x, strict=True)]
        d.assign(" + ".join(terms))
    else:
        largest = d.x[0]
        for x in d.x[1:]:
            largest = f"torch.maximum({largest}, {x})"
        d.assign(largest)


@writes("BatchReindex")
def _batch_reindex(d: Draft) -> None:
    d.integers(1, d.shape[0])
    d.assign(f"{d.x[0]}[{d.x[1]}.long()]")


@writes("Filter")
def _filter(d: Draft) -> None:
    d.integers(len(d.x) - 1, 2)
    for x, y in zip(d.x, d.y, strict=False):
        d.lines.append(f"{y} = {x}[{d.x[-1]}.flatten() != 0]")


# --- sequences -------------------------------------------------------------------------------------------------------


@writes("LSTMUnit")
def _lstm_unit(d: Draft) -> None:
    d.classes.append(lstm_cell)
    d.integers(2, 2)
    c, gates, cont = d.x
    d.lines.append(f"{', '.join(d.y)} = lstm_cell({c}[0], {gates}[0], {cont}[0].unsqueeze(1))")
    d.lines.append(f"{', '.join(d.y)} = {', '.join(f'{y}.unsqueeze(0)' for y in d.y)}")


@writes("LSTM", "RNN")
def _recurrent(d: Draft) -> None:
    """Begins with states of zero, as the engine does with the first pass, unless the states come in."""
    layer = d.layer
    keys = ["w_x", "b", *(["w_static"] if layer.static else []), "w_h"]
    d.classes.extend([lstm_cell, LSTM] if layer.type == "LSTM" else [RNN])
    keys += [] if layer.type == "LSTM" else ["w_o", "b_o"]
    d.integers(1, 2)
    features = ", ".join(map(str, [layer.units, *layer.features]))
    module = d.module(f"{layer.type}({features})", **dict(zip(keys, d.params, strict=True)))
    given = [*d.x[: 2 + layer.static]]
    if layer.exposed:
        states = d.x[2 + layer.static :]
        given += [f"{name}={x}" for name, x in zip(("h", "c"), states, strict=False)]
        d.lines.append(f"{', '.join(d.y)} = {module}({', '.join(given)})")
    else:
        d.assign(f"{module}({', '.join(given)})[0]")
