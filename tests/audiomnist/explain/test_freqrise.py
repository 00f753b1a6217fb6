"""FreqRISE's published protocol, beside torch done as the authors' code does it, and Quantus."""

import numpy as np
import pytest
import torch

from audiomnist.explain import freqrise
from tests.oracles import quantus


def authors_way(x, domain, importance, share):
    """One waveform (T,) without a share of its values: transform, top k by torch.topk, zero, back."""
    data = torch.from_numpy(x)
    stft = {"n_fft": 455, "hop_length": 35, "window": torch.hann_window(455, periodic=False, dtype=torch.float64)}
    boxes = {"n_fft": 800, "hop_length": 800, "center": False, "window": torch.ones(800, dtype=torch.float64)}
    values = {
        "time": lambda: data.clone(),
        "frequency": lambda: torch.fft.rfft(data),
        "time-frequency": lambda: torch.stft(data, **stft, return_complex=True),
        "time-frequency, windows of 800": lambda: torch.stft(data, **boxes, return_complex=True).T,
    }[domain]()
    flat = torch.from_numpy(importance).flatten()
    gone = torch.zeros(flat.numel(), dtype=torch.bool)
    gone[torch.topk(flat, k=int(share * flat.numel())).indices] = True
    left = values * ~gone.view(values.shape)
    return {
        "time": lambda: left,
        "frequency": lambda: torch.fft.irfft(left),
        "time-frequency": lambda: torch.istft(left, **stft, length=len(x)),
        "time-frequency, windows of 800": lambda: torch.istft(left.T, **boxes, length=len(x)),
    }[domain]().numpy()


@pytest.mark.parametrize("domain", freqrise.DOMAINS)
@pytest.mark.parametrize("share", [0.0, 0.35, 0.95])
def test_what_is_left_is_what_the_authors_leave(domain, share):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8000))
    importance = rng.normal(size=freqrise.DOMAINS[domain].there(x).shape)
    found = freqrise.without(x, domain, importance, share)
    assert found.shape == x.shape
    for item in range(2):
        wanted = authors_way(x[item], domain, importance[item], share)
        np.testing.assert_allclose(found[item], wanted, rtol=0, atol=1e-9)
    if share:
        assert np.abs(found - x).max() > 0.5


def test_probabilities_are_softmaxes_of_the_true_class_and_the_areas_trapezoids():
    x = np.random.default_rng(1).normal(size=(3, 800))

    def forward(data):
        assert data.dtype == np.float32 and data.shape == (3, 1, 1, 800)
        return np.stack([np.zeros(3), np.abs(data).sum(axis=(1, 2, 3)) / 100], axis=1)

    labels = np.array([1, 1, 0])
    found = freqrise.probabilities(forward, x, labels, "time", lambda index: np.abs(x))
    assert found.shape == (3, 20) and freqrise.SHARES[-1] == pytest.approx(0.95)
    for item, share in ((0, 0), (2, 7)):
        kept = np.sort(np.abs(x[item]))[: 800 - int(freqrise.SHARES[share] * 800)]
        one = 1 / (1 + np.exp(-kept.sum() / 100))
        assert found[item, share] == pytest.approx(one if labels[item] else 1 - one, rel=1e-5)
    assert np.all(np.diff(found[0]) < 0) and np.all(np.diff(found[2]) > 0)


def test_complexity_is_quantus_entropy_of_what_is_positive():
    relevance = np.random.default_rng(2).normal(size=(3, 5, 40))
    relevance[1] = -np.abs(relevance[1])  # nothing speaks for it
    found = freqrise.complexity(relevance)
    for item in (0, 2):
        positive = np.maximum(relevance[item], 0).ravel()
        scaled = (positive - positive.min()) / np.ptp(positive)
        assert found[item] == pytest.approx(quantus().functions.complexity_func.entropy(a=scaled, x=scaled))
    assert found[1] == 0
