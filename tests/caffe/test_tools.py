"""caffe-tools beside the original's tools, and against what files and logs are known to hold."""

import csv
import os
import re
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from PIL import Image

import caffe
from caffe.images import decode
from caffe.tools import images
from caffe.tools.command import TOOLS, main
from caffe.tools.logs import read_log
from caffe_proto import blobproto_to_array, caffe_pb2, read_net
from caffe_proto.files import read_binary, read_binary_net
from tests.parity.images import pixels

ORIGINAL = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with images and lists, which is the current one."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("images")
    for i in range(4):
        Image.fromarray(pixels(i)).save(f"images/colour {i}.png")
        Image.fromarray(pixels(i, 20, 30)).save(f"images/large{i}.bmp")
        Image.fromarray(pixels(i, channels=1)[..., 0]).save(f"images/grey{i}.png")
    Image.fromarray(pixels(9, 40, 30)).save("images/j.jpg")
    write("list.txt", "".join(f"colour {i}.png {i * 3 - 2}\n" for i in range(4)))
    write("sizes.txt", "colour 0.png 1\nlarge1.bmp 2\ngrey2.png 3\nno.png 4\nj.jpg 5\n")
    return tmp_path


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


def database(name):
    """[(key, Datum)] of an LMDB."""
    with lmdb.open(name, readonly=True, lock=False) as environment, environment.begin() as transaction:
        return [(key.decode(), caffe_pb2.Datum.FromString(value)) for key, value in transaction.cursor()]


def said(capfd):
    """The messages of a log, without times and places."""
    return [re.sub(r"^\w+ \S+ +\d+ \S+\] ", "", line) for line in capfd.readouterr().err.splitlines()]


# --- convert_imageset ------------------------------------------------------------------------------------------------


def test_images_become_entries_of_a_database(here, capfd):
    assert main(["convert_imageset", "images/", "list.txt", "set"]) == 0
    assert said(capfd) == ["A total of 4 images.", "Processed 4 files."]
    for i, (key, datum) in enumerate(database("set")):
        assert key == f"{i:08}_colour {i}.png" and datum.label == i * 3 - 2 and not datum.encoded
        assert (datum.channels, datum.height, datum.width) == (3, 12, 15)
        assert datum.data == pixels(i)[..., ::-1].transpose(2, 0, 1).tobytes()  # blue first
    assert sorted(os.listdir()) == ["images", "list.txt", "set", "sizes.txt"]


FLAGS = {
    "plain": [],
    "gray": ["-gray"],
    "resized": ["-resize_height=10", "--resize_width=7"],
    "encoded": ["-encoded"],
    "encoded and gray": ["-encoded=true", "-gray"],
    "switched off": ["-encoded=false", "-shuffle=false"],
}


@pytest.mark.bvlc
@pytest.mark.parametrize("name", FLAGS)
def test_databases_are_those_of_the_original(name, here, bvlc, capfd):
    """Entry by entry; of encoded ones the image, where it had to be encoded."""
    bvlc("python3", "-c", ORIGINAL, "convert_imageset", *FLAGS[name], f"{here}/images/", f"{here}/sizes.txt",
         f"{here}/theirs", "-backend=lmdb", cwd=here)  # fmt: skip
    assert main(["convert_imageset", *FLAGS[name], "images/", "sizes.txt", "ours"]) == 0
    ours, theirs = database("ours"), database("theirs")
    assert [key for key, _ in ours] == [key for key, _ in theirs] and len(ours) == 4  # no.png is left out
    for (key, mine), (_, other) in zip(ours, theirs, strict=True):
        assert (mine.label, mine.encoded) == (other.label, other.encoded)
        assert [mine.channels, mine.height, mine.width] == [other.channels, other.height, other.width] or mine.encoded
        if mine.encoded:
            found, wanted = (decode(one.data, None, key).astype(int) for one in (mine, other))
            assert found.shape == wanted.shape and np.abs(found - wanted).max() <= (2 if key.endswith("jpg") else 0)
        else:
            a, b = np.frombuffer(mine.data, np.uint8), np.frombuffer(other.data, np.uint8)
            assert np.abs(a.astype(int) - b).max() <= (3 if key.endswith("jpg") else 0), key


