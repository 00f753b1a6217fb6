"""benchmarks/results.py: the record holds what the runs answered, and the tables are what the record says."""

import json
import math
import re

import pytest
from scipy import stats

from benchmarks import results
from tests.small_study import ACCURACY, ANSWERS, ITERATIONS


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The record and the documents in a folder of the test's own."""
    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "RESULTS", path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return path


def arguments(study, *more):
    folders = ["--data", study / "data", "--preprocessed", study / "preprocessed", "--runs", study / "runs"]
    return ["record", "small", *map(str, folders), *more]


def run(split, speakers, *, engine="ours", network="AlexNet", task="digit", seed=0, iterations=300, accuracy=None):
    right, count = (sum(own[k] for own in speakers.values()) for k in (0, 1))
    return {
        "run": f"{network}_{task}_{split}", "network": network, "task": task, "split": split, "engine": engine,
        "solver": "quick", "seed": seed, "iterations": iterations, "loss": 0.5, "speakers": speakers,
        "accuracy": right / count if accuracy is None else accuracy,
    }  # fmt: skip


def cells(table):
    """The rows of a Markdown table behind its head, as lists of cells."""
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]


def test_the_record_has_what_every_run_answered_to_each_speaker(small_study, file):
    assert results.main(arguments(small_study, "--title", "made up voices")) == 0
    own = json.loads(file.read_text())["small"]
    assert own["title"] == "made up voices"
    assert own["recordings"] == {"recordings": 24, "speakers": 6, "female speakers": 3, "male speakers": 3}
    assert [one["run"] for one in own["runs"]] == list(ANSWERS)
    for one in own["runs"]:
        true = (0, 1, 2, 3) * 2 if one["task"] == "digit" else (0,) * 4 + (1,) * 4  # 05 is male, 06 female
        right = [int(said == wanted) for said, wanted in zip(ANSWERS[one["run"]], true, strict=True)]
        assert one["speakers"] == {"05": [sum(right[:4]), 4], "06": [sum(right[4:]), 4]}
        assert (one["accuracy"], one["loss"]) == (ACCURACY[one["network"]], 0.5)
        assert (one["iterations"], one["seed"], one["engine"], one["solver"]) == (ITERATIONS, 0, "made up", "paper")
        assert one["validation"] == [[10, 0.25], [20, 0.5]]


def test_the_record_grows_in_parts_and_says_a_run_once(small_study, file):
    file.write_text(json.dumps({"small": {"title": "t", "runs": [run(3, {"09": [1, 2]})], "experiments": {"x": 1}}}))
    for _ in range(2):
        assert results.main(arguments(small_study)) == 0
    own = json.loads(file.read_text())["small"]
    assert [one["run"] for one in own["runs"]] == ["AlexNet_digit_3", *ANSWERS]
    assert (own["title"], own["experiments"]) == ("t", {"x": 1})


def test_experiments_are_recorded_with_their_setting(small_study, file, tmp_path):
    folder = tmp_path / "out" / "gender_hypothesis"
    folder.mkdir(parents=True)
    setting = {"limit": 5, "seed": 1, "composites": ["a"], "engine": "caffe", "data": "/somewhere/private"}
    (folder / "outcome.json").write_text(json.dumps({"setting": setting, "made_by": {"version": "v", "commit": "c"}}))
    (folder / "estimates.csv").write_text("condition,mean,low\noriginal,95.83333333,\n")
    assert results.main(arguments(small_study, "--results", str(tmp_path / "out"))) == 0
    text = file.read_text()
    assert "/somewhere" not in text and str(tmp_path) not in text and str(small_study) not in text
    found = json.loads(text)["small"]["experiments"]["gender_hypothesis"]
    assert found["tables"]["estimates"] == [{"condition": "original", "mean": 95.833, "low": None}]
    assert found["setting"] == {"limit": 5, "seed": 1, "composites": ["a"], "engine": "caffe"}


