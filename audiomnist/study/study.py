"""The whole study: inputs, every run of both networks, every experiment, and one page of results.

    audiomnist study --data data --preprocessed preprocessed_data --runs runs --output results --jobs 2

Stop it whenever you like and give the same command again: recordings that are preprocessed, runs that are tested and
experiments whose inputs have not changed are not made again, and a run that was interrupted continues from its last
snapshot. Training itself is `train_test.sh`'s, one call a run. On a cluster: `slurm.sh`.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from audiomnist.arguments import number
from audiomnist.corpus.layout import CorpusError
from audiomnist.corpus.splits import OFFICIAL_SPLITS, PARTS, SPLITS_NAME, find_splits, load_splits
from audiomnist.places import HOME
from audiomnist.runs.run_folder import ALL, RunName, SelectionError, list_name, select
from audiomnist.runs.summary import collect, table
from audiomnist.study import results_page
from audiomnist.study.catalogue import catalogue
from audiomnist.study.command import FAILURES, add_options, read_setting
from audiomnist.study.outcome import carry_out
from audiomnist.study.setting import Setting
from audiomnist.workers import available_cores

TRAIN_TEST = HOME / "train_test.sh"
STEPS = ("prepare", "train", "experiments")
DEMO_FOLDERS = {
    name: HOME / "demo" / folder
    for name, folder in (("data", "data"), ("preprocessed", "preprocessed"), ("runs", "runs"), ("output", "results"))
}
DEMO_REPETITIONS = 6  # recordings of each digit by each of the demo's speakers, as in train_test.sh
DEMO_SPLIT = "0"


class StepFailed(RuntimeError):
    """A step that ended without its result; the message is one sentence for the user."""


class Children:
    """The processes that work for this command, so that stopping it stops them."""

    def __init__(self):
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopped = False

    def call(self, command: Sequence[str], log: Path | None = None, environment: dict[str, str] | None = None) -> int:
        """Run a command to its end, its messages shown, or appended to `log`; returns its exit status."""
        with open(log if log else os.devnull, "ab") as file:
            with self.lock:
                if self.stopped:
                    return -signal.SIGINT
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file if log else None,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    cwd=HOME,
                )
                self.running.add(process)
            try:
                return process.wait()
            finally:
                with self.lock:
                    self.running.discard(process)

    def stop(self) -> None:
        """Ask all of them to end as on Ctrl-C: engines write a snapshot first."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                os.killpg(process.pid, signal.SIGINT)


@dataclass(frozen=True)
class Training:
    """How runs are trained: options of `train_test.sh`, runs at once, and the devices they take turns on.

    `devices` are numbers of GPUs, or "cpu"; empty: train_test.sh chooses.
    """

    options: tuple[str, ...]
    jobs: int
    devices: tuple[str, ...]


def say(text: str) -> None:
    print(f"study: {text}", file=sys.stderr, flush=True)


def matrix(setting: Setting, split: str = ALL) -> list[RunName]:
    """The runs of the study, in order: with AudioMNIST's splits five of digit and four of gender for each network."""
    there = (setting.preprocessed / SPLITS_NAME).exists()
    return select(find_splits(setting.preprocessed if there else setting.data), split=split)


def prepare(setting: Setting, runs: list[RunName], demo: bool, skip_invalid: bool, children: Children) -> None:
    """Make the demo's recordings, and the networks' inputs where lists of a run are missing. Raises StepFailed."""
    if demo:
        command = [
            sys.executable,
            "-m",
            "audiomnist",
            "demo-corpus",
            str(setting.data),
            "--repetitions",
            str(DEMO_REPETITIONS),
        ]
        if children.call(command):
            raise StepFailed(f"{setting.data}: the demo's recordings were not made (the reason is above)")
    if any(not (setting.preprocessed / list_name(run, part)).exists() for run in runs for part in PARTS):
        command = [
            sys.executable,
            "-m",
            "audiomnist",
            "preprocess",
            "-src",
            str(setting.data),
            "-dst",
            str(setting.preprocessed),
            "--seed",
            str(setting.seed),
        ]
        if children.call([*command, *(["--skip-invalid"] if skip_invalid else [])]):
            raise StepFailed(f"{setting.data}: preprocessing stopped (the reason is above)")


def command_of(run: RunName, setting: Setting, training: Training, device: str | None) -> list[str]:
    """The call of train_test.sh that trains and tests one run."""
    chosen = [] if device is None else ["--cpu"] if device == "cpu" else ["--gpu", device]
    folders = ["--data", str(setting.data), "--preprocessed", str(setting.preprocessed), "--runs", str(setting.runs)]
    return ["bash", str(TRAIN_TEST), *folders, *training.options, *chosen, run.network, run.task, str(run.split)]


