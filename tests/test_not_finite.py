"""NaN and infinite numbers end with one sentence wherever they enter or arise, never with a result.

The nets have a convolution with a ReLU behind it, which makes NaN 0 on the CPU: the loss alone shows nothing there.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from audiomnist.explain import cli as lrp_cli
from audiomnist.explain.drawing import compare
from audiomnist.explain.faithfulness import main as faithfulness_main
from audiomnist.explain.report import Report
from audiomnist.signal.geometry import SPECTROGRAM
from audiomnist.study.catalogue import catalogue
from audiomnist.study.command import main as experiment_main
from caffe import cli as caffe_cli
from caffe import graph, training
from caffe.mode import CONTEXT
from caffe_proto import CaffeFileError, array_to_blobproto, caffe_pb2, read_weights, write_message
from caffe_proto.texts import read_json
from lrp import AlphaBeta, Composite, Epsilon, Gamma, LRPError, Network, ZBox, read_composite
from tests.graph_emulator import EmulatedGraph
from tests.net_cases import log_messages
from tests.small_corpus import speech, wav_file

ROOT = Path(__file__).resolve().parent.parent
BATCH, CHANNELS, SIZE, CLASSES = 4, 3, 6, 3
LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""
DATA = 'layer { name: "d" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "l.txt" batch_size: 4 } }'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
ACCURACY = 'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }'
NET = DATA + LAYERS + LOSS
DEPLOY = (
    """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
"""
    + LAYERS
    + 'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }'
)
SHAPES = {"conv": [(4, 3, 3, 3), (4,)], "ip": [(3, 64), (3,)]}
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" snapshot_prefix: "s" random_seed: 1 max_iter: 6 '


def refused(count, numbers):
    """What is said of `count` of `numbers` that are not finite."""
    return f"expected finite numbers, got {count} of {numbers} that are NaN or infinite"


def weights(seed=0):
    """{layer: [weight, bias]}, float32."""
    rng = np.random.default_rng(seed)
    return {name: [rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes] for name, shapes in SHAPES.items()}


def spoilt(layer, index, values):
    """The weights, the first numbers of one blob replaced by `values`, or all of them by a single number."""
    made = weights()
    if np.ndim(values):
        made[layer][index].flat[: len(values)] = values
    else:
        made[layer][index][...] = values
    return made


def write_weights(path, arrays):
    """Weights in the form that the name's end asks for: .caffemodel, or .h5."""
    if str(path).endswith(".h5"):
        with h5py.File(path, "w") as file:
            for name, blobs in arrays.items():
                for index, blob in enumerate(blobs):
                    file[f"data/{name}/{index}"] = blob
        return
    net = caffe_pb2.NetParameter()
    for name, blobs in arrays.items():
        net.layer.add(name=name).blobs.extend(array_to_blobproto(blob) for blob in blobs)
    write_message(path, net)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory: nets, data, weights good.caffemodel, recordings r0.hdf5 to r2.hdf5 and their list."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    with h5py.File("d.hdf5", "w") as file:
        file["data"] = rng.normal(size=(8, CHANNELS, SIZE, SIZE)).astype(np.float32)
        file["label"] = rng.integers(0, CLASSES, 8).astype(np.float32)
    for k in range(3):
        with h5py.File(f"r{k}.hdf5", "w") as file:
            file["data"] = rng.normal(size=(1, CHANNELS, SIZE, SIZE)).astype(np.float32)
            file["label"] = np.array([[k, 1]], np.float32)
    Path("l.txt").write_text("d.hdf5\n")
    Path("list.txt").write_text("r0.hdf5\nr1.hdf5\nr2.hdf5\n")
    Path("net.prototxt").write_text(NET)
    Path("deploy.prototxt").write_text(DEPLOY)
    write_weights("good.caffemodel", weights())
    return tmp_path


def engine(capsys, *arguments):
    """(status, log messages) of the engine's command line."""
    capsys.readouterr()
    status = caffe_cli.main(list(arguments))
    text = capsys.readouterr().err
    assert "Traceback" not in text and "Warning" not in text
    return status, [message for _, message in log_messages(text)]


def relevance(capsys, *arguments, weights="good.caffemodel"):
    """(status, stderr) of lrp's command line."""
    capsys.readouterr()
    status = lrp_cli.main(["--model", "deploy.prototxt", "--weights", weights, *map(str, arguments)])
    return status, capsys.readouterr().err


