"""A whole study in miniature: recordings, inputs and runs whose weights are drawn, not trained.

Everything lies where the real commands put it and has their formats: only the learning is left out.
"""

import numpy as np

import caffe
from audiomnist.preprocessing import command
from audiomnist.runs import render
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RunName
from caffe_proto import caffe_pb2, read_solver, write_message
from tests.small_corpus import make_corpus

RUNS = [RunName(network, task, 0) for network in NETWORKS for task in ("digit", "gender")]
ITERATIONS = 20
ACCURACY = {"AlexNet": 0.75, "AudioNet": 0.5}  # what the made-up logs say

TRAIN_LOG = """\
I0101 00:00:00.000000     1 solver.cpp:1] Iteration 0 (0 iter/s, 0s/25 iters), loss = 2.5
I0101 00:00:00.000000     1 solver.cpp:1]     Train net output #0: loss = 2.5 (* 1 = 2.5 loss)
I0101 00:00:00.000000     1 solver.cpp:1] Iteration 10, Testing net (#0)
I0101 00:00:00.000000     1 solver.cpp:1]     Test net output #0: accuracy = 0.25
I0101 00:00:00.000000     1 solver.cpp:1]     Test net output #1: loss = 1.75 (* 1 = 1.75 loss)
I0101 00:00:00.000000     1 solver.cpp:1] Iteration 10 (4 iter/s, 5s/10 iters), loss = 1.5
I0101 00:00:00.000000     1 solver.cpp:1] Iteration 20, Testing net (#0)
I0101 00:00:00.000000     1 solver.cpp:1]     Test net output #0: accuracy = 0.5
I0101 00:00:00.000000     1 solver.cpp:1]     Test net output #1: loss = 1.25 (* 1 = 1.25 loss)
I0101 00:00:00.000000     1 solver.cpp:1] Iteration 20, loss = 1
"""
TEST_LOG = """\
I0101 00:00:00.000000     1 caffe.cpp:1] Batch 0, accuracy = 1
I0101 00:00:00.000000     1 caffe.cpp:1] accuracy = {accuracy}
I0101 00:00:00.000000     1 caffe.cpp:1] loss = 0.5 (* 1 = 0.5 loss)
"""


def draw_weights(deploy, path, seed):
    """A caffemodel for the net, weights normal with He's deviation, biases small.

    The draws are repeated every million values or so: millions of them would take most of the time.
    """
    net = caffe.Net(str(deploy), caffe.TEST)
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal(999_983, np.float32)
    for weight, bias in net.params.values():
        scale = np.float32(np.sqrt(2 / np.prod(weight.data.shape[1:])))
        weight.data[...] = scale * np.resize(np.roll(draws, -rng.integers(draws.size)), weight.data.shape)
        bias.data[...] = 0.01 * rng.standard_normal(bias.data.shape)
    net.save(str(path))


def make_run(folder, run, preprocessed, seed):
    """A run folder as `train_test.sh` leaves it, with drawn weights."""
    arguments = [run.network, run.task, str(run.split), "--preprocessed", str(preprocessed), "--run", str(folder)]
    assert render.main([*arguments, "--max-iter", str(ITERATIONS), "--engine", "made up"]) == 0
    stem = folder / "snapshots" / f"{run.network}_iter_{ITERATIONS}"
    draw_weights(folder / "deploy.prototxt", f"{stem}.caffemodel", seed)
    state = caffe_pb2.SolverState(iter=ITERATIONS, learned_net=f"{stem}.caffemodel")
    write_message(f"{stem}.solverstate", state)
    (folder / "train.log").write_text(TRAIN_LOG)
    (folder / "test.log").write_text(TEST_LOG.format(accuracy=ACCURACY[run.network]))
    assert read_solver(folder / "solver.prototxt").max_iter == ITERATIONS


def make_study(folder):
    """Make data/, preprocessed/ and runs/ in `folder`: six speakers, three digits, both networks, both tasks."""
    make_corpus(folder / "data")
    source, destination = folder / "data", folder / "preprocessed"
    assert command.main(["-src", str(source), "-dst", str(destination), "--jobs", "1"]) == 0
    for seed, run in enumerate(RUNS):
        (folder / "runs" / str(run)).mkdir(parents=True)
        make_run(folder / "runs" / str(run), run, destination, seed)
    return folder
