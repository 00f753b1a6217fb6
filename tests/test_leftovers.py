"""A run of tests ends: what a test leaves behind is named and ended, and a test that takes for ever is stopped."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROCESS = "subprocess.Popen(['sleep', '3600'])"
GRANDCHILD = "subprocess.run(['sh', '-c', 'sleep 3600 >/dev/null 2>&1 &'])"
THREAD = "threading.Thread(target=time.sleep, args=(3600,), name='waits').start()"
NOTHING = "subprocess.run(['sleep', '0']); threading.Thread().start()"
FOR_EVER = "time.sleep(3600)"


def run(tmp_path, what, *arguments):
    """pytest, with this project's fixture, over one test that does `what`."""
    (tmp_path / "test_it.py").write_text(f"import subprocess, threading, time\n\n\ndef test_it():\n    {what}\n")
    names = "pytest_configure, pytest_unconfigure, nothing_is_left_behind"
    (tmp_path / "conftest.py").write_text(
        f"from tests import leftovers\nfrom tests.conftest import {names}  # noqa: F401\nleftovers.GRACE = 0.2\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begun = time.monotonic()
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, env=environment, timeout=120)
    return done, time.monotonic() - begun


@pytest.mark.parametrize(
    "what, words",
    [(PROCESS, "sleep 3600"), (GRANDCHILD, "sleep 3600"), (THREAD, "the thread waits, which is no daemon")],
    ids=["process", "grandchild", "thread"],
)
def test_what_is_left_behind_is_an_error_and_ends(tmp_path, what, words):
    done, seconds = run(tmp_path, what)
    assert done.returncode == 1 and "1 passed, 1 error" in done.stdout and seconds < 100
    assert "left behind by test_it.py: " in done.stdout and words in done.stdout


def test_what_ends_by_itself_is_none(tmp_path):
    done, _ = run(tmp_path, NOTHING)
    assert done.returncode == 0 and "1 passed" in done.stdout and "error" not in done.stdout


def test_a_test_without_an_end_is_stopped_with_its_stack(tmp_path):
    options = ("-o", "faulthandler_timeout=2", "-o", "faulthandler_exit_on_timeout=true")
    done, seconds = run(tmp_path, FOR_EVER, *options)
    assert done.returncode not in (0, None) and seconds < 100
    assert "Timeout" in done.stderr and 'test_it.py", line 5 in test_it' in done.stderr


def test_the_limits_are_set(pytestconfig):
    assert 60 <= float(pytestconfig.getini("faulthandler_timeout")) <= 900
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