# --- weights ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["bad.caffemodel", "bad.caffemodel.h5"])
@pytest.mark.parametrize(
    ("layer", "index", "values", "count"),
    [
        ("conv", 0, math.nan, "108 of 108"),
        ("conv", 1, [math.inf], "1 of 4"),
        ("ip", 0, [1, -math.inf, math.nan], "2 of 192"),
    ],
)
def test_weights_that_are_not_finite_are_refused_by_every_reader(name, layer, index, values, count, here):
    write_weights(name, spoilt(layer, index, values))
    Path("solver.prototxt").write_text(SOLVER + f'weights: "{name}"')
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    before = net.params[layer][index].data.copy()
    readers = [
        lambda: read_weights(name),
        lambda: net.copy_from(name),
        lambda: net.load_hdf5(name),
        lambda: caffe.Net("deploy.prototxt", name, caffe.TEST),
        lambda: Network("deploy.prototxt", name),
        lambda: caffe.Net("deploy.prototxt", caffe.TEST, weights=name),
        lambda: caffe.get_solver("solver.prototxt"),
    ]
    for reader in readers:
        with pytest.raises(CaffeFileError) as caught:
            reader()
        assert str(caught.value) == (
            f"{name}: layer {layer}: blob {index}: expected finite numbers, got {count} that are NaN or infinite"
        )
    np.testing.assert_array_equal(net.params[layer][index].data, before)


def test_doubles_beyond_single_precision_are_refused(here):
    net = caffe_pb2.NetParameter()
    net.layer.add(name="ip").blobs.add(double_data=[1, 1e300]).shape.dim.append(2)
    write_message("double.caffemodel", net)
    with pytest.raises(CaffeFileError, match=f"layer ip: blob 0: {refused(1, 2)}"):
        read_weights("double.caffemodel")


def test_blobs_in_a_prototxt_are_refused(here):
    blobs = "blobs { shape { dim: 3 dim: 64 } %s } blobs { shape { dim: 3 } data: 0 data: inf data: 0 }"
    ip = 'name: "ip" type: "InnerProduct" '
    Path("filled.prototxt").write_text(DEPLOY.replace(ip, ip + blobs % ("data: 1 " * 192)))
    with pytest.raises(
        CaffeFileError,
        match=f"layer 'ip' .*blob 1 in the prototxt: {refused(1, 3)}",
    ):
        caffe.Net("filled.prototxt", caffe.TEST)


@pytest.mark.parametrize("command", ["test -model=net.prototxt", "train -solver=solver.prototxt"])
def test_the_engine_s_commands_end_before_the_first_number(command, here, capsys):
    write_weights("bad.caffemodel", spoilt("conv", 0, math.nan))
    Path("solver.prototxt").write_text(SOLVER + "display: 1")
    status, messages = engine(capsys, *command.split(), "-weights=bad.caffemodel")
    assert status == 134
    assert messages[-1].startswith(f"bad.caffemodel: layer conv: blob 0: {refused(108, 108)}")
    assert not any("loss =" in message for message in messages)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_state_whose_model_or_history_is_not_finite_is_refused(form, here, capsys):
    text = SOLVER + f"momentum: 0.9 snapshot_format: {form}"
    Path("solver.prototxt").write_text(text)
    solver = caffe.get_solver("solver.prototxt")
    solver.step(2)
    solver.snapshot()
    end = ".h5" if form == "HDF5" else ""
    state, model = f"s_iter_2.solverstate{end}", f"s_iter_2.caffemodel{end}"
    good = Path(state).read_bytes()
    if end:
        with h5py.File(state, "r+") as file:
            file["history/3"][1] = np.nan
    else:
        content = caffe_pb2.SolverState.FromString(good)
        content.history[3].data[1] = math.nan
        Path(state).write_bytes(content.SerializeToString())
    train = ("train", "-solver=solver.prototxt", f"-snapshot={state}")
    status, messages = engine(capsys, *train)
    assert status == 134
    assert messages[-1] == f"{state}: history blob 3: expected finite numbers, got 1 of 3 that are NaN or infinite"
    Path(state).write_bytes(good)
    assert engine(capsys, *train)[0] == 0
    write_weights(model, spoilt("ip", 1, [math.inf]))
    status, messages = engine(capsys, *train)
    assert status == 134 and messages[-1].startswith(f"{model}: layer ip: blob 1: {refused(1, 3)}")


