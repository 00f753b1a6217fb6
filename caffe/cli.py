"""The `caffe` command line: train, test, time, device_query, export (docs/engine.md section 5).

Flags are written as gflags takes them: -name=value, --name=value or -name value. All output is glog lines on stderr.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from caffe import glog, training
from caffe.context import Context, read_environment
from caffe.errors import CaffeError, check
from caffe.fusion import fuse
from caffe.net import Net
from caffe.parallel import train_on
from caffe.plan import Step, free_memory
from caffe.version import __version__
from caffe_proto import UserError, caffe_pb2, net_state, read_net, read_solver

FATAL_STATUS = 134  # what a shell sees of BVLC Caffe's abort
INTERRUPTED_STATUS = 130  # what a shell sees of BVLC Caffe's end by Ctrl-C before training or outside it
ACTIONS = {}
COMMANDS = {  # name -> (what it does, examples)
    "train": (
        "train or finetune a model",
        (
            "caffe train -solver=solver.prototxt",
            "caffe train -solver=solver.prototxt -snapshot=snapshots/X_iter_500.solverstate",
            "caffe train -solver=solver.prototxt -weights=X.caffemodel -gpu=0",
        ),
    ),
    "test": (
        "score a model",
        (
            "caffe test -model=test.prototxt -weights=X.caffemodel -iterations=60",
            "caffe test -model=test.prototxt -weights=snapshots/X_iter_500.caffemodel.h5 -gpu=0",
        ),
    ),
    "device_query": ("show GPU diagnostic information", ("caffe device_query -gpu=0", "caffe device_query -gpu=all")),
    "time": (
        "benchmark model execution time",
        (
            "caffe time -model=train.prototxt -phase=TRAIN -iterations=10",
            "caffe time -model=deploy.prototxt -phase=TEST -gpu=0",
        ),
    ),
    "export": (
        "write a model as ONNX, as a program of torch.export, or as a torch module",
        (
            "caffe export -model=deploy.prototxt -weights=X.caffemodel -output=X.onnx",
            "caffe export -model=deploy.prototxt -weights=X.caffemodel -output=X.py",
        ),
    ),
}
USAGE = "command line brew\nusage: caffe <command> <args>\n\ncommands:\n" + "\n".join(
    f"  {name:15} {what}" for name, (what, _) in COMMANDS.items()
)
EFFECTS = ("snapshot", "stop", "none")
LEAVE = ("allow", "refuse")


@dataclass(frozen=True)
class Flag:
    """A flag of the command line: its default, what it means, and the commands that read it."""

    name: str
    default: str | int
    text: str
    commands: tuple[str, ...]
    metavar: str = "FILE"
    choices: tuple[str, ...] | None = None


FLAGS = (
    Flag("gpu", "", "GPU ids separated by commas, or all; without it: CPU",
         ("train", "test", "device_query", "time"), "IDS"),
    Flag("solver", "", "the solver definition", ("train",)),
    Flag("model", "", "the model definition", ("test", "time", "export")),
    Flag("phase", "", "network phase, TRAIN or TEST", ("time",), "PHASE"),
    Flag("level", 0, "network level", ("train", "test", "time", "export"), "N"),
    Flag("stage", "", "network stages separated by commas", ("train", "test", "time", "export"), "NAMES"),
    Flag("snapshot", "", "the solver state to resume from", ("train",)),
    Flag("weights", "", "weights to finetune from (separated by commas), to score or to export",
         ("train", "test", "export")),
    Flag("output", "", "what is written: X.onnx, X.pt2 (torch.export), or X.py with its weights, X.pt", ("export",)),
    Flag("iterations", 50, "number of iterations", ("test", "time"), "N"),
    Flag("sigint_effect", "stop", "on SIGINT: snapshot, stop or none", ("train",), "ACTION", EFFECTS),
    Flag("sighup_effect", "snapshot", "on SIGHUP: snapshot, stop or none", ("train",), "ACTION", EFFECTS),
    Flag("python_layers", "", "allow or refuse layers that run Python modules, the code of whoever wrote the prototxt "
         "(default: as CAFFE_PYTHON_LAYERS says, else refuse)", ("train", "test", "time"), "LEAVE", LEAVE),
)  # fmt: skip


def action(
    function: Callable[[argparse.Namespace, Context], int],
) -> Callable[[argparse.Namespace, Context], int]:
    """Decorator: make a function a command of its name without the trailing underscore.

    It gets the parsed flags and the context to compute in, which is on the CPU, and returns the exit status.
    """
    ACTIONS[function.__name__.rstrip("_")] = function
    return function


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"ERROR: {message}", file=sys.stderr)
        sys.exit(1)


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all flags, as the original takes them with every command; its help shows those that `command`
    reads, or, without one, all of them with the commands that do."""
    what, examples = COMMANDS.get(command, ("", [own[0] for _, own in COMMANDS.values()]))
    more = [] if what else ["\ncaffe <command> --help describes one."]
    parser = _Parser(
        prog="caffe",
        usage=f"caffe {command} [flags]\n\n{what}" if what else USAGE,
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples), *more]),
        add_help=False,
        allow_abbrev=False,
        prefix_chars="-",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    for flag in FLAGS:
        text = flag.text if what or len(flag.commands) == len(COMMANDS) else f"{', '.join(flag.commands)}: {flag.text}"
        parser.add_argument(
            f"-{flag.name}",
            f"--{flag.name}",
            default=flag.default,
            type=type(flag.default),
            choices=flag.choices,
            metavar=flag.metavar,
            help=argparse.SUPPRESS
            if what and command not in flag.commands
            else text + (f" (default: {flag.default})" if flag.default != "" else ""),
        )
    parser.add_argument("-version", "--version", action="store_true", help="show the version and stop")
    parser.add_argument("-help", "--help", action="store_true", help="show the flags and stop")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 misused or an error in a Python layer, 134 fatal)."""
    parser = make_parser()
    flags = parser.parse_args(argv)
    if flags.version:
        print(f"caffe version {__version__}")
        return 0
    if flags.help:
        make_parser(flags.command[0] if len(flags.command) == 1 else None).print_help()
        return 1
    if len(flags.command) != 1:
        parser.print_help(sys.stderr)
        return 0
    command = ACTIONS.get(flags.command[0])
    try:
        if command is None:
            glog.error("Available caffe actions:")
            for name in sorted(ACTIONS):
                glog.error(f"\t{name}")
            raise CaffeError(f"Unknown action: {flags.command[0]}")
        if flags.python_layers:  # by way of the environment, which the processes of several GPUs read as well
            os.environ["CAFFE_PYTHON_LAYERS"] = str(int(flags.python_layers == "allow"))
        context = Context(settings=read_environment())
        keep_memory()
        return command(flags, context)
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
    net = Net(net_state(read_net(flags.model), caffe_pb2.TEST, level(flags.level), stages(flags.stage)), context)
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
            for (_, _, into), (_, _, values) in zip(means, scores, strict=True):
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
    net = Net(net_state(read_net(flags.model), phase, level(flags.level), stages(flags.stage)), context)
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
    net = Net(net_state(read_net(flags.model), caffe_pb2.TEST, level(flags.level), stages(flags.stage)), context)
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
