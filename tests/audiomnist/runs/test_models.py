"""The paper's networks as prototxt: facts of the paper, equal architectures, exact batches, and the original engine."""

import json
import math
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from audiomnist.corpus.splits import OFFICIAL_SPLITS, SPLITS_NAME, load_splits
from audiomnist.runs.networks import NETWORKS, ROLES
from audiomnist.runs.render import main, render
from audiomnist.runs.run_folder import RunError, RunName, SelectionError, check_origin, progress, select, write_run
from caffe_proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[3]
OFFICIAL_COUNTS = {"digit": {"validate": 6000, "test": 6000}, "gender": {"validate": 3000, "test": 3000}}

# The paper's figures, written down independently of the templates: layer -> (kind, geometry).
# Convolution and Pooling: (outputs or None, kernel h, w, stride, pad h, w, group).
ALEXNET = {
    "conv1": (96, 11, 11, 4, 0, 0, 1), "pool1": (None, 3, 3, 2, 0, 0, 1),
    "conv2": (256, 5, 5, 1, 2, 2, 2), "pool2": (None, 3, 3, 2, 0, 0, 1),
    "conv3": (384, 3, 3, 1, 1, 1, 1), "conv4": (384, 3, 3, 1, 1, 1, 2),
    "conv5": (256, 3, 3, 1, 1, 1, 2), "pool5": (None, 3, 3, 2, 0, 0, 1),
    "fc6": 1024, "fc7": 1024, "fc8": "classes",
}  # fmt: skip
AUDIONET = {
    "conv1": (100, 1, 3, 1, 0, 1, 1), "pool1": (None, 1, 3, 2, 0, 0, 1),
    "conv2": (64, 1, 3, 1, 0, 1, 1), "pool2": (None, 1, 2, 2, 0, 0, 1),
    "conv3": (128, 1, 3, 1, 0, 1, 1), "pool3": (None, 1, 2, 2, 0, 0, 1),
    "conv4": (128, 1, 3, 1, 0, 1, 1), "pool4": (None, 1, 2, 2, 0, 0, 1),
    "conv5": (128, 1, 3, 1, 0, 1, 1), "pool5": (None, 1, 2, 2, 0, 0, 1),
    "conv6": (128, 1, 3, 1, 0, 1, 1), "pool6": (None, 1, 2, 2, 0, 0, 1),
    "fc7": 1024, "fc8": 512, "fc9": "classes",
}  # fmt: skip
PAPER = {"AlexNet": ALEXNET, "AudioNet": AUDIONET}
PAPER_RELU = {"AlexNet": ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"],
              "AudioNet": ["conv1", "conv2", "conv3", "conv4", "conv5", "conv6"]}  # fmt: skip
PAPER_DROPOUT = {"AlexNet": ["fc6", "fc7"], "AudioNet": ["fc7", "fc8"]}
PAPER_PARAMETERS = {("AlexNet", "digit"): 12_808_906, ("AlexNet", "gender"): 12_800_706,
                    ("AudioNet", "digit"): 17_107_162, ("AudioNet", "gender"): 17_103_058}  # fmt: skip
PAPER_STD = {"AlexNet": {"fc6": 0.005, "fc7": 0.005, None: 0.01}, "AudioNet": {None: 0.1}}
PAPER_BIAS = {"AlexNet": {"conv1": 0, "conv3": 0, "fc8": 0, None: 0.1}, "AudioNet": {None: 0}}
PAPER_SOLVER = {
    "AlexNet": {"base_lr": 0.001, "stepsize": 2500, "max_iter": 10_000, "clip_gradients": 5},
    "AudioNet": {"base_lr": 0.0001, "stepsize": 50_000, "max_iter": 50_000, "clip_gradients": -1},
}
PAPER_SOLVER_SHARED = {
    "type": "SGD", "momentum": 0.9, "lr_policy": "step", "gamma": 0.5, "test_interval": 100, "display": 100,
    "snapshot": 10_000, "weight_decay": 0, "iter_size": 1,
}  # fmt: skip


def rendered(network, task="digit", demo=False, folder=Path("/runs/x"), **options):
    """The parsed messages of a run on the official splits: {role: NetParameter or SolverParameter}."""
    run = RunName(network, task, 0)
    texts = render(run, load_splits(OFFICIAL_SPLITS), OFFICIAL_COUNTS[task], folder, demo=demo, **options)
    messages = {}
    for role in ROLES:
        message = caffe_pb2.SolverParameter() if role == "solver" else caffe_pb2.NetParameter()
        messages[role] = text_format.Parse(texts[f"{role}.prototxt"], message)
    return messages