def test_encoded_images_are_the_files_themselves_where_they_can_be(here):
    assert main(["convert_imageset", "-encoded", "images/", "list.txt", "same"]) == 0
    assert (
        main(
            [
                "convert_imageset",
                "-encode_type=png",
                "-resize_width=9",
                "-resize_height=9",
                "images/",
                "list.txt",
                "new",
            ]
        )
        == 0
    )
    for (key, same), (_, new) in zip(database("same"), database("new"), strict=True):
        with open(f"images/{key[9:]}", "rb") as file:
            assert same.encoded and same.data == file.read()
        assert new.encoded and decode(new.data, None, key).shape == (9, 9, 3)


def test_a_shuffled_list_is_the_same_every_time(here):
    for name, more in (("a", []), ("b", []), ("c", ["-seed=1"])):
        assert main(["convert_imageset", "-shuffle", *more, "images/", "list.txt", name]) == 0
    a, b, c = ([key for key, _ in database(name)] for name in "abc")
    assert a == b and a != c and sorted(key[9:] for key in a) == sorted(key[9:] for key in c)
    assert a != [f"{i:08}_colour {i}.png" for i in range(4)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["-check_size", "images/", "sizes.txt", "new"],
            "large1.bmp: expected an image of shape (3, 12, 15), as the first",
        ),
        (["-backend=leveldb", "images/", "list.txt", "new"], "-backend: expected lmdb, got leveldb"),
        (["images/", "nowhere", "new"], "nowhere: expected a list of image files, got no such file"),
        (["images/", "list.txt", "images"], "images: expected a database that is not there yet"),
        (["images/", "list.txt", "no/new"], "no/new: expected a writable folder with free space"),
        (["-resize_width=3", "images/", "list.txt", "new"], "-resize_height, -resize_width: expected both or none"),
        (["-encode_type=q", "images/", "list.txt", "new"], "-encode_type, an ending of image files such as png"),
        (["images/", "broken.txt", "new"], "broken.txt, line 1: expected <file> <label>, got 'a.png'"),
        (["images/", "twice.txt", "new"], "twice.txt, line 1: expected <file> <label>, got 'a.png --1'"),
        (
            ["-resize_width=2000000000", "-resize_height=2000000000", "images/", "list.txt", "new"],
            "expected an image on its way to its new size that fits into",
        ),
    ],
)
def test_what_cannot_be_converted_leaves_no_database(arguments, words, here, capfd):
    write("broken.txt", "a.png\n")
    write("twice.txt", "a.png --1\n")
    before = sorted(os.listdir())
    status = main(["convert_imageset", *arguments])
    err = capfd.readouterr().err
    assert words in err and "Traceback" not in err
    assert status == 134 and sorted(os.listdir()) == before


def test_without_lmdb_the_message_says_what_to_install(here, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert main(["convert_imageset", "images/", "list.txt", "new"]) == 134
    assert (
        "new: expected the Python package lmdb (pip install lmdb), which writes it, got none" in capfd.readouterr().err
    )


# --- compute_image_mean ----------------------------------------------------------------------------------------------


def test_the_mean_of_a_database(here, capfd):
    assert main(["convert_imageset", "images/", "list.txt", "set"]) == 0
    assert main(["compute_image_mean", "set", "mean"]) == 0
    wanted = np.mean([pixels(i)[..., ::-1].transpose(2, 0, 1).astype(np.float64) for i in range(4)], 0)
    blob = read_binary("mean", caffe_pb2.BlobProto())
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 3, 12, 15)
    np.testing.assert_allclose(blobproto_to_array(blob, "mean")[0], wanted, rtol=1e-6)
    lines = said(capfd)
    assert lines[-4] == "Number of channels: 3"
    assert [float(line.rpartition(" ")[2]) for line in lines[-3:]] == pytest.approx(wanted.mean((1, 2)), rel=1e-5)
    assert main(["compute_image_mean", "set"]) == 0