def test_accuracy_is_the_mean_over_speakers_and_the_deviation_that_over_splits():
    runs = [
        run(0, {"01": [4, 4], "02": [1, 2]}),  # speakers 100 and 50 %, of all recordings 83.33 %
        run(1, {"03": [3, 4], "04": [0, 1]}),  # 75 and 0 %, 60 %
        run(0, {"01": [0, 4]}, seed=1), run(0, {"01": [0, 4]}, engine="BVLC Caffe 1.0"),
    ]  # fmt: skip
    ((network, task, iterations, splits, speakers, recordings, mean, over_splits, paper),) = cells(
        results.accuracy_table({"runs": runs})
    )
    assert (network, task, iterations, splits, speakers, recordings) == ("AlexNet", "digit", "300", "2", "4", "11")
    assert mean.startswith("56.2 [")  # (100 + 50 + 75 + 0) / 4, half to even
    low, high = map(float, mean.partition("[")[2].rstrip("]").split(","))
    assert 0 <= low < 56.25 < high <= 100
    assert over_splits == "71.67 ± 11.67"
    assert paper == "95.82 ± 1.49"


def test_splits_stand_in_their_columns():
    runs = [run(2, {"01": [1, 4]}), run(0, {"02": [3, 4]}), run(1, {"03": [1, 1]}, task="gender")]
    assert cells(results.splits_table({"runs": runs})) == [
        ["AlexNet", "digit", "75.0", "", "25.0"], ["AlexNet", "gender", "", "100.0", ""],
    ]  # fmt: skip


def test_engines_are_compared_by_welch_over_the_seeds_of_split_0():
    ours, theirs = (90.0, 92.0, 97.0), (91.0, 89.0, 90.5)
    runs = [
        run(0, {"01": [1, 1]}, engine=engine, seed=seed, accuracy=value / 100)
        for engine, values in (("ours", ours), ("BVLC Caffe 1.0", theirs))
        for seed, value in enumerate(values)
    ]
    runs += [run(1, {"01": [0, 1]}), run(0, {"01": [0, 1]}, network="AudioNet")]
    ((network, task, _, first, second, difference),) = cells(results.engines_table({"runs": runs}))
    assert (network, task, first, second) == ("AlexNet", "digit", "90.0, 92.0, 97.0", "91.0, 89.0, 90.5")
    alone = [one for one in runs if one["engine"] == "ours" or one["seed"] == 0]
    assert cells(results.engines_table({"runs": alone}))[0][3:] == ["90.0, 92.0, 97.0", "91.0", ""]
    # Welch's interval written out
    mean = sum(ours) / 3 - sum(theirs) / 3
    a, b = (sum((v - sum(x) / 3) ** 2 for v in x) / 2 / 3 for x in (ours, theirs))
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(a + b)
    assert difference == f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"


def test_the_gender_table_has_a_row_for_each_condition_and_edge():
    def row(condition, edge, gender, mean):
        return {
            "condition": condition, "edge": edge, "gender": gender, "mean": mean, "low": mean - 1, "high": mean + 2,
        }  # fmt: skip

    table = [
        row("original", "silence", "female", 90.0), row("original", "silence", "both", 95.0),
        row("scaled", "silence", "both", 20.0), row("scaled", "repeat", "both", 30.0),
    ]  # fmt: skip
    own = {"experiments": {"gender_hypothesis": {"tables": {"estimates": table}}}}
    assert cells(results.gender_table(own)) == [
        ["original", "", "90.0 [89.0, 92.0]", "", "95.0 [94.0, 97.0]"],
        ["scaled", "silence", "", "", "20.0 [19.0, 22.0]"],
        ["scaled", "repeat", "", "", "30.0 [29.0, 32.0]"],
    ]


def test_the_pitch_table_has_shares_and_turned_answers():
    def row(name, mean, **about):
        return about | {name: mean, f"{name}_low": None if mean is None else mean - 1.4, f"{name}_high": mean}

    conditions = ("both", "pitch", "formants", "round trip", "empty top")
    tables = {
        "shares": [row("share", 70.4, gender="male", part="pitch"), row("share", None, gender="male", part="formants")],
        "flips": [
            row("flipped", 10.0 * k, gender="male", condition=condition) for k, condition in enumerate(conditions, 1)
        ],
    }
    text = results.pitch_table({"experiments": {"pitch_or_formants": {"tables": tables}}})
    assert text.startswith(
        "|  | share of the pitch, % | share of the formants, % | both: turned, % | pitch: turned, % |"
    )
    turned = [f"{10 * k} [{10 * k - 1}, {10 * k}]" for k in range(1, 6)]
    assert cells(text) == [["men", "70 [69, 70]", "", *turned]]


