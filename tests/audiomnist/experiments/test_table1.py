"""Table 1: accuracies by speaker, beside the paper's, on made-up answers and on a study in miniature."""

import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from audiomnist.experiments import table1
from audiomnist.runs.summary import Result
from audiomnist.study import paper
from audiomnist.study.outcome import carry_out
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs
from tests import figures
from tests.small_study import ACCURACY


def made_up(network, task, accuracies, recordings=20):
    """Answers of a network: accuracies is {split: one for each speaker}; the first half of the speakers are women."""
    return pd.DataFrame(
        {
            "network": network, "task": task, "split": split, "speaker": f"{split}_{k}", "recording": f"{k}_{number}",
            "gender": "female" if k < len(own) / 2 else "male", "right": number < round(accuracy * recordings),
        }
        for split, own in accuracies.items()
        for k, accuracy in enumerate(own)
        for number in range(recordings)
    )  # fmt: skip


@pytest.fixture
def comparable(monkeypatch):
    """As if the recordings, splits and trainings were the paper's."""
    monkeypatch.setattr(paper, "not_comparable", lambda *_: None)


def verdicts(answers):
    return {c.statement: c.verdict() for c in table1.conclusions(answers, [], Setting())}


def test_the_table_has_our_accuracy_by_speaker_and_the_logged_one_over_splits():
    values = [0.95, 0.90, 0.97, 0.99, 0.94]
    results = [Result("AlexNet", "digit", k, 10, value, 0.1, f"AlexNet_digit_{k}") for k, value in enumerate(values)]
    results.append(Result("AudioNet", "digit", 0, 10, 0.96, 0.1, "AudioNet_digit_0"))
    alex = made_up("AlexNet", "digit", {k: [0.9, 1.0, 0.8] for k in range(5)})
    audio = made_up("AudioNet", "digit", {0: [0.5]})
    alex, audio = table1.table(results, pd.concat([audio, alex])).to_dict("records")
    assert alex["logged_mean"] == pytest.approx(95.0) and alex["splits"] == 5 and alex["speakers"] == 15
    assert alex["population_std"] == pytest.approx(100 * np.std(values))
    assert alex["sample_std"] == pytest.approx(100 * np.std(values, ddof=1))
    assert (alex["lowest"], alex["highest"]) == (90, 99)
    assert (alex["paper_mean"], alex["paper_std"]) == (95.82, 1.49)
    assert alex["accuracy"] == pytest.approx(90) and alex["low"] < 90 < alex["high"]
    assert alex["difference"] == pytest.approx(90 - 95.82)
    assert math.isnan(audio["population_std"]) and math.isnan(audio["low"]) and audio["accuracy"] == 50


def test_verdicts_follow_the_answers(comparable):
    good = {k: [0.95, 0.96, 0.97, 0.95, 0.97, 0.96] for k in range(5)}
    poor = {k: [0.80, 0.85, 0.82, 0.81, 0.84, 0.83] for k in range(5)}
    answers = pd.concat([made_up("AlexNet", "digit", good, 100), made_up("AudioNet", "digit", poor, 100)])
    assert verdicts(answers) == {
        "AlexNet on digit is as accurate as in the paper, 95.82 ± 1.49 %": "reproduced",
        "AudioNet on digit is as accurate as in the paper, 92.53 ± 2.04 %": "not reproduced",
        "on digit the spectrogram network is more accurate than the waveform network": "reproduced",
    }
    claims = [c.claim for c in table1.conclusions(answers, [], Setting())]
    assert claims == [None, None, paper.CLAIMS[0]]  # intervals alone are in no family of tests
    answers["network"] = answers["network"].map({"AlexNet": "AudioNet", "AudioNet": "AlexNet"})
    assert list(verdicts(answers).values())[-1] == "not reproduced"


@pytest.mark.parametrize("tasks", [("digit",), ("digit", "gender")])
def test_the_legend_fits_into_the_picture(tasks):
    answers = pd.concat([made_up("AlexNet", task, {0: [0.9, 0.8, 0.7, 0.9]}) for task in tasks])
    figure = table1.draw(answers)
    FigureCanvasAgg(figure).draw()
    extent = figure.legends[0].get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width


def test_networks_are_compared_over_common_splits_only(comparable):
    # over all of its splits AlexNet is better, over those that both have it is worse
    alex = made_up("AlexNet", "gender", {0: [0.6] * 6, 1: [0.6] * 6, 2: [1.0] * 6, 3: [1.0] * 6})
    audio = made_up("AudioNet", "gender", {0: [0.7] * 6, 1: [0.7] * 6})
    *_, contrast = table1.conclusions(pd.concat([alex, audio]), [], Setting())
    assert contrast.estimate.mean == pytest.approx(-10) and contrast.estimate.speakers == 12
    assert contrast.verdict() == "not reproduced"
    audio["split"] += 4
    assert len(table1.conclusions(pd.concat([alex, audio]), [], Setting())) == 2  # no split in common, no contrast