# --- settings --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("solver", "net", "words"),
    [
        ("momentum: nan", "", "solver.prototxt: momentum: expected a finite number, got nan"),
        ("clip_gradients: -inf", "", "solver.prototxt: clip_gradients: expected a finite number, got -inf"),
        ("", "loss_weight: 1 loss_weight: nan", "net.prototxt: layer 'x': loss_weight: expected a finite number, got"),
        ("", "param { } param { lr_mult: 1e39 }", "net.prototxt: layer 'x': param[1].lr_mult: expected a finite"),
        (
            "",
            "inner_product_param { bias_filler { value: inf } }",
            "net.prototxt: layer 'x': inner_product_param.bias_filler.value: expected a finite number, got inf",
        ),
        ("net_param { layer { name: 'y' elu_param { alpha: nan } } }", "", "net_param.layer 'y': elu_param.alpha: ex"),
    ],
)
def test_settings_are_finite(solver, net, words, here, capsys):
    Path("solver.prototxt").write_text(SOLVER + solver)
    Path("net.prototxt").write_text(NET + f'layer {{ name: "x" type: "InnerProduct" {net} }}')
    status, messages = engine(capsys, "train", "-solver=solver.prototxt")
    assert status == 134 and words in messages[-1]


@pytest.mark.parametrize("value", ["NaN", "-Infinity"])
def test_json_has_no_such_numbers(value, tmp_path):
    (tmp_path / "c.json").write_text(f'{{"default": {{"rule": "Epsilon", "epsilon": {value}}}}}')
    with pytest.raises(CaffeFileError, match=f"c.json: expected a thing, got JSON .*{value}, which is no number"):
        read_json(tmp_path / "c.json", "a thing")


# --- caffe test ------------------------------------------------------------------------------------------------------
def constant(name, value):
    return (
        f'layer {{ name: "{name}" type: "DummyData" top: "{name}" dummy_data_param {{ shape {{ dim: 4 }} '
        f"data_filler {{ value: {value} }} }} }}"
    )


OUTPUTS = {  # a net of finite weights and data: what the last line says
    constant("a", "1e30")
    + constant("b", "-1e30")
    + 'layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "b" top: "loss" }': "output loss: expected",
    constant("a", "-1") + 'layer { name: "log" type: "Log" bottom: "a" top: "log" }': "output log: expected finite",
    constant("a", "1e30") + constant("b", "0") + 'layer { name: "product" type: "Power" bottom: "a" top: "p" '
    'power_param { power: 2 } loss_weight: 1 } layer { name: "quiet" type: "Silence" bottom: "p" }'
    'layer { name: "twice" type: "Power" bottom: "b" top: "twice" }': "the loss: expected finite",
    DATA + LAYERS + ACCURACY: "layer 'accuracy' is given scores:",
}


@pytest.mark.parametrize("net", OUTPUTS, ids=OUTPUTS.values())
def test_numbers_that_are_not_finite_end_a_test(net, here, capsys):
    Path("net.prototxt").write_text(net)
    write_weights(
        "large.caffemodel", {name: [np.full_like(a, 3e38) for a in arrays] for name, arrays in weights().items()}
    )
    status, messages = engine(capsys, "test", "-model=net.prototxt", "-weights=large.caffemodel", "-iterations=2")
    assert status == 134
    assert messages[-1].startswith(f"large.caffemodel: batch 0: {OUTPUTS[net]}"), messages[-1]
    assert messages[-1].endswith(" (look at weights and data)")
    assert not any(message.startswith("Loss:") for message in messages)


def test_the_batch_is_named(here, capsys):
    with h5py.File("d.hdf5", "r+") as file:
        file["data"][5] = 1e38
    status, messages = engine(capsys, "test", "-model=net.prototxt", "-weights=good.caffemodel", "-iterations=2")
    assert status == 134 and messages[-1].startswith("good.caffemodel: batch 1: ")


