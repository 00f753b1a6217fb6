"""The engine on a GPU in one call of a few minutes: is it right, how quick is it, how far from the best.

    python -m benchmarks.gpu [--log FILE] [--section NAME ...]      on the GPU box
    python -m benchmarks.gpu --cpu                                  the same code on the CPU with tiny sizes, no figures

Sections (each in processes of its own, so that one that fails costs only its own lines):

    tests     the tests with the `cuda` marker
    parity    CPU against CUDA in float32: both networks forward and backward, five solver steps, plain and replayed
    rates     what the device can do: matrix products, memory
    engine    iterations a second of this engine: plain and replayed, float32 and TF32, batches of 100 of a data set
              that is made on the device, as large as FSDD and AudioMNIST; test passes; peak memory
    torch     the same of a hand-written PyTorch loop: eager, and its best form; also with bf16, which the engine lacks
    together  iterations a second of 1, 2 and 4 runs at once
    parts     what could be done otherwise: pooling as a maximum of views, conv1 of AudioNet
    lrp       recordings explained a second

The table comes last; the log has every line of every process. "floor" is the larger of operations over the measured
matrix rate and bytes over the measured bandwidth, where each top and each gradient is written once, and read once
forward and once or twice backward (see `work`).
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format

from audiomnist.corpus.splits import load_splits
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import render
from audiomnist.runs.run_folder import RunName
from benchmarks.handwritten import Loop
from caffe import graph, mode
from caffe.context import read_environment
from caffe.fusion import fuse
from caffe.layers.hdf5 import HDF5Data, RowOrder
from caffe.plan import free_memory
from caffe.solver import Solver
from caffe_proto import caffe_pb2

ROOT = Path(__file__).resolve().parent.parent
RESULT = "RESULT "  # marks a line of a section's process that holds a result
ROWS = {"fsdd": 1800, "AudioMNIST": 18000}  # recordings that train
PASS_TOLERANCE, STEP_TOLERANCE = 1e-4, 1e-4  # relative, of norms: CPU against CUDA
ITERATIONS = {"AlexNet": 10_000, "AudioNet": 50_000}  # of the paper
RUNS_PER_NETWORK = 9  # five splits of the digits, four of the gender
TEST_INTERVAL, TEST_BATCHES = 100, 60
FLOAT32, TF32 = {}, {"CAFFE_TF32": "1"}
VARIANTS = {  # of the engine: (environment, replayed, AudioMNIST or fsdd)
    "float32, plain": (FLOAT32, False, "AudioMNIST"),
    "float32, graph": (FLOAT32, True, "AudioMNIST"),
    "float32, graph, channels_last": ({"CAFFE_CHANNELS_LAST": "1"}, True, "AudioMNIST"),
    "TF32, plain": (TF32, False, "AudioMNIST"),
    "TF32, graph": (TF32, True, "AudioMNIST"),
    "TF32, graph, plain format": ({**TF32, "CAFFE_CHANNELS_LAST": "0"}, True, "AudioMNIST"),
    "TF32, graph, fsdd-sized": (TF32, True, "fsdd"),
    "TF32, graph, any algorithm": (TF32, True, "AudioMNIST"),  # cuDNN chooses by trial, results vary in the last bits
}
LOOPS = {  # of the hand-written one: (TF32, options)
    "float32, eager": (False, {}),
    "float32, best": (False, {"tuned": True}),
    "TF32, eager": (True, {}),
    "TF32, best": (True, {"tuned": True}),
    "bf16, best": (True, {"tuned": True, "half": True}),
}


class Sizes:
    """How much is measured: on the GPU, or (tiny) on the CPU."""

    def __init__(self, cpu):
        self.cpu = cpu
        self.device = torch.device("cpu" if cpu else "cuda")
        self.batch = 2 if cpu else 100
        self.seconds = 0.0 if cpu else 3.0  # of each measurement
        self.least = 1 if cpu else 50  # iterations of each measurement
        self.matrix = 64 if cpu else 8192
        self.copied = 2**16 if cpu else 2**30  # floats
        self.timeout = 600
        self.kind = emulated() if cpu else graph.CudaGraph
        self.together = (1, 2) if cpu else (1, 2, 4)

    def rows(self, corpus):
        return 6 if self.cpu else ROWS[corpus]


def emulated():
    from tests.graph_emulator import EmulatedGraph

    return EmulatedGraph


def report(**result):
    """One result of a section, for the table."""
    print(RESULT + json.dumps(result), flush=True)


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(function, sizes):
    """Calls of function() a second, after two that do not count."""
    for _ in range(2):
        function()
    synchronize()
    begin, calls = time.perf_counter(), 0
    while True:
        for _ in range(sizes.least):
            function()
        calls += sizes.least
        synchronize()
        if (spent := time.perf_counter() - begin) >= sizes.seconds:
            return calls / spent


# -- the engine's runs ------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def environment(variables):
    """These environment variables, and the device mode that follows from them."""
    known = ("CAFFE_TF32", "CAFFE_CHANNELS_LAST")
    before = {name: os.environ.pop(name, None) for name in known}
    os.environ.update(variables)
    read_environment()
    try:
        yield
    finally:
        for name in known:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        read_environment()


def use(sizes):
    """Compute where `sizes` says, in the precision that the environment says."""
    if sizes.cpu:
        mode.set_mode_cpu()
    else:
        mode.set_mode_gpu()


def make_solver(name, sizes, folder, rows=None, tested=False):
    """The paper's solver of a network, its data sets of `rows` random recordings made on the device.

    Files and lists name one recording; the layers are given the rest. The rate is tiny, so that noise cannot diverge.
    `tested`: without dropout, whose numbers differ between devices, and with every blob's value kept.
    """
    import h5py

    inputs = NETWORKS[name].input_shape
    with h5py.File(folder / "one.hdf5", "w") as file:
        file["data"] = np.random.default_rng(1).normal(size=(1, *inputs)).astype(np.float32)
        file["label"] = np.zeros((1, 2), np.float32)
    (folder / "one.txt").write_text(f"{folder / 'one.hdf5'}\n")
    texts = render(
        RunName(name, "digit", 0),
        load_splits(ROOT / "data" / "splits.json"),
        {"validate": sizes.batch, "test": sizes.batch},
        folder,
    )
    net = text_format.Parse(texts["train.prototxt"], caffe_pb2.NetParameter())
    for layer in net.layer:
        if layer.type == "HDF5Data":
            layer.hdf5_data_param.source, layer.hdf5_data_param.batch_size = str(folder / "one.txt"), sizes.batch
        elif layer.type == "Dropout" and tested:
            layer.dropout_param.dropout_ratio = 0
    param = text_format.Parse(texts["solver.prototxt"], caffe_pb2.SolverParameter())
    param.ClearField("net")
    param.net_param.CopyFrom(net)
    param.random_seed, param.base_lr, param.test_initialization = 1, 1e-8, False
    param.display, param.test_interval, param.snapshot, param.snapshot_prefix = 0, 10**9, 0, ""
    param.test_iter[:] = [TEST_BATCHES if not sizes.cpu else 2]
    solver = Solver(param, mode.CONTEXT)
    if not tested:
        solver.use_plans(lambda plan: free_memory(fuse(plan)))
    for net in (solver.net, *solver.test_nets):
        for layer in net.layers:
            if isinstance(layer, HDF5Data):
                fill(layer, rows or sizes.batch)
    return solver


def fill(layer, rows):
    """Make a data layer's set `rows` one-row files of random recordings and labels on the current device."""
    generator = torch.Generator(device=mode.CONTEXT.device).manual_seed(2)
    data = torch.randn((rows, *layer.inner[0]), device=mode.CONTEXT.device, generator=generator)
    labels = torch.randint(0, 2, (rows, *layer.inner[1]), device=mode.CONTEXT.device, generator=generator).float()
    layer.device_cache, layer.first, layer.paths = [data, labels], np.arange(rows + 1), layer.paths * rows
    layer.order = RowOrder(rows, layer.layer_param.hdf5_data_param.shuffle, 3)
    layer.make_slots(1)


