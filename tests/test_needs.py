"""FAIL_WITHOUT turns a missing device or original engine red; an unknown name in it is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(tmp_path, **variables):
    """A test of something that is never there, run by pytest with these variables."""
    (tmp_path / "test_it.py").write_text(
        "from tests.needs import need\n\ndef test_it():\n    need('cuda', False, 'no CUDA device here')\n"
        "\ndef test_there():\n    need('cuda', True, 'never said')\n"
    )
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure  # noqa: F401\n")
    environment = {key: value for key, value in os.environ.items() if key != "FAIL_WITHOUT"}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)


def test_what_is_missing_is_skipped_aloud(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0 and "1 passed, 1 skipped" in done.stdout and "no CUDA device here" in done.stdout


@pytest.mark.parametrize("names", ["cuda", "bvlc,cuda"])
def test_what_must_be_there_fails(tmp_path, names):
    done = run(tmp_path, FAIL_WITHOUT=names)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    assert "FAIL_WITHOUT=cuda: no CUDA device here" in done.stdout


def test_another_name_changes_nothing(tmp_path):
    done = run(tmp_path, FAIL_WITHOUT="bvlc")
    assert done.returncode == 0 and "1 passed, 1 skipped" in done.stdout


def test_an_unknown_name_is_refused(tmp_path):
    done = run(tmp_path, FAIL_WITHOUT="gpu")
    assert done.returncode == 4 and "FAIL_WITHOUT: expected some of bvlc, cuda, " in done.stderr
