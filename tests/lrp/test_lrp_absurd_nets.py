"""Layers that are nothing or do not fit: one sentence that names them; windows beyond the data cost nothing."""

import numpy as np
import pytest
from test_lrp_network import inputs, layer

from caffe_proto import array_to_blobproto, caffe_pb2, write_message
from lrp import LRPError, Network

SHAPE = (2, 6, 5)
BLOBS = {
    "InnerProduct": [(60, 60)],
    "Convolution": [(2, 2, 3, 3), (2,)], "Deconvolution": [(2, 2, 3, 3), (2,)], "Scale": [(2,)], "Bias": [(2,)],
    "PReLU": [(7,)],
}  # fmt: skip
CONVOLUTION = "convolution_param { num_output: 2 kernel_size: 3 %s }"


def load(folder, kind, settings, bottoms="data"):
    """A network of that layer and a score of all it gives."""
    score = layer("score", "InnerProduct", "it", "score", "inner_product_param { num_output: 3 }")
    (folder / "net.prototxt").write_text(inputs(1, *SHAPE) + layer("it", kind, bottoms, "it", settings) + score)
    net = caffe_pb2.NetParameter()
    for name, shapes in (("it", BLOBS.get(kind, [])), ("score", [(3, 60), (3,)])):
        net.layer.add(name=name).blobs.extend(array_to_blobproto(np.ones(shape)) for shape in shapes)
    write_message(folder / "w.caffemodel", net)
    return Network(folder / "net.prototxt", folder / "w.caffemodel")


@pytest.mark.parametrize(
    "kind, settings, words",
    [
        ("Convolution", CONVOLUTION % "group: 0", "expected a group of at least 1, got 0"),
        ("Deconvolution", CONVOLUTION % "group: 0", "expected a group of at least 1, got 0"),
        ("Convolution", CONVOLUTION % "dilation: 0", "dilation (0, 0)"),
        ("Convolution", CONVOLUTION % "stride: 0", "stride (0, 0)"),
        ("Convolution", CONVOLUTION % "pad: 4294967295", "expected a pad of at most 2147483647, got 4294967295"),
        ("Pooling", "pooling_param { kernel_size: 2 stride: 0 }", "expected a stride of at least 1, got (0, 0)"),
        ("Pooling", "pooling_param { kernel_size: 2 pad: 5 }", "expected a kernel larger than the pad"),
        ("Reshape", f"reshape_param {{ shape {{ {'dim: 0 ' * 6} }} }}", "expected a shape for an input of shape"),
        ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "expected a shape for an input of shape"),
        ("Reshape", "reshape_param { shape { dim: -5 } }", "expected a shape for an input of shape"),
        ("Reshape", "reshape_param { axis: 9 shape { dim: 1 } }", "expected axes of an input of shape"),
        ("Flatten", "flatten_param { axis: 99 }", "expected an axis of an input of shape (1, 2, 6, 5), got 99"),
        (
            "Flatten",
            "flatten_param { axis: 3 end_axis: 1 }",
            "expected an end_axis not before the axis",
        ),
        ("Scale", "scale_param { axis: 100 }", "expected an input of shape (2,) from axis 100 on, got (1, 2, 6, 5)"),
        ("Scale", "scale_param { axis: 2 }", "expected an input of shape (2,) from axis 2 on, got (1, 2, 6, 5)"),
        ("Bias", "bias_param { axis: 100 }", "expected an input of shape (2,) from axis 100 on"),
        ("PReLU", "", "expected an input of shape (7,) from axis 1 on, got (1, 2, 6, 5)"),
        ("Concat", "concat_param { axis: 100 }", "expected an axis of an input of shape (1, 2, 6, 5), got 100"),
        ("Slice", "slice_param { axis: -5 }", "expected an axis of an input of shape (1, 2, 6, 5), got -5"),
        ("InnerProduct", "inner_product_param { num_output: 3 axis: 9 }", "expected "),
    ],
)
def test_what_is_nothing_or_does_not_fit_is_one_sentence(tmp_path, kind, settings, words):
    with pytest.raises(LRPError) as caught:
        load(tmp_path, kind, settings).relevance(np.ones((1, *SHAPE), np.float32), 0)
    assert ": layer it: " in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


def test_more_bottoms_than_a_layer_has_are_one_sentence(tmp_path):
    with pytest.raises(LRPError, match="layer it: expected 2 tops, got 1 for 2 bottoms"):
        load(tmp_path, "ReLU", "", "data data").relevance(np.ones((1, *SHAPE), np.float32), 0)


def test_a_bottom_that_a_layer_leaves_out_is_one_sentence(tmp_path):
    network = load(tmp_path, "InnerProduct", "inner_product_param { num_output: 60 bias_term: false }", "data data")
    with pytest.raises(LRPError, match="layer it: expected 1 bottoms, got 2"):
        network.relevance(np.ones((1, *SHAPE), np.float32), 0)


def test_tops_of_one_name_are_one_sentence(tmp_path):
    twice = layer("it", "Scale", "data", "x", "").replace('top: "x"', 'top: "x" top: "x"')
    score = layer("score", "InnerProduct", "x", "score", "inner_product_param { num_output: 3 }")
    (tmp_path / "net.prototxt").write_text(inputs(1, *SHAPE) + twice + score)
    weights = {"it": [np.ones(2, np.float32)], "score": [np.ones((3, 60), np.float32), np.ones(3, np.float32)]}
    with pytest.raises(LRPError, match="layer (it|score): expected (1 tops|bottoms that the input gives), got "):
        Network(tmp_path / "net.prototxt", weights)


@pytest.mark.parametrize("region, reach", [("ACROSS_CHANNELS", 3), ("WITHIN_CHANNEL", 11)])
def test_a_window_beyond_the_data_sums_all_of_them(tmp_path, region, reach):
    """With alpha in proportion to the window's size the normalisation is the same, whatever lies beyond the data."""
    x = np.random.default_rng(0).standard_normal((1, *SHAPE))
    power = 1 if region == "ACROSS_CHANNELS" else 2
    found = []
    for size in (reach, reach + 2, 2**31 - 1):
        setting = f"lrn_param {{ local_size: {size} alpha: {0.1 * float(size) ** power!r} norm_region: {region} }}"
        network = load(tmp_path, "LRN", setting)
        found.append((network.forward(x, np.float64), network.gradient(x, 0, np.float64)))
    wanted = x / (1 + 0.1 * (x**2).sum(axis=1 if power == 1 else (2, 3), keepdims=True)) ** 0.75
    for scores, gradient in found:
        np.testing.assert_allclose(scores, np.full((1, 3), wanted.sum() + 1), rtol=1e-6)
        np.testing.assert_allclose(gradient, found[0][1], rtol=1e-5, atol=1e-9)
