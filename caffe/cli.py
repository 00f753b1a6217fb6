"""The `caffe` command line: its flags, their help, and who does what they ask for (docs/engine.md section 5).

Flags are written as gflags takes them: -name=value, --name=value or -name value. All output is glog lines on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from caffe import glog
from caffe.version import __version__

FATAL_STATUS = 134  # what a shell sees of BVLC Caffe's abort
INTERRUPTED_STATUS = 130  # what a shell sees of BVLC Caffe's end by Ctrl-C before training or outside it
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


class Parser(argparse.ArgumentParser):
    """A parser of flags that ends misuse as the original does: a line and status 1."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the flags, and end."""
        print(f"ERROR: {message}", file=sys.stderr)
        sys.exit(1)


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all flags, as the original takes them with every command; its help shows those that `command`
    reads, or, without one, all of them with the commands that do."""
    what, examples = COMMANDS.get(command, ("", [own[0] for _, own in COMMANDS.values()]))
    more = [] if what else ["\ncaffe <command> --help describes one."]
    parser = Parser(
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
    if flags.python_layers:  # by way of the environment, which the processes of several GPUs read as well
        os.environ["CAFFE_PYTHON_LAYERS"] = str(int(flags.python_layers == "allow"))
    try:
        from caffe.actions import run  # brings torch, which help and usage need not wait for
    except KeyboardInterrupt:
        glog.error("Interrupted.")
        return INTERRUPTED_STATUS
    return run(flags.command[0], flags)
