"""The command line that every experiment shares."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiomnist.arguments import command_parser, number
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.progress_bar import add_quiet
from audiomnist.study import catalogue
from audiomnist.study.outcome import Experiment, carry_out
from audiomnist.study.setting import Setting
from audiomnist.study.trained import ENGINES
from lrp import COMPOSITES


def add_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options that make a `Setting`, except for its device; returns the group of those of experiments."""
    default = Setting()
    add = parser.add_argument_group("folders").add_argument
    add("--data", type=Path, default=default.data, metavar="DIR", help="recordings (default: data/)")
    add(
        "--preprocessed",
        type=Path,
        default=default.preprocessed,
        metavar="DIR",
        help="the networks' inputs (default: preprocessed_data/)",
    )
    add("--runs", type=Path, default=default.runs, metavar="DIR", help="trained runs (default: runs/)")
    add("--output", type=Path, default=HOME / "results", metavar="DIR", help="results (default: results/)")
    group = parser.add_argument_group("experiments")
    add = group.add_argument
    limit = "test recordings of a run, at most; 0: all (default: each experiment's own number)"
    add("--limit", type=number, metavar="N", help=limit)
    add("--seed", type=number, default=default.seed, metavar="N", help="of every random draw (default: %(default)s)")
    add(
        "--composite",
        nargs="+",
        choices=COMPOSITES,
        default=list(default.composites),
        metavar="NAME",
        help=f"of {', '.join(COMPOSITES)} (default: {' '.join(default.composites)})",
    )
    add("--engine", choices=ENGINES, default=default.engine, help="computes class scores (default: %(default)s)")
    add("--keep-relevance", action="store_true", help="write the relevance behind the pictures as HDF5 too")
    add_quiet(parser)
    return group


def read_setting(options: argparse.Namespace, gpu: int | None) -> Setting:
    """The `Setting` that the options mean, for an engine on the device `gpu` (None: the CPU)."""
    return Setting(
        data=options.data.resolve(),
        preprocessed=options.preprocessed.resolve(),
        runs=options.runs.resolve(),
        limit=options.limit,
        seed=options.seed,
        composites=tuple(dict.fromkeys(options.composite)),
        engine=options.engine,
        gpu=gpu,
        keep_relevance=options.keep_relevance,
    )


def parser(experiment: Experiment) -> argparse.ArgumentParser:
    """The options of one experiment."""
    program = f"audiomnist {catalogue.command_name(experiment.name)}"
    demo = " ".join(f"--{name} demo/{name}" for name in ("data", "preprocessed", "runs"))
    examples = (f"{program} {demo} --output demo/results", f"{program} --limit 100 --composite epsilon_plus --gpu 0")
    p = command_parser(program, f"{experiment.title}.", *examples)
    add_options(p).add_argument("--gpu", type=number, metavar="ID", help="device of the engine (default: the CPU)")
    return p


def main(experiment: Experiment, arguments: list[str] | None = None) -> int:
    """The command of one experiment: makes it and prints what it found and where it lies."""
    options = parser(experiment).parse_args(arguments)

    @door(experiment.name)
    def make(_: list[str] | None) -> None:
        folder, made = carry_out(experiment, read_setting(options, options.gpu), options.output)
        print(f"{folder}{'' if made else ' (made before from the same inputs)'}")

    return make(None)
