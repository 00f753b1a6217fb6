"""Fixtures for every test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leftovers
from tests.needs import must_be_there, need

BVLC = Path(__file__).with_name("bvlc.sh")


def pytest_configure():
    must_be_there()
    leftovers.mark()
    # a shell without job control starts background commands with both ignored, which all their children inherit
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: it is heard by children alone
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_modifyitems(config, items):
    """With several workers, files with slow tests come first: none of them is begun when all else is done."""
    if config.getoption("dist", "no") != "no":
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure():
    """A thread that waits for ever must not keep the run from ending; the test that left it is red already."""
    if leftovers.threads():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind():
    """The last test of a file is an error when its tests left processes (which are killed) or threads behind."""
    before = set(leftovers.threads())
    yield
    left = leftovers.end_them() if leftovers.processes() or set(leftovers.threads()) - before else []
    assert not left, f"left behind by {os.environ['PYTEST_CURRENT_TEST'].split('::')[0]}: " + "; ".join(left)


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
