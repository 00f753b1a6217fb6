"""Processes that have a time limit, which holds for all that they start as well."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def end_in_order():
    """Let SIGTERM end this process as an error does: what run() has started must not stay."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run(command, seconds, each):
    """Run `command`, handing each line of its output to each(line) as it comes; returns why it failed, or None.

    It leads a process group of its own, which is killed after `seconds`, and when the command has ended.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        start_new_session=True,
    )
    late = threading.Event()

    def stop():
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        for line in process.stdout:
            each(line)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its number stays taken until the group is killed
    finally:
        timer.cancel()
        timer.join()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    if late.is_set():
        return f"not done after {seconds:.0f} s"
    return f"exit status {process.returncode}" if process.returncode else None