def geometry(layer):
    """(outputs, kernel h, w, stride, pad h, w, group) of a Convolution or Pooling, however the file spells it."""
    if layer.type == "Pooling":
        p = layer.pooling_param
        assert p.pool == caffe_pb2.PoolingParameter.MAX
        kernel = (p.kernel_h, p.kernel_w) if p.HasField("kernel_h") else (p.kernel_size, p.kernel_size)
        return (None, *kernel, p.stride, p.pad_h or p.pad, p.pad_w or p.pad, 1)
    p = layer.convolution_param
    kernel = (p.kernel_h, p.kernel_w) if p.HasField("kernel_h") else (p.kernel_size[0], p.kernel_size[0])
    pad = (p.pad[0], p.pad[0]) if p.pad else (p.pad_h, p.pad_w)
    return (p.num_output, *kernel, p.stride[0] if p.stride else 1, *pad, p.group)


def architecture(net):
    """The computing layers of a net in order, as plain values: no fillers, multipliers, data, labels or heads."""
    layers = []
    for layer in net.layer:
        if layer.type in ("Convolution", "Pooling"):
            layers.append((layer.name, layer.type, list(layer.bottom), list(layer.top), geometry(layer)))
        elif layer.type == "InnerProduct":
            outputs = layer.inner_product_param.num_output
            layers.append((layer.name, layer.type, list(layer.bottom), list(layer.top), outputs))
        elif layer.type in ("ReLU", "Dropout"):
            ratio = layer.dropout_param.dropout_ratio
            layers.append((layer.name, layer.type, list(layer.bottom), list(layer.top), ratio))
    return layers


def without_input_scaling(layers):
    """The same architecture with conv1 reading the data blob, however the demo scales its input."""
    return [(name, kind, ["data"] if name == "conv1" else bottom, *rest) for name, kind, bottom, *rest in layers]


@pytest.mark.parametrize("network", PAPER)
@pytest.mark.parametrize("task", OFFICIAL_COUNTS)
def test_architecture_is_the_papers(network, task):
    net = rendered(network, task)["train"]
    assert net.name == network
    classes = {"digit": 10, "gender": 2}[task]
    found = {name: rest for name, kind, _, _, rest in architecture(net) if kind not in ("ReLU", "Dropout")}
    assert found == {k: classes if v == "classes" else v for k, v in PAPER[network].items()}
    assert list(found) == list(PAPER[network])  # the order too
    relus = [(bottom, top) for _, kind, bottom, top, _ in architecture(net) if kind == "ReLU"]
    assert relus == [([name], [name]) for name in PAPER_RELU[network]]
    dropouts = [(bottom, top, ratio) for _, kind, bottom, top, ratio in architecture(net) if kind == "Dropout"]
    assert dropouts == [([name], [name], 0.5) for name in PAPER_DROPOUT[network]]


