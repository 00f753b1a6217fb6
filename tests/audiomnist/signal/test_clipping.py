"""Runs of clipped samples against a plain loop."""

from itertools import groupby

import numpy as np
import pytest

from audiomnist.signal.clipping import clipped_runs


def twin(samples, high, low):
    """Groups of equal sides: 1 at the upper end, -1 at the lower; three in a row or more are a run."""
    runs, place = [], 0
    for side, group in groupby(1 if s >= high else -1 if s <= low else 0 for s in samples):
        length = len(list(group))
        if side and length >= 3:
            runs.append((place, place + length))
        place += length
    return runs


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_a_plain_loops(seed):
    """Short random samples of few values: runs at the first and last sample, beside each other, of either end."""
    samples = np.random.default_rng(seed).choice([-3, -2, 0, 2, 3], p=[0.2, 0.2, 0.2, 0.2, 0.2], size=40)
    starts, stops = clipped_runs(samples, high=2, low=-2)
    assert list(zip(starts, stops, strict=True)) == twin(samples, 2, -2)


@pytest.mark.parametrize("end", [32767, 32768.5, -32767, -32768])
def test_the_scale_is_that_of_16_bits(end):
    for samples, wanted in (
        ([end] * 3, [(0, 3)]), ([0, end, end], []), ([end * 0.999] * 9, []),
        ([end] * 4 + [0] + [end] * 5, [(0, 4), (5, 10)]),
        ([end, end, -end, -end, -end], [(2, 5)]),
    ):  # fmt: skip
        starts, stops = clipped_runs(np.array(samples))
        assert list(zip(starts, stops, strict=True)) == wanted


def test_nothing_has_no_runs():
    starts, stops = clipped_runs(np.zeros(0, np.int16))
    assert starts.tolist() == stops.tolist() == []
