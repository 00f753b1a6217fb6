"""Gradients and occlusion: central differences, torch's own backward, completeness, and hand-made definitions."""

import numpy as np
import pytest
import torch

from lrp import LRPError, Network, explain
from lrp.baselines import METHODS, SETTINGS, read_method, settings_of, silence
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


def test_the_completeness_error_is_told(network):
    x = small_input()
    for target in (1, np.array([0, 1, 2]), np.array([[0.5, 0.0, 2.0], [1.0, 1.0, 0.0], [0.0, -1.0, 0.0]])):
        chosen = np.eye(3)[np.broadcast_to(target, 3)] if np.ndim(target) < 2 else target
        found = METHODS["integrated_gradients"](network, x, target, np.float64, steps=3)
        ends = network.forward(x, np.float64) - network.forward(np.zeros_like(x), np.float64)
        wanted = (ends * chosen).sum(axis=1)
        error = np.abs(found.relevance.sum(axis=(1, 2, 3)) - wanted) / np.abs(wanted)
        np.testing.assert_allclose(found.measures["completeness error"], error, rtol=1e-9)
        assert error.max() > 0.005
    fine = METHODS["integrated_gradients"](network, x, 1, np.float64, steps=300).measures["completeness error"]
    assert fine.max() < 0.005


def test_smoothgrad_is_a_mean_of_gradients_and_seeded(network):
    x = small_input()

    def ask(**settings):
        return METHODS["smoothgrad"](network, x, 1, np.float64, **settings).relevance

    np.testing.assert_allclose(ask(noise=0.0, samples=3), network.gradient(x, 1, np.float64))
    np.testing.assert_array_equal(ask(seed=4), ask(seed=4))
    assert np.abs(ask(seed=4) - ask(seed=5)).max() > 0
    alone = METHODS["smoothgrad"](network, x[1:2], 1, np.float64, seed=4).relevance
    np.testing.assert_allclose(alone[0], ask(seed=4)[1], rtol=1e-9, atol=1e-12)


class Identity(Network):
    """Its gradient is the input itself, so that SmoothGrad shows its noise."""

    where, weights_file, input_shape = "identity", None, None

    def __init__(self):
        """Nothing to read."""

    def forward(self, x, dtype=np.float32, workers=None):
        return np.zeros((len(x), 2), dtype)

    def gradient(self, x, target=None, dtype=np.float32, relu="gradient", workers=None):
        return x


@pytest.mark.parametrize("loudness", [0.001, 30.0])
def test_the_noise_of_smoothgrad(loudness):
    """On a waveform a tenth of the RMS of what is not silent (20 dB SNR there); on decibels a tenth of their range."""
    wave = np.zeros((1, 1, 1, 40000))
    wave[..., :10000] = loudness * np.sin(np.arange(10000))
    decibels = np.linspace(-80, 0, 40000).reshape(wave.shape)
    for x, wanted in ((wave, 0.1 * loudness / np.sqrt(2)), (decibels, 8)):
        found = METHODS["smoothgrad"](Identity(), x, 0, np.float64, samples=1).relevance - x
        np.testing.assert_allclose(found.std(), wanted, rtol=0.02)
    quiet = np.zeros((1, 1, 1, 8))
    np.testing.assert_array_equal(METHODS["smoothgrad"](Identity(), quiet, 0, np.float64).relevance, quiet)


def test_occlusion_fills_with_each_items_own_silence(network):
    x = np.abs(small_input(count=2)) + np.array([1.0, 50.0]).reshape(2, 1, 1, 1)  # nothing is the least of each
    both = METHODS["occlusion"](network, x, 1, np.float64, size=(4, 4), stride=(4, 4)).relevance
    for n in range(2):
        least = float(x[n].min())
        alone = explain(
            network, x[n : n + 1], f"occlusion(size=(4, 4), stride=(4, 4), baseline={least!r})", 1, np.float64
        ).relevance
        np.testing.assert_allclose(both[n], alone[0], rtol=1e-9, atol=1e-12)