def train(runs: list[RunName], setting: Setting, training: Training, logs: Path, children: Children) -> list[RunName]:
    """Train and test every run, some at once; returns those that failed.

    A single job shows the training's progress; several write it to `<logs>/<run>.log`.
    """
    logs.mkdir(parents=True, exist_ok=True)
    devices: queue.Queue = queue.Queue()
    for k in range(training.jobs):
        devices.put(training.devices[k % len(training.devices)] if training.devices else None)
    threads = str(max(1, available_cores() // training.jobs))
    environment = {} if training.jobs == 1 else {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    done = 0

    def one(run: RunName) -> bool:
        nonlocal done
        device = devices.get()
        log = None if training.jobs == 1 else logs / f"{run}.log"
        started = time.monotonic()
        try:
            status = children.call(command_of(run, setting, training, device), log, environment)
        finally:
            devices.put(device)
        done += 1
        what = "done" if status == 0 else f"not done (exit status {status}{f', see {log}' if log else ''})"
        say(f"run {done} of {len(runs)}, {run}: {what} after {time.monotonic() - started:.0f} s")
        return status == 0

    with ThreadPoolExecutor(training.jobs) as pool:
        try:
            outcomes = list(pool.map(one, runs))
        except KeyboardInterrupt:
            children.stop()
            raise
    return [run for run, fine in zip(runs, outcomes, strict=True) if not fine]


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
        except FAILURES as error:
            failed.append(f"{name}: {error}")
            say(f"experiment {number_} of {len(experiments)}, {failed[-1]}")
            continue
        what = f"made in {time.monotonic() - started:.0f} s" if made else "made before from the same inputs"
        say(f"experiment {number_} of {len(experiments)}, {name}: {what}")
    return failed


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(text.split(","))
    if not all(device.isdecimal() for device in devices):
        raise argparse.ArgumentTypeError(f"{text}: numbers of GPUs with commas between them were wanted")
    return devices


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="audiomnist study", description=__doc__.split("\n", 1)[0])
    add_options(parser)
    add = parser.add_argument
    add(
        "--demo",
        action="store_true",
        help="synthetic speakers, a quick solver, split 0 of each task, everything in demo/: half an hour on two cores",
    )
    add("--quick", action="store_true", help="the demo's solver and fillers on your recordings")
    add("--split", default=ALL, metavar="SPLIT", help="only this split of each task (default: %(default)s)")
    add("--max-iter", type=number, metavar="N", help="training iterations (default: the solver's)")
    add("--snapshot", type=number, metavar="N", help="iterations between snapshots (default: the solver's)")
    add("--skip-invalid", action="store_true", help="preprocess without the defective recordings")
    add("--jobs", type=number, metavar="N", help="runs at once (default: one for each device)")
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu",
        type=_devices,
        default=(),
        metavar="ID[,ID]",
        help="GPUs that the runs take turns on (default: train_test.sh chooses); the first scores too",
    )
    device.add_argument("--cpu", action="store_const", dest="gpu", const=("cpu",), help="no GPU")
    add("--tf32", action="store_true", help="let the GPU round products to TF32 (the results say so)")
    add("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="default: %(default)s")
    add("--run-number", type=number, metavar="K", help="train only run K of --list")
    add("--list", action="store_true", help="print the runs, one a line with its number, and do nothing")
    return parser


def _training(options: argparse.Namespace) -> Training:
    chosen = ["--seed", str(options.seed)]
    for name in ("max_iter", "snapshot"):
        value = getattr(options, name)
        chosen += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    chosen += ["--quick"] if options.quick or options.demo else []
    chosen += ["--tf32"] if options.tf32 else []
    return Training(tuple(chosen), options.jobs or max(1, len(options.gpu)), options.gpu)


def _setting(options: argparse.Namespace) -> Setting:
    return read_setting(options, next((int(device) for device in options.gpu if device != "cpu"), None))


def _runs(options: argparse.Namespace, setting: Setting, p: argparse.ArgumentParser) -> list[RunName]:
    """The runs that the options choose. The demo's recordings, which may not exist yet, have the official splits."""
    split = DEMO_SPLIT if options.demo and options.split == ALL else options.split
    if options.demo and not (setting.preprocessed / SPLITS_NAME).exists():
        runs = select(load_splits(OFFICIAL_SPLITS), split=split)
    else:
        runs = matrix(setting, split)
    if options.run_number is None:
        return runs
    if options.run_number >= len(runs):
        p.error(f"--run-number {options.run_number}: 0 to {len(runs) - 1} was wanted")
    return [runs[options.run_number]]


def carry_on(options: argparse.Namespace, p: argparse.ArgumentParser, children: Children) -> int:
    """Do the steps that the options name; returns the exit code."""
    setting = _setting(options)
    training = _training(options)
    runs = _runs(options, setting, p)
    output = options.output.resolve()
    failed = []
    if "prepare" in options.steps:
        prepare(setting, runs, options.demo, options.skip_invalid, children)
    if "train" in options.steps:
        failed += [f"{run}: no tested run" for run in train(runs, setting, training, output / "logs", children)]
    if "experiments" in options.steps:
        failed += experiment(setting, output)
        pages = results_page.write(output, setting)
        print(table(collect(setting.runs)))
        print("\n".join(f"results  {page}" for page in pages))
    for sentence in failed:
        say(f"not done: {sentence}")
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    if options.demo:
        for name, folder in DEMO_FOLDERS.items():
            if getattr(options, name) == p.get_default(name):
                setattr(options, name, folder)
    children = Children()

    def terminated(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)
    try:
        if options.list:
            for index, run in enumerate(_runs(options, _setting(options), p)):
                print(index, run.network, run.task, run.split)
            return 0
        return carry_on(options, p, children)
    except SelectionError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    except (StepFailed, CorpusError, *FAILURES) as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        children.stop()
        say("stopped; the same command continues")
        return 130
