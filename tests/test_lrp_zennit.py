"""Relevance of the two real networks beside zennit's, in float64."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import random_networks
import torch
from test_lrp_network import parse

from lrp import AlphaBeta, Composite, Epsilon, Flat, Gamma, Network, ZBox, ZPlus
from lrp.rules import GUARD

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "lrp.py"


def benchmark():
    """benchmarks/lrp.py as a module of another name."""
    spec = spec_from_file_location("lrp_benchmark", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composites():
    """{name: (ours, zennit's)}; zennit is given our guard as its stabiliser, and drops the missing side of one-sided
    outputs, as one_sided="textbook" does."""
    from zennit import composites as z

    def convolutions(rule, first=None):
        return Composite("c", Epsilon(), (("Convolution", rule),), first)

    textbook = AlphaBeta(2, 1, one_sided="textbook")
    low, high = torch.tensor(-90.0).double(), torch.tensor(95.0).double()
    return {
        "epsilon_plus": (convolutions(ZPlus()), z.EpsilonPlus(stabilizer=GUARD)),
        "epsilon_plus_flat": (convolutions(ZPlus(), Flat()), z.EpsilonPlusFlat(stabilizer=GUARD)),
        "epsilon_alpha2_beta1": (convolutions(textbook), z.EpsilonAlpha2Beta1(stabilizer=GUARD)),
        "epsilon_alpha2_beta1_flat": (convolutions(textbook, Flat()), z.EpsilonAlpha2Beta1Flat(stabilizer=GUARD)),
        "epsilon_gamma_box": (convolutions(Gamma(0.25), ZBox(-90, 95)),
                              z.EpsilonGammaBox(low=low, high=high, stabilizer=GUARD)),
    }


NAMES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box")


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


@pytest.mark.parametrize("composite", NAMES)
@pytest.mark.parametrize("name", ["AlexNet", "AudioNet"])
def test_real_networks_equal_zennit(pairs, name, composite):
    from zennit.attribution import Gradient

    network, model = pairs[name]
    ours, theirs = composites()[composite]
    x = random_networks.random_inputs(name, 1, seed=7).astype(np.float64)
    # ties (windows of silence) go to the first in torch and are shared here: leave no silence
    x = x if name == "AlexNet" else np.random.default_rng(7).normal(size=x.shape)
    found = network.relevance(x, 3, ours, np.float64)
    with Gradient(model=model, composite=theirs) as attributor:
        scores, wanted = attributor(torch.from_numpy(x), lambda out: torch.nn.functional.one_hot(
            torch.tensor([3]), out.shape[1]) * out)
    np.testing.assert_allclose(found.scores, scores.detach().numpy(), rtol=1e-9)
    wanted = wanted.numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found.relevance, wanted, atol=1e-8 * scale)
