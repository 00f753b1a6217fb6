"""What a trained run answers and which engine it asks, against the answers that the small study is made to give."""

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest

from audiomnist.study import trained
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs
from tests.small_study import ANSWERS, DIGITS, ITERATIONS, RUNS


@pytest.fixture(scope="module")
def setting(small_study):
    return Setting(small_study / "data", small_study / "preprocessed", small_study / "runs", engine="numpy")


@pytest.mark.parametrize("network, task", [("AlexNet", "gender"), ("AudioNet", "digit")])
def test_a_row_for_each_recording_says_who_spoke_what_and_what_was_answered(setting, network, task):
    (run,) = trained_runs(setting, network, task)
    found = run.answers()
    rows = []
    for k, said in enumerate(ANSWERS[str(run.run)]):
        speaker, gender, digit = ("05", "male", k) if k < len(DIGITS) else ("06", "female", k - len(DIGITS))
        label = digit if task == "digit" else int(gender == "female")
        rows.append({"split": 0, "recording": f"{digit}_{speaker}_0", "speaker": speaker, "gender": gender,
                     "digit": digit, "label": label, "predicted": said, "right": said == label})  # fmt: skip
    assert found.to_dict("records") == rows
    few = run.answers(limit=3)
    assert len(few) == 3 and all(row in rows for row in few.to_dict("records"))


def test_conditions_share_one_reading_of_each_recording(setting, monkeypatch):
    (run,) = trained_runs(setting, "AudioNet", "digit")
    read, whole = [], trained.TrainedRun.read
    monkeypatch.setattr(trained, "BATCH", 3)
    monkeypatch.setattr(trained.TrainedRun, "read", lambda self, names: read.append(list(names)) or whole(self, names))
    monkeypatch.setattr(trained.TrainedRun.batches, "__defaults__", (None, 3))
    found = run.answers_to({"as it is": lambda r: r.data, "silent": lambda r: np.zeros_like(r.data)})
    assert read == [run.listed()[:3], run.listed()[3:6], run.listed()[6:]]
    assert found["as it is"]["predicted"].tolist() == list(ANSWERS[str(run.run)])
    assert len(set(found["silent"]["predicted"])) == 1  # all are the same then
    assert found["silent"]["recording"].tolist() == found["as it is"]["recording"].tolist()


def test_a_tables_columns_say_what_made_it(setting):
    runs = trained_runs(dataclasses.replace(setting, seed=4))
    assert [run.run for run in runs] == RUNS  # by network, as they are registered, and by task
    for run in runs:
        assert run.measured_from == {
            "network": run.run.network, "task": run.run.task, "split": 0, "iterations": ITERATIONS,
            "training_engine": "made up", "training_seed": 0, "weights_sha256": run.weights_sha256,
            "engine": "numpy", "selection_seed": 4,
        }  # fmt: skip


def test_examples_are_the_first_of_each_digit_by_a_woman_and_by_a_man(setting):
    (run,) = trained_runs(setting, "AudioNet", "gender")
    names = [name.partition("_")[2] for name in run.examples((2, 0)).names]
    assert names == ["2_06_0.hdf5", "2_05_0.hdf5", "0_06_0.hdf5", "0_05_0.hdf5"]
    assert [name.partition("_")[2] for name in run.examples().names] == ["0_06_0.hdf5", "0_05_0.hdf5"]


@pytest.mark.parametrize("before", [None, "0"])
def test_pycaffe_is_silent_unless_it_is_told_to_speak(monkeypatch, before):
    name = "GLOG_minloglevel"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    seen, found = [], __import__

    def watched(module, *words):
        if module == "caffe":
            seen.append(os.environ.get(name))
        return found(module, *words)

    monkeypatch.setattr("builtins.__import__", watched)
    trained.import_quietly()
    assert seen[0] == (before or "2") and os.environ.get(name) == before


@pytest.mark.parametrize("gpu, modes", [(None, ["cpu"]), (0, ["gpu", 0]), (3, ["gpu", 3])])
def test_scores_are_computed_where_the_setting_says_and_copied(setting, monkeypatch, gpu, modes):
    """A net whose score is the sum of its input, in the one array that it has for all batches."""
    asked, blob, score = [], SimpleNamespace(data=None), SimpleNamespace(data=np.zeros((2, 10), np.float32))
    blob.reshape = lambda *shape: setattr(blob, "data", np.zeros(shape, np.float32))

    class Net:
        inputs = ["data"]

        def __init__(self, model, phase, weights):
            asked.append((model, phase, weights))
            self.blobs = {"data": blob, "fc8": score, "fc_8": score}
            self.blobs |= {trained.NETWORKS["AudioNet"].score: score}

        def forward(self):
            score.data = score.data[: len(blob.data)] if len(blob.data) < len(score.data) else score.data
            score.data[:, 0] = blob.data.sum(axis=(1, 2, 3))

    caffe = SimpleNamespace(Net=Net, TEST="test", set_mode_cpu=lambda: asked.append("cpu"),
                            set_mode_gpu=lambda: asked.append("gpu"), set_device=asked.append)  # fmt: skip
    monkeypatch.setattr(trained, "import_quietly", lambda: caffe)
    monkeypatch.setattr(trained, "BATCH", 2)
    run = trained_runs(dataclasses.replace(setting, engine="caffe", gpu=gpu), "AudioNet", "digit")[0]
    data = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((5, 1, 1, 3), np.float32)
    assert run.scores()(data)[:, 0].tolist() == [0, 3, 6, 9, 12]
    assert asked == [*modes, (str(run.deploy), "test", str(run.weights))]


def test_an_engine_that_is_none_is_named(setting):
    run = trained_runs(dataclasses.replace(setting, engine="tea leaves"), "AudioNet", "digit")[0]
    with pytest.raises(ExperimentError, match="^engine: expected one of caffe, numpy, got tea leaves$"):
        run.scores()
