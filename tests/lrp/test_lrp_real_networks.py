"""Relevance of the real networks at every layer, beside torch's autograd with textbook rules, in float64."""

from pathlib import Path

import numpy as np
import pytest
import random_networks
import torch_relevance

from lrp import COMPOSITES, Composite, Network, Zero
from tests.lrp.test_lrp_network import parse

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lrp_networks.npz"
TARGETS = [3]  # one recording
QUICK = ("epsilon_plus_flat", "epsilon_alpha2_beta1", "toolbox_104")  # small networks have them all before each commit


def recordings(name):
    """An input without silence: there all windows are ties, up to rounding that differs between two programs (ties
    have tests of their own in test_lrp_rules.py)."""
    x = random_networks.random_inputs(name, len(TARGETS), seed=7)
    return np.random.default_rng(7).normal(size=x.shape).astype(np.float32) if name == "AudioNet" else x


def real_network(name):
    """(NetParameter, weights, `Network`): random weights and biases."""
    net = parse(random_networks.deploy_text(name))
    weights = random_networks.random_weights(name, bias=0.1)
    return net, weights, Network(net, weights)


@pytest.fixture(scope="module", params=random_networks.DEPLOYS)
def real(request):
    """(name, NetParameter, weights, `Network`) of a real network."""
    return request.param, *real_network(request.param)


@pytest.mark.parametrize(
    "composite", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMPOSITES]
)
def test_every_layer_equals_autograd(real, composite):
    name, net, weights, network = real
    x = recordings(name)
    found = network.relevance(x, np.array(TARGETS), composite, np.float64, layers=True)
    scores, layers, wanted = torch_relevance.relevances(net, weights, x, TARGETS, composite)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-9)
    assert set(found.layers) == set(layers)
    for layer, R in [*layers.items(), ("input", wanted)]:
        ours = found.relevance if layer == "input" else found.layers[layer]
        # the toolbox has no guard beside its denominators, here it is 1e-9
        tolerance = 1e-6 if composite.startswith("toolbox") else 1e-9
        np.testing.assert_allclose(ours.reshape(R.shape), R, rtol=0, atol=tolerance * np.abs(R).max(), err_msg=layer)


def test_every_composite_has_a_twin():
    assert set(torch_relevance.COMPOSITES) == set(COMPOSITES)


def test_zero_everywhere_is_gradient_times_input(real):
    """LRP-0 of a ReLU network whose biases keep their share (Shrikumar et al. 2016)."""
    name, _, _, network = real
    x = recordings(name)
    found = network.relevance(x, np.array(TARGETS), Composite("zero", default=Zero()), np.float64)
    wanted = x * network.gradient(x, np.array(TARGETS), np.float64)
    np.testing.assert_allclose(found.relevance, wanted, atol=1e-9 * np.abs(wanted).max())


def sampled(name, composite, network):
    """Frozen of one network and composite: 40 values of the relevance, by place, and the scores."""
    x = recordings(name)
    found = network.relevance(x, np.array(TARGETS), composite, np.float64)
    places = np.random.default_rng(0).choice(x[0].size, 40, replace=False)
    return np.concatenate([found.relevance.reshape(len(x), -1)[:, places], found.scores], axis=1)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_numbers_of_the_real_networks_have_not_changed(real, composite):
    """Frozen by `PYTHONPATH=. python tests/lrp/test_lrp_real_networks.py`; a change changes published numbers."""
    name, _, _, network = real
    with np.load(GOLDEN) as frozen:
        wanted = frozen[f"{name}, {composite}"]
    np.testing.assert_allclose(sampled(name, composite, network), wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())


if __name__ == "__main__":
    made = {name: real_network(name) for name in random_networks.DEPLOYS}
    np.savez_compressed(
        GOLDEN,
        **{
            f"{name}, {composite}": sampled(name, composite, network)
            for name, (_, _, network) in made.items()
            for composite in COMPOSITES
        },
    )
