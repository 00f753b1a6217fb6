"""Pitch or formants: networks that by construction go by one of them, and answers that are made up."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.fft

from audiomnist.experiments import pitch_or_formants as module
from audiomnist.experiments.pitch_or_formants import BOTH, EMPTY_TOP, FORMANTS, ORIGINAL, PITCH, ROUND_TRIP
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings
from tests import figures
from tests.audiomnist.signal.test_frequency_axis import voice

MALE, FEMALE = 0, 1  # labels
# a man's pitch times 1.5 is a woman's, hers times 0.66 a man's
PITCHES, FORMANT_PLACES = {MALE: 120.0, FEMALE: 180.0}, {MALE: (500, 1400), FEMALE: (680, 1900)}


def corpus():
    """Recordings of three men and three women, four each, whose pitches and formants differ a little."""
    rng, data, labels, names = np.random.default_rng(0), [], [], []
    for speaker in range(6):
        gender = speaker % 2
        for take in range(4):
            move = 1 + np.array([0.01, 0.03]) * rng.normal(size=2)
            formants = [place * move[1] for place in FORMANT_PLACES[gender]]
            data.append(voice(PITCHES[gender] * move[0], formants, frames=4)[0])
            labels.append((take, gender))
            names.append(f"{speaker:02d}/AlexNet_{take}_{speaker:02d}_0.hdf5")
    data = np.array(data)[:, None]
    return Recordings((data - data.max(axis=(2, 3), keepdims=True)).astype(np.float32), np.array(labels), tuple(names))


def template(part):
    """Weights (227,) that hear nothing but harmonics (from 3 ms on) or envelopes (up to 1.5 ms): the women's cepstrum
    minus the men's, small enough for margins of a few."""
    women, men = (voice(PITCHES[g], FORMANT_PLACES[g])[0][:, 0] for g in (FEMALE, MALE))
    cepstrum = scipy.fft.dct(women - men, norm="ortho")
    quefrency = np.arange(227) * 1000 / (2 * 227 * 8000 / 455)
    heard = (quefrency > 3) if part == PITCH else (quefrency < 1.5) & (quefrency > 0)
    return scipy.fft.idct(heard * cepstrum, norm="ortho") / 2000


class Run(SimpleNamespace):
    """A run whose network is one inner product with the weights (227,), the same at all times."""

    def __init__(self, weights, recordings):
        super().__init__(run=SimpleNamespace(split=0), measured_from={"network": "by hand"}, sizes=[])
        means = [recordings.data[recordings.labels[:, 1] == g, 0].mean(axis=(0, 2)) @ weights for g in (MALE, FEMALE)]
        self.weights, self.bias, self.recordings = weights, -np.mean(means), recordings

    def scores(self):
        def said(data):
            self.sizes.append(len(data))
            margin = data[:, 0].mean(axis=2).astype(np.float64) @ self.weights + self.bias
            return np.stack([-margin / 2, margin / 2], axis=1)

        return said

    def listed(self, limit=None):
        return list(self.recordings.names)

    def batches(self, limit=None):
        for part in (slice(0, 10), slice(10, 24)):
            r = self.recordings
            yield Recordings(r.data[part], r.labels[part], r.names[part])


@pytest.fixture(scope="module")
def measured():
    """{part: rows of the network that hears only that part}."""
    return {part: module.margins(Run(template(part), corpus()), None) for part in (PITCH, FORMANTS)}


@pytest.mark.parametrize("part, other", [(PITCH, FORMANTS), (FORMANTS, PITCH)])
def test_a_network_that_hears_one_part_has_all_of_it_from_that_part(measured, part, other):
    table = module.shares(measured[part], 0).set_index(["gender", "part"])
    assert len(table) == 6
    for gender in ("female", "male", "both"):
        assert table.loc[(gender, part), "share"] == pytest.approx(100, abs=4)
        assert table.loc[(gender, other), "share"] == pytest.approx(0, abs=4)
        assert table.loc[(gender, part), "share_low"] > 90 > 10 > table.loc[(gender, other), "share_high"]
    assert (table["speakers"] == [3, 3, 3, 3, 6, 6]).all() and (table["recordings"] == [12] * 4 + [24] * 2).all()
    flipped = module.flips(measured[part], 0).set_index(["gender", "condition"])["flipped"]
    assert flipped["both", BOTH] == flipped["both", part] > 80  # the upper third of a woman's harmonics is lost
    assert flipped["both", other] == flipped["both", ROUND_TRIP] == 0
    (first, second) = module.conclusions(measured[part], 0)
    assert first.verdict() == ("reproduced" if part == PITCH else "not reproduced")
    assert second.estimate.mean == flipped["both", EMPTY_TOP]


