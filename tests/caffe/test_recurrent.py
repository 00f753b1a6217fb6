"""LSTM, RNN and LSTMUnit: worked numbers, torch's own LSTM, training beside the original, and what is refused."""

import numpy as np
import pytest
import torch

import caffe
from caffe import mode
from caffe.errors import CaffeError
from caffe.fusion import fuse
from caffe.layer import LAYERS
from caffe.plan import free_memory
from caffe_proto import caffe_pb2
from tests.parity import sequences
from tests.parity.compare import LAYER_TOLERANCE, differences
from tests.parity.golden import FOLDER

GOLDEN = FOLDER.parent / "sequences.npz"
TOLERANCE = 1e-4  # of losses and weights after fifteen iterations


def net_of(type, body, *shapes, tops=1, phase=caffe.TEST):
    """A net of one layer `it` on inputs `in<i>` of these shapes."""
    param = caffe_pb2.NetParameter(force_backward=True)
    param.state.phase = phase
    names = [f"in{i}" for i in range(len(shapes))]
    for name, shape in zip(names, shapes, strict=True):
        layer = param.layer.add(name=name, type="Input", top=[name])
        layer.input_param.shape.add(dim=shape)
    layer = param.layer.add(name="it", type=type, bottom=names, top=[f"out{i}" for i in range(tops)])
    layer.recurrent_param.num_output = 0
    for field, value in body.items():
        setattr(layer.recurrent_param, field, value)
    return caffe.Net.from_param(param)


def run(net, *arrays):
    for i, array in enumerate(arrays):
        net.blobs[f"in{i}"].data[...] = array
    net.forward()
    return net.blobs["out0"].data.copy()


@pytest.mark.parametrize(("cont", "c", "h"), [(1, 0.907533, 0.526323), (0, 0.152452, 0.110596)])
def test_the_cell_by_hand(cont, c, h):
    net = net_of("LSTMUnit", {}, (1, 1, 1), (1, 1, 4), (1, 1), tops=2)
    run(net, 2, np.reshape([0.5, -0.5, 1, 0.25], (1, 1, 4)), cont)
    assert [net.blobs["out0"].data.item(), net.blobs["out1"].data.item()] == pytest.approx([c, h], abs=1e-6)


def test_a_recurrent_net_by_hand():
    net = net_of("RNN", {"num_output": 1}, (2, 1, 1), (2, 1))
    for blob, value in zip(net.params["it"], (1, 0.1, 0.5, 2, -0.2), strict=True):
        blob.data[...] = value
    found = run(net, np.reshape([1, -0.5], (2, 1, 1)), np.reshape([0, 1], (2, 1)))
    np.testing.assert_allclose(found.ravel(), [0.885567, -0.196896], atol=1e-6)


