"""The whole study as one command: what is trained, in which order, on which device, and what the page says.

Training is left to a stand-in for the engine where only its calls matter.
"""

import html.parser
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from audiomnist.corpus.layout import Defect
from audiomnist.preprocessing.lists import write_rejected
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RunName
from audiomnist.signal.inputs import network_inputs
from audiomnist.signal.wav import RecordingError
from audiomnist.study import paper, results_page, study
from audiomnist.study.conclusion import Conclusion
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import Estimate
from tests.small_corpus import make_corpus, speech, wav_file
from tests.stand_in_engine import calls, command_line, make_engine, make_inputs

ROOT = Path(__file__).resolve().parents[3]
RUNS = 9 * len(NETWORKS)  # five splits of the digits and four of the gender
SLURM = ROOT / "slurm.sh"

# for train_test.sh: the environment that runs the tests is the active one
ENVIRONMENT = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def folders(tmp_path):
    """Options for a preprocessed folder with AudioMNIST's splits and lists, empty otherwise."""
    make_inputs(tmp_path / "pre")
    return [
        "--data",
        str(tmp_path / "data"),
        "--preprocessed",
        str(tmp_path / "pre"),
        "--runs",
        str(tmp_path / "runs"),
        "--output",
        str(tmp_path / "out"),
    ]


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The engine replaced by the stand-in; returns its folder."""
    make_engine(tmp_path)
    monkeypatch.setenv("CAFFE", command_line(tmp_path))
    return tmp_path


def solver_of(call):
    """(run, solver prototxt) of a call of the engine that trains."""
    solver = Path(next(word for word in call if word.startswith("-solver=")).removeprefix("-solver="))
    return solver.parent.name, solver.read_text()


def test_the_matrix_has_nine_runs_a_network(folders, capsys):
    assert study.main([*folders, "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == RUNS
    for network in NETWORKS:
        own = [(task, split) for _, name, task, split in lines if name == network]
        assert own == [("digit", str(k)) for k in range(5)] + [("gender", str(k)) for k in range(4)]
    assert study.main([*folders, "--list", "--split", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{k} {network} digit 4" for k, network in enumerate(NETWORKS)]
    assert study.main([*folders, "--list", "--split", "7"]) == 2


def test_every_run_is_trained_and_tested_once_with_its_options_and_device(folders, engine, tmp_path):
    options = ["--steps", "train", "--gpu", "0,3", "--max-iter", "7", "--seed", "5"]
    assert study.main([*folders, *options]) == 0
    trained, tested = calls(engine, "train"), calls(engine, "test")
    assert len(trained) == len(tested) == RUNS
    assert len({solver_of(call)[0] for call in trained}) == RUNS
    for call in trained:
        run, solver = solver_of(call)
        assert "max_iter: 7" in solver and "random_seed: 5" in solver
        assert (tmp_path / "runs" / run / "test.log").exists()
    for action in (trained, tested):
        assert all(call[-2] == "-gpu" for call in action) and {call[-1] for call in action} == {"0", "3"}


def test_jobs_run_at_once_and_a_device_has_one_at_a_time(folders, engine, monkeypatch):
    monkeypatch.setenv("ENGINE_SLEEPS", "0.5")
    assert study.main([*folders, "--steps", "train", "--max-iter", "2", "--gpu", "0,1", "--split", "0"]) == 0
    spans = {"0": [], "1": []}
    for _, _, began, ended, *words in calls(engine, "trained"):
        spans[words[-1]].append((float(began), float(ended)))
    assert sum(map(len, spans.values())) == 2 * len(NETWORKS)
    for own in spans.values():
        own.sort()
        assert all(end <= begin for (_, end), (begin, _) in zip(own, own[1:], strict=False))
    both = [(a, b) for a in spans["0"] for b in spans["1"]]
    assert any(a[0] < b[1] and b[0] < a[1] for a, b in both)


def test_a_failed_run_is_named_and_the_others_go_on(folders, engine, monkeypatch, capsys):
    monkeypatch.setenv("ENGINE_FAILS", "AudioNet_digit_0")
    assert study.main([*folders, "--steps", "train", "--max-iter", "2", "--split", "0", "--jobs", "2", "--cpu"]) == 1
    count = 2 * len(NETWORKS)
    assert len(calls(engine, "train")) == count and len(calls(engine, "test")) == count - 1
    errors = capsys.readouterr().err
    assert "not done: AudioNet_digit_0: no tested run" in errors
    assert "AudioNet_digit_0: training: expected exit status 0, got 134" in errors and "made of cheese" in errors


def test_one_run_by_its_number(folders, engine):
    assert study.main([*folders, "--steps", "train", "--max-iter", "2", "--run-number", "12"]) == 0
    assert [solver_of(call)[0] for call in calls(engine, "train")] == ["AudioNet_digit_3"]
    with pytest.raises(SystemExit) as misused:
        study.main([*folders, "--run-number", str(RUNS)])
    assert misused.value.code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_stops_the_trainings(folders, engine, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "audiomnist", "study", *folders, "--steps", "train", "--max-iter", "10", "--jobs", "2",
         "--cpu"],
        env={**os.environ, "ENGINE_WAITS": "yes"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60

    def begun():
        return [path for path in (engine / "runs").glob("*/train.log") if "Iteration 0" in path.read_text()]

    while len(begun()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command continues" in errors
    assert [call[2] for call in calls(engine, "interrupted")] == ["1", "1"]  # each engine once
    assert len(calls(engine, "train")) == 2 and len(list((engine / "runs").glob("*/snapshots/*.solverstate"))) == 2


# --- the page --------------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Headings, pictures and sounds of a page, and whether its tags are balanced."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.sources = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("img", "audio"):
            self.sources.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def results(small_study, tmp_path_factory):
    """A page made by the command from the study in miniature."""
    output = tmp_path_factory.mktemp("results")
    options = [
        "--data",
        str(small_study / "data"),
        "--preprocessed",
        str(small_study / "preprocessed"),
        "--runs",
        str(small_study / "runs"),
        "--output",
        str(output),
        "--limit",
        "1",
        "--composite",
        "epsilon_plus",
        "--steps",
        "experiments",
    ]
    assert study.main(options) == 0
    return output, options


@pytest.mark.slow
def test_the_page_holds_everything_and_needs_no_other_file(results):
    output, _ = results
    page = Page((output / "index.html").read_text())
    records = [json.loads(path.read_text()) for path in output.glob("*/outcome.json")]
    assert len(records) == len(study.catalogue())
    assert set(page.headings) == {
        results_page.TITLE,
        results_page.DIFFERENCES,
        results_page.PARTS,
        *(record["title"] for record in records),
    }
    assert len(page.sources) == sum(len(record["figures"]) + len(record["sounds"]) for record in records)
    assert all(source.startswith("data:") for source in page.sources)
    text = (output / "RESULTS.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (output / target).exists(), target
    rows = re.findall(r"\| (AlexNet|AudioNet) \| (digit|gender) \| .* \| 1 \| 1 \| 1 \|\n", text)
    assert len(set(rows)) == len(rows) == 4 and "95.82" in text
    assert 'class="reproduced"' not in (output / "index.html").read_text()  # nothing here is of AudioMNIST
    assert text.count("- **Not applicable**: ") == sum(len(record["conclusions"]) for record in records) > 0
    assert "| user study: are audible or visual explanations easier to interpret | not reproduced, because" in text
    for record in records:
        for name in record["figures"]:
            assert name.replace(".png", ".svg") in record["files"] and name.replace(".png", ".svg") in text


def outcome(folder, name, conclusions):
    (folder / name).mkdir(parents=True)
    record = {
        "title": name, "files": [], "made_from": {"code": "c" * 64, "seed": 0, "version": "1"},
        "tables": [], "figures": {},
        "sounds": {}, "arrays": [], "findings": [], "unverified": [], "conclusions": [c.record() for c in conclusions],
    }  # fmt: skip
    (folder / name / "outcome.json").write_text(json.dumps(record))


def test_the_paper_s_claims_are_one_family_on_the_page_and_green_is_only_what_is_reproduced(tmp_path, monkeypatch):
    claims = iter(paper.CLAIMS)

    def claim(text, p, low, high, reason=None):
        found = Estimate((low + high) / 2, low, high, 5, 60, 600, p)
        return Conclusion(text, found, (0, math.inf), " points", reason, p and next(claims))

    monkeypatch.setattr(results_page, "differences", lambda setting: [])
    monkeypatch.setattr(results_page, "SHOWN_TABLES", {})
    # alone each of the first two is significant; among eight they are not
    outcome(tmp_path, "gender_hypothesis", [claim("one <b>", 0.03, 1, 2), claim("three", 0.001, 1, 2)])
    outcome(tmp_path, "table1", [claim("two", 0.04, 1, 2), claim("four", None, -2, -1), claim("five", 1e-4, 1, 2, "x")])
    page = results_page.page(tmp_path, Setting())
    found = dict(re.findall(r'<li><strong class="[a-z-]+">([\w ]+)</strong>: ([\w &;]+) \(', page))
    assert re.findall(r'<li><strong class="([a-z-]+)">[\w ]+</strong>: ([\w &;]+) \(', page) == [
        ("undecided", "two"), ("not-reproduced", "four"), ("not-applicable", "five"),
        ("undecided", "one &lt;b&gt;"), ("reproduced", "three"),
    ]  # fmt: skip
    assert set(found) == {"Undecided", "Not reproduced", "Not applicable", "Reproduced"}
    assert re.findall(r"(\S+) \{ color: var\(--for\); \}", page) == [".reproduced"]
    assert "p = 0.03, after Holm 0.18 (8 tests of the paper&#x27;s claims)" in page and ", because x" in page
    markdown = results_page.markdown(tmp_path, Setting())
    assert "- **Undecided**: two (" in markdown and "- **Reproduced**: three (" in markdown


def test_rejected_recordings_are_counted_and_for_which_network(tmp_path):
    assert results_page.rejections(tmp_path)[0].startswith("No recording was rejected")
    defects = []
    signals = {"0_01_0": np.minimum(speech(0), 0), "0_01_1": np.minimum(speech(1), 0), "0_02_0": np.zeros(999, "<i2")}
    for stem, samples in signals.items():  # two without positive samples, one silent
        with pytest.raises(RecordingError) as refused:
            network_inputs(wav_file(samples.tobytes()), f"{stem}.wav", 0)
        path = f"{stem[2:4]}/{stem}.wav"
        defects.append(Defect(path, refused.value.expected, refused.value.got, (path,)))
    defects.append(Defect("audioMNIST_meta.txt", "a gender", "none", ("02/0_02_0.wav",)))  # a second one of it
    defects.append(Defect("splits.json digit split 0", "speakers of this corpus", "test names speaker 9"))
    write_rejected(tmp_path / "rejected.csv", defects)
    (said,) = results_page.rejections(tmp_path)
    assert said.startswith("3 recordings were rejected, for both networks: 2 because AudioNet's scaling")
    assert "1 because neither network" in said


def test_trained_splits_are_not_called_missing(monkeypatch, tmp_path):
    class Run:
        iterations, engine, folder = 10_000, "e", tmp_path

        def __init__(self, split):
            self.run = RunName("AlexNet", "digit", split)

    (tmp_path / "solver.prototxt").write_text('type: "SGD"')
    for count, said in ((5, False), (4, True)):
        monkeypatch.setattr(results_page, "trained_runs", lambda setting, n=count: [Run(k) for k in range(n)])
        text = " ".join(results_page.differences(Setting(tmp_path, tmp_path, tmp_path)))
        assert ("AlexNet on digit:" in text) is said
        assert "AlexNet on gender: 0 of the paper's 4 splits are trained." in text


def test_preparing_makes_the_lists_that_miss_one(small_study, tmp_path, monkeypatch):
    preprocessed = shutil.copytree(small_study / "preprocessed", tmp_path / "pre")
    missing = preprocessed / "AudioNet_gender_0_test.txt"
    text = missing.read_bytes()
    missing.unlink()
    monkeypatch.setattr("audiomnist.runs.prepare.available_cores", lambda: 1)  # other processes take longer to start
    setting = Setting(small_study / "data", preprocessed, small_study / "runs")
    runs = [RunName(network, task, 0) for network in NETWORKS for task in ("digit", "gender")]
    study.prepare(setting, runs, demo=False, skip_invalid=False)
    assert missing.read_bytes() == text


@pytest.mark.slow
def test_the_page_says_what_differs(results, small_study):
    differences = " ".join(
        results_page.differences(Setting(small_study / "data", small_study / "preprocessed", small_study / "runs"))
    )
    assert "AlexNet was trained for 20 iterations; the paper's solver does 10000." in differences
    assert "AudioNet on gender: 1 of the paper's 4 splits are trained." in differences
    assert "The engine that trained is made up;" in differences


@pytest.mark.slow
def test_nothing_is_made_twice(results, capsys):
    output, options = results
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*")}
    assert study.main(options) == 0
    assert capsys.readouterr().err.count("made before from the same inputs") == len(study.catalogue())
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*")} == before


# --- Slurm -----------------------------------------------------------------------------------------------------------

SBATCH = """#!/usr/bin/env bash
n=$(($(cat "$JOBS/count" 2>/dev/null || echo 100) + 1)); echo "$n" >"$JOBS/count"
printf '%s\\n' "$@" >"$JOBS/$n.arguments"; cat >"$JOBS/$n.script"; echo "$n"
"""


def test_slurm_gets_three_jobs_that_wait_for_each_other(folders, tmp_path):
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    spaced = tmp_path / "a place"
    environment = {
        **os.environ,
        "PATH": f"{sbatch.parent}:{os.environ['PATH']}",
        "JOBS": str(tmp_path),
        "SLURM_LOGS": str(tmp_path / "logs"),
        "PYTHON": sys.executable,
        "SBATCH_OPTIONS": "--gres=gpu:1 --time=1:00:00",
    }
    options = [*folders[:-1], str(spaced), "--seed", "3"]
    done = subprocess.run([SLURM, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["prepare 101", f"train   102 ({RUNS} runs)", "results 103"]
    given = [(tmp_path / f"{n}.arguments").read_text().splitlines() for n in (101, 102, 103)]
    for own, name in zip(given, ("prepare", "train", "results"), strict=True):
        assert own[:3] == ["--parsable", f"--job-name=audiomnist-{name}", f"--chdir={ROOT}"]
        numbers = "%A_%a" if name == "train" else "%j"
        assert own[3] == f"--output={tmp_path}/logs/%x_{numbers}.log"
        assert own[4:6] == ["--gres=gpu:1", "--time=1:00:00"]
    waits = [[], [f"--array=0-{RUNS - 1}", "--dependency=afterok:101"], ["--dependency=afterany:102"]]
    assert [own[6:] for own in given] == waits
    for n, step in ((101, "prepare"), (102, "train"), (103, "experiments")):
        script = (tmp_path / f"{n}.script").read_text()
        shown = script.replace("exec ", "printf '%s\\n' ")
        called = subprocess.run(
            ["bash", "-c", shown], capture_output=True, text=True, env={**os.environ, "SLURM_ARRAY_TASK_ID": "17"}
        ).stdout.splitlines()
        tail = ["--run-number", "17"] if step == "train" else []
        assert called == [sys.executable, "-m", "audiomnist", "study", *options, "--steps", step, *tail]


def test_slurm_fails_before_submitting_where_it_cannot(folders, tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "env", "sed", "wc"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    environment = {**os.environ, "PYTHON": sys.executable, "PATH": str(tmp_path / "bin")}
    done = subprocess.run([SLURM, *folders], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "slurm.sh: sbatch: expected a machine that submits to Slurm, got one without the command\n"


# --- by the real commands --------------------------------------------------------------------------------------------


def test_paper_is_an_option_of_train_test(folders, tmp_path):
    command = ["bash", ROOT / "train_test.sh", "--paper", *folders, "--list"]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == RUNS


@pytest.mark.slow
def test_the_whole_study_from_recordings_to_the_page_and_again(tmp_path):
    data = make_corpus(tmp_path / "some data")
    options = [
        "--data",
        data,
        "--preprocessed",
        tmp_path / "pre",
        "--runs",
        tmp_path / "runs",
        "--output",
        tmp_path / "out",
        "--quick",
        "--max-iter",
        "1",
        "--cpu",
        "--limit",
        "1",
        "--composite",
        "epsilon_plus",
    ]
    command = [sys.executable, "-m", "audiomnist", "study", *options]
    first = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert (
        first.stderr.count(": done after") == 2 * len(NETWORKS)
        and (tmp_path / "out" / "index.html").stat().st_size > 100_000
    )
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/snapshots/*")}
    again = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and again.stderr.count("tested before") == 2 * len(NETWORKS)
    assert again.stderr.count("made before from the same inputs") == len(study.catalogue())
    assert weights == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/snapshots/*")}
