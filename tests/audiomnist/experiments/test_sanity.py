"""The sanity checks: new weights, cascades, and verdicts, on a study in miniature and on made-up numbers."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import sanity
from audiomnist.explain.similarity import cosine
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import Estimate
from audiomnist.study.trained import trained_runs
from caffe_proto import read_net, read_weights
from lrp import Network
from tests import figures


@pytest.fixture
def run(small_study):
    setting = Setting(
        small_study / "data", small_study / "preprocessed", small_study / "runs", composites=("epsilon_plus",)
    )
    return trained_runs(setting, "AudioNet", "gender")[0]


# --- new weights -----------------------------------------------------------------------------------------------------


def test_new_weights_come_from_the_networks_own_fillers(run):
    drawn, trained = sanity.new_weights(run, 3), read_weights(run.weights)
    assert {n: [a.shape for a in arrays] for n, arrays in drawn.items()} == {
        n: [a.shape for a in arrays] for n, arrays in trained.items() if arrays
    }
    fillers = {layer.name: layer for layer in read_net(run.folder / "train.prototxt").layer}
    for name, (weight, bias) in drawn.items():
        layer = fillers[name]
        given = layer.convolution_param if layer.HasField("convolution_param") else layer.inner_product_param
        assert given.weight_filler.type == "gaussian"
        apart = 5 * given.weight_filler.std / math.sqrt(2 * weight.size)  # standard errors of a deviation
        assert weight.std() == pytest.approx(given.weight_filler.std, abs=apart), name
        assert abs(weight.mean()) < 5 * given.weight_filler.std / math.sqrt(weight.size), name
        assert np.all(bias == given.bias_filler.value), name
    again, other = sanity.new_weights(run, 3), sanity.new_weights(run, 4)
    assert all(np.array_equal(drawn[n][0], again[n][0]) and not np.array_equal(drawn[n][0], other[n][0]) for n in drawn)


def test_cascades_go_down_from_the_top_and_up_from_the_bottom():
    assert list(sanity.cascades(["a", "b", "c"])) == [
        ("top down", 1, ("c",)),
        ("top down", 2, ("b", "c")),
        ("top down", 3, ("a", "b", "c")),
        ("bottom up", 1, ("a",)),
        ("bottom up", 2, ("a", "b")),
    ]


def test_the_margin_is_explained_by_the_difference_of_both_classes(run):
    """LRP is linear in its start, so that the picture of the margin needs no pass of its own."""
    x = run.read(run.listed()[:2]).data
    scores = run.network.forward(x)
    pair = [sanity.relevance(run.network, x, np.array([k, k]), "epsilon_plus") for k in (0, 1)]
    start = scores * np.array([1, -1], np.float32)
    wanted = run.network.relevance(x, start, "epsilon_plus").relevance
    np.testing.assert_allclose(pair[0] - pair[1], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_what_is_measured_of_a_batch(run, monkeypatch):
    """Slow twin: the networks, the pairs and the nulls put together by hand."""
    monkeypatch.setattr(sanity, "cascades", lambda layers: [("top down", len(layers), tuple(layers))])
    recordings = run.read(run.listed()[:3])
    found, single = sanity.measure_batch(run, recordings, ["epsilon_plus", "gradient"], [7], None)
    table, single = pd.concat(found), pd.concat(single)
    x, scores = recordings.data, run.network.forward(recordings.data)
    best = scores.argmax(axis=1)
    own = [sanity.relevance(run.network, x, best, m) for m in ("epsilon_plus", "gradient")]
    new = Network(run.deploy, sanity.new_weights(run, 7))
    for method, relevance in zip(("epsilon_plus", "gradient"), own, strict=True):
        part = table[table["method"] == method]
        assert part["direction"].tolist() == ["top down"] * 3 + ["energy map"] * 3 + ["another recording"] * 3
        other = sanity.relevance(new, x, best, method)
        for direction, against in (
            ("top down", other),
            ("another recording", relevance[[2, 0, 1]]),
            ("energy map", x**2),
        ):
            wanted = sanity.alike(relevance, against, x != 0)
            for name in sanity.MEASURES:
                np.testing.assert_allclose(part[part["direction"] == direction][name], wanted[name], atol=1e-6)
        rival = sanity.relevance(run.network, x, 1 - best, method)
        assert single["classes"].unique().tolist() == [2]
        rows = single[single["method"] == method]
        np.testing.assert_allclose(rows["contrast"], cosine(relevance, rival), atol=1e-6)
        before, after = (sanity.histogram_entropy(np.abs(values)) for values in (relevance, other))
        np.testing.assert_allclose(rows["complexity_rise"], (after - before) / before)
        np.testing.assert_allclose(rows["complexity"], before)


def test_batches_are_put_together(run, monkeypatch):
    def batch(run, recordings, methods, seeds, permuted):
        rows = pd.DataFrame({"recording": recordings.names})
        return [rows, rows], [rows.assign(methods=len(methods), seeds=len(seeds))]

    monkeypatch.setattr(sanity, "measure_batch", batch)
    monkeypatch.setattr(sanity, "AT_ONCE", 3)
    names, composites = run.listed(), len(run.setting.composites)
    measured = sanity.measure([run])
    assert len(names) > 3 and measured.single["recording"].tolist() == names
    assert sorted(measured.alike["recording"]) == sorted(2 * names)
    assert (measured.single["methods"] == composites + 3).all() and (measured.single["split"] == 0).all()
    for frame in (measured.alike, measured.single):
        assert frame.index.tolist() == list(range(len(frame)))


def test_a_network_of_permuted_labels_is_found_beside_the_runs(run, tmp_path):
    assert sanity.permuted_run(run) is None
    permuted = shutil.copytree(run.folder, tmp_path / "runs_permuted" / str(run.run)) / "run.json"
    record = json.loads(permuted.read_text())
    record["origin"]["recordings"] = dict.fromkeys(("train", "validate", "test"), "those of permuted labels")
    permuted.write_text(json.dumps(record))
    run.setting = Setting(run.setting.data, run.setting.preprocessed, tmp_path / "runs")
    weights = tmp_path / "runs_permuted" / str(run.run) / run.weights.relative_to(run.folder)
    assert sanity.permuted_run(run).weights_file == str(weights)


# --- verdicts --------------------------------------------------------------------------------------------------------


def between(low, high):
    return Estimate((low + high) / 2, low, high, 1, 9, 9)


@pytest.mark.parametrize(
    "contrast, above, wanted",
    [
        ((0.1, 0.4), (-0.1, 0.05), "class-specific"),
        ((0.1, 0.6), (-0.1, 0.05), "undecided"),
        ((0.6, 0.8), (-0.1, 0.05), "not class-specific"),
        ((0.1, 0.4), (0.05, 0.3), "undecided"),
        ((0.1, 0.4), (0.2, 0.3), "not class-specific"),
        ((math.nan, math.nan), (-0.1, 0.05), "undecided"),
    ],
)
def test_verdicts(contrast, above, wanted):
    assert sanity.verdict(between(*contrast), between(*above), 10) == wanted


@pytest.mark.parametrize("contrast", [(-1.0, -0.9), (0.9, 1.0)])
@pytest.mark.parametrize("above, wanted", [((-0.1, 0.05), "undecided"), ((0.2, 0.3), "not class-specific")])
def test_of_two_classes_the_contrast_decides_nothing(contrast, above, wanted):
    assert sanity.verdict(between(*contrast), between(*above), 2) == wanted


def test_a_network_of_two_classes_is_undecided_with_the_reason(monkeypatch):
    monkeypatch.setattr(sanity.paper, "not_comparable", lambda *_: None)
    measured = made_up(0.15, 0.1, -0.9)
    measured.single["classes"] = 2
    table = sanity.summary(measured, 0)
    assert table["verdict"].tolist() == ["undecided"]
    both = pd.concat([table, table.assign(network="M")])
    said = [line for line in sanity.findings(both) if "has two classes, whose contrast decides nothing" in line]
    assert [line.partition(" ")[0] for line in said] == ["N", "M"]  # in the table's order
    (one,) = sanity.conclusions(measured, table, Setting(), [])
    assert "depends on what was learnt" in one.statement
    contrast, above = sanity.draw_summary(table).axes[:2]
    assert len(contrast.lines) < len(above.lines)  # no limit is drawn


@pytest.mark.parametrize(
    "limit, demo, splits, wanted",
    [
        (None, False, 1, (100, 5)), (None, False, 4, (25, 5)), (None, False, 3, (34, 5)), (None, True, 1, (6, 2)),
        (0, True, 1, (None, 5)), (100, False, 5, (100, 5)), (99, False, 1, (99, 2)), (3, True, 1, (3, 2)),
    ],
)  # fmt: skip
def test_how_much_is_looked_at(tmp_path, limit, demo, splits, wanted):
    if demo:
        (tmp_path / "demo_corpus.json").touch()
    assert sanity.extent(Setting(tmp_path, limit=limit), splits) == wanted
    assert "6 recordings of a run with 2 sets" in sanity.DEMO


def made_up(full, other, contrast):
    rng = np.random.default_rng(0)
    alike, single = [], []
    for speaker in range(8):
        for take in range(2):
            about = {"network": "N", "task": "t", "method": "m", "split": 0, "speaker": speaker, "recording": take}
            for direction, layers, value in (
                ("top down", 1, 0.9),
                ("top down", 2, full),
                ("bottom up", 1, 0.9),
                ("another recording", 0, other),
                ("energy map", 0, 0.5),
            ):
                values = {name: value + 0.02 * rng.normal() for name in sanity.MEASURES}
                alike.append(about | {"direction": direction, "layers": layers, "weights_seed": 0} | values)
            single.append(
                about
                | {"classes": 10, "contrast": contrast + 0.02 * rng.normal(), "complexity": 3.0, "complexity_rise": 0.2}
            )
    return sanity.Measured(pd.DataFrame(alike), pd.DataFrame(single))


def test_what_all_new_weights_leave_is_held_against_another_recording(monkeypatch):
    table = sanity.summary(made_up(0.15, 0.1, 0.2), 0)
    (row,) = table.to_dict("records")
    assert row["above_null"] == pytest.approx(0.05, abs=0.02) and row["verdict"] == "class-specific"
    assert row["energy"] == pytest.approx(0.5, abs=0.02) and np.isnan(row["permuted"])
    assert row["complexity_rise"] == pytest.approx(0.2)
    monkeypatch.setattr(sanity.paper, "not_comparable", lambda *_: None)
    made = sanity.conclusions(made_up(0.15, 0.1, 0.2), table, Setting(), [])
    assert [one.verdict() for one in made] == ["reproduced", "reproduced"]
    assert "audiomnist permute-labels" in " ".join(sanity.findings(table))
    (row,) = sanity.summary(made_up(0.7, 0.1, 0.2), 0).to_dict("records")
    assert row["verdict"] == "not class-specific"


def test_the_picture_shows_both_directions_and_the_null():
    figure = sanity.draw_cascades(made_up(0.15, 0.1, 0.2))
    assert figure.get_figwidth() >= 7  # of one column: the legend below it is that wide
    figures.assert_looks(figure, "sanity_cascades")
    axes = figure.axes[0]
    down, up, null = (line.get_ydata() for line in axes.lines[:3])
    np.testing.assert_allclose(down, [1, 0.9, 0.15], atol=0.02)
    np.testing.assert_allclose(up, [1, 0.9, 0.15], atol=0.02)
    assert axes.lines[2].get_marker() == "x" and null == pytest.approx(0.1, abs=0.02)
    measured = made_up(0.15, 0.1, 0.2)
    figure = sanity.draw_summary(sanity.summary(measured, 0))
    figures.assert_looks(figure, "sanity_summary")
    both = sanity.Measured(*(pd.concat([one, one.assign(network="M")]) for one in (measured.alike, measured.single)))
    figures.assert_looks(sanity.draw_cascades(both), "sanity_cascades_of_two")
    figures.assert_looks(sanity.draw_summary(sanity.summary(both, 0)), "sanity_summary_of_two")
    contrast = figure.axes[0]
    assert contrast.lines[0].get_xdata() == pytest.approx(0.2, abs=0.02)
