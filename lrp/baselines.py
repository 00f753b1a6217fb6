"""Explanations to compare relevance with: gradients and occlusion.

Every method is a function (network, x, target, dtype, **settings) -> `Explanation`, registered in `METHODS`; `target`
is as in `Network.relevance`. They do not conserve anything; sum(R)/score is shown all the same.
"""

import inspect

import numpy as np

from lrp.errors import LRPError
from lrp.network import Explanation

METHODS = {}


def method(function):
    """Decorator: register a method under its function's name."""
    METHODS[function.__name__] = function
    return function


def silence(x):
    """What stands for "nothing" in every item of a batch, (N, 1, ...): 0 where values have both signs (waveforms), else
    the item's smallest value (spectrograms in decibels)."""
    axes = tuple(range(1, x.ndim))
    lowest, highest = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    return np.where((lowest < 0) & (highest > 0), np.zeros((), x.dtype), lowest)


def explain(network, x, how="epsilon_plus", target=None, dtype=np.float32):
    """The `Explanation` of a batch by a method's name (`METHODS`), or by a composite (name, file or `Composite`)."""
    if isinstance(how, str) and how in METHODS:
        return METHODS[how](network, x, target, dtype)
    return network.relevance(x, target, how, dtype)


def _explanation(network, x, target, dtype, values, settings):
    """`values` (N, C, H, W) as an Explanation; settings: the calling method's arguments that go into its name."""
    name = inspect.stack()[1].function
    scores = network.forward(x, dtype)
    start, prediction, chosen = network.start(scores, target)
    text = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return Explanation(values, scores, start.sum(axis=1, dtype=np.float64), prediction, chosen,
                       f"{name}({text})" if settings else name, {})


def _fixed(network, x, target, dtype):
    """The target with None replaced by the classes predicted for x itself."""
    return network.forward(x, dtype).argmax(axis=1) if target is None else target


@method
def gradient(network, x, target=None, dtype=np.float32):
    """The score's gradient with respect to the input (Simonyan et al. 2014)."""
    x = network.check_input(x, dtype)
    return _explanation(network, x, target, dtype, network.gradient(x, target, dtype), {})


@method
def gradient_x_input(network, x, target=None, dtype=np.float32):
    """Gradient times input (Shrikumar et al. 2016)."""
    x = network.check_input(x, dtype)
    return _explanation(network, x, target, dtype, x * network.gradient(x, target, dtype), {})


@method
def deconvolution(network, x, target=None, dtype=np.float32):
    """Gradient whose way through a ReLU is a ReLU of its own (Zeiler and Fergus 2014)."""
    x = network.check_input(x, dtype)
    return _explanation(network, x, target, dtype, network.gradient(x, target, dtype, "deconvolution"), {})


@method
def guided_backpropagation(network, x, target=None, dtype=np.float32):
    """Gradient that passes a ReLU where both it and the activation are positive (Springenberg et al. 2015)."""
    x = network.check_input(x, dtype)
    return _explanation(network, x, target, dtype, network.gradient(x, target, dtype, "guided"), {})


@method
def integrated_gradients(network, x, target=None, dtype=np.float32, steps=32, baseline=None):
    """(x - x') times the mean gradient on the straight line from x' to x (Sundararajan et al. 2017, eq. 1).

    steps: points of the midpoint rule. baseline: x' as a number; None is `silence`.
    """
    x = network.check_input(x, dtype)
    fixed = _fixed(network, x, target, dtype)
    start = silence(x) if baseline is None else np.asarray(baseline, x.dtype)
    total = np.zeros(x.shape, np.float64)
    for step in range(steps):
        share = np.asarray((step + 0.5) / steps, x.dtype)
        total += network.gradient(start + share * (x - start), fixed, dtype)
    values = ((x - start) * total / steps).astype(dtype)
    return _explanation(network, x, fixed, dtype, values, {"steps": steps, "baseline": baseline})


@method
def smoothgrad(network, x, target=None, dtype=np.float32, samples=16, noise=0.1, seed=0):
    """The mean gradient over noisy copies of the input (Smilkov et al. 2017).

    noise: standard deviation, as a share of the item's range. Every item gets the same draws, whatever its company.
    """
    x = network.check_input(x, dtype)
    fixed = _fixed(network, x, target, dtype)
    axes = tuple(range(1, x.ndim))
    spread = noise * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))
    rng = np.random.default_rng(seed)
    total = np.zeros(x.shape, np.float64)
    for _ in range(samples):
        total += network.gradient(x + (spread * rng.normal(size=x.shape[1:])).astype(dtype), fixed, dtype)
    settings = {"samples": samples, "noise": noise, "seed": seed}
    return _explanation(network, x, fixed, dtype, (total / samples).astype(dtype), settings)


@method
def occlusion(network, x, target=None, dtype=np.float32, size=None, stride=None, baseline=None):
    """How much the score falls when a window is replaced by nothing (Zeiler and Fergus 2014), averaged over the windows
    that cover a value.

    size, stride: (height, width) of windows, default a fourteenth of the input and half of that. baseline: what the
    window is filled with; None is `silence`.
    """
    x = network.check_input(x, dtype)
    _, _, height, width = x.shape
    size = size or (max(1, height // 14), max(1, width // 14))
    stride = stride or (max(1, size[0] // 2), max(1, size[1] // 2))
    fixed = _fixed(network, x, target, dtype)
    fill = silence(x) if baseline is None else np.full((len(x), 1, 1, 1), baseline, x.dtype)
    weight = network.start(network.forward(x, dtype), fixed)[0] != 0
    if np.asarray(fixed).ndim == 2:
        raise LRPError("occlusion: a relevance of the scores given as target; a class wanted")
    full = (network.forward(x, dtype) * weight).sum(axis=1)

    def starts(length, window, step):
        return sorted({*range(0, max(length - window, 0) + 1, step), max(length - window, 0)})

    places = [(a, b) for a in starts(height, size[0], stride[0]) for b in starts(width, size[1], stride[1])]
    values = np.zeros(x.shape, np.float64)
    covered = np.zeros((height, width))
    for a, b in places:
        covered[a:a + size[0], b:b + size[1]] += 1
    for n in range(len(x)):
        for first in range(0, len(places), 32):
            batch = places[first:first + 32]
            copies = np.repeat(x[n:n + 1], len(batch), axis=0)
            for copy, (a, b) in zip(copies, batch, strict=True):
                copy[:, a:a + size[0], b:b + size[1]] = fill[n]
            drops = full[n] - (network.forward(copies, dtype) * weight[n]).sum(axis=1)
            for drop, (a, b) in zip(drops, batch, strict=True):
                values[n, :, a:a + size[0], b:b + size[1]] += drop
    settings = {"size": tuple(size), "stride": tuple(stride), "baseline": baseline}
    return _explanation(network, x, fixed, dtype, (values / covered).astype(dtype), settings)