@pytest.mark.bvlc
def test_the_mean_is_the_original_s(here, bvlc, capfd):
    assert main(["convert_imageset", "images/", "list.txt", "set"]) == 0
    assert main(["compute_image_mean", "set", "ours"]) == 0
    ours = said(capfd)
    done = bvlc(
        "python3", "-c", ORIGINAL, "compute_image_mean", "-backend=lmdb", f"{here}/set", f"{here}/theirs", cwd=here
    )
    with open("ours", "rb") as mine, open("theirs", "rb") as other:
        assert mine.read() == other.read()
    for line in ours[-4:]:
        assert f"] {line}\n" in done.stderr


def test_images_of_several_sizes_have_no_mean(here, capfd):
    assert main(["convert_imageset", "images/", "sizes.txt", "set"]) == 0
    assert main(["compute_image_mean", "set", "mean"]) == 134
    assert "expected an image of shape (3, 12, 15), as the first, got (3, 20, 30)" in capfd.readouterr().err
    assert not os.path.exists("mean")


# --- extract_features ------------------------------------------------------------------------------------------------

NET = """
name: "n"
layer { name: "data" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "list.txt" root_folder: "images/" batch_size: 3 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 5 stride: 4 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
"""


@pytest.fixture
def model(here):
    """A net that reads the images, and its weights; returns the pycaffe net."""
    write("net.prototxt", NET)
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.save("x.caffemodel")
    return net


def test_features_are_what_the_net_computes(model, capfd):
    assert main(["extract_features", "x.caffemodel", "net.prototxt", "conv,ip", "c,i", "2", "lmdb"]) == 0
    assert "Extracted features of 6 query images for feature blob conv" in said(capfd)[-3]
    found = {name: database(name) for name in "ci"}
    for batch in range(2):
        model.forward()
        for name, blob in (("c", "conv"), ("i", "ip")):
            for k, values in enumerate(model.blobs[blob].data):
                key, datum = found[name][3 * batch + k]
                assert key == f"{3 * batch + k:010}"
                shape = (datum.channels, datum.height, datum.width)
                assert shape == (tuple(values.shape) if name == "c" else (4, 1, 1))
                np.testing.assert_array_equal(np.array(datum.float_data, np.float32), values.ravel())


@pytest.mark.bvlc
def test_features_are_those_of_the_original(model, here, bvlc):
    arguments = ["x.caffemodel", "net.prototxt", "conv,ip"]
    assert main(["extract_features", *arguments, "c,i", "2", "lmdb", "CPU"]) == 0
    bvlc("python3", "-c", ORIGINAL, "extract_features", *arguments, "c2,i2", "2", "lmdb", "CPU", cwd=here)
    for name in "ci":
        for (key, mine), (other_key, other) in zip(database(name), database(f"{name}2"), strict=True):
            assert key == other_key and (mine.channels, mine.height, mine.width) == (
                other.channels,
                other.height,
                other.width,
            )
            np.testing.assert_allclose(mine.float_data, other.float_data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["no", "a", "1", "lmdb"], "Unknown feature blob name no in the network net.prototxt"),
        (["conv,ip", "a", "1", "lmdb"], "databases: expected as many names as blobs, 2, got 1"),
        (["conv", "a", "none", "lmdb"], "num_mini_batches: expected a positive number, got none"),
        (["conv", "a", "1", "leveldb"], "db_type: expected lmdb, got leveldb"),
    ],
)
def test_what_cannot_be_extracted(arguments, words, model, capfd):
    assert main(["extract_features", "x.caffemodel", "net.prototxt", *arguments]) == 134
    assert words in capfd.readouterr().err and not os.path.exists("a")


# --- upgrades --------------------------------------------------------------------------------------------------------

