"""The experiments behind the paper's tables and figures, on a study in miniature and against slow twins."""

import dataclasses
import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import corpus, waveform_relevance
from audiomnist.study import relevance, results_page
from audiomnist.study.catalogue import catalogue
from audiomnist.study.command import main
from audiomnist.study.outcome import RECORD, Experiment, Outcome, carry_out
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs
from tests.small_corpus import GENDERS, make_corpus, speech, wav_file, write_meta
from tests.small_study import DIGITS, ITERATIONS, RUNS

EXPERIMENTS = catalogue()
TESTED = 2 * len(DIGITS)  # recordings of a test list: two speakers


@pytest.fixture(scope="module")
def setting(small_study):
    return Setting(
        small_study / "data", small_study / "preprocessed", small_study / "runs", limit=4, composites=("epsilon_plus",)
    )


def arguments(setting, output):
    return [
        "--data",
        str(setting.data),
        "--preprocessed",
        str(setting.preprocessed),
        "--runs",
        str(setting.runs),
        "--output",
        str(output),
        "--limit",
        "2",
        "--composite",
        "epsilon_plus",
    ]


# --- trained runs ----------------------------------------------------------------------------------------------------


def test_runs_are_found_in_order_with_what_made_them(setting):
    runs = trained_runs(setting)
    assert [run.run for run in runs] == RUNS
    for run in runs:
        about = run.provenance
        assert about["iterations"] == ITERATIONS and about["training_engine"] == "made up"
        assert len(about["weights_sha256"]) == 64
    assert [run.run.task for run in trained_runs(setting, "AudioNet", "gender")] == ["gender"]


def test_runs_without_final_weights_are_left_out_and_none_is_an_error(setting, tmp_path):
    shutil.copytree(
        setting.runs / "AlexNet_digit_0", tmp_path / "AlexNet_digit_0", ignore=shutil.ignore_patterns("*.caffemodel")
    )
    with pytest.raises(ExperimentError, match="expected a trained AlexNet digit run at least, got none"):
        trained_runs(dataclasses.replace(setting, runs=tmp_path), "AlexNet", "digit")
    with pytest.raises(ExperimentError, match="expected a preprocessed folder, got one without splits.json"):
        trained_runs(dataclasses.replace(setting, preprocessed=tmp_path))


def test_a_limited_choice_of_recordings_is_a_function_of_the_seed(setting):
    run = trained_runs(setting, "AudioNet", "digit")[0]
    everything = run.listed()
    assert len(everything) == TESTED
    assert run.listed(100) == everything and len(run.listed(4)) == 4
    assert run.listed(4) == run.listed(4) == [name for name in everything if name in run.listed(4)]
    others = [
        trained_runs(dataclasses.replace(setting, seed=seed), "AudioNet", "digit")[0].listed(3) for seed in range(8)
    ]
    assert len({tuple(names) for names in others}) > 1


def test_examples_are_the_first_of_each_gender_female_first(setting):
    run = trained_runs(setting, "AlexNet", "gender")[0]
    recordings = run.examples((1, 2))
    assert recordings.names == (
        "06/AlexNet_1_06_0.hdf5",
        "05/AlexNet_1_05_0.hdf5",
        "06/AlexNet_2_06_0.hdf5",
        "05/AlexNet_2_05_0.hdf5",
    )
    assert [recordings.describe(k)["gender"] for k in range(4)] == ["female", "male"] * 2
    with pytest.raises(ExperimentError, match="expected a test recording of digit 9, got none"):
        run.examples((9,))


