"""train_test.sh as a user calls it, with a small engine of our own that speaks Caffe's command line and log."""

import contextlib
import csv
import ctypes
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audiomnist.runs.networks import NETWORKS
from tests import leftovers
from tests.small_corpus import make_corpus
from tests.stand_in_engine import calls, command_line, make_engine, make_inputs

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "train_test.sh"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def home(tmp_path):
    """A folder with the stand-in engine and preprocessed lists of both networks and tasks."""
    folder = tmp_path / "some where"
    make_inputs(folder / "in puts")
    make_engine(folder)
    return folder


def environment(home, **variables):
    variables = {"CAFFE": command_line(home), "VIRTUAL_ENV": sys.prefix, **variables}
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", leftovers.MARK) if k in os.environ}
    return {**kept, **variables}


def command(home, *arguments):
    return [SCRIPT, "--preprocessed", home / "in puts", "--runs", home / "ru ns", *arguments]


def call(home, *arguments, **variables):
    """Run train_test.sh from another folder; returns the completed process."""
    return subprocess.run(
        command(home, *arguments), env=environment(home, **variables), cwd=home, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


def test_a_run_is_trained_tested_and_not_made_again(home):
    done = call(home, "--max-iter", "8", "AudioNet", "gender", "2")
    assert done.returncode == 0, done.stderr
    run = home / "ru ns" / "AudioNet_gender_2"
    assert calls(home, "train") == [[str(home / "in puts"), "train", f"-solver={run}/solver.prototxt"]]
    model = run / "snapshots" / "AudioNet_iter_8.caffemodel"
    wanted = [str(home / "in puts"), "test", f"-model={run}/test.prototxt", f"-weights={model}", "-iterations=1"]
    assert calls(home, "test") == [wanted]
    with open(home / "ru ns" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"network": "AudioNet", "task": "gender", "split": "2", "iterations": "8", "accuracy": "0.92",
                     "loss": "0.25", "run": "AudioNet_gender_2"}]  # fmt: skip
    assert "92.00" in done.stdout
    assert "91.74 ± 8.60" in done.stdout  # the paper's
    again = call(home, "--max-iter", "8", "AudioNet", "gender", "2")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert len(calls(home, "train")) == len(calls(home, "test")) == 1


def test_quick_takes_the_demos_solver(home):
    assert call(home, "--quick", "--max-iter", "2", "AlexNet", "digit", "0").returncode == 0
    assert 'type: "Adam"' in (home / "ru ns" / "AlexNet_digit_0" / "solver.prototxt").read_text()
    paper = call(home, "--max-iter", "2", "AlexNet", "digit", "0")
    assert paper.returncode == 1
    assert "another run with" in paper.stderr


def test_all_splits_give_mean_and_deviation(home):
    done = call(home, "--max-iter", "2", "AlexNet", "digit")
    assert done.returncode == 0, done.stderr
    assert len(calls(home, "train")) == 5
    # accuracies 90 to 94: mean 92, population standard deviation sqrt(2)
    assert any(line.split()[:6] == ["AlexNet", "digit", "5", "92.00", "±", "1.41"] for line in done.stdout.splitlines())


def test_an_ended_training_continues_from_its_last_snapshot(home):
    first = call(home, "--max-iter", "6", "AlexNet", "digit", "0", ENGINE_STOPS="AlexNet_digit_0")
    assert first.returncode == 1
    assert "AlexNet_digit_0: training: expected a snapshot of the last iteration, got" in first.stderr
    assert not (home / "ru ns" / "summary.csv").exists()
    second = call(home, "--max-iter", "6", "AlexNet", "digit", "0")
    assert second.returncode == 0, second.stderr
    state = home / "ru ns" / "AlexNet_digit_0" / "snapshots" / "AlexNet_iter_3.solverstate"
    assert calls(home, "train")[1][3:] == [f"-snapshot={state}"]


