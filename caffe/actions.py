"""What the commands of `caffe` do: train, test, time, device_query, export (docs/engine.md section 5)."""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import time
from collections.abc import Callable

import torch

from caffe import glog, training
from caffe.cli import FATAL_STATUS, INTERRUPTED_STATUS
from caffe.context import Context, read_environment
from caffe.errors import CaffeError, check
from caffe.fusion import fuse
from caffe.net import Net
from caffe.parallel import train_on
from caffe.plan import Step, free_memory
from caffe_proto import UserError, caffe_pb2, net_state, read_net, read_solver

ACTIONS = {}


def action(
    function: Callable[[argparse.Namespace, Context], int],
) -> Callable[[argparse.Namespace, Context], int]:
    """Decorator: make a function a command of its name without the trailing underscore.

    It gets the parsed flags and the context to compute in, which is on the CPU, and returns the exit status.
    """
    ACTIONS[function.__name__.rstrip("_")] = function
    return function


def run(name: str, flags: argparse.Namespace) -> int:
    """Do what command `name` asks for; returns its exit status, or that of an error, which the log says."""

    def work() -> int:
        command = ACTIONS.get(name)
        if command is None:
            glog.error("Available caffe actions:")
            for known in sorted(ACTIONS):
                glog.error(f"\t{known}")
            raise CaffeError(f"Unknown action: {name}")
        context = Context(settings=read_environment())
        keep_memory()
        return command(flags, context)

    return ended(work)


def ended(work: Callable[[], int]) -> int:
    """What work() returns, an exit status, or that of what users can mend, which becomes a line of the log."""
    try:
        return work()
    except UserError as error:
        glog.fatal(str(error))
        return FATAL_STATUS
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        glog.fatal(f"not enough memory: {error}")
        return FATAL_STATUS
    except KeyboardInterrupt:
        glog.error("Interrupted.")
        return INTERRUPTED_STATUS


def is_lack_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is short, on the host (for which torch has no kind of error) or on a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: giving it back and faulting it in again is most of AudioNet's time.

    mallopt M_MMAP_THRESHOLD (-3) and M_TRIM_THRESHOLD (-1) at their largest; other C libraries are left alone.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**31 - 1)
        libc.mallopt(-1, 2**31 - 1)
    except (OSError, AttributeError):
        return


# -- devices ---------------------------------------------------------------------------------------------------------
def gpu_ids(text: str) -> list[int]:
    """The GPU ids that flag -gpu names."""
    if text == "all":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        check(count, "-gpu", "a usable CUDA device", "none; use CPU mode (no -gpu)")
        return list(range(count))
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise CaffeError("-gpu", "ids such as 0,1 or 'all'", f"'{text}'") from None


