"""The CPU against CUDA: both networks, solver steps, mode switches (every layer type: test_layers.py).

The oracle is the CPU, which is held against the original Caffe elsewhere. Without a CUDA device the `cuda` tests skip
and say so; what can be checked of the GPU mode without one always runs.
"""

import os
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import mode
from caffe.context import Context, Settings
from caffe.layers.inner_product import InnerProduct
from caffe.net import Net
from caffe_proto import caffe_pb2, net_state
from tests.needs import need
from tests.parity import solver_cases, values
from tests.parity.compare import NET_TOLERANCE, differences, norm_error

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {"AlexNet": "models/AlexNet/alexnet_deploy.prototxt", "AudioNet": "models/AudioNet/audionet_deploy.prototxt"}
SOLVER_TOLERANCE = 1e-3  # after 24 iterations
GRADIENT_TOLERANCE = 2e-2  # of a whole net; layer by layer: python -m benchmarks.gpu --section parity


@pytest.fixture
def cuda():
    """Skips, loudly, where there is no CUDA device; gives the CPU mode back."""
    need("cuda", torch.cuda.is_available(), "NOT COMPARED on CUDA: no CUDA device here")
    yield
    caffe.set_mode_cpu()


def both(function):
    """(result on CUDA, result on the CPU) of a function of no arguments."""
    caffe.set_mode_gpu()
    try:
        found = function()
    finally:
        caffe.set_mode_cpu()
    return found, function()


def network_pass(path):
    """All blobs, their gradients and the parameters' of a deploy net with fixed weights and two inputs."""
    text = string.Template((ROOT / path).read_text()).substitute(classes=10)
    param = net_state(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TEST)
    param.force_backward = True
    net = caffe.Net.from_param(param)
    shape = (2, *tuple(net.blobs["data"].shape)[1:])
    net.blobs["data"].reshape(*shape)
    net.reshape()
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            scale = (2 / np.prod(blob.data.shape[1:])) ** 0.5 if i == 0 else 0.1
            blob.data[...] = values.make(f"normal:{scale}", blob.data.shape, name, i)
    net.forward(data=values.make("normal", shape, "data"))
    (out,) = net.outputs
    net.backward(**{out: values.make("normal", net.blobs[out].data.shape, "diff")})
    found = {f"data/{name}": blob.data.copy() for name, blob in net.blobs.items()}
    found.update((f"diff/{name}", blob.diff.copy()) for name, blob in net.blobs.items())
    for name, blobs in net.params.items():
        found.update((f"param/{name}/{i}", blob.diff.copy()) for i, blob in enumerate(blobs))
    return found


@pytest.mark.cuda
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_agree_with_the_cpu(network, cuda):
    """Values by their largest difference; gradients by norms, since one may go to another of two equal maxima."""
    found, wanted = both(lambda: network_pass(NETWORKS[network]))
    (values, other_values), (gradients, other_gradients) = (
        [{key: array for key, array in one.items() if key.startswith("data/") == is_value} for one in (found, wanted)]
        for is_value in (True, False)
    )
    assert not differences(values, other_values, NET_TOLERANCE)
    assert not differences(gradients, other_gradients, GRADIENT_TOLERANCE, norm_error)


@pytest.mark.cuda
@pytest.mark.parametrize("case", solver_cases.CASES)
def test_solvers_agree_with_the_cpu(case, cuda, tmp_path):
    folders = iter((tmp_path / "gpu", tmp_path / "cpu"))

    def train():
        folder = next(folders)
        folder.mkdir()
        return solver_cases.train(case, str(folder))[1]

    found, wanted = both(train)
    assert not differences(found, wanted, SOLVER_TOLERANCE)


