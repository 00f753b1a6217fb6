"""Data-parallel training: two processes of batch B make the update of one process of batch 2B."""

import h5py
import numpy as np
import pytest

from caffe.context import Context
from caffe.errors import CaffeError
from caffe.parallel import train_on
from caffe.solver import Solver
from caffe_proto import caffe_pb2, read_weights

NET = """
name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param { source: "%(folder)s/list.txt" batch_size: %(batch)d shuffle: %(shuffle)s } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_h: 2
  kernel_w: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def solver_param(folder, batch, iterations, shuffle, **fields):
    """A solver whose net reads `batch` rows an iteration from two files of 30 and 22 rows."""
    net = folder / f"net{batch}.prototxt"
    net.write_text(NET % {"folder": folder, "batch": batch, "shuffle": str(shuffle).lower()})
    return caffe_pb2.SolverParameter(
        net=str(net),
        base_lr=0.1,
        lr_policy="fixed",
        momentum=0.9,
        clip_gradients=0.5,
        weight_decay=0.01,
        max_iter=iterations,
        snapshot_prefix=str(folder / f"snap{batch}"),
        random_seed=3,
        **fields,
    )


@pytest.fixture
def rows(tmp_path):
    random = np.random.default_rng(0)
    for k, count in enumerate((30, 22)):
        with h5py.File(tmp_path / f"{k}.h5", "w") as file:
            file["data"] = random.standard_normal((count, 2, 4, 5)).astype("f4")
            file["label"] = random.integers(0, 4, count).astype("f4")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/0.h5\n{tmp_path}/1.h5\n")
    return tmp_path


def weights(folder, batch, iteration):
    return read_weights(str(folder / f"snap{batch}_iter_{iteration}.caffemodel"))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_two_processes_make_the_update_of_the_joined_batch(rows, shuffle):
    Solver(solver_param(rows, 12, 7, shuffle), Context()).solve()
    train_on(solver_param(rows, 6, 7, shuffle), ["cpu", "cpu"], None, "stop", "snapshot")
    one, two = weights(rows, 12, 7), weights(rows, 6, 7)
    assert sum(len(blobs) for blobs in one.values()) == 4
    for name, blobs in one.items():
        for a, b in zip(blobs, two[name], strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


@pytest.mark.slow
def test_a_resumed_parallel_run_reads_on_where_it_stopped(rows):
    train_on(solver_param(rows, 6, 7, True, snapshot=4), ["cpu", "cpu"], None, "stop", "snapshot")
    whole = weights(rows, 6, 7)
    state = rows / "snap6_iter_4.solverstate"
    train_on(solver_param(rows, 6, 7, True), ["cpu", "cpu"], str(state), "stop", "snapshot")
    for name, blobs in weights(rows, 6, 7).items():
        for a, b in zip(blobs, whole[name], strict=True):
            assert np.array_equal(a, b)


def test_a_failing_rank_ends_the_run(rows, capfd):
    with h5py.File(rows / "1.h5", "a") as file:
        file["label"][3] = 9
    with pytest.raises(CaffeError, match=r"rank [01]\): expected iterations to the end"):
        train_on(solver_param(rows, 6, 20, False), ["cpu", "cpu"], None, "stop", "snapshot")
    assert "got label 9" in capfd.readouterr().err
