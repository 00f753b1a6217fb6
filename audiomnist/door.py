"""The door of every command: what a user can mend becomes one line on stderr and an exit status."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

from caffe_proto import UserError
from caffe_proto.errors import printable

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
Main = Callable[[list[str] | None], int | None]


def door(program: str, stopped: str | Callable[[], str] = "nothing was left half-written") -> Callable[[Main], Main]:
    """Decorator of a command's `main(arguments)`: returns its exit status, DONE where it returns None.

    A UserError, an OSError, a lack of memory and a dead worker process are one line each, which begins with `program`;
    `stopped` is what is said after an interrupt, or a function that returns it.
    """

    def say(sentence: object) -> None:
        print(f"{program}: {printable(str(sentence))}", file=sys.stderr, flush=True)

    def wrap(main: Main) -> Main:
        @functools.wraps(main)
        def opened(arguments: list[str] | None = None) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):  # a name or a sign that the terminal's encoding lacks
                sys.stdout.reconfigure(errors="backslashreplace")
            try:
                return main(arguments) or DONE
            except UserError as error:
                say(error)
                return error.exit_status
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                say(f"{where}{error.strerror or error}")
            except MemoryError:
                say("memory: expected enough for this input, got too little")
            except BrokenProcessPool:
                say("workers: expected every process to live, got a dead one (more memory or fewer --jobs)")
            except KeyboardInterrupt:
                say(f"stopped; {stopped() if callable(stopped) else stopped}")
                return INTERRUPTED
            return FAILED

        return opened

    return wrap