def parameters(network, classes):
    """Number of parameters from the paper's geometry and Caffe's size rules (convolution down, pooling up)."""
    channels, height, width = NETWORKS[network].input_shape
    total = 0
    for shape in PAPER[network].values():
        if isinstance(shape, tuple):
            outputs, kernel_h, kernel_w, stride, pad_h, pad_w, group = shape
            if outputs is not None:
                total += outputs * (channels // group) * kernel_h * kernel_w + outputs
                channels = outputs
            rounding = math.ceil if outputs is None else math.floor
            height = rounding((height + 2 * pad_h - kernel_h) / stride) + 1
            width = rounding((width + 2 * pad_w - kernel_w) / stride) + 1
        else:
            outputs = classes if shape == "classes" else shape
            total += outputs * channels * height * width + outputs
            channels, height, width = outputs, 1, 1
    return total


@pytest.mark.parametrize(("network", "task"), PAPER_PARAMETERS)
def test_parameter_count_is_the_papers(network, task):
    assert parameters(network, {"digit": 10, "gender": 2}[task]) == PAPER_PARAMETERS[network, task]


@pytest.mark.parametrize("task", OFFICIAL_COUNTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_all_files_of_a_network_have_one_architecture(network, task):
    reference = architecture(rendered(network, task)["train"])
    for demo in (False, True):
        for role in ("train", "test", "deploy"):
            net = rendered(network, task, demo=demo)[role]
            assert without_input_scaling(architecture(net)) == reference, (demo, role)


@pytest.mark.parametrize("network", PAPER)
def test_weights_start_as_in_the_paper(network):
    for layer in rendered(network)["train"].layer:
        if layer.type not in ("Convolution", "InnerProduct"):
            continue
        param = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
        std = PAPER_STD[network].get(layer.name, PAPER_STD[network][None])
        bias = PAPER_BIAS[network].get(layer.name, PAPER_BIAS[network][None])
        assert param.weight_filler.type == "gaussian"
        assert param.weight_filler.std == pytest.approx(std)
        assert param.bias_filler.type == "constant"
        assert param.bias_filler.value == pytest.approx(bias)
        assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(1, 1)] * (2 if network == "AlexNet" else 1)


@pytest.mark.parametrize("network", PAPER)
@pytest.mark.parametrize("task", OFFICIAL_COUNTS)
def test_solver_is_the_papers(network, task):
    solver = rendered(network, task)["solver"]
    for key, value in {**PAPER_SOLVER_SHARED, **PAPER_SOLVER[network]}.items():
        found = getattr(solver, key)
        assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), key
    assert list(solver.test_iter) == [{"digit": 60, "gender": 30}[task]]
    assert solver.random_seed == 0
    assert solver.net == "/runs/x/train.prototxt"
    assert solver.snapshot_prefix == f"/runs/x/snapshots/{network}"


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("task", OFFICIAL_COUNTS)
def test_data_and_label_layers(network, task, demo):
    messages = rendered(network, task, demo=demo)
    training, validation = (layer for layer in messages["train"].layer if layer.type == "HDF5Data")
    (testing,) = (layer for layer in messages["test"].layer if layer.type == "HDF5Data")
    inputs = NETWORKS[network].inputs
    own = demo and NETWORKS[network].template("train", demo=True) != NETWORKS[network].template("train")
    for layer, part, phase, batch, shuffle in (
        (training, "train", caffe_pb2.TRAIN, 32 if own else 100, True),
        (validation, "validate", caffe_pb2.TEST, 100, False),
        (testing, "test", caffe_pb2.TEST, 100, False),
    ):
        assert (layer.name, list(layer.top), layer.include[0].phase) == ("data", ["data", "label"], phase)
        param = layer.hdf5_data_param
        assert param.source == f"{inputs}_{task}_0_{part}.txt"
        assert (param.batch_size, param.shuffle) == (batch, shuffle)
    other = {"digit": "gender", "gender": "digit"}[task]
    for role in ("train", "test"):
        layers = {layer.name: layer for layer in messages[role].layer}
        slicer = layers["label_slicer"]
        assert (slicer.type, list(slicer.bottom)) == ("Slice", ["label"])
        assert list(slicer.top) == ["label_digit", "label_gender"]
        assert (slicer.slice_param.axis, list(slicer.slice_param.slice_point)) == (1, [1])
        assert (layers["silence_layer"].type, list(layers["silence_layer"].bottom)) == ("Silence", [f"label_{other}"])
        for head, kind in (("accuracy", "Accuracy"), ("loss", "SoftmaxWithLoss")):
            assert layers[head].type == kind
            assert list(layers[head].bottom) == [NETWORKS[network].score, f"label_{task}"]
            assert list(layers[head].top) == [head]
    deploy = messages["deploy"].layer
    assert deploy[0].type == "Input"
    assert tuple(deploy[0].input_param.shape[0].dim) == (1, *NETWORKS[network].input_shape)
    assert (deploy[-1].type, list(deploy[-1].bottom), list(deploy[-1].top)) == (
        "Softmax", [NETWORKS[network].score], ["prob"],
    )  # fmt: skip


def test_the_demo_scales_decibels_to_about_unit_size():
    for role in ("train", "test", "deploy"):
        (layer,) = (layer for layer in rendered("AlexNet", demo=True)[role].layer if layer.type == "Power")
        param = layer.power_param
        for decibels, wanted in ((-80, -1), (-60, 0), (0, 3)):
            assert (param.shift + param.scale * decibels) ** param.power == pytest.approx(wanted, abs=1e-6)
        assert list(layer.bottom) == ["data"]
        assert param.power == 1


