"""What an outcome was made from: changing any one thing that it depends on has it made again, and nothing else does."""

import dataclasses
import json
import shutil

import pytest

from audiomnist.runs.render import Training, open_run
from audiomnist.runs.run_folder import RunName
from audiomnist.study import outcome
from audiomnist.study.catalogue import catalogue
from audiomnist.study.outcome import fingerprint
from audiomnist.study.setting import Setting
from tests.small_study import narrow

RUN = "AlexNet_gender_0"


@pytest.fixture
def setting(small_study, tmp_path):
    """A study of one run, to be changed."""
    shutil.copytree(small_study / "data", tmp_path / "data")
    shutil.copytree(small_study / "runs" / RUN, tmp_path / "runs" / RUN)
    return Setting(tmp_path / "data", small_study / "preprocessed", tmp_path / "runs", limit=2)


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def other_weights(setting):
    path = next((setting.runs / RUN / "snapshots").glob("*.caffemodel"))
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def other_record(setting):
    path = setting.runs / RUN / "run.json"
    record = json.loads(path.read_text())
    record["origin"]["engine"] = "another engine"
    path.write_text(json.dumps(record))


def other_recordings(setting):
    """As a run of permuted labels has them: it trains on none of the study's own."""
    path = setting.runs / RUN / "run.json"
    record = json.loads(path.read_text())
    record["origin"]["recordings"] = dict.fromkeys(record["origin"]["recordings"], "0" * 64)
    path.write_text(json.dumps(record))


RUN_FILES = {
    "weights": other_weights,
    "record": other_record,
    "train.log": lambda s: append(s.runs / RUN / "train.log", "one more line\n"),
    "test.log": lambda s: append(s.runs / RUN / "test.log", "one more line\n"),
    "fillers": lambda s: append(s.runs / RUN / "train.prototxt", "# changed\n"),
    "network": lambda s: append(s.runs / RUN / "deploy.prototxt", "# changed\n"),
    "solver": lambda s: append(s.runs / RUN / "solver.prototxt", "# changed\n"),
}
DATA_FILES = {
    "recording": lambda s: append(s.data / "05" / "0_05_0.wav", "\0\0"),
    "removed": lambda s: (s.data / "05" / "0_05_0.wav").unlink(),
}
CORPUS_FILES = {  # decide whether anything is evidence about the paper
    "metadata": lambda s: append(s.data / "audioMNIST_meta.txt", "\n"),
    "mark of the demo": lambda s: (s.data / "demo_corpus.json").write_text("{}"),
}
FIELDS = {"limit": 3, "seed": 1, "composites": ("epsilon_plus",), "engine": "numpy"}
EXPERIMENTS = {name: one for name, one in catalogue().items() if not one.networks or "AlexNet" in one.networks}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_ingredient_counts(setting, name, monkeypatch):
    experiment = EXPERIMENTS[name]
    seen = [fingerprint(experiment, setting)]
    assert json.loads(json.dumps(seen[0])) == fingerprint(experiment, setting), "the same again, from its record too"

    def is_new(what, setting=setting):
        now = fingerprint(experiment, setting)
        assert now not in seen, f"{name} does not see another {what}"
        seen.append(now)

    for field, value in FIELDS.items():
        is_new(field, dataclasses.replace(setting, **{field: value}))
    changes = (RUN_FILES if experiment.reads in ("runs", "both") else {}) | (
        DATA_FILES if experiment.reads in ("data", "both") else {}
    )
    changes |= CORPUS_FILES
    for what, change in changes.items():
        change(setting)
        is_new(what)
    monkeypatch.setattr(outcome, "code_digest", lambda *packages: "other code")
    is_new("code")


def test_runs_of_permuted_labels_count_where_they_are_looked_at(setting):
    sanity, other = EXPERIMENTS["sanity"], EXPERIMENTS["faithfulness"]
    seen, of_the_other = [fingerprint(sanity, setting)], fingerprint(other, setting)
    beside = shutil.copytree(setting.runs, setting.runs.with_name("runs_permuted"))
    permuted = dataclasses.replace(setting, runs=beside)
    for change in (other_recordings, other_weights, RUN_FILES["train.log"], lambda s: shutil.rmtree(s.runs / RUN)):
        change(permuted)
        seen.append(fingerprint(sanity, setting))
    assert [seen.index(one) for one in seen] == [0, 1, 2, 3, 0]
    assert fingerprint(other, setting) == of_the_other


def test_a_study_that_lies_elsewhere_is_made_from_the_same(setting, tmp_path):
    """Moved, copied, or trained there: its prototxts and record then name that folder."""
    before = {name: fingerprint(one, setting) for name, one in EXPERIMENTS.items()}
    there = tmp_path / "jürgen's disk"
    for name in ("data", "runs"):
        shutil.copytree(tmp_path / name, there / name, copy_function=shutil.copy)  # other times
    moved = dataclasses.replace(setting, data=there / "data", runs=there / "runs")
    assert {name: fingerprint(one, moved) for name, one in EXPERIMENTS.items()} == before
    shutil.rmtree(there / "runs" / RUN / "snapshots")
    preprocessed, run = setting.preprocessed, RunName.parse(RUN)
    for name in ("run.json", *(f"{role}.prototxt" for role in ("train", "test", "deploy", "solver"))):
        (there / "runs" / RUN / name).unlink()
    open_run(run, preprocessed, there / "runs" / RUN, "made up", Training(max_iter=20))
    narrow(there / "runs" / RUN)
    shutil.copytree(tmp_path / "runs" / RUN / "snapshots", there / "runs" / RUN / "snapshots", dirs_exist_ok=True)
    assert str(there) in json.loads((there / "runs" / RUN / "run.json").read_text())["folder"]
    assert {name: fingerprint(one, moved) for name, one in EXPERIMENTS.items()} == before


def test_the_code_is_all_that_an_outcome_is_computed_with():
    assert set(outcome.CODE) >= {"audiomnist", "lrp", "caffe", "caffe_proto"}
