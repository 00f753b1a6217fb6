"""caffe.fusion: the same numbers, bit for bit where sums are exact, with the work of several layers done at once."""

import numpy as np
import pytest

import caffe
from caffe.fusion import fuse
from caffe.plan import Plan, free_memory

NET = """
name: "fusable" force_backward: %(down)s
layer { name: "in" type: "Input" top: "data" input_param {
  shape { dim: 5 dim: %(channels)d dim: %(height)d dim: %(width)d } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: %(weight_lr)d } param { lr_mult: %(lr)d }
  convolution_param { num_output: 6 kernel_h: %(kernel)d kernel_w: 3 pad_w: %(pad)d group: %(group)d
  bias_term: %(bias)s weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param { negative_slope: %(slope)s } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: %(pool)s
  kernel_h: 1 kernel_w: %(window)d stride_h: %(stride_h)d stride_w: %(stride)d pad_w: %(pool_pad)d } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 4 kernel_h: 1
  kernel_w: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc" inner_product_param { num_output: 5
  weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 }
"""
USUAL = {
    "channels": 1,
    "height": 1,
    "width": 23,
    "kernel": 1,
    "pad": 1,
    "group": 1,
    "pool": "MAX",
    "window": 3,
    "stride": 2,
    "stride_h": 1,
    "pool_pad": 0,
    "slope": "0",
    "bias": "true",
    "lr": 1,
    "weight_lr": 1,
    "down": "false",
}
GEOMETRIES = [
    {},  # AudioNet's first layers
    {"width": 22},
    {"width": 24, "pad": 0},
    {"window": 2},
    {"window": 2, "width": 22},
    {"window": 4, "stride": 1},
    {"window": 5, "stride": 2},
    {"window": 7, "stride": 3},
    {"stride": 3},
    {"window": 2, "stride": 3},
    {"bias": "false", "lr": 0},
    {"lr": 0},
    {"weight_lr": 0},
    {"weight_lr": 0, "channels": 2},
    {"weight_lr": 0, "channels": 2, "down": "true"},
    {"pool_pad": 1},
    {"down": "true"},
    {"height": 4},
    {"height": 4, "kernel": 2},
    {"channels": 2, "window": 2},
    {"channels": 2, "window": 2, "width": 24},
    {"window": 3, "stride": 3, "width": 24},
    {"channels": 2, "window": 3, "stride": 3, "width": 24, "down": "true"},
    {"channels": 2, "window": 1, "stride": 1},
    {"channels": 2, "height": 3, "window": 2, "width": 24, "down": "true"},
    {"window": 1, "stride": 1},
    {"channels": 2, "window": 2, "stride_h": 2, "width": 24, "down": "true"},
    {"channels": 2, "height": 3, "window": 2, "stride_h": 2, "width": 24},
    {"channels": 2, "group": 2},
    {"channels": 2, "height": 3, "kernel": 2, "down": "true"},
    {"channels": 2, "window": 2, "pool_pad": 1},
    {"pool": "AVE"},
    {"channels": 2, "pool": "AVE", "down": "true"},
    {"slope": "0.5"},
    {"slope": "-1", "channels": 2, "down": "true"},
]


def passes(path, fused, fill, phase=caffe.TRAIN):
    """(outputs, input gradient and parameter gradients of one forward and backward pass, plan); fill(random, array)."""
    caffe.set_random_seed(3)
    net = caffe.Net(str(path), phase)
    plan = fuse(net.plan) if fused else net.plan
    random = np.random.default_rng(5)
    arrays = [net.blobs["data"].data] + [blob.data for blobs in net.params.values() for blob in blobs]
    for array in arrays:
        fill(random, array)
    net.blobs["data"].data[1, ..., 5:] = 0  # silence: all windows are ties
    plan.forward()
    assert np.isfinite(net.blobs["loss"].data)
    plan.backward()
    grads = [blob.diff.copy() for blobs in net.params.values() for blob in blobs]
    return [net.blobs["fc"].data.copy(), net.blobs["data"].diff.copy(), *grads], plan


def whole(random, array):
    """Small whole numbers: every sum is exact in float32, whatever its order, and equal candidates abound."""
    array[...] = random.integers(-2, 3, array.shape)


def real(random, array):
    array[...] = random.standard_normal(array.shape)


def write(folder, changes):
    path = folder / "net.prototxt"
    text = NET % {**USUAL, **changes}
    if changes.get("bias") == "false":
        text = text.replace("param { lr_mult: 0 }", "")
    path.write_text(text)
    return path


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 2**23])
@pytest.mark.parametrize("changes", GEOMETRIES, ids=str)
def test_fused_passes_give_the_same_numbers(tmp_path, monkeypatch, changes, chunk_bytes):
    monkeypatch.setattr("caffe.convolution.CHUNK_BYTES", chunk_bytes)
    path = write(tmp_path, changes)
    plain, _ = passes(path, False, whole)
    fused, _ = passes(path, True, whole)
    for a, b in zip(plain, fused, strict=True):
        assert np.array_equal(a, b)
    assert np.any(plain[0]) and np.any(plain[4])


