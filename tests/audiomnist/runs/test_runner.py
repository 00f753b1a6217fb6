"""The runner with an engine that does nothing but leave the files of one: devices, jobs, environment, order."""

import dataclasses
import threading
from pathlib import Path

import pytest

from audiomnist.progress_bar import QUIET
from audiomnist.runs import runner as module
from audiomnist.runs.engine import Engine, Stopped
from audiomnist.runs.render import Training
from audiomnist.runs.run_folder import RunError, RunName
from audiomnist.runs.runner import CPU, Runner
from tests.stand_in_engine import make_inputs

RUN = RunName("AudioNet", "gender", 1)


@pytest.fixture
def engine(monkeypatch):
    """An engine whose calls are kept: [(arguments, environment)]; it fails, or ends early, where `told` says so."""
    made = Engine(("caffe",), "a caffe", {"HOME": "/"})
    calls, told, lock = [], {}, threading.Lock()

    def run(self, arguments, folder, log, processes, show, lock_of_run):
        with lock:
            calls.append((arguments, self.environment))
        name = Path(next(w for w in arguments if w.startswith(("-solver", "-model"))).partition("=")[2]).parent
        if (arguments[0], name.name) in told:
            what = told[arguments[0], name.name]
            if isinstance(what, BaseException):
                raise what
        show("a line")
        if arguments[0] == "train":
            last = told.get(("last", name.name), 6)
            prefix = name / "snapshots" / f"{name.name.split('_')[0]}_iter_{last}"
            prefix.with_suffix(".caffemodel").write_bytes(b"weights")
            prefix.with_suffix(".solverstate").write_bytes(bytes([8, last]))
        log.write_text(f"log of {arguments[0]}: Optimization Done.")

    monkeypatch.setattr(Engine, "run", run)
    monkeypatch.setattr(Engine, "has_gpu", lambda self, folder: told.get("gpu", False))
    made.__dict__.update(calls=calls, told=told)
    return made


@pytest.fixture
def make(engine, tmp_path):
    """make(**options): a Runner over lists of inputs; what it says goes to its list `said`."""
    make_inputs(tmp_path / "pre")

    def made(**options):
        said = []
        training = options.pop("training", Training(max_iter=6))
        found = Runner(engine, tmp_path / "pre", tmp_path / "runs", training, said.append, **options)
        found.said = said
        return found

    return made


@pytest.mark.parametrize(
    "gpu, options, devices, jobs, said",
    [
        (False, {}, (CPU,), 1, "CPU"), (True, {}, ("0",), 1, "GPU 0"), (True, {"devices": (CPU,)}, (CPU,), 1, "CPU"),
        (False, {"devices": ("3", "1")}, ("3", "1"), 2, "GPU 3, GPU 1"), (True, {"jobs": 3}, ("0",), 3, "GPU 0"),
    ],
)  # fmt: skip
def test_devices_and_jobs(make, engine, gpu, options, devices, jobs, said):
    engine.told["gpu"] = gpu
    made = make(**options)
    assert (made.devices, made.jobs, made.said) == (devices, jobs, [f"engine: a caffe, {said}"])


@pytest.mark.parametrize(
    "environment, options, wanted, record",
    [
        ({}, {}, {}, "a caffe"),
        ({}, {"jobs": 2}, {"OMP_NUM_THREADS": "4"}, "a caffe"),  # of nine cores
        ({}, {"jobs": 20}, {"OMP_NUM_THREADS": "1"}, "a caffe"),
        ({"OMP_NUM_THREADS": "3"}, {"jobs": 2}, {"OMP_NUM_THREADS": "3"}, "a caffe"),
        ({}, {"tf32": True}, {"CAFFE_TF32": "1"}, "a caffe"),  # nothing is rounded on the CPU
        ({}, {"tf32": True, "devices": ("0",)}, {"CAFFE_TF32": "1"}, "a caffe (TF32)"),
        ({"CAFFE_TF32": "1"}, {"devices": ("0",)}, {"CAFFE_TF32": "1"}, "a caffe (TF32)"),
        ({"CAFFE_TF32": "0"}, {"devices": ("0",)}, {"CAFFE_TF32": "0"}, "a caffe"),
    ],
)
def test_the_engines_environment_and_its_name_in_the_record(
    make, engine, tmp_path, monkeypatch, environment, options, wanted, record
):
    monkeypatch.setattr(module, "available_cores", lambda: 9)
    monkeypatch.setattr(module, "_terminal", lambda: None)
    given = dataclasses.replace(engine, environment=environment)
    made = Runner(given, tmp_path, tmp_path, Training(), lambda text: None, **options)
    assert (made.engine.environment, made.record) == (wanted, record) and given.environment == environment


