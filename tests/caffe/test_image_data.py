"""Data, ImageData and WindowData against the original's numbers; what is drawn; runs that go on; what is refused."""

import io
import os
import re
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import caffe
from caffe import images, mode
from caffe.context import Context
from caffe.errors import CaffeError
from caffe.net import Net
from caffe.transform import Transformation
from caffe_proto import array_to_blobproto, caffe_pb2, net_state
from tests.parity import images as cases
from tests.parity.golden import FOLDER

GOLDEN = FOLDER.parent / "images.npz"
SCRIPT = FOLDER.parents[1] / "parity" / "images.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "data"
    cases.main("make", str(folder))
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def wanted():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# -- the original's numbers ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in cases.CASES if name not in cases.LIVE])
def test_reads_what_the_original_read(name, data, wanted):
    own = {key: array for key, array in wanted.items() if key.startswith(name + "/")}
    same(cases.run(data, [name]), own)


def test_the_golden_file_has_the_cases(wanted):
    assert {key.split("/")[0] for key in wanted} == set(cases.CASES) - cases.LIVE


@pytest.mark.bvlc
@pytest.mark.parametrize("action", ["run", "live"])
def test_reads_what_the_original_reads(action, bvlc, data, tmp_path):
    bvlc("python3", SCRIPT, action, data, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        expected = {name: file[name] for name in file.files}
    same(cases.run(data, sorted({name.split("/")[0] for name in expected})), expected)


@pytest.mark.bvlc
def test_draws_what_the_original_draws(bvlc, data, tmp_path):
    """Every crop, mirrored or not, and every window: the same images under the same labels."""
    mode.set_random_seed(3)
    bvlc("python3", SCRIPT, "draw", data, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        same(cases.outcomes(data), {name: file[name] for name in file.files})


# -- what is drawn ---------------------------------------------------------------------------------------------------
def transformation(text, training=True, seed=1):
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    change = Transformation(param, training, "here")
    change.seed(seed)
    return change


def test_every_crop_is_as_likely_and_half_are_mirrored():
    image = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
    change = transformation("crop_size: 3 mirror: true")
    found = [change(image, "it") for _ in range(6000)]
    corners = [(min(array[0, 0, 0], array[0, 0, -1]), array[0, 0, 0] > array[0, 0, -1]) for array in found]
    expected = {(5 * row + column, mirrored) for row in (0, 1) for column in (0, 1, 2) for mirrored in (False, True)}
    counts = [corners.count(corner) for corner in expected]
    assert sum(counts) == len(found) and max(abs(count - 500) for count in counts) < 5 * np.sqrt(500)


def test_nothing_is_drawn_where_nothing_is_asked_for():
    image = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
    change = transformation("crop_size: 3 scale: 0.5 mean_value: 1 mean_value: 2", training=False)
    expected = (image[:, 0:3, 1:4] - np.reshape([1.0, 2.0], (2, 1, 1))) / 2
    for _ in range(3):
        np.testing.assert_array_equal(change(image, "it"), expected)
    assert not change.draws


def labels_of(net, batches):
    found = []
    for _ in range(batches):
        net.forward()
        found.append(net.blobs["label"].data.astype(int).tolist())
    return found


SHUFFLED = (cases.IMAGE % ("list.txt", 2, "shuffle: true") + cases.transform("mirror: true crop_size: 8"), cases.TRAIN)
MIRRORED = (cases.DATA % ("raw", 3, "") + cases.transform("mirror: true"), cases.TRAIN)
WINDOWS = (cases.DRAWN["windows"][0].replace("crop_size: 5", "crop_size: 5 mirror: true"), cases.TRAIN)


@pytest.mark.parametrize("case", [SHUFFLED, MIRRORED, WINDOWS], ids=["ImageData", "Data", "WindowData"])
def test_a_seed_gives_the_same_batches_and_a_position_goes_on(case, data):
    def batches(net, count):
        found = []
        for _ in range(count):
            net.forward()
            found += [net.blobs["data"].data.copy(), net.blobs["label"].data.copy()]
        return found

    found = []
    for seed in (1, 1, 2):
        mode.set_random_seed(seed)
        net = cases.make_net(data, case)
        found.append(batches(net, 4))
        position = net.positions()
        found[-1] += batches(net, 4)
    assert all(map(np.array_equal, found[0], found[1]))
    assert not all(map(np.array_equal, found[0], found[2]))
    mode.set_random_seed(9)
    again = cases.make_net(data, case)
    batches(again, 3)
    again.restore_positions(position)
    assert all(map(np.array_equal, batches(again, 4), found[2][8:]))


def test_every_round_of_a_shuffled_list_has_every_image_once(data):
    mode.set_random_seed(4)
    found = np.ravel(labels_of(cases.make_net(data, cases.DRAWN["image shuffled"]), 20)).reshape(4, 5)
    assert all(sorted(row) == [-3, 4, 11, 18, 25] for row in found.tolist())
    assert len(set(map(tuple, found.tolist()))) > 1


@pytest.mark.parametrize("case", ["data plain", "image plain"])
def test_solvers_that_train_together_take_turns(case, data):
    text = 'layer { name: "images" ' + cases.CASES[case][0].replace("@", data) + " }"
    param = net_state(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN)

    def labels(batches, **place):
        net, found = Net(param, Context(**place)), []
        for _ in range(batches):
            net.plan.forward()
            found.append(net.nodes[0].tops[1].data.copy())
        return np.ravel(found)

    first, second = (labels(2, solver_count=2, solver_rank=rank) for rank in (0, 1))
    np.testing.assert_array_equal(np.ravel(np.stack([first, second], 1)), labels(4))


def test_a_position_of_another_source_starts_anew(data, capfd):
    for name, other in (("data plain", "data floats"), ("image plain", "image of a grey file")):
        net, source = cases.make_net(data, cases.CASES[name]), cases.make_net(data, cases.CASES[other])
        expected = labels_of(net, 2)
        source.forward()
        if name == "data plain":  # and of a file that somebody has changed
            again = cases.make_net(data, cases.CASES[name])
            ((layer, own),) = net.positions().items()
            again.restore_positions({layer: own | {"key": ""}})
            assert labels_of(again, 2) == expected
        again = cases.make_net(data, cases.CASES[name])
        again.restore_positions(source.positions())
        assert labels_of(again, 2) == expected
        assert "the stored data position is of" in capfd.readouterr().err


# -- training --------------------------------------------------------------------------------------------------------
NET = """
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "set" backend: LMDB batch_size: 6 } transform_param { %s mean_file: "mean" scale: 0.01 } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "set" backend: LMDB batch_size: 5 } transform_param { crop_size: 10 mean_value: 120 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
        num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param {
        num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 20 display: 1 random_seed: 1
test_iter: 3 test_interval: 10 test_initialization: false snapshot_prefix: "s" solver_mode: CPU %s
"""


def write_set(more=""):
    """A database `set`, the images it was made of, a mean, a net and a solver in the current folder."""
    os.mkdir("files")
    lines = []
    for i in range(13):
        Image.fromarray(cases.pixels(80 + i)).save(f"files/{i}.png")
        lines.append(f"{i}.png {i % 4}\n")
    with open("list.txt", "w") as file:
        file.writelines(lines)
    with lmdb.open("set", map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for i in range(13):
            array = cases.pixels(80 + i)[..., ::-1].transpose(2, 0, 1)
            datum = caffe_pb2.Datum(channels=3, height=12, width=15, label=i % 4, data=array.tobytes())
            transaction.put(b"%08d" % i, datum.SerializeToString())
    mean = array_to_blobproto(np.full((1, 3, 12, 15), 125, np.float32))
    with open("mean", "wb") as file:
        file.write(mean.SerializeToString())
    with open("net.prototxt", "w") as file:
        file.write(NET % more)
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER % "")


def losses(log):
    """What a log of training says: {iteration: loss}, and the test's loss."""
    train = {int(i): float(v) for i, v in re.findall(r"Iteration (\d+)(?: \([^)]*\))?, loss = ([\d.e+-]+)", log)}
    return train, [float(v) for v in re.findall(r"Test net output #0: loss = ([\d.e+-]+)", log)]


def train(*arguments):
    command = [sys.executable, "-m", "caffe", "train", "-solver=solver.prototxt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.mark.bvlc
@pytest.mark.slow
def test_trains_from_a_database_of_the_originals_tool_as_the_original(here, bvlc):
    """convert_imageset makes the database; both train from it, with the same first weights, and end with the same."""
    write_set()
    shutil.rmtree("set")
    tool = "import subprocess, sys; sys.exit(subprocess.call(['convert_imageset'] + sys.argv[1:]))"
    bvlc("python3", "-c", tool, f"{here}/files/", f"{here}/list.txt", f"{here}/set", "-backend=lmdb", cwd=here)
    with open("net.prototxt", "w") as file:
        file.write((NET % "").replace("crop_size: 10 mean_value: 120", "mean_value: 120"))
    caffe.Net("net.prototxt", caffe.TEST).save("first.caffemodel")
    theirs = losses(bvlc("caffe", "train", "-solver=solver.prototxt", "-weights=first.caffemodel", cwd=here).stderr)
    os.rename("s_iter_20.caffemodel", "theirs.caffemodel")
    ours = losses(train("-weights=first.caffemodel"))
    assert len(theirs[0]) == 21 and len(theirs[1]) == 2
    np.testing.assert_allclose(list(ours[0].values()), list(theirs[0].values()), rtol=2e-4)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-4)


@pytest.mark.slow
def test_a_resumed_run_gives_the_same_bits(here):
    write_set("mirror: true crop_size: 10")
    train()
    with open("s_iter_20.caffemodel", "rb") as file:
        whole = file.read()
    with open("solver.prototxt", "w") as file:
        file.write((SOLVER % "").replace("max_iter: 20", "max_iter: 7"))
    train()
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER % "")
    train("-snapshot=s_iter_7.solverstate")
    with open("s_iter_20.caffemodel", "rb") as file:
        assert file.read() == whole


def test_the_log_says_what_is_read(data, capfd):
    for case, messages in (
        (
            "data plain",
            [r"Opened lmdb .*/raw", "output data size: 3,3,12,15", "Restarting data prefetching from start."],
        ),
        ("image plain", ["A total of 5 images.", "output data size: 2,3,12,15"]),
        ("image mean file", ["Loading mean file from: .*/mean"]),
    ):
        labels_of(cases.make_net(data, cases.CASES[case]), 4)
        log = capfd.readouterr().err
        for message in messages:
            assert re.search(rf"\] {message}$", log, re.MULTILINE), message


# -- refused ---------------------------------------------------------------------------------------------------------
LIST = cases.IMAGE.replace("@/", "")


def put(name, *entries):
    with lmdb.open(name, map_size=2**22) as environment, environment.begin(write=True) as transaction:
        for i, entry in enumerate(entries):
            transaction.put(b"%d" % i, entry if isinstance(entry, bytes) else entry.SerializeToString())


def write(name, content):
    with open(name, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


DATA = cases.DATA.replace("@/", "")
WINDOW = cases.WINDOW.replace("@/", "") % ("w.txt", 2, "%s") + cases.transform("crop_size: 5")
ROWS = "# 0 a.png 3 12 15 {} {}\n"
REFUSED = {  # what is wrong: (what is written, the layer, what the message says)
    "no such list": ({}, LIST % ("nowhere", 1, ""), "nowhere: expected a list of image files, got no such file"),
    "an empty list": ({"l": "\n"}, LIST % ("l", 1, ""), "l: expected a list of image files, got an empty one"),
    "no label": ({"l": "a.png 1\nb.png\n"}, LIST % ("l", 1, ""), "l, line 2: expected <path> <label>, got 'b.png'"),
    "no whole label": (
        {"l": "a.png --5\n"},
        LIST % ("l", 1, ""),
        "l, line 1: expected <path> <label>, got 'a.png --5'",
    ),
    "a label of ten digits": ({"l": "a.png 1234567890\n"}, LIST % ("l", 1, ""), "l, line 1: expected <path> <label>"),
    "a program": (
        {"l": "b.png 1\n", "b.png": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"},
        LIST % ("l", 1, ""),
        "b.png: expected an image file, got UnidentifiedImageError",
    ),
    "a huge new size": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "new_width: 2000000000 new_height: 2000000000"),
        "a.png: expected an image on its way to its new size that fits into",
    ),
    "no image": ({"l": "b.png 1\n"}, LIST % ("l", 1, ""), "b.png: expected an image file, got no such file"),
    "a text": ({"l": "l 1\n"}, LIST % ("l", 1, ""), "l: expected an image file, got UnidentifiedImageError"),
    "half an image": (
        {"l": "b.png 1\n", "b.png": png(cases.pixels(1))[:200]},
        LIST % ("l", 1, ""),
        "b.png: expected an image file, got ",
    ),
    "one new size": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "new_width: 3"),
        "requires new_height and new_width to be set",
    ),
    "no batch": ({"l": "a.png 1\n"}, LIST % ("l", 0, ""), "expected a positive batch_size, got 0"),
    "skipping all": ({"l": "a.png 1\n"}, LIST % ("l", 1, "rand_skip: 1000000"), "Not enough points to skip"),
    "two sizes": (
        {"l": "a.png 1\nb.png 1\n", "b.png": png(cases.pixels(1, 5))},
        LIST % ("l", 2, ""),
        "b.png: expected (3",
    ),
    "both means": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "") + cases.transform("mean_file: 'm' mean_value: 1"),
        "Cannot specify mean_file and mean_value at the same time",
    ),
    "two means": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "") + cases.transform("mean_value: 1 mean_value: 2"),
        "Specify either 1 mean_value or as many as channels: expected 1 or 3, got 2",
    ),
    "no mean": ({"l": "a.png 1\n"}, LIST % ("l", 1, "") + cases.transform("mean_file: 'm'"), "File not found: m"),
    "another mean": (
        {"l": "a.png 1\n", "m": array_to_blobproto(np.zeros((3, 2, 2), np.float32)).SerializeToString()},
        LIST % ("l", 1, "") + cases.transform("mean_file: 'm'"),
        "a.png: expected an image of the size (3, 2, 2) of m, got (3, 12, 15)",
    ),
    "no mean of one image": (
        {"l": "a.png 1\n", "m": array_to_blobproto(np.zeros((2, 2), np.float32)).SerializeToString()},
        LIST % ("l", 1, "") + cases.transform("mean_file: 'm'"),
        "m: expected the mean of one image (channels, height, width), got shape (2, 2)",
    ),
    "a mean that is not finite": (
        {"l": "a.png 1\n", "m": array_to_blobproto(np.full((1, 2, 2), np.inf, np.float32)).SerializeToString()},
        LIST % ("l", 1, "") + cases.transform("mean_file: 'm'"),
        "m: expected finite numbers, got 4 of 4 that are NaN or infinite",
    ),
    "too large a crop": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "") + cases.transform("crop_size: 13"),
        "a.png: expected an image of at least crop_size 13, got 12 x 15",
    ),
    "both colours": (
        {"l": "a.png 1\n"},
        LIST % ("l", 1, "") + cases.transform("force_color: true force_gray: true"),
        "cannot set both force_color and force_gray",
    ),
    "a LevelDB": ({}, (DATA % ("d", 1, "")).replace("backend: LMDB", ""), "d: expected backend: LMDB (of images,"),
    "no database": ({}, DATA % ("d", 1, ""), "d: expected a folder with an LMDB (data.mdb), got none"),
    "a broken database": ({"d/data.mdb": "no"}, DATA % ("d", 1, ""), "d: expected an LMDB, got "),
    "an empty database": ({"d": []}, DATA % ("d", 1, ""), "d: expected a database with entries, got an empty one"),
    "no datum": ({"d": [b"\xff\xff"]}, DATA % ("d", 1, ""), "d: key '0': expected a Datum, got another message"),
    "few numbers": (
        {"d": [caffe_pb2.Datum(channels=2, height=2, width=2, data=b"1234567")]},
        DATA % ("d", 1, ""),
        "key '0': expected the numbers of an image of shape (2, 2, 2), got 7",
    ),
    "numbers that are not finite": (
        {"d": [caffe_pb2.Datum(channels=2, height=1, width=1, float_data=row) for row in ([1, 2], [1, np.nan])]},
        DATA % ("d", 2, ""),
        "key '1': expected finite numbers, got 1 of 2 that are NaN or infinite",
    ),
    "numbers beyond an int": (
        {"d": [caffe_pb2.Datum(channels=2**31 - 1, height=2**31 - 1, width=2**31 - 1)]},
        DATA % ("d", 1, ""),
        "key '0': expected the numbers of an image of shape (2147483647, 2147483647, 2147483647), got 0",
    ),
    "a broken image": (
        {"d": [caffe_pb2.Datum(encoded=True, data=b"png")]},
        DATA % ("d", 1, ""),
        "key '0': expected an image file",
    ),
    "16 bits": (
        {"d": [caffe_pb2.Datum(encoded=True, data=png(np.zeros((2, 2), np.uint16)))]},
        DATA % ("d", 1, ""),
        "key '0': expected 8 bits for every value, got 16",
    ),
    "two shapes": (
        {"d": [caffe_pb2.Datum(channels=1, height=1, width=w, data=bytes(w)) for w in (2, 3)]},
        DATA % ("d", 2, ""),
        "key '1': expected (1, 1, 2) as the first image of the batch, got (1, 1, 3)",
    ),
    "no windows": ({"w.txt": ""}, WINDOW % "", "w.txt: expected a list of windows, got an empty one"),
    "half a paragraph": ({"w.txt": "# 0 a.png 3 12"}, WINDOW % "", "got another paragraph behind image 1"),
    "a window from right to left": ({"w.txt": ROWS.format(1, "1 0.9 3 0 1 3")}, WINDOW % "", "got another paragraph"),
    "a window of many digits": ({"w.txt": ROWS.format(1, f"1 0.9 0 0 {10**400} 3")}, WINDOW % "", "another paragraph"),
    "a window of which nothing is seen": (
        {"w.txt": "# 0 b.png 3 2 15 2 1 0.9 0 0 14 1 2 0.1 0 0 14 1", "b.png": png(np.zeros((2, 15, 3), np.uint8))},
        WINDOW % 'crop_mode: "square" context_pad: 2',
        "b.png: expected a window of which a pixel is seen, got x ",
    ),
    "more foreground than all": (
        {"w.txt": ROWS.format(1, "1 0.9 0 0 3 3")},
        (WINDOW % "").replace("fg_fraction: 0.5", "fg_fraction: 1.5"),
        "expected an fg_fraction between 0 and 1, got 1.5",
    ),
    "no foreground": ({"w.txt": ROWS.format(1, "1 0.1 0 0 3 3")}, WINDOW % "", "expected windows of the foreground"),
    "no background": ({"w.txt": ROWS.format(1, "1 0.9 0 0 3 3")}, WINDOW % "", "expected windows of the background"),
    "no class": ({"w.txt": ROWS.format(1, "0 0.9 0 0 3 3")}, WINDOW % "", "expected a class above 0 of a window"),
    "two channels": ({"w.txt": "# 0 a.png 1 12 15 0"}, WINDOW % "", "expected images of 3 channels, got [1]"),
    "a window outside": (
        {"w.txt": ROWS.format(2, "1 0.9 0 0 3 12 0 0.1 0 0 3 12")},
        WINDOW % "",
        "a.png: expected a window inside 15 x 12, got x 0 to 3, y 0 to 12",
    ),
    "another mode": ({}, WINDOW % 'crop_mode: "bent"', "expected crop_mode warp or square, got 'bent'"),
    "much context": ({}, WINDOW % "context_pad: 3", "expected a context_pad below 2.5, got 3"),
    "windows of no size": ({}, (WINDOW % "").replace("crop_size: 5", ""), "expected a positive crop_size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name, here):
    files, text, message = REFUSED[name]
    write("a.png", png(cases.pixels(1)))
    for path, content in files.items():
        if isinstance(content, list):
            put(path, *content)
            continue
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        write(path, content)
    mode.set_random_seed(1)
    with pytest.raises(CaffeError) as error:
        cases.make_net(".", (text, cases.TRAIN)).forward()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "layer 'images' (" in str(error.value)


def damage(how):
    """A database of one large entry, and then damaged."""
    put("d", caffe_pb2.Datum(channels=1, height=100, width=100, data=bytes(10000)))
    with open("d/data.mdb", "r+b") as file:
        content = file.read()
        if how == "cut off":
            file.truncate(len(content) - 4096)
        else:  # the page of entries has none
            file.seek(content.index(b"0", 2 * 4096) // 4096 * 4096 + 10)
            file.write(b"\0\0")


@pytest.mark.parametrize("how, got", [("cut off", r"an LMDB, got [0-9,]+ of [0-9,]+ bytes"),
                                      ("overwritten", "an LMDB, got page [0-9]+ that is none of entries")])  # fmt: skip
def test_a_damaged_database_is_one_sentence_and_no_signal(how, got, here):
    damage(how)
    with pytest.raises(CaffeError, match=rf"layer 'images' \(Data\): d: expected {got}"):
        cases.make_net(".", (DATA % ("d", 1, ""), cases.TRAIN)).forward()


def test_two_nets_read_one_database_each_from_its_beginning(data):
    first, second = (cases.make_net(data, cases.CASES["data plain"]) for _ in range(2))
    assert labels_of(first, 3) == labels_of(second, 3) == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]


def test_an_image_turned_by_its_camera_is_turned_back(tmp_path):
    """The tag Orientation of a JPEG, which OpenCV heeds where a colour is asked for, and not otherwise."""
    picture = Image.fromarray(cases.pixels(3, 16, 24))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    content = (tmp_path / "turned.jpg").read_bytes()
    stored = images.decode(content, None, "it")
    assert np.abs(stored[..., ::-1].astype(int) - cases.pixels(3, 16, 24)).mean() < 30
    np.testing.assert_array_equal(images.decode(content, True, "it"), np.rot90(stored, -1))
