"""Slow twin of whole networks: the textbook rules by torch's autograd in float64, one blob after the other.

Reads the prototxt's layers itself and imports nothing of `lrp`. A rule's contributions are written out from its
equation and sent back by torch's vector-Jacobian product; max pooling unfolds its windows and shares ties. Networks
without branches only.
"""

import numpy as np
import torch
from torch.nn import functional as F

EPSILON, GUARD = 1e-6, 1e-9  # the documented stabilisers of the epsilon rule and of all others


def _plus(a):
    return a * (a > 0)


def _minus(a):
    return a * (a < 0)


def _divided(relevance, z, stabiliser):
    return relevance / torch.where(z >= 0, z + stabiliser, z - stabiliser)


class Map:
    """A linear layer's function (x, w) -> z without bias; bias shaped like z."""

    def __init__(self, function, weight, bias):
        self.function, self.weight, self.bias = function, weight, bias

    def back(self, x, w, s):
        """x * (W^T s)."""
        x = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(self.function(x, w), x, s)
        return x.detach() * g


def epsilon(m, x, R):
    """Bach et al. 2015, eq. 58; the bias keeps its share."""
    return m.back(x, m.weight, _divided(R, m.function(x, m.weight) + m.bias, EPSILON))


def _signed(m, x, R, side, bias):
    """Contributions of one sign alone share R: side is `_plus` or `_minus`; returns (shares, denominator)."""
    other = _minus if side is _plus else _plus
    terms = [(_plus(x), side(m.weight)), (_minus(x), other(m.weight))]
    z = sum(m.function(a, w) for a, w in terms) + bias
    return lambda factor: sum(m.back(a, w, _divided(factor * R, z, GUARD)) for a, w in terms), z


def zplus(m, x, R, biased=True):
    """Montavon et al. 2017, eq. 14, for inputs of both signs."""
    shares, _ = _signed(m, x, R, _plus, _plus(m.bias) if biased else 0 * m.bias)
    return shares(1)


def excitation(m, x, R):
    """z+ without bias (Zhang et al. 2016, eq. 3)."""
    return zplus(m, x, R, biased=False)


def alpha2_beta1(m, x, R):
    """Bach et al. 2015, eq. 60; an output whose contributions have one sign lacks the other side."""
    return _signed(m, x, R, _plus, _plus(m.bias))[0](2) - _signed(m, x, R, _minus, _minus(m.bias))[0](1)


def alpha2_beta1_conserving(m, x, R):
    """The same; an output whose contributions have one sign gives that side everything."""
    positive, p = _signed(m, x, R, _plus, _plus(m.bias))
    negative, n = _signed(m, x, R, _minus, _minus(m.bias))
    one = torch.ones_like(p)
    return positive(torch.where(n == 0, one, 2 * one)) - negative(torch.where(p == 0, -one, one))


def gamma(m, x, R, by=0.25):
    """Contributions of the output's sign count 1 + gamma times (Andeol et al. 2021)."""
    z = m.function(x, m.weight) + m.bias
    result = 0
    for side, own in ((_plus, z > 0), (_minus, z < 0)):
        other = _minus if side is _plus else _plus
        raised = m.function(_plus(x), side(m.weight)) + m.function(_minus(x), other(m.weight)) + side(m.bias)
        s = _divided(R * own, z + by * raised, GUARD)
        result = (
            result
            + m.back(x, m.weight, s)
            + by * (m.back(_plus(x), side(m.weight), s) + m.back(_minus(x), other(m.weight), s))
        )
    return result


def flat(m, x, R):
    """Equal shares among what an output sees (Lapuschkin et al. 2019)."""
    ones, w = torch.ones_like(x), torch.ones_like(m.weight)
    return m.back(ones, w, _divided(R, m.function(ones, w), GUARD))


