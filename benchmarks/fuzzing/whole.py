"""Small files that are whole, made by the commands themselves where they can: what cases damage, and its company."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
from PIL import Image

import caffe
import caffe.cli
from audiomnist import cli
from audiomnist.corpus.metadata import META_NAME
from audiomnist.recording.session import Session
from benchmarks.fuzzing.children import ROOT
from caffe_proto import array_to_blobproto, caffe_pb2, write_message
from tests.small_corpus import make_corpus, speech
from tests.small_study import make_study
from tests.stand_in_engine import command_line, make_engine, make_inputs

ONE = ROOT / "notebooks/one_recording"
COMPOSITE = """\
name = "mine"
ties = "first"
note = "a composite of my own"
default = {rule = "Epsilon", epsilon = 1e-6}
first = "Flat"
[types]
Convolution = {rule = "Gamma", gamma = 0.25}
[names]
"conv*" = {rule = "AlphaBeta", alpha = 2.0, beta = 1.0}
"""
TEST_LOG = """\
I0101 00:00:00.0 1 c.cpp:1] Batch 0, accuracy = 1
I0101 00:00:00.0 1 c.cpp:1] accuracy = 0.5
I0101 00:00:00.0 1 c.cpp:1] loss = 0.5 (* 1 = 0.5 loss)
"""
ROWS = """\
layer { name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param { source: "rows.txt" batch_size: 3 shuffle: true } }
"""
INPUT = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }
"""
BODY = """\
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1
    weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "scale" }
layer { name: "norm" type: "LRN" bottom: "scale" top: "norm" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "slice" type: "Slice" bottom: "pool" top: "left" top: "right" slice_param { axis: 1 slice_point: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum"
  eltwise_param { operation: SUM coeff: 1 coeff: -1 } }
layer { name: "all" type: "Concat" bottom: "sum" bottom: "left" top: "all" }
layer { name: "flat" type: "Flatten" bottom: "all" top: "flat" }
layer { name: "drop" type: "Dropout" bottom: "flat" top: "flat" dropout_param { dropout_ratio: 0.2 } }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
"""
LOSS = """\
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_param { ignore_label: 9 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST } accuracy_param { top_k: 1 } }
"""
SOLVER = """\
net: "train.prototxt" type: "Adam" momentum: 0.9 momentum2: 0.999 weight_decay: 0.001 random_seed: 1
base_lr: 0.01 lr_policy: "multistep" stepvalue: 2 gamma: 0.1
max_iter: 3 test_iter: 2 test_interval: 2 display: 1 snapshot: 2 snapshot_prefix: "made/x" snapshot_format: %s
"""
DUMMY = """\
layer { name: "data" type: "DummyData" top: "data"
  dummy_data_param { shape { dim: 2 dim: 4 dim: 4 dim: 4 } data_filler { type: "uniform" max: 3 } } }
"""
LAST = """\
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
layer { name: "unused" type: "Silence" bottom: "label" }
"""
# layers of many types beside each other, on one blob
ZOO = {
    "Deconvolution": "convolution_param { num_output: 2 kernel_size: 2 stride: 2 }",
    "Im2col": "convolution_param { kernel_size: 2 }",
    "Power": "power_param { power: 2 scale: 0.5 shift: 1 }",
    "Exp": "exp_param { base: 2 }",
    "Log": "log_param { shift: 3 }",
    "ELU": "elu_param { alpha: 0.5 }",
    "Clip": "clip_param { min: -1 max: 1 }",
    "MVN": "mvn_param { across_channels: true }",
    "SPP": "spp_param { pyramid_height: 2 }",
    "ArgMax": "argmax_param { top_k: 1 }",
    "Softmax": "softmax_param { axis: 1 }",
    "Reduction": "reduction_param { operation: MEAN axis: 1 }",
    "Tile": "tile_param { tiles: 2 }",
    "Reshape": "reshape_param { shape { dim: 0 dim: -1 } }",
    "Embed": "embed_param { input_dim: 9 num_output: 2 }",
    **dict.fromkeys(("AbsVal", "BNLL", "Bias", "PReLU", "Sigmoid", "Silence", "Swish", "TanH", "Threshold"), ""),
}


