"""The gender hypothesis: scaled frequency axes, counted, drawn and judged."""

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import gender_hypothesis
from audiomnist.study import paper
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, trained_runs
from tests import figures
from tests.audiomnist.signal.test_frequency_axis import stretched

MALE, FEMALE = 0, 1  # labels


@pytest.fixture(scope="module")
def setting(small_study):
    return Setting(
        small_study / "data", small_study / "preprocessed", small_study / "runs", composites=("epsilon_plus",)
    )


def tone(genders, bin_=60):
    """Spectrograms of a tone at a bin, of speakers of these genders."""
    data = np.full((len(genders), 1, 227, 3), -80, np.float32)
    data[:, :, bin_] = 0
    labels = np.array([[0, gender] for gender in genders])
    return Recordings(data, labels, tuple(f"0{k}/AlexNet_0_0{k}_0.hdf5" for k in range(len(genders))))


def test_men_go_up_and_women_down_and_the_control_the_other_way():
    recordings = tone([MALE, FEMALE])
    peaks = {c: gender_hypothesis.in_condition(recordings, c)[:, 0, :, 1].argmax(axis=1).tolist()
             for c in ("original", "scaled", "control")}  # fmt: skip
    assert peaks == {"original": [60, 60], "scaled": [90, 40], "control": [40, 90]}


def test_hypothesis_counts_what_a_plain_loop_counts(setting):
    run = trained_runs(setting, "AlexNet", "gender")[0]
    answers = gender_hypothesis.answers([run])
    frame = gender_hypothesis.accuracies(answers)
    recordings = run.read(run.listed())
    for condition, factors in {"original": (1, 1), "scaled": (1.5, 0.66), "control": (0.66, 1.5)}.items():
        hits = {0: [], 1: []}
        for item, (_, gender) in zip(recordings.data, recordings.labels[:, :2], strict=True):
            one = stretched(item[0], factors[gender], item.min())[None, None]
            hits[gender].append(run.network.forward(one.astype(np.float32)).argmax() == gender)
        for name, own in {"male": hits[0], "female": hits[1], "both": hits[0] + hits[1]}.items():
            row = frame[(frame["condition"] == condition) & (frame["gender"] == name)].iloc[0]
            assert (row["recordings"], row["correct"]) == (len(own), sum(own)), (condition, name)
            assert row["accuracy"] == pytest.approx(np.mean(own))


RATES = {"original": 0.95, "scaled": 0.2, "control": 0.8}


def made_up(rates=RATES, edge="silence", speakers=6, recordings=20):
    """Answers of two splits whose speakers, the first half women, are right at these rates, give or take a few."""
    return pd.DataFrame(
        {
            "edge": edge, "condition": condition, "split": split, "speaker": f"{split}_{k}", "recording": str(number),
            "gender": "female" if k < speakers / 2 else "male", "right": number < round(rate * recordings) - k % 2,
        }
        for condition, rate in rates.items()
        for split in (0, 1)
        for k in range(speakers)
        for number in range(recordings)
    )  # fmt: skip


def test_conclusions_follow_the_answers():
    verdicts = [c.verdict() for c in gender_hypothesis.conclusions(made_up())]
    claims = [c.claim for c in gender_hypothesis.conclusions(made_up())]
    assert claims == [*paper.CLAIMS[2:4], None]  # the control is our own question
    assert verdicts == ["reproduced"] * 3
    verdicts = [c.verdict() for c in gender_hypothesis.conclusions(made_up({**RATES, "scaled": 0.975}))]
    assert verdicts == ["not reproduced"] * 3
    assert {c.verdict() for c in gender_hypothesis.conclusions(made_up(), not_applicable="demo")} == {"not applicable"}


def test_conclusions_follow_the_silent_edge_alone():
    both = pd.concat([made_up(), made_up({**RATES, "scaled": 1.0}, edge="repeat")])
    assert gender_hypothesis.conclusions(both) == gender_hypothesis.conclusions(made_up())