def test_a_further_label_column_is_cut_off_and_silenced(tmp_path):
    splits = json.loads(OFFICIAL_SPLITS.read_text())
    splits["tasks"]["accent"] = {"label": "accent", "classes": ["German", "other"],
                                 "groups": {"German": ["German"], "other": ["*"]}}  # fmt: skip
    splits["accent"] = splits["digit"][:1]
    (tmp_path / SPLITS_NAME).write_text(json.dumps(splits))
    for task, label, silent in (("accent", "accent", ["digit", "gender"]), ("gender", "gender", ["digit", "accent"])):
        run = RunName("AudioNet", task, 0)
        texts = render(run, load_splits(tmp_path / SPLITS_NAME), {"validate": 77, "test": 101}, tmp_path)
        net = text_format.Parse(texts["test.prototxt"], caffe_pb2.NetParameter())
        layers = {layer.name: layer for layer in net.layer}
        assert list(layers["label_slicer"].top) == ["label_digit", "label_gender", "label_accent"]
        assert list(layers["label_slicer"].slice_param.slice_point) == [1, 2]
        assert list(layers["silence_layer"].bottom) == [f"label_{name}" for name in silent]
        assert layers["loss"].bottom[1] == f"label_{label}"
        assert layers["fc9"].inner_product_param.num_output == 2
        assert layers["data"].hdf5_data_param.batch_size == 51  # 101 is prime: two batches, one row of padding
        assert layers["data"].hdf5_data_param.source == str(tmp_path / "test.txt")
        assert layers["accuracy"].accuracy_param.ignore_label == -1 == layers["loss"].loss_param.ignore_label
        solver = text_format.Parse(texts["solver.prototxt"], caffe_pb2.SolverParameter())
        assert list(solver.test_iter) == [1]  # 77 at once


def test_options_override_the_solver_and_nothing_else():
    plain, changed = rendered("AlexNet"), rendered("AlexNet", max_iter=7, snapshot=3, seed=5)
    assert (changed["solver"].max_iter, changed["solver"].snapshot, changed["solver"].random_seed) == (7, 3, 5)
    for key, value in (("max_iter", 10_000), ("snapshot", 10_000), ("random_seed", 0)):
        setattr(changed["solver"], key, value)
    assert changed == plain


def test_paths_with_spaces_and_quotes_survive():
    folder = Path('/some "odd" \\ folder/ü')
    assert rendered("AudioNet", folder=folder)["solver"].net == str(folder / "train.prototxt")


def test_select_names_what_there_is():
    splits = load_splits(OFFICIAL_SPLITS)
    assert len(select(splits)) == len(NETWORKS) * (5 + 4)
    assert [str(run) for run in select(splits, "AlexNet", "gender", "all")] == [f"AlexNet_gender_{k}" for k in range(4)]
    assert [str(run) for run in select(splits, "AudioNet", "all", "4")] == ["AudioNet_digit_4"]  # gender has 4 splits
    wrong = {("LeNet",): ", ".join(NETWORKS), ("all", "age"): "digit, gender", ("all", "digit", "5"): "0, 1, 2, 3, 4"}
    for selection, known in wrong.items():
        with pytest.raises(SelectionError, match=known):
            select(splits, *selection)
    run = RunName("AudioNet", "digit", 3)
    assert RunName.parse(str(run)) == run
    assert RunName.parse("heatmaps") is None


# -- run folders ------------------------------------------------------------------------------------------------------


def snapshot(folder, network, iteration, model=b"weights", state=None):
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / f"{network}_iter_{iteration}.caffemodel").write_bytes(model)
    content = caffe_pb2.SolverState(iter=iteration).SerializeToString() if state is None else state
    (folder / "snapshots" / f"{network}_iter_{iteration}.solverstate").write_bytes(content)


def test_progress_of_a_run(tmp_path):
    assert progress(tmp_path, "AlexNet", 100) == ("new", None)
    snapshot(tmp_path, "AlexNet", 20)
    snapshot(tmp_path, "AlexNet", 9)
    state, path = progress(tmp_path, "AlexNet", 100)
    assert (state, path.name) == ("started", "AlexNet_iter_20.solverstate")
    snapshot(tmp_path, "AlexNet", 50, state=b"\xff\xff\xff cut short")  # killed while writing: the one before counts
    snapshot(tmp_path, "AlexNet", 60, model=b"")
    assert progress(tmp_path, "AlexNet", 100) == (state, path)
    snapshot(tmp_path, "AlexNet", 100)
    state, path = progress(tmp_path, "AlexNet", 100)
    assert (state, path.name) == ("trained", "AlexNet_iter_100.caffemodel")
    (tmp_path / "test.log").touch()
    assert progress(tmp_path, "AlexNet", 100) == ("tested", path)


