"""What the command lines share: parsers whose help ends with examples, and `type=` functions for numbers.

Of a number argparse says where it stands; the functions say what was expected.
"""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Callable

from caffe_proto import sentence

EXAMPLES = "examples:"
WIDTH = 94  # characters of a line of an example


class _Help(argparse.HelpFormatter):
    """Wraps descriptions, and leaves the lines of examples alone: they are to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(EXAMPLES) else super()._fill_text(text, width, indent)


def command_parser(program: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """A command's parser; its help ends with the examples, whole command lines each, long ones continued by \\."""
    lines = (textwrap.wrap(one, WIDTH, break_long_words=False, break_on_hyphens=False) for one in examples)
    epilog = "\n  ".join([EXAMPLES, *(" \\\n      ".join(own) for own in lines)])
    return argparse.ArgumentParser(prog=program, description=description, epilog=epilog, formatter_class=_Help)


DIGITS = r"[0-9]{1,18}"  # 18: int64 holds every such number


def whole_number(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """What reads a whole number, written in digits alone, of at least `least` and at most `most`."""
    expected = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")

    def read(text: str) -> int:
        if not re.fullmatch(DIGITS, text) or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(sentence("", expected, repr(text)))
        return int(text)

    return read


def real_number(least: float, most: float) -> Callable[[str], float]:
    """What reads a number from `least` to `most`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:  # NaN is nowhere between
            raise argparse.ArgumentTypeError(sentence("", f"a number from {least:g} to {most:g}", repr(text)))
        return number

    return read


number = whole_number(0)
positive = whole_number(1)