@pytest.mark.parametrize(
    ("scores", "top_k", "wanted"),
    [
        ([[np.nan] * 3] * 2, 1, 0),
        ([[np.nan] * 3] * 2, 2, 0),
        ([[np.nan] * 3] * 2, 3, 0),
        ([[np.nan, 1, 2], [0, 1, 2]], 1, 0),
        ([[np.nan, 1, 2], [3, 1, 2]], 1, 0.5),
        ([[1, np.nan, np.nan], [3, 1, 2]], 1, 0.5),
        ([[1, np.nan, 0], [3, 1, 2]], 2, 1),
        ([[1, np.inf, 0], [np.inf, 1, 2]], 1, 0.5),
        ([[2, 2, 0], [2, 1, 0]], 1, 0.5),
    ],
)
def test_accuracy_never_counts_nan_as_right(scores, top_k, wanted, here):
    Path("a.prototxt").write_text(f"""
        layer {{ name: "s" type: "Input" top: "s" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
        layer {{ name: "l" type: "Input" top: "l" input_param {{ shape {{ dim: 2 }} }} }}
        layer {{ name: "a" type: "Accuracy" bottom: "s" bottom: "l" top: "a" top: "each"
                 accuracy_param {{ top_k: {top_k} }} }}""")
    net = caffe.Net("a.prototxt", caffe.TEST)
    net.blobs["s"].data[...] = scores
    net.blobs["l"].data[...] = 0
    assert net.forward()["a"] == wanted and net.blobs["each"].data.tolist() == [wanted, 0, 0]


# --- training --------------------------------------------------------------------------------------------------------
class Spoiler:
    """An action function that makes a weight NaN after some updates, as divergence would."""

    def __init__(self, after):
        self.after, self.calls, self.solver = after, 0, None

    def __call__(self):
        self.calls += 1
        if self.calls == self.after:
            self.solver.net.learnable_params[0].value[0, 0, 0, 0] = math.nan
        return caffe.solver.Action.NONE


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize(
    ("asked", "last"),
    [
        ("display: 3", 3),
        ("test_iter: 1 test_interval: 4", 4),
        ("display: 5 test_iter: 1 test_interval: 4", 4),
        ("snapshot: 5", 5),
        ("display: 6 snapshot_after_train: false", 6),
    ],
)
def test_training_ends_at_the_next_display_or_test(asked, last, replayed, here, monkeypatch, capsys):
    """A NaN in the convolution's weights, after which the losses are finite: its ReLU makes NaN 0."""
    if replayed:
        monkeypatch.setitem(graph.KINDS, "cpu", EmulatedGraph)
        monkeypatch.setenv("CAFFE_HDF5_DEVICE_MB", "100")
    spoiler = Spoiler(2)

    def make(*arguments, **more):
        spoiler.solver = caffe.solver.Solver(*arguments, **more)
        return spoiler.solver

    monkeypatch.setattr(training, "Solver", make)
    with pytest.raises(caffe.CaffeError) as caught:
        training.train(text_format.Parse(SOLVER + asked, caffe_pb2.SolverParameter()), CONTEXT, spoiler)
    log = [message for _, message in log_messages(capsys.readouterr().err)]
    assert str(caught.value).startswith(f"Iteration {last}: expected finite numbers in param 0 of layer 'conv', got ")
    assert str(caught.value).endswith(
        "of 108 that are NaN or infinite; no snapshot was written (earlier ones are untouched): look at learning rate "
        "and data"
    )
    losses = [message for message in log if message.startswith(f"Iteration {last}") and "loss" in message]
    assert not losses and not list(here.glob("s_iter_*"))
    assert (spoiler.solver.replay is not None) == replayed


@pytest.mark.parametrize("asked", ["", "clip_gradients: 1"])
def test_a_gradient_that_is_not_finite_is_named_by_its_parameter(asked, here, capsys):
    """The root of 0 has no slope: the loss is 0, and the next one is none."""
    Path("net.prototxt").write_text(
        DATA
        + 'layer { name: "silent" type: "Power" bottom: "data" top: "silent" power_param { scale: 0 } }'
        + LAYERS.replace('"data"', '"silent"')
        + 'layer { name: "root" type: "Power" bottom: "ip" top: "root" power_param { power: 0.5 } loss_weight: 1 }'
    )
    Path("solver.prototxt").write_text(SOLVER + asked)
    status, messages = engine(capsys, "train", "-solver=solver.prototxt")
    assert status == 134 and messages[-1].startswith("Iteration 1: expected a finite training loss, got nan ")
    assert " The first numbers that are not finite are in param 0 of layer 'ip': look at " in messages[-1]
    assert not list(here.glob("s_iter_*"))