def test_the_picture_holds_the_speakers_the_means_and_the_paper():
    answers = pd.concat(
        [
            made_up("AlexNet", "digit", {0: [0.5, 0.9, 0.7, 0.8], 1: [0.6, 0.95, 0.75, 0.85]}),
            made_up("AudioNet", "digit", {0: [0.1, 0.2, 0.3, 0.4]}),
            made_up("AudioNet", "gender", {3: [0.1, 0.2, 0.3, 0.4]}),
        ]
    )
    figure = table1.draw(answers)
    figures.assert_looks(figure, "table1")
    panels = [axes for axes in figure.axes if axes.axison]
    titles = ["AlexNet (spectrogram), digit", "AudioNet (waveform), digit", "AudioNet (waveform), gender"]
    assert [axes.get_title() for axes in panels] == titles
    assert len({axes.get_ylim() for axes in panels}) == 1  # one scale for what is compared
    for axes, (network, task) in zip(panels, table1.groups(answers), strict=True):
        own = table1.of(answers, network, task)
        means = own.groupby(["split", "speaker"])["right"].mean()
        ticks = dict(zip((t.get_text() for t in axes.get_xticklabels()), axes.get_xticks(), strict=True))
        places = {f"split {split}": means[split] for split in means.index.unique("split")}
        assert list(ticks) == [*places, "all"]
        bars = {round(x): y for x, y in (bar.lines[0].get_xydata()[0] for bar in axes.containers)}
        for label, part in {**places, "all": means}.items():
            assert bars[ticks[label]] == pytest.approx(100 * part.mean()), label
        dots = [line for line in axes.lines if line.get_label() in ("a female speaker", "a male speaker")]
        drawn = [y for line in dots for y in line.get_ydata()]
        assert sorted(drawn) == pytest.approx(sorted(100 * means))
        for line in dots:
            gender = line.get_label().split()[1]
            assert line.get_color() == table1.COLOURS[gender]
            split = round(line.get_xdata().mean() + 0.15)
            chosen = own[(own["gender"] == gender) & (own["split"] == sorted(own["split"].unique())[split])]
            assert sorted(line.get_ydata()) == pytest.approx(sorted(100 * chosen.groupby("speaker")["right"].mean()))
    low, high = panels[0].patches[0].get_extents().transformed(panels[0].transData.inverted()).intervaly
    assert (low, high) == pytest.approx((95.82 - 1.49, 95.82 + 1.49))


def test_answers_are_those_of_a_plain_loop_and_the_log_is_held_against_them(small_study, tmp_path):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")
    outcome = table1.make(setting)
    answers = outcome.tables["recordings"]
    for run in trained_runs(setting):
        own = table1.of(answers, run.run.network, run.run.task)
        recordings = run.read(run.listed())
        said = [int(run.network.forward(item[None]).argmax()) for item in recordings.data]
        assert own["predicted"].tolist() == said
        assert own["label"].tolist() == recordings.labels[:, run.label_column].tolist()
        assert own["right"].tolist() == (own["label"] == own["predicted"]).tolist()
        assert set(own["weights_sha256"]) == {hashlib.sha256(run.weights.read_bytes()).hexdigest()}
        logged = 100 * ACCURACY[run.run.network]
        told = f"{run.run}: its log says {logged:.2f} %, its weights answer {100 * own['right'].mean():.2f} % of 6"
        assert any(text.startswith(told) for text in outcome.findings) == (logged != 100 * own["right"].mean())
    rows = outcome.tables["table1"]
    assert dict(zip(rows["network"] + rows["task"], rows["logged_mean"], strict=True)) == {
        network + task: 100 * value for network, value in ACCURACY.items() for task in ("digit", "gender")
    }
    assert {c.verdict() for c in outcome.conclusions} == {"not applicable"}
    assert len(outcome.conclusions) == 6


def test_runs_that_are_not_tested_are_an_error(small_study, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for run in (small_study / "runs").glob("AlexNet_*"):
        (runs / run.name).mkdir()
        for path in run.iterdir():
            if path.name != "test.log":
                (runs / run.name / path.name).symlink_to(path)
    with pytest.raises(ExperimentError, match="expected a tested run at least, got none"):
        table1.make(Setting(small_study / "data", small_study / "preprocessed", runs))


def test_another_accuracy_in_a_log_makes_the_table_again(small_study, tmp_path):
    import shutil

    shutil.copytree(small_study / "runs" / "AudioNet_gender_0", tmp_path / "runs" / "AudioNet_gender_0")
    setting = Setting(small_study / "data", small_study / "preprocessed", tmp_path / "runs")
    assert carry_out(table1.EXPERIMENT, setting, tmp_path / "out")[1]
    log = tmp_path / "runs" / "AudioNet_gender_0" / "test.log"
    log.write_text(log.read_text().replace("accuracy = 0.5", "accuracy = 0.25"))
    folder, made = carry_out(table1.EXPERIMENT, setting, tmp_path / "out")
    assert made and pd.read_csv(folder / "table1.csv")["logged_mean"].tolist() == [25]