def box(m, x, R):
    """Montavon et al. 2017, eq. 18, between the smallest and the largest value of each item."""
    axes = tuple(range(1, x.ndim))
    low, high = (end(x, axes, keepdim=True).expand_as(x) for end in (torch.amin, torch.amax))
    terms = [(1, x, m.weight), (-1, low, _plus(m.weight)), (-1, high, _minus(m.weight))]
    z = sum(sign * m.function(a, w) for sign, a, w in terms)
    s = _divided(R, z, GUARD)
    return sum(sign * m.back(a, w, s) for sign, a, w in terms)


# --- the LRP toolbox for Caffe (base_conv_layer.cpp, inner_product_layer.cpp), as loops over its formulas -----------
def toolbox_epsilon(m, x, R):
    """R / (z + 1) where z > 0, R / (z - 1) where z < 0 and R itself where z = 0, back through W, times x."""
    z = m.function(x, m.weight) + m.bias
    return m.back(x, m.weight, torch.where(z > 0, R / (z + 1), torch.where(z < 0, R / (z - 1), R)))


def toolbox_alphabeta(m, x, R):
    """beta = 1, alpha = 2: with p and n the sums of the positive and the negative products and biases, 2 R / p where
    p > 0 and R / n where n < 0, else nothing."""
    x = x.detach()
    positive = [(_plus(x), _plus(m.weight)), (_minus(x), _minus(m.weight))]
    negative = [(_plus(x), _minus(m.weight)), (_minus(x), _plus(m.weight))]
    p = sum(m.function(*pair) for pair in positive) + m.bias.clamp(min=0)
    n = sum(m.function(*pair) for pair in negative) + m.bias.clamp(max=0)
    up = torch.where(p > 0, R / torch.where(p > 0, p, 1), 0)
    down = torch.where(n < 0, R / torch.where(n < 0, n, 1), 0)
    return 2 * sum(m.back(*pair, up) for pair in positive) - sum(m.back(*pair, down) for pair in negative)


def _toolbox_shares(m, x, R, weight):
    """Every output's relevance by the weights, padding included, which keeps its share."""
    return m.back(torch.ones_like(x), weight, R / weight.sum((1, 2, 3))[:, None, None])


def toolbox_flat(m, x, R):
    """1 / the kernel's area for every input (of one channel)."""
    return _toolbox_shares(m, x, R, torch.ones_like(m.weight))


def toolbox_wsquare(m, x, R):
    """w^2 / sum w^2 for every input."""
    return _toolbox_shares(m, x, R, m.weight**2)


# {composite: (rule of the first layer, of the other convolutions, of inner products)}
COMPOSITES = {
    "toolbox_100": (toolbox_alphabeta, toolbox_alphabeta, toolbox_epsilon),
    "toolbox_102": (toolbox_flat, toolbox_alphabeta, toolbox_epsilon),
    "toolbox_104": (toolbox_wsquare, toolbox_alphabeta, toolbox_epsilon),
    "epsilon_alpha2_beta1_conserving": (alpha2_beta1_conserving, alpha2_beta1_conserving, epsilon),
    "epsilon_alpha2_beta1_conserving_flat": (flat, alpha2_beta1_conserving, epsilon),
    "epsilon_plus": (zplus, zplus, epsilon),
    "epsilon_plus_flat": (flat, zplus, epsilon),
    "epsilon_alpha2_beta1": (alpha2_beta1, alpha2_beta1, epsilon),
    "epsilon_alpha2_beta1_flat": (flat, alpha2_beta1, epsilon),
    "epsilon_gamma_box": (box, gamma, epsilon),
    "excitation_backprop": (excitation, excitation, excitation),
}


def _size(param, name, default):
    short = name.removesuffix("_size")
    if param.HasField(f"{short}_h"):
        return getattr(param, f"{short}_h"), getattr(param, f"{short}_w")
    value = getattr(param, name)
    value = (value[0] if len(value) else default) if not isinstance(value, int) else value or default
    return value, value


def _convolution(param, weights):
    p = param.convolution_param
    weight, bias = (torch.from_numpy(a).double() for a in weights)
    geometry = {"stride": _size(p, "stride", 1), "padding": _size(p, "pad", 0), "groups": p.group}
    return Map(lambda x, w: F.conv2d(x, w, **geometry), weight, bias[:, None, None])