@pytest.mark.parametrize(
    "asked", ["display: 1", "test_iter: 1 test_interval: 1 test_compute_loss: true", "test_iter: 1 test_interval: 1"]
)
def test_outputs_that_are_not_finite_end_training(asked, here, capsys):
    """An output that no loss depends on: (3e38 scores)^2."""
    Path("net.prototxt").write_text(
        NET
        + """
        layer { name: "large" type: "Power" bottom: "ip" top: "large" power_param { power: 2 scale: 3e38 } }"""
    )
    Path("solver.prototxt").write_text(SOLVER + asked)
    status, messages = engine(capsys, "train", "-solver=solver.prototxt", "-weights=good.caffemodel")
    which = "train" if "display" in asked else "test"
    assert status == 134 and messages[-1].startswith(
        f"Iteration 0: expected a finite number as {which} net output large,"
    )


def test_a_history_that_is_not_finite_is_not_snapshotted(here):
    Path("solver.prototxt").write_text(SOLVER + "momentum: 0.9")
    solver = caffe.get_solver("solver.prototxt")
    solver.step(1)
    solver.snapshot()
    before = {path: path.read_bytes() for path in here.glob("s_iter_*")}
    solver.step(1)
    solver.history[1].value[2] = math.inf
    with pytest.raises(
        caffe.CaffeError,
        match="Iteration 2: expected finite numbers in history blob 1, got 1 of 4",
    ):
        solver.snapshot()
    assert before == {path: path.read_bytes() for path in here.glob("s_iter_*")}


def test_finite_weights_whose_sum_overflows_are_trained(here):
    Path("solver.prototxt").write_text(SOLVER + "display: 1")
    solver = caffe.get_solver("solver.prototxt")
    solver.net.params["ip"][1].data[...] = 3e38  # of every class: the softmax does not see it
    solver.step(1)
    assert solver.iter == 1


# --- relevance -------------------------------------------------------------------------------------------------------
OUTPUTS_OF_LRP = ["--save", "out.hdf5"], ["--output", "out.png"], ["--report", "page"]


@pytest.mark.parametrize("output", OUTPUTS_OF_LRP, ids=lambda output: output[0])
def test_lrp_refuses_weights_and_writes_nothing(output, here, capsys):
    write_weights("bad.caffemodel", spoilt("conv", 0, [math.inf]))
    before = sorted(os.listdir())
    status, error = relevance(capsys, "--input", "r0.hdf5", *output, weights="bad.caffemodel")
    assert status == 1 and error == (
        "lrp: bad.caffemodel: layer conv: blob 0: expected finite numbers, got 1 of 108 that are NaN or infinite\n"
    )
    assert sorted(os.listdir()) == before


def enlarge(name):
    """The recording's values by 1e38: finite, but not their scores."""
    with h5py.File(name, "r+") as file:
        file["data"][...] = np.sign(file["data"][...]) * 3e38


@pytest.mark.parametrize("composite", ["epsilon_plus", "gradient_x_input", "occlusion", "smoothgrad"])
def test_scores_that_are_not_finite_name_the_recording(composite, here, capsys):
    enlarge("r1.hdf5")
    before = sorted(os.listdir())
    status, error = relevance(
        capsys, "--list", "list.txt", "--composite", composite, "--save", "out.hdf5", "--output", "pictures"
    )
    assert status == 1 and re.fullmatch(
        r"lrp: r1.hdf5: scores: expected finite numbers of deploy.prototxt with good.caffemodel, "
        r"got [123] of 3 that are NaN or infinite\n",
        error,
    ), error
    assert sorted(os.listdir()) == before


def test_a_list_of_several_kinds_is_written_whole_or_not_at_all(here, capsys):
    """The bad recording comes after good ones that are explained by themselves, as they have other labels."""
    enlarge("r2.hdf5")
    with h5py.File("r2.hdf5", "r+") as file:
        del file["label"]
    before = sorted(os.listdir())
    status, error = relevance(capsys, "--list", "list.txt", "--output", "pictures")
    assert status == 1 and error.startswith("lrp: r2.hdf5: scores: ") and sorted(os.listdir()) == before


