"""How quick is it? The sections rates, engine, torch, parts, together and lrp."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from audiomnist.runs.networks import NETWORKS
from benchmarks.gpu.nets import TEST_BATCHES, make_solver, prototxts, use_quick_plans, work
from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.sections import PUBLISHED, RESULT, peak_memory, rate, report, reset_peak_memory, section
from benchmarks.handwritten import Loop
from caffe import graph
from caffe.context import Context, Settings

TF32 = Settings(tf32=True)
VARIANTS = {  # of the engine: (settings, replayed)
    "float32, plain": (Settings(), False),
    "float32, graph": (Settings(), True),
    "float32, graph, channels_last": (Settings(channels_last=True), True),
    "TF32, plain": (TF32, False),
    "TF32, graph": (TF32, True),
    "TF32, graph, plain format": (Settings(tf32=True, channels_last=False), True),
    "TF32, graph, any algorithm": (TF32, True),  # cuDNN chooses by trial, results vary in the last bits
}
LOOPS = {  # of the hand-written one: (TF32, options)
    "float32, eager": (False, {}),
    "float32, graph": (False, {"tuned": True}),
    "float32, compiled": (False, {"tuned": True, "compiled": True}),
    "TF32, eager": (True, {}),
    "TF32, graph": (True, {"tuned": True}),
    "TF32, compiled": (True, {"tuned": True, "compiled": True}),
    "bf16, compiled": (True, {"tuned": True, "compiled": True, "half": True}),
}
AT_ONCE = (1, 2)  # without NVIDIA's MPS several processes take turns on a card


@section("rates")
def rates(sizes, part):
    found, n = {}, sizes.matrix
    for key, kind, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
        a, b = (torch.randn(n, n, device=sizes.device).to(kind) for _ in range(2))
        product = functools.partial(torch.mm, a, b, out=torch.empty_like(a))
        found[key] = 2 * n**3 * rate(product, sizes.seconds, sizes.calls)
    source = torch.ones(sizes.copied, device=sizes.device)
    target = torch.empty_like(source)
    found["bandwidth"] = 8 * sizes.copied * rate(lambda: target.copy_(source), sizes.seconds, sizes.calls)
    speeds = [f"{key} {value / 1e12:.1f} TFLOP/s" for key, value in found.items() if key != "bandwidth"]
    report(f"device: {', '.join(speeds)}, memory {found['bandwidth'] / 1e12:.2f} TB/s", rates=found)


def each(variants):
    """The parts of a section of two networks in these variants."""
    return [f"{name}: {variant}" for name in PUBLISHED for variant in variants]


@section("engine", each(VARIANTS))
def engine(sizes, part):
    name, variant = part.split(": ")
    settings, replayed = VARIANTS[variant]
    context = sizes.context(settings)
    if "any algorithm" in variant:
        context.precision = functools.partial(_any_algorithm, context.precision)
    with tempfile.TemporaryDirectory() as folder:
        tests = 2 if sizes.cpu else TEST_BATCHES
        solver = make_solver(name, context, sizes.batch, sizes.rows, Path(folder), tests=tests)
        use_quick_plans(solver)
        if replayed:
            graph.accelerate(solver, sizes.kind)
        reset_peak_memory(sizes)
        steps = sizes.calls * rate(lambda: solver.step(sizes.calls), sizes.seconds)
        memory = peak_memory(sizes)
        tested = tests * rate(solver.test_all, sizes.seconds)
    captured = solver.replay is not None
    operations, moved = work(solver.net)
    report(
        f"engine {part}: {steps:.1f} iterations/s, {tested:.1f} test batches/s, peak {memory / 1e9:.2f} GB"
        + ("" if captured == replayed else "; NOT CAPTURED"),
        failed=captured != replayed,
        loop=f"engine: {variant}",
        network=name,
        steps=steps,
        tests=tested,
        memory=memory,
        operations=operations,
        moved=moved,
    )


@contextlib.contextmanager
def _any_algorithm(precision):
    """Context.precision, but that cuDNN may use whatever it finds to be quickest."""
    with precision():
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        yield


@section("torch", each(LOOPS))
def hand_written(sizes, part):
    name, variant = part.split(": ")
    tf32, options = LOOPS[variant]
    # by the older names, which the compiler reads
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = "eager" not in variant
    data = torch.randn((sizes.rows, *NETWORKS[name].input_shape), device=sizes.device)
    labels = torch.randint(0, 10, (len(data),), device=sizes.device)
    loop = Loop(name, data, labels, sizes.batch, clip=5.0 if name == "AlexNet" else None, **options)
    reset_peak_memory(sizes)
    steps, memory = rate(loop.step, sizes.seconds, sizes.calls), peak_memory(sizes)
    report(
        f"PyTorch {part}: {steps:.1f} iterations/s, peak {memory / 1e9:.2f} GB",
        loop=f"PyTorch: {variant}",
        network=name,
        steps=steps,
        memory=memory,
    )


@section("parts")
def parts(sizes, part):
    """Forward and backward milliseconds of AudioNet's parts, done in different ways."""
    shape = (sizes.batch, 64, 1, 4000)

    def both(function, *inputs):
        def call():
            for tensor in inputs:
                tensor.grad = None
            y = function(*inputs)
            y.backward(torch.ones_like(y))

        return 1e3 / rate(call, sizes.seconds, sizes.calls)

    for form in ("plain format", "channels_last"):
        x = torch.randn(shape, device=sizes.device)
        x = (x.contiguous(memory_format=torch.channels_last) if form == "channels_last" else x).requires_grad_()
        pooled = both(lambda x: functional.max_pool2d(x, (1, 2), (1, 2)), x)
        views = both(lambda x: torch.maximum(x[..., ::2], x[..., 1::2]), x)
        report(f"part pool 1x2, {form}: max_pool2d {pooled:.3f} ms, maximum of two views {views:.3f} ms")
        for tf32 in (False, True):
            torch.backends.cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"
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
                f"part conv1 of AudioNet, {form}, {'TF32' if tf32 else 'float32'}: convolution {alone:.3f} ms, "
                f"with ReLU and pooling {whole:.3f} ms"
            )


