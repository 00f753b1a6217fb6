"""pycaffe's Net, Blob and solvers as scripts use them (docs/engine.md sections 6.2 to 6.4)."""

import gc
import subprocess
import sys
import weakref
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import caffe

NET = """name: "small" force_backward: true
layer { name: "in" type: "Input" top: "data" top: "extra"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" std: 1 } bias_filler { value: 0.5 } } }
layer { name: "sum" type: "Eltwise" bottom: "ip" bottom: "extra" top: "sum" }
layer { name: "tanh" type: "TanH" bottom: "sum" top: "out" }
"""
FILES = {
    "net.prototxt": NET,
    "solver.prototxt": """net: "loss.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 4
    momentum: 0.5 display: 0 snapshot_prefix: "s" random_seed: 1 test_iter: 1 test_interval: 100 type: "Adam" """,
    "loss.prototxt": """layer { name: "d" type: "DummyData" top: "d" top: "t" dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" std: 1 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 2
    weight_filler { type: "xavier" } } }
    layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "l" }""",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)


@pytest.fixture
def net():
    caffe.set_random_seed(3)
    return caffe.Net("net.prototxt", caffe.TEST)


def arrays(rows=4, seed=0):
    state = np.random.RandomState(seed)
    return {"data": state.standard_normal((rows, 3)), "extra": state.standard_normal((rows, 2))}


def twin(net, data, extra):
    """The net's output in float64."""
    w, b = (p.data.astype(np.float64) for p in net.params["ip"])
    return np.tanh(data @ w.T + b + extra)


def test_every_form_of_the_constructor(net):
    net.save("w.caffemodel")
    for again in (
        caffe.Net("net.prototxt", caffe.TEST, weights="w.caffemodel"),
        caffe.Net(network_file="net.prototxt", phase=caffe.TEST, level=0, stages=["a"], weights="w.caffemodel"),
        caffe.Net("net.prototxt", "w.caffemodel", caffe.TEST),
    ):
        assert np.array_equal(again.params["ip"][0].data, net.params["ip"][0].data)
    for arguments in (("no.prototxt", caffe.TEST), ("net.prototxt", "no.caffemodel", caffe.TEST)):
        with pytest.raises(RuntimeError, match="Could not open file no."):
            caffe.Net(*arguments)
    with pytest.raises(TypeError):
        caffe.Net("net.prototxt")


def test_dictionaries_and_names(net):
    assert isinstance(net.blobs, OrderedDict) and isinstance(net.params, OrderedDict)
    assert list(net.blobs) == ["data", "extra", "ip", "sum", "out"]
    assert list(net.params) == ["ip"] and len(net.params["ip"]) == 2
    assert net.inputs == ["data", "extra"] and net.outputs == ["out"]
    assert net.bottom_names["sum"] == ["ip", "extra"] and net.top_names["in"] == ["data", "extra"]
    assert list(net._layer_names) == ["in", "ip", "sum", "tanh"] == list(net.layer_dict)
    assert [layer.type for layer in net.layers] == ["Input", "InnerProduct", "Eltwise", "TanH"]
    assert net._bottom_ids(2) == [2, 1] and net._top_ids(0) == [0, 1]
    assert [len(layer.blobs) for layer in net.layers] == [0, 2, 0, 0]


def test_forward_computes_and_gives_live_views(net):
    given = arrays()
    result = net.forward(blobs=["sum"], **given)
    assert sorted(result) == ["out", "sum"]
    np.testing.assert_allclose(result["out"], twin(net, **given), rtol=1e-5)
    assert result["out"].dtype == np.float32
    net.blobs["data"].data[...] = 0
    net.forward()
    np.testing.assert_allclose(result["out"], twin(net, np.zeros((4, 3)), given["extra"]), rtol=1e-5)  # the old view
    assert np.shares_memory(result["out"], net.blobs["out"].data)
    assert list(net.forward(start="sum", end="sum")) == ["sum"]


def test_forward_from_a_layer_uses_what_the_user_wrote_before_it(net):
    net.forward(**arrays())
    net.blobs["ip"].data[...] = 0.25
    net.forward(start="sum")
    np.testing.assert_allclose(net.blobs["out"].data, np.tanh(0.25 + arrays()["extra"]), rtol=1e-5)


def test_backward_gives_gradients_by_the_chain_rule(net):
    given, dy = arrays(), np.random.RandomState(9).standard_normal((4, 2))
    net.forward(**given)
    result = net.backward(diffs=["sum"], out=dy)
    slope = dy * (1 - twin(net, **given) ** 2)
    w = net.params["ip"][0].data
    np.testing.assert_allclose(result["sum"], slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result["extra"], slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result["data"], slope @ w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.params["ip"][0].diff, slope.T @ given["data"], rtol=1e-4, atol=1e-5)
    net.backward(out=dy)
    np.testing.assert_allclose(net.params["ip"][1].diff, 2 * slope.sum(0), rtol=1e-4, atol=1e-5)  # accumulates
    net.clear_param_diffs()
    assert not net.params["ip"][0].diff.any()


def test_wrong_arguments_raise_pycaffe_s_exceptions(net):
    for call, words in (
        (lambda: net.forward(data=np.zeros((4, 3))), "Input blob arguments do not match net inputs."),
        (lambda: net.forward(**arrays(5)), "Input is not batch sized"),
        (lambda: net.backward(sum=np.zeros((4, 2))), "Top diff arguments do not match net outputs."),
        (lambda: net.backward(out=np.zeros((5, 2))), "Diff is not batch sized"),
    ):
        with pytest.raises(Exception, match=words) as caught:
            call()
        assert type(caught.value) is Exception
    with pytest.raises(ValueError):
        net.forward(start="nowhere")
    with pytest.raises(RuntimeError, match="first layer is a MemoryDataLayer"):
        net.set_input_arrays(np.zeros((4, 1, 1, 1), np.float32), np.zeros(4, np.float32))


