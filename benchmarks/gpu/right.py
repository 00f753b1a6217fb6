"""Is it right? The sections tests, convolutions and parity."""

import itertools
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu.nets import make_solver, use_quick_plans
from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.sections import PUBLISHED, rate, report, section
from caffe import convolution, graph
from caffe.context import Context, Settings

# Norms of differences as shares of norms. A gradient behind a ReLU or MAX pooling goes elsewhere where two candidates
# are equal up to rounding, and then all before it differ: whole passes say less than layers that are given the same.
LAYER = {False: 1e-5, True: 3e-3}  # of one layer, by TF32, which keeps 10 bits of what it multiplies
CONVOLUTION = {False: 3e-5, True: 3e-3}  # a gradient of weights is a sum over up to 800,000 positions
VALUES, GRADIENTS, WEIGHTS = 1e-5, 2e-2, 1e-4  # of a whole pass in float32; of weights after five steps

CUDA_TESTS = [f"tests/caffe/test_{name}.py" for name in ("cuda", "graph", "layers")]
FORMATS = {False: "plain format", True: "channels_last"}
STORED = {False: torch.Tensor.contiguous, True: convolution.channels_last}
PRECISIONS = {False: "float32", True: "TF32"}


def gap(found, wanted):
    """The norm of found - wanted as a share of that of wanted, in float64; inf where one is not finite."""
    found, wanted = (tensor.detach().cpu().double().reshape(wanted.shape) for tensor in (found, wanted))
    share = float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))
    return share if math.isfinite(share) else math.inf


def report_worst(what, gaps, tolerance):
    """One line of the largest of `gaps`, {name: gap}."""
    worst = max(gaps, key=gaps.get)
    report(
        f"{what}: {gaps[worst]:.1e} ({worst}; expected at most {tolerance:.0e})", failed=not gaps[worst] <= tolerance
    )


