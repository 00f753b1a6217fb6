"""Every layer type that LRP reads: forward beside the runtime, gradient beside central differences, relevance kept."""

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_proto import caffe_pb2
from lrp import Composite, LRPError, Network
from lrp.layer import READERS
from lrp.rules import Epsilon
from tests.lrp.test_lrp_network import inputs, layer

CONV = "convolution_param {{ num_output: {} kernel_size: 3 {} }}"
AFFINE = "scale_param { bias_term: true }"
# name: (layers between `data` (N, 4, 6, 7) and the score layer, which reads blob `end`)
CASES = {
    "Convolution": layer("c", "Convolution", "data", "end", CONV.format(4, "pad: 1 group: 2")),
    "Convolution h/w": layer(
        "c",
        "Convolution",
        "data",
        "end",
        "convolution_param { num_output: 3 kernel_h: 2 "
        "kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1 dilation: 2 dilation: 1 "
        "bias_term: false }",
    ),
    "Deconvolution": layer("c", "Deconvolution", "data", "end", CONV.format(6, "stride: 2 pad: 1 group: 2")),
    "InnerProduct": layer("c", "InnerProduct", "data", "end", "inner_product_param { num_output: 5 transpose: true }"),
    "InnerProduct axis": layer("c", "InnerProduct", "data", "end", "inner_product_param { num_output: 5 axis: 2 }"),
    "Pooling max": layer("p", "Pooling", "data", "end", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }"),
    "Pooling ave": layer("p", "Pooling", "data", "end", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
    "Pooling global": layer("p", "Pooling", "data", "end", "pooling_param { pool: AVE global_pooling: true }"),
    "Pooling stochastic": layer("a", "AbsVal", "data", "a")
    + layer("p", "Pooling", "a", "end", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"),
    "LRN": layer("n", "LRN", "data", "end", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 1.5 }"),
    "LRN within": layer(
        "n", "LRN", "data", "end", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"
    ),
    "BatchNorm Scale": layer("b", "BatchNorm", "data", "n") + layer("s", "Scale", "n", "end", AFFINE),
    "Bias": layer("b", "Bias", "data", "end"),
    "ReLU slope": layer("r", "ReLU", "data", "end", "relu_param { negative_slope: 0.1 }"),
    "PReLU": layer("r", "PReLU", "data", "end"),
    "PReLU shared": layer("r", "PReLU", "data", "end", "prelu_param { channel_shared: true }"),
    "ELU": layer("r", "ELU", "data", "end", "elu_param { alpha: 0.5 }"),
    "Sigmoid": layer("r", "Sigmoid", "data", "end"),
    "TanH": layer("r", "TanH", "data", "end"),
    "AbsVal": layer("r", "AbsVal", "data", "end"),
    "BNLL": layer("r", "BNLL", "data", "end"),
    "Power": layer("r", "Power", "data", "end", "power_param { power: 2 scale: 0.5 shift: 0.3 }"),
    "Power affine": layer("r", "Power", "data", "end", "power_param { scale: 0.5 shift: 0.3 }"),
    "Power constant": layer("r", "Power", "data", "p", "power_param { power: 0 scale: 0.5 shift: 0.3 }")
    + layer("e", "Eltwise", "data p", "end"),
    "Dropout": layer("d", "Dropout", "data", "end"),
    "Flatten": layer("f", "Flatten", "data", "end", "flatten_param { axis: 2 }"),
    "Reshape": layer("f", "Reshape", "data", "end", "reshape_param { shape { dim: 0 dim: -1 dim: 14 } }"),
    "Reshape part": layer(
        "f", "Reshape", "data", "end", "reshape_param { axis: 1 num_axes: 2 shape { dim: 3 dim: 8 } }"
    ),
    "Concat Slice": layer("s", "Slice", "data", "a b c", "slice_param { axis: 1 slice_point: 1 slice_point: 2 }")
    + layer("k", "Concat", "c a b", "end"),
    "Slice unused": layer("s", "Slice", "data", "end b") + layer("q", "Silence", "b", ""),
    "Split": layer("s", "Split", "data", "a b") + layer("r", "ReLU", "a", "r") + layer("e", "Eltwise", "r b", "end"),
    "implicit split": layer("r", "TanH", "data", "a") + layer("e", "Eltwise", "a data", "end"),
    "Eltwise coeff": layer("r", "TanH", "data", "a")
    + layer("e", "Eltwise", "a data", "end", "eltwise_param { coeff: 0.5 coeff: -1.5 }"),
    "Eltwise max": layer("r", "TanH", "data", "a")
    + layer("c", "Convolution", "data", "b", CONV.format(4, "pad: 1"))
    + layer("e", "Eltwise", "a b", "end", "eltwise_param { operation: MAX }"),
    "Eltwise prod": layer("r", "TanH", "data", "a")
    + layer("c", "Convolution", "data", "b", CONV.format(4, "pad: 1"))
    + layer("e", "Eltwise", "a b", "end", "eltwise_param { operation: PROD }"),
    "residual block": layer("c1", "Convolution", "data", "a", CONV.format(4, "pad: 1"))
    + layer("b1", "BatchNorm", "a", "a")
    + layer("s1", "Scale", "a", "a", AFFINE)
    + layer("r1", "ReLU", "a", "a")
    + layer("c2", "Convolution", "a", "b", CONV.format(4, "pad: 1 bias_term: false"))
    + layer("b2", "BatchNorm", "b", "b")
    + layer("e", "Eltwise", "b data", "e")
    + layer("r", "ReLU", "e", "end"),
}
SCORE = layer("score", "InnerProduct", "end", "score", "inner_product_param { num_output: 3 }")
HEADS = {"Softmax": layer("h", "Softmax", "score", "h")}
KEEP_RELEVANCE_APART = {  # linear or with biases: their balance is the business of test_lrp_rules
    "Power constant"
}


def build(tmp_path, middle, seed=0, merge=True):
    """(engine net with random parameters, prototxt path, input) for layers between data and score."""
    import caffe

    score = (
        SCORE
        if "axis: 2 }" not in middle or "InnerProduct" not in middle
        else (layer("flat", "Flatten", "end", "flat") + SCORE.replace('bottom: "end"', 'bottom: "flat"'))
    )
    text = inputs(2, 4, 6, 7) + middle + score + HEADS["Softmax"]
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    engine = caffe.Net(str(path), caffe.TEST)
    rng = np.random.default_rng(seed)
    kinds = dict(zip(engine._layer_names, (one.type for one in engine.layers), strict=True))
    for name, blobs in engine.params.items():
        for index, blob in enumerate(blobs):
            values = rng.normal(size=blob.data.shape)
            if kinds[name] == "BatchNorm":
                values = [values, 2 * (0.5 + np.abs(values)), np.full_like(values, 2.0)][index]
            blob.data[...] = values
    return engine, path, rng.normal(size=(2, 4, 6, 7))


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "as written"])
@pytest.mark.parametrize("name", CASES)
def test_forward_equals_the_runtime_and_gradient_the_differences(name, merge, tmp_path):
    engine, path, x = build(tmp_path, CASES[name])
    network = Network.from_pycaffe(engine, path, merge=merge)
    engine.blobs["data"].data[...] = x
    engine.forward()
    wanted = np.array(engine.blobs["score"].data)
    found = network.forward(x, np.float64)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    gradient = network.gradient(x, 1, np.float64)
    rng, step = np.random.default_rng(1), 1e-6
    for _ in range(3):
        direction = rng.normal(size=x.shape)
        there, back = (network.forward(x + sign * step * direction, np.float64)[:, 1] for sign in (1, -1))
        slope = (gradient * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(slope, (there - back) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "as written"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in KEEP_RELEVANCE_APART])