def work(net):
    """(operations, bytes) that one training iteration of `net` needs at least.

    A convolution or inner product multiplies its inputs once forward and twice backward (once where nobody wants its
    bottom's gradient). A top is written and read forward, read again backward with its gradient written and read (tops
    in place and splits cost nothing); a parameter is read twice, its gradient written and read, its history read and
    written, itself written.
    """
    operations = moved = 0
    for node in net.nodes:
        layer, top, bottom = node.layer, node.tops, node.bottoms
        if layer.type in ("Convolution", "InnerProduct"):
            weights = layer.blobs[0]
            once = 2 * top[0].count * weights.count // weights.shape[0]
            operations += once * (3 if node.propagate_down[0] else 2)
        if bottom and node.need_backward and node.bottom_ids != node.top_ids and layer.type != "Split":
            moved += 4 * 5 * sum(t.count for t in top)
    return operations, moved + 4 * 7 * sum(p.count for p in net.learnable_params)


# -- sections ---------------------------------------------------------------------------------------------------------
SECTIONS = {}


def section(function):
    """Decorator: a section of the benchmark, called with (sizes, what) in a process of its own for each `what`."""
    SECTIONS[function.__name__] = function
    return function


def each_network(sizes):
    return [name for name, network in NETWORKS.items() if network.published]  # the paper's, written by hand too


