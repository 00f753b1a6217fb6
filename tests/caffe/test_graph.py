"""Replayed training and test passes against plain ones: same weights, history, log and curve.

The oracle is the plain path, which is held against the original elsewhere. On the CPU an emulator stands where CUDA
graphs are (tests/graph_emulator.py), and results must have the same bits; with a CUDA device the same tests run on it,
where sums may be made in another order.
"""

import contextlib
import gc
import importlib
import re
import shutil
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from audiomnist.corpus.splits import load_splits
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import render
from audiomnist.runs.run_folder import RunName
from caffe import graph, replay, training
from caffe.context import Context, read_environment
from caffe.fusion import fuse
from caffe.layers.hdf5 import HDF5Data
from caffe.layers.neuron import ReLU
from caffe.layers.split import Slice
from caffe.mode import CONTEXT
from caffe.plan import free_memory
from caffe.solver import Action
from caffe_proto import caffe_pb2
from tests.caffe.test_determinism import NET
from tests.graph_emulator import EmulatedGraph, NotPermitted
from tests.needs import need
from tests.net_cases import log_messages
from tests.parity.solver_cases import POLICIES, STEP, TYPES
from tests.solver_cases import write_corpus

ROOT = Path(__file__).resolve().parents[2]
SAME = {"cpu": 0.0, "cuda": 1e-4}  # what weights and history may differ by, as a share of the largest
ACCURACY = """layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include { phase: TEST } }"""
COMMON = 'net: "net.prototxt" snapshot_prefix: "s" random_seed: 4 max_iter: 17 '
TESTED = COMMON + "display: 5 test_iter: 2 test_interval: 6 snapshot: 7 average_loss: 3 "
CASES = {kind: f'type: "{kind}" {always} {STEP}' for kind, always in TYPES.items()}
CASES.update(
    (
        f"{kind}, clipped, iter_size",
        f'type: "{kind}" {always} {STEP} clip_gradients: 0.3 iter_size: 2 weight_decay: 0.05',
    )
    for kind, always in TYPES.items()
)
CASES.update(
    (name, f'type: "SGD" base_lr: 0.05 momentum: 0.9 {text.replace("max_iter: 30", "")}')
    for name, text in POLICIES.items()
)
CASES["L1"] = CASES["SGD"] + ' weight_decay: 0.02 regularization_type: "L1"'
CASES["clip to nothing"] = CASES["SGD"] + " clip_gradients: 0"
QUICK = (*TYPES, "SGD, clipped, iter_size", "multistep", "L1")  # before each commit


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request, monkeypatch):
    """Graphs on this device: CUDA's, or emulated ones on the CPU. Skips, loudly, where there is no CUDA device."""
    if request.param == "cpu":
        monkeypatch.setitem(graph.KINDS, "cpu", EmulatedGraph)
    else:
        need("cuda", torch.cuda.is_available(), "NOT COMPARED on CUDA: no CUDA device here")
        caffe.set_mode_gpu()
    yield request.param
    caffe.set_mode_cpu()


@pytest.fixture
def run(device, tmp_path, monkeypatch, capsys):
    """run(folder name, solver text, graphs: bool, ...) trains there; see Result."""

    def run(name, solver, graphs, net=NET + ACCURACY, snapshot=None, actions=None, megabytes=1000):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            write_corpus(folder)
            (folder / "net.prototxt").write_text(net)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("CAFFE_CUDA_GRAPH", "1" if graphs else "0")
        monkeypatch.setenv("CAFFE_HDF5_DEVICE_MB", str(megabytes if graphs else 0))  # plain: batches from the host
        monkeypatch.setenv("CAFFE_PYTHON_LAYERS", "1")  # one of the nets has a layer of this module
        read_environment()
        param = text_format.Parse(solver, caffe_pb2.SolverParameter())
        capsys.readouterr()
        solvers = []

        def make(*arguments, **more):
            solvers.append(caffe.solver.Solver(*arguments, **more))
            return solvers[-1]

        monkeypatch.setattr(training, "Solver", make)
        training.train(param, CONTEXT, actions or (lambda: Action.NONE), snapshot)
        return Result(solvers[0], folder, capsys.readouterr().err)

    return run


