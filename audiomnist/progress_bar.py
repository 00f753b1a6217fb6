"""Bars of progress, and the wish for none."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

QUIET = "AUDIOMNIST_QUIET"  # of the environment, so that commands that are started by commands know
INTERVAL = 10  # seconds between the states of a bar that goes into a file


def quiet() -> bool:
    """Whether a command leaves out what only tells how far it is."""
    return os.environ.get(QUIET, "0") not in ("", "0")


def progress_bar(iterable: Iterable | None = None, *, unit: str, shown: bool = True, **options) -> tqdm:
    """tqdm's bar on stderr, hidden if not `shown` or `quiet()`; into a file it writes a state every `INTERVAL` s."""
    from tqdm import tqdm  # here: help and other short answers do without

    interval = 0.1 if sys.stderr.isatty() else INTERVAL
    hidden = quiet() or not shown
    return tqdm(iterable, unit=unit, disable=hidden, mininterval=interval, file=sys.stderr, **options)


class _Hide(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        namespace.quiet = True
        os.environ[QUIET] = "1"


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Give a command `--quiet`."""
    text = f"no bars and no lines of progress, only results and faults (as {QUIET}=1)"
    parser.add_argument("--quiet", action=_Hide, nargs=0, default=False, help=text)
