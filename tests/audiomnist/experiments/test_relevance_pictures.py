"""Figures, tables and sounds of the relevance experiments by what is in them, on relevance that is made up."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import audible_heatmaps, gender_hypothesis, spectrogram_relevance, waveform_relevance
from audiomnist.explain import audible
from audiomnist.study import relevance
from audiomnist.study.outcome import Outcome
from audiomnist.study.trained import Recordings
from lrp import Explanation, dft
from tests import figures

NAMES = ("01/AudioNet_3_01_0.hdf5", "12/AudioNet_5_12_7.hdf5")
LABELS = np.array([[3, 1], [5, 0]])


class Run(SimpleNamespace):
    """Stands for a trained run; its network explains everything by `relevance`."""

    def __init__(self, network=None):
        super().__init__(
            task=SimpleNamespace(classes=tuple("0123456789"), label="digit"),
            run=SimpleNamespace(task="digit"),
            setting=SimpleNamespace(seed=7),
            weights_sha256="f" * 64,
            label_column=0,
            provenance={"network": "AudioNet", "task": "digit", "split": 0},
            network=network,
        )


def recordings(*shape):
    return Recordings(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32), LABELS, NAMES)


def explanation(R, composite="flat", **more):
    scores = np.zeros((2, 10))
    scores[0, 4], scores[0, 3], scores[1, 5] = 5, 2, 4  # the first is taken for a four
    return Explanation(R, scores, scores[[0, 1], [3, 5]], scores.argmax(1), LABELS[:, 0], composite, {}, **more)


# --- waveforms -------------------------------------------------------------------------------------------------------
def test_what_cancels_is_not_drawn_and_the_rest_lies_on_the_grid():
    shown = recordings(1, 1, 8000)
    R = shown.data.astype(np.float64) ** 2  # of the first: the waveform's own energy
    quiet = np.arange(8000) % 100 != 0
    shown.data[1, 0, 0, quiet] *= 0.02  # two per cent, above the ridge
    R[1] = np.random.default_rng(1).normal(size=8000) + 0.01
    found = explanation(R)
    figure = waveform_relevance.draw(Run(), shown, found)
    figures.assert_looks(figure, "waveform_relevance")
    first, second = (row.get_axes() for row in figure.subfigs)
    bars, both = first[2], first[3]
    carried = dft.dft_relevance(shown.data[0].ravel(), R[0].ravel())
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights[:-1], carried[:-1].reshape(80, 50).sum(axis=1)[:-1], rtol=1e-9)
    np.testing.assert_allclose(sum(heights), carried.sum())
    assert [bars.patches[k].get_x() for k in (0, 1, 79)] == [-0.5, 49.5, 3949.5]
    assert bars.patches[79].get_x() + bars.patches[79].get_width() == 4000.5
    (image,) = both.get_images()
    low, high = image.get_clim()
    assert low == -high < 0 and image.origin == "lower"
    np.testing.assert_allclose(
        image.get_array(), dft.stdft_relevance(shown.data[0].ravel(), R[0].ravel(), "hann", 455, 35)
    )
    half = np.array([-17.5 / 8000, (229.5 * 35) / 8000, -4000 / 455, 227.5 * 8000 / 455])
    np.testing.assert_allclose(image.get_extent(), half)
    for axes in second[2:]:
        (text,) = axes.texts
        assert (
            text.get_text().startswith("not drawn: expected\nsum |R| / |sum R|\nbelow 10, got ")
            and not axes.get_images()
            and not axes.patches
        )
    kept = dft.kept_share(shown.data[0].ravel(), R[0].ravel())
    assert f"DFT-LRP keeps {kept:.0%} of |R|" in figure.subfigs[0]._suptitle.get_text()


def test_the_table_can_see_what_the_pictures_leave_out():
    """R over a waveform whose loud and quiet halves carry as much relevance: half of it stays behind; a sum would be
    right where R / x is noise."""
    x = np.ones((2, 1, 1, 8000), np.float32)
    x[:, ..., 4000:] = 1e-3  # a tenth of the ridge
    shown, R = Recordings(x, LABELS, NAMES), np.ones((2, 1, 1, 8000))
    outcome, frame = Outcome(), pd.DataFrame({"score": [1.0] * 4})
    made = {"flat": explanation(R, shared=(1, 3), note="loses some"), "plus": explanation(R[:, :, :, ::-1], "plus")}
    waveform_relevance.add_pictures(outcome, Run(), shown, made, frame)
    share = (1 / (1 + 0.01**2) + 1 / (1 + 10**2)) / 2  # d = 0.01 at loud samples of 1
    assert frame["dft_kept_share"].to_numpy() == pytest.approx(share, rel=1e-6)
    assert (frame["dft_cancellation"] >= 1).all() and (frame["stdft_cancellation"] >= 1).all()
    captions = [caption for _, caption in outcome.figures.values()]
    assert "flat; shared out within 3 samples (0.38 ms); loses some)" in captions[0] and "plus)" in captions[1]
    assert list(outcome.figures) == ["digit_flat", "digit_plus"]


# --- spectrograms ----------------------------------------------------------------------------------------------------
def test_every_row_shows_its_own_recording_under_every_composite():
    shown = recordings(1, 227, 227)
    made = {
        name: explanation(np.random.default_rng(seed).normal(size=shown.data.shape), name, shared=shared)
        for name, seed, shared in (("flat", 1, (11, 11)), ("plus", 2, (1, 1)))
    }
    figure = spectrogram_relevance.draw(Run(), shown, made)
    figures.assert_looks(figure, "spectrogram_relevance")
    for index, row in enumerate(figure.subfigs):
        own = row.get_axes()
        assert len(own) == 3
        for axes in own:
            np.testing.assert_array_equal(axes.get_images()[0].get_array(), shown.data[index, 0])
        for axes, one in zip(own[1:], made.values(), strict=True):
            R = one.relevance[index, 0]
            opacity = np.minimum(np.abs(R) / np.percentile(np.abs(R), 99.9), 1) ** 0.5
            np.testing.assert_allclose(np.asarray(axes.get_images()[1].get_array())[..., 3], opacity, atol=1e-9)
        assert own[1].get_title().endswith("\nshared out within 193 Hz x 48 ms") and "shared" not in own[2].get_title()


def test_every_condition_of_the_gender_experiment_has_a_panel(monkeypatch):
    shown, run = recordings(1, 227, 227), Run()
    run.task.classes = tuple("female" if index % 2 == 0 else "male" for index in range(10))
    made = {
        condition: explanation(np.random.default_rng(seed).normal(size=shown.data.shape))
        for seed, condition in enumerate(gender_hypothesis.CONDITIONS)
    }
    figures.assert_looks(gender_hypothesis.draw_examples(run, shown, made), "gender_examples")


def test_a_recording_and_its_sounds_stand_in_a_row():
    time = np.arange(8000) / 8000
    tones = {name: np.sin(2 * np.pi * hertz * time) for name, hertz in (("recording", 5), ("one", 3), ("other", 2))}
    signals = [{name: level * tone for name, tone in tones.items()} for level in (0.5, 1.0)]
    figures.assert_looks(audible_heatmaps.draw(signals, ["first", "second"]), "audible_heatmaps")
    alone = audible_heatmaps.draw(signals[1:], ["second"]).axes
    assert [axes.get_title() for axes in alone] == ["second\nrecording", "one", "other"]
    assert all(axes.get_xlabel() == "time (s)" for axes in alone)


# --- tables and sentences --------------------------------------------------------------------------------------------
def test_the_table_tells_the_prediction_from_the_target():
    frame = relevance.table(Run(), recordings(1, 1, 50), {"flat": explanation(np.ones((2, 1, 1, 50)))})
    assert frame["target"].tolist() == ["3", "5"] and frame["prediction"].tolist() == ["4", "5"]
    assert frame["sum_over_score"].tolist() == [25, 12.5]


def test_the_sentence_about_conservation():
    frame = pd.DataFrame(
        {
            "network": "AudioNet",
            "task": "digit",
            "composite": ["a", "a", "a", "b"],
            "sum_over_score": [0.5, 0.75, 1.25, 1.0],
            "target": list("1111"),
            "prediction": list("1211"),
        }
    )
    assert relevance.conservation(frame) == [
        "AudioNet on digit, a: sum(R)/score from 0.500 to 1.250; 2 of 3 recordings recognised.",
        "AudioNet on digit, b: sum(R)/score from 1.000 to 1.000; 1 of 1 recordings recognised.",
    ]


# --- sounds ----------------------------------------------------------------------------------------------------------
def test_sounds_are_what_their_names_say(monkeypatch):
    shown = recordings(1, 1, 8000)
    R = np.random.default_rng(3).normal(size=(2, 1, 1, 8000))

    def explain(data, targets, composite):
        index = [n for n in range(2) if np.array_equal(data[0], shown.data[n])][0] if len(data) == 1 else slice(None)
        whole = explanation(R)
        return whole if len(data) == 2 else SimpleNamespace(relevance=R[index : index + 1])

    run = Run(SimpleNamespace(relevance=explain))
    run.examples = lambda: shown
    monkeypatch.setattr(audible_heatmaps, "first_runs", lambda setting, network: [run])
    outcome = audible_heatmaps.make(SimpleNamespace(composites=("flat",)))
    assert len(outcome.sounds) == 6
    for index, stem in enumerate(("digit_3_01_0", "digit_5_12_7")):
        x = shown.data[index].ravel().astype(np.float64)
        for name, formula in (("relu_R_times_x", "relu(R)*x"), ("relu_x_times_R", "relu(x)*R")):
            wanted = audible.wav_bytes(audible.of_waveform(x, R[index], formula))
            assert outcome.sounds[f"{stem}_{name}"][0] == wanted
        assert outcome.sounds[f"{stem}_recording"][0] == audible.wav_bytes(audible.normalised(x))
    # noise throughout: the active part is nearly all, and all of them are equally loud
    assert outcome.tables["sounds"]["rms"].to_numpy() == pytest.approx(audible.LEVEL, rel=0.01)
