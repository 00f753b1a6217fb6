"""The table of results: logs of both engines, means and deviations, summary.csv."""

import csv
import re

import numpy as np
import pytest

from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RunError
from audiomnist.runs.summary import Result, collect, main, mean_and_deviation, read_test_log, table

# what BVLC Caffe 1.0 logs at the end of `caffe test` (three iterations of AudioNet on real recordings) ...
ORIGINAL_LOG = """\
I1122 18:32:47.667475 11364 caffe.cpp:281] Running for 5 iterations.
I1122 18:32:50.533998 11364 caffe.cpp:304] Batch 0, accuracy = 0.1
I1122 18:32:50.534133 11364 caffe.cpp:304] Batch 0, loss = 44.0595
I1122 18:32:52.191421 11364 caffe.cpp:304] Batch 1, accuracy = 0.24
I1122 18:32:52.191509 11364 caffe.cpp:304] Batch 1, loss = 26.2454
I1122 18:32:53.922005 11364 caffe.cpp:304] Batch 2, accuracy = 0.05
I1122 18:32:53.922113 11364 caffe.cpp:304] Batch 2, loss = 58.7676
I1122 18:32:55.793576 11364 caffe.cpp:304] Batch 3, accuracy = 0.09
I1122 18:32:55.793630 11364 caffe.cpp:304] Batch 3, loss = 60.9912
I1122 18:32:56.960433 11364 caffe.cpp:304] Batch 4, accuracy = 0.26
I1122 18:32:56.960518 11364 caffe.cpp:304] Batch 4, loss = 35.2881
I1122 18:32:56.960522 11364 caffe.cpp:309] Loss: 45.0704
I1122 18:32:56.960525 11364 caffe.cpp:321] accuracy = 0.148
I1122 18:32:56.960532 11364 caffe.cpp:321] loss = 45.0704 (* 1 = 45.0704 loss)
"""
# ... and the project's engine
OWN_LOG = """\
I1122 18:31:03.821413 10447 cli.py:213] Batch 4, accuracy = 0.16
I1122 18:31:03.821565 10447 cli.py:213] Batch 4, loss = 45.1594
I1122 18:31:03.821625 10447 cli.py:220] Loss: 39.9285
I1122 18:31:03.821668 10447 cli.py:224] accuracy = 0.11
I1122 18:31:03.821694 10447 cli.py:224] loss = 39.9285 (* 1 = 39.9285 loss)
"""


def make_run(runs, name, accuracy, loss, iterations=7):
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "solver.prototxt").write_text(f'net: "x"\nmax_iter: {iterations}\n')
    log = ORIGINAL_LOG.replace("accuracy = 0.148", f"accuracy = {accuracy}")
    (folder / "test.log").write_text(log.replace("] loss = 45.0704 (* 1 = 45.0704", f"] loss = {loss} (* 1 = {loss}"))


def test_the_means_of_both_engines_are_read(tmp_path):
    (tmp_path / "test.log").write_text(ORIGINAL_LOG)
    scores = read_test_log(tmp_path / "test.log")
    assert scores == {"accuracy": 0.148, "loss": 45.0704}
    for name, mean in scores.items():  # the oracle: the batches that the log itself names
        batches = [float(value) for value in re.findall(rf"Batch \d, {name} = (\S+)", ORIGINAL_LOG)]
        assert np.mean(batches) == pytest.approx(mean, rel=1e-5)
    (tmp_path / "test.log").write_text(OWN_LOG)
    assert read_test_log(tmp_path / "test.log") == {"accuracy": 0.11, "loss": 39.9285}


def test_a_cut_log_is_an_error(tmp_path):
    (tmp_path / "test.log").write_text("".join(ORIGINAL_LOG.splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="one without a mean loss"):
        read_test_log(tmp_path / "test.log")
    (tmp_path / "test.log").write_text("".join(ORIGINAL_LOG.splitlines(keepends=True)[:-2]))
    with pytest.raises(RunError, match="one without a mean accuracy and loss"):
        read_test_log(tmp_path / "test.log")


@pytest.mark.parametrize("count", [2, 4, 5])
def test_mean_and_deviation_are_numpys(count):
    values = list(np.random.default_rng(count).uniform(0, 100, count))
    assert mean_and_deviation(values) == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)


def test_one_value_has_no_deviation():
    mean, deviation = mean_and_deviation([3.0])
    assert mean == 3
    assert np.isnan(deviation)
    assert "±" not in table([Result("AlexNet", "accent", 0, 1, 0.5, 1.0, "AlexNet_accent_0")]).splitlines()[-2]


def test_command_writes_table_and_csv(tmp_path, capsys):
    for split, accuracy in ((1, 0.9), (0, 0.8)):
        make_run(tmp_path, f"AudioNet_gender_{split}", accuracy, 0.5)
    make_run(tmp_path, "AlexNet_digit_10", 0.7, 0.25)
    make_run(tmp_path, "notes", 0.1, 0.1)  # no run's name
    (tmp_path / "AlexNet_digit_3").mkdir()  # not tested yet
    assert main([str(tmp_path)]) == 0
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["network", "task", "split", "iterations", "accuracy", "loss", "run"],
        ["AlexNet", "digit", "10", "7", "0.7", "0.25", "AlexNet_digit_10"],
        ["AudioNet", "gender", "0", "7", "0.8", "0.5", "AudioNet_gender_0"],
        ["AudioNet", "gender", "1", "7", "0.9", "0.5", "AudioNet_gender_1"],
    ]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["AlexNet", "digit", "1", "70.00", "95.82", "±", "1.49"] in lines
    assert ["AudioNet", "gender", "2", "85.00", "±", "5.00", "91.74", "±", "8.60"] in lines


def test_a_diverged_run_is_named(tmp_path, capsys):
    make_run(tmp_path, "AlexNet_digit_0", 0.1, "nan")
    assert main([str(tmp_path)]) == 1
    assert "AlexNet_digit_0 is no number: the training diverged" in capsys.readouterr().err


def test_no_runs(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "expected at least one tested run, got none" in capsys.readouterr().err
    assert collect(tmp_path) == []


def test_published_figures_are_the_papers():
    published = {(name, task): figure for name, n in NETWORKS.items() for task, figure in n.published.items()}
    assert published == {
        ("AlexNet", "digit"): (95.82, 1.49),
        ("AlexNet", "gender"): (95.87, 2.85),
        ("AudioNet", "digit"): (92.53, 2.04),
        ("AudioNet", "gender"): (91.74, 8.60),
    }