@pytest.mark.parametrize("network", ["AlexNet", "AudioNet"])
def test_both_engines_give_the_same_scores(setting, network):
    run = trained_runs(setting, network, "digit")[0]
    recordings = run.read(run.listed())
    numpy_run = trained_runs(dataclasses.replace(setting, engine="numpy"), network, "digit")[0]
    ours, other = run.scores()(recordings.data), numpy_run.scores()(recordings.data)
    assert ours.shape == other.shape == (TESTED, 10)
    assert np.abs(ours - other).max() <= 1e-4 * np.abs(other).max()
    with pytest.raises(ExperimentError, match="engine: expected one of caffe, numpy, got abacus"):
        trained_runs(dataclasses.replace(setting, engine="abacus"), network, "digit")[0].scores()


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_the_corpus_is_counted_and_an_impossible_age_is_no_age(tmp_path):
    folder = make_corpus(tmp_path / "data", repetitions=2)
    (folder / "01" / "0_01_0.wav").write_bytes(wav_file(speech(0, 0.625, 16000).tobytes(), 16000))
    (folder / "01" / "0_01_1.wav").write_bytes(b"no sound at all")
    meta = {s: {"gender": g, "age": "1234" if s == "02" else " 31 "} for s, g in GENDERS.items()}
    write_meta(folder, meta)
    frame = corpus.recordings(folder)
    assert len(frame) == 6 * 3 * 2 - 1
    first = frame[(frame["speaker"] == "01") & (frame["digit"] == 0)]
    assert first[["seconds", "rate"]].values.tolist() == [[0.625, 16000]]
    people = corpus.speakers(frame).set_index("speaker")
    assert pd.isna(people.loc["02", "age"]) and people.loc["01", "age"] == 31
    assert people.loc["01", "recordings"] == 5
    counts = corpus.summary(frame).set_index("quantity")
    assert counts.loc["female speakers", "ours"] == 3 and counts.loc["speakers", "paper"] == 60
    assert counts.loc["hours", "ours"] == pytest.approx(frame["seconds"].sum() / 3600)
    with pytest.raises(ExperimentError, match="expected a readable recording at least, got none"):
        write_meta(tmp_path, {})
        corpus.recordings(tmp_path)


# --- waveforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [4000.0, 3990.0, 4049.0])
def test_bands_hold_everything_once(top):
    frequencies = np.arange(0, top + 1)
    values = np.random.default_rng(0).normal(size=len(frequencies))
    edges, sums = waveform_relevance.by_band(frequencies, values)
    assert edges[0] == -0.5 and edges[-1] == top + 0.5 and edges[3] == 149.5 and len(edges) == len(sums) + 1
    assert sums.sum() == pytest.approx(values.sum())
    assert sums[3] == pytest.approx(values[150:200].sum())
    assert edges[-2] < top <= edges[-2] + waveform_relevance.BAND + 1


def test_explanations_are_of_the_true_class(setting):
    run = trained_runs(setting, "AlexNet", "gender")[0]
    recordings = run.examples()
    frame = relevance.table(run, recordings, relevance.explain(run, recordings, ["epsilon_plus", "epsilon_plus_flat"]))
    assert frame["target"].tolist() == ["female", "male"] * 2
    scores = run.network.forward(recordings.data)
    assert frame["score"].tolist()[:2] == pytest.approx([scores[0, 1], scores[1, 0]], rel=1e-4)


# --- every experiment as a command -----------------------------------------------------------------------------------


CASES = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("faithfulness", "sanity"))) for name in EXPERIMENTS]


@pytest.mark.parametrize("name", CASES)
def test_command_writes_what_its_record_says_and_does_nothing_twice(setting, tmp_path, name, capsys):
    assert main(EXPERIMENTS[name], arguments(setting, tmp_path)) == 0
    folder = tmp_path / name
    assert str(folder) in capsys.readouterr().out
    record = json.loads((folder / RECORD).read_text())
    assert sorted([*record["files"], RECORD]) == sorted(path.name for path in folder.iterdir())
    assert record["figures"] and all(record["figures"].values())
    assert record["findings"]
    for file in record["files"]:
        assert (folder / file).stat().st_size > 50, file
    if EXPERIMENTS[name].reads == "runs":
        table = pd.concat([pd.read_csv(folder / file) for file in record["tables"]], ignore_index=True)
        known = table["weights_sha256"].dropna()
        assert len(known) and set(known) <= {run.weights_sha256 for run in trained_runs(setting)}
        assert {"network", "task", "split", "training_engine", "training_seed"} <= set(table.columns)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(EXPERIMENTS[name], arguments(setting, tmp_path)) == 0
    assert "made before" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_same_inputs_same_bytes_and_other_inputs_are_noticed(setting, tmp_path):
    experiment = EXPERIMENTS["training_curves"]
    runs = tmp_path / "runs"
    shutil.copytree(setting.runs / "AudioNet_digit_0", runs / "AudioNet_digit_0")
    own = dataclasses.replace(setting, runs=runs)
    first, made = carry_out(experiment, own, tmp_path / "a")
    second, _ = carry_out(experiment, own, tmp_path / "b")
    assert made
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    assert carry_out(experiment, own, tmp_path / "a")[1] is False
    (first / "curves.png").unlink()
    assert carry_out(experiment, own, tmp_path / "a")[1] is True
    with open(runs / "AudioNet_digit_0" / "train.log", "a") as log:
        log.write("I0101 00:00:00.000000     1 solver.cpp:1] Iteration 30, loss = 0.5\n")
    assert carry_out(experiment, own, tmp_path / "a")[1] is True
    assert carry_out(experiment, dataclasses.replace(own, seed=1), tmp_path / "a")[1] is True


