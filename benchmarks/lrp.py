"""Recordings explained per second on the CPU, beside zennit and torch's forward pass, in one run.

    python -m benchmarks.lrp [--batch 16] [--rounds 5] [--threads 2] [--composite NAME ...] [--network NAME ...]

Both explain the same batch of the same networks (random weights, float32). Rounds alternate between the two, the best
round counts, and the relevances are compared, so that no speed is bought with other numbers (each with its own
stabilisers, in float32; tests/lrp/test_lrp_zennit.py compares them in float64, with the same stabilisers, to 1e-8).
"""

import argparse
import os
import sys
import time

COMPOSITES = ("epsilon_plus", "epsilon_alpha2_beta1")
NETWORKS = ("AlexNet", "AudioNet")


def torch_network(name, weights):
    """The network with these weights, for zennit: no dropout, and no ReLU that works in place."""
    import torch
    from torch import nn

    from benchmarks.handwritten import network

    modules = [
        nn.ReLU() if isinstance(module, nn.ReLU) else module
        for module in network(name)
        if not isinstance(module, nn.Dropout)
    ]
    layers = [module for module in modules if hasattr(module, "weight")]
    with torch.no_grad():
        for module, values in zip(layers, weights.values(), strict=True):
            for parameter, array in zip((module.weight, module.bias), values, strict=True):
                parameter.copy_(torch.from_numpy(array).reshape(parameter.shape))
    return nn.Sequential(*modules).eval()


def stand_in(name):
    """A class of any name, but no `__file__` and the like: whoever goes through sys.modules looks for those."""
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def without_torchvision():
    """Stand-ins for what zennit imports from torchvision, whose wheel must fit torch's; nothing here uses it."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        from types import ModuleType

        for name in [key for key in sys.modules if key.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("torchvision", "torchvision.models", "torchvision.models.resnet", "torchvision.models.vgg"):
            module = sys.modules[name] = ModuleType(name)
            module.__getattr__ = stand_in


def zennit_relevance(model, composite, x):
    """Relevance of the predicted class by zennit, started with its score."""
    import torch
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonPlus

    made = {"epsilon_plus": EpsilonPlus, "epsilon_alpha2_beta1": EpsilonAlpha2Beta1}[composite]()

    def start(scores):
        return torch.zeros_like(scores).scatter(1, scores.argmax(1, keepdim=True), scores.max(1, keepdim=True).values)

    with Gradient(model=model, composite=made) as attributor:
        return attributor(torch.from_numpy(x), start)[1].numpy()


def best(functions, rounds):
    """Best time of each function over alternating rounds, in seconds; the first round warms up and does not count."""
    times = [float("inf")] * len(functions)
    for round_ in range(rounds + 1):
        for index, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            if round_:
                times[index] = min(times[index], time.perf_counter() - begin)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16, help="recordings explained at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all there are")
    parser.add_argument("--composite", nargs="+", choices=COMPOSITES, default=COMPOSITES)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=NETWORKS)
    options = parser.parse_args()

    import numpy as np
    import torch
    from google.protobuf import text_format

    from caffe_proto import caffe_pb2
    from lrp import Network
    from tests import random_networks

    without_torchvision()

    torch.set_num_threads(options.threads)
    print(f"batch {options.batch}, {options.threads} threads, torch {torch.__version__}, numpy {np.__version__}")
    print(
        f"{'network':10}{'composite':24}{'lrp /s':>8}{'zennit /s':>10}{'ratio':>7}{'forward /s: lrp':>17}{'torch':>7}"
        "  largest difference"
    )
    for name in options.network:
        weights = random_networks.random_weights(name)
        net = text_format.Parse(random_networks.deploy_text(name), caffe_pb2.NetParameter())
        network = Network(net, weights)
        model = torch_network(name, weights)
        x = random_networks.random_inputs(name, options.batch)
        for composite in options.composite:

            def explain(network=network, x=x, composite=composite):
                return network.relevance(x, composite=composite, workers=options.threads).relevance

            def by_zennit(model=model, x=x, composite=composite):
                return zennit_relevance(model, composite, x)

            def forward(network=network, x=x):
                return network.forward(x, workers=options.threads)

            def torch_forward(model=model, x=x):
                with torch.no_grad():
                    return model(torch.from_numpy(x))

            a, b = explain(), by_zennit()
            difference = np.abs(a - b).max() / np.abs(b).max()
            rates = [options.batch / t for t in best([explain, by_zennit, forward, torch_forward], options.rounds)]
            print(
                f"{name:10}{composite:24}{rates[0]:8.1f}{rates[1]:10.1f}{rates[0] / rates[1]:7.2f}{rates[2]:17.1f}"
                f"{rates[3]:7.1f}  {difference:.1e} of the largest |R|",
                flush=True,
            )


if __name__ == "__main__":
    main()
