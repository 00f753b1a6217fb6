"""Fixtures for every test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import must_be_there, need

BVLC = Path(__file__).with_name("bvlc.sh")


def pytest_configure():
    must_be_there()
    # a shell without job control starts background commands with both ignored, which all their children inherit
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def settings_of_the_environment(monkeypatch):
    """The engine reads its settings once a process; a test that changes the environment reads them itself."""
    if "caffe.context" in sys.modules:
        monkeypatch.setattr(sys.modules["caffe.context"], "_settings", None)


@pytest.fixture(scope="session")
def bvlc():
    """Runs the original BVLC Caffe 1.0: bvlc("caffe" | "python3", *arguments, cwd=folder, check=True).

    Returns the subprocess.CompletedProcess with text output; Caffe logs to its stderr. Skips where the original is not
    installed (`tests/bvlc.sh --install` does it).
    """
    status = subprocess.run([BVLC, "--status"], capture_output=True, text=True)
    need("bvlc", status.returncode == 0, f"NOT COMPARED with the original Caffe: {status.stderr.strip()}")

    def run(program, *arguments, cwd=None, check=True):
        command = [str(BVLC), program, *map(str, arguments)]
        # the original's log is what is looked at: a log level that some test has set must not silence it
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
        if check and done.returncode != 0:
            tail = "\n".join(done.stderr.splitlines()[-15:])
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{tail}")
        return done

    return run


@pytest.fixture(scope="session")
def small_study(tmp_path_factory):
    """A folder with data/, preprocessed/ and runs/ of a study in miniature (tests/small_study.py); read it only."""
    from tests.small_study import make_study

    return make_study(tmp_path_factory.mktemp("study"))