OLD = """
name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5
layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         inner_product_param { num_output: 3 } }
layers { name: "relu" type: RELU bottom: "ip" top: "ip" }
"""
OLD_SOLVER = 'net: "n.prototxt" base_lr: 0.01 lr_policy: "fixed" solver_type: ADAGRAD snapshot_prefix: "s" max_iter: 3'


def test_old_files_come_out_in_today_s_form(here, capfd):
    write("old.prototxt", OLD)
    write("old_solver.prototxt", OLD_SOLVER)
    assert main(["upgrade_net_proto_text", "old.prototxt", "new.prototxt"]) == 0
    net = read_net("new.prototxt")
    assert [layer.type for layer in net.layer] == ["Input", "InnerProduct", "ReLU"] and not net.layers
    assert [(one.lr_mult, one.decay_mult) for one in net.layer[1].param] == [(1, 1), (2, 0)]
    assert main(["upgrade_solver_proto_text", "old_solver.prototxt", "new_solver.prototxt"]) == 0
    with open("new_solver.prototxt") as file:
        assert 'type: "AdaGrad"' in file.read()
    message = caffe_pb2.NetParameter(name="b")
    message.layers.add(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT).blobs.add(num=1, width=2, data=[1, 2])
    with open("old.caffemodel", "wb") as file:
        file.write(message.SerializeToString())
    assert main(["upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel"]) == 0
    (layer,) = read_binary_net("new.caffemodel").layer
    assert layer.type == "InnerProduct" and list(layer.blobs[0].data) == [1, 2]


@pytest.mark.bvlc
def test_upgrades_are_those_of_the_original(here, bvlc):
    write("net.prototxt", OLD)
    write("solver.prototxt", OLD_SOLVER)
    for tool, name in (("upgrade_net_proto_text", "net.prototxt"), ("upgrade_solver_proto_text", "solver.prototxt")):
        assert main([tool, name, "ours"]) == 0
        bvlc("python3", "-c", ORIGINAL, tool, name, "theirs", cwd=here)
        with open("ours") as mine, open("theirs") as other:
            numbers = re.compile(r"\.0$", re.MULTILINE)  # the original writes 1 for 1.0
            assert numbers.sub("", mine.read()) == other.read()


# --- parse_log -------------------------------------------------------------------------------------------------------

LOG = """\
I1231 23:59:50.000000   1 solver.cpp:1] Iteration 9, lr = 5
I1231 23:59:58.500000   1 solver.cpp:1] Solving n
I1231 23:59:59.000000   1 solver.cpp:1] Iteration 0, Testing net (#0)
I1231 23:59:59.500000   1 solver.cpp:1]     Test net output #0: accuracy = 0.1
I1231 23:59:59.500000   1 solver.cpp:1]     Test net output #1: loss = 2.5 (* 1 = 2.5 loss)
I0101 00:00:01.000000   1 solver.cpp:1] Iteration 0 (0 iter/s, 0s/2 iters), loss = 2.4
I0101 00:00:01.000000   1 solver.cpp:1]     Train net output #0: loss = 2.4 (* 1 = 2.4 loss)
I0101 00:00:01.000000   1 solver.cpp:1] Iteration 0, lr = 0.01
I0101 00:00:03.250000   1 solver.cpp:1] Iteration 2, loss = 1e-3
I0101 00:00:03.250000   1 solver.cpp:1]     Train net output #0: loss = nan
I0101 00:00:03.250000   1 solver.cpp:1] Iteration 2, lr = 0.005
I0101 00:00:04.000000   1 solver.cpp:1] Iteration 3, Testing net (#0)
I0101 00:00:05.000000   1 solver.cpp:1]     Test net output #0: accuracy = 0.9
"""