def test_occlusion_by_hand(network):
    x = small_input(count=1)
    found = METHODS["occlusion"](network, x, 1, np.float64, size=(6, 13), stride=(6, 13), baseline=0.0).relevance
    for half in (slice(0, 6), slice(6, 12)):
        hidden = x.copy()
        hidden[:, :, half] = 0
        drop = network.forward(x, np.float64)[0, 1] - network.forward(hidden, np.float64)[0, 1]
        np.testing.assert_allclose(found[0, :, half], drop, rtol=1e-9)


def test_occlusion_is_of_a_class(network):
    with pytest.raises(LRPError, match="occlusion: expected a class as target, got a relevance of the scores"):
        METHODS["occlusion"](network, small_input(count=1), np.ones((1, 3)))


class Weighted(Identity):
    """Its scores are sums of the input with weights."""

    def forward(self, x, dtype=np.float32, workers=None):
        return x.reshape(len(x), -1) @ np.random.default_rng(1).standard_normal((x[0].size, 2))


def test_occlusion_has_windows_of_a_fourteenth_that_overlap_by_half():
    x = np.random.default_rng(0).standard_normal((1, 1, 28, 56))
    plain, asked = (
        METHODS["occlusion"](Weighted(), x, 0, np.float64, **given).relevance
        for given in ({}, {"size": (2, 4), "stride": (1, 2)})
    )
    np.testing.assert_array_equal(plain, asked)
    for other in ({"size": (2, 4), "stride": (1, 1)}, {"size": (2, 3), "stride": (1, 2)}):
        assert not np.array_equal(plain, METHODS["occlusion"](Weighted(), x, 0, np.float64, **other).relevance)


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


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_name_is_how_it_is_called(network, name):
    x = small_input(count=1)
    found = explain(network, x, name, 1, np.float64)
    assert read_method(found.composite) == (name, settings_of(name)) and set(settings_of(name)) <= set(SETTINGS)
    again = explain(network, x, found.composite, 1, np.float64)
    np.testing.assert_array_equal(found.relevance, again.relevance)


def test_settings_arrive(network):
    x = small_input(count=1)
    found = explain(network, x, "occlusion(size=(6, 13), stride=(6, 13), baseline=-0.5)", 1, np.float64)
    wanted = METHODS["occlusion"](network, x, 1, np.float64, size=(6, 13), stride=(6, 13), baseline=-0.5)
    np.testing.assert_array_equal(found.relevance, wanted.relevance)
    assert found.composite == "occlusion(size=(6, 13), stride=(6, 13), baseline=-0.5)"
    assert read_method("epsilon_plus") is read_method("smooth(1)") is read_method(3) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smoothgrad(samples=0)", "smoothgrad: samples: expected a whole number of at least 1, got 0"),
        ("smoothgrad(noise=-1)", "noise: expected a finite number of at least 0, got -1"),
        ("smoothgrad(noise=1e999)", "noise: expected a finite number of at least 0, got inf"),
        ("smoothgrad(sample=3)", "smoothgrad: expected setting samples or noise or seed, got 'sample'"),
        ("gradient(steps=3)", "gradient: expected no settings, got 'steps'"),
        ("integrated_gradients(steps=True)", "steps: expected a whole number of at least 1, got True"),
        ("integrated_gradients(baseline='low')", "baseline: expected a finite number or None, got 'low'"),
        ("occlusion(size=4)", "size: expected (height, width), two whole numbers of at least 1, or None, got 4"),
        ("occlusion(size=(0, 4))", "at least 1, or None, got (0, 4)"),
        (
            "smoothgrad(",
            "method: expected smoothgrad(samples=16, noise=0.1, seed=0) or a part of it, got 'smoothgrad('",
        ),
        ("smoothgrad(3)", "or a part of it, got"),
        ("smoothgrad(**{})", "or a part of it, got"),
        ("smoothgrad(seed=open('x'))", "or a part of it, got"),
        ("smoothgrad(seed=1)(seed=2).real", "or a part of it, got"),
        ("gradient + 1", "one of"),
    ],
)
def test_wrong_settings_are_one_sentence(network, text, words):
    with pytest.raises(LRPError) as caught:
        explain(network, small_input(count=1), text, 1)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_silence_is_zero_for_waveforms_and_the_least_for_decibels():
    x = np.array([[-1.0, 2.0], [-80.0, 0.0], [-5.0, -3.0]]).reshape(3, 1, 1, 2)
    assert silence(x).ravel().tolist() == [0, -80, -5]