def once(sizes):
    return [""]


@section
def tests(sizes, what):
    selection = (
        ["tests/caffe/test_graph.py", "-k", "emulator"]
        if sizes.cpu
        else ["-m", "cuda", "--continue-on-collection-errors", "tests"]
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr, flush=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    report(line=f"tests: {done.stdout.strip().splitlines()[-1]}", failed=done.returncode != 0)
    for name in failed[:20]:
        report(line=f"tests: FAILED {name}", failed=True)


def outcome(solver, steps, replayed, fused, sizes):
    """({blob values and gradients of one pass}, {weights and history after `steps` iterations}), on the CPU in float64.

    `fused`: the steps, not the pass, are done as training does them.
    """
    net = solver.net
    net.clear_param_diffs()
    net.forward_tensors()
    net.run_backward()
    blobs = {f"value of {n}": b.value for n, b in zip(net._blob_names, net._blobs, strict=True)}
    blobs.update((f"gradient of {n}", b.grad) for n, b in zip(net._blob_names, net._blobs, strict=True) if b.has_grad)
    blobs.update((f"gradient of parameter {i}", p.grad) for i, p in enumerate(net.learnable_params))
    one = {key: tensor.detach().cpu().double().clone() for key, tensor in blobs.items()}
    if fused:
        solver.use_plans(lambda plan: free_memory(fuse(plan)))
    if replayed:
        graph.accelerate(solver, sizes.kind)
        if solver.replay is None:
            raise RuntimeError("the iteration was not captured; see the log")
    solver.step(steps)
    tensors = {f"parameter {i}": p.value for i, p in enumerate(net.learnable_params)}
    tensors.update((f"history {i}", h.value) for i, h in enumerate(solver.history))
    return one, {key: tensor.cpu().double() for key, tensor in tensors.items()}


@section
def parity(sizes, name):
    def run(on_cpu, replayed):
        use(Sizes(True) if on_cpu else sizes)
        small = Sizes(True)
        small.batch = 4
        with tempfile.TemporaryDirectory() as folder:
            solver = make_solver(name, small, Path(folder), tested=True)
            solver.param.base_lr = 1e-4
            rng = np.random.default_rng(7)
            for net in (solver.net, *solver.test_nets):
                for layer in net.layers:
                    if isinstance(layer, HDF5Data):  # the same numbers on every device
                        data = rng.normal(size=tuple(layer.device_cache[0].shape)).astype(np.float32)
                        layer.device_cache[0].copy_(torch.from_numpy(data))
                        layer.device_cache[1].zero_()
            for i, blob in enumerate(solver.net.learnable_params):
                shape = tuple(blob.shape)
                scale = 1 / np.sqrt(max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
                blob.value.copy_(
                    torch.from_numpy((scale * np.random.default_rng(i).normal(size=shape)).astype(np.float32))
                )
            return outcome(solver, 5, replayed, not on_cpu, sizes)

    wanted = run(True, False)
    for replayed in (False, True):
        found = run(False, replayed)
        for what, mine, theirs, tolerance in (
            ("forward and backward", found[0], wanted[0], PASS_TOLERANCE),
            ("five steps", found[1], wanted[1], STEP_TOLERANCE),
        ):
            gaps = {
                key: float((mine[key] - value).norm() / value.norm().clamp_min(1e-30))
                for key, value in theirs.items()
                if key in mine
            }
            worst = max(gaps, key=gaps.get)
            report(
                line=f"parity {name}, {'replayed' if replayed else 'plain'}, {what}: {gaps[worst]:.1e} ({worst}; "
                f"wanted at most {tolerance:.0e})",
                failed=not gaps[worst] <= tolerance,
            )


@section
def rates(sizes, what):
    found, n = {}, sizes.matrix
    for key, kind, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=sizes.device).to(kind) for _ in range(2))
        out = torch.empty_like(a)
        found[key] = 2 * n**3 * rate(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), sizes)
    source = torch.ones(sizes.copied, device=sizes.device)
    target = torch.empty_like(source)
    found["bandwidth"] = 8 * sizes.copied * rate(lambda: target.copy_(source), sizes)
    report(
        line="device: "
        + ", ".join(f"{key} {value / 1e12:.1f} TFLOP/s" for key, value in found.items() if key != "bandwidth")
        + f", memory {found['bandwidth'] / 1e12:.2f} TB/s",
        rates=found,
    )