@section("together", PUBLISHED)
def together(sizes, name):
    """Processes prepare, wait for each other, and count their iterations for the same seconds."""
    for count in AT_ONCE:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.gpu", *(["--cpu"] if sizes.cpu else [])]
            command += ["--only", "one of", f"{name}:{folder}:{count}"]
            workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(count)]
            lines = [line for worker in workers for line in worker.communicate()[0].splitlines()]
        steps = [json.loads(line[len(RESULT) :])["steps"] for line in lines if line.startswith(RESULT)]
        report(
            f"{name}: {count} at once: {sum(steps):.1f} iterations/s together",
            failed=len(steps) != count,
            together=count,
            network=name,
            steps=sum(steps),
        )


def one_of(sizes, part):
    """One of the processes of `together`."""
    name, folder, count = part.rsplit(":", 2)
    with tempfile.TemporaryDirectory() as own:
        solver = make_solver(name, sizes.context(TF32), sizes.batch, sizes.rows, Path(own))
        use_quick_plans(solver)
        graph.accelerate(solver, sizes.kind)
        solver.step(sizes.calls)
        Path(folder, str(os.getpid())).touch()
        while len(list(Path(folder).iterdir())) < int(count):
            time.sleep(0.01)
        report("one of them", steps=sizes.calls * rate(lambda: solver.step(sizes.calls), sizes.seconds))


@section("lrp", PUBLISHED)
def lrp(sizes, name):
    from caffe.net import Net
    from caffe_proto import caffe_pb2, net_state, read_net
    from lrp import Network

    with tempfile.TemporaryDirectory() as folder:
        deploy, weights = Path(folder, "deploy.prototxt"), Path(folder, "net.caffemodel")
        deploy.write_text(prototxts(name, 1, Path(folder))["deploy.prototxt"])
        Net(net_state(read_net(str(deploy)), caffe_pb2.TEST), Context(settings=Settings())).save(str(weights))
        network = Network(str(deploy), str(weights))
        batch = 1 if sizes.cpu else 16
        x = np.random.default_rng(0).normal(size=(batch, *NETWORKS[name].input_shape)).astype(np.float32)
        explained = rate(lambda: network.relevance(x), sizes.seconds) * batch
    report(f"lrp {name} (numpy, on the CPU): {explained:.0f} recordings a second, {6000 / explained:.0f} s for 6,000")
