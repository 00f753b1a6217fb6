"""benchmarks/gpu.py without a GPU: what it says, and that its code runs; the hand-written networks are the paper's."""

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format

import caffe
from audiomnist.runs.networks import NETWORKS
from benchmarks.handwritten import Loop, network
from caffe_proto import caffe_pb2, net_state

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {"AlexNet": 12_808_906, "AudioNet": 17_107_162}


def run(folder, *arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", "--log", folder / "log", *arguments]
    return subprocess.run(
        command,
        text=True,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


def test_without_a_device_it_says_so(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and not done.stdout
    assert "no CUDA device was found; nothing was measured" in done.stderr


def test_a_section_that_fails_costs_only_its_own_lines(tmp_path):
    done = run(tmp_path, "--cpu", "--section", "rates", "--section", "lrp", "--timeout", "1")
    assert done.returncode == 1, done.stderr
    assert "rates : not done after 1 s" in done.stdout and "lrp AudioNet: not done after 1 s" in done.stdout
    assert "3 failed" in done.stdout and "machine: CPU" in done.stdout
    assert done.stdout in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_every_section_runs(tmp_path):
    done = run(tmp_path, "--cpu")
    assert done.returncode == 0, done.stdout + (tmp_path / "log").read_text()[-5000:]
    assert done.stdout.endswith("nothing failed\n")
    for words in (
        "tests: ",
        "parity AlexNet, replayed, five steps: ",
        "device: float32",
        "engine: TF32, graph",
        "PyTorch: bf16, best",
        "2 runs at once",
        "part conv1",
        "lrp AudioNet",
        "projected, TF32: the 18 runs",
    ):
        assert words in done.stdout


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_hand_written_networks_are_the_paper_s(name):
    model = network(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    text = string.Template(NETWORKS[name].template("deploy").read_text()).substitute(classes=10)
    net = caffe.Net.from_param(net_state(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TEST))
    shape = (2, *NETWORKS[name].input_shape)
    net.blobs["data"].reshape(*shape)
    net.reshape()
    layers = [module for module in model if hasattr(module, "weight")]
    for module, blobs in zip(layers, net.params.values(), strict=True):
        for parameter, blob in zip((module.weight, module.bias), blobs, strict=True):
            blob.data[...] = parameter.detach().numpy().reshape(blob.data.shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    net.forward(data=x.numpy())
    with torch.no_grad():
        scores = model.eval()(x)
    assert torch.allclose(torch.from_numpy(net.blobs[NETWORKS[name].score].data), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_hand_written_loop_learns():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8) % 2
    data = 0.1 * torch.randn((8, 1, 1, 8000), generator=generator) + (2.0 * labels - 1).view(-1, 1, 1, 1)
    torch.manual_seed(0)
    loop = Loop("AudioNet", data, labels, 4, rate=0.01, clip=5.0)
    losses = []
    for _ in range(20):
        loop.step()
        losses.append(loop.loss.item())
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
