"""caffe.context: what is given to nets and solvers counts for them alone; the environment is read once."""

import threading

import h5py
import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe.blob import Blob
from caffe.context import Context, RandomState, Settings, read_environment
from caffe.mode import CONTEXT
from caffe.net import Net
from caffe.solver import Solver
from caffe_proto import caffe_pb2

NET = """state { phase: TRAIN }
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }"""


def seeded(seed, **more):
    random = RandomState()
    random.seed(seed)
    return Context(random=random, **more)


def weights(context=CONTEXT):
    return Net(text_format.Parse(NET, caffe_pb2.NetParameter()), context).learnable_params[0].value.clone()


def test_a_net_draws_from_the_context_that_it_is_given():
    caffe.set_random_seed(3)
    wanted = weights()
    caffe.set_random_seed(9)
    before = CONTEXT.random.state()
    assert torch.equal(weights(seeded(3)), wanted)
    np.testing.assert_equal(CONTEXT.random.state(), before)
    assert not torch.equal(weights(), wanted)


def test_passes_compute_where_the_context_says_and_leave_that_of_pycaffe_alone():
    net = Net(text_format.Parse(NET, caffe_pb2.NetParameter()), Context(device=torch.device("meta")))
    net.plan.forward()
    assert net.nodes[-1].tops[0]._data.tensor.device.type == "meta"
    assert CONTEXT.device.type == "cpu"


def test_set_mode_changes_the_context_of_its_thread_alone():
    caffe.set_solver_count(3)
    try:
        found = []
        thread = threading.Thread(target=lambda: found.extend((caffe.solver_count(), CONTEXT.random)))
        thread.start()
        thread.join()
        assert found == [1, CONTEXT.random] and caffe.solver_count() == 3
    finally:
        caffe.set_solver_count(1)


def test_pycaffe_s_nets_follow_the_thread_that_uses_them(tmp_path):
    """Whichever thread made them, as with Caffe's thread-local mode."""
    (tmp_path / "net.prototxt").write_text(NET.partition("\n")[2])
    net, found = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN), []

    def work():
        found.append(CONTEXT.device.type)
        CONTEXT.device = torch.device("meta")  # stands for a GPU
        net._forward(0, 1)
        found.append(net.blobs["y"].value.device.type)

    net.forward()
    assert net.blobs["y"].value.device.type == "cpu"
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["cpu", "meta"] and CONTEXT.device.type == "cpu"


def test_blobs_move_when_they_are_told_to_and_when_a_plan_runs_alone():
    meta = torch.device("meta")
    net = Net(text_format.Parse(NET, caffe_pb2.NetParameter()), Context())
    blobs = [*net.learnable_params, *(one.blob for one in net.named_blobs)]
    net.plan.forward()
    net.context.device = meta
    assert {tensor.device.type for blob in blobs for tensor in (blob.value, blob.grad)} == {"cpu"}
    net.plan.forward()
    assert {tensor.device.type for blob in blobs for tensor in (blob.value, blob.grad)} == {"meta"}
    blob = Blob((2, 3))
    blob.value = torch.arange(6.0).reshape(2, 3)
    kept = blob.value
    blob.to(kept.device)
    assert blob.value is kept  # nothing is copied where it is
    blob.to(meta)
    assert blob.value.device == blob.grad.device == meta and kept.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("cache", [0, 2**30])
def test_a_solver_of_rank_1_of_2_takes_every_second_row_also_where_a_thread_reads_ahead(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        with h5py.File(f"{i}.hdf5", "w") as file:
            file["n"] = np.arange(6 * i, 6 * i + 6, dtype=np.float32)[:, None]
    (tmp_path / "list.txt").write_text("0.hdf5\n1.hdf5\n")
    param = text_format.Parse(
        """base_lr: 0.1 lr_policy: "fixed" train_net_param { layer { name: "rows" type: "HDF5Data" top: "n"
        hdf5_data_param { source: "list.txt" batch_size: 2 } }
        layer { name: "fc" type: "InnerProduct" bottom: "n" top: "y" inner_product_param { num_output: 1 } }
        layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 } }""",
        caffe_pb2.SolverParameter(),
    )
    context = seeded(1, solver_count=2, solver_rank=1, settings=Settings(hdf5_cache=cache))
    solver = Solver(param, context=context)
    found = []
    for _ in range(4):
        solver.step(1)
        found += solver.net.nodes[0].tops[0].value.flatten().tolist()
    assert found == [1, 3, 5, 7, 9, 11, 1, 3]


def test_the_environment_is_read_once(monkeypatch):
    monkeypatch.setenv("CAFFE_HDF5_CACHE_MB", "2")
    monkeypatch.setenv("CAFFE_CUDA_GRAPH", "0")
    assert read_environment() == CONTEXT.settings == Settings(hdf5_cache=2 * 2**20, cuda_graph=False)
    monkeypatch.setenv("CAFFE_HDF5_CACHE_MB", "3")
    assert CONTEXT.settings.hdf5_cache == 2 * 2**20
    assert read_environment().hdf5_cache == 3 * 2**20


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("CAFFE_CHANNELS_LAST", "2", r"expected 0 \(the plain memory format\) or 1 \(channels_last\), got '2'"),
        ("CAFFE_HDF5_DEVICE_MB", "1.5", "expected a number of megabytes, got '1.5'"),
    ],
)
def test_unclear_settings_are_refused(variable, text, words):
    assert Settings.from_environment({}) == Settings()
    with pytest.raises(caffe.CaffeError, match=f"{variable}: {words}"):
        Settings.from_environment({variable: text})
