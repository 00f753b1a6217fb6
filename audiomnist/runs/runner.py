"""The runner: every run trained and tested by the engine, some at once, each on a device of its own.

A tested run is skipped and an interrupted one continues from its last snapshot, so the same call again goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from audiomnist.progress_bar import quiet
from audiomnist.runs.engine import Engine, Processes, Stopped
from audiomnist.runs.render import State, Training, open_run
from audiomnist.runs.run_folder import TEST_LOG, TRAIN_LOG, RunError, RunName, locked, state_to_end
from audiomnist.workers import available_cores
from caffe_proto import UserError

CPU = "cpu"
FAILURES = (UserError, OSError)
_CLEAR_LINE = "\r\x1b[K"  # of the terminal
_SIGNAL_DELAY = 0.2  # seconds that a signal may wait at most


class Runner:
    """Makes runs, all from the same inputs with the same settings, in `runs`/<name of the run>.

    `devices` are numbers of GPUs, or (CPU,), on which the runs take turns; empty: GPU 0 where the engine finds it, else
    the CPU. `jobs` is the number of runs at once, by default one for each device. `tf32` lets GPUs round products to
    TF32, which the record of a run says. `say` gets sentences for the user.
    """

    def __init__(
        self,
        engine: Engine,
        preprocessed: Path,
        runs: Path,
        training: Training,
        say: Callable[[str], None],
        devices: Sequence[str] = (),
        jobs: int | None = None,
        tf32: bool = False,
    ):
        self.preprocessed, self.runs, self.training, self.say = preprocessed, runs, training, say
        self.quiet = quiet()
        self.devices = tuple(devices) or (("0",) if engine.has_gpu(preprocessed) else (CPU,))
        self.jobs = jobs or len(self.devices)
        self.processes = Processes()
        self.line_start = ""
        environment = dict(engine.environment)
        if tf32:
            environment["CAFFE_TF32"] = "1"
        if self.jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // self.jobs)))
        elif not self.quiet and "CAFFE_PROGRESS" not in environment and (terminal := _terminal()):
            environment["CAFFE_PROGRESS"] = terminal  # the log goes through a pipe; other lines clear the one drawn
            self.line_start = _CLEAR_LINE
        rounds = environment.get("CAFFE_TF32") == "1" and self.devices != (CPU,)
        self.record = engine.name + " (TF32)" * rounds
        self.engine = dataclasses.replace(engine, environment=environment)
        names = ", ".join("CPU" if device == CPU else f"GPU {device}" for device in self.devices)
        self.tell(f"engine: {engine.name}, {names}")

    def tell(self, text: str) -> None:
        """Say how far it is, unless that is not wanted."""
        if not self.quiet:
            self.say(text)

    def folder(self, run: RunName) -> Path:
        """Where the run lies."""
        return self.runs / str(run)

    def state(self, run: RunName) -> State:
        """How far the run is; its folder is made where it is missing. Raises what `open_run` raises."""
        return open_run(run, self.preprocessed, self.folder(run), self.record, self.training)

    def advance(self, run: RunName, device: str) -> None:
        """Do what is still to do of one run. Raises one of FAILURES, or Stopped after a signal."""
        folder = self.folder(run)
        with locked(folder) as lock:
            state = self.state(run)
            if state.step == "tested":
                self.tell(f"{run}: tested before")
                return
            if state.step == "trained" and (last := state_to_end(folder, state.file)):
                state = dataclasses.replace(state, step="started", file=last)
            if state.step != "trained":
                self._train(run, state, device, lock)
                state = self.state(run)
                if state.step not in ("trained", "tested"):
                    got = f"an earlier one, or none (see {folder / TRAIN_LOG})"
                    raise RunError("training", "a snapshot of the last iteration", got)
            self.tell(f"{run}: testing {state.file.name}")
            partial = folder / f"{TEST_LOG}.partial"
            partial.unlink(missing_ok=True)
            iterations = f"-iterations={state.test_iterations}"
            arguments = ["test", f"-model={folder / 'test.prototxt'}", f"-weights={state.file}", iterations]
            self._call("testing", arguments, partial, device, lock)
            partial.replace(folder / TEST_LOG)

    def _train(self, run: RunName, state: State, device: str, lock: int) -> None:
        folder = self.folder(run)
        arguments = ["train", f"-solver={folder / 'solver.prototxt'}"]
        if state.file:
            arguments.append(f"-snapshot={state.file}")
            self.tell(f"{run}: training continues from {state.file.name}")
        else:
            self.tell(f"{run}: training")
        self._call("training", arguments, folder / TRAIN_LOG, device, lock)

    def _call(self, what: str, arguments: list[str], log: Path, device: str, lock: int) -> None:
        arguments = arguments if device == CPU else [*arguments, "-gpu", device]
        try:
            self.engine.run(arguments, self.preprocessed, log, self.processes, self._show, lock)
        except RunError as error:
            raise RunError.at(what, error) from None

    def _show(self, line: str) -> None:
        """Show a line of progress, unless those of several runs would mix: a run's logs have them all."""
        if self.jobs == 1 and not self.quiet:
            with contextlib.suppress(OSError):  # nobody reads it any more
                print(self.line_start + line, file=sys.stderr, flush=True)

    def advance_all(
        self, runs: Sequence[RunName], ended: Callable[[RunName, bool, float], None] = lambda *_: None
    ) -> list[RunName]:
        """Advance every run to its end; returns those that failed, each after a sentence that says why.

        `ended(run, fine, seconds)` is called after each. After a signal that ends this process, it raises
        KeyboardInterrupt once the engines have ended.
        """
        devices: queue.Queue[str] = queue.Queue()
        for k in range(self.jobs):
            devices.put(self.devices[k % len(self.devices)])
        one_at_a_time = threading.Lock()

        def one(run: RunName) -> bool:
            device, started, fine = devices.get(), time.monotonic(), True
            try:
                self.advance(run, device)
            except Stopped:
                return False
            except FAILURES as error:
                self.say(f"{run}: {error}")
                fine = False
            finally:
                devices.put(device)
            with one_at_a_time:
                ended(run, fine, time.monotonic() - started)
            return fine

        # engines belong to threads of their own, so that this one is free for signals
        with self.processes.forward_signals(), ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(one, run) for run in runs]
            # a signal that another thread receives, or that comes just before a wait begins, is handled after the wait
            while not all(future.done() for future in futures):
                wait(futures, timeout=_SIGNAL_DELAY)
            outcomes = [future.result() for future in futures]
        if self.processes.stopped:
            raise KeyboardInterrupt
        return [run for run, fine in zip(runs, outcomes, strict=True) if not fine]


def _terminal() -> str | None:
    """The terminal that stderr is, as a file to draw on; an engine has no /dev/tty, being a session of its own."""
    try:
        name = os.ttyname(sys.stderr.fileno())
        with open(name, "w"):
            return name
    except (OSError, ValueError):
        return None
