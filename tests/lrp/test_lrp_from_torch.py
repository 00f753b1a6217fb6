"""Modules of torch as networks: torch's own scores and gradients, zennit's relevance on the same module."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from caffe_proto import caffe_pb2
from lrp import LRPError, Network, explain
from lrp.from_torch import translate
from lrp.rules import GUARD
from tests.lrp.test_lrp_zennit import benchmark


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ready(module, seed=1):
    """The module in eval mode with weights and statistics that nobody would take for the first ones."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
                if "running_var" in name:
                    tensor.abs_().add_(0.5)
    return module.eval()


class Residual(nn.Module):
    """Branches, a sum, a product, functions and methods of tensors."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2)
        self.side = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(8 * 4 * 3, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        y = self.second(x).relu()
        x = torch.relu(x + y) * 0.5 + 1
        x = torch.cat([F.max_pool2d(x, 2, stride=2), F.avg_pool2d(self.side(x), 2)], dim=1)
        return F.softmax(self.fc(torch.flatten(F.dropout(x, training=False), 1)), dim=1)


class Signal(nn.Module):
    """One axis: signals (N, C, L)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 6, 5, stride=2, padding=2, dilation=1), nn.BatchNorm1d(6), nn.LeakyReLU(0.1),
            nn.MaxPool1d(3, 2, 1), nn.Conv1d(6, 4, 3, dilation=2), nn.PReLU(4), nn.AvgPool1d(2, ceil_mode=True),
            nn.Conv1d(4, 4, 1), nn.ELU(0.7),
        )  # fmt: skip
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(F.avg_pool1d(self.body(x).abs(), 13).flatten(1))


class Sizes(nn.Module):
    """Shapes that are asked of tensors, as most code does."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2 * 4 * 4, 3)

    def forward(self, x):
        x = self.conv(x)
        x += x
        x = x.view(x.size(0), -1)
        return self.fc(torch.reshape(x, (x.shape[0], x.size()[1])))


MODULES = {
    "sizes": (Sizes(), (3, 1, 6, 6)),
    "mlp": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3, bias=False)), (4, 6)),
    "lenet": (
        nn.Sequential(
            nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6),
            nn.Sigmoid(), nn.AvgPool2d(3, 2, 1), nn.Flatten(), nn.Linear(6 * 2 * 2, 7), nn.Tanh(), nn.Linear(7, 4),
            nn.Softmax(1),
        ),
        (3, 1, 16, 16),
    ),
    "ceil": (
        nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 3, (1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        (2, 2, 8, 11),
    ),
    "residual": (Residual(), (3, 2, 8, 6)),
    "signal": (Signal(), (3, 1, 118)),
    "plain statistics": (nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Flatten(), nn.Linear(12, 2)), (2, 3, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_scores_and_gradients_are_torch_s(name):
    module, shape = MODULES[name]
    module = ready(module)
    x = images(*shape)
    network = Network.from_torch(module, x)
    scores = network.forward(x.numpy())
    with torch.no_grad():
        wanted = module(x).numpy()
    if name in ("lenet", "residual"):
        exponents = np.exp(scores - scores.max(1, keepdims=True))
        scores = exponents / exponents.sum(1, keepdims=True)
    np.testing.assert_allclose(scores, wanted, rtol=2e-4, atol=1e-6)
    if name in ("lenet", "residual"):
        return
    other = images(*shape, seed=5).double().requires_grad_()
    module.double()(other)[:, 1].sum().backward()
    module.float()
    found = explain(network, other.detach().numpy(), "gradient", 1, np.float64).relevance
    np.testing.assert_allclose(found, other.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_relevance_is_zennit_s():
    benchmark().without_torchvision()
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    module = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 3 * 3, 7), nn.ReLU(), nn.Linear(7, 4),
    )  # fmt: skip
    x, targets = images(3, 1, 16, 16), np.array([2, 0, 3])
    network = Network.from_torch(ready(module), x)
    with Gradient(module.double(), EpsilonPlus(stabilizer=GUARD)) as attributor:
        _, wanted = attributor(x.double(), torch.eye(4, dtype=torch.float64)[targets])
    # zennit begins with 1, ours with the score
    scores = network.forward(x.numpy(), np.float64)[np.arange(3), targets]
    found = network.relevance(x.numpy(), targets, "epsilon_plus", np.float64).relevance
    wanted = wanted.numpy() * scores[:, None, None, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())


def test_layers_bear_the_names_of_their_modules():
    made = translate(ready(Residual()), images(1, 2, 8, 6))
    names = {layer.type: layer.name for layer in made.net.layer}
    assert names["BatchNorm"] == "norm" and names["Scale"] == "norm.scale" and names["InnerProduct"] == "fc"
    assert [layer.name for layer in made.net.layer if layer.type == "Convolution"] == ["first", "second", "side"]
    assert isinstance(made.net, caffe_pb2.NetParameter) and made.net.name == "Residual"


def test_a_module_used_twice_has_two_names():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    module = ready(Twice())
    x = images(5, 4)
    network = Network.from_torch(module, x)
    assert [layer.name for layer in network.linear_layers] == ["layer", "layer_"]
    np.testing.assert_allclose(network.forward(x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_engine_computes_the_same_net(tmp_path):
    """The NetParameter and the weights are Caffe's: files of them are read as any others."""
    from google.protobuf import text_format

    import caffe

    module = ready(MODULES["signal"][0])
    x = images(3, 1, 118)
    made = translate(module, x)
    (tmp_path / "net.prototxt").write_text(text_format.MessageToString(made.net))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    for name, blobs in made.weights.items():
        for blob, array in zip(net.params[name], blobs, strict=True):
            blob.data[...] = array
    net.blobs["input"].data[...] = x.numpy()
    (found,) = net.forward().values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


