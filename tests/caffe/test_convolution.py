"""caffe.convolution: gradients of weights by matrix products, against sums over windows written out in numpy."""

import numpy as np
import pytest
import torch

import caffe
from caffe import convolution

# (images, channels, height, width), outputs, kernel, stride, pad, dilation, groups
GEOMETRIES = [
    ((3, 4, 1, 80), 6, (1, 3), (1, 1), (0, 1), (1, 1), 1),  # along rows, as in AudioNet
    ((3, 4, 1, 80), 6, (1, 3), (1, 1), (0, 1), (1, 1), 2),
    ((2, 3, 2, 70), 4, (1, 4), (1, 1), (0, 2), (1, 2), 1),
    ((2, 3, 1, 64), 4, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 2, 1, 70), 3, (1, 2), (1, 1), (0, 66), (1, 1), 1),  # whole windows of padding
    ((2, 3, 1, 80), 4, (1, 3), (1, 2), (0, 1), (1, 1), 1),  # in steps: no longer along rows
    ((2, 3, 1, 20), 4, (1, 3), (1, 1), (0, 1), (1, 1), 1),
    ((2, 1, 23, 23), 5, (11, 11), (4, 4), (0, 0), (1, 1), 1),  # AlexNet's first layer
    ((3, 4, 9, 7), 6, (5, 5), (1, 1), (2, 2), (1, 1), 2),
    ((3, 4, 6, 5), 2, (3, 2), (2, 1), (1, 0), (2, 3), 2),
    ((2, 3, 70, 3), 2, (3, 1), (1, 1), (1, 0), (1, 1), 1),
]


def by_windows(x, dy, kernel, stride, pad, dilation, group):
    """The gradient in float64, one weight after the other."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    outputs, channels = dy.shape[1], x.shape[1] // group
    weight = np.zeros((outputs, channels, *kernel))
    rows, columns = (np.arange(n) for n in dy.shape[2:])
    for o, c, a, b in np.ndindex(*weight.shape):
        seen = x[:, o // (outputs // group) * channels + c][:, rows * stride[0] + a * dilation[0]]
        seen = seen[:, :, columns * stride[1] + b * dilation[1]]
        weight[o, c, a, b] = (seen * dy[:, o]).sum()
    return weight


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 3000, 2**23])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_weight_gradient_is_the_sum_over_all_windows(monkeypatch, geometry, chunk_bytes, channels_last):
    monkeypatch.setattr(convolution, "CHUNK_BYTES", chunk_bytes)
    shape, outputs, kernel, stride, pad, dilation, group = geometry
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(shape[2:], pad, dilation, kernel, stride, strict=True)
    ]
    random = np.random.default_rng(4)
    x, dy = (random.integers(-3, 4, size).astype(np.float32) for size in (shape, (shape[0], outputs, *out)))
    wanted = by_windows(x, dy, kernel, stride, pad, dilation, group)
    form = torch.channels_last if channels_last else torch.contiguous_format
    given = [torch.from_numpy(array).contiguous(memory_format=form) for array in (x, dy)]
    found = convolution.weight_gradient(*given, kernel, stride, pad, dilation, group)
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    assert np.array_equal(found.numpy(), wanted)  # sums of small whole numbers are exact
    assert np.any(wanted)


def correlate(x, weight, stride, pad, dilation):
    """The convolution of images `x` in float64, one output position after the other."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad,) * 2, (pad,) * 2))
    reach = dilation * (weight.shape[2] - 1) + 1
    out = [(n - reach) // stride + 1 for n in x.shape[2:]]
    y = np.zeros((len(x), len(weight), *out))
    for i, j in np.ndindex(*out):
        window = x[:, :, i * stride : i * stride + reach : dilation, j * stride : j * stride + reach : dilation]
        y[:, :, i, j] = np.einsum("nchw,ochw->no", window, weight)
    return y


@pytest.mark.parametrize("channels", [1, 2])  # one channel may take a way of its own, which knows no dilation
@pytest.mark.parametrize("kernel, stride, pad, dilation", [(3, 1, 0, 2), (3, 2, 1, 2), (2, 1, 2, 3), (3, 2, 1, 1)])
def test_dilated_windows_of_one_channel(tmp_path, channels, kernel, stride, pad, dilation):
    path = tmp_path / "net.prototxt"
    path.write_text(f"""
        layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{
          dim: 3 dim: {channels} dim: 9 dim: 8 }} }} }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 4
          kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation} bias_term: false }} }}
        layer {{ name: "loss" type: "Reduction" bottom: "conv" top: "loss" loss_weight: 1 }}""")
    net = caffe.Net(str(path), caffe.TRAIN)
    random = np.random.default_rng(8)
    x, weight = net.blobs["data"].data, net.params["conv"][0].data
    for array in (x, weight):
        array[...] = random.integers(-3, 4, array.shape)
    net.forward()
    wanted = correlate(x, weight, stride, pad, dilation)
    assert np.array_equal(net.blobs["conv"].data, wanted) and np.any(wanted)
    net.backward()
    found = net.params["conv"][0].diff
    moved = np.zeros_like(weight)
    for place in np.ndindex(*weight.shape):  # the loss is linear in each weight
        moved[...] = 0
        moved[place] = 1
        assert found[place] == correlate(x, moved, stride, pad, dilation).sum()


NET = """
name: "both ways" force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 3 dim: 4 dim: 6 dim: 70 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 6 kernel_h: %(height)d kernel_w: 3 pad_w: 1 group: 2 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "loss" type: "Reduction" bottom: "conv" top: "loss" reduction_param { operation: SUMSQ } loss_weight: 1 }
"""


@pytest.mark.parametrize("height", [1, 3])
def test_layers_give_the_same_gradients_with_and_without_products(tmp_path, monkeypatch, height):
    path = tmp_path / "net.prototxt"
    path.write_text(NET % {"height": height})
    found = []
    for pays in (False, True):
        calls = []
        monkeypatch.setattr(convolution, "products_pay", lambda pays=pays: pays)
        monkeypatch.setattr(
            convolution,
            "weight_gradient",
            lambda *a, calls=calls, way=convolution.weight_gradient: calls.append(1) or way(*a),
        )
        net = caffe.Net(str(path), caffe.TRAIN)
        random = np.random.default_rng(6)
        for array in (net.blobs["data"].data, *(blob.data for blob in net.params["conv"])):
            array[...] = random.integers(-2, 3, array.shape)
        net.forward()
        net.backward()
        found.append([net.blobs["data"].diff.copy()] + [blob.diff.copy() for blob in net.params["conv"]])
        assert len(calls) == pays
    for plain, product in zip(*found, strict=True):
        assert np.array_equal(plain, product)
    assert np.any(found[0][0]) and np.any(found[0][1])
