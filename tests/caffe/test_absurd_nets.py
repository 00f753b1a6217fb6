"""Nets that ask for more than there is, or for what is nothing: one sentence that names the layer, at once."""

import numpy as np
import pytest
import torch

import caffe
from caffe import actions, cli
from caffe_proto import CaffeFileError
from caffe_proto import memory as memory_of

MOST = 2**31 - 1
DATA = 'layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ shape {{ {dims} }} }} }}'


def net(dims, layer="", **settings):
    """A DummyData of these dims, and a layer of that type on it: {message: {field: value}}."""
    text = DATA.format(dims=" ".join(f"dim: {n}" for n in dims))
    if layer:
        inner = "".join(
            f"{message} {{ {' '.join(f'{k}: {v}' for k, v in fields.items())} }}"
            for message, fields in settings.items()
        )
        text += f'layer {{ name: "it" type: "{layer}" bottom: "data" top: "it" {inner} }}'
    return text


CONVOLUTION = {"num_output": 4, "kernel_size": 3}


@pytest.mark.parametrize(
    "text, words",
    [
        (
            net((1, 4, 5, 5), "Convolution", convolution_param=CONVOLUTION | {"group": 0}),
            "a group of at least 1, got 0",
        ),
        (
            net((1, 4, 5, 5), "Deconvolution", convolution_param=CONVOLUTION | {"group": 0}),
            "a group of at least 1, got 0",
        ),
        (net((1, 4, 5, 5), "Convolution", convolution_param=CONVOLUTION | {"dilation": 0}), "a dilation of at least 1"),
        (net((1, 4, 5, 5), "Im2col", convolution_param={"kernel_size": 3, "dilation": 0}), "a dilation of at least 1"),
        (
            net((1, 4, 5, 5), "Pooling", pooling_param={"kernel_size": 3, "stride": 2**31}),
            f"a stride of at most {MOST}, got 2147483648",
        ),
        (
            net((1, 4, 5, 5), "Pooling", pooling_param={"kernel_size": 2**32 - 1, "pad": 2**31}),
            f"a kernel_size of at most {MOST}",
        ),
        (
            net((1, 4, 5, 5), "Convolution", convolution_param=CONVOLUTION | {"pad": 2**32 - 1}),
            f"a pad of at most {MOST}",
        ),
        (
            net((1, 4, 5, 5), "SPP", spp_param={"pyramid_height": 40}),
            "a pyramid_height of at least 1, and at most 31 (2^30 bins), got 40",
        ),
        (net((1, 4, 5, 5), "LRN", lrn_param={"local_size": 2**32 - 1}), f"a local_size of at most {MOST}"),
        (
            net((1, 4, 5, 5), "Convolution", convolution_param=CONVOLUTION | {"kernel_size": 2**31 - 1}),
            "exceeds INT_MAX",
        ),
    ],
)
def test_what_is_nothing_or_beyond_an_int_is_one_sentence(text, words, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(caffe.CaffeError) as caught:
        caffe.Net(str(path), caffe.TEST)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "layer 'it' (" in str(caught.value) or "INT_MAX" in words


@pytest.mark.parametrize(
    "text, layer",
    [
        (net((1000, 1000)), "layer 'data' (DummyData): expected "),
        (
            net((100, 100), "InnerProduct", inner_product_param={"num_output": 10_000}),
            "layer 'it' (InnerProduct): expected ",
        ),
        (net((1000, 10), "Tile", tile_param={"tiles": 1000}), "layer 'it' (Tile): expected a top "),
    ],
)
def test_a_blob_larger_than_memory_is_refused_before_it_is_made(text, layer, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_of, "memory", lambda: 2_000_000)
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(CaffeFileError) as caught:
        caffe.Net(str(path), caffe.TEST)
    assert str(caught.value).startswith(layer) and "that fits into 2,000,000 bytes of memory" in str(caught.value)


@pytest.mark.parametrize("region, reach", [("ACROSS_CHANNELS", 3), ("WITHIN_CHANNEL", 4)])
@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 101, MOST])
def test_a_window_wider_than_the_data_costs_no_more_and_has_its_own_divisor(region, reach, size, tmp_path):
    """Response normalisation as its definition has it: squares within the window, over the window's full size."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 2 } } }'
        f'layer {{ name: "lrn" type: "LRN" bottom: "data" top: "lrn" lrn_param {{ local_size: {size} alpha: 40 '
        f"beta: 0.75 norm_region: {region} }} }}"
    )
    loaded = caffe.Net(str(path), caffe.TEST)
    loaded.blobs["data"].data[...] = x
    found = loaded.forward()["lrn"]
    wanted = np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        r = size // 2
        if region == "ACROSS_CHANNELS":
            near, divisor = x[n, max(0, c - r) : c + r + 1, h, w], float(size)
        else:
            near, divisor = x[n, c, max(0, h - r) : h + r + 1, max(0, w - r) : w + r + 1], float(size) ** 2
        wanted[n, c, h, w] = x[n, c, h, w] / (1 + 40 / divisor * (near**2).sum()) ** 0.75
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_lack_of_memory_is_a_sentence_and_no_other_error_is(monkeypatch, capsys):
    said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (
        MemoryError("numpy's words"),
        RuntimeError(said),
        torch.OutOfMemoryError("CUDA out of memory"),
    ):

        def fail(flags, context, error=error):
            raise error

        monkeypatch.setitem(actions.ACTIONS, "time", fail)
        assert cli.main(["time"]) == cli.FATAL_STATUS
        assert f"not enough memory: {error}" in capsys.readouterr().err

    def broken(flags, context):
        raise RuntimeError("something else")

    monkeypatch.setitem(actions.ACTIONS, "time", broken)
    with pytest.raises(RuntimeError, match="something else"):
        cli.main(["time"])