@section
def engine(sizes, name):
    for variant, (variables, replayed, corpus) in VARIANTS.items():
        try:
            with environment(variables), tempfile.TemporaryDirectory() as folder:
                use(sizes)
                if "any algorithm" in variant:
                    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
                if not sizes.cpu:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                solver = make_solver(name, sizes, Path(folder), sizes.rows(corpus))
                if replayed:
                    graph.accelerate(solver, sizes.kind)
                captured = solver.replay is not None
                steps = rate(lambda solver=solver: solver.step(sizes.least), sizes) * sizes.least
                memory = 0 if sizes.cpu else torch.cuda.max_memory_reserved()
                few = Sizes(sizes.cpu)
                few.least = 1
                tests = rate(lambda solver=solver: solver.test_all(), few) * solver.param.test_iter[0]
                operations, moved = work(solver.net)
                report(
                    engine=variant,
                    network=name,
                    steps=steps,
                    tests=tests,
                    memory=memory,
                    operations=operations,
                    moved=moved,
                    failed=captured != replayed,
                )
                del solver
        except Exception as error:  # the other variants are still worth their figures
            traceback.print_exc()
            report(line=f"engine {name}, {variant}: {type(error).__name__}: {first_line(error)}", failed=True)


def first_line(error):
    return (str(error).splitlines() or [""])[0]


@section
def torch_(sizes, name):
    data = torch.randn((sizes.rows("AudioMNIST"), *NETWORKS[name].input_shape), device=sizes.device)
    labels = torch.randint(0, 10, (len(data),), device=sizes.device)
    for variant, (tf32, options) in LOOPS.items():
        try:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = "best" in variant
            if not sizes.cpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            loop = Loop(name, data, labels, sizes.batch, clip=5.0 if name == "AlexNet" else None, **options)
            steps = rate(loop.step, sizes)
            report(
                torch=variant, network=name, steps=steps, memory=0 if sizes.cpu else torch.cuda.max_memory_reserved()
            )
            del loop
        except Exception as error:
            traceback.print_exc()
            report(line=f"torch {name}, {variant}: {type(error).__name__}: {first_line(error)}", failed=True)


@section
def together(sizes, name):
    """Processes prepare, wait for each other, and count their iterations for the same seconds."""
    for count in sizes.together:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "benchmarks.gpu",
                *(["--cpu"] if sizes.cpu else []),
                "--only",
                "one_of",
                f"{name}:{folder}:{count}",
            ]
            workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(count)]
            texts = [worker.communicate(timeout=sizes.timeout)[0] for worker in workers]
        print(*texts, flush=True)
        steps = [
            json.loads(line[len(RESULT) :])["one"]
            for text in texts
            for line in text.splitlines()
            if line.startswith(RESULT)
        ]
        report(together=count, network=name, steps=sum(steps), failed=len(steps) != count)


def one_of(sizes, what):
    """One of the processes of `together`."""
    name, folder, count = what.rsplit(":", 2)
    with environment(TF32), tempfile.TemporaryDirectory() as own:
        use(sizes)
        solver = make_solver(name, sizes, Path(own), sizes.rows("AudioMNIST"))
        graph.accelerate(solver, sizes.kind)
        solver.step(sizes.least)
        synchronize()
        Path(folder, str(os.getpid())).touch()
        until = time.monotonic() + sizes.timeout / 2
        while len(list(Path(folder).iterdir())) < int(count):
            if time.monotonic() > until:
                raise RuntimeError("the other processes did not become ready")
            time.sleep(0.01)
        report(one=rate(lambda: solver.step(sizes.least), sizes) * sizes.least)