def stub(*stems, stop=False):
    """An experiment of the recordings whose outcome is a table for each stem; with `stop` Ctrl-C hits the second."""

    class Table(pd.DataFrame):
        def to_csv(self, *arguments, **options):
            if stop and self.attrs["stem"] != stems[0]:
                raise KeyboardInterrupt
            return super().to_csv(*arguments, **options)

    def make(setting):
        tables = {stem: Table({"x": [1]}) for stem in stems}
        for stem, table in tables.items():
            table.attrs["stem"] = stem
        return Outcome(tables=tables)

    return Experiment("own", "A stub", make, reads="data")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_somebody_else_is_left_alone(setting, tmp_path):
    folder = tmp_path / "own"
    (folder / "01").mkdir(parents=True)
    for name in ("my.wav", "notes.csv", "p.png", "01/0_01_0.wav"):
        (folder / name).write_bytes(b"precious")
    before = contents(tmp_path)
    with pytest.raises(ExperimentError, match=f"^{re.escape(str(folder))}: expected .*, got 01 and no outcome.json$"):
        carry_out(stub("table"), setting, tmp_path)
    assert contents(tmp_path) == before
    for text in ("", "[]", "{}", '{"files": 3}', '{"files": [3]}', "[" * 100_000):
        (folder / RECORD).write_text(text)
        with pytest.raises(ExperimentError, match="outcome.json: expected the record of an experiment.s outcome, got "):
            carry_out(stub("table"), setting, tmp_path)
    (folder / RECORD).unlink()
    assert contents(tmp_path) == before


def test_what_a_killed_process_was_writing_is_nobodys(setting, tmp_path):
    """It may have been killed before its folder had a record."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.0123abcd-4567cdef.part").write_bytes(b"half")
    folder, made = carry_out(stub("table"), setting, tmp_path)
    assert made and sorted(os.listdir(folder)) == [RECORD, "table.csv"]


def test_only_what_the_earlier_record_lists_is_removed(setting, tmp_path):
    outside = tmp_path / "outside.csv"
    outside.write_bytes(b"precious")
    carry_out(stub("old", "both"), setting, tmp_path)
    folder = tmp_path / "own"
    for name in ("notes.csv", "thesis.txt"):
        (folder / name).write_bytes(b"precious")
    (folder / "folder.csv").mkdir()
    record = json.loads((folder / RECORD).read_text())
    record["files"] += ["../outside.csv", str(outside), "thesis.txt", "..", ".", "", "folder.csv", "gone.csv"]
    (folder / RECORD).write_text(json.dumps(record))
    carry_out(stub("both", "new"), dataclasses.replace(setting, seed=1), tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"both.csv", "new.csv", "notes.csv", "thesis.txt", "folder.csv", RECORD}
    assert outside.read_bytes() == (folder / "notes.csv").read_bytes() == (folder / "thesis.txt").read_bytes()


def test_a_stopped_experiment_can_be_made_again_and_is_on_no_page(setting, tmp_path, monkeypatch):
    carry_out(stub("old"), setting, tmp_path)
    seeded = dataclasses.replace(setting, seed=1)
    with pytest.raises(KeyboardInterrupt):
        carry_out(stub("first", "second", stop=True), seeded, tmp_path)
    monkeypatch.setattr(results_page, "catalogue", lambda: {"own": None})
    assert results_page.sections(tmp_path) == []
    _, made = carry_out(stub("third"), seeded, tmp_path)
    assert made and {path.name for path in (tmp_path / "own").iterdir()} == {"third.csv", RECORD}
    assert [section.record["title"] for section in results_page.sections(tmp_path)] == ["A stub"]


def test_what_is_missing_is_one_sentence(setting, tmp_path, capsys):
    options = arguments(setting, tmp_path / "out")
    options[5] = str(tmp_path / "nowhere")
    assert main(EXPERIMENTS["table1"], options) == 1
    assert capsys.readouterr().err.count("\n") == 1
    options[1] = str(tmp_path / "nowhere")
    assert main(EXPERIMENTS["corpus"], options) == 1
    assert "expected a folder with recordings, got none" in capsys.readouterr().err
    with pytest.raises(SystemExit) as misused:
        main(EXPERIMENTS["table1"], ["--composite", "wishful"])
    assert misused.value.code == 2