class Result:
    """Weights, history, random state, data position, log lines (without times) and curve of a run."""

    def __init__(self, solver, folder, log):
        self.solver = solver
        self.tensors = [blob.value.cpu() for blob in (*solver.net.learnable_params, *solver.history)]
        self.gradients = [blob.grad.cpu() for blob in solver.net.learnable_params]
        self.random = {k: v.tolist() for k, v in solver.context.random.state()["generators"].items()}
        self.positions = [net.positions() for net in (solver.net, *solver.test_nets)]
        lines = [text for _, text in log_messages(log)]
        self.about_graphs = [line for line in lines if line.startswith("Graph:")]
        lines = [
            re.sub(r"\(\S+ iter/s, \S+ iters\)", "(speed)", line)
            for line in lines[lines.index("Starting Optimization") :]
        ]
        self.clips = [line for line in lines if line.startswith("Gradient clipping")]
        self.log = [line for line in lines if line not in self.clips]
        path = folder / "s_curve.csv"
        self.curve = path.read_text() if path.exists() else None


def assert_same(found, wanted, tolerance):
    """Both runs have the same weights and history, the same log and curve (with a tolerance: but for their numbers)."""
    pairs = list(zip(found.tensors + found.gradients, wanted.tensors + wanted.gradients, strict=True))
    if tolerance == 0:
        assert all(torch.equal(a, b) for a, b in pairs)
        assert found.log == wanted.log
        assert found.clips == wanted.clips
        assert found.curve == wanted.curve
    else:
        assert max(replay.difference(a, b) for a, b in pairs) <= tolerance
        without = [[re.sub(r"[-+]?\d[\d.e+-]*", "#", line) for line in result.log] for result in (found, wanted)]
        assert without[0] == without[1]
        assert len(found.clips) == len(wanted.clips) and found.curve.count("\n") == wanted.curve.count("\n")
    assert found.random == wanted.random
    np.testing.assert_equal(found.positions, wanted.positions)


def assert_replayed(result, test_nets=1):
    assert result.solver.replay is not None, result.about_graphs
    assert len(result.solver.test_replays) == test_nets
    assert all(replay is not None for replay in result.solver.test_replays.values())
    assert len(result.about_graphs) == 1 + test_nets
    assert all("is captured and replayed" in line for line in result.about_graphs)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_replayed_training_is_plain_training(case, device, run):
    plain, replayed = (run(name, TESTED + CASES[case], name == "graphs") for name in ("plain", "graphs"))
    assert_replayed(replayed)
    assert plain.solver.replay is None and "CAFFE_CUDA_GRAPH=0" in plain.about_graphs[0]
    assert_same(replayed, plain, SAME[device])
    assert ("clip" in case) == bool(plain.clips)


def test_the_table_of_results_is_read_when_it_is_full(device, run, monkeypatch):
    """Without display nothing is read back until the table is full, or somebody looks."""
    monkeypatch.setattr(replay, "CAPACITY", 4)
    solver = COMMON + CASES["SGD, clipped, iter_size"] + " test_iter: 6 test_interval: 10"
    assert_same(run("graphs", solver, True), run("plain", solver, False), SAME[device])


@pytest.mark.parametrize("first, second", [(True, True), (True, False), (False, True)])
def test_a_snapshot_of_one_path_resumes_in_the_other(first, second, device, run, tmp_path):
    solver = TESTED + CASES["Adam, clipped, iter_size"]
    whole = run("whole", solver, False)
    run("parts", solver, first)
    (tmp_path / "parts/s_iter_17.solverstate").unlink()
    resumed = run("parts", solver, second, snapshot="s_iter_14.solverstate")
    assert all(replay.difference(a, b) <= SAME[device] for a, b in zip(resumed.tensors, whole.tensors, strict=True))
    assert device == "cuda" or resumed.curve == whole.curve
    np.testing.assert_equal(resumed.positions, whole.positions)


def test_signals_are_seen_in_every_iteration_and_test_batch(device, run):
    """A snapshot asked for at any poll, in training and within tests, and a stop: as on the plain path."""
    for stop in (None, 3, 11, 13, 20):
        results = []
        for name in ("plain", "graphs"):
            polls = iter(range(1000))

            def act(polls=polls, stop=stop):
                poll = next(polls)
                return Action.STOP if poll == stop else Action.SNAPSHOT if poll in (1, 9, 12) else Action.NONE

            results.append(run(f"{name}{stop}", TESTED + CASES["SGD"], name == "graphs", actions=act))
        assert_same(results[1], results[0], SAME[device])


