"""Adding is one place: each kind of thing is really added here, somewhere temporary, is found, runs and is tested."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import caffe
import lrp
from audiomnist import cli, experiments
from audiomnist.corpus.splits import find_splits
from audiomnist.explain import cli as explain
from audiomnist.preprocessing import command as preprocessing
from audiomnist.runs import render
from audiomnist.runs.networks import NETWORKS, ROLES, find_networks
from audiomnist.runs.run_folder import select
from audiomnist.study import catalogue
from caffe.layer import LAYERS, DifferentiableLayer, register
from caffe_proto import read_net
from lrp import composites
from tests.caffe.gradient_check import check_example
from tests.small_corpus import GENDERS, make_corpus, write_meta

ROOT = Path(__file__).resolve().parents[1]


# -- a layer type -----------------------------------------------------------------------------------------------------
class SquareSum(DifferentiableLayer):
    """top = sum over the last axis of bottom ** 2, times a learned number."""

    example = ("", [(2, 3)], [(2,)])

    def setup(self, bottom, top):
        self.add_param((1,), caffe.proto.caffe_pb2.FillerParameter(type="constant", value=1))

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape[:-1])

    def compute(self, inputs, params):
        return [params[0] * (inputs[0] ** 2).sum(-1)]


class WrongSquareSum(SquareSum):
    def backward(self, top, propagate_down, bottom):
        super().backward(top, propagate_down, bottom)
        bottom[0].grad = bottom[0].grad * 1.1


def test_a_layer_type(monkeypatch, tmp_path):
    for cls in (SquareSum, WrongSquareSum):
        monkeypatch.setitem(LAYERS, cls.__name__, None)  # taken out again after the test
        register(cls)
    assert "SquareSum" in caffe.layer_type_list()
    check_example("SquareSum", SquareSum.example)
    with pytest.raises(AssertionError, match="gradient 0 of bottom0"):
        check_example("WrongSquareSum", SquareSum.example)
    with pytest.raises(AssertionError, match="SquareSum"):
        check_example("SquareSum", ("", [(2, 3)], [(3,)]))
    n = caffe.NetSpec()
    n.x = caffe.layers.Input(shape={"dim": [2, 3]})
    n.y = caffe.layers.SquareSum(n.x)
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert net.forward(x=np.full((2, 3), 2, np.float32))["y"].tolist() == [12, 12]


# -- a composite ------------------------------------------------------------------------------------------------------
DEPLOY = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 2 } }
"""


@pytest.fixture
def small(tmp_path):
    """A folder with deploy.prototxt and a Network of it with drawn weights."""
    rng = np.random.default_rng(0)
    weights = {"c": [rng.normal(size=(3, 2, 3, 3)), np.zeros(3)], "f": [rng.normal(size=(2, 12)), np.zeros(2)]}
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    return tmp_path, lrp.Network(tmp_path / "deploy.prototxt", weights)


def test_a_composite(monkeypatch, small, capsys):
    folder, network = small
    monkeypatch.setattr(composites, "COMPOSITES", composites.COMPOSITES)
    monkeypatch.delitem(composites.COMPOSITES, "own", raising=False)
    composites.register(lrp.Composite("own", lrp.Epsilon(0.5)))
    (folder / "own.toml").write_text('default = {rule = "Epsilon", epsilon = 0.5}')
    x = np.ones((1, 2, 4, 4))
    found = network.relevance(x, composite="own", dtype=np.float64)
    by_file = network.relevance(x, composite=lrp.read_composite(folder / "own.toml"), dtype=np.float64)
    assert found.composite == "own" and np.array_equal(found.relevance, by_file.relevance)
    assert not np.array_equal(found.relevance, network.relevance(x, dtype=np.float64).relevance)
    with pytest.raises(SystemExit):
        explain.main(["--help"])
    del composites.COMPOSITES["own"]


# -- a corpus with a task of its own, and a network -------------------------------------------------------------------
@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with data/ (six speakers, the task `age` in its splits.json) and preprocessed/."""
    folder = tmp_path_factory.mktemp("corpus")
    fold = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}
    tasks = {
        "digit": {"label": "digit", "classes": list("0123456789")},
        "age": {"label": "age", "classes": ["young", "old"], "bins": [0, 40, 200]},
    }
    splits = {"tasks": tasks, "digit": [fold], "age": [fold]}
    source = make_corpus(folder / "data", digits=range(2), splits=splits)
    write_meta(source, {name: {"gender": "male", "age": 30 + 20 * (int(name) % 2)} for name in GENDERS})
    out = folder / "preprocessed"
    assert preprocessing.main(["-src", str(source), "-dst", str(out), "--jobs", "1"]) == 0
    return folder


def test_a_corpus_and_a_task(corpus, tmp_path):
    runs = select(find_splits(corpus / "preprocessed"))
    assert {run.task for run in runs} == {"digit", "age"}
    for run in runs:
        arguments = [run.network, run.task, "0", "--preprocessed", str(corpus / "preprocessed")]
        assert render.main([*arguments, "--run", str(tmp_path / str(run))]) == 0
        score = NETWORKS[run.network].score
        layers = {layer.name: layer for layer in read_net(tmp_path / str(run) / "train.prototxt").layer}
        assert layers[score].inner_product_param.num_output == {"digit": 10, "age": 2}[run.task]


TRAIN = """name: "PicoNet"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "${train_list}" batch_size: 4 } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "${validate_list}" batch_size: ${validate_batch} } }
layer { name: "slicer" type: "Slice" bottom: "label" ${label_tops} slice_param { axis: 1 ${slice_points} } }
layer { name: "silence" type: "Silence" ${silent_bottoms} }
%s
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "${label}" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "${label}" top: "loss" }
"""
BODY = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { kernel_h: 1 kernel_w: 80 stride_h: 1 stride_w: 80 } }
layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score"
  inner_product_param { num_output: ${classes} weight_filler { type: "xavier" } } }"""
