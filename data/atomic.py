"""Files that are whole or not there: what a killed process or a full disk must not break."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

PREFIX, SUFFIX = ".", ".part"  # of a file that is being written


class WriteError(RuntimeError):
    """A file cannot be written (disk full, no permission); the message is one sentence for the user."""


def write_atomically(path: Path, content: bytes, flush: bool = True) -> None:
    """Write a file so that, whenever the process dies, `path` is whole or as it was before. Raises WriteError.

    `flush` waits until the disk has it, so that this holds for a power failure too. Without it the caller has to know
    how to tell a whole file after one.
    """
    temporary = f"{path.parent}/{PREFIX}{os.getpid()}-{threading.get_ident()}{SUFFIX}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                if flush:
                    os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise write_error(path, error) from None


def write_error(path: Path, error: OSError) -> WriteError:
    """The sentence for a failed write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror or str(error)
    return WriteError(f"{path}: cannot be written: {reason}; wanted a writable folder with free space")


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises WriteError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing anywhere below `folder`."""
    for path in folder.rglob(f"{PREFIX}*{SUFFIX}"):
        path.unlink(missing_ok=True)
