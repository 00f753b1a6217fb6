"""The command line of train_test.sh."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomnist.corpus.layout import GRAMMAR
from audiomnist.corpus.splits import SPLITS_NAME
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.progress_bar import QUIET
from audiomnist.runs import summary
from audiomnist.runs.engine import Engine, interrupt_on_sigterm
from audiomnist.runs.prepare import has_recordings, make_demo_corpus, prepare_inputs
from audiomnist.runs.render import DEFAULT_SEED, Training
from audiomnist.runs.run_folder import ALL, RunError, RunName, list_name, read_list, select, splits_of
from audiomnist.runs.runner import CPU, FAILURES, Runner
from caffe_proto import UserError, sentence
from caffe_proto.atomic import make_folder

USAGE = """\
Train and test the networks of the AudioMNIST study on recordings of spoken digits.

Usage: ./train_test.sh [OPTION]... [NETWORK [TASK [SPLIT]]]
       ./train_test.sh --demo
       ./train_test.sh --paper [STUDY OPTION]...

NETWORK is AlexNet, AudioNet or all; TASK is digit, gender, another task of the recordings' splits.json, or all;
SPLIT is a number or all. Whatever is left out is all. Each run is rendered from models/, trained and tested on its
last snapshot; then one table shows the accuracies beside the paper's, and RUNS/summary.csv has them. A tested run is
not made again, an interrupted one continues from its last snapshot: after Ctrl-C, call the same command.

  --data DIR          recordings: DIR/<speaker>/<digit>_<speaker>_<repetition>.wav (default: data/)
  --preprocessed DIR  the networks' inputs, made from the recordings where missing (default: preprocessed_data/)
  --runs DIR          prototxts, snapshots, logs and the summary (default: runs/)
  --gpu ID[,ID] | --cpu  the devices that the runs take turns on (default: GPU 0 where the engine finds it, else the
                      CPU)
  --jobs N            runs at once (default: one for each device); several show no lines of progress
  --tf32              let the GPU round products to TF32: quicker, and no longer the numbers of float32; the log and
                      the results say so, and runs of both kinds never mix (as CAFFE_TF32=1)
  --max-iter N        training iterations (default: the solver's)
  --snapshot N        iterations between snapshots (default: the solver's; does not change results)
  --seed N            of initial weights, dropout and shuffling, and of the preprocessing if done now (default: 0)
  --skip-invalid      preprocess without the defective recordings instead of stopping at them
  --quick             the demo's solver, fillers and input scaling (models/*/demo_*.prototxt) in place of the paper's:
                      shows in minutes what recordings can teach, and does not reproduce the paper
  --demo              --quick on synthetic speakers, digit split 0, with pictures of relevance; everything in demo/
  --paper             the whole study: all runs of both networks, then every table and figure of the paper and a page
                      of results in results/; --paper --help lists its options (--jobs N, --gpu 0,1, --demo, ...)
  --quiet             no lines of progress, only the table, the places of files and faults (as AUDIOMNIST_QUIET=1)
  --help              this text

Examples:
  ./train_test.sh --demo
  ./train_test.sh AlexNet gender 2
  ./train_test.sh --data FOLDER --preprocessed my_inputs --runs my_runs --quick all digit
  ./train_test.sh --paper --gpu 0,1 --jobs 4

Environment: CAFFE  the engine, any command that behaves like the `caffe` tool (default: the project's own), for
                    example CAFFE="tests/bvlc.sh caffe" for the original BVLC Caffe
Exit status: 0 done, 1 something failed, 2 called wrongly, 130 interrupted.
"""

DEMO_PICTURES = 4  # test recordings that are explained for each network
WAYS_ON = """\
  1. fetch AudioMNIST, about 1 GB:        data/download.sh
  2. point at recordings you have:        ./train_test.sh --data FOLDER
  3. synthetic speakers, in some minutes: ./train_test.sh --demo"""
_FLAGS = ("--cpu", "--tf32", "--skip-invalid", "--quick", "--demo", "--quiet")
_FOLDERS = ("--data", "--preprocessed", "--runs")
_NUMBERS = {"--max-iter": 1, "--snapshot": 1, "--jobs": 1, "--seed": 0}  # the least that each accepts


class Misuse(UserError):
    """A command line that means nothing."""

    exit_status = 2

    def __init__(self, place: str, expected: str, got: str):
        super().__init__(place, expected, f"{got} (--help shows the usage)")


@dataclass(frozen=True)
class Call:
    """What a command line asks for."""

    data: Path
    preprocessed: Path
    runs: Path
    selection: tuple[str, str, str]
    training: Training
    devices: tuple[str, ...]
    jobs: int | None
    tf32: bool
    skip_invalid: bool
    demo: bool


def say(text: str) -> None:
    """Tell the user something, on stderr."""
    print(f"train_test.sh: {text}", file=sys.stderr, flush=True)


def _number(option: str, text: str, minimum: int) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < minimum:
        raise Misuse(option, f"a whole number of at least {minimum}", repr(text))
    return int(text)


def _split_up(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options with their values (of a repeated one the last), and the other words. Raises Misuse."""
    given, words, rest = {}, [], list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if not option.startswith("-"):
            words.append(option + equals + value)
        elif option in _FLAGS and not equals:
            given[option] = ""
            if option == "--cpu":
                given.pop("--gpu", None)
        elif option in (*_FOLDERS, *_NUMBERS, "--gpu"):
            given[option] = value if equals else rest.pop(0) if rest else ""
            if not given[option]:
                raise Misuse(option, "a value", "none")
            if option == "--gpu":
                given.pop("--cpu", None)
        elif option == "--paper":
            raise Misuse(option, "it first, before the options of the study", "it after others")
        elif option in ("-h", "--help"):
            given["--help"] = ""
            break
        else:
            raise Misuse("command line", "options that the usage names", option)
    return given, words


def parse(arguments: Sequence[str]) -> Call | None:
    """What the words of a command line ask for, None for help. Raises Misuse."""
    given, words = _split_up(arguments)
    numbers = {name: _number(name, given[name], least) for name, least in _NUMBERS.items() if name in given}
    gpus = tuple(given["--gpu"].split(",")) if "--gpu" in given else ()
    for gpu in gpus:
        _number("--gpu", gpu, 0)
    if "--help" in given:
        return None
    if len(words) > 3:
        raise Misuse("command line", "nothing after network, task and split", repr(words[3]))
    if "--quiet" in given:
        os.environ[QUIET] = "1"
    demo = "--demo" in given
    places = ("demo/data", "demo/preprocessed", "demo/runs") if demo else ("data", "preprocessed_data", "runs")
    folders = [Path(os.path.abspath(given.get(o, HOME / place))) for o, place in zip(_FOLDERS, places, strict=True)]
    selection = (*words, *((ALL, "digit", "0") if demo else (ALL, ALL, ALL))[len(words) :])
    training = Training(
        demo or "--quick" in given, numbers.get("--max-iter"), numbers.get("--snapshot"),
        numbers.get("--seed", DEFAULT_SEED),
    )  # fmt: skip
    devices = (CPU,) if "--cpu" in given else gpus
    return Call(
        *folders, selection, training, devices, numbers.get("--jobs"), "--tf32" in given, "--skip-invalid" in given,
        demo,
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The options by name, for what completes commands; `parse` is what reads them."""
    p = argparse.ArgumentParser(prog="./train_test.sh", description=USAGE.partition("\n")[0])
    p.add_argument("selection", nargs="*", metavar="NETWORK [TASK [SPLIT]]")
    for option in (*_FOLDERS, *_NUMBERS, "--gpu"):
        p.add_argument(option, metavar="DIR" if option in _FOLDERS else "N")
    for flag in _FLAGS:
        p.add_argument(flag, action="store_true")
    return p


def explain_examples(runner: Runner, run: RunName) -> None:
    """Draw the relevance of some test recordings of a tested run. Raises one of FAILURES."""
    from audiomnist.explain import cli

    folder, weights = runner.folder(run), runner.state(run).file
    listed = read_list(runner.preprocessed / list_name(run, "test"))
    make_folder(folder / "heatmaps")
    for k in range(DEMO_PICTURES):
        file = listed[len(listed) * (27 * k % 100) // 100]  # in steps of 27 %: other speakers and other digits
        picture = folder / "heatmaps" / f"{Path(file).stem}.png"
        options = {
            "--model": folder / "deploy.prototxt",
            "--weights": weights,
            "--input": runner.preprocessed / file,
            "--output": picture,
        }
        with contextlib.redirect_stdout(sys.stderr):
            status = cli.main([word for option, value in options.items() for word in (option, str(value))])
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise RunError(picture, "a picture", "none (the reason is above)")


def execute(call: Call) -> int:
    """Prepare, train, test, summarise and, in the demo, draw; returns the exit code."""
    if call.demo:
        make_demo_corpus(call.data)
    if not (call.preprocessed / SPLITS_NAME).is_file() and not has_recordings(call.data):
        say(sentence(call.data, f"recordings {GRAMMAR}", "none; three ways on:"))
        print(WAYS_ON, file=sys.stderr)
        return 1
    runs = select(splits_of(call.data, call.preprocessed), *call.selection)
    prepare_inputs(runs, call.data, call.preprocessed, call.training.seed, call.skip_invalid)
    runner = Runner(
        Engine.find(), call.preprocessed, call.runs, call.training, say, call.devices, call.jobs, call.tf32
    )  # fmt: skip
    make_folder(call.runs)
    failed = runner.advance_all(runs)
    tested = [run for run in runs if run not in failed]
    not_done = [str(run) for run in failed]
    if tested and summary.main([str(call.runs)]):
        not_done.append("summary")
    if call.demo:
        for run in tested:
            try:
                explain_examples(runner, run)
            except FAILURES as error:
                say(f"{run}: {error}")
                not_done.append(f"pictures of {run}")
        print(f"\nrecordings  {call.data}\ninputs      {call.preprocessed}\npictures    {call.runs}/*/heatmaps")
    print(f"runs        {call.runs}")
    if (call.runs / summary.SUMMARY).is_file():
        print(f"summary     {call.runs / summary.SUMMARY}")
    if not_done:
        say(f"not done: {' '.join(not_done)}")
    return 1 if not_done else 0


@door("train_test.sh", "the same command continues")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 something failed, 2 called wrongly, 130 interrupted."""
    call = parse(sys.argv[1:] if arguments is None else arguments)
    if call is None:
        print(USAGE, end="")
        return 0
    interrupt_on_sigterm()
    return execute(call)
