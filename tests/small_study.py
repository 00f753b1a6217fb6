"""A whole study in miniature: recordings, inputs and runs whose weights are drawn, not trained.

Everything lies where the real commands put it and has their formats: only the learning is left out. The last layer
alone is fitted, so that each network's answers to its test recordings are known (`ANSWERS`), some right, some wrong;
what it answers to anything else, such as the same recordings changed, is as good as drawn.
"""

import re

import h5py
import numpy as np

import caffe
from audiomnist.preprocessing import command
from audiomnist.runs import render
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RunName, list_name
from caffe_proto import caffe_pb2, read_solver, write_message
from tests.small_corpus import make_corpus

RUNS = [RunName(network, task, 0) for network in NETWORKS for task in ("digit", "gender")]
SEEDS = (0, 28, 2, 3)  # the second, of AlexNet on gender: scaled axes change its answers by clear margins
ITERATIONS = 20
DIGITS = range(4)
# What each network answers to its test recordings: digits 0 to 3 by speaker 05, who is male, then by 06, who is female.
ANSWERS = {
    "AlexNet_digit_0": (0, 1, 2, 3, 0, 2, 2, 0),
    "AlexNet_gender_0": (0, 1, 0, 0, 1, 0, 1, 1),
    "AudioNet_digit_0": (1, 1, 2, 7, 0, 1, 5, 5),
    "AudioNet_gender_0": (0, 1, 0, 1, 1, 1, 0, 0),
}
ACCURACY = {"AlexNet": 0.75, "AudioNet": 0.5}  # of those answers, and what the made-up logs say

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


def draw_weights(net, seed):
    """Weights normal with He's deviation, biases small, for every layer of the net.

    The draws are repeated every million values or so: millions of them would take most of the time.
    """
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal(999_983, np.float32)
    for weight, bias in net.params.values():
        scale = np.float32(np.sqrt(2 / np.prod(weight.data.shape[1:])))
        weight.data[...] = scale * np.resize(np.roll(draws, -rng.integers(draws.size)), weight.data.shape)
        bias.data[...] = 0.01 * rng.standard_normal(bias.data.shape)


def fit_last_layer(net, data, answers, seed):
    """Make the net answer `answers` (N,) to data (N, C, H, W): the shortest weights that give the wanted scores.

    The answer's score is 2, give or take what is drawn; the others lie around 0.
    """
    layer = list(net.params)[-1]
    net.blobs[net.inputs[0]].reshape(*data.shape)
    net.blobs[net.inputs[0]].data[...] = data
    net.forward()
    below = np.array(net.blobs[net.bottom_names[layer][0]].data, np.float64)
    weight, bias = net.params[layer]
    wanted = 0.2 * np.random.default_rng(seed).standard_normal((len(data), len(bias.data)))
    wanted[np.arange(len(data)), list(answers)] += 2
    centre = below.mean(axis=0)
    fitted = np.linalg.lstsq(below - centre, wanted - wanted.mean(axis=0), rcond=None)[0]
    weight.data[...] = fitted.T
    bias.data[...] = wanted.mean(axis=0) - centre @ fitted


def inputs_of(preprocessed, run):
    """The run's test inputs (N, C, H, W), in the order of their list."""
    data = []
    for name in (preprocessed / list_name(run, "test")).read_text().split():
        with h5py.File(preprocessed / name) as file:
            data.append(file["data"][()])
    return np.concatenate(data)


def narrow(folder):
    """Give the layers of a run's prototxts, but for the last, an eighth of their outputs: passes take a tenth of the
    time, and everything else is as it was."""
    for path in folder.glob("*.prototxt"):
        wide = [int(number) for number in re.findall(r"num_output: (\d+)", path.read_text())]
        outputs = iter([*(8 * -(-number // 64) for number in wide[:-1]), *wide[-1:]])
        parts = re.split(r"(?<=num_output: )\d+", path.read_text())
        path.write_text("".join(text + str(next(outputs, "")) for text in parts))


def make_run(folder, run, preprocessed, seed):
    """A run folder as `train_test.sh` leaves it, with drawn weights."""
    arguments = [run.network, run.task, str(run.split), "--preprocessed", str(preprocessed), "--run", str(folder)]
    assert render.main([*arguments, "--max-iter", str(ITERATIONS), "--engine", "made up"]) == 0
    narrow(folder)
    stem = folder / "snapshots" / f"{run.network}_iter_{ITERATIONS}"
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    draw_weights(net, seed)
    fit_last_layer(net, inputs_of(preprocessed, run), ANSWERS[str(run)], seed)
    net.save(f"{stem}.caffemodel")
    state = caffe_pb2.SolverState(iter=ITERATIONS, learned_net=f"{stem}.caffemodel")
    write_message(f"{stem}.solverstate", state)
    (folder / "train.log").write_text(TRAIN_LOG)
    (folder / "test.log").write_text(TEST_LOG.format(accuracy=ACCURACY[run.network]))
    assert read_solver(folder / "solver.prototxt").max_iter == ITERATIONS


def make_study(folder):
    """Make data/, preprocessed/ and runs/ in `folder`: six speakers, four digits, both networks, both tasks."""
    make_corpus(folder / "data", digits=DIGITS)
    source, destination = folder / "data", folder / "preprocessed"
    assert command.main(["-src", str(source), "-dst", str(destination), "--jobs", "1"]) == 0
    for run, seed in zip(RUNS, SEEDS, strict=True):
        (folder / "runs" / str(run)).mkdir(parents=True)
        make_run(folder / "runs" / str(run), run, destination, seed)
    return folder
