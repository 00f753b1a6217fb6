"""HDF5Data against the plain statement of its row order; the other data layers; files that a user gets wrong.

The order over several files is also held against the original by golden/solver: its runs read three files of 7, 5 and
1 rows in batches of 4.
"""

import h5py
import numpy as np
import pytest
import torch

import caffe
from caffe.context import Settings
from caffe.layers.hdf5 import device_budget
from caffe.plan import free_memory

LAYER = """layer {{ name: "rows" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param {{ source: "list.txt" batch_size: {batch} {more} }} }}"""

KEPT = {  # where the set is kept: the environment for it
    "nowhere": {"CAFFE_HDF5_CACHE_MB": "0"},
    "memory": {"CAFFE_HDF5_CACHE_MB": "1000"},
    "device": {"CAFFE_HDF5_CACHE_MB": "1000", "CAFFE_HDF5_DEVICE_MB": "1000"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_files(rows, width=3, **more):
    """Files f0.hdf5, f1.hdf5, ... of so many rows; row n of all has data (n, n, ...) and label n."""
    first = 0
    for i, count in enumerate(rows):
        numbers = np.arange(first, first + count)
        with h5py.File(f"f{i}.hdf5", "w") as file:
            file.create_dataset("data", data=np.repeat(numbers[:, None], width, 1).astype(np.float32), **more)
            file["label"] = numbers.astype(np.int64)
        first += count
    write_list([f"f{i}.hdf5" for i in range(len(rows))])


def write_list(names):
    with open("list.txt", "w") as file:
        file.write("\n".join(names) + "\n")


def make_net(batch, more="", phase=caffe.TRAIN):
    with open("net.prototxt", "w") as file:
        file.write(LAYER.format(batch=batch, more=more))
    return caffe.Net("net.prototxt", phase)


def read(net, batches):
    """The labels of so many batches in a row; data must be of the same rows."""
    found = []
    for _ in range(batches):
        net.forward()
        labels = net.blobs["label"].data.copy()
        assert np.array_equal(net.blobs["data"].data, np.repeat(labels[:, None], net.blobs["data"].shape[1], 1))
        found += labels.tolist()
    return found


@pytest.mark.parametrize("cache", KEPT)
@pytest.mark.parametrize(
    "rows, batch", [((10,), 5), ((10,), 3), ((3, 4, 5), 2), ((3, 4, 5), 5), ((1, 1, 1), 2), ((4,), 9), ((2, 3), 17)]
)
def test_rows_come_file_after_file_and_wrap_around(rows, batch, cache, here, monkeypatch):
    for variable, value in KEPT[cache].items():
        monkeypatch.setenv(variable, value)
    write_files(rows)
    found = read(make_net(batch), 6)
    assert found == [n % sum(rows) for n in range(6 * batch)]


@pytest.mark.parametrize("cache", KEPT)
@pytest.mark.parametrize("rows, batch", [((12,), 5), ((3, 4, 5), 5), ((3, 4, 5), 4)])
def test_shuffled_rows_stay_within_their_file_and_every_epoch_has_all(rows, batch, cache, here, monkeypatch):
    for variable, value in KEPT[cache].items():
        monkeypatch.setenv(variable, value)
    write_files(rows)
    caffe.set_random_seed(1)
    found = read(make_net(batch, "shuffle: true"), 12)
    total, file_of = sum(rows), np.repeat(np.arange(len(rows)), rows)
    epochs = [found[i : i + total] for i in range(0, len(found) - total + 1, total)]
    assert len(epochs) >= 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(total))
        files = file_of[np.array(epoch, int)]
        assert 1 + np.count_nonzero(np.diff(files)) == len(rows)  # one block per file
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    caffe.set_random_seed(1)
    assert read(make_net(batch, "shuffle: true"), 12) == found
    caffe.set_random_seed(2)
    assert read(make_net(batch, "shuffle: true"), 12) != found


def test_solvers_that_train_together_share_the_rows(here):
    write_files((5, 4))
    found = []
    try:
        for rank in range(2):
            caffe.set_solver_count(2)
            caffe.set_solver_rank(rank)
            found.append(read(make_net(3), 3))
        assert read(make_net(3, phase=caffe.TEST), 3) == list(range(9))  # a test net skips nothing
    finally:
        caffe.set_solver_count(1)
        caffe.set_solver_rank(0)
    assert found == [[0, 2, 4, 6, 8, 1, 3, 5, 7], [1, 3, 5, 7, 0, 2, 4, 6, 8]]


@pytest.mark.parametrize("kind", ["uint8", "int16", "int64", "float16", "float32", "float64", ">f4"])
def test_every_number_type_becomes_float32(kind, here):
    with h5py.File("f0.hdf5", "w") as file:
        values = np.arange(24).reshape(4, 3, 2).astype(kind)
        file.create_dataset("data", data=values, chunks=(1, 3, 2), compression="gzip")
        file["label"] = np.arange(8).reshape(4, 2).astype(kind)
    write_list(["f0.hdf5"])
    net = make_net(3)
    net.forward()
    assert net.blobs["data"].data.dtype == np.float32
    assert np.array_equal(net.blobs["data"].data, np.arange(18).reshape(3, 3, 2))
    assert np.array_equal(net.blobs["label"].data, np.arange(6).reshape(3, 2))


def change(name, value, **more):
    """A spoiler that replaces dataset `name` of f1.hdf5."""

    def spoil():
        with h5py.File("f1.hdf5", "r+") as file:
            del file[name]
            if value is not None:
                file.create_dataset(name, data=value, **more)

    return spoil


def not_a_number():
    with h5py.File("f1.hdf5", "r+") as file:
        file["data"][2, 1] = np.nan


def text_file():
    with open("f1.hdf5", "w") as file:
        file.write("no HDF5")


def cut_short():
    with open("f1.hdf5", "r+b") as file:
        file.truncate(900)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (change("data", None), "f1.hdf5: expected HDF5 data with data, label, got no dataset data (but label)"),
        (
            change("data", np.zeros((4, 5), np.float32)),
            "f1.hdf5: expected shape (3,) in row 0 of dataset data as in the first file, got (5,)",
        ),
        (
            change("label", np.zeros(3, np.float32)),
            "f1.hdf5: expected datasets ['data', 'label'] with as many rows each, got [4, 3]",
        ),
        (change("data", np.zeros((0, 3), np.float32)), "with as many rows each, got [0, 4]"),
        (change("label", np.array([b"a"] * 4)), "f1.hdf5: expected HDF5 data with data, label, got label of type |S1"),
        (
            change("label", np.float32(1)),
            "f1.hdf5: expected datasets ['data', 'label'] with as many rows each, got [4, 0]",
        ),
        (change("label", np.zeros(4, complex)), "got label of type complex128"),
        (not_a_number, "f1.hdf5: expected finite numbers in row 2 of dataset data, got NaN or infinite values"),
        (text_file, "f1.hdf5: expected HDF5 data with data, label, got no readable HDF5 file"),
        (cut_short, "f1.hdf5"),
    ],
)
@pytest.mark.parametrize("cache", KEPT)
def test_a_bad_second_file_is_named_at_the_latest_when_its_rows_are_due(spoil, words, cache, here, monkeypatch):
    for variable, value in KEPT[cache].items():
        monkeypatch.setenv(variable, value)
    write_files((4, 4))
    spoil()
    with pytest.raises(caffe.CaffeError) as caught:
        read(make_net(4), 2)
    assert words in str(caught.value)
    assert "layer 'rows' (HDF5Data)" in str(caught.value)


