"""Same seed, same bits; a run killed at any moment and resumed ends as if it had never been killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffe_proto import read_solver_state, read_weights
from tests.solver_cases import write_corpus

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 40
NET = """name: "dropout"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "train.txt" batch_size: 4 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "test.txt" batch_size: 5 shuffle: true } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 20 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = f"""net: "net.prototxt" max_iter: {ITERATIONS} display: 5 snapshot: 7 snapshot_prefix: "s" base_lr: 0.1
lr_policy: "step" stepsize: 15 gamma: 0.5 momentum: 0.9 random_seed: 4 test_iter: 2 test_interval: 6 iter_size: 2 """
SLOW = 0.02  # seconds that the slowed run takes per iteration, so that kills find it at work


def make_run(folder, solver=SOLVER):
    folder.mkdir()
    write_corpus(folder)
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(solver)
    return folder


def start(folder, *arguments, slow=False, cache="0"):
    """The command line in `folder`, its log in `log`; `slow` makes it pause in every iteration."""
    program = ["-m", "caffe"]
    if slow:  # the pause sits in the poll for signals; results do not depend on it
        program = [
            "-c",
            "import sys, time; from caffe import cli, training; call = training.SignalAction.__call__;"
            f"training.SignalAction.__call__ = lambda self: (time.sleep({SLOW}), call(self))[1];"
            "sys.exit(cli.main(sys.argv[1:]))",
        ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CAFFE_HDF5_CACHE_MB": cache}
    with open(folder / "log", "a") as log:
        return subprocess.Popen(
            [sys.executable, *program, "train", "-solver=solver.prototxt", *arguments],
            cwd=folder,
            stderr=log,
            env=environment,
        )


def result(folder, iteration=ITERATIONS):
    """(weights, history) of a finished run, as lists of arrays."""
    weights = [a for arrays in read_weights(folder / f"s_iter_{iteration}.caffemodel").values() for a in arrays]
    state = read_solver_state(folder / f"s_iter_{iteration}.solverstate")
    return weights, [np.array(blob.data, np.float32) for blob in state.history]


def assert_same_bits(one, other):
    for mine, theirs in zip(one[0] + one[1], other[0] + other[1], strict=True):
        assert mine.tobytes() == theirs.tobytes()


def latest(folder):
    return max(folder.glob("s_iter_*.solverstate"), key=lambda p: int(p.stem.split("_")[-1]), default=None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("undisturbed") / "run")
    assert start(folder).wait() == 0
    return folder


@pytest.mark.slow
def test_same_seed_same_bits_whatever_the_cache(undisturbed, tmp_path):
    folder = make_run(tmp_path / "run")
    assert start(folder, cache="100").wait() == 0
    assert_same_bits(result(folder), result(undisturbed))
    other = make_run(tmp_path / "other", SOLVER.replace("random_seed: 4", "random_seed: 5"))
    assert start(other).wait() == 0
    assert result(other)[0][0].tobytes() != result(undisturbed)[0][0].tobytes()


@pytest.mark.slow
def test_killed_and_resumed_run_ends_with_the_same_bits(undisturbed, tmp_path):
    """SIGKILL at random moments, until the run is through; temporary files may stay, final names are complete."""
    folder, moments, kills = make_run(tmp_path / "run"), random.Random(1), 0
    while True:
        newest = latest(folder)
        process = start(folder, *([f"-snapshot={newest.name}"] if newest else []), slow=kills < 3)
        begun = time.monotonic()
        while kills < 3 and process.poll() is None:
            fresh = latest(folder)
            if fresh != newest or time.monotonic() - begun > 30:
                time.sleep(moments.uniform(0, 10 * SLOW))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        status = process.wait()
        if status == 0:
            break
        assert status == -signal.SIGKILL, (folder / "log").read_text()[-2000:]
        kills += 1
    assert kills == 3
    assert_same_bits(result(folder), result(undisturbed))
    for name in ("s_curve.csv", "s_curve.png"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.parametrize(
    "signal_sent, arguments, stops",
    [
        (signal.SIGINT, (), True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (signal.SIGHUP, (), False),
                (signal.SIGINT, ("-sigint_effect=snapshot",), False),
                (signal.SIGHUP, ("-sighup_effect=stop",), True),
                (signal.SIGHUP, ("-sighup_effect=none",), None),
            )
        ),
    ],
)
def test_signals_have_the_effects_that_the_flags_name(signal_sent, arguments, stops, undisturbed, tmp_path):
    folder = make_run(tmp_path / "run")
    process = start(folder, *arguments, slow=True)
    while "Iteration 10, lr" not in (folder / "log").read_text() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal_sent)
    assert process.wait() == 0
    log = (folder / "log").read_text()
    made = {int(p.stem.split("_")[-1]) for p in folder.glob("s_iter_*.solverstate")}
    extra = made - {7, 14, 21, 28, 35, ITERATIONS}
    assert ("Optimization stopped early." in log) == bool(stops)
    if stops:
        assert len(made) <= 5 and ITERATIONS not in made
        assert start(folder, f"-snapshot={latest(folder).name}").wait() == 0
    elif stops is False:
        assert len(extra) == 1
    else:
        assert not extra
    assert_same_bits(result(folder), result(undisturbed))


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_snapshots_and_says_so(undisturbed, tmp_path):
    """A limit on the size of files stands for the full disk: it too fails in the middle of writing."""
    folder = make_run(tmp_path / "run", SOLVER.replace("max_iter: 40", "max_iter: 14"))
    assert start(folder).wait() == 0
    before = {p.name: p.read_bytes() for p in folder.glob("s_iter_*")}
    (folder / "solver.prototxt").write_text(SOLVER)
    limit = max(map(len, before.values())) // 2
    code = (
        "import resource, signal, sys; from caffe import cli; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "-solver=solver.prototxt", "-snapshot=s_iter_14.solverstate"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 134
    assert "Traceback" not in done.stderr
    assert "snapshot s_iter_21: expected files that can be written, got File too large" in done.stderr
    after = {p.name: p.read_bytes() for p in folder.glob("s_iter_*")}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"s_iter_21.caffemodel", "s_iter_21.resume"}  # whole files, but no state
    assert not list(folder.glob(".*.part"))
    assert start(folder, "-snapshot=s_iter_14.solverstate").wait() == 0
    assert_same_bits(result(folder), result(undisturbed))


@pytest.mark.slow
def test_a_snapshot_without_its_resume_file_or_with_another_list_says_so(tmp_path):
    folder = make_run(tmp_path / "run")
    assert start(folder).wait() == 0
    (folder / "train.txt").write_text("train1.hdf5\ntrain0.hdf5\n")
    assert start(folder, "-snapshot=s_iter_35.solverstate").wait() == 0
    assert "the stored data position is of another list of files than train.txt" in (folder / "log").read_text()
    (folder / "s_iter_35.resume").unlink()
    assert start(folder, "-snapshot=s_iter_35.solverstate").wait() == 0
    assert "s_iter_35.resume not found" in (folder / "log").read_text()