def test_a_training_that_was_killed_after_its_last_snapshot_is_brought_to_its_end(home):
    """What it does after that, a last test and the end of its curve, is not lost."""
    run = home / "ru ns" / "AlexNet_digit_0"
    assert call(home, "--max-iter", "6", "AlexNet", "digit", "0").returncode == 0
    (run / "test.log").unlink()
    log = run / "train.log"
    with open(log, "a") as file:  # as of one that was stopped early, continued, and killed
        file.write("I0101 00:00:00.000000     1 caffe.cpp:1] Starting Optimization\n")
        file.write("I0101 00:00:00.000000     1 solver.cpp:1] Optimization Done.\n")  # before the command says it too
    assert call(home, "--max-iter", "6", "AlexNet", "digit", "0").returncode == 0
    state = run / "snapshots" / "AlexNet_iter_6.solverstate"
    assert [one[3:] for one in calls(home, "train")] == [[], [f"-snapshot={state}"]]
    (run / "test.log").unlink()  # ended now: it is tested, and no more
    assert call(home, "--max-iter", "6", "AlexNet", "digit", "0").returncode == 0
    assert len(calls(home, "train")) == 2 and len(calls(home, "test")) == 3


def test_a_failing_run_is_named_and_the_others_go_on(home):
    done = call(home, "--max-iter", "2", "all", "gender", "1", ENGINE_FAILS="AlexNet_gender_1")
    assert done.returncode == 1
    assert "AlexNet_gender_1: training: expected exit status 0, got 134" in done.stderr
    assert "the disk is made of cheese" in done.stderr
    assert done.stderr.rstrip().endswith("not done: AlexNet_gender_1")
    assert "AudioNet" in done.stdout
    assert call(home, "--max-iter", "2", "all", "gender", "1").returncode == 0  # and can be made later


def test_other_settings_never_mix_with_a_run(home):
    assert call(home, "--max-iter", "2", "AlexNet", "digit", "0").returncode == 0
    longer = call(home, "--max-iter", "4", "AlexNet", "digit", "0")
    assert longer.returncode == 1
    assert "has `max_iter: 4`, got another run with `max_iter: 2`" in longer.stderr
    seeded = call(home, "--max-iter", "2", "--seed", "3", "AlexNet", "digit", "0")
    assert "has `random_seed: 3`, got another run with `random_seed: 0`" in seeded.stderr
    listed = home / "in puts" / "AlexNet_digit_0_train.txt"
    listed.write_text(listed.read_text() + "01/AlexNet_0_01_1.hdf5\n")
    other = call(home, "--max-iter", "2", "AlexNet", "digit", "0").stderr
    assert "expected a run of these recordings, got one of others (train;" in other


@pytest.mark.parametrize(
    ("arguments", "has_gpu", "wanted"),
    [
        ((), "", []),
        ((), "yes", ["-gpu", "0"]),
        (("--cpu",), "yes", []),
        (("--gpu", "3"), "", ["-gpu", "3"]),
        (("--gpu", "3", "--cpu"), "yes", []),
        (("--cpu", "--gpu", "3"), "", ["-gpu", "3"]),
    ],
)
def test_device(home, arguments, has_gpu, wanted):
    assert call(home, *arguments, "--max-iter", "2", "AudioNet", "digit", "4", ENGINE_HAS_GPU=has_gpu).returncode == 0
    assert calls(home, "train")[0][3:] == wanted
    assert calls(home, "test")[0][5:] == wanted


def test_precision_is_recorded_and_never_mixed(home):
    assert call(home, "--tf32", "--max-iter", "20", "AlexNet", "digit", "1", ENGINE_HAS_GPU="yes").returncode == 0
    record = home / "ru ns" / "AlexNet_digit_1" / "run.json"
    assert json.loads(record.read_text())["origin"]["engine"].endswith("engine.py' (TF32)")
    other = call(home, "--max-iter", "20", "AlexNet", "digit", "1", ENGINE_HAS_GPU="yes")
    assert other.returncode == 1 and "engine" in other.stderr
    on_cpu = call(home, "--tf32", "--cpu", "--max-iter", "20", "AlexNet", "digit", "2")
    assert on_cpu.returncode == 0  # nothing is rounded there
    record = home / "ru ns" / "AlexNet_digit_2" / "run.json"
    assert json.loads(record.read_text())["origin"]["engine"].endswith("engine.py'")


