"""Explanations to compare relevance with: gradients and occlusion.

Every method is a function (network, x, target, dtype, **settings) -> `Explanation`, registered in `METHODS`; `target`
is as in `Network.relevance`. They do not conserve anything; sum(R)/score is shown all the same.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lrp.composites import DEFAULT, Composite
from lrp.errors import LRPError, NotFiniteError
from lrp.explanation import Explanation, Target, check_finite, start
from lrp.network import Network

METHODS: dict[str, Callable[..., Explanation]] = {}
OCCLUDED_AT_ONCE = 32  # copies of an item that go through the network together


def method(function: Callable[..., np.ndarray]) -> Callable[..., Explanation]:
    """Decorator: register a function (network, x, target, dtype, **settings) -> values like x as a method.

    The method checks x, replaces a target of None by the classes predicted for x, and puts the function's values into
    an `Explanation` whose name carries all settings.
    """

    @functools.wraps(function)
    def explained(
        network: Network, x: ArrayLike, target: Target = None, dtype: DTypeLike = np.float32, **settings: Any
    ) -> Explanation:
        whole = network.fitted(x)
        x = network.check_input(whole, dtype)
        scores = network.forward(x, dtype)
        if target is None:
            target = scores.argmax(axis=1)
        above, prediction, chosen = start(scores, target, network.where)
        values = function(network, x, target, dtype, **settings)
        defaults = list(inspect.signature(function).parameters.values())[4:]
        given = ", ".join(f"{one.name}={settings.get(one.name, one.default)!r}" for one in defaults)
        name = f"{function.__name__}({given})" if given else function.__name__
        check_finite(f"relevance by {name}", values, network.where)
        score = above.sum(axis=1, dtype=np.float64)
        made = Explanation(values, scores, score, prediction, chosen, name, {})
        made.input, made.weights = whole, network.weights_file
        return made

    METHODS[function.__name__] = explained
    return explained


def silence(x: np.ndarray) -> np.ndarray:
    """What stands for "nothing" in every item of a batch, (N, 1, ...): 0 where values have both signs (waveforms), else
    the item's smallest value (spectrograms in decibels)."""
    axes = tuple(range(1, x.ndim))
    lowest, highest = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    return np.where((lowest < 0) & (highest > 0), np.zeros((), x.dtype), lowest)


@method
def gradient(network: Network, x: np.ndarray, target: Target, dtype: DTypeLike) -> np.ndarray:
    """The score's gradient with respect to the input (Simonyan et al. 2014)."""
    return network.gradient(x, target, dtype)


@method
def gradient_x_input(network: Network, x: np.ndarray, target: Target, dtype: DTypeLike) -> np.ndarray:
    """Gradient times input (Shrikumar et al. 2016)."""
    return x * network.gradient(x, target, dtype)


@method
def deconvolution(network: Network, x: np.ndarray, target: Target, dtype: DTypeLike) -> np.ndarray:
    """Gradient whose way through a ReLU is a ReLU of its own (Zeiler and Fergus 2014)."""
    return network.gradient(x, target, dtype, "deconvolution")


@method
def guided_backpropagation(network: Network, x: np.ndarray, target: Target, dtype: DTypeLike) -> np.ndarray:
    """Gradient that passes a ReLU where both it and the activation are positive (Springenberg et al. 2015)."""
    return network.gradient(x, target, dtype, "guided")


@method
def integrated_gradients(
    network: Network, x: np.ndarray, target: Target, dtype: DTypeLike, steps: int = 32, baseline: float | None = None
) -> np.ndarray:
    """(x - x') times the mean gradient on the straight line from x' to x (Sundararajan et al. 2017, eq. 1).

    steps: points of the midpoint rule. baseline: x' as a number; None is `silence`.
    """
    origin = silence(x) if baseline is None else np.asarray(baseline, x.dtype)
    total = np.zeros(x.shape, np.float64)
    for step in range(steps):
        share = np.asarray((step + 0.5) / steps, x.dtype)
        total += network.gradient(origin + share * (x - origin), target, dtype)
    return ((x - origin) * total / steps).astype(dtype)


