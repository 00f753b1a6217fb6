"""caffe.fusion: the same numbers, bit for bit, with the work of ReLUs moved to their neighbours."""

import numpy as np
import pytest

import caffe
from caffe.fusion import fuse

NET = """
name: "fusable" force_backward: true
layer { name: "in" type: "Input" top: "data" input_param {
  shape { dim: 3 dim: %(channels)d dim: %(height)d dim: 23 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 6
  kernel_h: %(kernel)d kernel_w: 3 pad_w: 1 group: %(group)d weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: %(pool)s
  kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 4 kernel_h: 1
  kernel_w: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc" inner_product_param { num_output: 5
  weight_filler { type: "gaussian" std: 0.5 } } }
"""


def passes(path, fused):
    """Outputs, input gradient and parameter gradients of one forward and backward pass from fixed seeds."""
    caffe.set_random_seed(3)
    net = caffe.Net(str(path), caffe.TRAIN)
    if fused:
        fuse(net)
    random = np.random.default_rng(5)
    net.blobs["data"].data[...] = random.standard_normal(net.blobs["data"].data.shape)
    out = net.forward()["fc"].copy()
    net.blobs["fc"].diff[...] = random.standard_normal(out.shape)
    net.backward()
    grads = [blob.diff.copy() for blobs in net.params.values() for blob in blobs]
    return [out, net.blobs["data"].diff.copy(), *grads], net


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("channels, height, kernel, group", [(1, 1, 1, 1), (1, 4, 2, 1), (2, 3, 2, 2)])
def test_fused_passes_are_bit_identical(tmp_path, channels, height, kernel, group, pool):
    path = tmp_path / "net.prototxt"
    path.write_text(NET % {"channels": channels, "height": height, "kernel": kernel, "group": group, "pool": pool})
    plain, _ = passes(path, False)
    fused, net = passes(path, True)
    assert net.layer_dict["relu1"].rectified and net.layer_dict["relu2"].rectified
    assert net.layer_dict["relu1"].masked == (pool == "MAX") and not net.layer_dict["relu2"].masked
    for a, b in zip(plain, fused, strict=True):
        assert np.array_equal(a, b)
        assert np.any(a)


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
    for frugal in (False, True):
        caffe.set_random_seed(3)
        net = caffe.Net(str(path), phase)
        net.frugal = frugal
        random = np.random.default_rng(7)
        net.blobs["data"].data[...] = random.standard_normal(net.blobs["data"].data.shape)
        net.blobs["label"].data[...] = [0, 3, 1]
        for _ in range(2):  # the second pass meets what the first left behind
            net.clear_param_diffs()
            net.forward_tensors()
            if phase == caffe.TRAIN:
                net.run_backward()
        scores = [values for _, _, values in net.output_scores()]
        found.append(scores + [blob.diff.copy() for blobs in net.params.values() for blob in blobs])
    for plain, given_back in zip(*found, strict=True):
        assert np.array_equal(plain, given_back)
    assert found[0][1][0] > 0