@section
def parts(sizes, what):
    """Forward and backward milliseconds of AudioNet's parts, done in different ways."""
    shape = (sizes.batch, 64, 1, 4000)

    def both(function, *inputs):
        def call():
            for tensor in inputs:
                tensor.grad = None
            y = function(*inputs)
            y.backward(torch.ones_like(y))

        return 1e3 / rate(call, sizes)

    functional = torch.nn.functional
    for form in ("plain format", "channels_last"):
        x = torch.randn(shape, device=sizes.device)
        x = (x.contiguous(memory_format=torch.channels_last) if form == "channels_last" else x).requires_grad_()
        pooled = both(lambda x: functional.max_pool2d(x, (1, 2), (1, 2)), x)
        views = both(lambda x: torch.maximum(x[..., ::2], x[..., 1::2]), x)
        report(line=f"part pool 1x2, {form}: max_pool2d {pooled:.3f} ms, maximum of two views {views:.3f} ms")
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = tf32
            wave = torch.randn((sizes.batch, 1, 1, 8000), device=sizes.device)
            weight = torch.randn((100, 1, 1, 3), device=sizes.device)
            if form == "channels_last":
                weight = weight.contiguous(memory_format=torch.channels_last)
            weight.requires_grad_()
            alone = both(lambda wave, weight: functional.conv2d(wave, weight, padding=(0, 1)), wave, weight)
            whole = both(
                lambda wave, weight: functional.max_pool2d(
                    functional.conv2d(wave, weight, padding=(0, 1)).relu_(), (1, 3), (1, 2), ceil_mode=True
                ),
                wave,
                weight,
            )
            report(
                line=f"part conv1 of AudioNet, {form}, {'TF32' if tf32 else 'float32'}: convolution {alone:.3f} ms, "
                f"with ReLU and pooling {whole:.3f} ms"
            )


@section
def lrp(sizes, name):
    import caffe
    from lrp import Network

    with tempfile.TemporaryDirectory() as folder:
        texts = render(
            RunName(name, "digit", 0),
            load_splits(ROOT / "data" / "splits.json"),
            {"validate": 1, "test": 1},
            Path(folder),
        )
        deploy, weights = Path(folder, "deploy.prototxt"), Path(folder, "net.caffemodel")
        deploy.write_text(texts["deploy.prototxt"])
        mode.set_mode_cpu()
        caffe.Net(str(deploy), caffe.TEST).save(str(weights))
        network = Network(str(deploy), str(weights))
        batch = 1 if sizes.cpu else 16
        x = np.random.default_rng(0).normal(size=(batch, *NETWORKS[name].input_shape)).astype(np.float32)
        explained = rate(lambda: network.relevance(x), Sizes(True)) * batch
    report(
        line=f"lrp {name} (numpy, on the CPU): {explained:.0f} recordings a second, {6000 / explained:.0f} s for 6,000"
    )


PARTS_OF = {
    "parity": each_network,
    "engine": each_network,
    "torch_": each_network,
    "together": each_network,
    "lrp": each_network,
}


# -- all of it --------------------------------------------------------------------------------------------------------
def run_section(name, what, flags, log):
    """The results of one section's process; a failure is a result as well."""
    command = [sys.executable, "-m", "benchmarks.gpu", *(["--cpu"] if flags.cpu else []), "--only", name, what]
    log.write(f"\n=== {name} {what}\n")
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=flags.timeout,
            cwd=ROOT,
        )
        text, reason = done.stdout, f"exit status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as error:
        text, reason = (error.stdout or b"").decode(errors="replace"), f"not done after {flags.timeout} s"
    log.write(text)
    log.flush()
    results = [json.loads(line[len(RESULT) :]) for line in text.splitlines() if line.startswith(RESULT)]
    if reason:
        last = [line for line in text.splitlines() if line.strip()][-1:] or [""]
        results.append({"line": f"{name.rstrip('_')} {what}: {reason} ({last[0][:200]})", "failed": True})
    print(f"{name.rstrip('_')} {what}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return results


def machine():
    """The machine in words."""
    if not torch.cuda.is_available():
        return f"CPU, torch {torch.__version__}: tiny sizes, the figures below mean nothing"
    properties = torch.cuda.get_device_properties(0)
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, Python {sys.version.split()[0]}"
    )