FORM = "expected an operation that has a form in Caffe"


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x + self.constant


@pytest.mark.parametrize(
    "module, shape, words",
    [
        (nn.Sequential(nn.Linear(3, 2), nn.GELU()), (1, 3), f"Sequential: 1: {FORM}, got GELU"),
        (nn.Sequential(nn.LSTM(3, 2)), (1, 2, 3), "output: expected one output, a tensor, got tuple"),
        (Branch(), (1, 3), "Branch: expected a module that torch.fx can trace, got TraceError"),
        (Pair(), (1, 3), "output: expected one output, a tensor, got tuple"),
        (Constant(), (1, 3), f"constant: {FORM}, got constant"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), (1, 1, 5, 5), "0: expected padding with zeros"),
        (nn.Sequential(nn.Linear(3, 2)), (1, 4, 3), "0: expected an input of two axes (flatten it before)"),
        (nn.Sequential(nn.AvgPool2d(2, 2, 1, False, False)), (1, 1, 4, 4), "0: expected averages that count the"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), (1, 1, 6, 6), "0: expected plain max pooling"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), (1, 1, 6, 6), "0: expected one value a channel, got 2"),
        (nn.Sequential(nn.Flatten(2)), (1, 2, 6, 6), "0: expected all axes but the first as one"),
        (nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), (1, 2, 6, 6), "0: expected stored statistics"),
    ],
)  # fmt: skip
def test_what_has_no_form_in_caffe_is_named(module, shape, words):
    with pytest.raises(LRPError) as caught:
        Network.from_torch(module.eval(), images(*shape))
    assert words in str(caught.value)


def test_a_module_in_training_is_refused():
    with pytest.raises(LRPError, match=r"expected a module in eval mode \(module.eval\(\)\), got one in training"):
        Network.from_torch(nn.Sequential(nn.Linear(3, 2)), images(1, 3))


def test_other_scores_than_the_module_s_are_refused(monkeypatch):
    from lrp import from_torch

    monkeypatch.setitem(from_torch.MODULES, nn.ReLU, from_torch.MODULES[nn.Tanh])
    with pytest.raises(LRPError, match="expected the module's scores within 1e-05, got a difference of"):
        Network.from_torch(ready(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))), images(4, 3))