# -- the paper's networks ---------------------------------------------------------------------------------------------
def write_recordings(folder, network, count=7):
    """HDF5 files of one random recording each, and the lists of them."""
    state = np.random.default_rng(2)
    shape = NETWORKS[network].input_shape
    for i in range(count):
        with h5py.File(folder / f"{i}.hdf5", "w") as file:
            file["data"] = state.normal(size=(1, *shape)).astype(np.float32)
            file["label"] = np.array([[i % 10, i % 2]], np.float32)
    (folder / "train.txt").write_text("".join(f"{i}.hdf5\n" for i in range(count)))
    (folder / "test.txt").write_text("0.hdf5\n1.hdf5\n")


def network_files(network):
    """(train and test net, solver) of the paper's templates: batches of 2, steps and tests close to each other."""
    texts = render(
        RunName(network, "digit", 0), load_splits(ROOT / "data" / "splits.json"), {"validate": 2, "test": 2}, Path(".")
    )
    net = text_format.Parse(
        texts["train.prototxt"].replace("batch_size: 100", "batch_size: 2"), caffe_pb2.NetParameter()
    )
    for layer, name in zip(net.layer, ("train.txt", "test.txt"), strict=False):
        layer.hdf5_data_param.source = name
    solver = text_format.Parse(texts["solver.prototxt"], caffe_pb2.SolverParameter())
    solver.net, solver.snapshot_prefix, solver.random_seed = "net.prototxt", "s", 1
    solver.max_iter, solver.test_interval, solver.display, solver.stepsize, solver.snapshot = 4, 2, 2, 2, 3
    solver.base_lr *= 0.1  # tiny batches of noise
    if solver.clip_gradients > 0:
        solver.clip_gradients = 0.05
    return text_format.MessageToString(net), text_format.MessageToString(solver)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_the_paper_s_networks(network, device, run, tmp_path):
    net, solver = network_files(network)
    results = []
    for name in ("plain", "graphs"):
        (tmp_path / name).mkdir()
        write_recordings(tmp_path / name, network)
        (tmp_path / name / "net.prototxt").write_text(net)
        results.append(run(name, solver, name == "graphs"))
        shutil.rmtree(tmp_path / name)
    assert_replayed(results[1])
    assert_same(results[1], results[0], {"cpu": 0.0, "cuda": 1e-3}[device])
    assert bool(results[0].clips) == (network == "AlexNet")