def table(results):
    """The lines of the table."""
    lines = [f"machine: {machine()}", *(r["line"] for r in results if "line" in r)]
    device = next((r["rates"] for r in results if "rates" in r), None)
    needs = {r["network"]: (r["operations"], r["moved"]) for r in results if "engine" in r}
    loops = [r for r in results if "engine" in r or "torch" in r]
    if loops:
        lines.append(
            f"{'network':9} {'loop':40} {'iterations/s':>12} {'test batches/s':>14} {'peak GB':>8} {'of the floor':>12}"
        )
    for r in loops:
        kind = r.get("engine") or r["torch"]
        share = ""
        if device and r["network"] in needs:
            operations, moved = needs[r["network"]]
            best = max(operations / device[kind.split(",")[0]], moved / device["bandwidth"])
            share = f"{100 * best * r['steps']:.0f} %"
        what = ("engine: " if "engine" in r else "PyTorch: ") + kind
        tests = f"{r['tests']:.1f}" if "tests" in r else ""
        lines.append(
            f"{r['network']:9} {what:40} {r['steps']:12.1f} {tests:>14} {r['memory'] / 1e9:8.2f} {share:>12}"
            + ("  NOT CAPTURED" if r.get("failed") else "")
        )
    lines += [
        f"{r['network']}: {r['together']} runs at once: {r['steps']:.1f} iterations/s together"
        for r in results
        if "together" in r
    ]
    return lines + projection(results)


def projection(results):
    """Minutes that the paper's runs take at the measured rates (training and test passes; not reading the files)."""
    lines, whole = [], {}
    for precision in ("float32", "TF32"):
        for name, iterations in ITERATIONS.items():
            found = [r for r in results if r.get("engine") == f"{precision}, graph" and r["network"] == name]
            if not found:
                continue
            tests = (iterations / TEST_INTERVAL + 1) * TEST_BATCHES
            seconds = iterations / found[0]["steps"] + tests / found[0]["tests"]
            whole.setdefault(precision, {})[name] = seconds
            lines.append(f"projected, {precision}: {name} {iterations} iterations with tests {seconds / 60:.2f} min")
        if len(whole.get(precision, ())) == len(ITERATIONS):
            alone = RUNS_PER_NETWORK * sum(whole[precision].values())
            lines.append(
                f"projected, {precision}: the {RUNS_PER_NETWORK * len(ITERATIONS)} runs one after the other "
                f"{alone / 60:.1f} min"
            )
    gains = {}
    for r in results:
        if "together" in r:
            gains.setdefault(r["network"], {})[r["together"]] = r["steps"]
    if set(gains) == set(ITERATIONS) == set(whole.get("TF32", ())) and all(1 in g for g in gains.values()):
        best = {name: max(g, key=g.get) for name, g in gains.items()}
        seconds = sum(
            RUNS_PER_NETWORK * whole["TF32"][name] * gains[name][1] / gains[name][best[name]] for name in best
        )
        lines.append(
            "projected, TF32: the runs at best "
            + ", ".join(f"{best[n]} {n}" for n in best)
            + f" at once {seconds / 60:.1f} min (if test passes gain as iterations do)"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="on the CPU with tiny sizes: checks the script alone")
    parser.add_argument("--log", default="gpu_benchmark.log", help="the full log (default: %(default)s)")
    parser.add_argument(
        "--section",
        action="append",
        choices=[name.rstrip("_") for name in SECTIONS],
        help="only this section (may be given several times)",
    )
    parser.add_argument(
        "--timeout", type=int, default=600, help="seconds for each section's process (default: %(default)s)"
    )
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # a section's process
    flags = parser.parse_args()
    if not flags.cpu and not torch.cuda.is_available():
        print(
            "benchmarks/gpu.py: no CUDA device was found; nothing was measured (--cpu runs the script with tiny sizes)",
            file=sys.stderr,
        )
        return 1
    if flags.only:
        name, what = flags.only
        {**SECTIONS, "one_of": one_of}[name](Sizes(flags.cpu), what)
        return 0
    results, sizes = [], Sizes(flags.cpu)
    with open(flags.log, "w", encoding="utf-8") as log:
        log.write(f"{machine()}\n")
        for name in SECTIONS:
            if flags.section and name.rstrip("_") not in flags.section:
                continue
            for what in PARTS_OF.get(name, once)(sizes):
                results += run_section(name, what, flags, log)
        lines = table(results)
        failed = sum(bool(r.get("failed")) for r in results)
        lines.append(f"{failed} failed (see above and {flags.log})" if failed else "nothing failed")
        log.write("\n" + "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