def test_relevance_is_kept_or_accounted_for(name, merge, tmp_path):
    engine, path, x = build(tmp_path, CASES[name])
    network = Network.from_pycaffe(engine, path, merge=merge)
    found = network.relevance(x, 1, Composite("all", default=Epsilon(1e-9)), np.float64, absorbed=True, layers=True)
    assert all(np.isfinite(one).all() and len(one) == 2 for one in found.layers.values())
    absorbed = sum(kinds["bias"] + kinds["stabiliser"] for kinds in found.absorbed.values())
    scale = sum(np.abs(kinds["bias"]) for kinds in found.absorbed.values()) + np.abs(found.score)
    np.testing.assert_allclose((found.relevance.sum(axis=(1, 2, 3)) + absorbed - found.score) / scale, 0, atol=1e-9)
    np.testing.assert_allclose(sum(kinds["stabiliser"] for kinds in found.absorbed.values()) / scale, 0, atol=1e-6)


def test_relevance_of_several_outputs_is_told_apart(tmp_path):
    engine, path, x = build(tmp_path, CASES["Concat Slice"])
    found = Network.from_pycaffe(engine, path).relevance(x, 1, "epsilon_plus", np.float64, layers=True)
    parts = [found.layers[f"s:{blob}"] for blob in "abc"]
    assert [one.shape[1] for one in parts] == [1, 1, 2]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), found.relevance)
    unused = Network.from_pycaffe(*build(tmp_path, CASES["Slice unused"])[:2]).relevance(x, 1, layers=True)
    assert "s:end" in unused.layers and "s:b" not in unused.layers


def test_every_layer_type_has_a_case():
    tested = {
        one.type
        for text in [*CASES.values(), SCORE, *HEADS.values()]
        for one in text_format.Parse(text, caffe_pb2.NetParameter()).layer
    }
    heads = {
        "SoftmaxWithLoss",
        "SigmoidCrossEntropyLoss",
        "EuclideanLoss",
        "HingeLoss",
        "MultinomialLogisticLoss",
        "InfogainLoss",
        "ContrastiveLoss",
        "Accuracy",
        "ArgMax",
    }  # see the next test
    assert set(READERS) == tested | heads | {"ReLU"}