def test_faithfulness_shows_the_main_variant_by_network():
    def row(network, source, units, mean):
        return {
            "network": network, "task": "digit", "source": source, "units": units, "replacement": "interpolation",
            "score": mean, "score_low": mean - 0.1, "score_high": mean + 0.1,
        }  # fmt: skip

    table = [row("AlexNet", "a", "blocks", 0.5), row("AlexNet", "a", "values", 0.9), row("AudioNet", "b", "blocks", 0)]
    own = {"experiments": {"faithfulness": {"tables": {"scores": table}}}}
    text = results.faithfulness_table(own)
    assert text.startswith("| source | AlexNet, digit | AudioNet, digit |\n")
    assert cells(text) == [["a", "0.50 [0.40, 0.60]", ""], ["b", "", "0.00 [-0.10, 0.10]"]]


def test_sanity_shows_contrast_rest_and_verdict():
    row = {
        "network": "AlexNet", "task": "digit", "method": "m", "contrast": 0.25, "contrast_low": 0.2,
        "contrast_high": 0.3, "above_null": None, "above_null_low": None, "above_null_high": None,
        "verdict": "undecided",
    }  # fmt: skip
    own = {"experiments": {"sanity": {"tables": {"verdicts": [row]}}}}
    assert cells(results.sanity_table(own)) == [["m", "0.25 [0.20, 0.30]; ; undecided"]]


def test_documents_are_filled_between_their_marks_alone(file, capsys):
    file.write_text(json.dumps({"c": {"title": "", "runs": [run(0, {"01": [3, 4], "02": [1, 4]})]}}))
    document = file.with_name("README.md")
    document.write_text("before\n<!-- table: c splits -->\nold\n<!-- end of table -->\nafter\n")
    assert results.main(["write", "--check"]) == 1
    assert capsys.readouterr().out == "README.md: tables differ from the record\n"
    assert "old" in document.read_text()
    assert results.main(["write"]) == 0
    lines = document.read_text().splitlines()
    assert lines[:2] == ["before", "<!-- table: c splits -->"] and lines[-2:] == ["<!-- end of table -->", "after"]
    assert "| AlexNet | digit | 50.0 |" in lines and "old" not in lines
    assert results.main(["write", "--check"]) == 0


def test_the_documents_tables_are_those_of_the_record():
    for name in results.DOCUMENTS:
        text = (results.ROOT / name).read_text(encoding="utf-8")
        assert results.filled(text, results.load()) == text, name


def test_the_readme_has_the_real_voices_accuracies():
    """Means over speakers, of all splits that are in the record, in the order of the table's columns."""
    runs = results.main_runs(results.load()["az"]["runs"])
    found = {
        (network, task): f"{one.mean:.1f} [{one.low:.1f}, {one.high:.1f}]"
        for (network, task), own in results.groups(runs, "network", "task")
        for one in [results.accuracy_of(own)]
    }
    splits = sorted({(run["task"], run["split"]) for run in runs})
    text = (results.ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| 59 Azerbaijani speakers, here, (.*?), trained briefly \| (.*) \|$", text, re.MULTILINE)
    said, cells = row[0], row[1].split(" | ")
    assert cells == [found[network, task] for task in ("digit", "gender") for network in ("AlexNet", "AudioNet")]
    assert said == ("split 0" if len(splits) == 2 else f"all {len(splits)} splits")


def test_the_readme_says_of_pitch_what_the_record_does():
    rows = results.load()["az"]["experiments"]["pitch_or_formants"]["tables"]["shares"]
    said = {
        row["part"]: f"{row['share']:.0f} % [{row['share_low']:.0f}, {row['share_high']:.0f}]"
        for row in rows
        if row["gender"] == "both"
    }
    text = " ".join((results.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"moving the harmonics alone does {said['pitch']} of what" in text
    assert f"moving the formants alone {said['formants']}." in text


def test_the_readme_says_of_both_engines_what_the_record_does():
    rows = [line.split(" | ") for line in results.engines_table(results.load()["az"]).splitlines()]
    (both,) = (row for row in rows if row[0] == "| AudioNet" and row[1] == "digit")
    assert len(both[3].split(",")) == len(both[4].split(",")) == 3
    text = " ".join((results.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"cannot be told apart (a difference of {both[5].removesuffix(' |').replace(' [', ' points [')})" in text
    low, high = map(float, both[5].partition("[")[2].partition("]")[0].split(","))
    assert low < 0 < high
