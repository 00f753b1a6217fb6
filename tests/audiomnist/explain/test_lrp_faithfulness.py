"""Curves of what is removed, beside plain loops, brute force, and models whose use of the input is known."""

import csv
import itertools

import numpy as np
import pytest

from audiomnist.explain import faithfulness
from audiomnist.explain.faithfulness import LEAST, MATCHED, MOST, RIVAL, Parts, area, curves, orders
from lrp import LRPError
from tests import figures

WEIGHT = np.array([3.0, -2.0, 1.0, 0.5, 0.0, -1.0, 2.0, -0.25])


def linear(x):
    """Scores (N, 2) of a network that adds samples up with `WEIGHT`; relevance of class 1 is WEIGHT * x."""
    value = x[:, 0, 0] @ WEIGHT
    return np.stack([-value, value], axis=1)


def waveforms(count=6, length=8, seed=0, silent=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 1, 1, length))
    x[..., : length - silent][x[..., : length - silent] == 0] = 1
    x[..., length - silent :] = 0
    return x


def decibels(count=2, shape=(11, 13), seed=0):
    x = np.random.default_rng(seed).uniform(-60, 0, size=(count, 1, *shape))
    x[:, :, :, :2] = -80  # padding
    x[0, 0, 5, 5] = -80
    return x


def relevance_of(x):
    """Relevance of the predicted class of `linear`."""
    sign = np.where(linear(x).argmax(axis=1), 1, -1)
    return x * WEIGHT * sign[:, None, None, None]


# --- what is taken, and how many -------------------------------------------------------------------------------------


