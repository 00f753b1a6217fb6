"""Perturbation curves on models whose use of the input is known."""

import csv

import numpy as np
import pytest

from audiomnist.explain import faithfulness
from lrp import LRPError


def batch(count=40, seed=0):
    """Inputs (N, 1, 1, 20) and a linear two-class model that uses samples 0..4 alone, with its true relevance."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 1, 1, 20))
    x[..., 5:] *= 10  # the loud part does not matter
    weight = np.zeros(20)
    weight[:5] = 1

    def forward(x):
        value = x[:, 0, 0] @ weight
        return np.stack([-value, value], axis=1)

    labels = forward(x).argmax(axis=1)
    return x, labels, forward, x * weight * np.where(labels, 1, -1)[:, None, None, None]


def test_deletion_by_hand():
    x = np.array([[3.0, -1.0, 2.0, -5.0], [1.0, 2.0, -3.0, 4.0]]).reshape(2, 1, 1, 4)
    order = np.array([[4, 3, 2, 1], [0, 5, 5, 1]], float).reshape(x.shape)
    found = faithfulness.deletion(x, order, 0.5)
    assert found.ravel().tolist() == [0, 0, 2, -5, 1, 0, 0, 4]
    decibels = -np.abs(x) - 1
    assert faithfulness.deletion(decibels, order, 0.25).ravel().tolist() == [-6, -2, -3, -6, -2, -5, -4, -5]
    np.testing.assert_array_equal(faithfulness.deletion(x, order, 0.0), x)
    assert not faithfulness.deletion(x, order, 1.0).any()


def test_true_relevance_falls_fastest():
    x, labels, forward, relevance = batch()
    made = faithfulness.compare(forward, x, labels, {"true": relevance, "wrong": -relevance})
    curves = {one.order: one for one in made}
    assert all(one.accuracy[0] == 1 for one in curves.values())
    assert curves["true"].area < curves["random"].area < curves["wrong"].area
    assert curves["true"].area < curves["amplitude"].area
    assert curves["random"].spread.max() > 0 and curves["true"].spread.max() == 0
    # after a third what spoke for the class is gone, what speaks against it is left; at the end the first class wins
    third = faithfulness.SHARES.index(0.3)
    assert curves["true"].accuracy[third] < 0.1
    assert curves["true"].accuracy[-1] == pytest.approx(np.mean(labels == 0))


def test_area_is_the_trapezoid():
    one = faithfulness.Curve("a", np.array([0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]), np.zeros(3))
    assert one.area == 0.5
    with pytest.raises(LRPError, match="shares"):
        faithfulness.curve(None, np.zeros((1, 1, 1, 2)), [0], [], "x", (0.5, 0.2))


def test_table_and_picture(tmp_path):
    x, labels, forward, relevance = batch(10)
    curves = faithfulness.compare(forward, x, labels, {"true": relevance}, seeds=(0, 1))
    faithfulness.write_csv(tmp_path / "c.csv", curves)
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(faithfulness.SHARES)
    assert float(rows[0]["accuracy"]) == curves[0].accuracy[0] and rows[0]["order"] == "true"
    assert faithfulness.draw(curves).axes[0].get_legend() is not None
