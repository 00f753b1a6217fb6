"""The command line that every experiment shares."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiomnist.arguments import number
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.study import catalogue
from audiomnist.study.outcome import Experiment, carry_out
from audiomnist.study.setting import Setting
from audiomnist.study.trained import ENGINES
from lrp import COMPOSITES


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a `Setting`, except for its device."""
    default = Setting()
    add = parser.add_argument
    add("--data", type=Path, default=default.data, metavar="DIR", help="the recordings (default: data/)")
    add("--preprocessed", type=Path, default=default.preprocessed, metavar="DIR", help="the networks' inputs")
    add("--runs", type=Path, default=default.runs, metavar="DIR", help="the trained runs (default: runs/)")
    add("--output", type=Path, default=HOME / "results", metavar="DIR", help="where results go (default: results/)")
    add("--limit", type=number, metavar="N", help="test recordings of a run, at most; 0: all")
    add("--seed", type=number, default=default.seed, help="of every random draw (default: %(default)s)")
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


def main(experiment: Experiment, arguments: list[str] | None = None) -> int:
    """The command of one experiment: makes it and prints what it found and where it lies."""
    name = catalogue.command_name(experiment.name)
    parser = argparse.ArgumentParser(prog=f"audiomnist {name}", description=experiment.title)
    add_options(parser)
    parser.add_argument("--gpu", type=number, metavar="ID", help="device of the engine (default: the CPU)")
    options = parser.parse_args(arguments)

    @door(experiment.name)
    def make(_: list[str] | None) -> None:
        folder, made = carry_out(experiment, read_setting(options, options.gpu), options.output)
        print(f"{folder}{'' if made else ' (made before from the same inputs)'}")

    return make(None)