@pytest.mark.parametrize("rows", [1, 4, 10])
def test_all_rows_in_batches_with_the_padding_dropped(net, rows):
    given, dy = arrays(rows), np.random.RandomState(9).standard_normal((rows, 2))
    outs = net.forward_all(**given)
    np.testing.assert_allclose(outs["out"], twin(net, **given), rtol=1e-5)
    outs, diffs = net.forward_backward_all(**given, out=dy)
    np.testing.assert_allclose(outs["out"], twin(net, **given), rtol=1e-5)
    np.testing.assert_allclose(diffs["extra"], dy * (1 - twin(net, **given) ** 2), rtol=1e-4, atol=1e-6)


def test_a_net_takes_the_shape_of_its_input(net):
    net.blobs["data"].reshape(7, 3)
    net.blobs["extra"].reshape(7, 2)
    net.reshape()
    assert tuple(net.blobs["out"].shape) == (7, 2)
    given = arrays(7)
    np.testing.assert_allclose(net.forward(**given)["out"], twin(net, **given), rtol=1e-5)


def test_callbacks_see_every_layer_index(net):
    seen = []
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, name)(lambda i, name=name: seen.append((name, i)))
    net.forward()
    net.backward()
    assert seen == (
        [(f"{when}_forward", i) for i in range(4) for when in ("before", "after")]
        + [(f"{when}_backward", i) for i in (3, 2, 1, 0) for when in ("before", "after")]
    )


def test_weights_are_shared_by_reference(net):
    other = caffe.Net("net.prototxt", caffe.TEST)
    other.share_with(net)
    net.params["ip"][0].data[...] = 2
    assert (other.params["ip"][0].data == 2).all()
    other.params["ip"][0].diff[...] = 5
    assert not net.params["ip"][0].diff.any()


def test_blobs_outlive_their_net():
    own = caffe.Net("net.prototxt", caffe.TEST)
    blob, watch = own.blobs["ip"], weakref.ref(own)
    view = blob.data
    view[...] = 3
    del own
    gc.collect()
    assert watch() is None
    assert (blob.data == 3).all() and view[0, 0] == 3


def test_blob_shapes(net):
    blob = net.blobs["data"]
    assert list(blob.shape) == [4, 3] and blob.count == 12
    assert (blob.num, blob.channels, blob.height, blob.width) == (4, 3, 1, 1)
    blob.data[...] = np.arange(12).reshape(4, 3)
    blob.reshape(2, 6)
    assert blob.data.tolist() == np.arange(12).reshape(2, 6).tolist()  # the same memory in another shape
    blob.reshape(2, 2)
    assert blob.data.tolist() == [[0, 1], [2, 3]]
    blob.reshape(1000)
    assert not blob.data.any()  # grown: zeros
    blob.reshape()
    assert blob.data.shape == () and blob.count == 1
    with pytest.raises(AttributeError):
        blob.data = np.zeros(3)
    with pytest.raises(caffe.CaffeError, match="blob size exceeds INT_MAX"):
        blob.reshape(2**16, 2**16)
    with pytest.raises(caffe.CaffeError, match="> 4 axes"):
        blob.reshape(1, 1, 1, 1, 1)
        _ = blob.num


def test_solver_classes_and_members():
    solver = caffe.SGDSolver("solver.prototxt")  # the class decides, not the file
    assert len(solver.history) == len(caffe.get_solver("solver.prototxt").history) / 2
    assert solver.iter == 0 and len(solver.test_nets) == 1
    assert (solver.param.max_iter, solver.param.display, solver.param.layer_wise_reduce) == (4, 0, True)
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    solver.step(2)
    assert solver.iter == 2 and calls == ["start", "ready"] * 2
    solver.snapshot()
    before = solver.net.params["ip"][0].data.copy()
    solver.solve()
    assert solver.iter == 4
    solver.restore("s_iter_2.solverstate")
    assert solver.iter == 2 and np.array_equal(solver.net.params["ip"][0].data, before)
    solver.share_weights(solver.test_nets[0])
    assert np.array_equal(solver.test_nets[0].params["ip"][0].data, before)
    assert solver.lr == pytest.approx(0.1)


def test_apply_update_takes_gradients_that_the_user_wrote():
    solver = caffe.SGDSolver("solver.prototxt")
    before = solver.net.params["ip"][0].data.copy()
    solver.net.clear_param_diffs()
    solver.net.params["ip"][0].diff[...] = 2
    solver.apply_update()
    np.testing.assert_allclose(solver.net.params["ip"][0].data, before - 0.2, rtol=1e-6)
    assert solver.iter == 1


def test_a_solver_may_have_no_policy_while_it_never_steps():
    with open("s.prototxt", "w") as file:
        file.write('net: "loss.prototxt"')
    net = caffe.SGDSolver("s.prototxt").net
    loss = net.forward()["l"]
    wanted = np.sum((net.blobs["ip"].data - net.blobs["t"].data) ** 2) / 2 / 4  # over four rows
    assert loss.shape == () and loss == pytest.approx(wanted, rel=1e-6) and loss > 0


def test_importing_caffe_gives_the_messages():
    code = "import caffe; print(caffe.proto.caffe_pb2.NetParameter(name='n').name, caffe.io.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2]
    )
    assert done.stdout == "n caffe.io\n"