def stages(text: str) -> list[str]:
    """The stages that flag -stage names."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CaffeError("-stage", "names in UTF-8", ascii(text)) from None
    return text.split(",") if text else []


def level(number: int) -> int:
    """The level that flag -level names, an int32 of a NetState."""
    check(-(2**31) <= number < 2**31, "-level", "a number of 32 bits", number)
    return number


def _read_net(flags, phase, context):
    """The net of -model in a phase, with the state that -level and -stage say."""
    return Net(net_state(read_net(flags.model), phase, level(flags.level), stages(flags.stage)), context)


# -- train -----------------------------------------------------------------------------------------------------------
@action
def train(flags: argparse.Namespace, context: Context) -> int:
    """Train or finetune a model."""
    check(flags.solver, "Need a solver definition to train.")
    check(
        not (flags.snapshot and flags.weights),
        "Give a snapshot to resume training or weights to finetune but not both.",
    )
    param = read_solver(flags.solver)
    param.train_state.level = level(flags.level)
    param.train_state.stage.extend(stages(flags.stage))
    gpus = gpu_ids(flags.gpu)
    if not flags.gpu and param.HasField("solver_mode") and param.solver_mode == param.GPU:
        gpus = [param.device_id]
    if gpus:
        glog.info("Using GPUs " + ", ".join(map(str, gpus)))
        for gpu in gpus:
            context.select_gpu(gpu)
            glog.info(f"GPU {gpu}: {torch.cuda.get_device_name(gpu)}")
        context.select_gpu(gpus[0])
        context.use_gpu()
    else:
        glog.info("Use CPU.")
        context.use_cpu()
    if flags.snapshot:
        del param.weights[:]
    elif flags.weights:
        del param.weights[:]
        param.weights.append(flags.weights)
    if len(gpus) > 1:
        train_on(param, [f"cuda:{gpu}" for gpu in gpus], flags.snapshot, flags.sigint_effect, flags.sighup_effect)
    else:
        training.train(param, context, training.SignalAction(flags.sigint_effect, flags.sighup_effect), flags.snapshot)
    glog.info("Optimization Done.")
    return 0


# -- test ------------------------------------------------------------------------------------------------------------
@action
def test(flags: argparse.Namespace, context: Context) -> int:
    """Score a model."""
    check(flags.model, "Need a model definition to score.")
    check(flags.weights, "Need model weights to score.")
    check(flags.iterations > 0, "-iterations", "a positive number", flags.iterations)
    _use_first_gpu(flags, context)
    net = _read_net(flags, caffe_pb2.TEST, context)
    net.copy_from(flags.weights)
    batch = 0

    def check_numbers(name, values):
        for value in values:
            check(
                math.isfinite(value),
                f"{flags.weights}: batch {batch}: {name}",
                "finite numbers",
                f"{glog.g(value)} (look at weights and data)",
            )

    def check_scores(node):  # Accuracy makes ordinary numbers of NaN, which are no measure of anything
        def run():
            scores = node.bottoms[0].value
            check_numbers(f"layer '{node.name}' is given scores", scores[~scores.isfinite()].tolist())

        return Step("check", f"that the scores that {node.name} reads are finite", run)

    plan = net.plan if net.debug_info else fuse(net.plan)
    readers = {i: node for i, node in enumerate(net.nodes) if node.layer.reads_labels}
    plan = plan.with_steps({i: (*plan.forward_steps[i], check_scores(node)) for i, node in readers.items()})
    plan = plan if net.debug_info else free_memory(plan)
    glog.info(f"Running for {flags.iterations} iterations.")
    total, means = 0.0, None
    for batch in range(flags.iterations):
        loss = float(plan.forward())
        total += loss
        scores = net.output_scores()
        for name, _, values in scores:
            for value in values:
                glog.info(f"Batch {batch}, {name} = {glog.g(value)}")
        for name, values in (*((f"output {name}", values) for name, _, values in scores), ("the loss", [loss])):
            check_numbers(name, values)
        if means is None:
            means = [(name, weight, values.copy()) for name, weight, values in scores]
        else:
            for (name, _, into), (_, _, values) in zip(means, scores, strict=True):
                check(len(into) == len(values), f"output {name}", f"{len(into)} numbers, as in batch 0", len(values))
                into += values
    loss = total / flags.iterations
    glog.info(f"Loss: {glog.g(loss)}")
    for name, weight, values in means:
        for value in values / flags.iterations:
            suffix = f" (* {glog.g(weight)} = {glog.g(weight * value)} loss)" if weight else ""
            glog.info(f"{name} = {glog.g(value)}{suffix}")
    return 0


def _use_first_gpu(flags, context):
    gpus = gpu_ids(flags.gpu)
    if gpus:
        glog.info(f"Use GPU with device ID {gpus[0]}")
        context.select_gpu(gpus[0])
        context.use_gpu()
        glog.info(f"GPU device name: {torch.cuda.get_device_name(gpus[0])}")
    else:
        glog.info("Use CPU.")
        context.use_cpu()


# -- time ------------------------------------------------------------------------------------------------------------
def _now(context):
    if context.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@action
def time_(flags: argparse.Namespace, context: Context) -> int:
    """Benchmark a model, layer by layer."""
    check(flags.model, "Need a model definition to time.")
    check(flags.phase in ("", "TRAIN", "TEST"), 'phase must be "TRAIN" or "TEST"')
    check(flags.iterations > 0, "-iterations", "a positive number", flags.iterations)
    phase = caffe_pb2.TEST if flags.phase == "TEST" else caffe_pb2.TRAIN
    _use_first_gpu(flags, context)
    net = _read_net(flags, phase, context)
    plan = net.plan if net.debug_info else fuse(net.plan)
    if phase == caffe_pb2.TRAIN and not net.debug_info:
        plan = free_memory(plan)  # as when training: freed memory is used again while it is at hand
    glog.info("Performing Forward")
    glog.info(f"Initial loss: {glog.g(plan.forward())}")
    glog.info("Performing Backward")
    plan.run_backward()
    glog.info("*** Benchmark begins ***")
    glog.info(f"Testing for {flags.iterations} iterations.")
    count = len(net.layers)
    forward, backward = [0.0] * count, [0.0] * count
    forward_total = backward_total = 0.0
    begin = _now(context)
    for j in range(flags.iterations):
        net.clear_param_diffs()
        started = _now(context)
        for i in range(count):
            before = _now(context)
            plan.forward(i, i)
            forward[i] += _now(context) - before
        forward_total += _now(context) - started
        middle = _now(context)
        for i in reversed(range(count)):
            before = _now(context)
            plan.backward(i, i)
            backward[i] += _now(context) - before
        backward_total += _now(context) - middle
        glog.info(f"Iteration: {j + 1} forward-backward time: {glog.g(1000 * (_now(context) - started))} ms.")
    mean = 1000.0 / flags.iterations
    glog.info("Average time per layer: ")
    for i, name in enumerate(net._layer_names):
        glog.info(f"{name:>10}\tforward: {glog.g(mean * forward[i])} ms.")
        glog.info(f"{name:>10}\tbackward: {glog.g(mean * backward[i])} ms.")
    total = 1000.0 * (_now(context) - begin)
    glog.info(f"Average Forward pass: {glog.g(mean * forward_total)} ms.")
    glog.info(f"Average Backward pass: {glog.g(mean * backward_total)} ms.")
    glog.info(f"Average Forward-Backward: {glog.g(total / flags.iterations)} ms.")
    glog.info(f"Total Time: {glog.g(total)} ms.")
    glog.info("*** Benchmark ends ***")
    return 0


# -- export ----------------------------------------------------------------------------------------------------------
@action
def export(flags: argparse.Namespace, context: Context) -> int:
    """Write a model in another form, once it has computed what the engine does."""
    from caffe.export import export_net

    check(flags.model, "Need a model definition to export.")
    check(flags.weights, "Need model weights to export.")
    check(flags.output, "Need an output file to export to.")
    net = _read_net(flags, caffe_pb2.TEST, context)
    net.copy_from(flags.weights)
    worst = export_net(net, flags.output, f"{os.path.basename(flags.model)} with {os.path.basename(flags.weights)}")
    glog.info(f"Exported to {flags.output}: outputs within {glog.g(worst)} of the engine's largest values.")
    return 0


# -- device_query ----------------------------------------------------------------------------------------------------
# (label, CUdevice_attribute number) in Caffe's order; text entries are filled from torch
QUERY = (
    ("Total shared memory per block:", 8),
    ("Total registers per block:", 12),
    ("Warp size:", 10),
    ("Maximum memory pitch:", 11),
    ("Maximum threads per block:", 1),
    ("Maximum dimension of block:", (2, 3, 4)),
    ("Maximum dimension of grid:", (5, 6, 7)),
    ("Clock rate:", 13),
    ("Total constant memory:", 9),
    ("Texture alignment:", 14),
    ("Concurrent copy and execution:", 15),
    ("Number of multiprocessors:", 16),
    ("Kernel execution timeout:", 17),
)
YES_NO = (15, 17)


@action
def device_query(flags: argparse.Namespace, context: Context) -> int:
    """Show GPU diagnostic information."""
    glog.info(f"Querying GPUs {flags.gpu}")
    for index in gpu_ids(flags.gpu):
        context.select_gpu(index)
        properties = torch.cuda.get_device_properties(index)
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CaffeError("device_query", "the CUDA driver library", error) from None
        _line("Device id:", index)
        _line("Major revision number:", properties.major)
        _line("Minor revision number:", properties.minor)
        _line("Name:", properties.name)
        _line("Total global memory:", properties.total_memory)
        for label, attribute in QUERY:
            if isinstance(attribute, tuple):
                _line(label, ", ".join(str(_attribute(driver, a, index)) for a in attribute))
            else:
                value = _attribute(driver, attribute, index)
                _line(label, ("Yes" if value else "No") if attribute in YES_NO else value)
    return 0


def _line(label, value):
    glog.info(f"{label:<31}{value}")


def _attribute(driver, attribute, index):
    value = ctypes.c_int()
    status = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
    check(status == 0, f"device_query: GPU {index}", f"attribute {attribute} from the driver", f"status {status}")
    return value.value