def test_a_run_alone_on_a_terminal_draws_its_progress_there(engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_terminal", lambda: "/dev/pts/9")

    def made(environment, **options):
        given = dataclasses.replace(engine, environment=environment)
        return Runner(given, tmp_path, tmp_path, Training(), lambda text: None, **options)

    alone, told, both = made({}), made({"CAFFE_PROGRESS": "0"}), made({}, jobs=2)
    assert alone.engine.environment == {"CAFFE_PROGRESS": "/dev/pts/9"}
    assert told.engine.environment == {"CAFFE_PROGRESS": "0"} and "CAFFE_PROGRESS" not in both.engine.environment
    for one in (alone, told, both):
        one._show("line")
    assert capsys.readouterr().err == "\r\x1b[Kline\nline\n"  # those of several would mix


def test_a_quiet_runner_tells_faults_alone(make, engine, monkeypatch, capsys):
    monkeypatch.setenv(QUIET, "1")
    monkeypatch.setattr(module, "_terminal", lambda: "/dev/pts/9")
    made, other = make(), RunName("AudioNet", "gender", 0)
    engine.told["train", str(other)] = RunError("", "exit status 0", "134")
    assert made.advance_all([RUN, other]) == [other] and made.advance_all([RUN]) == []
    assert made.said == [f"{other}: training: expected exit status 0, got 134"] and capsys.readouterr().err == ""
    assert "CAFFE_PROGRESS" not in made.engine.environment


def test_a_new_run_is_trained_and_tested_with_its_files_on_its_device(make, engine, tmp_path):
    made, run = make(devices=("3",)), tmp_path / "runs/AudioNet_gender_1"
    assert made.advance_all([RUN]) == []
    weights = run / "snapshots/AudioNet_iter_6.caffemodel"
    assert [arguments for arguments, _ in engine.calls] == [
        ["train", f"-solver={run}/solver.prototxt", "-gpu", "3"],
        ["test", f"-model={run}/test.prototxt", f"-weights={weights}", "-iterations=1", "-gpu", "3"],
    ]
    assert made.said[1:] == [f"{RUN}: training", f"{RUN}: testing AudioNet_iter_6.caffemodel"]
    assert (run / "test.log").read_text() == "log of test: Optimization Done." and not (
        run / "test.log.partial"
    ).exists()
    assert made.advance_all([RUN]) == [] and made.said[-1] == f"{RUN}: tested before" and len(engine.calls) == 2


def test_a_training_that_ended_early_fails_and_continues_next_time(make, engine, tmp_path):
    made, state = make(), tmp_path / "runs/AudioNet_gender_1/snapshots/AudioNet_iter_3.solverstate"
    engine.told["last", str(RUN)] = 3
    assert made.advance_all([RUN]) == [RUN]
    assert made.said[-1].startswith(f"{RUN}: training: expected a snapshot of the last iteration, got an earlier one")
    engine.told.clear()
    assert made.advance_all([RUN]) == []
    assert engine.calls[1][0] == ["train", f"-solver={state.parents[1]}/solver.prototxt", f"-snapshot={state}"]
    assert f"{RUN}: training continues from AudioNet_iter_3.solverstate" in made.said


def test_a_failed_test_is_made_again_without_training(make, engine, tmp_path):
    made = make()
    (tmp_path / "runs/AudioNet_gender_1").mkdir(parents=True)
    (tmp_path / "runs/AudioNet_gender_1/test.log.partial").write_text("of a test that was killed")
    engine.told["test", str(RUN)] = RunError("", "exit status 0", "1")
    assert made.advance_all([RUN]) == [RUN]
    assert made.said[-1] == f"{RUN}: testing: expected exit status 0, got 1"
    assert not (tmp_path / "runs/AudioNet_gender_1/test.log").exists()
    engine.told.clear()
    assert made.advance_all([RUN]) == []
    assert [arguments[0] for arguments, _ in engine.calls] == ["train", "test", "test"]


def test_who_failed_is_returned_in_order_and_everyone_is_told(make, engine):
    runs = [RunName("AudioNet", "gender", k) for k in range(4)]
    engine.told["train", str(runs[1])] = RunError("", "exit status 0", "134")
    engine.told["train", str(runs[3])] = OSError(28, "No space left on device")
    ended = []
    made = make(jobs=2)
    assert made.advance_all(runs, lambda run, fine, seconds: ended.append((run, fine, seconds))) == [runs[1], runs[3]]
    assert sorted((run, fine) for run, fine, _ in ended) == [(run, k % 2 == 0) for k, run in enumerate(runs)]
    assert all(0 <= seconds < 60 for *_, seconds in ended)


def test_jobs_share_the_devices_evenly(make, engine):
    """Three jobs at once on two devices: 0, 1 and 0 again."""
    running, seen = [], []
    meet = threading.Barrier(3)
    made = make(jobs=3, devices=("0", "1"))

    def advance(run, device):
        seen.append(device)
        running.append(meet.wait(30))

    made.advance = advance
    assert made.advance_all([RunName("AudioNet", "gender", k) for k in range(3)]) == []
    assert sorted(seen) == ["0", "0", "1"] and len(running) == 3


def test_what_was_stopped_is_neither_failed_nor_ended(make, engine):
    made, ended = make(), []
    engine.told["train", str(RUN)] = Stopped()
    made.processes.stopped = True
    with pytest.raises(KeyboardInterrupt):
        made.advance_all([RUN], lambda *words: ended.append(words))
    assert ended == []
    with pytest.raises(Stopped), made.processes.start(["true"]):  # no engine is started any more
        pass


def test_stderr_that_is_no_terminal_is_none(capsys):
    assert module._terminal() is None
