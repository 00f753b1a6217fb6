"""benchmarks/faults: a part of it with a fixed seed; a writer that is not atomic is found; what it counts."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import harness, page
from tests.needs import need
from tests.small_corpus import wav_file

ROOT = Path(__file__).resolve().parents[2]
START = "import sys\n{plant}\nfrom benchmarks.faults.__main__ import main\nsys.exit(main(sys.argv[1:]))"
CARELESS = """
import contextlib
from caffe_proto import atomic
@contextlib.contextmanager
def careless(path, flush=True):
    with open(path, "wb") as file:
        yield file
atomic.atomic_file = careless
"""


def faults(folder, *arguments, plant=""):
    """(exit status, {scene: its row}, output) of `python -m benchmarks.faults`, in a process of its own."""
    need("strace", shutil.which("strace"), "NOT TRIED: kills and failing calls, for want of strace")
    results = folder / "results.json"
    command = [sys.executable, "-c", START.format(plant=plant), *arguments, "--results", results]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    rows = json.loads(results.read_text()) if results.exists() else {}
    return done.returncode, rows.get(arguments[0], {}), done.stdout + done.stderr


def count(rows):
    return sum(sum(row["counts"].values()) for row in rows.values())


@pytest.mark.slow
def test_thirty_kills_lose_nothing(tmp_path):
    scenes = ["preprocessing", "training", "recording and cutting"]
    status, rows, output = faults(tmp_path, "kills", *scenes, "--count", "30", "--seed", "7")
    assert status == 0 and [row["wrong"] for row in rows.values()] == [[], [], []], output
    assert count(rows) >= 30 and all(row["counts"].keys() == {"at moments", "at calls"} for row in rows.values())


@pytest.mark.slow
def test_fifty_calls_that_fail_are_said_and_leave_nothing(tmp_path):
    scenes = ["preprocessing", "training, HDF5 snapshots"]
    status, rows, output = faults(tmp_path, "writes", *scenes, "--each", "3")
    assert status == 0 and [row["wrong"] for row in rows.values()] == [[], []], output
    assert count(rows) >= 50, output


@pytest.mark.slow
def test_two_at_once_are_both_right_or_one_is_refused(tmp_path):
    status, rows, output = faults(tmp_path, "pairs", "preprocessing", "training", "--each", "3")
    assert status == 0 and count(rows) == 6 and not any(row["wrong"] for row in rows.values()), output


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("kills", "--count", "8", "--seed", "2"), ("writes", "--each", "1")])
def test_a_writer_that_is_not_atomic_is_found(arguments, tmp_path):
    status, rows, output = faults(tmp_path, arguments[0], "preprocessing", *arguments[1:], plant=CARELESS)
    said = [what for _, _, wrong in rows["preprocessing"]["wrong"] for what in wrong]
    assert status == 1 and any(one.endswith("0 bytes that no undisturbed run has under that name") for one in said)


LOG = """\
10 openat(AT_FDCWD</f>, "/f/a", O_RDONLY) = 3</f/a>
10 openat(AT_FDCWD</f>, "/f/a", O_WRONLY|O_CREAT, 0666) = 3</f/a>
10 write(3</f/a>, "x", 1) = 1
10 write(2</dev/pts/0>, "x", 1) = 1
11 write(3</f/b>, "x", 1 <unfinished ...>
11 write(3</f/b>, "x", 1) = 1
10 rename("/f/a", "/f/deep/c") = 0
10 rename("/elsewhere", "/f2/c") = 0
10 +++ exited with 0 +++
"""


def test_the_calls_that_concern_a_folder_are_numbered_as_strace_counts_them(tmp_path):
    (tmp_path / "log").write_text(LOG)
    found = harness.points(tmp_path / "log", Path("/f"))
    # the second write of one thread is of the folder, that of the other is not
    assert [(one.call, one.number, one.file) for one in found] == [
        ("openat", 2, "a"), ("write", 1, "a"), ("rename", 1, "deep/c"),
    ]  # fmt: skip


def test_numbers_of_takes_that_a_kill_has_cost_are_free_and_takes_are_whole():
    from benchmarks.faults import scenes

    second = b'{"event": "take", "take": 2, "file": "takes/0002.wav", "series": [1], "time": 3}\n'
    assert scenes.whole_events(second) == scenes.whole_events(second.replace(b"2", b"3") + b'{"event": "ta')
    assert scenes.whole_events(second) != scenes.whole_events(second.replace(b"[1]", b"[4]"))
    take = wav_file(bytes(100))
    assert scenes.is_wav(take) and not any(map(scenes.is_wav, (b"", take[:20], take[:-1])))


def test_what_differs_is_named():
    found, wanted = {"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"x", "d": b"4"}
    assert harness.differences(found, wanted) == ["b: another content", "c: too much", "d: missing"]
    assert harness.sampled(range(10), 4) == [0, 2, 5, 7] and harness.sampled(range(3), 4) == [0, 1, 2]


def test_who_is_killed():
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        shell.stdout.readline()
        (sleep,) = harness.children(shell.pid)
        try:
            found = {who: harness._victims(who, random.Random(0), shell.pid) for who in ("all", "main", "another")}
            assert found == {"all": [shell.pid, sleep], "main": [shell.pid], "another": [sleep]}
            assert harness._victims("another", random.Random(0), sleep) == [sleep]  # it has none
        finally:
            os.kill(sleep, signal.SIGKILL)


RESULTS = {
    "kills": {
        "training": {"seed": 3, "trials": 4, "counts": {"at moments": 2, "at calls": 3}, "seconds": 4.4,
                     "wrong": [["at calls, 3", "write 3", ["s.resume: 3 bytes"]]], "date": "2026-11-28"},
        "recording": {"seed": 3, "trials": 1, "counts": {"at calls": 1}, "seconds": 1.0, "wrong": [],
                      "date": "2026-11-29"},
    },
    "writes": {"training": {"seed": 0, "trials": 9, "counts": {"write EIO": 5, "fsync EIO": 4}, "seconds": 2.0,
                            "wrong": [], "date": "2026-11-29"}},
    "pairs": {"training": {"seed": 0, "trials": 2, "counts": {"pairs": 2}, "seconds": 1.0, "wrong": [],
                           "date": "2026-11-29"}},
}  # fmt: skip


def test_the_section_counts_and_what_people_wrote_stays():
    text = page.section(RESULTS)
    assert "| training | 2 | 3 | 9 | 0 | 2 | 0 | 1 | 7 |" in text
    assert "| recording | 0 | 1 | 0 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "| **all** | 2 | 4 | 9 | 0 | 2 | 0 | 1 | 8 |" in text and "2026-11-28 to 2026-11-29" in text
    assert "fsync EIO 4, write EIO 5." in text and "- training, at calls, 3 (write 3): s.resume: 3 bytes" in text
    whole = page.replaced("# First\n\nwords\n", text)
    assert whole == f"# First\n\nwords\n\n{text}"
    by_hand = f"{whole}\n{page.FINDINGS}\n\nA bug.\n\n# Last\n\nmore\n"
    again = page.replaced(by_hand, page.section({}))
    assert again.endswith(f"\n{page.FINDINGS}\n\nA bug.\n\n# Last\n\nmore\n") and "s.resume" not in again
    assert page.replaced(again, page.section({})) == again
