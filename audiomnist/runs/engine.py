"""An engine: any command that behaves like the `caffe` tool, run in the folder of the networks' inputs.

Every engine is a session of its own. Ctrl-C in a terminal therefore reaches this process alone, which passes it on
once, waits until the engine has written its snapshot, and keeps what the engine says meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audiomnist.runs.run_folder import RunError
from caffe_proto.atomic import write_error

OWN = "python -m caffe"  # as run.json names the project's engine
# `python -m caffe`, but nothing is imported from the folder it works in, which is one of data (PYTHONSAFEPATH does
# that from Python 3.11 on; see environment.sh)
_MODULE = """import sys; sys.path[:] = filter(None, sys.path); import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)"""
_PACKAGES = Path(__file__).resolve().parents[2]  # the folder that holds audiomnist and caffe
_PROGRESS = re.compile(r"Iteration|net output|Snapshotting|\] (accuracy|loss) = ")
_FATAL = re.compile(r"F\d{4} ")
_TAIL = 5  # last lines of the log, which are shown of an engine that failed without a fatal one


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, as Ctrl-C does. Without effect outside the main thread."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


class Stopped(Exception):
    """The engine was told to stop, or was not started because all were told to."""


class Processes:
    """The engines that are running, so that a signal to this process reaches each of them exactly once."""

    def __init__(self):
        self.stopped = False
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.RLock()  # held by the threads that start engines, and by the handlers of signals

    @contextlib.contextmanager
    def start(self, command: Sequence[str], **options) -> Iterator[subprocess.Popen]:
        """Context manager: the process of `command` (see subprocess.Popen), which it waits for at the end.

        Raises Stopped after `stop`, and RunError where the command is no program.
        """
        with self._lock:
            if self.stopped:
                raise Stopped
            try:
                process = subprocess.Popen(command, start_new_session=True, **options)
            except OSError as error:
                raise RunError("", "a Caffe command that starts", f"{command[0]} ({error.strerror})") from None
            self._running.add(process)
        try:
            with process:
                yield process
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """Ask every engine to end as on Ctrl-C, with a snapshot; none is started any more."""
        with self._lock:
            self.stopped = True
            self.send(signal.SIGINT)

    def send(self, number: int) -> None:
        """Send a signal to every engine and to the processes that it started."""
        with self._lock:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.killpg(process.pid, number)

    @contextlib.contextmanager
    def forward_signals(self) -> Iterator[None]:
        """Context manager: what ends or pauses this process does so to the engines, unless it is ignored here (nohup).

        After Ctrl-C, SIGTERM or SIGHUP this process outlives the engines: it is for the block to end soon once
        `stopped` is set. Ctrl-Z pauses all of them, and Ctrl-\\ ends them at once.
        """

        def stop(*_: object) -> None:
            self.stop()

        def pause(*_: object) -> None:
            self.send(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            self.send(signal.SIGCONT)

        def quit_at_once(number: int, _: object) -> None:
            self.send(signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
        handlers |= {signal.SIGTSTP: pause, signal.SIGQUIT: quit_at_once}
        before = {}
        if threading.current_thread() is threading.main_thread():  # no other thread may set them
            before = {number: signal.getsignal(number) for number in handlers}
            before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
            for number in before:
                signal.signal(number, handlers[number])
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class Engine:
    """A Caffe command: program and first arguments, its name in records, and its environment variables."""

    command: tuple[str, ...]
    name: str
    environment: Mapping[str, str]

    @classmethod
    def find(cls) -> Engine:
        """The engine that the environment variable CAFFE names, else the project's own. Raises RunError.

        CAFFE is split into words as a shell would (quotes protect spaces); a relative program path begins here.
        """
        caffe = os.environ.get("CAFFE")
        if not caffe:
            before = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
            path = os.pathsep.join([str(_PACKAGES), *before])
            own = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
            return cls((sys.executable, "-c", _MODULE, "caffe"), OWN, own)
        try:
            program, *rest = shlex.split(caffe)
        except ValueError:
            raise RunError(f"CAFFE={caffe}", "a command line", "an open quotation") from None
        path = shutil.which(os.path.abspath(program) if "/" in program else program)  # it runs in another folder
        if path is None:
            raise RunError(f"CAFFE={caffe}", "a Caffe command", f"{program}, which is no program")
        return cls((os.path.abspath(path), *rest), caffe, dict(os.environ))

    def has_gpu(self, folder: Path) -> bool:
        """Does the engine find GPU 0? An engine without GPU support has none, whatever the machine has."""
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        command = [*self.command, "device_query", "-gpu", "0"]
        try:
            return subprocess.run(command, cwd=folder, env=self.environment, **silent).returncode == 0
        except OSError:
            return False

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        log: Path,
        processes: Processes,
        show: Callable[[str], None],
        lock: int,
    ) -> None:
        """Run one command of the engine in `folder`; its output is appended to `log`, line by line.

        `show` gets every line of progress as it is written. The engine holds the file descriptor `lock` too, so that
        a run's folder stays locked as long as anybody writes into it. Raises RunError, with the end of the log,
        where it fails, Stopped where it was stopped, and WriteError where the log cannot be written.
        """
        try:
            file = open(log, "ab", buffering=0)  # noqa: SIM115 (closed below)
        except OSError as error:
            raise write_error(log, error) from None
        pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        options = {"cwd": folder, "env": self.environment, "pass_fds": [lock], **pipe}
        with file, processes.start([*self.command, *arguments], **options) as process:
            tail, failure = self._follow(process, file, show)
        status = process.returncode
        if processes.stopped:
            raise Stopped
        if failure:
            raise write_error(log, failure)
        if status:
            status = status if status > 0 else 128 - status  # as a shell counts signals
            raise RunError("", "exit status 0", "\n  ".join([f"{status}; the end of {log}:", *tail]))

    @staticmethod
    def _follow(
        process: subprocess.Popen, file: BinaryIO, show: Callable[[str], None]
    ) -> tuple[list[str], OSError | None]:
        """Read an engine's output to its end; returns its fatal or last lines, and why the log could not be written."""
        fatal, last, failure = None, deque(maxlen=_TAIL), None
        for line in process.stdout:
            if failure is None:
                try:
                    file.write(line)
                except OSError as error:
                    failure = error
                    process.send_signal(signal.SIGINT)  # a training whose log is lost ends with a snapshot
            text = line.decode(errors="replace").rstrip("\n")
            last.append(text)
            if _FATAL.match(text):
                fatal = text
            if _PROGRESS.search(text):
                show(re.sub(r"^[^]]*\] *", "  ", text))
        return [fatal] if fatal else list(last), failure
