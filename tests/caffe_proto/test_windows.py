"""Window settings in all their forms: the engine and lrp read the same numbers, and those of a plain twin."""

import itertools

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import lrp
from caffe_proto import CaffeFileError, caffe_pb2
from caffe_proto.windows import given_window, window
from lrp import LRPError

NET = """layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 dim: 12 dim: 13 }} }} }}
layer {{ name: "it" type: "{type}" bottom: "data" top: "it" {settings} }}
layer {{ name: "flat" type: "Flatten" bottom: "it" top: "flat" }}"""
COMMON = {"kernel_size": [(), (3,), (3, 4)], "stride": [(), (2,), (2, 3)], "pad": [(), (1,), (1, 2)]}
PAIRS = [{}, {"h": 3}, {"w": 4}, {"h": 3, "w": 4}]


def forms(name, most):
    """(prototxt, (height, width) or None where nothing is given, or "refused") of every way to write a setting."""
    stem, default = name.removesuffix("_size"), {"kernel_size": 0, "stride": 1, "pad": 0}[name]
    for common, pair in itertools.product([c for c in COMMON[name] if len(c) <= most], PAIRS):
        text = " ".join([f"{name}: {n}" for n in common] + [f"{stem}_{side}: {n}" for side, n in pair.items()])
        if pair and common and most > 1:
            yield text, "refused"
        elif pair:
            yield text, tuple(pair.get(side, default if name != "stride" or most == 1 else 0) for side in "hw")
        else:
            yield text, (common[0], common[-1]) if common else None


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("message, most", [("ConvolutionParameter", 2), ("PoolingParameter", 1)])
def test_every_form_is_read(message, most, name):
    kind = getattr(caffe_pb2, message)
    for text, wanted in forms(name, most):
        param = text_format.Parse(text, kind())
        if wanted == "refused":
            with pytest.raises(CaffeFileError, match="expected one of the forms"):
                window(param, name, 2, 5)
            continue
        defaults = {field.name: field.default_value for field in kind.DESCRIPTOR.fields}
        stem = name.removesuffix("_size")
        pair = [defaults[f"{stem}_{side}"] for side in "hw"]
        if wanted is not None and "_h:" in text or "_w:" in text:
            wanted = tuple(
                int(text.split(f"{stem}_{side}: ")[1].split()[0]) if f"{stem}_{side}:" in text else pair[k]
                for k, side in enumerate("hw")
            )
        assert tuple(window(param, name, 2, 5)) == (wanted or (5, 5)), text
        assert bool(given_window(param, name)) == (wanted is not None)


def test_wrong_numbers_of_values_are_refused():
    param = text_format.Parse("kernel_size: 1 kernel_size: 2 kernel_size: 3", caffe_pb2.ConvolutionParameter())
    assert window(param, "kernel_size", 3, None) == [1, 2, 3]
    with pytest.raises(CaffeFileError, match=r"specified 3 times; 2 spatial dims"):
        window(param, "kernel_size", 2, None)
    with pytest.raises(CaffeFileError, match=r"specified 0 times; 2 spatial dims"):
        window(caffe_pb2.ConvolutionParameter(), "kernel_size", 2, None)
    pair = text_format.Parse("kernel_h: 1 kernel_w: 2", caffe_pb2.ConvolutionParameter())
    with pytest.raises(CaffeFileError, match="expected 2D convolution for .*, got 3 spatial axes"):
        window(pair, "kernel_size", 3, None)


@pytest.mark.parametrize(
    "settings",
    [
        "kernel_size: 3",
        "kernel_size: 3 kernel_size: 4 stride: 2 pad: 1",
        "kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2",
        "kernel_size: 2 dilation: 2 dilation: 3",
        "kernel_size: 2 kernel_h: 2 kernel_w: 2",
        "kernel_size: 2 stride: 1 stride_h: 1 stride_w: 1",
        "kernel_size: 2 dilation: 1 dilation: 1 dilation: 1",
    ],
)
def test_engine_and_lrp_agree(settings, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET.format(type="Convolution", settings=f"convolution_param {{ num_output: 2 {settings} }}"))
    try:
        net = caffe.Net(str(path), caffe.TEST)
    except caffe.CaffeError as refused:
        with pytest.raises(LRPError) as caught:
            lrp.Network(path, {"it": [np.zeros((2, 1, 2, 2)), np.zeros(2)]})
        assert str(caught.value).split(": ")[-1] == str(refused).split(": ")[-1]
        return
    weights = {"it": [blob.data for blob in net.params["it"]]}
    x = np.random.default_rng(0).normal(size=(1, 1, 12, 13)).astype(np.float32)
    wanted = net.forward(data=x)["flat"].copy()
    scores = lrp.Network(path, weights).relevance(x, target=0).scores
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