@pytest.mark.parametrize("rule", ['{rule = "Gamma", gamma = 1e308}', '{rule = "ZBox", low = -1e300, high = 9}'])
@pytest.mark.parametrize("output", OUTPUTS_OF_LRP, ids=lambda output: output[0])
def test_relevance_that_is_not_finite_is_refused(rule, output, here, capsys, monkeypatch):
    Path("large.toml").write_text(f"default = {rule}")
    before = sorted(os.listdir())
    if output[0] == "--report":
        monkeypatch.setattr("audiomnist.explain.inputs.read_geometry", lambda attributes, shape: SPECTROGRAM)
    status, error = relevance(capsys, "--list", "list.txt", "--composite", "large.toml", *output)
    assert status == 1 and error.count("\n") == 1 and sorted(os.listdir()) == before
    words = r"lrp: r0.hdf5: relevance by large: expected finite numbers of .*, got \d+ of 108 that are NaN or infinite"
    assert re.match(words, error), error


def test_the_faithfulness_command_names_the_recording(here, capsys):
    arguments = [
        "--model",
        "deploy.prototxt",
        "--weights",
        "good.caffemodel",
        "--list",
        "list.txt",
        "--label-column",
        "0",
        "--save",
        "curves.csv",
    ]
    assert faithfulness_main(arguments) == 0
    Path("curves.csv").unlink()
    enlarge("r2.hdf5")
    capsys.readouterr()
    assert faithfulness_main(arguments) == 1 and not Path("curves.csv").exists()
    assert capsys.readouterr().err.startswith("deletion: r2.hdf5: scores: ")


def test_the_library_names_the_item(here):
    x = np.random.default_rng(0).normal(size=(5, CHANNELS, SIZE, SIZE)).astype(np.float32)
    x[3] = np.sign(x[3]) * 3e38
    network = Network("deploy.prototxt", "good.caffemodel")
    for call in (network.forward, network.relevance):
        with pytest.raises(LRPError, match="^item 3: scores: "):
            call(x)
    infinite = Network("deploy.prototxt", spoilt("ip", 1, [math.nan]))  # weights that no file was read for
    with pytest.raises(LRPError, match="^item 0: scores: expected finite numbers of .*, got 1 of 3 that"):
        infinite.forward(x[:3])
    large = weights()
    large["conv"][0] *= 1e30
    large["ip"][0] *= 1e30
    with pytest.raises(LRPError, match="^item 0: "):
        Network("deploy.prototxt", large).gradient(x[:1] * 1e-30)


def test_what_layers_and_biases_get_is_looked_at_too(here):
    network = Network("deploy.prototxt", "good.caffemodel")
    x = np.random.default_rng(0).normal(size=(2, CHANNELS, SIZE, SIZE)).astype(np.float32)
    start = np.zeros((2, CLASSES))
    start[1, 0] = math.inf
    with pytest.raises(LRPError, match="^item 1: relevance by"):
        network.relevance(x, start, layers=True, absorbed=True)


NOT_NEGATIVE = "expected a finite number of at least 0, got"


@pytest.mark.parametrize(
    ("text", "words"),
    {
        'default = {rule = "Epsilon", epsilon = nan}': f"default: rule Epsilon: epsilon: {NOT_NEGATIVE} nan",
        'default = {rule = "Epsilon", epsilon = inf}': f"rule Epsilon: epsilon: {NOT_NEGATIVE} inf",
        'default = {rule = "Epsilon", epsilon = -1}': f"rule Epsilon: epsilon: {NOT_NEGATIVE} -1",
        f'first = {{rule = "Epsilon", epsilon = 1{"0" * 400}}}': f"first: rule Epsilon: epsilon: {NOT_NEGATIVE} 1000",
        'default = {rule = "Gamma", gamma = nan}': f"rule Gamma: gamma: {NOT_NEGATIVE} nan",
        'types = {Convolution = {rule = "Gamma", gamma = -0.1}}': f"rule Gamma: gamma: {NOT_NEGATIVE} -0.1",
        'default = {rule = "AlphaBeta", alpha = inf}': "alpha: expected a finite number, got inf",
        'default = {rule = "AlphaBeta", alpha = inf, beta = inf}': "alpha: expected a finite number, got inf",
        'default = {rule = "AlphaBeta", alpha = 2, beta = nan}': "AlphaBeta: beta: expected a finite number, got nan",
        'default = {rule = "AlphaBeta", alpha = 0.5, beta = -0.5}': "alpha - beta = 1 and beta >= 0, got alpha 0.5",
        'first = {rule = "ZBox", low = nan, high = 1}': "first: rule ZBox: low: expected a finite number, got nan",
        'first = {rule = "ZBox", high = inf}': "rule ZBox: high: expected a finite number, got inf",
        'first = {rule = "ZBox", low = 1, high = -1}': "rule ZBox: expected low < high, got low 1 and high -1",
    }.items(),
)
def test_settings_of_rules_are_finite_and_in_range(text, words, tmp_path):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(LRPError) as caught:
        read_composite(tmp_path / "c.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'c.toml'}: ") and words in str(caught.value)


