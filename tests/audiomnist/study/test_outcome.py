"""What an outcome is made from: any other code, log, list or recording makes it again; relevance is kept on request."""

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from audiomnist import provenance
from audiomnist.experiments import gender_hypothesis, spectrogram_relevance, training_curves
from audiomnist.study import outcome
from audiomnist.study.outcome import CODE, carry_out, fingerprint
from audiomnist.study.setting import Setting
from audiomnist.study.trained import trained_runs


@pytest.fixture
def setting(small_study, tmp_path):
    """The small study with a run of its own, to be changed."""
    for name in ("AlexNet_gender_0", "AudioNet_digit_0"):
        shutil.copytree(small_study / "runs" / name, tmp_path / "runs" / name)
    return Setting(small_study / "data", small_study / "preprocessed", tmp_path / "runs", composites=("epsilon_plus",))


@pytest.mark.parametrize("changed", ["audiomnist", "caffe", "caffe_proto", "lrp"])
def test_code_of_every_part_that_decides_numbers_counts(tmp_path, monkeypatch, changed):
    for name in ("audiomnist", "caffe", "caffe_proto", "lrp"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("raise ImportError('is not to be imported')")
        (tmp_path / name / "inner" / "code.py").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    found = {}
    for name in CODE:  # hidden, so that the packages are looked for anew
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    digest = provenance.code_digest.__wrapped__
    found[0] = digest(*CODE)
    (tmp_path / changed / "inner" / "code.py").write_text("2")
    assert digest(*CODE) != found[0]


@pytest.mark.parametrize("log", ["train.log", "test.log", "run.json"])
def test_logs_and_record_of_a_run_count(setting, log):
    before = fingerprint(training_curves.EXPERIMENT, setting)
    path = setting.runs / "AudioNet_digit_0" / log
    path.write_text(path.read_text() + " ")
    after = fingerprint(training_curves.EXPERIMENT, setting)
    assert before != after and before["runs"]["AlexNet_gender_0"] == after["runs"]["AlexNet_gender_0"]


def test_lists_and_recordings_count_and_so_does_the_version(setting, monkeypatch):
    made_from = fingerprint(training_curves.EXPERIMENT, setting)
    for run in trained_runs(setting):
        assert set(run.recordings.values()) < set(made_from["runs"][str(run.run)])
    monkeypatch.setattr("audiomnist.__version__", "0.0.0")
    assert fingerprint(training_curves.EXPERIMENT, setting) == made_from | {"version": "0.0.0"}


def test_relevance_is_kept_on_request(setting, tmp_path):
    folder, _ = carry_out(spectrogram_relevance.EXPERIMENT, setting, tmp_path / "out")
    assert not list(folder.glob("*.hdf5"))
    keeping = dataclasses.replace(setting, keep_relevance=True)
    folder, made = carry_out(spectrogram_relevance.EXPERIMENT, keeping, tmp_path / "out")
    assert made
    run = trained_runs(setting, "AlexNet")[0]
    with h5py.File(folder / "gender_epsilon_plus.hdf5") as file:
        targets = file["label"][:, run.label_column].astype(int)
        again = run.network.relevance(file["input"][()], targets, "epsilon_plus")
        np.testing.assert_array_equal(file["relevance"][()], again.relevance)
        assert file["target"][()].tolist() == targets.tolist()
        assert file.attrs["weights_sha256"] == run.weights_sha256 and file.attrs["composite"] == "epsilon_plus"
    folder, _ = carry_out(gender_hypothesis.EXPERIMENT, keeping, tmp_path / "out")
    names = sorted(path.name for path in folder.glob("*.hdf5"))
    assert names == [f"{condition}_epsilon_plus.hdf5" for condition in ("control", "original", "scaled")]
    with h5py.File(folder / "scaled_epsilon_plus.hdf5") as file:
        expected = gender_hypothesis.in_condition(run.examples(), "scaled")
        np.testing.assert_array_equal(file["input"][()], expected)
    assert outcome.RECORD in {path.name for path in folder.iterdir()}
