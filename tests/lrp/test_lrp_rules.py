"""Every rule on every linear layer against the dense twins of `reference`, in float64 to 1e-9."""

from dataclasses import asdict

import numpy as np
import pytest
import reference

from lrp import linear, pooling, propagation
from lrp.errors import LRPError
from lrp.rules import GUARD, RULES, AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus

TOLERANCE = 1e-9

VARIANTS = [
    Epsilon(),
    Epsilon(0.25),
    Epsilon(bias="exclude"),
    Epsilon(bias="spread"),
    Zero(),
    Zero(bias="spread"),
    Gamma(),
    Gamma(2.0, bias="exclude"),
    Gamma(bias="spread"),
    ZPlus(),
    ZPlus("exclude"),
    ZPlus("spread"),
    AlphaBeta(),
    AlphaBeta(3, 2),
    AlphaBeta(1, 0),
    AlphaBeta(one_sided="textbook"),
    AlphaBeta(bias="exclude"),
    AlphaBeta(bias="spread"),
    ZBox(),
    ZBox(-6.5, 7.0),
    WSquare(),
    Flat(),
]
CONVOLUTIONS = {  # (outputs, channels, height, width, kernel, stride, pad, dilation, group)
    "3x3": (4, 3, 6, 5, (3, 3), (1, 1), (0, 0), (1, 1), 1),
    "3x3 padded": (4, 2, 5, 6, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "5x5 padded groups": (4, 4, 6, 6, (5, 5), (1, 1), (2, 2), (1, 1), 2),
    "stride that does not divide": (3, 1, 11, 10, (4, 3), (3, 2), (0, 0), (1, 1), 1),
    "stride, uneven pad": (2, 3, 7, 8, (3, 2), (2, 3), (1, 0), (1, 1), 1),
    "dilated": (3, 2, 7, 8, (2, 3), (1, 1), (1, 2), (2, 2), 1),
    "1x3 as in AudioNet": (5, 4, 1, 17, (1, 3), (1, 1), (0, 1), (1, 1), 1),
    "1x3 one channel": (6, 1, 1, 16, (1, 3), (1, 1), (0, 1), (1, 1), 1),
    "1x5 unpadded": (3, 2, 1, 13, (1, 5), (1, 1), (0, 0), (1, 1), 1),
    "1x3 rows": (2, 2, 3, 9, (1, 3), (1, 1), (0, 1), (1, 1), 1),
    "1x1": (3, 4, 3, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "depthwise": (6, 3, 4, 5, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "pad wider than the kernel's half": (2, 1, 3, 4, (2, 2), (1, 1), (2, 2), (1, 1), 1),
}
POOLINGS = {  # (channels, height, width, kernel, stride, pad)
    "3/2": (2, 7, 8, (3, 3), (2, 2), (0, 0)),
    "rounds up": (1, 6, 6, (3, 3), (2, 2), (0, 0)),
    "padded and clipped": (2, 5, 5, (3, 3), (2, 2), (1, 1)),
    "1x3 stride 2 as in AudioNet": (3, 1, 16, (1, 3), (1, 2), (0, 0)),
    "1x2": (3, 1, 9, (1, 2), (1, 2), (0, 0)),
    "global": (2, 4, 3, (4, 3), (1, 1), (0, 0)),
    "stride 1": (1, 4, 4, (2, 2), (1, 1), (0, 0)),
}


def convolution(name, rng):
    outputs, channels, height, width, kernel, stride, pad, dilation, group = CONVOLUTIONS[name]
    weight, bias = rng.normal(size=(outputs, channels // group, *kernel)), rng.normal(size=outputs)
    layer = linear.Convolution(weight, bias, linear.Window(kernel, stride, pad, dilation), group)
    W, C, out = reference.convolution_matrix(weight, (channels, height, width), stride, pad, dilation, group)
    return layer, (channels, height, width), W, C, np.repeat(bias, out[1] * out[2]), out


def deconvolution(name, rng):
    inputs, outputs, _, _, kernel, stride, pad, dilation, group = CONVOLUTIONS[name]
    shape = (inputs, 3, 4)
    weight, bias = rng.normal(size=(inputs, outputs // group, *kernel)), rng.normal(size=outputs)
    layer = linear.Deconvolution(weight, bias, linear.Window(kernel, stride, pad, dilation), group)
    W, C, out = reference.deconvolution_matrix(weight, shape, stride, pad, dilation, group)
    return layer, shape, W, C, np.repeat(bias, out[1] * out[2]), out


def inner_product(name, rng):
    shape, outputs = {"flat": ((7,), 5), "from an image": ((2, 3, 4), 6), "one output": ((3,), 1)}[name]
    inputs = int(np.prod(shape))
    weight, bias = rng.normal(size=(outputs, inputs)), rng.normal(size=outputs)
    return linear.InnerProduct(weight, bias), shape, weight, np.ones_like(weight), bias, (outputs,)


def average(name, rng):
    channels, height, width, kernel, stride, pad = POOLINGS[name]
    geometry = pooling.Geometry(None if name == "global" else kernel, stride, pad)
    W, C, out = reference.average_matrix((channels, height, width), kernel, stride, pad)
    return linear.AveragePooling(geometry), (channels, height, width), W, C, np.zeros(len(W)), out


def eltwise_sum(name, rng):
    coefficients = {"plain": [1.0, 1.0], "weighted": [0.5, -2.0, 1.5]}[name]
    one = np.eye(6)
    W = np.concatenate([c * one for c in coefficients], axis=1)
    return (
        linear.Sum(coefficients),
        (len(coefficients), 2, 3),
        W,
        np.concatenate([one] * len(coefficients), axis=1),
        np.zeros(6),
        (2, 3),
    )


LAYERS = (
    [(convolution, name) for name in CONVOLUTIONS]
    + [(deconvolution, name) for name in ("3x3", "stride that does not divide", "depthwise", "1x3 as in AudioNet")]
    + [(inner_product, name) for name in ("flat", "from an image", "one output")]
    + [(average, name) for name in POOLINGS]
    + [(eltwise_sum, name) for name in ("plain", "weighted")]
)
SIGNS = {
    "mixed": lambda a: a,
    "after a ReLU": lambda a: np.maximum(a, 0),
    "never positive": lambda a: -np.abs(a),
    "half silent": lambda a: a * (np.arange(a.shape[-1]) < a.shape[-1] // 2),
    "zero": lambda a: 0 * a,
}


def seed_of(*names):
    return [ord(c) for name in names for c in name]


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
@pytest.mark.parametrize(("make", "name"), LAYERS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_rule_equals_dense_twin(make, name, rule):
    rng = np.random.default_rng(seed_of(name, repr(rule)))
    layer, shape, W, C, b, out = make(name, rng)
    twin = reference.RULES[type(rule).__name__]
    for sign in SIGNS.values():
        x = sign(rng.normal(size=(2, *shape)))
        R = rng.normal(size=(2, *out))
        z, kept = propagation.forward(layer, x, rule)
        account = {}
        found = propagation.backward(layer, x, R, rule, kept, account)
        for n in range(len(x)):
            expected_z = W @ x[n].ravel() + b
            np.testing.assert_allclose(z[n].ravel(), expected_z, atol=1e-12, rtol=1e-12)
            wanted = twin(W, C, b, x[n].ravel(), R[n].ravel(), guard=GUARD, **asdict(rule))
            scale = max(np.abs(wanted).max(), 1)
            np.testing.assert_allclose(found[n].ravel(), wanted, rtol=TOLERANCE, atol=TOLERANCE * scale)
            absorbed = account["bias"][n] + account["stabiliser"][n]
            np.testing.assert_allclose(found[n].sum() + absorbed, R[n].sum(), rtol=1e-9, atol=1e-9 * scale * R[n].size)


@pytest.mark.parametrize(("make", "name"), LAYERS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_adjoint_is_the_transpose(make, name):
    """<W x, s> = <x, W^T s> for single and stacked weights, and the matrix itself."""
    from lrp.rules import identity, ones, positive, square

    rng = np.random.default_rng(seed_of(name))
    layer, shape, W, C, _, out = make(name, rng)
    x, s = rng.normal(size=(3, *shape)), [rng.normal(size=(3, *out)) for _ in range(3)]
    selectors = (identity, positive, square)
    images = layer.apply(x, selectors)
    back = layer.adjoint(s, selectors, x.shape)
    np.testing.assert_allclose(sum((a * b).sum() for a, b in zip(images, s, strict=True)), (x * back).sum(), rtol=1e-11)
    np.testing.assert_allclose(layer.dense(shape), W, atol=1e-13)
    (connected,) = layer.apply(np.ones((1, *shape)), (ones,))
    np.testing.assert_array_equal(connected.ravel(), C.sum(axis=1))


def test_every_rule_has_a_twin_and_a_variant():
    assert set(RULES) == set(reference.RULES) == {type(rule).__name__ for rule in VARIANTS}


@pytest.mark.parametrize("rule", [Flat(padding="absorb"), WSquare(padding="absorb")], ids=repr)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_padding_that_takes_its_share(name, rule):
    """As the same rule on an image that has its frame of zeros already, whose share is then cut away."""
    rng = np.random.default_rng(seed_of(name))
    outputs, channels, height, width, kernel, stride, (top, left), dilation, group = CONVOLUTIONS[name]
    layer, shape, *_, out = convolution(name, rng)
    x, R = rng.normal(size=(2, *shape)), rng.normal(size=(2, *out))
    _, kept = propagation.forward(layer, x, rule)
    account = {}
    found = propagation.backward(layer, x, R, rule, kept, account)
    framed = (channels, height + 2 * top, width + 2 * left)
    W, C, _ = reference.convolution_matrix(layer.weights, framed, stride, (0, 0), dilation, group)
    twin = reference.RULES[type(rule).__name__]
    for n in range(2):
        wanted = twin(W, C, np.zeros(len(W)), np.zeros(W.shape[1]), R[n].ravel(), guard=GUARD).reshape(framed)
        wanted = wanted[:, top : top + height, left : left + width]
        np.testing.assert_allclose(found[n], wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    lost = account["stabiliser"] + account["bias"]
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)) + lost, R.sum(axis=(1, 2, 3)), rtol=1e-9, atol=1e-9)
    assert not account["bias"].any()


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pooling_loses_nothing(name, ties):
    """Overlapping windows accumulate and ties share, or the first takes all: equal to the loops; the sum is kept."""
    channels, height, width, kernel, stride, pad = POOLINGS[name]
    rng = np.random.default_rng(seed_of(name))
    x = (
        rng.integers(0, 3, (2, channels, height, width)).astype(float)
        if ties
        else rng.normal(size=(2, channels, height, width))
    )
    layer = pooling.MaxPooling(pooling.Geometry(None if name == "global" else kernel, stride, pad))
    (y,) = layer.forward([x])
    R = rng.normal(size=y.shape)
    (found,) = layer.relevance([x], [y], [R])
    for n in range(len(x)):
        np.testing.assert_array_equal(y[n], reference.max_pooling(x[n], kernel, stride, pad))
        wanted = reference.max_pooling_relevance(x[n], R[n], kernel, stride, pad)
        np.testing.assert_allclose(found[n], wanted, atol=1e-12)
        np.testing.assert_allclose(found[n].sum(), R[n].sum(), rtol=1e-9, atol=1e-9)
    (found,) = layer.relevance_of_ties([x], [y], [R], "first")
    for n in range(len(x)):
        wanted = reference.max_pooling_relevance(x[n], R[n], kernel, stride, pad, "first")
        np.testing.assert_allclose(found[n], wanted, atol=1e-12)


@pytest.mark.parametrize("size", [15, 16, 17])
def test_more_ties_than_a_byte_counts(size):
    """A global window of equal values: each gets its part, however many they are."""
    x = np.ones((1, 1, size, size))
    layer = pooling.MaxPooling(pooling.Geometry(None, (1, 1), (0, 0)))
    (y,) = layer.forward([x])
    (found,) = layer.relevance([x], [y], [np.full((1, 1, 1, 1), 6.0)])
    np.testing.assert_allclose(found, np.full_like(x, 6 / size**2), rtol=1e-12)


@pytest.mark.parametrize(
    "rule", [AlphaBeta(), ZPlus(), ZPlus("exclude"), Epsilon(1e-9), WSquare(), Flat(), Gamma()], ids=repr
)
def test_conservation_without_bias(rule):
    rng = np.random.default_rng(5)
    layer, shape, *_, out = convolution("5x5 padded groups", rng)
    layer.bias = None
    x = np.maximum(rng.normal(size=(2, *shape)), 0)
    z, kept = propagation.forward(layer, x, rule)
    R = np.maximum(z, 0) * rng.uniform(size=z.shape)
    found = propagation.backward(layer, x, R, rule, kept)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), R.sum(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("bias", ["keep", "spread"])
def test_spread_bias_conserves_and_kept_bias_is_reported(bias):
    rng = np.random.default_rng(6)
    layer, shape, *_, out = convolution("3x3 padded", rng)
    x, R = np.abs(rng.normal(size=(1, *shape))), np.abs(rng.normal(size=(1, *out)))
    rule = ZPlus(bias)
    _, kept = propagation.forward(layer, x, rule)
    account = {}
    found = propagation.backward(layer, x, R, rule, kept, account)
    assert abs(account["stabiliser"][0]) < 1e-6
    if bias == "spread":
        np.testing.assert_allclose(found.sum(), R.sum(), rtol=1e-6)
    else:
        assert account["bias"][0] > 0.01 * R.sum()
        np.testing.assert_allclose(found.sum() + account["bias"][0], R.sum(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_box_holds_its_inputs(dtype):
    layer = linear.InnerProduct(np.array([[1.0, 2.0]], dtype), None)
    layer.where = "net: layer score"
    for rule in (ZBox(-80, 0), ZBox(-0.1, 0.3), ZBox(None, 0.3), ZBox()):  # bounds that float32 rounds
        ends = [-1 if rule.low is None else rule.low, 0.3 if rule.high is None else rule.high]
        propagation.forward(layer, np.array([ends], dtype), rule)
    for x, rule in ((0.01, ZBox(-80, 0)), (-80.1, ZBox(-80, 0)), (0.4, ZBox(None, 0.3)), (-0.4, ZBox(-0.3))):
        with pytest.raises(
            LRPError, match=r"^net: layer score: expected inputs in the box of rule ZBox\(.*\), got inputs from .*$"
        ):
            propagation.forward(layer, np.array([[0, x]], dtype), rule)


def test_one_sided_outputs_decide_between_conservation_and_the_textbook():
    layer = linear.InnerProduct(np.array([[1.0, 2.0]]), None)
    x, R = np.array([[1.0, 1.0]]), np.array([[3.0]])
    for one_sided, factor in (("conserve", 1), ("textbook", 2)):
        rule = AlphaBeta(2, 1, one_sided=one_sided)
        _, kept = propagation.forward(layer, x, rule)
        np.testing.assert_allclose(propagation.backward(layer, x, R, rule, kept), [[factor * 1, factor * 2]], rtol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlphaBeta(2, 0.5), "alpha - beta = 1"),
        (lambda: AlphaBeta(0, -1), "beta >= 0"),
        (lambda: AlphaBeta(one_sided="maybe"), "textbook or conserve"),
        (lambda: Epsilon(bias="none"), "one of keep, exclude, spread"),
    ],
)
def test_impossible_rules_are_refused(make, message):
    with pytest.raises(LRPError, match=message):
        make()
