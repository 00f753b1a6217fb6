"""benchmarks/gpu without a GPU: what it says, and that its code runs; the hand-written networks are the paper's."""

import json
import os
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format

import caffe
from audiomnist.runs.networks import NETWORKS
from benchmarks.gpu import processes, right
from benchmarks.gpu.__main__ import ORDER
from benchmarks.gpu.quick import AT_ONCE
from benchmarks.gpu.right import gap, layer_by_layer, report_worst
from benchmarks.gpu.sections import SECTIONS, Sizes
from benchmarks.handwritten import Loop, network
from caffe.context import Context, Settings
from caffe.layers.convolution import Convolution
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
    assert "rates: not done after 1 s" in done.stdout and "lrp AlexNet, AudioNet: not done after 1 s" in done.stdout
    assert "2 failed" in done.stdout and "machine: CPU" in done.stdout
    log = (tmp_path / "log").read_text().splitlines()
    assert set(done.stdout.splitlines()) <= set(log)


@pytest.mark.slow
def test_every_section_runs(tmp_path):
    done = run(tmp_path, "--cpu")
    assert done.returncode == 0, done.stdout + (tmp_path / "log").read_text()[-5000:]
    assert done.stdout.endswith("nothing failed\n")
    for words in (
        "tests: ",
        "convolution AudioNet conv6, TF32, channels_last: values ",
        "parity AudioNet, layer by layer, TF32, gradients: ",
        "parity AlexNet, replayed, history after five steps: ",
        "device: float32",
        "engine: TF32, graph, any algorithm",
        "PyTorch: bf16, compiled",
        "part conv1",
        "AudioNet: 2 at once",
        "lrp AudioNet",
        "projected, TF32: the 18 runs",
    ):
        assert words in done.stdout


def test_the_section_of_tests_has_all_that_wait_for_a_card():
    waiting = {path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")}
    waiting.remove(Path(__file__))  # which looks for the word
    assert {path.relative_to(ROOT).as_posix() for path in waiting} == set(right.CUDA_TESTS)


def ends(pid):
    """Wait for a process that is not ours to end; False if it is still there after ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "after, seconds, reason",
    [("wait", 1, "not done after 1 s"), ("exit 3", 60, "exit status 3"), ("exit 0", 60, None)],
)
def test_what_a_process_has_started_ends_with_it(after, seconds, reason):
    """At the limit as well as when it is done; its lines are there in either case."""
    lines = []
    found = processes.run(["sh", "-c", f"sleep 300 >/dev/null 2>&1 & echo $!; {after}"], seconds, lines.append)
    assert found == reason and len(lines) == 1
    assert ends(int(lines[0]))


def test_a_terminated_benchmark_leaves_no_process():
    """As `timeout` ends it."""
    code = """from benchmarks.gpu.processes import end_in_order, run
end_in_order()
run(["sh", "-c", "sleep 300 & echo $!; wait"], 60, lambda line: print(line, flush=True))"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        process.terminate()
    assert process.returncode == 143 and ends(pid)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", ["first", "last"])
def test_what_is_not_finite_never_agrees(bad, place, capsys):
    one = torch.tensor([1.0, bad])
    assert gap(one, torch.ones(2)) == gap(torch.ones(2), one) == gap(one, one) == torch.inf
    gaps = {"first": 1e-9, "last": 1e-7, place: gap(one, torch.ones(2))}
    report_worst("a pass", gaps, 1e-5)
    result = json.loads(capsys.readouterr().out.removeprefix("RESULT "))
    assert result["failed"] and f"a pass: inf ({place};" in result["line"]


def test_the_gap_is_the_share_of_the_norm():
    assert gap(torch.tensor([3.0, 5.0]), torch.tensor([[3.0], [4.0]])) == pytest.approx(0.2)
    assert gap(torch.zeros(2), torch.zeros(2)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_convolutions_are_compared_where_they_are_computed(name, monkeypatch, capsys):
    """On torch's meta device, which stands for CUDA and takes no numbers from the CPU."""
    seen = []

    def gap(found, wanted):
        assert found.device.type == wanted.device.type == "meta" and found.shape == wanted.shape
        seen.append((found.dtype, wanted.dtype))
        return 0.0

    sizes = Sizes(cpu=True)
    sizes.device = torch.device("meta")
    sizes.context = lambda settings: Context(sizes.device, settings=settings)
    monkeypatch.setattr(right, "gap", gap)
    right.convolutions(sizes, name)
    layers = {"AlexNet": 5, "AudioNet": 6}[name]
    assert seen == [(torch.float32, torch.float64)] * 4 * (4 * layers - 1)  # nobody wants the input's gradient of conv1
    results = capsys.readouterr().out.splitlines()
    assert len([line for line in results if line.startswith("RESULT")]) == 4 * layers


@pytest.mark.slow
def test_layer_by_layer_a_wrong_gradient_is_named_and_nothing_before_it(monkeypatch):
    """conv4 of AudioNet, a thousandth off on one side: neither its neighbours nor its values are blamed."""
    context, right = Context(settings=Settings()), Convolution.torch_gradients

    def wrong(self, *arguments):
        dx, dw = right(self, *arguments)
        off = 1.001 if self.context is context and self.layer_param.name == "conv4" and dx is not None else 1
        return dx if dx is None else dx * off, dw

    monkeypatch.setattr(Convolution, "torch_gradients", wrong)
    found = layer_by_layer("AudioNet", context)
    assert max(found["values"].values()) == 0 and len(found["values"]) > 15
    assert {key for key, value in found["gradients"].items() if value > 1e-6} == {"conv4, bottom 0"}
    assert found["gradients"]["conv4, bottom 0"] == pytest.approx(1e-3, rel=1e-3)


def test_a_section_s_processes_fit_into_ten_minutes():
    """The longest process of each, and a start for all of them."""
    assert set(ORDER) == set(SECTIONS)
    assert all(section.limit < 570 for section in SECTIONS.values())
    assert AT_ONCE == (1, 2)


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