def test_several_devices_share_the_runs(home):
    done = call(home, "--gpu=0,3", "--max-iter", "2", "AudioNet", "digit")
    assert done.returncode == 0, done.stderr
    assert len(calls(home, "train")) == 5 and {call[-1] for call in calls(home, "train")} == {"0", "3"}
    assert "engine.py', GPU 0, GPU 3" in done.stderr
    assert "accuracy = " not in done.stderr  # lines of several runs would mix


def wait_for(process, condition):
    """Wait until condition() is true, a minute at most; the process must not end before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)


def has_begun(log):
    return log.exists() and "Iteration 0" in log.read_text()


@pytest.fixture
def training(home):
    """A training that waits for an interrupt: (process, log)."""
    arguments = command(home, "--max-iter", "10", "--cpu", "AudioNet", "digit", "0")
    log = home / "ru ns" / "AudioNet_digit_0" / "train.log"
    with subprocess.Popen(
        arguments, env=environment(home, ENGINE_WAITS="yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_for(process, lambda: has_begun(log))
            yield process, log
        finally:
            process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(calls(home, "pid")[0][2]), signal.SIGKILL)


@pytest.mark.parametrize(
    ("kill", "number"),
    [
        (os.killpg, signal.SIGINT),  # as the terminal does on Ctrl-C: to every process of the group
        (os.kill, signal.SIGINT),
        (os.kill, signal.SIGTERM),
        (os.kill, signal.SIGHUP),  # the terminal is closed
    ],
)
def test_interrupt_writes_a_snapshot_and_the_same_command_continues(home, training, kill, number):
    process, log = training
    kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the same command continues" in stderr
    assert "Optimization Done." in log.read_text()  # what the engine said after the interrupt is not lost
    assert calls(home, "interrupted")[0][2] == "1"  # it reaches the engine exactly once
    done = call(home, "--max-iter", "10", "--cpu", "AudioNet", "digit", "0", ENGINE_WAITS="yes")
    assert done.returncode == 0, done.stderr
    assert "AudioNet_iter_5.solverstate" in calls(home, "train")[1][3]


def test_quit_ends_a_training_at_once(home, training):
    process, _ = training
    engine = Path("/proc") / calls(home, "pid")[0][2]
    assert engine.exists()
    process.send_signal(signal.SIGQUIT)  # Ctrl-\\
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGQUIT
    deadline = time.monotonic() + 10  # it is killed already, but a busy machine may not have carried that out
    with contextlib.suppress(OSError):  # no such process any more
        while "State:\tZ" not in (engine / "status").read_text():
            assert time.monotonic() < deadline, "the engine lives on"
            time.sleep(0.05)
    assert not calls(home, "interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(home, number):
    ignore = f'trap "" {number.name.removeprefix("SIG")}; exec "$@"'
    arguments = ["bash", "-c", ignore, "-", *command(home, "--max-iter", "2", "--cpu", "AlexNet", "digit", "0")]
    log = home / "ru ns" / "AlexNet_digit_0" / "train.log"
    with subprocess.Popen(arguments, env=environment(home, ENGINE_SLEEPS="2"), stderr=subprocess.DEVNULL) as process:
        wait_for(process, lambda: log.exists() and "Iteration 1" in log.read_text())
        process.send_signal(number)
    assert process.returncode == 0


def test_one_process_at_a_time_works_on_a_run(home, training):
    process, _ = training
    arguments = ("--max-iter", "10", "--cpu", "AudioNet", "digit", "0")
    refused = f"AudioNet_digit_0: {home}/ru ns/AudioNet_digit_0: expected a run that nobody else works on"
    second = call(home, *arguments)
    assert second.returncode == 1 and refused in second.stderr
    process.kill()  # the engine lives on, and writes into the folder
    process.wait()
    third = call(home, *arguments)
    assert third.returncode == 1 and refused in third.stderr


def state(pid):
    """The state of a process as /proc has it: R, S, T and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def on_a_terminal(home):
    """The same training on a terminal of its own: (process, the terminal's other end, what it has shown)."""
    controller, terminal = pty.openpty()
    arguments = ["setsid", "--ctty", *command(home, "--max-iter", "10", "--cpu", "AudioNet", "digit", "0")]
    process = subprocess.Popen(
        arguments, env=environment(home, ENGINE_WAITS="yes"), stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    shown = bytearray()

    def read():
        with contextlib.suppress(OSError):  # the terminal is closed
            while some := os.read(controller, 4096):
                shown.extend(some)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(process, lambda: b"Iteration 0" in shown)
        yield process, controller, shown
    finally:  # a process that lives on would keep the terminal open, and the reader waiting
        process.kill()
        process.wait()
        with contextlib.suppress(OSError, IndexError):
            os.kill(int(calls(home, "pid")[0][2]), signal.SIGKILL)
        reader.join()
        os.close(controller)


def test_on_a_terminal(home, on_a_terminal):
    process, controller, shown = on_a_terminal
    assert b"a line of progress" in shown and b"\r\x1b[K  Iteration 0" in shown
    engine = int(calls(home, "pid")[0][2])
    os.write(controller, b"\x1a")  # Ctrl-Z
    wait_for(process, lambda: state(engine) == state(process.pid) == "T")
    os.killpg(process.pid, signal.SIGCONT)
    wait_for(process, lambda: state(engine) in "RS")
    os.write(controller, b"\x03")  # Ctrl-C
    assert process.wait(timeout=60) == 130
    deadline = time.monotonic() + 10  # the reader may be some lines behind
    while b"the same command continues" not in shown:
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    assert [words[2] for words in calls(home, "interrupted")] == ["1"]


def test_a_signal_that_another_thread_receives_is_heard(home, training):
    process, _ = training
    others = [int(name) for name in os.listdir(f"/proc/{process.pid}/task") if int(name) != process.pid]
    assert others
    assert ctypes.CDLL(None).tgkill(process.pid, others[-1], signal.SIGTERM) == 0
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr


def test_lines_of_progress_appear_when_they_are_written(home):
    messages = home / "messages"
    with open(messages, "w") as file, subprocess.Popen(
        command(home, "--max-iter", "2", "--cpu", "AlexNet", "digit", "0"),
        env=environment(home, ENGINE_SLEEPS="600"), stdout=subprocess.DEVNULL, stderr=file,
    ) as process:  # fmt: skip
        line = "\n  Iteration 1 (1 iter/s, 0.1s/100 iters), loss = 2\n"
        try:
            wait_for(process, lambda: line in messages.read_text())
            assert not calls(home, "trained")
            assert line[2:] in (home / "ru ns" / "AlexNet_digit_0" / "train.log").read_text()
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 130


@pytest.mark.parametrize("paper", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_corpus_with_errors_is_refused_unless_they_are_left_out(home, paper):
    data = make_corpus(home / "recordings")
    (data / "01" / "0_01_0.wav").write_bytes(b"no sound")
    first, last = (["--paper"], ["--steps", "prepare"]) if paper else ([], ["--max-iter", "2", "AlexNet", "digit"])
    folders = ["--data", data, "--preprocessed", home / "new", "--runs", home / "ru ns"]
    arguments = [SCRIPT, *first, *folders, *last]
    done = subprocess.run(arguments, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 1
    assert "01/0_01_0.wav" in done.stderr and "1 errors, " in done.stderr  # the validator's words
    advice = "listed above; --skip-invalid leaves defective recordings out"
    refused = f": {data}: expected recordings without errors, got 1 errors ({advice})\n"
    assert done.stderr.endswith(refused)
    assert not (home / "new").exists()
    done = subprocess.run([*arguments, "--skip-invalid"], env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (home / "new" / "AlexNet_digit_0_test.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
def test_a_stopped_preparation_continues(home, kill, number):
    data, inputs = make_corpus(home / "recordings", digits=range(10), repetitions=5), home / "new"
    arguments = [SCRIPT, "--data", data, "--preprocessed", inputs, "--runs", home / "ru ns", "--max-iter", "2",
                 "AlexNet", "digit"]  # fmt: skip
    with subprocess.Popen(
        arguments, env=environment(home), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(process, lambda: len(list(inputs.glob("*/*.hdf5"))) >= 20)
        kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.endswith("train_test.sh: stopped; the same command continues\n")
    done = subprocess.run(arguments, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_demo_starts_at_most_ten_interpreters(home):
    (home / "hook").mkdir()
    (home / "hook" / "sitecustomize.py").write_text(
        f"import sys\nwith open({str(home / 'starts')!r}, 'a') as file:\n    print(sys.orig_argv, file=file)\n"
    )
    places = ["--data", home / "data", "--preprocessed", home / "pre", "--runs", home / "runs"]
    done = subprocess.run(
        [SCRIPT, "--demo", "--cpu", "--max-iter", "2", *places], capture_output=True, text=True,
        env=environment(home, CAFFE="", PYTHONPATH=str(home / "hook")), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((home / "runs").glob("*/heatmaps/*.png"))) == 8
    starts = (home / "starts").read_text().splitlines()
    engines = [line for line in starts if "'train'" in line or "'test'" in line]
    assert len(engines) == 4 and len(starts) <= 10, "\n".join(starts)


def test_the_script_is_a_door():
    assert len(SCRIPT.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speed", "3"), "command line: expected options that the usage names, got --speed"),
        (("--gpu",), "--gpu: expected a value, got none"),
        (("--max-iter", "0"), "--max-iter: expected a whole number of at least 1, got '0'"),
        (("--max-iter=ten",), "--max-iter: expected a whole number of at least 1, got 'ten'"),
        (("--gpu", "cpu"), "--gpu: expected a whole number of at least 0, got 'cpu'"),
        (("--gpu", "0,x"), "--gpu: expected a whole number of at least 0, got 'x'"),
        (("--runs", ""), "--runs: expected a value, got none"),
        (("AlexNet", "--paper"), "--paper: expected it first"),
        (("AlexNet", "digit", "0", "1"), "expected nothing after network, task and split, got '1'"),
        (("LeNet",), "network: expected AlexNet, AudioNet or all, got LeNet"),
        (("AlexNet", "accent"), "task: expected digit, gender or all, got accent"),
        (("AlexNet", "gender", "4"), "split of task gender: expected 0, 1, 2, 3 or all, got 4"),
    ],
)
def test_misuse(home, arguments, message):
    done = call(home, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.endswith("(--help shows the usage)\n") == (" or all, got " not in message)
    assert not (home / "ru ns").exists()


def test_without_recordings_it_names_the_ways_on(home):
    done = call(home, "--data", "nowhere", "--preprocessed", home / "nothing")
    assert done.returncode == 1
    assert f"{home}/nowhere: expected recordings" in done.stderr
    for way in ("data/download.sh", "--data FOLDER", "--demo"):
        assert way in done.stderr


def test_an_engine_that_is_not_there(home):
    done = call(home, CAFFE="./cafe train")
    assert done.returncode == 1
    assert "expected a Caffe command, got ./cafe, which is no program" in done.stderr


def test_an_engine_that_is_no_program(home):
    program = home / "my-caffe"
    program.write_bytes(b"\x7fELF, or so it says")
    program.chmod(0o755)
    done = call(home, "--max-iter", "2", "AlexNet", "digit", "0", CAFFE="./my-caffe")
    assert done.returncode == 1
    refused = f"AlexNet_digit_0: training: expected a Caffe command that starts, got {program} (Exec format error)"
    assert refused in done.stderr


def test_a_log_that_cannot_be_written(home):
    log = home / "ru ns" / "AlexNet_digit_0" / "train.log"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    done = call(home, "--max-iter", "2", "AlexNet", "digit", "0", ENGINE_WAITS="yes")
    assert done.returncode == 1
    assert f"AlexNet_digit_0: {log}: expected a writable folder with free space, got a full disk" in done.stderr
    assert (log.parent / "snapshots" / "AlexNet_iter_1.solverstate").exists()


def test_a_lock_that_is_a_link_leaves_its_target_as_it_is(home):
    folder, own = home / "ru ns" / "AlexNet_digit_0", home / "own.txt"
    folder.mkdir(parents=True)
    own.write_text("precious")
    (folder / ".lock").symlink_to(own)
    assert call(home, "--max-iter", "2", "AlexNet", "digit", "0").returncode == 0
    assert own.read_text() == "precious"


def test_a_relative_engine_is_found_from_the_preprocessed_folder(home):
    program = home / "my-caffe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{home}/engine.py" "$@"\n')
    program.chmod(0o755)
    assert call(home, "--max-iter", "2", "AlexNet", "digit", "0", CAFFE="./my-caffe").returncode == 0
    assert len(calls(home, "train")) == len(calls(home, "test")) == 1


def test_help_is_the_usage():
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--data", "--preprocessed", "--runs", "--gpu", "--cpu", "--max-iter", "--seed", "--demo", "CAFFE"):
        assert option in done.stdout
    again = subprocess.run([sys.executable, "-m", "audiomnist", "train-test", "--cpu", "--help"], capture_output=True,
                           text=True, cwd=ROOT)  # fmt: skip
    assert (again.returncode, again.stdout) == (0, done.stdout)


# -- folders that hold code --------------------------------------------------------------------------------------------


def lay_traps(folder, mark):
    """Modules with the names of ours, of libraries and of Python's own, which append their name to `mark`."""
    code = f"open({str(mark)!r}, 'a').write(__name__ + '\\n')\n"
    for name in (
        "data.py",
        "h5py.py",
        "random.py",
        "selectors.py",
        "runpy.py",
        "lrp.py",
        "caffe/__init__.py",
        "audiomnist/__init__.py",
        "shlex.py",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)


@pytest.fixture(params=["this Python", "a Python without PYTHONSAFEPATH, as 3.10"])
def virtual_env(request, tmp_path):
    """VIRTUAL_ENV: of this Python, or of one that does not know PYTHONSAFEPATH."""
    if request.param == "this Python":
        return sys.prefix
    python = tmp_path / "old" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nunset PYTHONSAFEPATH\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(tmp_path / "old")


@pytest.mark.slow
def test_nothing_runs_that_lies_in_the_current_or_the_preprocessed_folder(home, virtual_env):
    mark = home / "PWNED"
    for folder in (home, home / "in puts"):
        lay_traps(folder, mark)
    own = call(home, "--cpu", "--max-iter", "1", "AudioNet", "digit", "0", CAFFE="", VIRTUAL_ENV=virtual_env)
    assert "AudioNet_digit_0: training: expected exit status 0, got 134" in own.stderr  # ours, without inputs
    assert "01/AudioNet_" in (home / "ru ns" / "AudioNet_digit_0" / "train.log").read_text()
    assert call(home, "--max-iter", "1", "AudioNet", "digit", "1", VIRTUAL_ENV=virtual_env).returncode == 0
    listed = subprocess.run([SCRIPT, "--paper", "--list", "--preprocessed", "in puts"], cwd=home, capture_output=True,
                            text=True, env=environment(home, VIRTUAL_ENV=virtual_env))  # fmt: skip
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 9 * len(NETWORKS), listed.stderr
    assert not mark.exists(), mark.read_text()


@pytest.mark.parametrize(
    "module",
    ["lrp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("audiomnist", "caffe", "audiomnist study"))],
)
def test_a_module_is_started_from_any_folder(home, virtual_env, module):
    mark = home / "PWNED"
    lay_traps(home, mark)
    script = f'source "{ROOT}/environment.sh"; prepare_environment; "${{PYTHON_MODULE[@]}}" {module} --help'
    done = subprocess.run(["bash", "-c", script], env=environment(home, VIRTUAL_ENV=virtual_env), cwd=home,
                          capture_output=True, text=True)  # fmt: skip
    assert module == "caffe" or done.returncode == 0, done.stderr
    assert "usage" in (done.stdout + done.stderr).lower()
    assert not mark.exists(), mark.read_text()


def test_from_python_3_11_on_dash_m_takes_nothing_from_the_current_folder(home):
    mark = home / "PWNED"
    lay_traps(home, mark)
    script = f'source "{ROOT}/environment.sh"; prepare_environment; env; "$PYTHON" -m audiomnist validate --help'
    done = subprocess.run(["bash", "-c", script], env=environment(home), cwd=home, capture_output=True, text=True)
    assert "PYTHONSAFEPATH=1" in done.stdout.splitlines()
    assert mark.exists() == (sys.version_info < (3, 11)) == (done.returncode != 0)


# -- the environment --------------------------------------------------------------------------------------------------


def pyproject(folder, *dependencies, **extras):
    """A copy of environment.py beside a pyproject.toml with these dependencies; the copy's path."""
    (folder / "environment.py").write_bytes((ROOT / "environment.py").read_bytes())
    lines = ["[project]", 'name = "own"', f"dependencies = {list(dependencies)}", "[project.optional-dependencies]"]
    lines += [f"{name} = {wanted}" for name, wanted in extras.items()]
    (folder / "pyproject.toml").write_text("\n".join(lines))
    return folder / "environment.py"


def test_environment_says_what_an_interpreter_lacks(tmp_path):
    def ask(*extras):
        return subprocess.run([sys.executable, script, *extras], capture_output=True, text=True)

    script = pyproject(
        tmp_path, "numpy>=1.0", "h5py", old=["numpy>=99"], none=["no-such-thing>=1"], all=["own[old,none]"]
    )
    assert ask().returncode == 0
    assert ask("old").stderr.startswith("numpy ") and ask("old").stderr.endswith("is older than 99\n")
    assert (ask("none").returncode, ask("none").stderr) == (1, "no-such-thing is missing\n")
    assert ask("all").stderr.endswith("is older than 99, no-such-thing is missing\n")
    pyproject(tmp_path, 'no-such-thing>=1; python_version < "3.10"', 'nor-this; python_version < "4.0"')
    assert (ask().returncode, ask().stderr) == (1, "nor-this is missing\n")
    pyproject(tmp_path, "numpy==1.0")
    assert ask().returncode == 1 and "expected name>=version, got `numpy==1.0`" in ask().stderr


def test_no_python_is_said_in_one_line(tmp_path):
    for tool in ("bash", "dirname", "basename", "cat", "env"):
        path = next(Path(p) / tool for p in SYSTEM_PATH.split(":") if (Path(p) / tool).exists())
        (tmp_path / tool).symlink_to(path)
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("environment.sh", "environment.py", "pyproject.toml", "requirements.txt", "train_test.sh"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [tmp_path / "bash", copy / "train_test.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "environment: PATH: expected Python 3.10 or newer, got none\n"


@pytest.fixture
def lacking(tmp_path):
    """A copy of the environment's files that wants a package nobody has; returns a function that prepares it."""
    pyproject(tmp_path, "audiomnist-none-such>=1")
    (tmp_path / "environment.sh").write_bytes((ROOT / "environment.sh").read_bytes())
    (tmp_path / "requirements.txt").write_text("audiomnist-none-such==1.0\n")
    tools = tmp_path / "tools"
    tools.mkdir()

    def prepare(python, **variables):
        (tools / "python3").write_text(f'#!/bin/bash\n{python}\nexec "{sys.executable}" "$@"\n')
        (tools / "python3").chmod(0o755)
        script = f'set -euo pipefail; source "{tmp_path}/environment.sh"; prepare_environment'
        variables["PATH"] = f"{tools}:{SYSTEM_PATH}"
        variables |= {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)

    return prepare


@pytest.mark.slow
def test_an_unreachable_index_is_said_in_pips_words(lacking):
    done = lacking("", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1", PIP_FIND_LINKS="")
    assert done.returncode == 1
    said, *last = done.stderr.splitlines()[-4:]
    assert said.startswith("environment: requirements.txt could not be installed (see ") and "pip's last words:" in said
    assert "Failed to establish a new connection" in last[0] and "audiomnist-none-such==1.0" in last[-1]


def test_a_python_without_venv_and_pip_is_said_in_one_line(lacking):
    done = lacking('[[ "$1 $2" == "-m venv" || "$1 $2" == "-m pip" ]] && echo "ensurepip is not available" && exit 1')
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "apt-get install python3-venv" in last
    assert last.endswith("ensurepip is not available")