def test_runs_of_different_origin_never_mix(tmp_path):
    solver = f'max_iter: 10\nnet: "{tmp_path}/a/train.prototxt"\n'
    texts = {"solver.prototxt": solver, "train.prototxt": 'name: "x"'}
    made_from = {"engine": "caffe", "recordings": {"train": "1", "test": "2"}}
    assert check_origin(tmp_path / "a", texts, made_from) is False
    write_run(tmp_path / "a", texts, made_from)
    assert check_origin(tmp_path / "a", texts, made_from) is True
    longer = {**texts, "solver.prototxt": texts["solver.prototxt"].replace("10", "20")}
    with pytest.raises(RunError, match=r"solver.prototxt has `max_iter: 20`, got another run with `max_iter: 10`"):
        check_origin(tmp_path / "a", longer, made_from)
    with pytest.raises(RunError, match=r"engine is `other`, got another run with `caffe`"):
        check_origin(tmp_path / "a", texts, {**made_from, "engine": "other"})
    with pytest.raises(RunError, match=r"a run of these recordings, got one of others \(test;"):
        check_origin(tmp_path / "a", texts, {**made_from, "recordings": {"train": "1", "test": "3"}})
    (tmp_path / "a").rename(tmp_path / "b")  # moved: still the same run
    moved = {name: text.replace(str(tmp_path / "a"), str(tmp_path / "b")) for name, text in texts.items()}
    assert check_origin(tmp_path / "b", moved, made_from) is True
    snapshot(tmp_path / "c", "AlexNet", 5)
    with pytest.raises(RunError, match=r"a run.json that says what made the snapshots, got none"):
        check_origin(tmp_path / "c", texts, made_from)


# -- the original engine ----------------------------------------------------------------------------------------------


@pytest.fixture
def preprocessed(tmp_path):
    """A preprocessed folder with random contents: 6 recordings to train on, 3 to validate, 4 to test."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pre processed"
    folder.mkdir()
    folder.joinpath(SPLITS_NAME).write_bytes(OFFICIAL_SPLITS.read_bytes())
    for network in NETWORKS.values():
        for part, count in (("train", 6), ("validate", 3), ("test", 4)):
            names = [f"{network.inputs}_{part}_{k}.hdf5" for k in range(count)]
            for name in names:
                with h5py.File(folder / name, "w") as file:
                    file["data"] = rng.standard_normal((1, *network.input_shape), dtype=np.float32)
                    file["label"] = np.array([[rng.integers(10), rng.integers(2)]], dtype=np.float32)
            for task in OFFICIAL_COUNTS:
                folder.joinpath(f"{network.inputs}_{task}_0_{part}.txt").write_text("\n".join(names) + "\n")
    return folder


def test_command_line(preprocessed, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["AudioNet", "gender", "0", "--preprocessed", str(preprocessed), "--run", str(run)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{run}: new; a test takes 1 iterations\n"  # 4 recordings in one batch
    assert sorted(os.listdir(run)) == ["deploy.prototxt", "run.json", "snapshots", "solver.prototxt", "test.prototxt",
                                       "train.prototxt"]  # fmt: skip
    assert main([*arguments, "--max-iter", "5"]) == 1
    assert "max_iter" in capsys.readouterr().err
    assert main(["AudioNet", "colour", *arguments[2:]]) == 2
    preprocessed.joinpath("AudioNet_gender_0_test.txt").write_text("\n")
    assert main(arguments) == 1
    assert "expected a list of recordings with at least one, got none" in capsys.readouterr().err


@pytest.mark.bvlc
@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize("task", OFFICIAL_COUNTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_original_engine_trains_and_tests_them(network, task, demo, preprocessed, tmp_path, bvlc):
    run = tmp_path / "a run"
    arguments = [network, task, "0", "--preprocessed", str(preprocessed), "--run", str(run), "--max-iter", "1"]
    assert main([*arguments, *(["--demo"] if demo else [])]) == 0
    # small batches: this is about the files being understood, not about learning
    net = run / "train.prototxt"
    net.write_text(re.sub("batch_size: (100|32)", "batch_size: 2", net.read_text()))
    bvlc("caffe", "train", f"-solver={run / 'solver.prototxt'}", cwd=preprocessed)
    model = run / "snapshots" / f"{network}_iter_1.caffemodel"
    test = ("-model", run / "test.prototxt", "-weights", model, "-iterations", "1")
    log = bvlc("caffe", "test", *test, cwd=preprocessed)
    assert "] accuracy = " in log.stderr
    script = (
        "import caffe, sys; net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST); net.forward();"
        "print(sum(b.data.size for p in net.params.values() for b in p), net.blobs['prob'].data.sum())"
    )
    out = bvlc("python3", "-c", script, run / "deploy.prototxt", model, cwd=preprocessed).stdout.split()
    assert int(out[0]) == PAPER_PARAMETERS[network, task]
    assert float(out[1]) == pytest.approx(1, abs=1e-5)