def test_the_lstm_is_torchs_in_another_order():
    """Torch has the gates i f g o, and no indicator: one sequence from the beginning to the end."""
    rng = np.random.default_rng(0)
    steps, items, features, units = 6, 3, 4, 5
    net = net_of("LSTM", {"num_output": units}, (steps, items, features), (steps, items))
    for blob in net.params["it"]:
        blob.data[...] = rng.normal(0, 0.5, blob.data.shape)
    x, dy = rng.normal(size=(steps, items, features)), rng.normal(size=(steps, items, units))
    found = run(net, x, np.arange(steps)[:, None] > 0)
    net.blobs["out0"].diff[...] = dy
    net.backward()
    order = np.r_[0 : 2 * units, 3 * units : 4 * units, 2 * units : 3 * units]
    twin = torch.nn.LSTM(features, units).double()
    own = [torch.from_numpy(blob.data[order].astype(np.float64)) for blob in net.params["it"]]
    with torch.no_grad():
        for name, value in zip(("weight_ih_l0", "bias_ih_l0", "weight_hh_l0"), own, strict=True):
            getattr(twin, name).copy_(value)
        twin.bias_hh_l0.zero_()
    seen = torch.from_numpy(x).requires_grad_(True)
    wanted = twin(seen)[0]
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-6)
    wanted.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(net.blobs["in0"].diff, seen.grad.numpy(), atol=1e-5)
    for blob, name in zip(net.params["it"], ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0"), strict=True):
        np.testing.assert_allclose(blob.diff[order], getattr(twin, name).grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("type", ["LSTM", "RNN"])
def test_a_sequence_in_two_halves_is_the_sequence(type):
    """Also when the states go through the user's hands, and after another number of items in between."""
    rng = np.random.default_rng(1)
    x, cont = rng.normal(size=(6, 2, 3)), np.ones((6, 2))
    cont[0] = 0
    count = LAYERS[type].states
    whole = net_of(type, {"num_output": 4}, (6, 2, 3), (6, 2))
    halves = net_of(type, {"num_output": 4}, (3, 2, 3), (3, 2))
    states = [(1, 2, 4)] * count
    exposed = net_of(type, {"num_output": 4, "expose_hidden": True}, (3, 2, 3), (3, 2), *states, tops=1 + count)
    for blobs in zip(*(net.params["it"] for net in (whole, halves, exposed)), strict=True):
        value = rng.normal(0, 0.5, blobs[0].data.shape)
        for blob in blobs:
            blob.data[...] = value
    wanted = run(whole, x, cont)
    for _ in range(2):
        found = [run(halves, x[i : i + 3], cont[i : i + 3]) for i in (0, 3)]
        np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-6)
        halves.blobs["in0"].reshape(3, 7, 3)
        halves.blobs["in1"].reshape(3, 7)
        halves.forward()
        halves.blobs["in0"].reshape(3, 2, 3)
        halves.blobs["in1"].reshape(3, 2)
    first = run(exposed, x[:3], cont[:3], *[0] * count)
    behind = [exposed.blobs[f"out{1 + i}"].data.copy() for i in range(count)]
    second = run(exposed, x[3:], cont[3:], *behind)
    np.testing.assert_allclose(np.concatenate([first, second]), wanted, atol=1e-6)


# -- training --------------------------------------------------------------------------------------------------------
def test_trains_as_the_original_did():
    """tests/golden/sequences.npz was made by the command in tests/parity/sequences.py."""
    with np.load(GOLDEN) as file:
        wanted = {name: file[name] for name in file.files}
    assert not differences(sequences.run(), wanted, TOLERANCE)


@pytest.mark.bvlc
def test_trains_as_the_original_and_reads_its_weights(bvlc, tmp_path):
    """Each engine's weights, loaded by both: the same outputs, over two passes of which the second goes on."""
    solver = sequences.make_solver(sequences.SOLVERS["SGD"], str(tmp_path))
    ours, theirs = tmp_path / "ours.caffemodel", tmp_path / "theirs.caffemodel"
    solver.net.save(str(ours))
    script = FOLDER.parents[1] / "parity" / "sequences.py"
    bvlc("python3", script, tmp_path / "out.npz", ours)
    with np.load(tmp_path / "out.npz") as file:
        wanted = {name: file[name] for name in file.files}
    assert not differences(sequences.run(str(ours)), wanted, TOLERANCE)
    program = "import sys, caffe; caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST).save(sys.argv[3])"
    bvlc("python3", "-c", program, tmp_path / "net.prototxt", ours, theirs)
    found = {name: value for name, value in sequences.run(str(theirs)).items() if name.startswith("loaded")}
    assert not differences(found, {name: wanted[name] for name in found}, LAYER_TOLERANCE)


def test_a_resumed_run_goes_on_in_the_middle_of_a_sequence(tmp_path):
    def trained(solver, first, last):
        for turn in range(first, last):
            sequences.feed(solver.net, turn)
            solver.net.blobs["cont"].data[...] = 1
            solver.step(1)
        return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]

    def make():
        mode.set_random_seed(1)
        return sequences.make_solver(sequences.SOLVERS["Adam"], str(tmp_path))

    whole = make()
    trained(whole, 0, 3)
    whole.snapshot()
    wanted = trained(whole, 3, 6)
    again = make()
    again.restore(str(tmp_path / "run_iter_3.solverstate"))
    for a, b in zip(trained(again, 3, 6), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fused_plans_that_free_memory_give_the_same_bits(tmp_path):
    found = []
    for change in (lambda plan: plan, lambda plan: free_memory(fuse(plan))):
        mode.set_random_seed(1)
        net = sequences.make_solver(sequences.SOLVERS["SGD"], str(tmp_path)).net
        sequences.feed(net, 0)
        plan = change(net.plan)
        plan.forward()
        plan.backward()
        found.append([blob.diff.copy() for blobs in net.params.values() for blob in blobs])
    for a, b in zip(*found, strict=True):
        assert a.any()
        np.testing.assert_array_equal(a, b)


# -- refused ---------------------------------------------------------------------------------------------------------
SEQUENCE = ((4, 2, 3), (4, 2))
REFUSED = [  # type, settings, shapes of the bottoms, tops, what the message says
    ("LSTM", {}, SEQUENCE, 1, "num_output must be positive"),
    (
        "LSTM",
        {"num_output": 2},
        SEQUENCE[:1],
        1,
        "takes at least 2 bottom blob(s) as input: expected at least 2, got 1",
    ),
    ("LSTM", {"num_output": 2}, (*SEQUENCE, (2, 3), (1, 2, 2)), 1, "expected at most 3, got 4"),
    ("LSTM", {"num_output": 2, "expose_hidden": True}, SEQUENCE, 3, "expected at least 4, got 2"),
    ("RNN", {"num_output": 2}, ((4, 2), (4, 2)), 1, "expected at least 3 axes in bottom 0"),
    ("RNN", {"num_output": 2}, (*SEQUENCE, (2,)), 1, "expected at least 2 axes in bottom 2"),
    ("RNN", {"num_output": 2}, (*SEQUENCE, (3, 4)), 1, "expected a static input of 2 streams, got 3"),
    ("RNN", {"num_output": 2}, ((4, 2, 3), (4, 3)), 1, "indicators of shape (4, 2)"),
    ("RNN", {"num_output": 2}, ((0, 2, 3), (0, 2)), 1, "expected at least one time step, got 0"),
    (
        "RNN",
        {"num_output": 2, "expose_hidden": True},
        (*SEQUENCE, (1, 2, 3)),
        2,
        "expected a state of shape (1, 2, 2) in bottom 2, got (1, 2, 3)",
    ),
    ("LSTMUnit", {}, ((1, 2, 3), (1, 2, 9), (1, 2)), 2, "(1, 2, 12)"),
    ("LSTMUnit", {}, ((1, 2, 3), (1, 24), (1, 2)), 2, "expected 3 axes in bottom 1, got 2"),
]


@pytest.mark.parametrize(("type", "body", "shapes", "tops", "message"), REFUSED)
def test_refused_in_one_sentence(type, body, shapes, tops, message):
    with pytest.raises(CaffeError) as error:
        net_of(type, body, *shapes, tops=tops)
    assert message in str(error.value) and "layer 'it'" in str(error.value)


def test_the_number_of_steps_stays():
    net = net_of("LSTM", {"num_output": 2}, *SEQUENCE)
    net.blobs["in0"].reshape(5, 2, 3)
    net.blobs["in1"].reshape(5, 2)
    with pytest.raises(CaffeError, match="input number of timesteps changed: expected 4, got 5"):
        net.forward()


@pytest.mark.parametrize(
    ("type", "shapes", "tops"), [("RNN", SEQUENCE, 1), ("LSTMUnit", ((1, 2, 1), (1, 2, 4), (1, 2)), 2)]
)
def test_no_gradient_to_the_indicators(type, shapes, tops):
    net = net_of(type, {"num_output": 1} if type == "RNN" else {}, *shapes, tops=tops)
    layer = net.layers[len(shapes)]
    node = net.nodes[len(shapes)]
    with pytest.raises(CaffeError, match="Cannot backpropagate to sequence indicators."):
        layer.backward(node.tops, [True] * len(shapes), node.bottoms)


def test_states_of_another_size_are_refused_when_a_run_is_resumed():
    net = net_of("LSTM", {"num_output": 2}, *SEQUENCE)
    position = net_of("LSTM", {"num_output": 3}, *SEQUENCE).positions()["it"]
    with pytest.raises(CaffeError, match="expected states of shapes"):
        net.restore_positions({"it": position})
