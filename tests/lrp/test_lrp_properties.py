"""Laws that hold on every network, on random ones: conservation, linearity, no state; and a frozen file."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_proto import caffe_pb2
from lrp import COMPOSITES, METHODS, Composite, Network, Zero, explain
from tests.lrp.test_lrp_network import SMALL, inputs, layer, parse, small_input, small_weights

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lrp_small.npz"


@st.composite
def networks(draw):
    """(prototxt, weights without bias, input): convolutions with any geometry, ReLU, pooling, one skip, two scores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, height, width = draw(st.integers(1, 3)) * 2, draw(st.integers(6, 12)), draw(st.integers(6, 12))
    text, weights, bottom = inputs(1, channels, height, width), {}, "data"
    first = channels
    for index in range(draw(st.integers(1, 3))):
        group, kernel, pad = draw(st.sampled_from((1, 2))), draw(st.integers(1, 3)), draw(st.integers(0, 2))
        stride = draw(st.integers(1, 2))
        outputs = 2 * draw(st.integers(1, 3))
        text += layer(
            f"c{index}",
            "Convolution",
            bottom,
            f"c{index}",
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} stride: {stride} "
            f"group: {group} bias_term: false }}",
        ) + layer(f"r{index}", "ReLU", f"c{index}", f"c{index}")
        weights[f"c{index}"] = [rng.normal(size=(outputs, channels // group, kernel, kernel))]
        channels, bottom = outputs, f"c{index}"
        height, width = ((size + 2 * pad - kernel) // stride + 1 for size in (height, width))
        kind = draw(st.sampled_from(("MAX", "AVE", None)))
        if kind and min(height, width) >= 3:
            text += layer(
                f"p{index}",
                "Pooling",
                bottom,
                f"p{index}",
                f"pooling_param {{ pool: {kind} kernel_size: 3 stride: 2 }}",
            )
            bottom = f"p{index}"
            height, width = (-(-(size - 3) // 2) + 1 for size in (height, width))
        if min(height, width) < 3:
            break
    if draw(st.booleans()):
        text += layer(
            "skip",
            "Convolution",
            bottom,
            "skip",
            f"convolution_param {{ num_output: {channels} kernel_size: 1 bias_term: false }}",
        )
        text += layer("sum", "Eltwise", f"skip {bottom}", "sum")
        weights["skip"], bottom = [rng.normal(size=(channels, channels, 1, 1))], "sum"
    text += layer("score", "InnerProduct", bottom, "score", "inner_product_param { num_output: 2 bias_term: false }")
    weights["score"] = [rng.normal(size=(2, channels * height * width))]
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    x = rng.normal(size=(2, first, *(net.layer[0].input_param.shape[0].dim[2:])))
    return net, weights, x


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from(list(COMPOSITES)))
def test_relevance_is_conserved_or_accounted_for(case, composite):
    """What does not arrive at the input was absorbed by stabilisers (there are no biases here), to the last digits."""
    net, weights, x = case
    network = Network(net, weights)
    found = network.relevance(x, 1, composite, np.float64, layers=True, absorbed=True)
    total = found.relevance.sum(axis=(1, 2, 3))
    absorbed = sum(kinds["bias"] + kinds["stabiliser"] for kinds in found.absorbed.values())
    # rounding is relative to the largest relevance on the way, which stabilisers of 1e-9 let grow
    largest = max(np.abs(one).sum() for one in (*found.layers.values(), found.relevance, found.score))
    np.testing.assert_allclose(total + absorbed, found.score, atol=1e-10 * largest)
    assert all(not np.any(kinds["bias"]) for kinds in found.absorbed.values())
    np.testing.assert_allclose(network.forward(x, np.float64), found.scores, rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 1))
def test_forward_and_backward_are_adjoint(case, target):
    """Without biases these nets are homogeneous, f(a x) = a f(x), so that f(x) = <gradient, x> (Euler); and LRP-0 of a
    ReLU network is gradient times input (Shrikumar et al. 2016)."""
    net, weights, x = case
    network = Network(net, weights)
    product = explain(network, x, "gradient_x_input", target, np.float64)
    largest = max(np.abs(product.relevance).sum(), np.abs(product.score).max(), 1e-300)
    np.testing.assert_allclose(product.relevance.sum(axis=(1, 2, 3)), product.score, atol=1e-11 * largest)
    zero = network.relevance(x, target, Composite("zero", default=Zero()), np.float64)
    np.testing.assert_allclose(zero.relevance, product.relevance, atol=1e-9 * largest)


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from(list(COMPOSITES)), st.integers(0, 1))
def test_calls_leave_nothing_behind(case, composite, target):
    net, weights, x = case
    network = Network(net, weights)
    before = x.copy()
    first = network.relevance(x, target, composite, np.float64)
    network.relevance(-x, None, "epsilon_gamma_box")
    network.gradient(x, 0)
    again = network.relevance(x, target, composite, np.float64)
    np.testing.assert_array_equal(first.relevance, again.relevance)
    np.testing.assert_array_equal(x, before)
    fresh = Network(net, weights).relevance(x, target, composite, np.float64)
    np.testing.assert_array_equal(first.relevance, fresh.relevance)


@pytest.mark.parametrize("how", [*COMPOSITES, *METHODS])
def test_numbers_have_not_changed(how):
    """Frozen by `PYTHONPATH=. python tests/lrp/test_lrp_properties.py`; a change changes published numbers."""
    with np.load(GOLDEN) as frozen:
        assert set(frozen.files) == {*COMPOSITES, *METHODS}
        wanted = frozen[how]
    found = explain(Network(parse(SMALL), small_weights()), small_input(), how, 1, np.float64).relevance
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    network = Network(parse(SMALL), small_weights())
    np.savez_compressed(
        GOLDEN,
        **{how: explain(network, small_input(), how, 1, np.float64).relevance for how in (*COMPOSITES, *METHODS)},
    )