def test_a_log_becomes_two_tables(here, capfd):
    write("a.log", LOG)
    os.mkdir("out")
    assert main(["parse_log", "a.log", "out", "--verbose", "--delimiter=;"]) == 0
    assert said(capfd) == ["Wrote out/a.log.train", "Wrote out/a.log.test"]
    with open("out/a.log.train") as file:
        assert list(csv.reader(file, delimiter=";")) == [
            ["NumIters", "Seconds", "LearningRate", "loss"], ["0", "2.5", "0.01", "2.4"], ["2", "4.75", "0.01", "nan"],
        ]  # fmt: skip
    with open("out/a.log.test") as file:
        assert list(csv.reader(file, delimiter=";")) == [
            ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"],
            ["0", "1.0", "0.005", "0.1", "2.5"], ["3", "6.5", "0.005", "0.9", ""],
        ]  # fmt: skip


TRAINED = """
layer { name: "d" type: "DummyData" top: "d"
        dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "d" top: "loss" }
"""
TRAINING = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 4 max_iter: 6 display: 2
test_iter: 1 test_interval: 3 snapshot_prefix: "s"
"""


def test_the_log_of_our_engine_is_one(here):
    write("net.prototxt", TRAINED)
    write("solver.prototxt", TRAINING)
    done = subprocess.run(
        [sys.executable, "-m", "caffe", "train", "-solver=solver.prototxt"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(caffe.__file__))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    train, test = read_log(done.stderr, "log")
    assert [row["NumIters"] for row in train] == [0, 2, 4] and [row["NumIters"] for row in test] == [0, 3, 6]
    assert train[0]["loss"] == pytest.approx(1.5) and train[0]["loss"] > train[1]["loss"] > train[2]["loss"]
    assert all(0 <= row["Seconds"] < 60 for row in train + test)


@pytest.mark.parametrize(
    "text, words",
    [
        ("nothing\n", "x.log: expected a log of training, with a line that says Solving, got none"),
        (LOG.replace("2.4 (*", "two (*"), "x.log, line 7: expected numbers, got "),
    ],
)
def test_what_is_no_log(text, words, here, capfd):
    write("x.log", text)
    assert main(["parse_log", "x.log", "."]) == 134
    assert words in capfd.readouterr().err and not os.path.exists("x.log.train")


# --- resize_and_crop_images, and the command -------------------------------------------------------------------------


def test_images_become_squares(here):
    Image.fromarray(pixels(3, 20, 50)).save("images/wide.png")
    write("names.txt", "wide.png\ngrey1.png\n")
    flags = ["-output_side_length=8", "-input_folder=images", "-input_file_list=names.txt", "-output_folder=small/er"]
    assert main(["resize_and_crop_images", *flags]) == 0
    wide = np.asarray(Image.open("small/er/wide.png"))
    whole = images.resize(pixels(3, 20, 50), 8, 20)
    np.testing.assert_array_equal(wide, whole[:, 6:14])
    assert np.asarray(Image.open("small/er/grey1.png")).shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["../grey1.png", "small/../../grey1.png", "/tmp/grey1.png"])
def test_squares_stay_in_the_folder_that_was_named(name, here, capfd):
    write("names.txt", f"{name}\n")
    flags = ["-input_folder=images", "-input_file_list=names.txt", "-output_folder=small"]
    before = sorted(here.rglob("*"))
    assert main(["resize_and_crop_images", *flags]) == 134
    assert f"names.txt: expected names of files in -output_folder, got '{name}'" in capfd.readouterr().err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", TOOLS)
def test_the_help_of_a_tool(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and f"caffe-tools {name}" in out and "(default: )" not in out
    for flag in TOOLS[name].flags:
        assert f"--{flag}" in out


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        ([], 1, "usage: caffe-tools TOOL"),
        (["--help"], 0, "convert_imageset"),
        (["convert"], 1, "ERROR: unknown tool convert"),
        (["parse_log", "x"], 1, "usage: caffe-tools parse_log [FLAGS] LOGFILE OUTPUT_DIR"),
    ],
)
def test_calls(arguments, status, words, capsys):
    assert main(arguments) == status
    assert words in "".join(capsys.readouterr())
