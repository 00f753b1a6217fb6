"""Reproducible numbers for parity cases: every kind of value is one function of (random state, shape).

Read by Python 3.9 beside the original Caffe too; numpy's RandomState gives the same numbers in every version.
"""

import zlib

import numpy as np

KINDS = {}


def kind(function):
    """Decorator: make a kind of value known under its function name. It gets (RandomState, shape, *arguments)."""
    KINDS[function.__name__] = function
    return function


def make(text, shape, *seed):
    """Float32 array of `shape`; `text` is "kind" or "kind:number[,number...]", `seed` any strings and numbers."""
    name, _, arguments = text.partition(":")
    state = np.random.RandomState(zlib.crc32(repr((text, tuple(shape), seed)).encode()))
    return np.asarray(KINDS[name](state, tuple(shape), *map(float, filter(None, arguments.split(",")))), np.float32)


@kind
def normal(state, shape, deviation=1, mean=0):
    return state.standard_normal(shape) * deviation + mean


@kind
def uniform(state, shape, low=0, high=1):
    return state.uniform(low, high, shape)


@kind
def constant(state, shape, value):
    return np.full(shape, value)


@kind
def integers(state, shape, low, high):
    """Integers low..high-1: labels, indices, and values with many ties."""
    return state.randint(int(low), int(high), shape)


@kind
def fractional(state, shape, low, high):
    """Like integers, but with a fraction that truncation towards zero must drop."""
    return state.randint(int(low), int(high), shape) + state.uniform(0, 0.9, shape)


@kind
def probabilities(state, shape):
    """Positive numbers that sum to 1 along axis 1."""
    values = state.uniform(0.01, 1, shape)
    return values / values.sum(1, keepdims=True)


@kind
def hot(state, shape):
    """Zeros and ones, with a one in front."""
    values = state.randint(0, 2, shape)
    values.flat[0] = 1
    return values


@kind
def spread(state, shape):
    """Distinct numbers at least 0.05 apart and away from zero, in random order: no ties, no kinks nearby."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2 + 0.5) * 0.05
    return state.permutation(values).reshape(shape)


@kind
def extreme(state, shape):
    """Large positive and negative numbers beside zeros: overflow of careless formulas."""
    return state.choice([-200.0, -90.0, -20.0, 0.0, 20.0, 90.0, 200.0], shape)
