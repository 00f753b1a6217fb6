"""Fillers: moments, bounds, fans and seeds (bilinear and constant weights are compared in tests/parity/cases.py)."""

import math

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from scipy import stats

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.fillers import FILLERS, fill
from caffe_proto import caffe_pb2

SHAPE = (64, 50, 5, 3)  # fan_in 750, fan_out 960, 48,000 elements
FAN = {"FAN_IN": 750, "FAN_OUT": 960, "AVERAGE": 855}
P_VALUE = 1e-4  # seeds are fixed: a right filler passes always


def filled(text, shape=SHAPE, seed=1):
    blob = Blob(shape)
    fill(blob, text_format.Parse(text, caffe_pb2.FillerParameter()), torch.Generator().manual_seed(seed))
    return blob.data.astype(np.float64)


# text -> (frozen scipy distribution the elements are drawn from)
DISTRIBUTIONS = {
    'type: "uniform"': stats.uniform(0, 1),
    'type: "uniform" min: -0.25 max: 3': stats.uniform(-0.25, 3.25),
    'type: "gaussian"': stats.norm(0, 1),
    'type: "gaussian" mean: -2 std: 0.01': stats.norm(-2, 0.01),
    'type: "xavier"': stats.uniform(-math.sqrt(3 / 750), 2 * math.sqrt(3 / 750)),
    'type: "msra"': stats.norm(0, math.sqrt(2 / 750)),
    **{
        f'type: "xavier" variance_norm: {n}': stats.uniform(-math.sqrt(3 / f), 2 * math.sqrt(3 / f))
        for n, f in FAN.items()
    },
    **{f'type: "msra" variance_norm: {n}': stats.norm(0, math.sqrt(2 / f)) for n, f in FAN.items()},
}


@pytest.mark.parametrize("text", DISTRIBUTIONS)
def test_distribution(text):
    values, distribution = filled(text), DISTRIBUTIONS[text]
    low, high = distribution.support()
    assert values.min() >= low - 1e-6
    assert values.max() <= high + 1e-6
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > P_VALUE
    # elements are independent: neighbours along every axis are not correlated
    for axis in range(values.ndim):
        rolled = np.roll(values, 1, axis)
        assert abs(np.corrcoef(values.ravel(), rolled.ravel())[0, 1]) < 5 / math.sqrt(values.size)


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [((4000,), 1, 4000), ((40, 1000), 1000, 40), ((20, 30, 7), 210, 140), ((10, 8, 3, 3, 3), 216, 270)],
)
def test_fans_of_other_shapes(shape, fan_in, fan_out):
    for norm, fan in (("FAN_IN", fan_in), ("FAN_OUT", fan_out), ("AVERAGE", (fan_in + fan_out) / 2)):
        values = filled(f'type: "xavier" variance_norm: {norm}', shape)
        bound = math.sqrt(3 / fan)
        assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("sparse", [0, 3, 16, 64])
def test_sparse_gaussian_keeps_a_share(sparse):
    values = filled(f'type: "gaussian" sparse: {sparse}')
    share = sparse / SHAPE[0]
    assert abs((values != 0).mean() - share) <= 5 * math.sqrt(share * (1 - share) / values.size)
    if sparse:
        assert stats.kstest(values[values != 0], stats.norm(0, 1).cdf).pvalue > P_VALUE


@pytest.mark.parametrize("shape", [SHAPE, (7, 400), (3, 5, 40)])
def test_positive_unitball(shape):
    values = filled('type: "positive_unitball"', shape).reshape(shape[0], -1)
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)
    assert values.min() >= 0
    # before the division the elements were uniform: scaled to their largest they nearly are again
    assert stats.kstest(values[0] / values[0].max(), stats.uniform(0, 1).cdf).pvalue > P_VALUE


def test_constant():
    assert (filled("value: 0.1") == np.float32(0.1)).all()
    assert (filled('type: "constant"') == 0).all()


@pytest.mark.parametrize("name", sorted(set(FILLERS) - {"constant", "bilinear"}))
def test_a_seed_gives_the_same_weights(name):
    text = f'type: "{name}"'
    np.testing.assert_array_equal(filled(text), filled(text))
    assert (filled(text, seed=2) != filled(text)).any()


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            'type: "glorot"',
            (2, 3),
            "Unknown filler name: glorot (known fillers: bilinear, constant, gaussian, msra, "
            "positive_unitball, uniform, xavier)",
        ),
        ('type: "gaussian" std: 0', (2, 3), "expected a positive std, got 0"),
        ('type: "uniform" sparse: 2', (2, 3), "Sparsity not supported by this Filler (uniform)."),
        ('type: "uniform"', (2, 0), "expected a blob with elements to fill"),
        ('type: "bilinear"', (2, 3, 4, 5), "expected 4 axes and a square kernel, got shape (2, 3"),
        ('type: "bilinear"', (2, 3), "expected 4 axes and a square kernel, got shape (2, 3"),
        ('type: "positive_unitball"', (), "expected at least one axis, got a scalar"),
    ],
)
def test_refusals(text, shape, message):
    with pytest.raises(CaffeError) as error:
        filled(text, shape)
    assert message in str(error.value)