def test_every_recording_is_asked_in_every_condition(measured):
    frame = measured[PITCH]
    assert (frame["network"] == "by hand").all() and len(frame) == 24 * (2 + 4 * 12 + 4)
    counts = frame.groupby("condition").size()
    assert counts[ORIGINAL] == counts[EMPTY_TOP] == 24 and counts[BOTH] == 24 * 13
    at_paper = frame[(frame["condition"] == BOTH) & ~frame["factor"].isin(module.GRID)]
    assert dict(at_paper.groupby("gender")["factor"].unique().map(list)) == {"female": [0.66], "male": [1.5]}
    pitch = frame[frame["condition"] == ORIGINAL].groupby("gender")["pitch"].median()
    assert pitch["female"] == pytest.approx(180, rel=0.03) and pitch["male"] == pytest.approx(120, rel=0.03)
    assert module.pitch_ratio(frame) == pytest.approx(180 / 120, rel=0.05)


def test_conditions_by_hand():
    """Beside numpy's interpolation of voices whose parts are known."""
    data, envelope, harmonics = voice(118.0, (500, 1400), frames=1)
    bins = np.arange(227)
    high_envelope = np.interp(bins / 1.5, bins, envelope)
    high_harmonics = np.interp(bins / 1.5, bins, harmonics)
    wanted = {BOTH: high_envelope + high_harmonics, PITCH: envelope + high_harmonics,
              FORMANTS: high_envelope + harmonics, ROUND_TRIP: envelope + harmonics}  # fmt: skip
    parts = envelope[:, None], harmonics[:, None]
    for condition, whole in wanted.items():
        found = module.in_condition(*parts, condition, 1.5)[:, 0]
        error = np.abs(found - np.maximum(whole - whole.max(), -80))
        assert (error[:140] if condition == ROUND_TRIP else error).max() < (3 if condition == ROUND_TRIP else 1e-9)
    low = module.in_condition(*parts, BOTH, 0.66)[:, 0]
    top = low[151:]  # the envelope's last value, and no harmonics
    assert np.ptp(top) < 1e-9 and top[0] - low[0] == pytest.approx(envelope[-1] - envelope[0] - harmonics[0])
    emptied = module.without_top(data[None])
    assert (emptied[0, 150:] == data.min()).all() and np.array_equal(emptied[0, :150], data[:150])


def made_up(pitch, formants, both=6.0, speakers=8, takes=5):
    """Rows of a corpus in which the parts move the margin of right answers of 2 by so much, give or take."""
    rng, rows = np.random.default_rng(0), []
    for speaker in range(speakers):
        gender, sign, factor = (("male", 1, 1.5), ("female", -1, 0.66))[speaker % 2]
        for take in range(takes):
            own = -2 + 0.1 * rng.normal()  # towards the other gender
            moved = {ORIGINAL: 0, EMPTY_TOP: 0.2, BOTH: both, PITCH: pitch, FORMANTS: formants, ROUND_TRIP: 0.1}
            rows += [
                {"split": speaker // 4, "speaker": f"{speaker}", "recording": f"{take}", "gender": gender,
                 "condition": condition, "factor": 1.0 if condition in (ORIGINAL, EMPTY_TOP) else factor,
                 "margin": sign * (own + change + 0.1 * rng.normal()), "pitch": 100.0 + speaker}
                for condition, change in moved.items()
            ]  # fmt: skip
    return pd.DataFrame(rows)


def test_shares_are_those_that_were_put_in():
    frame = made_up(pitch=4.5, formants=0.9)
    table = module.shares(frame, 0).set_index(["gender", "part"])
    assert table["share"].to_numpy() == pytest.approx([75, 15] * 3, abs=3)
    assert ((table["share_low"] < table["share"]) & (table["share"] < table["share_high"])).all()
    flipped = module.flips(frame, 0).set_index(["gender", "condition"])["flipped"]
    assert flipped.loc["both"].to_dict() == {BOTH: 100, PITCH: 100, FORMANTS: 0, ROUND_TRIP: 0, EMPTY_TOP: 0}
    found = module.conclusions(frame, 0)
    assert [one.verdict() for one in found] == ["reproduced", "reproduced"]
    text = " ".join(module.findings(module.shares(frame, 0), module.flips(frame, 0), pd.DataFrame(), 1.6))
    assert "The pitch alone, moved by the paper's factors, does 75 % [" in text and "1.60 times men's" in text