def test_contrasts_are_paired_per_speaker():
    scaled, original = (made_up().query("condition == @c").set_index(["split", "speaker", "recording"])["right"]
                        for c in ("scaled", "original"))  # fmt: skip
    d = (scaled.astype(int) - original.astype(int)).groupby(["split", "speaker"]).mean()
    first = gender_hypothesis.conclusions(made_up())[0].estimate
    assert first.mean == pytest.approx(100 * d.mean()) and first.speakers == len(d) == 12
    assert first.p == pytest.approx(2 / 2**12)  # every speaker falls


def test_the_bars_stand_around_their_ticks_and_have_the_heights_of_the_means():
    answers = made_up()
    figure = gender_hypothesis.draw_accuracies(answers)
    figures.assert_looks(figure, "gender_accuracies")
    (axes,) = figure.axes
    bars = {}
    for bar in axes.patches:
        bars.setdefault(round(bar.get_x() + bar.get_width() / 2), []).append(bar)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["female speakers", "male speakers", "both"]
    for place, gender in zip(axes.get_xticks(), ("female", "male", None), strict=True):
        own = bars[round(place)]
        assert np.mean([bar.get_x() + bar.get_width() / 2 for bar in own]) == pytest.approx(place)
        group = answers if gender is None else answers[answers["gender"] == gender]
        means = [group[group["condition"] == condition]["right"].mean() for condition in RATES]
        assert [bar.get_height() for bar in own] == pytest.approx([100 * mean for mean in means])
    table = gender_hypothesis.estimates(answers, 0).set_index(["condition", "gender"])
    wanted = [table.loc[condition, gender] for condition in RATES for gender in ("female", "male", "both")]
    lines = [line for collection in axes.collections for line in collection.get_segments()]  # of the intervals
    ends = [tuple(line[:, 1]) for line in lines]
    assert ends == [pytest.approx((row["low"], row["high"])) for row in wanted]


def test_the_legend_names_every_condition_where_no_woman_is_tested():
    answers = made_up()
    figure = gender_hypothesis.draw_accuracies(answers[answers["gender"] == "male"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(RATES)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["male speakers", "both"]


def test_recordings_are_read_once_for_all_edges(setting, monkeypatch):
    run = trained_runs(setting, "AlexNet", "gender")[0]
    names, read = [], type(run).read
    monkeypatch.setattr(type(run), "read", lambda self, own: names.extend(own) or read(self, own))
    frame = gender_hypothesis.answers([run], edges=tuple(gender_hypothesis.EDGES))
    assert sorted(names) == sorted(run.listed())
    assert len(frame) == 5 * len(names)


def test_pictures_and_table_are_of_the_scaled_spectrograms_and_the_true_gender(setting):
    outcome = gender_hypothesis.make(setting)
    run = trained_runs(setting, "AlexNet", "gender")[0]
    recordings = run.examples()
    figure, _ = outcome.figures["examples"]
    panels = iter(figure.axes)
    for index, gender in enumerate((FEMALE, MALE)):
        for factor in (1, (1.5, 0.66)[gender], (0.66, 1.5)[gender]):
            item = recordings.data[index, 0]
            shown = next(panels).images[0].get_array()
            np.testing.assert_allclose(shown, stretched(item, factor, item.min()), rtol=0, atol=1e-4)
    table = outcome.tables["explanations"]
    assert table["condition"].unique().tolist() == list(gender_hypothesis.CONDITIONS)
    assert table["target"].tolist() == table["gender"].tolist() == ["female", "male"] * 3
    assert len(outcome.conclusions) == 3 and {c.verdict() for c in outcome.conclusions} == {"not applicable"}
    edges = outcome.tables["estimates"].groupby("edge")["condition"].unique()
    assert {edge: list(found) for edge, found in edges.items()} == {
        "silence": ["original", "scaled", "control"],
        "repeat": ["scaled", "control"],
    }


def test_findings_come_in_the_order_of_the_conditions():
    """What is scaled is read after what it is compared with; other ways to fill the top come last."""
    frame = pd.concat([made_up(), made_up(edge="repeat")[lambda rows: rows["condition"] != "original"]])
    sentences = gender_hypothesis.findings(gender_hypothesis.estimates(frame, 0))
    assert [text.partition(":")[0] for text in sentences] == [
        "Frequency axis original",
        "Frequency axis scaled",
        "Frequency axis control",
        "Frequency axis scaled, its empty top filled by repeat",
        "Frequency axis control, its empty top filled by repeat",
    ]