def quietly(command: Callable[[list[str]], int | None], *arguments: object) -> None:
    """Carry out a command that makes files for us, and must succeed."""
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        status = command([str(one) for one in arguments]) or 0
    if status:
        raise RuntimeError(f"{arguments}: exit status {status}: {words.getvalue()[-2000:]}")


def make_net(folder: Path, form: str = "BINARYPROTO") -> None:
    """A net with its rows, what a training of three iterations leaves, and a net of many layer types."""
    rng = np.random.default_rng(0)
    (folder / "made").mkdir()
    for number in range(2):
        with h5py.File(folder / f"rows{number}.h5", "w") as file:
            file["data"] = rng.standard_normal((4, 2, 6, 6), np.float32)
            file["label"] = np.float32([0, 1, 2, 1])
    zoo = [DUMMY]
    for kind, settings in ZOO.items():
        top = "" if kind == "Silence" else f' top: "{kind}"'
        zoo.append(f'layer {{ name: "{kind}" type: "{kind}" bottom: "data"{top} {settings} }}')
    texts = {
        "rows.txt": "rows0.h5\nrows1.h5\n",
        "train.prototxt": ROWS + BODY + LOSS,
        "deploy.prototxt": INPUT + BODY,
        "solver.prototxt": SOLVER % form,
        "zoo.prototxt": "\n".join(zoo),
        "exported.prototxt": "\n".join([INPUT + BODY, *zoo[1:]]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    here = os.getcwd()
    os.chdir(folder)
    try:
        quietly(caffe.cli.main, "train", "-solver=solver.prototxt")
    finally:
        os.chdir(here)


IMAGES = {  # a net for each layer type that reads images
    "images": """type: "ImageData" image_data_param { source: "list.txt" batch_size: 2 new_height: 12 new_width: 15 }
  transform_param { mean_file: "mean.binaryproto" crop_size: 7 mirror: true scale: 0.1 }""",
    "windows": """type: "WindowData" window_data_param { source: "windows.txt" batch_size: 4 fg_fraction: 0.5
  fg_threshold: 0.6 bg_threshold: 0.4 context_pad: 1 crop_mode: "square" }
  transform_param { mean_file: "mean.binaryproto" crop_size: 7 }""",
    "database": """type: "Data" data_param { source: "base" backend: LMDB batch_size: 2 }
  transform_param { mean_value: 100 }""",
}
WINDOWS = """\
# 0
a.png 3 12 15 2
1 0.9 2 2 9 8
2 0.1 0 0 3 3
# 1
b.jpg 3 12 15 1
1 0.8 1 0 14 11
"""


def make_images(folder: Path) -> None:
    """Images of several formats, lists of them and of windows, a database, their mean, and nets of these."""
    import lmdb

    rng = np.random.default_rng(0)
    names = ["a.png", "b.jpg", "c.bmp", "d.tif"]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (12, 15, 3), np.uint8)).save(folder / name)
    (folder / "list.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)))
    (folder / "windows.txt").write_text(WINDOWS)
    write_message(folder / "mean.binaryproto", array_to_blobproto(np.full((3, 12, 15), 99.0)))
    data = (folder / "a.png").read_bytes()
    entries = [caffe_pb2.Datum(encoded=True, data=data, label=1)]
    entries.append(caffe_pb2.Datum(channels=3, height=12, width=15, data=bytes(540)))
    entries.append(caffe_pb2.Datum(channels=3, height=12, width=15, float_data=range(540)))
    with lmdb.open(str(folder / "base"), map_size=2**20) as base, base.begin(write=True) as transaction:
        for number, entry in enumerate(entries):
            transaction.put(b"%d" % number, entry.SerializeToString())
    for name, layer in IMAGES.items():
        text = f'layer {{ name: "data" top: "data" top: "label" {layer} }}\n'
        (folder / f"{name}.prototxt").write_text(text + LAST)


def make_lrp(folder: Path) -> None:
    """The small network of the notebook, its recording, another net with rows, lists and a composite."""
    for name in ("deploy.prototxt", "small.caffemodel", "seven.wav"):
        shutil.copy(ONE / name, folder / name)
    (folder / "net").mkdir()
    make_net(folder / "net")
    for number in range(2):
        shutil.copy(folder / "net" / f"rows{number}.h5", folder / f"rows{number}.h5")
    (folder / "list.txt").write_text("rows0.h5\nrows1.h5\n")
    (folder / "spoken.txt").write_text("seven.wav\n")
    (folder / "mine.toml").write_text(COMPOSITE)


def make_whole_corpus(folder: Path) -> None:
    """A corpus of six speakers with metadata, splits and corrections."""
    make_corpus(folder / "corpus", digits=range(2))
    corrections = {
        "only where": {"speaker": "01", "gender": "male"},
        "speakers": {"02": {"age": 31, "why": "asked"}},
        "recordings": {"0_01_0.wav": {"digit": 1, "why": "heard"}},
    }
    (folder / "corrections.json").write_text(json.dumps(corrections))
    (folder / "speakers.json").write_text((folder / "corpus" / META_NAME).read_text())


def make_inputs_of(folder: Path) -> None:
    """A corpus and its preprocessed folder, in which something is left to do."""
    make_whole_corpus(folder)
    quietly(cli.main, "preprocess", "-src", folder / "corpus", "-dst", folder / "inputs", "--jobs", 1)
    for path in (folder / "inputs/06").glob("*_1_*"):
        path.unlink()


@contextlib.contextmanager
def engine_of(folder: Path) -> Iterator[None]:
    """Context in which the engine is the stand-in that `make_runs` has put into the folder."""
    with mock.patch.dict(os.environ, {"CAFFE": command_line(folder.absolute()).replace("python'", "python' -S")}):
        yield


def words_of_runs(folder: Path) -> list[str]:
    """Options of `train-test` for the runs that `make_runs` has made in the folder."""
    places = {"data": "none", "preprocessed": "inputs", "runs": "runs"}
    return ["--cpu", *(word for name, place in places.items() for word in (f"--{name}", str(folder / place)))]


def make_runs(folder: Path) -> None:
    """Runs of a stand-in for the engine, one of them tested."""
    make_inputs(folder / "inputs")
    make_engine(folder)
    with engine_of(folder):
        for network in ("AlexNet", "AudioNet"):
            quietly(cli.main, "train-test", *words_of_runs(folder), "--max-iter", 4, network, "digit", 0)
    (folder / "runs/AudioNet_digit_0/test.log").unlink()


@cache
def _study() -> Path:
    place = Path(tempfile.mkdtemp(prefix="fuzzing-study-"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        make_study(place)
    return place


def forget() -> None:
    """Remove what was made for several targets."""
    if _study.cache_info().currsize:
        shutil.rmtree(_study())
        _study.cache_clear()


def copy_study(folder: Path) -> None:
    """The study in miniature."""
    for name in ("data", "preprocessed", "runs"):
        shutil.copytree(_study() / name, folder / name)


def words_of_study(folder: Path) -> list[str]:
    """Options of experiments for that study."""
    places = {"data": "data", "preprocessed": "preprocessed", "runs": "runs", "output": "results"}
    return [*(word for name, place in places.items() for word in (f"--{name}", str(folder / place))), "--limit", "1"]


def make_results(folder: Path) -> None:
    """A study with the results of two of its experiments."""
    copy_study(folder)
    for name in ("table1", "corpus"):
        quietly(cli.main, name, *words_of_study(folder))


def make_session(folder: Path) -> None:
    """A session of one take, to be cut into a corpus that has a speaker already."""
    session = Session.create(folder, 1, seed=1)
    rate = 48000
    take = np.random.default_rng(0).standard_normal(12 * rate) * 3
    for number in range(10):
        word = np.repeat(speech(number, 0.4, 8000), 6)
        take[(number + 1) * rate :][: len(word)] += word
    session.add_take(np.rint(take).astype(np.int16), session.missing[:10], [0.7 + number for number in range(10)])
    session.add("speaker", metadata={"alias": "zoe", "gender": "female", "age": 33, "recordingdate": session.date})
    session.release()
    session.folder.rename(session.folder.with_name("s"))
    (folder / "corpus").mkdir()
    (folder / "corpus" / META_NAME).write_text(json.dumps({"ada": {"gender": "female", "age": 40}}))