def test_missing_files_are_named_before_the_first_iteration(here):
    write_files((4, 4))
    write_list(["f0.hdf5", "f1.hdf5", "gone.hdf5", "lost.hdf5"])
    with pytest.raises(caffe.CaffeError, match=r"4 files listed in list.txt .*, got 2 that .* first \['gone.hdf5'"):
        make_net(2)
    write_list([])
    with pytest.raises(caffe.CaffeError, match="Must have at least 1 HDF5 filename listed in list.txt"):
        make_net(2)
    with pytest.raises(caffe.CaffeError, match="expected a positive batch_size, got 0"):
        make_net(0)


def test_memory_data_shows_the_user_s_rows_in_turn(here):
    with open("net.prototxt", "w") as file:
        file.write("""layer { name: "m" type: "MemoryData" top: "data" top: "label"
            memory_data_param { batch_size: 2 channels: 1 height: 2 width: 3 } }""")
    net = caffe.Net("net.prototxt", caffe.TEST)
    with pytest.raises(caffe.CaffeError, match="needs to be initialized by calling Reset"):
        net.forward()
    data = np.arange(36, dtype=np.float32).reshape(6, 1, 2, 3)
    before = data.copy()
    net.set_input_arrays(data, np.arange(6, dtype=np.float32))
    for turn in (0, 2, 4, 0):
        net.forward()
        assert np.array_equal(net.blobs["data"].data, before[turn : turn + 2])
        assert np.array_equal(net.blobs["label"].data.ravel(), [turn, turn + 1])
    assert np.array_equal(data, before)
    for bad, labels, words in (
        (data[:5], np.zeros(5, np.float32), "must be a multiple of batch size"),
        (data[:4], np.zeros(6, np.float32), "data and labels must have the same first dimension"),
        (data.astype(np.float64), np.zeros(6, np.float32), "data array must be float32"),
        (data[:, :, ::-1], np.zeros(6, np.float32), "data array must be C contiguous"),
        (data[0], np.zeros(6, np.float32), "data array must be 4-d"),
        (np.zeros((6, 1, 2, 4), np.float32), np.zeros(6, np.float32), "data array has wrong number of width"),
    ):
        with pytest.raises(RuntimeError, match=words):
            net.set_input_arrays(bad, labels)


