"""The faithfulness experiment: what it measures on a study in miniature, and what it says of made-up numbers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import faithfulness
from audiomnist.experiments.faithfulness import MAIN, VARIANTS
from audiomnist.explain.faithfulness import LEAST, MATCHED, MOST, RIVAL, SHARES, Parts, area, curves
from audiomnist.study.setting import Setting
from audiomnist.study.trained import trained_runs
from tests import figures


@pytest.fixture(scope="module")
def setting(small_study):
    return Setting(
        small_study / "data", small_study / "preprocessed", small_study / "runs", limit=4, composites=("epsilon_plus",)
    )


@pytest.fixture
def run(setting):
    return trained_runs(setting, "AudioNet", "gender")[0]


@pytest.fixture
def small(monkeypatch):
    """One variant, three shares, and no protocol of others: what takes the time is not what is looked at."""
    monkeypatch.setattr(faithfulness, "VARIANTS", (MAIN,))
    monkeypatch.setattr(faithfulness, "published_batch", lambda run, recordings, forward: {})


# --- what is measured ------------------------------------------------------------------------------------------------


def test_the_predicted_class_is_explained_and_followed_or_the_true_one_if_asked(run, small):
    recordings = run.read([run.listed()[k] for k in (0, 1, 4, 6)])  # of each gender one that is right and one wrong
    forward = run.network.forward
    scores, labels = forward(recordings.data), recordings.labels[:, 1]
    assert (scores.argmax(axis=1) == labels).tolist() == [True, False, True, False]
    for of_label, target in ((False, scores.argmax(axis=1)), (True, labels)):
        keys, found = faithfulness.measure_batch(run, recordings, forward, of_label)
        at = keys.index((*MAIN, "epsilon_plus", MOST))
        relevance = run.network.relevance(recordings.data, target, "epsilon_plus").relevance
        parts = Parts(recordings.data, MAIN[0])
        wanted = curves(forward, parts, target, parts.order(relevance), MAIN[1])
        np.testing.assert_array_equal(found["right"][:, at], wanted.right)
        np.testing.assert_allclose(found["margin"][:, at], wanted.margin)
        np.testing.assert_array_equal(
            found["right"][:, :, 0], np.repeat((target == scores.argmax(1))[:, None], len(keys), 1)
        )


def test_every_variant_has_each_composites_score_and_the_main_one_all_orders(run):
    recordings = run.read(run.listed()[:1])
    keys, found = faithfulness.measure_batch(run, recordings, run.network.forward)
    assert len(set(keys)) == len(keys) == found["right"].shape[1] and found["right"].shape[2] == len(SHARES)
    for variant in VARIANTS:
        kinds = {kind for units, replacement, source, kind in keys if (units, replacement) == variant}
        assert kinds >= {MOST, LEAST} and ({MATCHED, RIVAL} <= kinds) == (variant == MAIN)
    assert {source for *_, source, _ in keys} == {"epsilon_plus", "amplitude", "random"}


def test_batches_do_not_show_and_the_seed_does(run, small, monkeypatch):
    three = run.listed()[2:5]
    monkeypatch.setattr(run, "listed", lambda limit=None: three)
    whole = faithfulness.measure_run(run, None, None)
    monkeypatch.setattr(faithfulness, "AT_ONCE", 2)
    parts = faithfulness.measure_run(run, None, None)
    assert len(parts.scores["recording"].unique()) == 3
    pd.testing.assert_frame_equal(whole.scores, parts.scores, rtol=1e-4, atol=1e-5)
    run.setting = dataclasses.replace(run.setting, seed=1)
    other = faithfulness.measure_run(run, None, None)

    def energies(measured, source):
        own = measured.curves[(measured.curves["source"] == source) & (measured.curves["kind"] == MOST)]
        return own["energy"].to_numpy()

    assert not np.array_equal(energies(whole, "random"), energies(other, "random"))
    np.testing.assert_array_equal(energies(whole, "epsilon_plus"), energies(other, "epsilon_plus"))


def test_a_stopped_measurement_goes_on(run, small, monkeypatch, tmp_path):
    def batch(run, recordings, forward):
        """Numbers that are the recordings' own, in place of passes through the network."""
        calls.append(recordings.names)
        if len(calls) == stop:
            raise KeyboardInterrupt
        values = np.abs(recordings.data).mean(axis=(1, 2, 3))[:, None, None] * np.ones((1, 2, len(SHARES)))
        arrays = {"right": values > 0.1, "margin": values, "energy": values, "known": values[:, 0, 0] > 0.1}
        return [(*MAIN, "epsilon_plus", kind) for kind in (MOST, LEAST)], arrays

    monkeypatch.setattr(faithfulness, "AT_ONCE", 2)

    def published(run, recordings, forward):
        """In an order that is not the alphabet's."""
        values = np.abs(recordings.data).mean(axis=(1, 2, 3))
        return {name: np.outer(values, np.ones(20)) for name in ("time|c", "time|amplitude", "frequency|c")}

    monkeypatch.setattr(faithfulness, "measure_batch", batch)
    monkeypatch.setattr(faithfulness, "published_batch", published)
    monkeypatch.setattr(run, "scores", lambda: None)
    calls, stop = [], 0
    whole = faithfulness.measure([run], None)
    batches, calls, stop = calls, [], 3
    assert len(batches) > 2
    run.setting = dataclasses.replace(run.setting, kept=tmp_path / "faithfulness")
    with pytest.raises(KeyboardInterrupt):
        faithfulness.measure([run], None)
    assert calls == batches[:3]
    calls, stop = [], 0
    again = faithfulness.measure([run], None)
    assert calls == batches[2:] and list(tmp_path.iterdir()) == []
    pd.testing.assert_frame_equal(again.scores, whole.scores)
    pd.testing.assert_frame_equal(again.curves, whole.curves)
    pd.testing.assert_frame_equal(again.published, whole.published)