@pytest.mark.parametrize("channels_last", ["0", "1"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_iteration_never_looks_at_the_device_s_numbers(network, channels_last, tmp_path, monkeypatch):
    """On torch's meta device, which computes shapes and holds no numbers: whoever wants one, or leaves it, fails.

    It stands for CUDA where there is none: what is done on the CPU alone is not done there.
    """
    net, solver = network_files(network)
    write_recordings(tmp_path, network)
    (tmp_path / "net.prototxt").write_text(net)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFFE_CHANNELS_LAST", channels_last)
    read_environment()
    solver = caffe.solver.Solver(text_format.Parse(solver, caffe_pb2.SolverParameter()), Context())
    meta = torch.device("meta")
    solver.context.device = meta
    monkeypatch.setattr(solver.context.random, "generator", lambda on: None)
    solver.use_plans(lambda plan: free_memory(fuse(plan)))
    slots = contextlib.ExitStack()
    for net in (solver.net, *solver.test_nets):
        for layer in net.layers:
            if isinstance(layer, HDF5Data):
                assert layer._read_all(2**30)
                layer._move_to(meta)
                slots.enter_context(layer.from_slots())
    with slots, solver.context.capture():
        numbers = solver.iteration(torch.zeros(len(solver.update.groups()), device=meta).unbind())
        solver.test_nets[0].share_with(solver.net)
        loss = solver.test_plans[0].forward()
    assert numbers.device == loss.device == meta and numbers.shape == (2,)
    tensors = [t for p in solver.net.learnable_params for t in (p._data.tensor, p._diff.tensor)]
    assert all(tensor.device == meta for tensor in tensors + [h._data.tensor for h in solver.history])
    kernels = [p.value for p in solver.net.learnable_params if p.num_axes == 4 and p.channels > 1]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels) or channels_last == "0"


# -- what must not be replayed ----------------------------------------------------------------------------------------
def spoil(kind, how):
    """A kind of graph whose replays go wrong."""

    class Wrong(kind):
        def replay(self):
            super().replay()
            how(self)

    return Wrong


def test_a_solver_that_replays_is_freed_with_its_last_user(device, tmp_path, monkeypatch):
    """Not when the garbage collector comes by: memory of the device would wait for it."""
    write_corpus(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET + ACCURACY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFFE_HDF5_DEVICE_MB", "1000")
    read_environment()
    importlib.import_module("torch._dynamo")  # the emulator's first operation does, and it keeps all frames of then
    gc.disable()
    try:
        param = text_format.Parse(TESTED + CASES["SGD"], caffe_pb2.SolverParameter())
        solver = caffe.solver.Solver(param, CONTEXT)
        graph.accelerate(solver, graph.KINDS[device])
        solver.step(8)
        replays = [solver.replay, *solver.test_replays.values()]
        known = [weakref.ref(one) for one in (solver, solver.net, *replays, *(one.graph for one in replays))]
        assert len(known) == 6
        del solver, replays
        assert [ref() for ref in known] == [None] * 6
    finally:
        gc.enable()


def test_a_wrong_graph_is_found_out_and_not_used(device, run, monkeypatch):
    solver = TESTED + CASES["SGD"]
    plain = run("plain", solver, False)
    states = []
    made = graph.Replay.__init__

    def remember(self, plan, state, **more):
        states.append(state)
        made(self, plan, state, **more)

    monkeypatch.setattr(graph.Replay, "__init__", remember)
    monkeypatch.setitem(graph.KINDS, device, spoil(graph.KINDS[device], lambda _: states[-1][0].mul_(1.001)))
    replayed = run("graphs", solver, True)
    assert replayed.solver.replay is None
    assert all("runs layer by layer: a replay differs from plain passes by" in line for line in replayed.about_graphs)
    assert_same(replayed, plain, SAME[device])


def test_what_cannot_be_captured_runs_plainly(device, run, monkeypatch):
    solver = TESTED + CASES["SGD"]
    plain = run("plain", solver, False)
    forward = ReLU.forward
    monkeypatch.setattr(
        ReLU, "forward", lambda self, bottom, top: (float(bottom[0].value.sum()), forward(self, bottom, top))
    )
    replayed = run("graphs", solver, True)
    assert replayed.solver.replay is None
    assert all("runs layer by layer: it could not be captured" in line for line in replayed.about_graphs)
    assert_same(replayed, plain, SAME[device])


DATA = NET[: NET.index('layer { name: "ip1"')]
OBSTACLES = {
    "checks its indices": NET.replace(
        'layer { name: "loss"',
        """
        layer { name: "class" type: "Reshape" bottom: "label" top: "class" reshape_param { shape { dim: -1 } } }
        layer { name: "embed" type: "Embed" bottom: "class" top: "embed" embed_param { input_dim: 3 num_output: 2 } }
        layer { name: "hush" type: "Silence" bottom: "embed" }
        layer { name: "loss\"""",
    ),
    "draws numbers on the host": NET
    + """layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param {
        shape { dim: 2 } data_filler { type: "uniform" } } } layer { name: "hush" type: "Silence" bottom: "noise" }""",
    "is filled by the user": NET
    + """layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 } } }
        layer { name: "hush" type: "Silence" bottom: "in" }""",
    "is a user's Python code": NET
    + """layer { name: "py" type: "Python" bottom: "ip2" top: "py" python_param {
        module: "tests.caffe.test_graph" layer: "Seen" } } layer { name: "hush" type: "Silence" bottom: "py" }""",
    "the labels of layer 'loss' (SoftmaxWithLoss) are computed by layer 'power' (Power)": NET.replace(
        'layer { name: "loss"',
        'layer { name: "power" type: "Power" bottom: "label" top: "power" } layer { name: "loss"',
    ).replace('bottom: "label" top: "loss"', 'bottom: "power" top: "loss"'),
}


class Seen(caffe.Layer):
    """A user's layer: the identity."""

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff


@pytest.mark.parametrize("reason", OBSTACLES)
def test_nets_that_need_the_host_run_plainly_and_the_log_says_why(reason, device, run):
    solver = TESTED + CASES["SGD"]
    plain, replayed = (run(name, solver, name == "graphs", net=OBSTACLES[reason]) for name in ("plain", "graphs"))
    assert replayed.solver.replay is None
    assert [reason in line for line in replayed.about_graphs] == [True, True]
    assert_same(replayed, plain, SAME[device])


def test_other_reasons_to_run_plainly(device, run, monkeypatch):
    solver = TESTED + CASES["SGD"]
    assert "debug_info" in run("debug", solver + " debug_info: true", True).about_graphs[0]
    found = run("large", solver, True, megabytes=0).about_graphs
    assert "layer 'data' (HDF5Data) reads its rows on the host" in found[0]
    monkeypatch.setenv("CAFFE_CUDA_GRAPH", "maybe")
    with pytest.raises(caffe.CaffeError, match=r"CAFFE_CUDA_GRAPH: expected 0 .* or 1 .*, got 'maybe'"):
        read_environment()


def test_layers_that_need_the_host_say_so(device):
    """Every layer type either has a reason in `needs_host`, or its class has none; the list is looked at here."""
    from caffe.layer import LAYERS

    named = {name for name, cls in LAYERS.items() if getattr(cls, "needs_host", None) is not None}
    sources = {"Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "Input", "MemoryData", "WindowData"}
    assert named == sources | {"BatchReindex", "Embed", "Filter", "LSTM", "RNN"}
    assert Slice.needs_host is None


# -- failures ---------------------------------------------------------------------------------------------------------
def test_a_wrong_label_anywhere_in_the_set_stops_before_training(device, run, tmp_path):
    (tmp_path / "run").mkdir()
    write_corpus(tmp_path / "run")
    (tmp_path / "run/net.prototxt").write_text(NET)
    with h5py.File(tmp_path / "run/train1.hdf5", "r+") as file:
        file["label"][3] = 7
    with pytest.raises(caffe.CaffeError, match=r"train1.hdf5, row 3: layer 'loss' .* expected 0..2, got label 7 "):
        run("run", TESTED + CASES["SGD"], True)
    assert not list((tmp_path / "run").glob("s_iter_*"))


@pytest.mark.parametrize("batch", [1, 4, 5, 13])  # 13 rows: batches that divide them, and that do not
@pytest.mark.parametrize("place", [("train0.hdf5", 0), ("train0.hdf5", 6), ("train1.hdf5", 4), ("train2.hdf5", 0)])
def test_the_only_wrong_label_is_found_wherever_it_is(place, batch, device, run, tmp_path):
    """First and last row of the set, of a file and of a batch."""
    (tmp_path / "run").mkdir()
    write_corpus(tmp_path / "run")
    (tmp_path / "run/net.prototxt").write_text(NET.replace("batch_size: 4", f"batch_size: {batch}"))
    file, row = place
    with h5py.File(tmp_path / "run" / file, "r+") as content:
        content["label"][row] = -2
    with pytest.raises(caffe.CaffeError, match=rf"{file}, row {row}: layer 'loss' .* expected 0..2, got label -2 "):
        run("run", TESTED + CASES["SGD"], True)


@pytest.mark.parametrize("asked", ["display: 5", "test_iter: 2 test_interval: 6", "snapshot: 7", ""])
def test_a_loss_that_is_not_finite_stops_before_the_next_snapshot(asked, device, run, tmp_path):
    solver = COMMON + asked + ' base_lr: 1e38 lr_policy: "fixed" momentum: 0.9'
    with pytest.raises(
        caffe.CaffeError, match=r"Iteration \d: expected a finite training loss, got .*nan.*CUDA_GRAPH=0"
    ):
        run("run", solver, True)
    assert not list((tmp_path / "run").glob("s_iter_*"))


# -- the emulator is strict -------------------------------------------------------------------------------------------
def emulate(function, *generators):
    return EmulatedGraph(function, generators)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x + torch.tensor([1.0]),
        lambda x: torch.rand(3),
        lambda x: x.bernoulli_(0.5),
    ],
)
def test_the_emulator_refuses_what_cuda_refuses(function):
    with pytest.raises(NotPermitted):
        emulate(lambda: function(torch.ones(3)))


def test_the_emulator_keeps_addresses_and_runs_no_python():
    x, kept, calls = torch.ones(3), [], []

    def function():
        calls.append(1)
        kept.append(x.view(3, 1) * 2 + len(calls))
        x.add_(kept[0].flatten())

    made = emulate(function)
    x.fill_(10)
    made.replay()
    assert x.tolist() == [31, 31, 31] and kept[0].flatten().tolist() == [21, 21, 21] and calls == [1]
    made.replay()
    assert x.tolist() == [94, 94, 94] and kept[0].flatten().tolist() == [63, 63, 63]


def test_the_emulator_sees_memory_that_was_freed():
    kept = [torch.ones(3)]
    total = torch.zeros(3)
    made = emulate(lambda: total.add_(kept[0]))
    made.replay()
    kept.clear()
    with pytest.raises(AssertionError, match="freed"):
        made.replay()


def test_the_emulator_draws_anew_in_every_replay():
    generator, wanted = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    kept = []
    made = emulate(lambda: kept.append(torch.empty(4).bernoulli_(0.5, generator=generator)), generator)
    for _ in range(3):
        made.replay()
        assert torch.equal(kept[0], torch.empty(4).bernoulli_(0.5, generator=wanted))
