"""Networks: reading, forward, relevance from the scores down, conservation, targets, errors."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import random_networks
import reference
from google.protobuf import text_format

import caffe_proto
import lrp.batches
from caffe_proto import caffe_pb2
from lrp import COMPOSITES, LRPError, Network
from lrp.rules import GUARD
from tests.small_corpus import speech, wav_file

ROOT = Path(__file__).resolve().parents[2]


def parse(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(name, kind, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} {tops} {more} }}\n'


def inputs(*shape):
    dims = " ".join(f"dim: {d}" for d in shape)
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'


# A small network with everything the study's networks have: groups, padding, in-place ReLU and dropout, overlapping
# pooling that rounds up, and inner products without a ReLU between them.
SMALL = (
    inputs(1, 2, 12, 13)
    + layer("conv1", "Convolution", "data", "conv1", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 }")
    + layer("relu1", "ReLU", "conv1", "conv1")
    + layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    + layer(
        "conv2", "Convolution", "pool1", "conv2", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2 }"
    )
    + layer("relu2", "ReLU", "conv2", "conv2")
    + layer("fc3", "InnerProduct", "conv2", "fc3", "inner_product_param { num_output: 5 }")
    + layer("drop3", "Dropout", "fc3", "fc3")
    + layer("fc4", "InnerProduct", "fc3", "fc4", "inner_product_param { num_output: 3 }")
    + layer("prob", "Softmax", "fc4", "prob")
)


def small_weights(seed=0, bias=0.3):
    rng = np.random.default_rng(seed)
    shapes = {"conv1": (4, 2, 3, 3), "conv2": (6, 2, 3, 3), "fc3": (5, 36), "fc4": (3, 5)}
    return {
        name: [rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape), bias * rng.normal(size=shape[0])]
        for name, shape in shapes.items()
    }


def small_input(seed=1, count=3):
    return np.random.default_rng(seed).normal(size=(count, 2, 12, 13))


def slow_small(weights, x, rules, target=None):
    """(scores, relevance) of one item of the small network, by the twins alone."""
    steps = []

    def linear(name, W, C, b, x, out):
        steps.append((name, W, C, b, x))
        return (W @ x.ravel() + b).reshape(out)

    w, b = weights["conv1"]
    W, C, out = reference.convolution_matrix(w, x.shape, (2, 2))
    h1 = np.maximum(linear("conv1", W, C, np.repeat(b, out[1] * out[2]), x, out), 0)
    p1 = reference.max_pooling(h1, (3, 3), (2, 2))
    w, b = weights["conv2"]
    W, C, out = reference.convolution_matrix(w, p1.shape, (1, 1), (1, 1), (1, 1), 2)
    h2 = np.maximum(linear("conv2", W, C, np.repeat(b, out[1] * out[2]), p1, out), 0)
    h3 = linear("fc3", weights["fc3"][0], np.ones_like(weights["fc3"][0]), weights["fc3"][1], h2, (5,))
    scores = linear("fc4", weights["fc4"][0], np.ones_like(weights["fc4"][0]), weights["fc4"][1], h3, (3,))
    target = scores.argmax() if target is None else target
    R = np.where(np.arange(3) == target, scores, 0)
    for name, W, C, b, below in reversed(steps):
        rule = rules[name]
        R = reference.RULES[type(rule).__name__](W, C, b, below.ravel(), R.ravel(), guard=GUARD, **vars(rule))
        R = R.reshape(below.shape)
        if name == "conv2":
            R = reference.max_pooling_relevance(h1, R, (3, 3), (2, 2))
    return scores, R


@pytest.mark.parametrize("composite", COMPOSITES)
def test_composite_equals_the_slow_network(composite):
    weights, x = small_weights(), small_input()
    network = Network(parse(SMALL), weights)
    found = network.relevance(x, composite=composite, dtype=np.float64)
    for n in range(len(x)):
        scores, R = slow_small(weights, x[n], network.rules(composite))
        np.testing.assert_allclose(found.scores[n], scores, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.relevance[n], R, rtol=1e-9, atol=1e-9 * np.abs(R).max())


# Those that say that they lose relevance, with or without biases.
LOSING = {name for name, composite in COMPOSITES.items() if composite.note} - {"excitation_backprop"}


def test_what_loses_says_so():
    toolbox = {"toolbox_100", "toolbox_102", "toolbox_104"}
    assert {*toolbox, "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat"} == LOSING
    network = Network(parse(SMALL), small_weights())
    for name, x in (
        ("toolbox_100", small_input()),
        ("epsilon_alpha2_beta1", small_input()),
        ("excitation_backprop", 0 * small_input()),  # what conv1's biases made alone
    ):
        found = network.relevance(x, composite=name)
        assert found.note == COMPOSITES[name].note and found.note.count("\n") == 0
        assert np.abs(found.conserved - 1).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("composite", sorted(set(COMPOSITES) - LOSING))
@pytest.mark.parametrize("name", random_networks.DEPLOYS)
def test_real_networks_conserve_without_biases(real_networks, name, composite, dtype):
    network = real_networks[name]
    x = random_networks.random_inputs(name, 1, seed=3)
    found = network.relevance(x, composite=composite, dtype=dtype, absorbed=True)
    assert found.relevance.shape == x.shape and found.relevance.dtype == dtype
    # float32 adds up some ten thousand relevances of both signs, each rounded at 6e-8 of the largest
    tolerance = 1e-6 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(found.conserved, 1, atol=tolerance)


@pytest.fixture(scope="module")
def real_networks():
    """The real networks, random weights, no biases; the demo's AlexNet keeps its shift in a layer of its own."""
    return {
        name: Network(
            parse(random_networks.deploy_text(name)),
            random_networks.random_weights(name, bias=0.0),
            merge=name != "AlexNet demo",
        )
        for name in random_networks.DEPLOYS
    }


