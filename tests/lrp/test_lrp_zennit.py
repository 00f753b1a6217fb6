"""Relevance of the two real networks beside zennit's at every layer, in float64."""

from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import random_networks
import torch

from lrp import COMPOSITES, Composite, Epsilon, Gamma, Network, ZBox
from lrp.rules import GUARD
from tests.lrp.test_lrp_network import parse

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "lrp.py"


def benchmark():
    """benchmarks/lrp.py as a module of another name."""
    spec = spec_from_file_location("lrp_benchmark", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composites():
    """{name: (ours, zennit's of that name)}; zennit is given our guard as its stabiliser, and both the same box."""
    from zennit import composites as z

    low, high = torch.tensor(-90.0).double(), torch.tensor(95.0).double()
    return {
        "epsilon_plus": (COMPOSITES["epsilon_plus"], z.EpsilonPlus(stabilizer=GUARD)),
        "epsilon_plus_flat": (COMPOSITES["epsilon_plus_flat"], z.EpsilonPlusFlat(stabilizer=GUARD)),
        "epsilon_alpha2_beta1": (COMPOSITES["epsilon_alpha2_beta1"], z.EpsilonAlpha2Beta1(stabilizer=GUARD)),
        "epsilon_alpha2_beta1_flat": (
            COMPOSITES["epsilon_alpha2_beta1_flat"],
            z.EpsilonAlpha2Beta1Flat(stabilizer=GUARD),
        ),
        "epsilon_gamma_box": (
            Composite("c", Epsilon(), (("Convolution", Gamma(0.25)),), ZBox(-90, 95)),
            z.EpsilonGammaBox(low=low, high=high, stabilizer=GUARD),
        ),
        "excitation_backprop": (
            COMPOSITES["excitation_backprop"],
            z.ExcitationBackprop(stabilizer=GUARD, zero_params="bias"),
        ),
    }


@contextmanager
def kept_outputs(model):
    """Context manager: {layer's name here: its output in the next pass, whose .grad will be its relevance}."""
    outputs, handles, counts = {}, [], {"number": 0}
    for module in model:
        kind = type(module).__name__
        counts["number"] += kind in ("Conv2d", "Linear")
        name = {"Conv2d": "conv", "Linear": "fc", "ReLU": "relu", "MaxPool2d": "pool"}.get(kind)

        def keep(module, inputs, output, name=f"{name}{counts['number']}"):
            output.retain_grad()
            outputs[name] = output

        if name:
            handles.append(module.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture(scope="module")
def pairs():
    """{name: (our network, torch's in float64)}"""
    module = benchmark()
    module.without_torchvision()
    made = {}
    for name in ("AlexNet", "AudioNet"):
        weights = random_networks.random_weights(name, bias=0.1)
        ours = Network(parse(random_networks.deploy_text(name)), weights)
        made[name] = ours, module.torch_network(name, weights).double()
    return made


# Ours has no counterpart in zennit; the toolbox's have a twin of their own in torch_relevance.
NOT_IN_ZENNIT = {
    "epsilon_alpha2_beta1_conserving",
    "epsilon_alpha2_beta1_conserving_flat",
    "toolbox_100",
    "toolbox_102",
    "toolbox_104",
}


def test_every_composite_of_zennits_is_compared():
    benchmark().without_torchvision()
    assert set(composites()) == set(COMPOSITES) - NOT_IN_ZENNIT


@pytest.mark.slow
@pytest.mark.parametrize("composite", sorted(set(COMPOSITES) - NOT_IN_ZENNIT))
@pytest.mark.parametrize("name", ["AlexNet", "AudioNet"])
def test_real_networks_equal_zennit(pairs, name, composite):
    network, model = pairs[name]
    ours, theirs = composites()[composite]
    x = random_networks.random_inputs(name, 1, seed=7).astype(np.float64)
    # ties (windows of silence) go to the first in torch and are shared here: leave no silence
    x = x if name == "AlexNet" else np.random.default_rng(7).normal(size=x.shape)
    found = network.relevance(x, 3, ours, np.float64, layers=True)
    given = torch.from_numpy(x).requires_grad_()
    with theirs.context(model) as modified, kept_outputs(modified) as outputs:
        scores = modified(given)
        start = torch.nn.functional.one_hot(torch.tensor([3]), scores.shape[1]) * scores.detach()
        scores.backward(start)
    np.testing.assert_allclose(found.scores, scores.detach().numpy(), rtol=1e-9)
    assert set(outputs) == set(found.layers)
    for layer, R in [*((one, output.grad) for one, output in outputs.items()), ("input", given.grad)]:
        own = found.relevance if layer == "input" else found.layers[layer]
        R = R.numpy()
        np.testing.assert_allclose(own.reshape(R.shape), R, rtol=0, atol=1e-8 * np.abs(R).max(), err_msg=layer)
