"""Version and commit in everything that a run leaves: run.json, outcome.json, relevance files."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from audiomnist import __version__, provenance
from audiomnist.explain import cli
from audiomnist.study.catalogue import find
from audiomnist.study.outcome import carry_out
from audiomnist.study.setting import Setting

ROOT = Path(__file__).resolve().parents[2]


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e@x")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with a copy of the module; (its folder, a function that asks a fresh process for the commit)."""
    package = tmp_path / "audiomnist"
    package.mkdir()
    shutil.copy(ROOT / "audiomnist" / "provenance.py", package)
    code = f"import runpy; print(runpy.run_path({str(package / 'provenance.py')!r})['commit']())"

    def ask():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    return tmp_path, ask


def test_the_commit_is_gits_and_changes_are_said(repository):
    folder, ask = repository
    assert ask() == "unknown"  # a plain copy
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    head = git(folder, "rev-parse", "HEAD")
    assert ask() == head
    (folder / "notes.txt").write_text("untracked files change no result")
    assert ask() == head
    with open(folder / "audiomnist" / "provenance.py", "a") as file:
        file.write("# changed")
    assert ask() == f"{head}+changes"
    (folder / "audiomnist" / "COMMIT").write_text("0123abcd\n")  # as a build leaves it
    assert ask() == "0123abcd"


def test_asking_takes_no_lock(repository):
    """A command that is killed while git holds the index's lock would leave it to whoever works there."""
    folder, ask = repository
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    head, index = git(folder, "rev-parse", "HEAD"), folder / ".git/index"
    os.utime(folder / "audiomnist/provenance.py", (0, 0))  # git would note that it looked, and take the lock for it
    before = index.stat().st_ino, index.read_bytes()
    assert ask() == head
    assert (index.stat().st_ino, index.read_bytes()) == before


def test_a_repository_around_the_project_is_not_asked(repository):
    folder, ask = repository
    (folder / "inner").mkdir()
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    shutil.move(folder / "audiomnist", folder / "inner" / "audiomnist")
    code = f"import runpy; print(runpy.run_path({str(folder / 'inner/audiomnist/provenance.py')!r})['commit']())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "unknown"


def test_everything_that_is_left_names_version_and_commit(small_study, tmp_path):
    wanted = {"version": __version__, "commit": provenance.commit()}
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+changes)?", wanted["commit"])
    runs = small_study / "runs"
    run = next(runs.glob("AudioNet_digit_0"))
    assert json.loads((run / "run.json").read_text())["made_by"] == wanted
    folder, _ = carry_out(find("table1"), Setting(small_study / "data", small_study / "preprocessed", runs), tmp_path)
    assert json.loads((folder / "outcome.json").read_text())["made_by"] == wanted
    weights = next((run / "snapshots").glob("*.caffemodel"))
    wav = next((small_study / "data").glob("*/*.wav"))
    network = ["--model", str(run / "deploy.prototxt"), "--weights", str(weights)]
    assert cli.main([*network, "--input", str(wav), "--save", str(tmp_path / "r.hdf5")]) == 0
    with h5py.File(tmp_path / "r.hdf5") as file:
        assert {name: file.attrs[name] for name in wanted} == wanted
