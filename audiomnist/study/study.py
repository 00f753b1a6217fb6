"""The whole study: inputs, every run of both networks, every experiment, and one page of results.

    audiomnist study --data data --preprocessed preprocessed_data --runs runs --output results --jobs 2

Stop it whenever you like and give the same command again: recordings that are preprocessed, runs that are tested and
experiments whose inputs have not changed are not made again, and a run that was interrupted continues from its last
snapshot. The same runner as `train_test.sh`'s trains. On a cluster: `slurm.sh`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from audiomnist.arguments import command_parser, number, positive
from audiomnist.corpus.splits import OFFICIAL_SPLITS, SPLITS_NAME, find_splits, load_splits
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.runs.engine import Engine, interrupt_on_sigterm
from audiomnist.runs.prepare import make_demo_corpus, prepare_inputs
from audiomnist.runs.render import Training
from audiomnist.runs.run_folder import ALL, RunName, select, splits_of
from audiomnist.runs.runner import CPU, Runner
from audiomnist.runs.summary import collect, table
from audiomnist.study import results_page
from audiomnist.study.catalogue import catalogue
from audiomnist.study.command import add_options, read_setting
from audiomnist.study.outcome import carry_out
from audiomnist.study.setting import Setting
from caffe_proto import UserError, sentence

STEPS = ("prepare", "train", "experiments")
DEMO_FOLDERS = {
    name: HOME / "demo" / folder
    for name, folder in (("data", "data"), ("preprocessed", "preprocessed"), ("runs", "runs"), ("output", "results"))
}
DEMO_SPLIT = "0"


def say(text: str) -> None:
    print(f"study: {text}", file=sys.stderr, flush=True)


def prepare(setting: Setting, runs: list[RunName], demo: bool, skip_invalid: bool) -> None:
    """Make the demo's recordings, and the networks' inputs where lists of a run are missing. Raises RunError."""
    if demo:
        make_demo_corpus(setting.data)
    prepare_inputs(runs, setting.data, setting.preprocessed, setting.seed, skip_invalid)


def train(runs: list[RunName], setting: Setting, options: argparse.Namespace) -> list[RunName]:
    """Train and test every run, some at once; returns those that failed. Raises RunError and KeyboardInterrupt."""
    training = Training(options.quick or options.demo, options.max_iter, options.snapshot, options.seed)
    runner = Runner(
        Engine.find(), setting.preprocessed, setting.runs, training, say, options.gpu, options.jobs, options.tf32
    )  # fmt: skip
    done = 0

    def ended(run: RunName, fine: bool, seconds: float) -> None:
        nonlocal done
        done += 1
        say(f"run {done} of {len(runs)}, {run}: {'done' if fine else 'not done'} after {seconds:.0f} s")

    return runner.advance_all(runs, ended)


def experiment(setting: Setting, output: Path) -> list[str]:
    """Make every experiment whose inputs have changed, then the page; returns a sentence for each that failed."""
    failed, tasks, experiments = [], find_splits(setting.preprocessed).tasks, catalogue()
    for number_, (name, one) in enumerate(experiments.items(), 1):
        started = time.monotonic()
        if one.task is not None and one.task not in tasks:
            say(f"experiment {number_} of {len(experiments)}, {name}: left out, the splits have no task {one.task}")
            continue
        try:
            _, made = carry_out(one, setting, output)
        except (UserError, OSError) as error:
            failed.append(f"{name}: {error}")
            say(f"experiment {number_} of {len(experiments)}, {failed[-1]}")
            continue
        what = f"made in {time.monotonic() - started:.0f} s" if made else "made before from the same inputs"
        say(f"experiment {number_} of {len(experiments)}, {name}: {what}")
    return failed


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(text.split(","))
    if not all(device.isdecimal() for device in devices):
        raise argparse.ArgumentTypeError(sentence("", "numbers of GPUs with commas between them", repr(text)))
    return devices


def parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "audiomnist study",
        __doc__.split("\n", 1)[0],
        "audiomnist study --demo --cpu",
        "audiomnist study --data data --preprocessed preprocessed_data --runs runs --gpu 0,1 --jobs 4",
        "audiomnist study --steps experiments --limit 100",
    )
    add_options(parser)
    training = parser.add_argument_group("runs")
    add = training.add_argument
    add(
        "--demo",
        action="store_true",
        help="synthetic speakers, a quick solver, split 0 of each task, everything in demo/: half an hour on two cores",
    )
    add("--quick", action="store_true", help="the demo's solver and fillers on your recordings")
    add("--split", default=ALL, metavar="SPLIT", help="only this split of each task (default: %(default)s)")
    add("--max-iter", type=positive, metavar="N", help="training iterations (default: the solver's)")
    add("--snapshot", type=positive, metavar="N", help="iterations between snapshots (default: the solver's)")
    add("--skip-invalid", action="store_true", help="preprocess without the defective recordings")
    add("--jobs", type=positive, metavar="N", help="runs at once (default: one for each device)")
    device = training.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu",
        type=_devices,
        default=(),
        metavar="ID[,ID]",
        help="GPUs that the runs take turns on (default: GPU 0 where the engine finds it); the first scores too",
    )
    device.add_argument("--cpu", action="store_const", dest="gpu", const=(CPU,), help="no GPU")
    add("--tf32", action="store_true", help="let the GPU round products to TF32 (the results say so)")
    add = parser.add_argument_group("what is done").add_argument
    add(
        "--steps",
        nargs="+",
        choices=STEPS,
        default=list(STEPS),
        metavar="STEP",
        help=f"of {', '.join(STEPS)} (default: all)",
    )
    add("--run-number", type=number, metavar="K", help="train only run K of --list")
    add("--list", action="store_true", help="print the runs, one a line with its number, and do nothing")
    return parser


def _setting(options: argparse.Namespace) -> Setting:
    return read_setting(options, next((int(device) for device in options.gpu if device != CPU), None))


def _runs(options: argparse.Namespace, setting: Setting, p: argparse.ArgumentParser) -> list[RunName]:
    """The runs that the options choose. The demo's recordings, which may not exist yet, have the official splits."""
    split = DEMO_SPLIT if options.demo and options.split == ALL else options.split
    if options.demo and not (setting.preprocessed / SPLITS_NAME).exists():
        runs = select(load_splits(OFFICIAL_SPLITS), split=split)
    else:
        runs = select(splits_of(setting.data, setting.preprocessed), split=split)
    if options.run_number is None:
        return runs
    if options.run_number >= len(runs):
        p.error(sentence("--run-number", f"0 to {len(runs) - 1}", options.run_number))
    return [runs[options.run_number]]


def carry_on(options: argparse.Namespace, p: argparse.ArgumentParser) -> int:
    """Do the steps that the options name; returns the exit code."""
    setting = _setting(options)
    runs = _runs(options, setting, p)
    output = options.output.resolve()
    failed = []
    if "prepare" in options.steps:
        prepare(setting, runs, options.demo, options.skip_invalid)
    if "train" in options.steps:
        failed += [f"{run}: no tested run" for run in train(runs, setting, options)]
    if "experiments" in options.steps:
        failed += experiment(setting, output)
        pages = results_page.write(output, setting)
        print(table(collect(setting.runs)))
        print("\n".join(f"results  {page}" for page in pages))
    for failure in failed:
        say(f"not done: {failure}")
    return 1 if failed else 0


@door("study", "the same command continues")
def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    if options.demo:
        for name, folder in DEMO_FOLDERS.items():
            if getattr(options, name) == p.get_default(name):
                setattr(options, name, folder)
    interrupt_on_sigterm()
    if options.list:
        for index, run in enumerate(_runs(options, _setting(options), p)):
            print(index, run.network, run.task, run.split)
        return 0
    return carry_on(options, p)
