"""The whole study as one command: what is trained, in which order, on which device, and what the page says.

Training is left to a stand-in for train_test.sh where only the calls matter; the real one has its own tests.
"""

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiomnist.corpus.splits import OFFICIAL_SPLITS
from audiomnist.runs.networks import NETWORKS
from audiomnist.study import results_page, study
from audiomnist.study.setting import Setting
from tests.small_corpus import make_corpus

ROOT = Path(__file__).resolve().parents[3]
SLURM = ROOT / "slurm.sh"

# for train_test.sh: the environment that runs the tests is the active one
ENVIRONMENT = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

# Records its arguments; waits and fails as the test says; ends on SIGINT as the real script does.
STAND_IN = """#!/usr/bin/env bash
trap 'echo interrupted >>"$CALLS"; exit 130' INT
printf '%s\\n' "$*" >>"$CALLS" # one write: jobs run at once
echo "begin $(date +%s.%N)" >>"$CALLS.${*: -3:1}_${*: -2:1}_${*: -1}"
sleep "${WAITS:-0}" & wait $!
echo "end $(date +%s.%N)" >>"$CALLS.${*: -3:1}_${*: -2:1}_${*: -1}"
[[ "$*" != *"${FAILS:-no such run}" ]]
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """train_test.sh replaced; returns the file of its calls."""
    script = tmp_path / "stand_in.sh"
    script.write_text(STAND_IN)
    monkeypatch.setattr(study, "TRAIN_TEST", script)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture
def folders(tmp_path):
    """Options for a preprocessed folder with AudioMNIST's splits, empty otherwise."""
    (tmp_path / "pre").mkdir()
    shutil.copy(OFFICIAL_SPLITS, tmp_path / "pre" / "splits.json")
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


def test_the_matrix_has_nine_runs_a_network(folders, capsys):
    assert study.main([*folders, "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 18
    for network in NETWORKS:
        own = [(task, split) for _, name, task, split in lines if name == network]
        assert own == [("digit", str(k)) for k in range(5)] + [("gender", str(k)) for k in range(4)]
    assert study.main([*folders, "--list", "--split", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == ["0 AlexNet digit 4", "1 AudioNet digit 4"]
    assert study.main([*folders, "--list", "--split", "7"]) == 2


def test_every_run_is_called_once_with_its_options_and_device(folders, stand_in, tmp_path):
    options = ["--steps", "train", "--gpu", "0,3", "--max-iter", "7", "--seed", "5"]
    assert study.main([*folders, *options]) == 0
    calls = [line.split() for line in stand_in.read_text().splitlines()]
    assert len(calls) == 18 and len({tuple(call[-3:]) for call in calls}) == 18
    for call in calls:
        given = dict(zip(call[:-3:2], call[1:-3:2], strict=True))
        assert given["--max-iter"] == "7" and given["--seed"] == "5" and given["--runs"] == str(tmp_path / "runs")
    assert {call[call.index("--gpu") + 1] for call in calls} == {"0", "3"}


def test_jobs_run_at_once_and_a_device_has_one_at_a_time(folders, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("WAITS", "0.3")
    assert study.main([*folders, "--steps", "train", "--gpu", "0,1", "--split", "0"]) == 0
    spans = {"0": [], "1": []}
    for call in (line.split() for line in stand_in.read_text().splitlines()):
        record = Path(f"{stand_in}.{'_'.join(call[-3:])}").read_text().split()
        spans[call[call.index("--gpu") + 1]].append((float(record[1]), float(record[3])))
    for own in spans.values():
        own.sort()
        assert all(end <= begin for (_, end), (begin, _) in zip(own, own[1:], strict=False))
    both = [(a, b) for a in spans["0"] for b in spans["1"]]
    assert any(a[0] < b[1] and b[0] < a[1] for a, b in both)


def test_a_failed_run_is_named_and_the_others_go_on(folders, stand_in, monkeypatch, capsys):
    monkeypatch.setenv("FAILS", "AudioNet digit 0")
    assert study.main([*folders, "--steps", "train", "--split", "0", "--jobs", "2", "--cpu"]) == 1
    assert len(stand_in.read_text().splitlines()) == 4
    assert "not done: AudioNet_digit_0: no tested run" in capsys.readouterr().err


def test_one_run_by_its_number(folders, stand_in):
    assert study.main([*folders, "--steps", "train", "--run-number", "12"]) == 0
    assert stand_in.read_text().split()[-3:] == ["AudioNet", "digit", "3"]
    with pytest.raises(SystemExit) as misused:
        study.main([*folders, "--run-number", "18"])
    assert misused.value.code == 2


def test_stopping_stops_the_trainings(folders, stand_in, tmp_path):
    environment = {**os.environ, "WAITS": "60"}
    code = (
        "import sys; from pathlib import Path; from audiomnist.study import study; "
        f"study.TRAIN_TEST = Path({str(tmp_path / 'stand_in.sh')!r}); sys.exit(study.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *folders, "--steps", "train", "--jobs", "2", "--cpu"],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (stand_in.exists() and len(stand_in.read_text().splitlines()) == 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command continues" in errors
    assert stand_in.read_text().count("interrupted") == 2 and len(stand_in.read_text().splitlines()) == 4


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
        "What differs from the paper, and why",
        *(record["title"] for record in records),
    }
    assert len(page.sources) == sum(len(record["figures"]) + len(record["sounds"]) for record in records)
    assert all(source.startswith("data:") for source in page.sources)
    text = (output / "RESULTS.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (output / target).exists(), target
    assert "| spectrogram | AlexNet | digit | 1 | 75 |" in text and "95.82" in text


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
    assert done.stdout.split("\n")[:3] == ["prepare 101", "train   102 (18 runs)", "results 103"]
    given = [(tmp_path / f"{n}.arguments").read_text().splitlines() for n in (101, 102, 103)]
    for own, name in zip(given, ("prepare", "train", "results"), strict=True):
        assert own[:3] == ["--parsable", f"--job-name=audiomnist-{name}", f"--chdir={ROOT}"]
        numbers = "%A_%a" if name == "train" else "%j"
        assert own[3] == f"--output={tmp_path}/logs/%x_{numbers}.log"
        assert own[4:6] == ["--gres=gpu:1", "--time=1:00:00"]
    waits = [[], ["--array=0-17", "--dependency=afterok:101"], ["--dependency=afterany:102"]]
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
    assert done.stderr == "slurm.sh: sbatch not found; a machine that submits to Slurm was wanted\n"


# --- by the real commands --------------------------------------------------------------------------------------------


def test_paper_is_an_option_of_train_test(folders, tmp_path):
    command = ["bash", ROOT / "train_test.sh", "--paper", *folders, "--list"]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 18


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
    assert first.stderr.count(": done after") == 4 and (tmp_path / "out" / "index.html").stat().st_size > 100_000
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/snapshots/*")}
    again = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and again.stderr.count("tested before") == 4
    assert again.stderr.count("made before from the same inputs") == len(study.catalogue())
    assert weights == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/snapshots/*")}