def test_settings_at_the_edge_are_taken():
    for rule in (Epsilon(0), Epsilon(1e30), Gamma(0), AlphaBeta(1, 0), ZBox(), ZBox(low=0), ZBox(-1e-9, 1e-9)):
        assert Composite("c", rule).default == rule


def test_pictures_and_pages_are_never_made_of_nan(tmp_path):
    data, wrong = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    wrong[0, 1, 2] = np.nan
    for pair in ((data, wrong), (wrong, data)):
        with pytest.raises(LRPError, match="^drawing: expected finite numbers, got some that are NaN or infinite$"):
            compare(pair[0], [pair[1]], [""])
    with pytest.raises(ValueError, match="JSON"):
        Report(tmp_path / "page", None).add({"score": math.nan})


# --- what is built on both -------------------------------------------------------------------------------------------
@pytest.fixture
def spoilt_runs(small_study, tmp_path):
    """A folder with the run AudioNet_digit_0, one of whose biases is NaN."""
    runs = tmp_path / "runs"
    folder = shutil.copytree(small_study / "runs" / "AudioNet_digit_0", runs / "AudioNet_digit_0")
    path = next(folder.glob("snapshots/*.caffemodel"))
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    layer = next(layer for layer in net.layer if layer.name == "conv1")
    layer.blobs[1].data[0] = math.nan
    path.write_bytes(net.SerializeToString())
    return runs


def test_the_faithfulness_experiment_draws_no_conclusion(small_study, spoilt_runs, tmp_path, capsys):
    status = experiment_main(
        catalogue()["faithfulness"],
        [
            "--data",
            str(small_study / "data"),
            "--preprocessed",
            str(small_study / "preprocessed"),
            "--runs",
            str(spoilt_runs),
            "--output",
            str(tmp_path / "results"),
            "--limit",
            "2",
        ],
    )
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 1
    assert re.search(r"^faithfulness: .*\.caffemodel: layer conv1: blob 1: " + refused(1, r"\d+"), error)
    assert not list(tmp_path.glob("results/**/*.json"))


def test_recognise_answers_nothing(spoilt_runs, tmp_path):
    (tmp_path / "3.wav").write_bytes(wav_file(speech(1).tobytes()))
    command = [
        sys.executable,
        str(ROOT / "recording_scripts" / "recognise.py"),
        "--runs",
        str(spoilt_runs),
        "--wav",
        str(tmp_path / "3.wav"),
        "--output",
        str(tmp_path / "out"),
        "--no-show",
        "--no-play",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "out").exists()
    assert re.fullmatch(
        r"recognise.py: .*\.caffemodel: layer conv1: blob 1: expected finite numbers, "
        r"got 1 of \d+ that are NaN or infinite\n",
        done.stderr,
    )


def test_a_score_of_zero_is_still_explained(here, capsys):
    """sum(R)/score is then no number: a page says null, and nothing is refused."""
    write_weights("zero.caffemodel", {name: [np.zeros_like(a) for a in arrays] for name, arrays in weights().items()})
    status, error = relevance(
        capsys, "--input", "r0.hdf5", "--save", "r.hdf5", "--output", "r.png", weights="zero.caffemodel"
    )
    assert (status, error) == (0, "")
    with h5py.File("r.hdf5") as file:
        assert not file["relevance"][()].any() and json.loads(file.attrs["rules"])