def test_the_published_protocol_starts_at_the_probability_of_the_true_class(run):
    recordings = run.read(run.listed()[:2])
    found = faithfulness.published_batch(run, recordings, run.network.forward)
    scores = run.network.forward(recordings.data).astype(np.float64)
    true = np.exp(scores[[0, 1], recordings.labels[:, 1]]) / np.exp(scores).sum(axis=1)
    curves_ = {name: values for name, values in found.items() if not name.startswith("complexity")}
    assert len(curves_) == 9 and all(values.shape == (2, 20) for values in curves_.values())
    for name, values in curves_.items():
        np.testing.assert_allclose(values[:, 0], true, rtol=1e-3, err_msg=name)
        assert np.ptp(values) > 0, name


def test_what_is_measured_becomes_rows_of_speakers_recordings_and_the_protocol():
    about = SimpleNamespace(measured_from={"network": "AudioNet"}, task=SimpleNamespace(classes=tuple("0123456789")))
    keys = [(*MAIN, "c", kind) for kind in (MOST, LEAST)]
    names = ["02/a", "01/b", "02/c"]
    values = np.arange(3.0)[:, None, None] + np.zeros((3, 2, len(SHARES)))
    arrays = {"right": values / 2, "margin": 1 + values, "energy": 10 * values, "known": np.array([True, False, True])}
    arrays |= {"time|c": np.stack([np.linspace(1, 0, 20), np.linspace(0.5, 0, 20), np.zeros(20)])}
    arrays |= {"complexity time|c": np.array([1.0, 2.0, 6.0])}
    made = faithfulness.summarised(about, keys, arrays, names)
    assert made.scores[["speaker", "recording"]].to_numpy().tolist() == [[name[:2], name] for name in names]
    assert list(made.scores)[:5] == ["network", "recordings_known", "recordings_of_run", "speaker", "recording"]
    by_speaker = made.curves.groupby("speaker")[["right", "margin", "energy"]].agg(["min", "max"])
    assert by_speaker.loc["01"].tolist() == [0.5, 0.5, 2, 2, 10, 10]
    assert by_speaker.loc["02"].tolist() == [0.5, 0.5, 2, 2, 10, 10]  # of 0 and 2
    protocol = made.published
    assert (protocol["domain"] == "time").all() and (protocol["source"] == "c").all() and len(protocol) == 20
    np.testing.assert_allclose(protocol["share"], np.arange(20) / 20)
    np.testing.assert_allclose(protocol["probability"], np.linspace(0.5, 0, 20))
    np.testing.assert_allclose(protocol["area"], 0.5 / 2 * 0.95)
    assert (protocol["complexity"] == 3).all() and (protocol["recordings_known"] == 2).all()
    assert (protocol["recordings_of_run"] == 3).all()


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_scores_by_hand():
    shares = (0.0, 0.1, 0.3)
    heights = {MOST: [1, 0.5, 0.0], LEAST: [1, 1, 1], MATCHED: [1, 1, 0.5], RIVAL: [1, 1, 0.0]}
    keys = [("blocks", "silence", "r", kind) for kind in heights]
    right = np.array(list(heights.values()))[None]
    margin = np.stack([right[0] * 2, right[0] * 6])  # two recordings whose margins are 2 and 6: 4 on average
    arrays = {"right": np.repeat(right, 2, axis=0), "margin": margin}
    frame = faithfulness.scores_of(keys, arrays, 5, shares)
    most = (0.75 * 0.1 + 0.25 * 0.2) / 0.3
    assert frame["score"].tolist() == pytest.approx([(1 - most) / 0.8] * 2)
    assert frame["margin_score"].tolist() == pytest.approx([(1 - most) * 2 / 4, (1 - most) * 6 / 4])
    for scale, wanted in ((0.01, frame["margin_score"]), (0.0, [np.nan] * 2), (-1.0, [np.nan] * 2)):  # no unit
        other = faithfulness.scores_of(keys, arrays | {"margin": scale * margin}, 5, shares)["margin_score"]
        np.testing.assert_allclose(other, wanted)
    matched, rival = area([1, 1, 0.5], shares), area([1, 1, 0.0], shares)
    assert frame["beyond_energy"].tolist() == pytest.approx([(matched - most) / 0.8] * 2)
    assert frame["sign"].tolist() == pytest.approx([(rival - most) / 0.8] * 2)


