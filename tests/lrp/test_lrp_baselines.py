"""Gradients and occlusion: central differences, torch's own backward, completeness, and hand-made definitions."""

import numpy as np
import pytest
import torch

from lrp import LRPError, Network
from lrp.baselines import METHODS, silence
from tests.lrp.test_lrp_network import SMALL, parse, small_input, small_weights


def weights():
    """Biases that keep conv1 awake: windows of zeros are ties, which torch gives to the first; here they share."""
    made = small_weights()
    made["conv1"][1] = made["conv1"][1] + 2
    return made


@pytest.fixture(scope="module")
def network():
    return Network(parse(SMALL), weights())


def torch_scores(x, way="gradient"):
    """The small network in torch; ReLUs with the way back of deconvolution or guided backpropagation."""

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            gate = torch.ones_like(a) if way == "deconvolution" else (a > 0).to(a)
            return gate * (g if way == "gradient" else g.clamp(min=0))

    w = {name: [torch.tensor(p) for p in blobs] for name, blobs in weights().items()}
    f = torch.nn.functional
    h = Relu.apply(f.conv2d(x, *w["conv1"], stride=2))
    h = f.max_pool2d(h, 3, 2, ceil_mode=True)
    h = Relu.apply(f.conv2d(h, *w["conv2"], padding=1, groups=2))
    return f.linear(f.linear(h.flatten(1), *w["fc3"]), *w["fc4"])


@pytest.mark.parametrize(
    ("name", "way"),
    [("gradient", "gradient"), ("deconvolution", "deconvolution"), ("guided_backpropagation", "guided")],
)
def test_ways_back_equal_torch(network, name, way):
    x = torch.tensor(small_input(), requires_grad=True)
    torch_scores(x, way)[:, 2].sum().backward()
    found = METHODS[name](network, small_input(), 2, np.float64)
    np.testing.assert_allclose(found.relevance, x.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_gradient_times_input(network):
    x = small_input()
    found = METHODS["gradient_x_input"](network, x, 1, np.float64)
    np.testing.assert_allclose(found.relevance, x * METHODS["gradient"](network, x, 1, np.float64).relevance)


@pytest.mark.slow
def test_integrated_gradients_are_complete(network):
    """They add up to the difference of the scores at the two ends (Sundararajan et al. 2017, axiom of completeness)."""
    x = small_input()
    found = METHODS["integrated_gradients"](network, x, 1, np.float64, steps=1000, baseline=0.25)
    difference = network.forward(x, np.float64)[:, 1] - network.forward(np.full_like(x, 0.25), np.float64)[:, 1]
    np.testing.assert_allclose(found.relevance.sum(axis=(1, 2, 3)), difference, rtol=2e-3)


def test_smoothgrad_is_a_mean_of_gradients_and_seeded(network):
    x = small_input()

    def ask(**settings):
        return METHODS["smoothgrad"](network, x, 1, np.float64, **settings).relevance

    np.testing.assert_allclose(ask(noise=0.0, samples=3), network.gradient(x, 1, np.float64))
    np.testing.assert_array_equal(ask(seed=4), ask(seed=4))
    assert np.abs(ask(seed=4) - ask(seed=5)).max() > 0
    alone = METHODS["smoothgrad"](network, x[1:2], 1, np.float64, seed=4).relevance
    np.testing.assert_allclose(alone[0], ask(seed=4)[1], rtol=1e-9, atol=1e-12)


def test_occlusion_by_hand(network):
    x = small_input(count=1)
    found = METHODS["occlusion"](network, x, 1, np.float64, size=(6, 13), stride=(6, 13), baseline=0.0).relevance
    for half in (slice(0, 6), slice(6, 12)):
        hidden = x.copy()
        hidden[:, :, half] = 0
        drop = network.forward(x, np.float64)[0, 1] - network.forward(hidden, np.float64)[0, 1]
        np.testing.assert_allclose(found[0, :, half], drop, rtol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_every_target(network, name):
    x = small_input()
    predicted = METHODS[name](network, x)
    assert predicted.relevance.shape == x.shape and np.isfinite(predicted.relevance).all()
    assert predicted.composite.startswith(name)
    np.testing.assert_array_equal(predicted.target, predicted.scores.argmax(axis=1))
    each = METHODS[name](network, x, predicted.target)
    np.testing.assert_allclose(each.relevance, predicted.relevance, rtol=1e-5, atol=1e-6)
    with pytest.raises(LRPError, match="target"):
        METHODS[name](network, x, 7)


def test_silence_is_zero_for_waveforms_and_the_least_for_decibels():
    x = np.array([[-1.0, 2.0], [-80.0, 0.0], [-5.0, -3.0]]).reshape(3, 1, 1, 2)
    assert silence(x).ravel().tolist() == [0, -80, -5]
