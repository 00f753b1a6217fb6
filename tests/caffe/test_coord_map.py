"""Coordinate maps: the original's results (golden/pycaffe), and the alignment that a crop promises."""

import json
from pathlib import Path

import numpy as np
import pycaffe_cases
import pytest

import caffe
from caffe import layers as L
from caffe.coord_map import coord_map_from_to, crop

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/pycaffe/texts.json").read_text())["coord_map"]


@pytest.mark.parametrize("name", pycaffe_cases.coord_cases())
def test_result_is_the_originals(name):
    assert pycaffe_cases.coord_result(pycaffe_cases.coord_cases()[name]) == GOLDEN[name]


def test_cases_cover_every_outcome():
    kinds = {case.get("raises", "crop") for case in GOLDEN.values() if isinstance(case, dict)}
    assert kinds == {"AssertionError", "AxisMismatchException", "KeyError", "RuntimeError", "crop"}


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_map_is_the_centre_of_the_window(kernel, stride, pad, dilation):
    """Output y looks at the inputs y * stride - pad + dilation * (0 .. kernel - 1); the map gives their mean."""
    data = L.Input()
    conv = L.Convolution(data, num_output=1, kernel_size=kernel, stride=stride, pad=pad, dilation=dilation)
    axis, a, b = coord_map_from_to(conv, data)
    for y in range(4):
        window = [y * stride - pad + dilation * k for k in range(kernel)]
        np.testing.assert_allclose(a * y + b, np.mean(window))
    # a Deconvolution of the same geometry spreads the other way
    up = L.Deconvolution(
        data,
        convolution_param={"num_output": 1, "kernel_size": kernel, "stride": stride, "pad": pad, "dilation": dilation},
    )
    assert coord_map_from_to(data, up) == (axis, a, b)


def test_split_geometry_is_refused():
    data = L.Input()
    with pytest.raises(AssertionError, match="kernel_h, kernel_w"):
        coord_map_from_to(L.Convolution(data, num_output=1, kernel_h=3, kernel_w=3), data)


def test_crop_without_spatial_layers_crops_at_the_origin():
    data = L.Input()
    layer = caffe.to_proto(crop(data, L.ReLU(data))).layer[-1]
    assert layer.type == "Crop" and layer.crop_param.axis == 2 and list(layer.crop_param.offset) == [0]