def test_absorbed_relevance_closes_the_balance():
    network = Network(parse(SMALL), small_weights())
    for composite in COMPOSITES:
        found = network.relevance(small_input(), composite=composite, dtype=np.float64, absorbed=True, layers=True)
        absorbed = sum(kinds["bias"] + kinds["stabiliser"] for kinds in found.absorbed.values())
        total = found.relevance.sum(axis=(1, 2, 3))
        np.testing.assert_allclose(total + absorbed, found.score, rtol=1e-9)
        assert list(found.absorbed) == ["fc4", "fc3", "conv2", "conv1"]
        np.testing.assert_allclose(found.layers["fc4"].sum(axis=1), found.score)
        np.testing.assert_allclose(
            found.layers["relu1"].sum(axis=(1, 2, 3))
            - found.absorbed["conv1"]["bias"]
            - found.absorbed["conv1"]["stabiliser"],
            total,
            rtol=1e-9,
        )


def test_targets():
    weights, x = small_weights(), small_input()
    network = Network(parse(SMALL), weights)

    def ask(target):
        return network.relevance(x, target, "epsilon_plus", dtype=np.float64)

    by_class = [ask(k) for k in range(3)]
    predicted = ask(None)
    for n in range(len(x)):
        np.testing.assert_array_equal(predicted.relevance[n], by_class[predicted.prediction[n]].relevance[n])
    each = ask(np.array([2, 0, 1]))
    for n, k in enumerate([2, 0, 1]):
        np.testing.assert_array_equal(each.relevance[n], by_class[k].relevance[n])
    # relevance is linear in what is handed in
    both = ask((0, 2))
    np.testing.assert_allclose(both.relevance, by_class[0].relevance + by_class[2].relevance, rtol=1e-9, atol=1e-12)
    given = ask(np.where(np.arange(3) == 1, 2 * by_class[0].scores, 0))
    np.testing.assert_allclose(given.relevance, 2 * by_class[1].relevance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(each.score, [each.scores[n, k] for n, k in enumerate([2, 0, 1])])
    assert both.target.tolist() == [-1, -1, -1] and each.target.tolist() == [2, 0, 1]
    for wrong in (3, -1, np.array([0, 1]), (), np.zeros((3, 4)), np.array([0.5, 1, 2])):
        with pytest.raises(LRPError, match="^target: expected .*, got "):
            ask(wrong)


def test_more_items_than_go_through_the_network_together():
    """Every item keeps its own target and its own relevance of the scores, whichever chunk it comes in."""
    network, x = Network(parse(SMALL), small_weights()), small_input(count=40)
    target = np.random.default_rng(4).integers(0, 3, 40)
    assert len(x) > 2 * lrp.batches.CHUNK and len(set(target[:16]) | set(target[16:32])) == 3
    given = np.random.default_rng(5).normal(size=(40, 3))
    each, rows = (network.relevance(x, one, dtype=np.float64) for one in (target, given))
    gradient = network.gradient(x, target, np.float64)
    np.testing.assert_array_equal(each.target, target)
    for n in range(40):
        alone = network.relevance(x[n : n + 1], int(target[n]), dtype=np.float64)
        np.testing.assert_array_equal(each.relevance[n], alone.relevance[0])
        np.testing.assert_array_equal(gradient[n], network.gradient(x[n : n + 1], int(target[n]), np.float64)[0])
        row = network.relevance(x[n : n + 1], given[n : n + 1], dtype=np.float64)
        np.testing.assert_array_equal(rows.relevance[n], row.relevance[0])


def test_a_blob_that_others_read_is_not_overwritten():
    """z = W x, y = max(z, 0), scores y + z: a ReLU in place would make them 2 y."""
    text = (
        inputs(1, 4)
        + layer("z", "InnerProduct", "data", "z", "inner_product_param { num_output: 3 bias_term: false }")
        + layer("y", "ReLU", "z", "y")
        + layer("score", "Eltwise", "y z", "score")
    )
    rng = np.random.default_rng(6)
    W, x = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    network, z = Network(parse(text), {"z": [W]}), x @ W.T
    assert (z < 0).any()
    np.testing.assert_allclose(network.forward(x, np.float64), np.maximum(z, 0) + z, rtol=1e-12)
    # gradient times input of a network without biases adds up to the score
    gradient = network.gradient(x, 1, np.float64)
    np.testing.assert_allclose((gradient * x).sum(axis=1), np.maximum(z, 0)[:, 1] + z[:, 1], rtol=1e-12)


@pytest.mark.parametrize("name", ["AlexNet", "AudioNet"])
def test_company_in_the_batch_changes_nothing(name):
    network = Network(parse(random_networks.deploy_text(name)), random_networks.random_weights(name))
    x = random_networks.random_inputs(name, 3)
    together = network.relevance(x)
    for n in range(3):
        alone = network.relevance(x[n : n + 1], target=int(together.target[n]), workers=1)
        np.testing.assert_array_equal(together.relevance[n], alone.relevance[0])
        np.testing.assert_array_equal(together.scores[n], alone.scores[0])


@pytest.mark.parametrize("name", random_networks.DEPLOYS)
def test_forward_equals_the_runtime(name):
    """Two implementations that share no code: this one in numpy, and the project's runtime in PyTorch."""
    import caffe

    model, weights = random_networks.stored(name)
    x = random_networks.random_inputs(name, 2)
    engine = caffe.Net(str(model), str(weights), caffe.TEST)
    engine.blobs["data"].reshape(*x.shape)
    engine.blobs["data"].data[...] = x
    engine.forward()
    blob = "fc9" if name == "AudioNet" else "fc8"
    wanted = np.array(engine.blobs[blob].data)
    for network in (Network(model, weights), Network.from_pycaffe(engine, model)):
        for dtype in (np.float32, np.float64):
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(network.forward(x, dtype), wanted, rtol=1e-4, atol=1e-4 * scale)


ORIGINAL = """
import sys
import numpy as np
import caffe
model, weights, inputs, blob, made = sys.argv[1:]
net = caffe.Net(model, caffe.TEST, weights=weights)
x = np.load(inputs)
net.blobs["data"].reshape(*x.shape)
net.blobs["data"].data[...] = x
net.forward()
np.savez(made, scores=net.blobs[blob].data, **{
    "%s/%d" % (name, index): blob.data for name, blobs in net.params.items() for index, blob in enumerate(blobs)})
"""


@pytest.mark.bvlc
@pytest.mark.parametrize("name", random_networks.DEPLOYS)
def test_the_original_engines_net(name, bvlc, tmp_path):
    """pycaffe's `params` and scores in the original, whose Python is too old for this package: they come by file."""
    model, weights = random_networks.stored(name)
    x = random_networks.random_inputs(name, 2)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "script.py").write_text(ORIGINAL)
    blob = "fc9" if name == "AudioNet" else "fc8"
    bvlc("python3", tmp_path / "script.py", model, weights, tmp_path / "x.npy", blob, tmp_path / "made.npz")
    with np.load(tmp_path / "made.npz") as made:
        wanted, params = made["scores"], {}
        for key in made.files:
            if "/" in key:
                params.setdefault(key.split("/")[0], []).append(SimpleNamespace(data=made[key]))
    network = Network.from_pycaffe(SimpleNamespace(params=params), model)
    np.testing.assert_allclose(network.forward(x), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["AlexNet", "AudioNet"])
