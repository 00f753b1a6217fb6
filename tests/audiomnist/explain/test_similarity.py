"""Likeness and complexity of explanations beside scipy, scikit-image and Quantus."""

import numpy as np
import pytest
import scipy.stats
import skimage.metrics

from audiomnist.explain import similarity
from tests.oracles import quantus


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape)
    return a, 0.5 * a + rng.normal(size=shape)


@pytest.mark.parametrize("shape", [(3, 1, 20, 23), (2, 1, 1, 60), (2, 2, 9, 8)])
def test_ssim_equals_scikit_image(shape):
    a, b = map(np.abs, pair(shape))
    found = similarity.ssim(a, b)
    for item in range(len(a)):
        channels = zip(a[item] / a[item].max(), b[item] / b[item].max(), strict=True)
        wanted = [
            skimage.metrics.structural_similarity(np.squeeze(x), np.squeeze(y), win_size=7, data_range=1)
            for x, y in channels
        ]
        assert found[item] == pytest.approx(np.mean(wanted), abs=1e-9)
    np.testing.assert_allclose(similarity.ssim(a, 3 * a), 1)


def test_ssim_equals_quantus():
    a, b = map(np.abs, pair((2, 1, 20, 23)))
    a[..., 0, 0] = 0  # Quantus takes the joint range of both as the range of the data: make it 0 to 1, as here
    found = similarity.ssim(a, b)
    for item in range(2):
        x, y = a[item, 0] / a[item].max(), b[item, 0] / b[item].max()
        assert found[item] == pytest.approx(quantus().functions.similarity_func.ssim(a=x, b=y), abs=1e-9)


def test_rank_correlation_equals_scipys_and_quantus_where_something_sounds():
    a, b = np.round(pair((4, 1, 6, 30)), 1)  # with ties
    where = np.random.default_rng(1).random(a.shape) < 0.7
    found = similarity.rank_correlation(a, b, where)
    theirs = quantus().functions.similarity_func.correlation_spearman
    for item in range(4):
        own, other = a[item][where[item]], b[item][where[item]]
        assert found[item] == pytest.approx(scipy.stats.spearmanr(own, other).statistic)
        assert found[item] == pytest.approx(theirs(a=own, b=other))
    silent = np.zeros((1, 1, 1, 8))
    assert np.isnan(similarity.rank_correlation(silent, silent, silent == 0)).all()


def test_padding_is_no_agreement():
    a, b = pair((1, 1, 1, 1000))
    a[..., 100:] = b[..., 100:] = 0
    everywhere = similarity.rank_correlation(np.abs(a), np.abs(b), np.ones(a.shape, bool))
    assert everywhere > 0.9 > similarity.rank_correlation(np.abs(a), np.abs(b), a != 0) + 0.2


def test_entropy_equals_quantus():
    a = np.abs(pair((3, 1, 5, 80))[0])
    theirs = quantus().functions.complexity_func.discrete_entropy
    wanted = [theirs(a=one, x=one, n_bins=similarity.BINS) for one in a]
    np.testing.assert_allclose(similarity.histogram_entropy(a), wanted)
    assert similarity.histogram_entropy(np.ones((1, 4))) == 0
    spread = np.repeat(np.arange(similarity.BINS), 3)[None]  # as many in every bin
    np.testing.assert_allclose(similarity.histogram_entropy(spread), np.log(similarity.BINS))


def test_cosine():
    a = np.array([[1.0, 0], [1, 1], [0, 0], [1, 2]])
    b = np.array([[0.0, 2], [-3, -3], [1, 1], [2, 4]])
    np.testing.assert_allclose(similarity.cosine(a, b), [0, -1, np.nan, 1], atol=1e-12)
