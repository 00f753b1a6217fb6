"""Statistics of per-recording quantities whose unit is the speaker: intervals, paired contrasts, verdicts.

Recordings of one speaker are alike, so they are no independent evidence; speakers are. Everything here takes a frame
with a row for each test recording: columns `split`, `speaker`, `recording` (see UNIT) and a column of values, such as
right (1) or wrong (0), or a score. A speaker's value is the mean over the own recordings, an estimate the mean over
speakers (of all splits; a speaker whom several splits test counts once in each).

The interval is a two-stage bootstrap: in each split speakers are drawn, and recordings within each drawn speaker. One
speaker fewer is drawn than the split has (Rao and Wu, Journal of the American Statistical Association 83, 1988), as
drawing all makes the variance of a split of n speakers too small by (n - 1) / n. With AudioMNIST's 500 recordings of
each speaker, 95 % intervals of simulated accuracies hold the truth in 93 to 95 % of the cases (5 splits of 12 speakers)
and in 93 to 94 % (4 splits of 6), in 86 to 90 % of a single split of 6 (tests/audiomnist/study/test_statistics.py).

Where all speakers are equal, such as right every time, an interval has no width: a bootstrap cannot know better.

The test against a value is a sign-flip permutation test over speakers: two-sided, exact for few speakers.

Tests are corrected by Holm within families that are fixed before any data is seen, so that whoever adds an experiment
leaves the other verdicts as they are. One family are the paper's claims (`paper.CLAIMS`), all of them: one that is not
tested yet counts as if its p were 1, and so a verdict can only become clearer while further ones come in. Each
experiment's further questions are a family of their own. An accuracy that is to equal the paper's is judged by its
interval alone: it has no p, and is in no family.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import permutation_test

UNIT = ["split", "speaker", "recording"]
DRAWS = 10_000  # of the bootstrap
ALPHA = 0.05  # of tests
LEVEL = 1 - ALPHA  # of intervals
EXACT_SPEAKERS = 16  # up to here all 2^n sign patterns are tried
PATTERNS = 99_999  # of more speakers so many, drawn
FEW_VALUES = 8  # different values of a speaker, up to which counts are drawn instead of recordings
CHUNK = 4_000_000  # recordings drawn at once, at most

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_APPLICABLE = (
    "reproduced",
    "not reproduced",
    "undecided",
    "not applicable",
)


@dataclass(frozen=True)
class Estimate:
    """A mean over speakers with its interval, in the unit of the values.

    low and high are nan where a split has a single speaker: nothing is known then of other speakers. p is the
    two-sided p of the hypothesis that the true mean is the value it was tested against, None where none was tested.
    """

    mean: float
    low: float
    high: float
    splits: int
    speakers: int
    recordings: int
    p: float | None = None

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit: `factor` is 100 for a share in percent."""
        return replace(self, mean=factor * self.mean, low=factor * self.low, high=factor * self.high)

    def columns(self, name: str) -> dict[str, float]:
        """Mean and ends of the interval as columns of a table: `name`, name_low, name_high."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def described(row: Mapping[str, float], name: str) -> str:
    """What `Estimate.columns` put into a row, as text: 0.512 [0.410, 0.601]."""
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def speaker_means(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns split, speaker, value: the mean of each speaker's recordings, a row for each speaker of each split."""
    means = frame.groupby(["split", "speaker"], sort=True)[column].mean()
    return means.astype(float).rename("value").reset_index()


