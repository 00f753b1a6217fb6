"""Trained runs: only of their own recordings; scores in batches; the same recordings for every network."""

import dataclasses
import json
import re
import shutil

import h5py
import numpy as np
import pytest

from audiomnist.preprocessing.journal import MANIFEST
from audiomnist.runs.run_folder import RunName, list_name, origin
from audiomnist.study import trained
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs


@pytest.fixture(scope="module")
def setting(small_study):
    return Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")


def with_lists(setting, folder):
    """The setting with lists of its own, to be changed; recordings are linked."""
    folder.mkdir()
    for path in setting.preprocessed.iterdir():
        if path.is_dir():
            (folder / path.name).symlink_to(path)
        else:
            shutil.copy(path, folder)
    return dataclasses.replace(setting, preprocessed=folder)


@pytest.mark.parametrize("part", ["train", "validate", "test"])
def test_other_lists_than_the_run_was_made_from_are_refused(setting, tmp_path, part):
    own = with_lists(setting, tmp_path / "pre")
    assert len(trained_runs(own)) == 4
    # as another splitting of the same corpus: who trained is tested
    lists = {p: own.preprocessed / list_name(RunName("AudioNet", "digit", 0), p) for p in ("train", "validate", "test")}
    other = lists["train" if part == "test" else "test"].read_text()
    lists[part].write_text(other)
    with pytest.raises(ExperimentError) as refused:
        trained_runs(own)
    folder = setting.runs / "AudioNet_digit_0"
    assert str(refused.value) == (
        f"{own.preprocessed}: expected the recordings that {folder} was made from, got others ({part})"
    )
    assert len(trained_runs(own, "AlexNet")) == 2
    lists[part].unlink()
    with pytest.raises(ExperimentError, match=f"^{re.escape(str(lists[part]))}: expected a list of recordings, got no"):
        trained_runs(own)


def test_other_recordings_under_the_same_names_are_refused(setting, tmp_path):
    own = with_lists(setting, tmp_path / "pre")
    journal = own.preprocessed / "preprocessing.journal"
    text = journal.read_text()
    made_from = next(line.split("\t")[1] for line in text.splitlines() if line.startswith("05/0_05_0.wav"))
    journal.write_text(text.replace(made_from, "f" * 64 + ":0,0"))
    with pytest.raises(ExperimentError, match=r"got others \(test\)$"):
        trained_runs(own)


def test_the_seed_of_the_preprocessing_is_part_of_a_run_s_origin(setting, tmp_path):
    own = with_lists(setting, tmp_path / "pre")
    run = RunName("AlexNet", "gender", 0)
    before = origin(run, own.preprocessed, "e")
    manifest = own.preprocessed / MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"seed": content["seed"] + 1}))
    after = origin(run, own.preprocessed, "e")
    assert all(before["recordings"][part] != after["recordings"][part] for part in ("train", "validate", "test"))


def test_a_limit_chooses_the_same_recordings_for_every_network_and_others_for_every_task(setting):
    chosen = {}
    for seed in range(12):
        for run in trained_runs(dataclasses.replace(setting, seed=seed)):
            names = tuple(name.partition("_")[2] for name in run.listed(3))
            chosen.setdefault(run.run.task, []).append(names)
    for task in ("digit", "gender"):
        pairs = [chosen[task][k : k + 2] for k in range(0, 24, 2)]
        assert all(first == second for first, second in pairs)
    assert chosen["digit"] != chosen["gender"]


def test_scores_of_several_batches_are_each_batch_s_own(setting, monkeypatch):
    monkeypatch.setattr(trained, "BATCH", 2)
    for run in trained_runs(setting):
        data = run.read(run.listed()).data
        assert len(data) > 4
        expected = run.network.forward(data)
        np.testing.assert_allclose(run.scores()(data), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "data, label, words",
    [
        (np.zeros((1, 1, 1, 8000)), [[3, 1]], None),
        (np.zeros((1, 1, 1, 8000)), [[3, -1]], None),  # a gender that no class holds
        (np.zeros((1, 1, 1, 8001)), [[3, 1]], "(1, 1, 1, 8001) and (1, 2)"),
        (np.zeros((2, 1, 1, 8000)), [[3, 1]] * 2, "(2, 1, 1, 8000) and (2, 2)"),
        (np.zeros(8000), [3, 1], "(8000,) and (2,)"),
        (np.zeros((1, 1, 1, 8000)), [[3]], "(1, 1, 1, 8000) and (1, 1)"),
        (np.full((1, 1, 1, 8000), np.nan), [[3, 1]], "labels [3, 1]"),
        (np.zeros((1, 1, 1, 8000)), [[3, 2]], "labels [3, 2]"),
        (np.zeros((1, 1, 1, 8000)), [[0.5, 1]], "labels [0.5, 1.0]"),
        (np.zeros((1, 1, 1, 8000)), [[np.nan, 1]], "labels [nan, 1.0]"),
    ],
)
def test_a_recording_that_is_none_of_the_run_s_is_refused(data, label, words, setting, tmp_path):
    run = trained_runs(setting, "AudioNet", "digit")[0]
    run.setting = dataclasses.replace(setting, preprocessed=tmp_path)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["data"], file["label"] = data, label
    if words is None:
        assert run.read(["x.hdf5"] * 2).labels.tolist() == label * 2
        return
    with pytest.raises(ExperimentError, match=f"{re.escape(words)}$") as refused:
        run.read(["x.hdf5"])
    assert str(refused.value).startswith(f"{tmp_path / 'x.hdf5'}: expected ")


def test_a_network_of_other_classes_than_the_task_s_is_refused(setting, tmp_path):
    """The network of another task in the run's folder."""
    for name in ("AudioNet_digit_0", "AudioNet_gender_0"):
        shutil.copytree(setting.runs / name, tmp_path / name)
    digit, gender = tmp_path / "AudioNet_digit_0", tmp_path / "AudioNet_gender_0"
    shutil.copy(gender / "deploy.prototxt", digit)
    for path in (gender / "snapshots").glob("*.caffemodel"):
        shutil.copy(path, digit / "snapshots")
    run = trained_runs(dataclasses.replace(setting, runs=tmp_path), "AudioNet", "digit")[0]
    words = f"^{re.escape(str(run.deploy))}: expected scores of 10 classes, got 2$"
    with pytest.raises(ExperimentError, match=words):
        run.network  # noqa: B018 (reads it)
    with pytest.raises(ExperimentError, match=words):
        run.answers()