def plain_units(x, size):
    """{unit number: [(row, column), ...]} of one channel (H, W), in the order of rows and columns of units."""
    units = {}
    columns = -(-x.shape[1] // size[1])
    for r, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        units.setdefault((r // size[0]) * columns + c // size[1], []).append((r, c))
    return units


def plainly_taken(x, values, size, share):
    """The places (row, column) of one channel that go: units by the mean of their values that sound, as many as bring
    the count nearest to the share, the more of two that are equally near."""
    silent = 0 if x.min() < 0 < x.max() else x.min()
    sounding = {n: [p for p in places if x[p] != silent] for n, places in plain_units(x, size).items()}
    total = sum(map(len, sounding.values()))
    ranked = sorted((n for n in sounding if sounding[n]), key=lambda n: (-np.mean([values[p] for p in sounding[n]]), n))
    numbers = [0, *itertools.accumulate(len(sounding[n]) for n in ranked)]
    best = max(range(len(numbers)), key=lambda k: (-abs(numbers[k] - share * total), k))
    return {p for n in ranked[:best] for p in sounding[n]}


@pytest.mark.parametrize("units", faithfulness.UNITS)
@pytest.mark.parametrize("kind", ["waveform", "spectrogram"])
def test_taken_equals_plain_loops(kind, units):
    x = waveforms(3, 130, silent=37) if kind == "waveform" else decibels()
    values = np.random.default_rng(1).normal(size=x.shape)
    size = (1, 1) if units == "values" else (1, 40) if kind == "waveform" else (8, 8)
    parts = Parts(x, units)
    shares = (0.0, 0.07, 0.3, 0.5, 1.0)
    for share, chosen in zip(shares, parts.taken(parts.order(values), shares), strict=True):
        left = parts.without(chosen)
        for item in range(len(x)):
            gone = plainly_taken(x[item, 0], values[item, 0], size, share)
            silent = 0 if kind == "waveform" else x[item].min()
            wanted = x[item, 0].copy()
            for place in gone:
                wanted[place] = silent
            np.testing.assert_array_equal(left[item, 0], wanted)


def test_half_of_three_values_are_two():
    parts = Parts(np.array([3.0, -1.0, 2.0, 0.0]).reshape(1, 1, 1, 4))
    (chosen,) = parts.taken(parts.order(parts.x), [0.5])
    assert chosen.ravel().tolist() == [True, False, True, False]


def test_silence_is_never_taken_and_counts_for_nothing():
    x = waveforms(4, 40, silent=30)
    parts = Parts(x)
    relevance = np.where(x == 0, 5.0, -1.0)  # a flat rule gives relevance to silence
    for chosen in parts.taken(parts.order(relevance), (0.2, 0.5)):
        assert not chosen[:, 10:].any()
    assert [c.sum() / 4 for c in parts.taken(parts.order(relevance), (0.2, 0.5, 1.0))] == [2, 5, 10]
    silent = Parts(np.zeros((1, 1, 1, 8)))
    assert not next(silent.taken(silent.order(silent.x), [1.0])).any()


@pytest.mark.parametrize("shape", [(2, 1, 1, 60), (2, 1, 9, 30)])
def test_interpolation_equals_numpys_row_by_row(shape):
    rng = np.random.default_rng(2)
    x = rng.uniform(-60, 5, size=shape)
    gone = rng.random(shape) < 0.6
    gone[0, 0, 0, :7] = gone[1, 0, -1, -5:] = True
    if shape[2] > 1:
        gone[0, 0, 3] = True  # nothing of a row is kept
    found = faithfulness.interpolated(x, gone)
    for n, row in itertools.product(range(shape[0]), range(shape[2])):
        kept = np.flatnonzero(~gone[n, 0, row])
        line = x[n, 0, row]
        silent = 0 if shape[2] == 1 or x[n].max() > 0 else x[n].min()
        wanted = np.interp(np.arange(shape[3]), kept, line[kept]) if len(kept) else np.full(shape[3], silent)
        np.testing.assert_allclose(found[n, 0, row], np.where(gone[n, 0, row], wanted, line), rtol=0, atol=1e-12)


def test_energy_of_waveforms_and_of_decibels():
    assert faithfulness.energy(np.array([2.0, -3.0, 0.0]).reshape(1, 1, 1, 3)).ravel().tolist() == [4, 9, 0]
    found = faithfulness.energy(np.array([0.0, -10.0, -20.0, -80.0]).reshape(1, 1, 2, 2))
    np.testing.assert_allclose(found.ravel(), [1, 0.1, 0.01, 0])


# --- curves ----------------------------------------------------------------------------------------------------------


def test_no_order_is_faster_than_the_best_and_none_slower_than_its_reverse():
    """Brute force: of all ways to take k samples, the most relevant first costs the most margin, -R the least."""
    x = waveforms()
    target = linear(x).argmax(axis=1)
    parts, relevance = Parts(x), relevance_of(x)
    shares = [k / 8 for k in range(9)]
    order = parts.order(relevance)
    most = curves(linear, parts, target, order, "silence", shares)
    least = curves(linear, parts, target, faithfulness.reverse(order), "silence", shares)
    sign = np.where(target, 1, -1)
    for item, k in itertools.product(range(len(x)), range(9)):
        margins = []
        for chosen in itertools.combinations(range(8), k):
            left = x[item, 0, 0].copy()
            left[list(chosen)] = 0
            margins.append(2 * sign[item] * (left @ WEIGHT))
        assert most.margin[item, k] == pytest.approx(min(margins), abs=1e-12)
        assert least.margin[item, k] == pytest.approx(max(margins), abs=1e-12)
    assert most.right[:, 0].all() and np.array_equal(most.right[:, 1:-1], most.margin[:, 1:-1] > 0)


def test_energy_is_what_was_in_the_taken_values():
    x = waveforms(3)
    parts = Parts(x)
    found = curves(linear, parts, np.zeros(3, int), parts.order(np.abs(x)), shares=(0.0, 0.25, 1.0))
    for item in range(3):
        squares = np.sort(x[item].ravel() ** 2)[::-1]
        np.testing.assert_allclose(found.energy[item], [0, squares[:2].sum() / squares.sum(), 1])


def test_margin_is_to_the_best_other_class():
    scores = np.array([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    assert faithfulness.margins(scores, np.array([0, 1, 2])).tolist() == [-4, 2, -2]
    assert faithfulness.best_other(scores, np.array([0, 1, 2])).tolist() == [1, 2, 1]


def test_area_is_the_mean_height_over_the_range():
    assert area([1.0, 0.5, 0.0], (0, 0.5, 1.0)) == 0.5
    assert area([0.7, 0.7, 0.7], (0.2, 0.3, 0.6)) == pytest.approx(0.7)
    assert area([1.0, 0.0], (0.0, 0.3)) == pytest.approx(0.5)
    np.testing.assert_allclose(area(np.array([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]]), (0, 0.1, 0.4)), [0.875, 2])
    for shares in ((0.5, 0.2), (0.1,), (0, 1.2), (-0.1, 0.5)):
        with pytest.raises(LRPError, match="shares: expected two at least that rise from 0 to 1 at most, got"):
            area(np.zeros(len(shares)), shares)


# --- orders ----------------------------------------------------------------------------------------------------------


def test_energy_matching_keeps_the_energy_and_forgets_the_rest():
    rng = np.random.default_rng(3)
    x = rng.laplace(size=(2, 1, 1, 2000))
    x[..., 1500:] = 0
    knows = rng.random(x.shape)
    parts = Parts(x)
    # what sounds loud ranks high, and in each stratum a number that only the order knows
    order = parts.order(np.abs(x) + 0.5 * knows)
    draws = [np.random.default_rng(k) for k in range(2)]
    matched = parts.energy_matched(order, draws)
    assert np.array_equal(np.isneginf(matched), np.isneginf(order))
    np.testing.assert_array_equal(np.sort(matched, axis=1), np.sort(order, axis=1))
    shares = (0.05, 0.1, 0.2, 0.3, 0.6)
    strata = np.argsort(np.argsort(parts.energy[:, :1500], axis=1), axis=1) // faithfulness.GROUP
    for own, other in zip(parts.taken(order, shares), parts.taken(matched, shares), strict=True):
        for item in range(2):
            counts = [np.bincount(strata[item][chosen[item, :1500]], minlength=150) for chosen in (own, other)]
            assert np.array_equal(*counts)
            energies = [parts.energy[item][chosen[item]].sum() for chosen in (own, other)]
            assert energies[1] == pytest.approx(energies[0], rel=0.02)
        assert (own != other).any()
    assert abs(np.corrcoef(matched[0, :1500], knows[0].ravel()[:1500])[0, 1]) < 0.1


def test_chance_is_the_recordings_own_and_its_company_does_not_matter():
    x = waveforms(3, 50)
    names = ["a/1.hdf5", "b/2.hdf5", "c/3.hdf5"]
    made = {(o.source, o.kind): o.make() for o in orders(Parts(x), {"r": x}, names, 5)}
    alone = {(o.source, o.kind): o.make() for o in orders(Parts(x[1:2]), {"r": x[1:2]}, names[1:2], 5)}
    for key, order in alone.items():
        np.testing.assert_array_equal(made[key][1:2], order)
    random = made["random", MOST]
    assert not np.array_equal(random[0], random[1])
    other = {(o.source, o.kind): o.make() for o in orders(Parts(x), {"r": x}, names, 6)}
    assert not np.array_equal(random, other["random", MOST])
    assert not np.array_equal(made["r", MATCHED], other["r", MATCHED])
    # pinned: the stream of a recording is seed, purpose and file name
    stream = np.random.default_rng([5, *b"random:2.hdf5"])
    np.testing.assert_array_equal(random[1], stream.random(50))


def test_true_relevance_has_a_score_and_chance_has_none():
    x = waveforms(200, seed=4)
    target = linear(x).argmax(axis=1)
    parts, relevance = Parts(x), relevance_of(x)
    rivals = {"true": -relevance}
    found = {
        (o.source, o.kind): area(curves(linear, parts, target, o.make()).right)
        for o in orders(parts, {"true": relevance}, [str(k) for k in range(200)], rivals=rivals)
    }
    scores = {s: (found[s, LEAST] - found[s, MOST]).mean() for s in ("true", "amplitude", "random")}
    assert scores["true"] > 0.1 and abs(scores["random"]) < 0.03 and scores["true"] > scores["amplitude"]
    assert found["true", MATCHED].mean() > found["true", MOST].mean()
    np.testing.assert_array_equal(found["true", RIVAL], found["true", LEAST])  # two classes: the sign is all


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(LRPError, match="units: expected one of values, blocks, got seconds"):
        Parts(waveforms(), "seconds")
    parts = Parts(waveforms())
    with pytest.raises(LRPError, match="replacement: expected one of silence, interpolation, got noise"):
        parts.without(parts.count > 0, "noise")


# --- the command's table and picture ---------------------------------------------------------------------------------


def test_table_and_picture(tmp_path):
    x = waveforms(10)
    parts, target = Parts(x), linear(x).argmax(axis=1)
    means = []
    for order in orders(parts, {"true": relevance_of(x)}, [str(k) for k in range(10)]):
        one = faithfulness.Mean(order.source, order.kind, 0, 0, 0)
        whole = curves(linear, parts, target, order.make())
        for half in (slice(0, 4), slice(4, 10)):  # comes in batches
            one.add(faithfulness.Curves(whole.right[half], whole.margin[half], whole.energy[half]))
        np.testing.assert_allclose(one.accuracy, whole.right.mean(axis=0))
        means.append(one)
    faithfulness.write_csv(tmp_path / "c.csv", means)
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(means) * len(faithfulness.SHARES)
    assert float(rows[3]["accuracy"]) == pytest.approx(means[0].accuracy[3]) and rows[0]["source"] == "true"
    assert float(rows[0]["area"]) == pytest.approx(area(means[0].accuracy), rel=1e-5)
    figure = faithfulness.draw(means)
    figures.assert_looks(figure, "deletion")
    upper, lower = figure.axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), 100 * means[0].accuracy)
    np.testing.assert_allclose(lower.lines[1].get_ydata(), 100 * means[1].energy / 10)