def made_up(values, noise=0.02, network="AudioNet", splits=(0, 1)):
    """`Measured.scores` of the main variant: {source: (score by split, beyond energy)}, six speakers a split."""
    rng = np.random.default_rng(0)
    rows = []
    for source, (by_split, beyond) in values.items():
        for split in splits:
            for speaker in range(6):
                for take in range(3):
                    rows.append(
                        {
                            "network": network,
                            "task": "t",
                            "split": split,
                            "units": MAIN[0],
                            "replacement": MAIN[1],
                            "source": source,
                            "speaker": f"{split}{speaker}",
                            "recording": f"{speaker}_{take}",
                            "score": by_split[split] + noise * rng.normal(),
                            "margin_score": 0.0,
                            "beyond_energy": beyond + noise * rng.normal() if beyond is not None else np.nan,
                            "sign": np.nan,
                        }
                    )
    return faithfulness.Measured(pd.DataFrame(), pd.DataFrame(rows))


VALUES = {
    "good": ((0.2, 0.6), 0.1),
    "as good": ((0.2, 0.6), 0.0),
    "bad": ((0.0, 0.0), 0.1),
    "amplitude": ((0.1, 0.1), None),
    "random": ((0.0, 0.0), None),
}


def test_ranks_have_ties_and_means_count_every_split():
    table = faithfulness.summary(made_up(VALUES), 0).set_index("source")
    assert table["rank"].to_dict() == {"good": 1, "as good": 1, "amplitude": 3, "bad": 4, "random": 4}
    assert table.loc["good", "score"] == pytest.approx(0.4, abs=0.01)
    assert table.loc["good", "score_low"] < 0.4 < table.loc["good", "score_high"]
    assert np.isnan(table.loc["random", "beyond_energy"]) and table.loc["bad", "speakers"] == 12
    (sentence,) = faithfulness.findings(table.reset_index())
    assert "36 recordings of 12 speakers" in sentence
    by_rank = sentence.split("tie: ")[1].split(" Beyond energy")[0].split("; ")
    names = [{part.rpartition(" [")[0].rpartition(" ")[0] for part in tied.split(" = ")} for tied in by_rank]
    assert names == [{"good", "as good"}, {"amplitude"}, {"bad", "random"}]


def test_the_conclusion_needs_more_than_amplitude_chance_and_energy(monkeypatch):
    monkeypatch.setattr(faithfulness.paper, "not_comparable", lambda *_: None)
    setting = Setting()
    verdicts = {}
    for one in faithfulness.conclusions(made_up(VALUES), [], setting):
        verdicts.setdefault(one.statement.split("(")[1].split(")")[0], []).append(one.verdict())
    assert list(verdicts) == ["good", "as good", "bad"]  # in the order that was asked for
    assert verdicts["good"] == ["reproduced"] * 3  # by amplitude, at random, by parts of equal energy
    assert verdicts["as good"] == ["reproduced", "reproduced", "undecided"]
    assert verdicts["bad"] == ["not reproduced", "undecided", "reproduced"]
    assert faithfulness.conclusions(made_up(VALUES, network="AlexNet"), [], setting) == []


