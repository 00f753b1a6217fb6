"""What tests leave behind: processes that still run, and threads that the interpreter's end would wait for."""

import os
import signal
import threading
import time
from concurrent.futures import thread as pools
from pathlib import Path

MARK = "TESTS_RUN_IN"  # in the environment of every process that a test starts, and of those that these start
GRACE = 5.0  # s that they have to end by themselves
SERVERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")  # live as long as their interpreter


def mark() -> None:
    """Mark all processes that this one starts from now on."""
    os.environ[MARK] = f"{os.getpid()}"


def processes() -> dict[int, str]:
    """Marked processes that run, {id: command}: children of this one and theirs. Empty where there is no /proc."""
    found = {}
    wanted = f"{MARK}={os.getpid()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0") or int(folder.name) == os.getpid():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # another user's, or gone
            continue
        if command and not any(server in command for server in SERVERS):  # none: a zombie
            found[int(folder.name)] = command
    return found


def threads() -> list[threading.Thread]:
    """Threads that keep the interpreter from ending; those of pools do not, they are told to end."""
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [thread for thread in others if not thread.daemon and thread not in pools._threads_queues]


def nothing_left() -> bool:
    """Whether there is nothing at two looks: a process that just becomes another program shows no environment."""
    if processes() or threads():
        return False
    time.sleep(0.01)
    return not (processes() or threads())


def end_them() -> list[str]:
    """What is still there after `GRACE` seconds, in words; the processes among it are killed."""
    end = time.monotonic() + GRACE
    while not nothing_left() and time.monotonic() < end:
        time.sleep(0.05)
    left = [f"the thread {thread.name}, which is no daemon" for thread in threads()]
    for number, command in processes().items():
        left.append(f"process {number}: {command[:200]}")
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            left.pop()
    return left
