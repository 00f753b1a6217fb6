"""The study in miniature answers as it says: a test that counts on it would otherwise see nothing."""

import numpy as np
import pytest

from audiomnist.study.setting import Setting
from audiomnist.study.trained import trained_runs
from tests.small_study import ACCURACY, ANSWERS, DIGITS, RUNS

TRUTH = {"digit": [*DIGITS] * 2, "gender": [0] * len(DIGITS) + [1] * len(DIGITS)}


@pytest.fixture(scope="module", params=RUNS, ids=str)
def run(request, small_study):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")
    return trained_runs(setting, request.param.network, request.param.task)[0]


def test_every_network_answers_as_listed_and_as_often_right_as_its_log_says(run):
    recordings = run.read(run.listed())
    assert recordings.names == tuple(f"{s}/{run.run.network}_{d}_{s}_0.hdf5" for s in ("05", "06") for d in DIGITS)
    scores = run.scores()(recordings.data)
    first, second = np.sort(scores, axis=1)[:, -1], np.sort(scores, axis=1)[:, -2]
    assert scores.argmax(axis=1).tolist() == list(ANSWERS[str(run.run)])
    assert (first - second).min() > 1, "rounding must not change an answer"
    right = scores.argmax(axis=1) == TRUTH[run.run.task]
    assert right.mean() == ACCURACY[run.run.network]


def test_answers_are_mixed_and_some_wrong():
    for run in RUNS:
        answers = np.array(ANSWERS[str(run)])
        assert len(set(answers)) >= (2 if run.task == "gender" else 4)
        assert (answers != TRUTH[run.task]).any()


def on_scaled_axis(spectrogram, factor):
    """One (F, T) with what was at bin k at factor * k, silence beyond: nothing of the experiment's."""
    bins = np.arange(len(spectrogram))
    return np.stack([np.interp(bins / factor, bins, c, right=spectrogram.min()) for c in spectrogram.T], axis=1)


def test_a_scaled_frequency_axis_changes_answers_of_either_gender_by_the_factor(small_study):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")
    (run,) = trained_runs(setting, "AlexNet", "gender")
    data, scores = run.read(run.listed()).data, run.scores()
    answers = {}
    for factor in (0.66, 1, 1.5):
        scaled = np.stack([on_scaled_axis(item[0], factor)[None] for item in data]).astype(np.float32)
        made = scores(scaled)
        assert np.abs(made[:, 0] - made[:, 1]).min() > 0.1, "rounding must not change an answer"
        answers[factor] = made.argmax(axis=1)
    for speaker in (slice(0, len(DIGITS)), slice(len(DIGITS), None)):
        counts = [int(answers[factor][speaker].sum()) for factor in answers]
        assert len(set(counts)) == 3, counts


@pytest.mark.parametrize("network", ["AlexNet", "AudioNet"])
def test_silence_changes_answers(small_study, network):
    setting = Setting(small_study / "data", small_study / "preprocessed", small_study / "runs")
    for run in trained_runs(setting, network):
        data = run.read(run.listed()).data
        halved = data.copy()
        halved[..., : data.shape[-1] // 2] = data.min() if network == "AlexNet" else 0
        assert (run.scores()(halved).argmax(axis=1) != ANSWERS[str(run.run)]).any()
