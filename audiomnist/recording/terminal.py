"""The session in a terminal, for machines without a screen: the same course, keys and texts as in the window."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TextIO

from audiomnist.recording.prompter import BACKSPACE, ENTER, ESCAPE, Prompter, View

TICK = 0.02  # s
KEYS = {"\r": ENTER, "\n": ENTER, "\x1b": ESCAPE, "\x7f": BACKSPACE, "\b": BACKSPACE, "\x03": ESCAPE, "\x04": ESCAPE}
BAR = 30  # characters
GREEN, PLAIN, CLEAR_LINE = "\x1b[1;32m", "\x1b[0m", "\r\x1b[K"


def run_terminal(prompter: Prompter, source: TextIO | None = None, out: TextIO | None = None) -> None:
    """Run a session until it ends. Keys are read from `source` (standard input), pictures are written to `out`.

    Standard input may be a pipe; where it ends while the session needs a key, the session stops.
    """
    source, out = source or sys.stdin, out or sys.stdout
    painter = Painter(out)
    painter.draw(prompter.view)
    with _raw(source), contextlib.suppress(KeyboardInterrupt):
        keyboard = _Keyboard(source)
        while prompter.outcome is None:
            keys = keyboard.pressed()
            for key in keys or [None]:
                painter.draw(prompter.send(key))
                if prompter.outcome is not None:
                    break
            if keys == [] and painter.waits and keyboard.ended:
                break
    prompter.outcome = prompter.outcome or "stopped"
    print(file=out)


class Painter:
    """Writes a view as lines; the line that changes all the time is written over."""

    def __init__(self, out: TextIO):
        self.out, self.block, self.line = out, None, None
        self.waits = True  # whether the view on the screen waits for a key
        self.terminal = out.isatty()
        self.colour = self.terminal and not os.environ.get("NO_COLOR")  # as no-color.org has it

    def draw(self, view: View) -> None:
        self.waits = view.pause is None and view.stage != "series" and not (view.stage == "test" and view.progress)
        block = (view.heading, view.text, view.keys, view.notice)
        if block != self.block:
            self.block = block
            texts = [view.heading, view.text, view.notice and f"! {view.notice}", view.keys and f"[{view.keys}]"]
            wrapped = [self._wrap(line) for text in texts if text for line in text.split("\n")]
            print("\n" + "\n".join(wrapped), file=self.out, flush=True)
            self.line = None
        line = self._status(view)
        if line != self.line:
            self.line = line
            start = CLEAR_LINE if self.terminal else "\r"
            print(start + line, end="", file=self.out, flush=True)

    def _wrap(self, text: str) -> str:
        return textwrap.fill(text, max(20, shutil.get_terminal_size().columns - 1))

    def _status(self, view: View) -> str:
        parts = []
        if view.digits:
            before, after = (GREEN, PLAIN) if self.colour else ("", "")
            parts.append(" ".join(
                f"{before}>{digit}<{after}" if place == view.active else f" {digit} "
                for place, digit in enumerate(view.digits)
            ))  # fmt: skip
        if view.pause is not None:
            parts.append(_bar(view.pause, 10))
        if view.level is not None:
            parts.append(_bar(1 + view.level / 60, BAR) + f" {max(view.level, -99):4.0f} dB")
        if view.progress_text:
            parts.append(view.progress_text)
        if view.entry is not None:
            parts.append("> " + view.entry)
        return "   ".join(parts)


def _bar(filled: float, width: int) -> str:
    count = round(min(max(filled, 0.0), 1.0) * width)
    return "[" + "#" * count + "." * (width - count) + "]"


@contextlib.contextmanager
def _raw(source: TextIO) -> Iterator[None]:
    """Keys as they are pressed, without echo; afterwards as before, whatever happens."""
    try:
        import termios
        import tty

        before = termios.tcgetattr(source.fileno())
    except Exception:  # no terminal, no termios (Windows), or no file at all
        yield
        return
    try:
        tty.setcbreak(source.fileno(), termios.TCSADRAIN)  # what was typed ahead counts
        yield
    finally:
        termios.tcsetattr(source.fileno(), termios.TCSADRAIN, before)


class _Keyboard:
    """The keys that come from a terminal or a pipe. `ended`: none will come any more."""

    def __init__(self, source: TextIO):
        self.handle, self.rest, self.ended = source.fileno(), b"", False

    def pressed(self) -> list[str]:
        """The keys since the last time, about fifty times a second."""
        if not select.select([] if self.ended else [self.handle], [], [], TICK)[0]:
            return []
        read = os.read(self.handle, 1024)
        self.ended = not read
        read = self.rest + read
        try:
            text, self.rest = read.decode(), b""
        except UnicodeDecodeError as error:  # half a character
            text, self.rest = read[: error.start].decode(), read[error.start :]
        if len(text) > 1 and text[0] == "\x1b":
            text = ""  # an arrow or function key, not ESC
        return [KEYS.get(character, character) for character in text]