@pytest.mark.parametrize("changes", GEOMETRIES, ids=str)
def test_fused_passes_of_real_numbers_differ_by_rounding(tmp_path, changes):
    path = write(tmp_path, changes)
    for a, b in zip(passes(path, False, real)[0], passes(path, True, real)[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-6 * np.abs(a).max())


@pytest.mark.parametrize("window, pad", [(3, 0), (5, 2)])
def test_winners_of_large_images_are_found_again(tmp_path, window, pad):
    """More positions in an image than a small integer counts, and winners in its last rows."""
    path = tmp_path / "net.prototxt"
    path.write_text(f"""force_backward: true
        layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 2 dim: 202 dim: 201 }} }} }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 2
          kernel_size: 3 bias_term: false weight_filler {{ type: "gaussian" std: 1 }} }} }}
        layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
        layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "fc" pooling_param {{ pool: MAX
          kernel_size: {window} stride: 2 pad: {pad} }} }}
        layer {{ name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 }}""")
    plain, fused = passes(path, False, whole), passes(path, True, whole)
    assert "forward  conv + relu + pool (block)" in lines(fused[1])
    for a, b in zip(plain[0], fused[0], strict=True):
        assert np.array_equal(a, b)
    assert np.any(plain[0][1][:, :, -20:])  # gradients arrive far beyond the 32,768th position


def lines(plan):
    return str(plan).splitlines()


def test_which_layers_form_a_block(tmp_path):
    for changes, kind in (
        ({}, "single-channel block"),
        ({"channels": 2}, "block"),
        ({"down": "true"}, "block"),
        ({"window": 2}, "single-channel block"),
    ):
        plan = passes(write(tmp_path, changes), True, real)[1]
        assert f"forward  conv1 + relu1 + pool1 ({kind})" in lines(plan), changes
        assert f"backward conv1 + relu1 + pool1 ({kind})" in lines(plan), changes
        assert not any(line.split()[1] in ("relu1", "pool1") for line in lines(plan))
    side_by_side = lines(passes(write(tmp_path, {"channels": 2, "window": 2}), True, real)[1])
    assert "forward  conv1 (Convolution) + relu1" in side_by_side
    assert "backward pool1 (Pooling) + relu1" in side_by_side and "backward conv1 (Convolution)" in side_by_side
    for changes in (
        {"slope": "0.5"},
        {"slope": "0.5", "channels": 2},
    ):  # only a ReLU that makes zeros is done by others
        leaky = lines(passes(write(tmp_path, changes), True, real)[1])
        for direction in ("forward ", "backward"):
            assert f"{direction} relu1 (ReLU)" in leaky and f"{direction} conv1 (Convolution)" in leaky
            assert f"{direction} pool1 (Pooling)" in leaky
    average = lines(passes(write(tmp_path, {"pool": "AVE"}), True, real)[1])
    assert "forward  conv1 (Convolution) + relu1" in average and "backward relu1 (ReLU)" in average
    assert "forward  conv2 (Convolution) + relu2" in average and "backward relu2 (ReLU)" in average


def test_plans_leave_the_net_and_each_other_as_they_are(tmp_path):
    net = caffe.Net(str(write(tmp_path, {})), caffe.TRAIN)
    layers, plain = list(net.layers), lines(net.plan)
    assert plain == [f"forward  {name} ({layer.type})" for name, layer in net.layer_dict.items()] + [
        f"backward {name} ({layer.type})" for name, layer in reversed(net.layer_dict.items()) if name != "in"
    ]
    fused = fuse(net.plan)
    shown = lines(fused)
    freed = lines(free_memory(fused))
    assert [line for line in freed if not line.startswith("release")] == shown != plain
    assert "release  values and gradients of pool1, what pool1 kept" in freed
    assert "release  values and gradients of conv1" in freed and not any("relu1 kept" in line for line in freed)
    assert lines(fused) == shown and lines(net.plan) == plain and list(net.layers) == layers
    assert list(net.params) == ["conv1", "conv2", "fc"] and net.layers[1].type == "Convolution"
    assert lines(Plan.of(net)) == plain


SHARED = """
name: "shared"
layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 3 dim: 2 dim: 4 dim: 5 }
  shape { dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 2
  weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 4
  weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "fd" type: "InnerProduct" bottom: "pool" top: "fd" inner_product_param { num_output: 4
  weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "fd" top: "sum" }
layer { name: "accuracy" type: "Accuracy" bottom: "sum" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_memory_given_back_changes_no_number(tmp_path, phase):
    path = tmp_path / "net.prototxt"
    path.write_text(SHARED)
    found = []
    for freed in (False, True):
        caffe.set_random_seed(3)
        net = caffe.Net(str(path), phase)
        plan = free_memory(net.plan) if freed else net.plan
        random = np.random.default_rng(7)
        net.blobs["data"].data[...] = random.standard_normal(net.blobs["data"].data.shape)
        net.blobs["label"].data[...] = [0, 3, 1]
        for _ in range(2):  # the second pass meets what the first left behind
            net.clear_param_diffs()
            plan.forward()
            if phase == caffe.TRAIN:
                plan.backward()
        scores = [values for _, _, values in net.output_scores()]
        found.append(scores + [blob.diff.copy() for blobs in net.params.values() for blob in blobs])
    for plain, given_back in zip(*found, strict=True):
        assert np.array_equal(plain, given_back)
    assert found[0][1][0] > 0