@pytest.mark.parametrize("head", ["SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "SigmoidCrossEntropyLoss"])
def test_train_nets_start_at_the_scores(head):
    """Data layers, labels, accuracies and losses: the input is found, the scores are what the loss reads."""
    text = (
        layer("d", "HDF5Data", "", "data label", 'hdf5_data_param { source: "list.txt" batch_size: 2 }')
        + layer("drop", "Dropout", "data", "data", "include { phase: TRAIN }")
        + layer("score", "InnerProduct", "data", "score", "inner_product_param { num_output: 3 }")
        + layer("a", "Accuracy", "score label", "a", "include { phase: TEST }")
        + layer("l", head, "score label", "l")
    )
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    rng = np.random.default_rng(0)
    network = Network(net, {"score": [rng.normal(size=(3, 8)), np.zeros(3)]})
    x = rng.normal(size=(2, 2, 2, 2))
    found = network.relevance(x, composite="epsilon_plus", dtype=np.float64)
    np.testing.assert_allclose(found.conserved, 1, atol=1e-5)
    assert [one.name for one in network.linear_layers] == ["score"]


MERGES = {  # layers, and the names of the linear layers that remain; nothing affine may remain
    "after a convolution": layer("c", "Convolution", "data", "c", CONV.format(6, "pad: 1 group: 2"))
    + layer("b", "BatchNorm", "c", "c")
    + layer("s", "Scale", "c", "c", AFFINE)
    + layer("r", "ReLU", "c", "end"),
    "after a convolution without bias": layer("c", "Convolution", "data", "c", CONV.format(4, "bias_term: false"))
    + layer("b", "Bias", "c", "c")
    + layer("r", "ReLU", "c", "end"),
    "after a deconvolution": layer("c", "Deconvolution", "data", "c", CONV.format(6, "group: 2"))
    + layer("s", "Scale", "c", "c", AFFINE)
    + layer("r", "ReLU", "c", "end"),
    "before a convolution": layer("p", "Power", "data", "p", "power_param { scale: 0.05 shift: 3 }")
    + layer("s", "Scale", "p", "s", AFFINE)
    + layer("c", "Convolution", "s", "c", CONV.format(6, "group: 2"))
    + layer("r", "ReLU", "c", "end"),
    "before an inner product": layer("p", "Power", "data", "p", "power_param { shift: 3 }")
    + layer("s", "Scale", "p", "end", AFFINE),
    "factor before a padded convolution": layer("p", "Power", "data", "p", "power_param { scale: 0.5 }")
    + layer("c", "Convolution", "p", "c", CONV.format(4, "pad: 1"))
    + layer("r", "ReLU", "c", "end"),
}
NOT_MERGED = {
    "shift before a convolution that is padded along its width alone": layer(
        "p", "Power", "data", "p", "power_param { shift: 3 }"
    )
    + layer(
        "c", "Convolution", "p", "end", "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 }"
    ),
    "shift before a padded convolution": layer("p", "Power", "data", "p", "power_param { shift: 3 }")
    + layer("c", "Convolution", "p", "end", CONV.format(4, "pad: 1")),
    "affine that two layers read": layer("p", "Power", "data", "p", "power_param { shift: 3 }")
    + layer("c", "Convolution", "p", "c", CONV.format(4, ""))
    + layer("d", "Convolution", "p", "d", CONV.format(4, ""))
    + layer("e", "Eltwise", "c d", "end"),
}


@pytest.mark.parametrize("name", [*MERGES, *NOT_MERGED])
def test_merging_changes_no_output(name, tmp_path):
    engine, path, x = build(tmp_path, {**MERGES, **NOT_MERGED}[name])
    merged, written = (Network.from_pycaffe(engine, path, merge=merge) for merge in (True, False))
    np.testing.assert_allclose(merged.forward(x, np.float64), written.forward(x, np.float64), rtol=1e-10, atol=1e-10)
    left = [type(node.layer).__name__ for node in merged.structure.nodes]
    assert ("Affine" in left) == (name in NOT_MERGED)
    assert "Affine" in [type(node.layer).__name__ for node in written.structure.nodes]


def test_batch_statistics_and_impossible_layers_are_refused(tmp_path):
    for middle, message in (
        (layer("b", "BatchNorm", "data", "end", "batch_norm_param { use_global_stats: false }"), "use_global_stats"),
        (
            layer("p", "Pooling", "data", "end", "pooling_param { pool: STOCHASTIC kernel_size: 2 pad: 1 }"),
            "no padding",
        ),
        (layer("s", "Scale", "data data", "end"), "expected one bottom, got 2"),
        (layer("c", "Convolution", "data", "end", "convolution_param { num_output: 2 kernel_size: 9 }"), "window of 9"),
    ):
        blobs = {
            "b": [np.ones(4), np.ones(4), np.ones(1)],
            "c": [np.ones((2, 4, 9, 9)), np.ones(2)],
            "score": [np.ones((3, 168)), np.ones(3)],
        }
        with pytest.raises(LRPError, match=message):
            Network(text_format.Parse(inputs(2, 4, 6, 7) + middle + SCORE, caffe_pb2.NetParameter()), blobs)
