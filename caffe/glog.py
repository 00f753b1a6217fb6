"""Caffe's log: lines in glog format on stderr, which other tools parse.

`Lmmdd hh:mm:ss.uuuuuu tid file:line] message` with L one of I W E F. GLOG_minloglevel (0..3) is the least severity
that is written.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
from collections.abc import Callable
from typing import SupportsFloat

from caffe_proto.errors import printable

SEVERITIES = "IWEF"


class _Log:
    def __init__(self):
        self.minimum = _minimum_from_environment()
        self.before_line = None


def _minimum_from_environment():
    text = os.environ.get("GLOG_minloglevel", "0")  # noqa: SIM112 (glog spells it so)
    return int(text) if text.isascii() and text.isdigit() else 0


_log = _Log()


def set_minimum(level: int) -> None:
    """Write only lines of at least this severity: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL."""
    _log.minimum = int(level)


def set_line_hook(hook: Callable[[], object] | None) -> None:
    """Call `hook()` before every written line (a progress line clears itself there); None removes it."""
    _log.before_line = hook


def _write(severity, message, depth):
    if severity < _log.minimum:
        return
    frame = sys._getframe(depth)
    now = datetime.datetime.now()
    prefix = (
        f"{SEVERITIES[severity]}{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d} "
        f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}] "
    )
    if _log.before_line:
        _log.before_line()
    sys.stderr.write(prefix + printable(message) + "\n")
    sys.stderr.flush()


def info(message: str, above: int = 0) -> None:
    """Write an INFO line of the caller's place, or of the place so many calls above."""
    _write(0, message, 2 + above)


def warning(message: str) -> None:
    """Write a WARNING line."""
    _write(1, message, 2)


def error(message: str) -> None:
    """Write an ERROR line."""
    _write(2, message, 2)


def fatal(message: str) -> None:
    """Write a FATAL line (the caller decides how to stop)."""
    _write(3, message, 2)


def g(number: SupportsFloat) -> str:
    """A number as C's %g prints it: `0.5`, `1e-05`, `nan`."""
    return f"{float(number):g}"
