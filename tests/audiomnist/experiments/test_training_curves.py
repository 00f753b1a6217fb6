"""Training curves: read from logs, drawn, told."""

import pandas as pd
import pytest

from audiomnist.experiments import training_curves
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs
from tests import figures


def test_curves_of_a_continued_training_count_the_later_lines(tmp_path):
    log = tmp_path / "train.log"
    prefix = "I0101 00:00:00.000000     1 solver.cpp:1] "
    lines = [
        "Iteration 0 (0 iter/s, 0s/10 iters), loss = 9",
        "Iteration 10, Testing net (#0)",
        "    Test net output #0: accuracy = 0.1",
        "Iteration 10 (1 iter/s, 1s/10 iters), loss = 8",
        "Iteration 10, Testing net (#0)",
        "    Test net output #0: accuracy = 0.2",
        "    Test net output #1: loss = 2 (* 1 = 2 loss)",
        "Iteration 10 (1 iter/s, 1s/10 iters), loss = 7",
        "Iteration 20, loss = 6.5",
        "    Train net output #0: loss = 6.5 (* 1 = 6.5 loss)",
    ]
    log.write_text("\n".join(prefix + line for line in lines))
    frame = training_curves.read_curves(log)
    assert sorted(map(tuple, frame.values.tolist())) == [
        (0, "training loss", 9.0),
        (10, "training loss", 7.0),
        (10, "validation accuracy", 0.2),
        (10, "validation loss", 2.0),
        (20, "training loss", 6.5),
    ]
    log.write_text("nothing\n")
    with pytest.raises(ExperimentError, match="expected Caffe's lines of progress, got none"):
        training_curves.read_curves(log)


def test_findings_tell_the_last_validation_of_each_run(small_study):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")
    outcome = training_curves.make(setting)
    assert outcome.findings == [
        f"{run.run.network} on {run.run.task}, split 0: validation accuracy 50.0 % at iteration 20."
        for run in trained_runs(setting)
    ]


def test_the_picture_holds_the_curves():
    frame = pd.DataFrame(
        [
            ("AlexNet", "gender", split, iteration, quantity, value + split)
            for split in (0, 1)
            for quantity, values in {"training loss": (3, 2, 1), "validation accuracy": (0.1, 0.2, 0.3)}.items()
            for iteration, value in zip((0, 10, 20), values, strict=True)
        ],
        columns=["network", "task", "split", *training_curves.COLUMNS],
    )
    figure = training_curves.draw(frame)
    figures.assert_looks(figure, "training_curves")
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["split 0", "split 1"]
    assert loss.lines[1].get_xydata().tolist() == [[0, 4], [10, 3], [20, 2]]
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([10, 20, 30])
    assert accuracy.lines[2].get_ydata()[0] == 50  # chance of two classes