@section("tests", limit=400)
def tests(sizes, part):
    # the files by name: others import what a machine with a GPU may lack
    selection = ["-m", "cuda", "-n", "8", *CUDA_TESTS]
    if sizes.cpu:
        selection = ["tests/caffe/test_graph.py", "-k", "emulator"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    report(f"tests: {lines[-1] if lines else 'no output'}", failed=process.returncode != 0)
    for name in re.findall(r"^(?:FAILED|ERROR) (\S+)", "\n".join(lines), re.M):
        report(f"tests: FAILED {name}", failed=True)


@section("convolutions", PUBLISHED)
def convolutions(sizes, name):
    for tf32, channels_last in itertools.product((False, True), (False, True)):
        context = sizes.context(Settings(tf32=tf32, channels_last=channels_last))
        with tempfile.TemporaryDirectory() as folder, context.precision():
            net = make_solver(name, context, sizes.batch, sizes.batch, Path(folder), compared=True).net
            for node in net.nodes:
                if node.layer.type == "Convolution":
                    what = f"{name} {node.name}, {PRECISIONS[tf32]}, {FORMATS[channels_last]}"
                    _convolution(what, node, sizes, STORED[channels_last], CONVOLUTION[tf32])


def _convolution(what, node, sizes, stored, tolerance):
    """Report values, gradients and times of one convolution on random numbers; `stored` brings them into the format."""
    layer, down = node.layer, bool(node.propagate_down[0])
    node.to(sizes.device)
    torch.manual_seed(4)
    x, dy = (stored(torch.randn(tuple(one.shape), device=sizes.device)) for one in (node.bottoms[0], node.tops[0]))
    exact = [t.double() for t in (x, layer.weight(), layer.bias, dy)]
    wanted = {"values": torch.convolution(*exact[:3], *layer.geometry())}
    asked = [down, True, True]
    backward = torch.ops.aten.convolution_backward
    gradients = backward(exact[3], exact[0], exact[1], [len(layer.bias)], *layer.geometry(), asked)
    wanted.update(zip(("input", "weights", "bias"), gradients, strict=True))
    found = {"values": layer.result(x)}
    found.update(zip(("input", "weights", "bias"), layer.gradients(x, dy, down), strict=True))
    gaps = {key: gap(found[key], value) for key, value in wanted.items() if value is not None}
    times = [
        1e3 / rate(function, sizes.seconds / 10, sizes.calls)
        for function in (lambda: layer.result(x), lambda: layer.gradients(x, dy, down))
    ]
    report(
        f"convolution {what}: {', '.join(f'{key} {value:.1e}' for key, value in gaps.items())} (expected at most "
        f"{tolerance:.0e}); {times[0]:.3f} ms forward, {times[1]:.3f} ms backward",
        failed=not max(gaps.values()) <= tolerance,
    )


@section("parity", PUBLISHED)
def parity(sizes, name):
    for tf32 in (False, True):
        for what, gaps in layer_by_layer(name, sizes.context(Settings(tf32=tf32))).items():
            report_worst(f"parity {name}, layer by layer, {PRECISIONS[tf32]}, {what}", gaps, LAYER[tf32])
    wanted = _outcome(name, Context(settings=Settings()))
    for kind in (None, sizes.kind):
        found = _outcome(name, sizes.context(Settings()), kind, quick=True)
        for what, tolerance in (
            ("values of a pass", VALUES),
            ("gradients of a pass", GRADIENTS),
            ("weights after five steps", WEIGHTS),
            ("history after five steps", GRADIENTS),
        ):
            gaps = {key: gap(found[what][key], value) for key, value in wanted[what].items()}
            report_worst(f"parity {name}, {'replayed' if kind else 'plain'}, {what}", gaps, tolerance)


def layer_by_layer(name, context):
    """{"values" or "gradients": {name: gap}} of every layer in `context`, which starts from the CPU's own numbers.

    Bottoms, tops, their gradients and the winners of pooling are the CPU's when a layer's turn comes.
    """
    found = {"values": {}, "gradients": {}}
    with tempfile.TemporaryDirectory() as folder:
        theirs, mine = (
            make_solver(name, one, 4, 4, Path(folder), compared=True).net
            for one in (Context(settings=Settings()), context)
        )
    plans = theirs.plan, mine.plan
    pairs = list(enumerate(zip(theirs.nodes, mine.nodes, strict=True)))

    def store(tensor):
        tensor = tensor.to(context.device)
        return STORED[context.channels_last](tensor) if tensor.dim() == 4 else tensor.contiguous()

    def give(their, my, gradients=False):
        for a, b in zip(their, my, strict=True):
            b.value = store(a.value)
            if gradients and a.has_grad:
                b.grad = store(a.grad)

    for i, (their, my) in pairs:
        give(their.bottoms, my.bottoms)
        for plan in plans:
            plan.forward(i, i)
        for k, (a, b) in enumerate(zip(their.tops, my.tops, strict=True)):
            found["values"][f"{my.name}, top {k}"] = gap(b.value, a.value)
        give(their.tops, my.tops)
        if getattr(their.layer, "winner", None) is not None:
            my.layer.winner = store(their.layer.winner)
    for net in (theirs, mine):
        net.clear_param_diffs()
    for i, (their, my) in reversed(pairs):
        if not my.need_backward:
            continue
        give(their.bottoms, my.bottoms)
        give(their.tops, my.tops, gradients=True)
        for plan in plans:
            plan.backward(i, i)
        for k, asked in enumerate(my.propagate_down):
            if asked:
                found["gradients"][f"{my.name}, bottom {k}"] = gap(my.bottoms[k].grad, their.bottoms[k].grad)
        for k, (a, b) in enumerate(zip(their.layer.blobs, my.layer.blobs, strict=True)):
            found["gradients"][f"{my.name}, parameter {k}"] = gap(b.grad, a.grad)
    return found


def _outcome(name, context, kind=None, quick=False):
    """{what: {name: tensor}} of one pass, then of five steps; replayed as `kind`, `quick` as training does them."""
    with tempfile.TemporaryDirectory() as folder:
        solver = make_solver(name, context, 4, 4, Path(folder), compared=True)
        net = solver.net
        net.clear_param_diffs()
        net.forward_tensors()
        net.run_backward()
        blobs = {one.name: one.blob for one in net.named_blobs}
        found = {
            "values of a pass": {key: blob.value for key, blob in blobs.items()},
            "gradients of a pass": {key: blob.grad for key, blob in blobs.items() if blob.has_grad}
            | {f"parameter {i}": blob.grad for i, blob in enumerate(net.learnable_params)},
        }
        found = {what: {key: one.cpu().clone() for key, one in tensors.items()} for what, tensors in found.items()}
        if quick:
            use_quick_plans(solver)
        if kind is not None:
            graph.accelerate(solver, kind)
            if solver.replay is None:
                raise RuntimeError("the iteration was not captured; see the log")
        solver.step(5)
    found["weights after five steps"] = {f"parameter {i}": one.value for i, one in enumerate(net.learnable_params)}
    found["history after five steps"] = {f"history {i}": one.value for i, one in enumerate(solver.history)}
    return found