@method
def smoothgrad(
    network: Network,
    x: np.ndarray,
    target: Target,
    dtype: DTypeLike,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
) -> np.ndarray:
    """The mean gradient over noisy copies of the input (Smilkov et al. 2017).

    noise: standard deviation, as a share of the item's range. Every item gets the same draws, whatever its company.
    """
    axes = tuple(range(1, x.ndim))
    spread = noise * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))
    rng = np.random.default_rng(seed)
    total = np.zeros(x.shape, np.float64)
    for _ in range(samples):
        total += network.gradient(x + (spread * rng.normal(size=x.shape[1:])).astype(dtype), target, dtype)
    return (total / samples).astype(dtype)


def _starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin that cover `length` values, the last one flush with the end."""
    return sorted({*range(0, max(length - window, 0) + 1, step), max(length - window, 0)})


@method
def occlusion(
    network: Network,
    x: np.ndarray,
    target: Target,
    dtype: DTypeLike,
    size: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    baseline: float | None = None,
) -> np.ndarray:
    """How much the score falls when a window is replaced by nothing (Zeiler and Fergus 2014), averaged over the windows
    that cover a value.

    The windows cover stretches of the last two axes (of the last one alone where a single axis follows the first) and
    all of those before. size, stride: (height, width) of windows, default a fourteenth of the input and half of that.
    baseline: what the window is filled with; None is `silence`.
    """
    if np.ndim(target) == 2:
        raise LRPError("occlusion: a relevance of the scores given as target; a class wanted")
    shape = x.shape[1:]
    x = x.reshape(len(x), -1, *(shape[-2:] if len(shape) > 2 else (1, shape[-1])))
    _, _, height, width = x.shape
    size = size or (max(1, height // 14), max(1, width // 14))
    stride = stride or (max(1, size[0] // 2), max(1, size[1] // 2))
    fill = silence(x) if baseline is None else np.full((len(x), 1, 1, 1), baseline, x.dtype)
    scores = network.forward(x.reshape(-1, *shape), dtype)
    explained, _, _ = start(scores, target, network.where, of_gradient=True)
    places = [(a, b) for a in _starts(height, size[0], stride[0]) for b in _starts(width, size[1], stride[1])]
    values, covered = np.zeros(x.shape, np.float64), np.zeros((height, width))
    for a, b in places:
        covered[a : a + size[0], b : b + size[1]] += 1
    for n in range(len(x)):
        for first in range(0, len(places), OCCLUDED_AT_ONCE):
            batch = places[first : first + OCCLUDED_AT_ONCE]
            copies = np.repeat(x[n : n + 1], len(batch), axis=0)
            for copy, (a, b) in zip(copies, batch, strict=True):
                copy[:, a : a + size[0], b : b + size[1]] = fill[n]
            try:
                drops = (scores[n] - network.forward(copies.reshape(-1, *shape), dtype)) @ explained[n]
            except NotFiniteError as error:
                raise NotFiniteError(n, error.what) from None  # of the item, not of the copy
            for drop, (a, b) in zip(drops, batch, strict=True):
                values[n, :, a : a + size[0], b : b + size[1]] += drop
    return (values / covered).astype(dtype).reshape(-1, *shape)


def explain(
    network: Network,
    x: ArrayLike,
    how: str | os.PathLike | Composite = DEFAULT,
    target: Target = None,
    dtype: DTypeLike = np.float32,
    absorbed: bool = False,
) -> Explanation:
    """The `Explanation` of a batch by a method's name (`METHODS`), or by a composite (name, file or `Composite`).

    absorbed: also tell what biases and stabilisers absorbed; gradients and occlusion know of no such thing.
    """
    if isinstance(how, str) and how in METHODS:
        return METHODS[how](network, x, target, dtype)
    return network.relevance(x, target, how, dtype, absorbed=absorbed)
