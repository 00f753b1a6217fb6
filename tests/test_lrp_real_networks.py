"""Relevance of the real networks at every layer, beside torch's autograd with textbook rules, in float64."""

import numpy as np
import pytest
import random_networks
import torch_relevance
from test_lrp_network import parse

from lrp import COMPOSITES, Network

TARGETS = [3, 8]


def recordings(name):
    """Two inputs without silence: there all windows are ties, up to rounding that differs between two programs (ties
    have tests of their own in test_lrp_rules.py)."""
    x = random_networks.random_inputs(name, len(TARGETS), seed=7)
    return np.random.default_rng(7).normal(size=x.shape).astype(np.float32) if name == "AudioNet" else x


@pytest.fixture(scope="module", params=random_networks.DEPLOYS)
def real(request):
    """(name, NetParameter, weights, `Network`) of a real network with random weights and biases."""
    net = parse(random_networks.deploy_text(request.param))
    weights = random_networks.random_weights(request.param, bias=0.1)
    return request.param, net, weights, Network(net, weights)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_every_layer_equals_autograd(real, composite):
    name, net, weights, network = real
    x = recordings(name)
    found = network.relevance(x, np.array(TARGETS), composite, np.float64, layers=True)
    scores, layers, wanted = torch_relevance.relevances(net, weights, x, TARGETS, composite)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-9)
    assert set(found.layers) == set(layers)
    for layer, R in [*layers.items(), ("input", wanted)]:
        ours = found.relevance if layer == "input" else found.layers[layer]
        np.testing.assert_allclose(ours.reshape(R.shape), R, rtol=0, atol=1e-9 * np.abs(R).max(), err_msg=layer)


def test_every_composite_has_a_twin():
    assert set(torch_relevance.COMPOSITES) == set(COMPOSITES)