def test_memory_is_bounded_by_the_budget_and_not_by_the_batch(name, monkeypatch):
    network = Network(parse(random_networks.deploy_text(name)), random_networks.random_weights(name))
    budget = 120 * 2**20
    monkeypatch.setattr(lrp.batches, "MEMORY", budget)
    composite = "epsilon_alpha2_beta1"  # two denominators in every convolution: the hungriest
    network.relevance(random_networks.random_inputs(name, 1), composite=composite)  # prepares the weights
    for count in (4, 20):
        x = random_networks.random_inputs(name, count)
        tracemalloc.start()
        network.relevance(x, composite=composite)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < budget + 3 * x.nbytes


def test_sizes_round_up_as_in_caffe():
    network = Network(parse(random_networks.deploy_text("AudioNet")), random_networks.random_weights("AudioNet"))
    found = network.relevance(random_networks.random_inputs("AudioNet", 1), layers=True)
    widths = [found.layers[f"pool{k}"].shape[3] for k in range(1, 7)]
    assert widths == [4000, 2000, 1000, 500, 250, 125]


# --- errors ----------------------------------------------------------------------------------------------------------
def test_weights_of_another_net():
    gender = parse(random_networks.deploy_text("AudioNet", classes=2))
    model, weights = random_networks.stored("AudioNet")
    with pytest.raises(LRPError, match=r"layer fc9: expected weight of shape \(2, 512\) .*, got \(10, 512\)"):
        Network(gender, weights)
    with pytest.raises(LRPError, match="layer conv1: expected"):
        Network(model, random_networks.stored("AlexNet")[1])


