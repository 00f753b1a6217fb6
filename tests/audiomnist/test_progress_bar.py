"""Bars and lines of progress, and --quiet, which leaves results and faults."""

import io
import json
import os
import subprocess
import sys

import pytest
from small_corpus import make_corpus

from audiomnist import progress_bar
from audiomnist.corpus import validate
from audiomnist.progress_bar import QUIET
from audiomnist.runs import train_test


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(QUIET, "")  # so that what a command sets ends with the test


class Screen(io.StringIO):
    def isatty(self):
        return True


def states(monkeypatch, stream, **options):
    """What 1,000 steps draw, when each takes 0.05 s of a clock of our own."""
    clock = [0.0]

    def steps():
        for step in range(1000):
            clock[0] += 0.05
            yield step

    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress_bar.progress_bar(steps(), unit="rec", total=1000, desc="work", **options)
    bar._time = lambda: clock[0]
    bar.start_t = bar.last_print_t = 0.0
    assert list(bar) == list(range(1000))
    return [text for text in stream.getvalue().split("\r") if text.strip()]


def test_a_file_gets_a_state_every_ten_seconds_and_a_screen_ten_a_second(monkeypatch):
    in_file, on_screen = states(monkeypatch, io.StringIO()), states(monkeypatch, Screen())
    assert 5 <= len(in_file) <= 7 and 300 <= len(on_screen) <= 501  # 50 s: the first, one every 10 s, the last
    for drawn in (in_file, on_screen):
        assert "work:   0%" in drawn[0] and "1000/1000" in drawn[-1] and "rec/s" in drawn[-1]


@pytest.mark.parametrize("value, hidden", [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_hides_bars(monkeypatch, value, hidden):
    monkeypatch.setenv(QUIET, value)
    assert (states(monkeypatch, Screen()) == []) is hidden is progress_bar.quiet()


def test_a_bar_that_is_not_to_be_shown(monkeypatch):
    assert states(monkeypatch, Screen(), shown=False) == []


def test_a_quiet_command_says_what_it_found_and_no_more(tmp_path, capsys):
    make_corpus(tmp_path)
    assert validate.main([str(tmp_path), "--jobs", "1"]) == 0
    loud = capsys.readouterr()
    assert os.environ[QUIET] == "" and "listening: 100%" in loud.err
    assert validate.main([str(tmp_path), "--jobs", "1", "--quiet"]) == 0
    assert capsys.readouterr() == (loud.out, "") and os.environ[QUIET] == "1"
    with pytest.raises(SystemExit):
        validate.main([str(tmp_path / "nowhere"), "--quiet", "--jobs", "0"])
    assert "--jobs" in capsys.readouterr().err


def test_a_quiet_command_starts_quiet_commands(monkeypatch):
    assert train_test.parse(["--quiet", "AlexNet"]).selection == ("AlexNet", "all", "all")
    code = "import json; from audiomnist.progress_bar import quiet; print(json.dumps(quiet()))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) is True