def test_the_first_composite_stands_for_the_paper_s_rules(monkeypatch):
    monkeypatch.setattr(faithfulness.paper, "not_comparable", lambda *_: None)
    monkeypatch.setattr(faithfulness, "DRAWS", 20)
    setting, claims = Setting(composites=("as good", "good", "bad")), []
    for task in ("digit", "gender", "accent"):
        measured = made_up(VALUES)
        measured.scores["task"] = task
        claims += [one.claim for one in faithfulness.conclusions(measured, [], setting) if one.claim]
    assert tuple(claims) == faithfulness.paper.CLAIMS[4:]


def test_tables_by_speaker_are_means_of_their_recordings():
    measured = made_up(VALUES)
    table = faithfulness.by_speaker(measured.scores)
    own = measured.scores[(measured.scores["source"] == "good") & (measured.scores["speaker"] == "13")]
    row = table[(table["source"] == "good") & (table["speaker"] == "13")].iloc[0]
    assert row["score"] == pytest.approx(own["score"].mean()) and row["recordings"] == 3
    assert len(table) == 5 * 12


def test_the_forest_plot_shows_scores_and_their_ends():
    table = faithfulness.summary(made_up(VALUES), 0)
    figure = faithfulness.draw_scores(table)
    figures.assert_looks(figure, "faithfulness_scores")
    (axes,) = figure.axes
    main = axes.containers[0]
    np.testing.assert_allclose(main.lines[0].get_xdata(), table["score"])
    ends = np.array([segment[:, 0] for segment in main.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, table[["score_low", "score_high"]])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["good", "as good", "bad", "amplitude", "random"]
    assert axes.get_yticks().tolist() == [4, 3, 2, 1, 0] and axes.get_ylim() == (-0.5, 4.5)  # the first on top
    for marks in axes.containers:  # each beside the name of its source, and apart from the other variants'
        beside = [names[4 - round(y)] for y in marks.lines[0].get_ydata()]
        assert beside in (table["source"].tolist(), table.dropna(subset=["beyond_energy"])["source"].tolist(), [])
    heights = [marks.lines[0].get_ydata()[0] % 1 for marks in axes.containers if len(marks.lines[0].get_ydata())]
    assert len(set(np.round(heights, 3))) == len(heights) == 2
    assert [line.get_ydata()[0] for line in axes.lines if line.get_color() == "0.9"] == [0.5, 1.5, 2.5, 3.5]


def test_networks_stand_in_the_forest_plot_as_in_the_table():
    both = [made_up(VALUES).scores.assign(network=network) for network in ("Zebra", "Ape")]
    table = faithfulness.summary(faithfulness.Measured(pd.DataFrame(), pd.concat(both)), 0)
    assert [axes.get_title() for axes in faithfulness.draw_scores(table).axes] == ["Zebra, t", "Ape, t"]


def test_margins_of_every_network_have_a_scale_of_their_own(monkeypatch):
    monkeypatch.setattr(faithfulness, "DRAWS", 20)
    orders = [("c", kind) for kind in faithfulness.SHOWN] + [
        (source, faithfulness.MOST) for source in faithfulness.BASELINES
    ]
    curves = pd.DataFrame(
        {
            "network": network, "task": "t", "split": 0, "units": MAIN[0], "replacement": MAIN[1], "source": source,
            "kind": kind, "speaker": speaker, "share": share, "right": 1 - share, "energy": share,
            "margin": 2 - steep * share,
        }
        for network, steep in (("AlexNet", 1), ("AudioNet", 100))
        for source, kind in orders
        for speaker in ("a", "b")
        for share in (0.0, 0.1, 0.3)
    )  # fmt: skip
    figure = faithfulness.draw_curves(faithfulness.Measured(curves, pd.DataFrame()), "c", 0)
    upper, lower = figure.axes[:2], figure.axes[2:4]
    assert upper[0].get_ylim() == upper[1].get_ylim() == (0, 103)
    assert [axes.get_ylim()[0] < -1000 for axes in lower] == [False, True]
    assert lower[1].lines[0].get_ydata() == pytest.approx([100, -400, -1400])  # percent of the margin of the whole


def curves_of(network, start):
    """`Measured.curves` of the main variant and another one: what is known of each kind falls in its own way."""
    rows = []
    kinds = [("c", kind) for kind in (MOST, faithfulness.MAGNITUDE, MATCHED, RIVAL, LEAST)]
    for number, (source, kind) in enumerate([*kinds, ("amplitude", MOST), ("random", MOST)], start=1):
        for variant in VARIANTS:
            for speaker in range(3):
                for share in (0.0, 0.1, 0.5):
                    known = 1 - share * number / 10 if variant == MAIN else 0.0
                    rows.append(
                        {"network": network, "task": "t", "split": 0, "units": variant[0], "replacement": variant[1],
                         "source": source, "kind": kind, "speaker": f"{speaker}", "recording": "r", "share": share,
                         "right": known, "margin": start * known, "energy": share / number}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_curves_show_answers_margin_and_energy_of_the_main_variant():
    """In the order of the frame, not of the alphabet; the margin in percent of that of whole recordings."""
    frame = pd.concat([curves_of("Zebra", 4.0), curves_of("Ape", 2.0)], ignore_index=True)
    figure = faithfulness.draw_curves(faithfulness.Measured(frame, pd.DataFrame()), "c", 0)
    figures.assert_looks(figure, "faithfulness_curves")
    names = ["most relevant first", "largest |R| first", "random of equal energy", "relevant for the rival first",
             "least relevant first", "largest amplitude first", "random"]  # fmt: skip
    uppers, seconds = figure.axes[:2], [axes for axes in figure.axes if axes.get_ylabel().startswith("energy")]
    assert [axes.get_title() for axes in uppers] == ["Zebra, t", "Ape, t"] and len(seconds) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    for upper, lower in zip(figure.axes[:2], figure.axes[2:4], strict=True):
        for number, (name, percent) in enumerate(zip(names, upper.lines, strict=True), start=1):
            assert percent.get_label() == name
            wanted = [100 * (1 - share * number / 10) for share in (0, 0.1, 0.5)]
            for line in (percent, lower.lines[number - 1]):
                np.testing.assert_allclose(line.get_xdata(), [0, 10, 50])
                np.testing.assert_allclose(line.get_ydata(), wanted)
        assert upper.get_ylim() == (0, 103)
    for second in figure.axes[4:]:
        assert second.get_ylim() == (0, 103)
        for number, line in enumerate(second.lines, start=1):
            np.testing.assert_allclose(line.get_ydata(), [100 * share / number for share in (0, 0.1, 0.5)])
            assert line.get_linestyle() == ":"


def test_the_published_picture_has_a_row_for_each_network_and_a_column_for_each_domain():
    """Means over the splits; networks and sources in the frame's order."""
    values = {"time": 0.8, "frequency, 60 Hz": 0.6, "time-frequency": 0.4}
    frame = pd.DataFrame(
        {
            "network": network, "task": "t", "split": split, "domain": domain, "source": source, "share": share,
            "probability": top * (1 - share) * (1.5 - split) * (1 if source == "c" else 0.5), "area": top + split,
        }
        for network in ("Zebra", "Ape")
        for domain, top in values.items()
        for source in ("c", "amplitude")
        for split in (0, 1)
        for share in (0.0, 0.25, 0.5)
    )  # fmt: skip
    figure = faithfulness.draw_published(frame)
    figures.assert_looks(figure, "faithfulness_published")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        f"{network}, t: {d}" for network in ("Zebra", "Ape") for d in ("time", "frequency", "time-frequency")
    ]
    for axes, top in zip(figure.axes, [*values.values()] * 2, strict=True):
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            f"c ({top + 0.5:.3f})", f"amplitude ({top + 0.5:.3f})",
        ]  # fmt: skip
        for line, factor in zip(axes.lines, (1, 0.5), strict=True):
            np.testing.assert_allclose(line.get_xdata(), [0, 25, 50])
            np.testing.assert_allclose(line.get_ydata(), [top * factor * (1 - share) for share in (0, 0.25, 0.5)])
        assert axes.get_xlabel() == "set to zero, of all values (%)" and axes.get_ylim() == (0, 1.02)
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["mean probability of the true class"] * 2