def _windows(x, kernel, stride):
    """(windows (N, C, K, P) of x, how to add them up again), Caffe's sizes: rounded up, clipped at the end."""
    counts = [-(-(size - k) // stride) + 1 for size, k in zip(x.shape[2:], kernel, strict=True)]
    padded = [(count - 1) * stride + k for count, k in zip(counts, kernel, strict=True)]
    room = (0, padded[1] - x.shape[3], 0, padded[0] - x.shape[2])
    n, c = x.shape[:2]
    columns = F.unfold(F.pad(x, room, value=-np.inf), kernel, stride=stride).reshape(n, c, -1, counts[0] * counts[1])

    def fold(values):
        image = F.fold(values.reshape(n, -1, values.shape[-1]), padded, kernel, stride=stride)
        return image[:, :, : x.shape[2], : x.shape[3]]

    return columns, fold, counts


def _pool(x, kernel, stride):
    columns, _, counts = _windows(x, kernel, stride)
    return columns.amax(2).reshape(*x.shape[:2], *counts)


def _unpool(x, R, kernel, stride, first):
    """first: tied maxima do not share; the first of them, in row-major order, wins."""
    columns, fold, _ = _windows(x, kernel, stride)
    won = (columns == columns.amax(2, keepdim=True)).double()
    if first:
        won = F.one_hot(won.argmax(2), won.shape[2]).transpose(2, 3).double()
    return fold(won / won.sum(2, keepdim=True) * R.reshape(*R.shape[:2], 1, -1))


def relevances(net, weights, x, target, composite):
    """(scores (N, classes), {layer name: relevance of its output}, relevance of x), float64 numpy arrays.

    net: NetParameter of a chain of layers; weights: {layer name: [weight, bias]}; composite: one of `COMPOSITES`.
    A Power layer on the input is part of the first convolution: its factor and shift move into weight and bias.
    """
    first, convolutional, dense = COMPOSITES[composite]
    h, steps, scale, shift = torch.from_numpy(np.asarray(x, np.float64)), [], 1.0, 0.0
    with torch.no_grad():
        for param in net.layer:
            below = h
            if param.type in ("Convolution", "InnerProduct"):
                if param.type == "Convolution":
                    m = _convolution(param, weights[param.name])
                    m.bias = m.bias + shift * m.weight.sum((1, 2, 3))[:, None, None]
                    m.weight = m.weight * scale
                    scale, shift = 1.0, 0.0
                    rule = convolutional if any(kind == "linear" for _, kind, *_ in steps) else first
                else:
                    weight, bias = (torch.from_numpy(a).double() for a in weights[param.name])
                    m, rule, below = Map(F.linear, weight, bias), dense, h.flatten(1)
                h = m.function(below, m.weight) + m.bias
                steps.append((param.name, "linear", below, m, rule))
            elif param.type == "ReLU":
                h = _plus(h)
                steps.append((param.name, "pass", below))
            elif param.type == "Pooling":
                p = param.pooling_param
                kernel, stride = _size(p, "kernel_size", 0), p.stride
                h = _pool(h, kernel, stride)
                steps.append((param.name, "pool", below, kernel, stride))
            elif param.type == "Power":
                scale, shift = param.power_param.scale, param.power_param.shift
            else:
                assert param.type in ("Input", "Dropout", "Softmax"), param.type
    scores = h
    R = scores * F.one_hot(torch.tensor(target), scores.shape[1])
    by_layer = {}
    for name, kind, below, *more in reversed(steps):
        by_layer[name] = R.numpy()
        if kind == "linear":
            m, rule = more
            R = rule(m, below, R)
        elif kind == "pool":
            R = _unpool(below, R.reshape(_pool(below, *more).shape), *more, composite.startswith("toolbox"))
        R = R.reshape(below.shape)
    return scores.numpy(), by_layer, R.numpy()
