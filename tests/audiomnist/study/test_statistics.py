"""Statistics against simulated data with known answers, closed forms, scipy, and step-down by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from audiomnist.study import statistics
from audiomnist.study.conclusion import ABOVE_ZERO, Conclusion, judge
from audiomnist.study.paper import CLAIMS
from audiomnist.study.statistics import Estimate


def frame(values, seed=0):
    """A frame of per-recording values: {split: {speaker: values}}, rows in random order."""
    rows = [
        (split, speaker, f"r{number}", value)
        for split, speakers in values.items()
        for speaker, own in speakers.items()
        for number, value in enumerate(own)
    ]
    made = pd.DataFrame(rows, columns=[*statistics.UNIT, "value"])
    return made.sample(frac=1, random_state=seed)


def simulated(rng, splits, speakers, recordings, shape=(19, 1)):
    """Right or wrong of simulated speakers whose true accuracies are beta-distributed; mean shape[0] / sum(shape)."""
    return frame(
        {
            split: {
                f"{split}_{k}": rng.random(recordings) < rng.beta(*shape)
                for k in range(speakers)
            }
            for split in range(splits)
        }
    )  # fmt: skip


# --- estimates and intervals -----------------------------------------------------------------------------------------


def test_a_speaker_counts_as_much_as_any_other_however_many_recordings():
    found = statistics.estimate(frame({0: {"a": [1] * 9 + [0], "b": [0, 1]}, 1: {"c": [1], "d": [0.0]}}), "value")
    assert found.mean == pytest.approx((0.9 + 0.5 + 1 + 0) / 4)
    assert (found.splits, found.speakers, found.recordings, found.p) == (2, 4, 14, None)


@pytest.mark.parametrize("few", [statistics.FEW_VALUES, 0], ids=["counts drawn", "recordings drawn"])
def test_the_bootstrap_has_the_moments_that_theory_gives_it(monkeypatch, few):
    monkeypatch.setattr(statistics, "FEW_VALUES", few)
    monkeypatch.setattr(statistics, "CHUNK", 1000)
    rng = np.random.default_rng(3)
    values = {
        split: {f"{split}_{k}": rng.choice([-1.0, 0, 2], rng.integers(2, 30)) + k / 4 for k in range(count)}
        for split, count in ((0, 3), (1, 7))
    }
    draws = statistics.bootstrap(frame(values), "value", 1, 40_000)
    mean = variance = 0
    for speakers in values.values():
        n, means = len(speakers), np.array([own.mean() for own in speakers.values()])
        within = np.mean([own.var() / len(own) for own in speakers.values()])
        mean += means.sum() / 10
        # of n - 1 drawn speakers: the unbiased variance of a mean of n, and what the recordings add
        variance += (n / 10) ** 2 * (means.var() + within) / (n - 1)
    assert draws.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / 40_000))
    assert draws.var() == pytest.approx(variance, rel=0.05)


def test_the_interval_is_a_function_of_rows_and_seed_alone():
    values = {0: {name: np.random.default_rng(k).normal(size=9) for k, name in enumerate("abcd")}}
    first = statistics.estimate(frame(values, 0), "value", 7)
    assert first == statistics.estimate(frame(values, 1), "value", 7)
    assert first != statistics.estimate(frame(values, 0), "value", 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("splits", "speakers", "recordings", "low", "high"),
    [(5, 12, 500, 0.915, 0.965), (4, 6, 500, 0.905, 0.965), (4, 6, 20, 0.94, 0.995), (1, 6, 500, 0.82, 0.93)],
)
def test_intervals_hold_the_truth_as_often_as_the_module_says(splits, speakers, recordings, low, high):
    rng = np.random.default_rng(11)
    hits = []
    for seed in range(400):
        draws = statistics.bootstrap(simulated(rng, splits, speakers, recordings), "value", seed, 600)
        start, end = np.percentile(draws, [2.5, 97.5])
        hits.append(start <= 0.95 <= end)
    assert low <= np.mean(hits) <= high


def test_of_a_split_with_one_speaker_there_is_no_interval():
    found = statistics.estimate(frame({0: {"a": [0, 1], "b": [1, 1]}, 1: {"c": [1, 0]}}), "value", against=0.5)
    assert math.isnan(found.low) and math.isnan(found.high) and found.p == 1
    assert statistics.verdict(found, (0, 1)) == statistics.UNDECIDED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:0], "expected a row for each recording, got none"),
        (lambda f: f.assign(value=[math.nan, *f["value"][1:]]), "column value: expected finite numbers"),
        (lambda f: pd.concat([f, f]), "expected each recording of a split once, got some twice"),
    ],
)
def test_frames_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        statistics.estimate(change(frame({0: {"a": [1.0, 0], "b": [1]}})), "value")


# --- tests -----------------------------------------------------------------------------------------------------------


def all_patterns_p(values):
    """The exact two-sided sign-flip p by a plain loop over all sign patterns."""
    observed = abs(np.mean(values))
    means = [abs(np.mean(np.multiply(signs, values))) for signs in itertools.product((-1, 1), repeat=len(values))]
    return np.mean([mean >= observed - 1e-12 for mean in means])


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9, 12])
def test_the_sign_flip_test_of_few_speakers_is_exact(count):
    values = np.random.default_rng(count).normal(0.6, 1, count).round(1)
    assert statistics.sign_flip_p(values) == pytest.approx(all_patterns_p(values))


def test_of_many_speakers_it_agrees_with_the_t_test_and_no_difference_is_none():
    values = np.random.default_rng(5).normal(0.25, 1, 60)
    assert statistics.sign_flip_p(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert statistics.sign_flip_p(np.zeros(30)) == 1
    assert statistics.sign_flip_p(np.ones(60)) == pytest.approx(2 / (statistics.PATTERNS + 1))


def test_level_and_power_of_the_sign_flip_test():
    rng = np.random.default_rng(2)
    null = [statistics.sign_flip_p(rng.normal(0, 1, 10)) < 0.05 for _ in range(600)]
    effect = [statistics.sign_flip_p(rng.normal(1, 1, 10)) < 0.05 for _ in range(200)]
    assert np.mean(null) == pytest.approx(0.05, abs=0.027)
    power = scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 9), 9, math.sqrt(10))  # of the t test, 0.80
    assert np.mean(effect) == pytest.approx(power, abs=0.1)


def test_a_speaker_of_several_splits_is_tested_once():
    own = {"a": [1.0, 1], "b": [1, 0]}
    found = statistics.estimate(frame({0: own, 1: own, 2: own}), "value", against=0.0)
    assert found.p == pytest.approx(0.5) and found.speakers == 2


# --- contrasts -------------------------------------------------------------------------------------------------------


def test_contrasts_are_paired_over_common_splits_whatever_the_order_of_rows():
    rng = np.random.default_rng(0)
    first = {k: {f"{k}_{s}": (rng.random(20) < (s + 1) / 7).astype(int) for s in range(6)} for k in (0, 1, 2)}
    second = {k: {s: own ^ (rng.random(20) < 0.1) for s, own in first[k].items()} for k in (1, 2)}
    second[3] = first[0]
    found = statistics.contrast(frame(first, 1), frame(second, 2), "value")
    d = [np.mean(first[k][s]) - np.mean(second[k][s]) for k in (1, 2) for s in first[k]]
    assert found.mean == pytest.approx(np.mean(d)) and (found.splits, found.speakers) == (2, 12)
    assert found.p == pytest.approx(all_patterns_p(d))
    alone = statistics.estimate(frame({k: first[k] for k in (1, 2)}), "value")
    assert found.high - found.low < 0.7 * (alone.high - alone.low)  # what a recording has in itself cancels


def test_other_recordings_are_not_dropped_unseen():
    first, second = frame({0: {"a": [1, 0], "b": [1, 0]}}), frame({0: {"a": [1, 0], "b": [1]}})
    with pytest.raises(ValueError, match="expected the same recordings in their common splits, got others"):
        statistics.contrast(first, second, "value")


# --- Holm and verdicts -----------------------------------------------------------------------------------------------


def test_holm_rejects_what_the_step_down_procedure_rejects():
    # statsmodels 0.15.0 says so of multipletests([.01, .04, .03, .005, .5], method="holm")[1]
    assert statistics.holm([0.01, 0.04, 0.03, 0.005, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.5])
    # and of these five with three more of p = 1
    assert statistics.holm([0.01, 0.04, 0.03, 0.005, 0.5], 8) == pytest.approx([0.07, 0.2, 0.18, 0.04, 1])
    assert statistics.holm([]).tolist() == [] and statistics.holm([0.9, 0.8]).tolist() == [1, 1]
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(rng.integers(1, 9)) ** 4
        rejected = set()
        for step, index in enumerate(np.argsort(p)):  # the procedure itself
            if p[index] > 0.05 / (len(p) - step):
                break
            rejected.add(index)
        assert set(np.flatnonzero(statistics.holm(p) <= 0.05)) == rejected


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (94.0, 96.0, None, "reproduced"),
        (93.7, 96.0, None, "undecided"),
        (93.0, 98.5, None, "undecided"),
        (90.0, 93.82, None, "not reproduced"),
        (97.9, 99.0, None, "not reproduced"),
        (94.0, 96.0, 0.049, "reproduced"),
        (94.0, 96.0, 0.05, "undecided"),
        (90.0, 91.0, 0.2, "undecided"),
        (math.nan, math.nan, None, "undecided"),
    ],
)
def test_the_four_verdicts(low, high, p, expected):
    region = statistics.equivalence_region(95.82, 1.49, 2.0)  # 93.82 to 97.82
    assert region == pytest.approx((93.82, 97.82))
    assert statistics.equivalence_region(91.74, 8.6, 2.0) == pytest.approx((83.14, 100.34))
    found = Estimate((low + high) / 2, low, high, 5, 60, 30_000)
    assert statistics.verdict(found, region, p) == expected
    assert statistics.verdict(found, region, p, "the demo") == "not applicable"


def one(p, low=1.0, reason=None, claim=None):
    return Conclusion("so", Estimate(2.0, low, 3.0, 5, 60, 600, p), ABOVE_ZERO, " points", reason, claim)


def verdicts(judged):
    return {name: [verdict for verdict, _ in own] for name, own in judged.items()}


def test_an_experiment_s_conclusions_are_judged_as_one_family_and_survive_being_written():
    family = [one(0.03), one(0.04), one(None), one(0.001, reason="it is the demo"), one(0.0001, math.nan)]
    expected = ["undecided", "undecided", "reproduced", "not applicable", "undecided"]
    judged = judge({"a": family})
    assert verdicts(judged) == {"a": expected}
    assert one(0.03).verdict() == "reproduced"  # alone
    assert judged["a"][0][1] == (
        "2.00 points (95 % interval 1.00 to 3.00); claimed: above 0 points; p = 0.03, after Holm 0.06 (4 tests of our "
        "own questions); 60 speakers, 5 splits"
    )
    assert judged["a"][3][1].endswith("5 splits, because it is the demo")
    for conclusion in [*family, one(0.03, claim=CLAIMS[0])]:
        again = Conclusion.from_record(conclusion.record())
        assert repr(again) == repr(conclusion)
        assert again.region == ABOVE_ZERO and again.estimate.p == conclusion.estimate.p


def test_the_paper_s_claims_are_one_family_however_many_are_tested_and_whatever_else_is():
    first, second = one(0.005, claim=CLAIMS[0]), one(0.007, claim=CLAIMS[1])
    alone = judge({"a": [first]})
    assert "p = 0.005, after Holm 0.04 (8 tests of the paper's claims)" in alone["a"][0][1] and len(CLAIMS) == 8
    assert verdicts(judge({"a": [first], "b": [second]})) == {"a": ["reproduced"], "b": ["reproduced"]}
    assert verdicts(judge({"b": [second]})) == {"b": ["undecided"]}  # 8 x 0.007, and 7 x 0.007 beside the first
    further = {"a": [first], "b": [second, one(0.03)], "c": [one(0.9) for _ in range(50)] + [one(0.02)]}
    judged = verdicts(judge(further))
    assert judged["a"] == ["reproduced"] and judged["b"] == ["reproduced", "reproduced"]
    assert judged["c"][-1] == "undecided"
    without = verdicts(judge({name: further[name] for name in "ab"}))
    assert without == {name: judged[name] for name in "ab"}  # an experiment more changes nothing
