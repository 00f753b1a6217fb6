"""Which digits a speaker says, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

DIGITS = 10
SERIES_LENGTH = 10  # digits shown one after the other
MAX_REPETITIONS = 10_000  # of each digit; a day has time for 8,640

Prompt = tuple[int, int]  # digit, repetition


def shuffled_prompts(repetitions: int, seed: int) -> list[Prompt]:
    """Every (digit, repetition), `repetitions` of each digit, in one random order that the seed decides.

    As in the authors' recorder the whole session is shuffled, not each series: a series may hold a digit twice, and
    nobody can foresee its last digits. More repetitions with the same seed give another order.
    """
    prompts = [(digit, repetition) for repetition in range(repetitions) for digit in range(DIGITS)]
    random.Random(f"prompts {seed} {repetitions}").shuffle(prompts)
    return prompts


def missing_prompts(prompts: Sequence[Prompt], taken: Iterable[Prompt], rejected: Iterable[Prompt]) -> list[Prompt]:
    """What is still to be said: the prompts that are not taken, rejected ones at the end.

    `rejected` is in the order of the rejections; a prompt that was rejected twice stands where its last one puts it.
    """
    taken = set(taken)
    last = {prompt: position for position, prompt in enumerate(rejected)}
    return sorted((p for p in prompts if p not in taken), key=lambda p: last.get(p, -1))


def next_series(missing: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The next ten prompts; fewer where no more are missing."""
    return tuple(missing[:SERIES_LENGTH])


def series_count(prompts: int) -> int:
    """How many series so many prompts take."""
    return -(-prompts // SERIES_LENGTH)


def example_series(seed: int) -> tuple[Prompt, ...]:
    """A series for the test take: every digit once; the repetition means nothing."""
    digits = list(range(DIGITS))
    random.Random(f"example {seed}").shuffle(digits)
    return tuple((digit, 0) for digit in digits)
