"""Explanations to compare relevance with: gradients and occlusion.

Every method is a function (network, x, target, dtype, **settings) -> `Explanation`, registered in `METHODS`; `target`
is as in `Network.relevance`. They are named as they are called, "smoothgrad(samples=50)", and so name themselves. They
conserve nothing, but integrated gradients are complete: they come with the error that the sum over steps leaves.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lrp.composites import DEFAULT, Composite
from lrp.errors import LRPError, NotFiniteError
from lrp.explanation import Explanation, Target, check_finite, start
from lrp.network import Network

METHODS: dict[str, Callable[..., Explanation]] = {}
OCCLUDED_AT_ONCE = 32  # copies of an item that go through the network together


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _pair(value: object) -> bool:
    return value is None or isinstance(value, tuple) and len(value) == 2 and all(_whole(one, 1) for one in value)


# {setting of a method: (what it must fulfil, in words)}
SETTINGS: dict[str, tuple[Callable[[object], bool], str]] = {
    "steps": (lambda value: _whole(value, 1), "a whole number of at least 1"),
    "samples": (lambda value: _whole(value, 1), "a whole number of at least 1"),
    "seed": (lambda value: _whole(value, 0), "a whole number of at least 0"),
    "noise": (lambda value: _number(value) and value >= 0, "a finite number of at least 0"),
    "baseline": (lambda value: value is None or _number(value), "a finite number or None"),
    "size": (_pair, "(height, width), two whole numbers of at least 1, or None"),
    "stride": (_pair, "(height, width), two whole numbers of at least 1, or None"),
}


def settings_of(name: str) -> dict[str, Any]:
    """{setting: default} of the method `name`."""
    parameters = list(inspect.signature(inspect.unwrap(METHODS[name])).parameters.values())[4:]
    return {one.name: one.default for one in parameters}


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """LRPError for a setting that the method `name` does not have, or for a value that it cannot have."""
    known = settings_of(name)
    for setting, value in settings.items():
        if setting not in known:
            raise LRPError(name, f"setting {' or '.join(known)}" if known else "no settings", repr(setting))
        good, expected = SETTINGS[setting]
        if not good(value):
            raise LRPError(f"{name}: {setting}", expected, repr(value))


def read_method(text: object) -> tuple[str, dict[str, Any]] | None:
    """(name, settings) of a method that is written as a call, "occlusion(size=(1, 40))", or by its name alone; None for
    what begins with no method's name. Raises LRPError."""
    name = text.split("(", 1)[0].strip() if isinstance(text, str) else None
    if name not in METHODS:
        return None
    try:
        call = ast.parse(text.strip(), mode="eval").body
        given = [] if isinstance(call, ast.Name) else call.keywords
        if not isinstance(call, ast.Name) and (call.args or any(one.arg is None for one in given)):
            raise ValueError
        settings = {one.arg: ast.literal_eval(one.value) for one in given}
    except (AttributeError, SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        form = ", ".join(f"{setting}={value!r}" for setting, value in settings_of(name).items())
        expected = f"{name}({form}) or a part of it" if form else name
        raise LRPError("method", expected, repr(text)) from None
    check_settings(name, settings)
    return name, settings


def method(function: Callable[..., np.ndarray | tuple[np.ndarray, dict]]) -> Callable[..., Explanation]:
    """Decorator: register a function (network, x, target, dtype, **settings) -> values like x as a method.

    The method checks x, replaces a target of None by the classes predicted for x, and puts the function's values into
    an `Explanation` whose name carries all settings. The function may return (values, {name: (N,)}) with measures of
    its own.
    """

    @functools.wraps(function)
    def explained(
        network: Network, x: ArrayLike, target: Target = None, dtype: DTypeLike = np.float32, **settings: Any
    ) -> Explanation:
        check_settings(function.__name__, settings)
        whole = network.fitted(x)
        x = network.check_input(whole, dtype)
        scores = network.forward(x, dtype)
        if target is None:
            target = scores.argmax(axis=1)
        above, prediction, chosen = start(scores, target, network.where)
        values = function(network, x, target, dtype, **settings)
        values, measures = values if isinstance(values, tuple) else (values, {})
        all_settings = settings_of(function.__name__) | settings
        given = ", ".join(f"{setting}={value!r}" for setting, value in all_settings.items())
        name = f"{function.__name__}({given})" if given else function.__name__
        check_finite(f"relevance by {name}", values, network.where)
        score = above.sum(axis=1, dtype=np.float64)
        made_from = {"input": whole, "weights": network.weights_file}
        return Explanation(values, scores, score, prediction, chosen, name, {}, measures=measures, **made_from)

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
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(x - x') times the mean gradient on the straight line from x' to x (Sundararajan et al. 2017, eq. 1).

    steps: points of the midpoint rule. baseline: x' as a number; None is `silence`. In theory they sum to f(x) - f(x')
    (ibid., proposition 1); the measure "completeness error" is |sum R - (f(x) - f(x'))| / |f(x) - f(x')|.
    """
    origin = silence(x) if baseline is None else np.asarray(baseline, x.dtype)
    total = np.zeros(x.shape, np.float64)
    for step in range(steps):
        share = np.asarray((step + 0.5) / steps, x.dtype)
        total += network.gradient(origin + share * (x - origin), target, dtype)
    values = ((x - origin) * total / steps).astype(dtype)
    scores, base = network.forward(x, dtype), network.forward(np.broadcast_to(origin, x.shape).astype(dtype), dtype)
    weights, _, _ = start(scores, target, network.where, of_gradient=True)
    difference = ((scores - base) * weights).sum(axis=1, dtype=np.float64)
    error = np.abs(values.reshape(len(x), -1).sum(axis=1, dtype=np.float64) - difference)
    relative = np.divide(error, np.abs(difference), out=np.full(len(x), np.nan), where=difference != 0)
    return values, {"completeness error": relative}


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

    noise: standard deviation, as a share of the item's range; of an item with values of both signs, a waveform, as a
    share of the RMS of its values that are not zero (a tenth of the range would be as loud as the voice). Every item
    gets the same draws, whatever its company.
    """
    axes = tuple(range(1, x.ndim))
    lowest, highest = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    sounding = np.maximum((x != 0).sum(axis=axes, keepdims=True), 1)
    rms = np.sqrt(np.square(x, dtype=np.float64).sum(axis=axes, keepdims=True) / sounding)
    spread = noise * np.where((lowest < 0) & (highest > 0), rms, highest - lowest)
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
        raise LRPError("occlusion", "a class as target", "a relevance of the scores")
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
                raise NotFiniteError(n, error.what, error.expected, error.got) from None  # of the item, not of the copy
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
    """The `Explanation` of a batch by a method (its name, or a call as in `read_method`), or by a composite (name, file
    or `Composite`).

    absorbed: also tell what biases and stabilisers absorbed; gradients and occlusion know of no such thing.
    """
    chosen = read_method(how)
    if chosen is not None:
        name, settings = chosen
        return METHODS[name](network, x, target, dtype, **settings)
    return network.relevance(x, target, how, dtype, absorbed=absorbed)