def test_of_a_network_that_is_not_fooled_there_is_no_share():
    table = module.shares(made_up(pitch=0.0, formants=0.0, both=0.0), 0)
    assert table["share"].isna().all() and table["share_low"].isna().all()
    none = pd.DataFrame(columns=["gender", "condition"])
    assert (
        "pitch alone, moved by the paper's factors, has no share that could be told"
        in module.findings(table, none, none, 1.6)[0]
    )
    men = made_up(4.5, 0.9)[lambda rows: rows["gender"] == "male"]
    assert module.shares(men, 0)["gender"].unique().tolist() == ["male", "both"]
    assert module.flips(men, 0)["gender"].unique().tolist() == ["male", "both"]
    assert [c.verdict() for c in module.conclusions(made_up(0.0, 0.0, 0.0), 0)] == ["undecided", "reproduced"]


def test_where_half_of_the_answers_turn():
    factors = np.repeat(np.geomspace(0.5, 2, 13), 400)
    rng = np.random.default_rng(0)
    for centre in (0.8, 1.0, 1.4):
        female = rng.random(len(factors)) < 1 / (1 + np.exp(-8 * np.log(factors / centre)))
        assert module.half_way(factors, female) == pytest.approx(centre, rel=0.03)
        assert module.half_way(factors, ~female) == pytest.approx(centre, rel=0.03)
    assert np.isnan(module.half_way(factors, np.ones(len(factors), bool)))


def test_the_curves_are_means_over_speakers(measured):
    frame = measured[FORMANTS]
    curves = module.curves(frame, 0)
    assert len(curves) == 2 * 4 * 13
    row = curves[(curves["gender"] == "male") & (curves["condition"] == PITCH) & (curves["factor"] == 1.4142)].iloc[0]
    own = frame[(frame["gender"] == "male") & (frame["condition"] == PITCH) & (frame["factor"] == 1.4142)]
    female = 1 / (1 + np.exp(-own["margin"]))
    assert row["female"] == pytest.approx(female.groupby(own["speaker"]).mean().mean())
    at_one = curves[curves["factor"] == 1].groupby("gender")["female"].unique()
    assert all(len(values) == 1 for values in at_one)  # nothing is scaled, whatever would be
    turning = module.turning_points(frame).set_index(["gender", "condition"])["factor"]
    assert 1 < turning["male", FORMANTS] < 680 / 500 and 500 / 680 < turning["female", FORMANTS] < 1
    assert turning["male", BOTH] == pytest.approx(turning["male", FORMANTS], rel=0.03)
    assert turning[:, PITCH].isna().all()
    figure = module.draw(curves, 1.61)
    figures.assert_looks(figure, "pitch_or_formants")
    for axes, gender in zip(figure.axes, ("female", "male"), strict=True):
        for condition, (factor, percent) in list(figures.lines(axes).items())[:4]:
            own = curves[(curves["gender"] == gender) & (curves["condition"] == condition)]
            np.testing.assert_allclose(factor, own["factor"])
            np.testing.assert_allclose(percent, 100 * own["female"])
    assert figure.axes[0].lines[4].get_xdata()[0] == pytest.approx(1 / 1.61)


def test_the_experiment_on_a_study(small_study):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs", limit=3)
    outcome = module.make(setting)
    frame = outcome.tables["recordings"]
    assert frame.groupby("split")["recording"].nunique().max() <= 3 and np.isfinite(frame["margin"]).all()
    assert set(outcome.tables) == {"shares", "flips", "turning_points", "curves", "recordings"}
    assert {one.verdict() for one in outcome.conclusions} == {"not applicable"}
    original = frame[frame["condition"] == ORIGINAL].iloc[0]
    (run,) = [r for r in module.trained_runs(setting, "AlexNet", "gender") if r.run.split == original["split"]]
    (name,) = [n for n in run.listed() if f"{original['speaker']}/" in n and original["recording"] in n]
    scores = run.network.forward(run.read([name]).data)[0]
    assert original["margin"] == pytest.approx(scores[1] - scores[0], rel=1e-3, abs=1e-4)