@pytest.mark.cuda
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_bits_on_cuda(network, cuda):
    caffe.set_mode_gpu()
    one, other = (network_pass(NETWORKS[network]) for _ in range(2))
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.cuda
def test_existing_nets_follow_the_mode_and_see_what_the_user_wrote(cuda, tmp_path):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 3 } } }
        layer { name: "p" type: "Power" bottom: "d" top: "p" power_param { scale: 2 } }""")
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    for turn, set_mode in enumerate((caffe.set_mode_cpu, caffe.set_mode_gpu, caffe.set_mode_gpu, caffe.set_mode_cpu)):
        set_mode()
        net.blobs["d"].data[...] = turn
        net.forward()
        assert net.blobs["p"].value.device.type == mode.CONTEXT.device.type
        assert net.blobs["p"].data.tolist() == [2 * turn] * 3


# -- what needs no device ---------------------------------------------------------------------------------------------
def switches():
    """torch's switches: (precision of products, of convolutions, deterministic, benchmark)."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def precision():
    """Gives torch's switches back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = switches()
    yield
    matmul.allow_tf32 = cudnn.allow_tf32 = True  # the older names as torch has them at first, so that both agree
    matmul.allow_tf32 = False
    matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark = before


SMALL = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
force_backward: true"""


def by_older_names(allow):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow


def by_newer_names(precision):
    """Which older and newer names disagree about: reading an older one raises."""
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = precision


USERS = {  # what a user of torch may have done
    "nothing": lambda: None,
    "allowed, older": lambda: by_older_names(True),
    "forbidden, older": lambda: by_older_names(False),
    "allowed": lambda: by_newer_names("tf32"),
    "forbidden": lambda: by_newer_names("ieee"),
    "both": lambda: (by_older_names(True), by_newer_names("ieee")),
}


@pytest.mark.parametrize("text, tf32", [(None, False), ("", False), ("0", False), ("1", True)])
@pytest.mark.parametrize("before", USERS)
def test_tf32_is_off_unless_asked_for_around_the_passes_and_nowhere_else(text, tf32, before, precision, monkeypatch):
    """On torch's meta device, which stands for CUDA: whoever uses torch beside a net finds its switches untouched."""
    USERS[before]()
    outside = switches()
    environment = {} if text is None else {"CAFFE_TF32": text}
    context = Context(torch.device("meta"), settings=Settings.from_environment(environment))
    net = Net(net_state(text_format.Parse(SMALL, caffe_pb2.NetParameter()), caffe.TRAIN), context)
    seen = []
    for direction in ("forward", "backward"):
        run = getattr(InnerProduct, direction)
        monkeypatch.setattr(InnerProduct, direction, lambda *a, run=run: (seen.append(switches()), run(*a)))
    net.plan.forward()
    net.plan.backward()
    wanted = "tf32" if tf32 else "ieee"
    assert seen == [(wanted, wanted, True, False)] * 2
    assert switches() == outside


@pytest.mark.parametrize("tf32", [False, True])
def test_the_log_says_which_precision_is_in_force(tf32, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    context = Context(settings=Settings(tf32=tf32))
    context.use_gpu()
    assert context.device == torch.device("cuda", 0)
    assert ("TF32 (CAFFE_TF32=1)" if tf32 else "GPU precision: float32") in capsys.readouterr().err


def test_an_unclear_wish_for_tf32_is_refused(monkeypatch):
    monkeypatch.setenv("CAFFE_TF32", "yes")
    with pytest.raises(caffe.CaffeError, match="CAFFE_TF32: expected 0 .* or 1 .*, got 'yes'"):
        Settings.from_environment(os.environ)


def test_without_a_device_the_gpu_mode_says_so():
    code = "import caffe\ntry:\n caffe.set_mode_gpu()\nexcept caffe.CaffeError as error:\n print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "GPU 0: expected a usable CUDA device, got none; use CPU mode\n"


@pytest.mark.parametrize("network", NETWORKS)
def test_the_pass_that_cuda_is_compared_by_is_alive(network):
    """The numbers of network_pass are finite, not all zero, and reach every parameter."""
    found = network_pass(NETWORKS[network])
    assert len(found) > 30
    for name, array in found.items():
        assert np.isfinite(array).all() and array.any(), name