def test_dummy_data_fills_constants_once_and_all_else_every_time(here):
    with open("net.prototxt", "w") as file:
        file.write("""force_backward: true
            layer { name: "d" type: "DummyData" top: "constant" top: "uniform" dummy_data_param { shape { dim: 3 }
            data_filler { value: 2 } data_filler { type: "uniform" } } }
            layer { name: "l" type: "EuclideanLoss" bottom: "constant" bottom: "uniform" top: "l" }""")
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    plan = free_memory(net.plan)  # as the command line trains
    net.blobs["constant"].data[1] = 7
    seen = []
    for _ in range(3):
        plan.forward()
        seen.append(net.blobs["uniform"].data.copy())
        plan.backward()
        assert net.blobs["constant"].data.tolist() == [2, 7, 2]
    assert len({s.tobytes() for s in seen}) == 3


def test_hdf5_output_writes_once_in_caffe_s_four_axes(here):
    with open("net.prototxt", "w") as file:
        file.write("""layer { name: "i" type: "Input" top: "x" top: "y" input_param { shape { dim: 4 dim: 3 }
            shape { dim: 4 } } }
            layer { name: "o" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param { file_name: "out.h5" } }""")
    net = caffe.Net("net.prototxt", caffe.TEST)
    x = np.random.RandomState(0).standard_normal((4, 3)).astype(np.float32)
    net.forward(x=x, y=np.arange(4))
    with h5py.File("out.h5") as file:
        assert file["data"].shape == (4, 3, 1, 1) and file["label"].shape == (4, 1, 1, 1)
        assert np.array_equal(file["data"][:, :, 0, 0], x)
        assert file["label"][:].ravel().tolist() == [0, 1, 2, 3]
    with pytest.raises(caffe.CaffeError, match="expected one Forward"):
        net.forward()


@pytest.mark.parametrize("card, fits", [(12, True), (4, False)])
def test_audiomnist_s_spectrograms_fit_on_a_card_of_12_gb(card, fits, monkeypatch):
    """The training set is asked for first, when nothing else is there; the test set takes less of what is left."""
    left = [card * 10**9]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (left[0], card * 10**9))
    for phase, rows in ((caffe.TRAIN, 18_000), (caffe.TEST, 6_000)):
        size = rows * 227 * 227 * 4
        assert (size <= device_budget(Settings(), torch.device("cuda"), phase)) == fits
        left[0] -= size
    assert device_budget(Settings(), torch.device("cpu"), caffe.TRAIN) == 0