DEPLOYED = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 8000 } } }\n'
    + BODY
    + '\nlayer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }\n'
)
TEST = (
    TRAIN.split("layer {", 2)[0]
    + (
        'layer { name: "data" type: "HDF5Data" top: "data" top: "label" '
        'hdf5_data_param { source: "${test_list}" batch_size: ${test_batch} } }\nlayer {'
    )
    + TRAIN.split("layer {", 3)[3]
)
SOLVER = (
    'net: "${net}"\ntest_iter: ${validate_iter}\ntest_interval: 2\nbase_lr: 0.01\nlr_policy: "fixed"\n'
    'max_iter: 4\ndisplay: 1\nsnapshot: 4\nsnapshot_prefix: "${snapshot_prefix}"\nrandom_seed: ${random_seed}\n'
)


def test_a_network(corpus, tmp_path, monkeypatch):
    folder = tmp_path / "models" / "PicoNet"
    folder.mkdir(parents=True)
    texts = {"train": TRAIN % BODY, "test": TEST % BODY, "deploy": DEPLOYED, "solver": SOLVER}
    assert set(texts) == set(ROLES)
    for role, text in texts.items():
        (folder / f"piconet_{role}.prototxt").write_text(text)
    (folder / "network.json").write_text(json.dumps({"inputs": "AudioNet", "score": "score"}))
    found = find_networks(folder.parent)
    assert list(found) == ["PicoNet"] and found["PicoNet"].input_shape == (1, 1, 8000)
    monkeypatch.setitem(NETWORKS, "PicoNet", found["PicoNet"])
    runs = [run for run in select(find_splits(corpus / "preprocessed")) if run.network == "PicoNet"]
    assert [run.task for run in runs] == ["digit", "age"]
    run = tmp_path / "run"
    arguments = ["PicoNet", "age", "0", "--preprocessed", str(corpus / "preprocessed"), "--run", str(run)]
    assert render.main(arguments) == 0
    monkeypatch.chdir(corpus / "preprocessed")
    caffe.get_solver(str(run / "solver.prototxt")).solve()
    weights = run / "snapshots" / "PicoNet_iter_4.caffemodel"
    assert caffe.Net(str(run / "test.prototxt"), str(weights), caffe.TEST).forward()["accuracy"] <= 1
    out = tmp_path / "r.hdf5"
    recording = next((corpus / "preprocessed" / "05").glob("AudioNet_*.hdf5"))
    network = ["--model", str(run / "deploy.prototxt"), "--weights", str(weights)]
    assert explain.main([*network, "--input", str(recording), "--save", str(out)]) == 0 and out.exists()


# -- an experiment ----------------------------------------------------------------------------------------------------
EXPERIMENT = '''"""How many recordings there are."""

import pandas as pd

from audiomnist.corpus.layout import scan
from audiomnist.study.outcome import Experiment, Outcome


def make(setting):
    recordings, _ = scan(setting.data)
    table = pd.DataFrame({"recordings": [len(recordings)]})
    return Outcome(tables={"count": table}, findings=[f"{len(recordings)} recordings."])


EXPERIMENT = Experiment("how_many", "How many recordings", make, reads="data")
'''


def test_an_experiment(corpus, tmp_path, monkeypatch, capsys):
    place = tmp_path / "more"
    place.mkdir()
    (place / "how_many.py").write_text(EXPERIMENT)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(place)])
    assert "how_many" in catalogue.names() and list(catalogue.catalogue())[-1] == "how_many"
    assert cli.main(["--help"]) == 0 and "how-many" in capsys.readouterr().out
    folders = ["--data", str(corpus / "data"), "--output", str(tmp_path / "results")]
    assert cli.main(["how-many", *folders]) == 0
    with open(tmp_path / "results" / "how_many" / "count.csv", newline="") as file:
        assert list(csv.reader(file)) == [["recordings"], ["12"]]
    record = json.loads((tmp_path / "results" / "how_many" / "outcome.json").read_text())
    assert record["findings"] == ["12 recordings."]
    shutil.rmtree(place)
    assert "how_many" not in catalogue.names()