def test_truncated_weights(tmp_path):
    model, weights = random_networks.stored("AudioNet")
    content = weights.read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(content[: len(content) // 2])
    with pytest.raises(caffe_proto.CaffeFileError, match="cut.caffemodel"):
        Network(model, tmp_path / "cut.caffemodel")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 2, 12, 8)), r"shape \(N, 2, 12, 13\), .*, got \(1, 2, 12, 8\)"),
        (np.zeros((2, 12, 13)), r"got \(2, 12, 13\)"),
        (np.full((1, 2, 12, 13), np.nan), "got 312 that are NaN or infinite"),
        (np.zeros((0, 2, 12, 13)), "expected at least one item, got none"),
        (np.full((1, 2, 12, 13), "a"), "expected numbers"),
    ],
)
def test_wrong_inputs(x, message):
    with pytest.raises(LRPError, match=message):
        Network(parse(SMALL), small_weights()).relevance(x)


def test_unknown_type_and_composite_name_what_is_known():
    net = parse(SMALL + layer("odd", "Quantum", "fc4", "odd"))
    with pytest.raises(LRPError, match="layer odd: expected one of the types .*Convolution.*, got 'Quantum'"):
        Network(net, small_weights())
    with pytest.raises(LRPError, match="composite: expected one of epsilon_plus, .*, got 'lrp'"):
        Network(parse(SMALL), small_weights()).relevance(small_input(), composite="lrp")


def test_no_engine_is_imported():
    code = (
        "import sys, lrp, lrp.network; "
        "print([m for m in ('torch', 'caffe', 'scipy', 'matplotlib', 'zennit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_pycaffes_schema_may_be_in_the_same_process():
    """The original's caffe_pb2 registers messages of package caffe; reading a net beside it must not clash."""
    code = (
        "from google.protobuf import descriptor_pb2 as d, descriptor_pool as p\n"
        "file = d.FileDescriptorProto(name='caffe.proto', package='caffe')\n"
        "file.message_type.add(name='NetParameter')\n"
        "p.Default().Add(file)\n"
        "import lrp\n"
        "print(lrp.Network.from_pycaffe.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "from_pycaffe", done.stderr


def test_a_wav_file_lies_where_the_seed_0_puts_it_unless_asked(tmp_path):
    """As preprocessing does without --seed."""
    path = tmp_path / "7_01_0.wav"
    path.write_bytes(wav_file(speech(0).tobytes()))
    plain, asked, other = (lrp.read(path, *seed).forms["AudioNet"].data for seed in ((), (0,), (1,)))
    np.testing.assert_array_equal(plain, asked)
    assert not np.array_equal(plain, other)