def _resampled_means(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Means (draws, C) of as many rows of values (N, C) as there are, drawn with replacement."""
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    if len(distinct) <= FEW_VALUES:  # right or wrong: the same distribution, and quicker
        return rng.multinomial(len(values), counts / len(values), draws) @ distinct / len(values)
    means = np.empty((draws, values.shape[1]))
    step = max(1, CHUNK // len(values))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        means[start : start + count] = values[rng.integers(0, len(values), (count, len(values)))].mean(axis=1)
    return means


def bootstrap(frame: pd.DataFrame, columns: str | Sequence[str], seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """Means over speakers (draws,) float64 of resampled speakers and recordings (see the module), by the seed alone.

    Of several columns (draws, columns): of the same speakers and recordings in all of them.
    """
    rng = np.random.default_rng(seed)
    names = [columns] if isinstance(columns, str) else list(columns)
    total, speakers = np.zeros((draws, len(names))), 0
    for _, split in frame.sort_values(UNIT).groupby("split", sort=True):
        values = [own.to_numpy(np.float64) for _, own in split.groupby("speaker", sort=True)[names]]
        picked = rng.integers(0, len(values), (draws, max(1, len(values) - 1)))
        means = np.empty((*picked.shape, len(names)))
        for index, own in enumerate(values):
            chosen = picked == index
            means[chosen] = _resampled_means(own, int(chosen.sum()), rng)
        total += len(values) * means.mean(axis=1)
        speakers += len(values)
    return (total[:, 0] if isinstance(columns, str) else total) / speakers


def sign_flip_p(values: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test that values (N,), one for each speaker, are symmetric around 0.

    Exact up to EXACT_SPEAKERS values; of more, PATTERNS sign patterns are drawn, and the observed one counts too.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or not values.any():
        return 1.0  # every pattern is as far from 0
    patterns = 2**EXACT_SPEAKERS if len(values) <= EXACT_SPEAKERS else PATTERNS
    result = permutation_test(
        (values,),
        lambda data, axis: data.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=patterns,
        batch=10_000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def estimate(
    frame: pd.DataFrame, column: str, seed: int = 0, against: float | None = None, draws: int = DRAWS
) -> Estimate:
    """The mean over speakers of a per-recording quantity, with its interval, and its p against a value.

    frame: columns UNIT and `column` (finite numbers or bool), a row for each recording. Raises ValueError for a frame
    without rows, with values that are not finite, or with a recording twice.
    """
    if frame.empty:
        raise ValueError("frame: expected a row for each recording, got none")
    if not np.isfinite(frame[column].to_numpy(np.float64)).all():
        raise ValueError(f"column {column}: expected finite numbers, got others among them")
    if frame.duplicated(UNIT).any():
        raise ValueError("frame: expected each recording of a split once, got some twice")
    means = speaker_means(frame, column)
    low = high = math.nan
    if means.groupby("split").size().min() > 1:
        tail = 50 * ALPHA
        low, high = np.percentile(bootstrap(frame, column, seed, draws), [tail, 100 - tail])
    p = None
    if against is not None:
        by_speaker = means.groupby("speaker")["value"].mean()  # whoever several splits test is one speaker
        p = sign_flip_p(by_speaker - against, seed)
    return Estimate(
        mean=float(means["value"].mean()),
        low=float(low),
        high=float(high),
        splits=means["split"].nunique(),
        speakers=means["speaker"].nunique(),
        recordings=len(frame),
        p=p,
    )


def ratio(frame: pd.DataFrame, above: str, below: str, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean over speakers of one column over that of another, with its interval (both of the same draws).

    nan throughout where the interval of the mean below holds 0: a share of nothing is none. Raises as `estimate` does.
    """
    means, whole = estimate(frame, above, seed, draws=1).mean, estimate(frame, below, seed, draws=draws)
    if not (whole.low > 0 or whole.high < 0):
        return replace(whole, mean=math.nan, low=math.nan, high=math.nan)
    both = bootstrap(frame, [above, below], seed, draws)
    tail = 50 * ALPHA
    low, high = np.percentile(both[:, 0] / both[:, 1], [tail, 100 - tail])
    return replace(whole, mean=means / whole.mean, low=float(low), high=float(high))


def estimate_known(frame: pd.DataFrame, column: str, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """`estimate` of the rows whose value is known (not nan); nan throughout where there is none."""
    known = frame.dropna(subset=[column])
    if known.empty:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, 0)
    return estimate(known, column, seed, draws=draws)


def common_splits(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each frame that belong to splits which all of them have."""
    shared = set.intersection(*(set(frame["split"]) for frame in frames))
    return [frame[frame["split"].isin(shared)] for frame in frames]


def differences(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns UNIT and `column`: first minus second, recording by recording, over their common splits.

    Raises ValueError where the two are not of the same recordings there: a paired contrast would leave some out unseen.
    """
    first, second = (frame.set_index(UNIT)[column].astype(float) for frame in common_splits(first, second))
    if not first.index.symmetric_difference(second.index).empty:
        raise ValueError("frames: expected the same recordings in their common splits, got others")
    return (first - second).rename(column).reset_index()


def contrast(first: pd.DataFrame, second: pd.DataFrame, column: str, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean over speakers of first minus second, paired on recordings (see `differences`), tested against 0."""
    return estimate(differences(first, second, column), column, seed, against=0.0, draws=draws)


def holm(values: Iterable[float], tests: int = 0) -> np.ndarray:
    """Holm's step-down adjusted p (Scandinavian Journal of Statistics 6, 1979) of p values (N,), in their order.

    Of a family of more `tests` than there are values, the missing ones count as p = 1.
    """
    values = np.asarray(list(values), np.float64)
    order = np.argsort(values, kind="stable")
    steps = max(tests, len(values)) - np.arange(len(values))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * steps))
    return adjusted


def verdict(
    found: Estimate, region: tuple[float, float], p: float | None = None, not_applicable: str | None = None
) -> str:
    """What an estimate says of the claim that the true mean lies in `region` (its ends excluded; may be infinite).

    The interval inside the region: reproduced; wholly outside of it: not reproduced; else, or with a `p` (adjusted)
    of ALPHA or more: undecided. Whatever the numbers, not applicable where `not_applicable` says why they are no
    evidence about AudioMNIST.
    """
    low, high = region
    if not_applicable is not None:
        return NOT_APPLICABLE
    if math.isnan(found.low) or (p is not None and p >= ALPHA):
        return UNDECIDED
    if low < found.low and found.high < high:
        return REPRODUCED
    return NOT_REPRODUCED if found.high <= low or high <= found.low else UNDECIDED


def equivalence_region(published: float, deviation: float, least: float) -> tuple[float, float]:
    """Values that count as equal to a published one: at most max(least, deviation) away, all in the same unit."""
    margin = max(least, deviation)
    return published - margin, published + margin
