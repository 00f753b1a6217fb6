"""The relevance experiments on networks written by hand, whose scores and relevance are computed here from the weights:
every number of their tables and sentences, and what is drawn."""

import hashlib
import io
import re
import wave

import numpy as np
import pytest

from audiomnist.experiments import audible_heatmaps, spectrogram_relevance, waveform_relevance
from audiomnist.study.setting import Setting
from tests import figures
from tests.hand_network import read_input, write_run

SIZES = {"AlexNet": 227 * 227, "AudioNet": 8000}
CLASSES = {"digit": [str(k) for k in range(10)], "gender": ["male", "female"]}
COMPOSITES = ("epsilon_plus", "epsilon_plus_flat")
BIAS = 0.25


class Hand:
    """One run with weights drawn sparse: what must come out for a recording."""

    def __init__(self, study, folder, network, task):
        self.study, self.network, self.task = study, network, task
        classes = len(CLASSES[task])
        rng = np.random.default_rng([SIZES[network], classes])
        self.weights = rng.normal(size=(classes, SIZES[network])) / np.sqrt(SIZES[network])
        self.weights *= rng.random(self.weights.shape) < 0.2  # most values have no relevance
        self.weights = self.weights.astype(np.float32).astype(np.float64)
        self.bias = np.full(classes, BIAS)
        self.folder = write_run(study, folder, f"{network}_{task}_0", self.weights, self.bias)

    def truth(self, recording):
        digit, speaker, _ = recording.split("_")
        return int(digit) if self.task == "digit" else {"05": 0, "06": 1}[speaker]

    def scores(self, recording):
        return self.weights @ read_input(self.study, self.network, recording) + self.bias

    def relevance(self, recording, composite):
        x, target = read_input(self.study, self.network, recording), self.truth(recording)
        if composite == "epsilon_plus_flat":
            return np.full(x.size, self.scores(recording)[target] / x.size)
        return self.weights[target] * x

    def digest(self):
        return hashlib.sha256(next(self.folder.glob("snapshots/*.caffemodel")).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def hands(small_study, tmp_path_factory):
    """({(network, task): Hand}, the setting that finds their runs)."""
    runs = tmp_path_factory.mktemp("hand") / "runs"
    made = {(n, t): Hand(small_study, runs, n, t) for n in SIZES for t in CLASSES}
    return made, Setting(small_study / "data", small_study / "preprocessed", runs, composites=COMPOSITES)


def check_table(table, hands, network, digits):
    """Every row of a table of explanations against the weights."""
    recordings = [f"{digit}_{speaker}_0" for digit in digits for speaker in ("06", "05")]  # female first
    wanted = [(task, c, r) for task in ("digit", "gender") for c in COMPOSITES for r in recordings]
    assert [tuple(row) for row in table[["task", "composite", "recording"]].to_numpy()] == wanted
    assert (table["prediction"] != table["target"]).any(), "a wrong answer must be among them"
    for row, (task, composite, recording) in zip(table.to_dict("records"), wanted, strict=True):
        hand = hands[network, task]
        scores, truth = hand.scores(recording), hand.truth(recording)
        assert row["target"] == CLASSES[task][truth]
        assert row["prediction"] == CLASSES[task][int(scores.argmax())]
        assert row["score"] == pytest.approx(scores[truth], rel=1e-4)
        total = hand.relevance(recording, composite).sum()
        assert row["sum_over_score"] == pytest.approx(total / scores[truth], rel=1e-3)
        assert (row["speaker"], row["digit"]) == (recording[2:4], int(recording[0]))
        assert row["gender"] == {"05": "male", "06": "female"}[row["speaker"]]
        assert row["weights_sha256"] == hand.digest()
        rule = {"epsilon_plus": "Epsilon(epsilon=1e-06", "epsilon_plus_flat": "Flat("}[composite]
        assert row["rules"].startswith(f"out {rule}")
    return recordings


def check_findings(findings, hands, network, recordings):
    """A sentence for each task and composite: the range of sum(R)/score and how many are recognised."""
    sentences = iter(findings)
    for task in ("digit", "gender"):
        hand = hands[network, task]
        right = sum(int(hand.scores(r).argmax()) == hand.truth(r) for r in recordings)
        for composite in COMPOSITES:
            shares = [hand.relevance(r, composite).sum() / hand.scores(r)[hand.truth(r)] for r in recordings]
            found = re.fullmatch(
                rf"{network} on {task}, {composite}: sum\(R\)/score from (\S+) to (\S+); (\d) of {len(recordings)} "
                r"recordings recognised\.",
                next(sentences),
            )
            low, high = float(found[1]), float(found[2])
            assert (low, high) == pytest.approx((min(shares), max(shares)), rel=2e-3, abs=6e-4)
            assert int(found[3]) == right


def check_row_title(text, hand, recording):
    gender = {"05": "male", "06": "female"}[recording[2:4]]
    target, said = hand.truth(recording), int(hand.scores(recording).argmax())
    names = CLASSES[hand.task]
    start = f"digit {recording[0]}, {gender} speaker {recording[2:4]}: target {names[target]}, predicted {names[said]}"
    assert text.startswith(start), text


def test_spectrograms_show_each_recordings_own_relevance(hands):
    hands, setting = hands
    outcome = spectrogram_relevance.make(setting)
    recordings = check_table(outcome.tables["explanations"], hands, "AlexNet", (0, 1))
    check_findings(outcome.findings, hands, "AlexNet", recordings)
    assert list(outcome.figures) == ["digit", "gender"]
    for task, (figure, caption) in outcome.figures.items():
        hand = hands["AlexNet", task]
        assert hand.digest()[:12] in caption and f"AlexNet_{task}_0" in caption
        for recording, (title, (alone, *others)) in zip(recordings, figures.rows(figure), strict=True):
            check_row_title(title, hand, recording)
            x = read_input(hand.study, "AlexNet", recording).reshape(227, 227)
            for axes in (alone, *others):
                array, extent, origin = figures.image(axes)
                assert np.array_equal(array, x) and origin == "lower"
                # a value is a rectangle around frame m at 35 m / 8000 s and bin k at 8000 k / 455 Hz
                wanted = (1.5 * 35 / 8000, 228.5 * 35 / 8000, -0.5 * 8000 / 455, 226.5 * 8000 / 455)
                assert extent == pytest.approx(wanted)
                assert all(figures.image(axes, k)[1:] == (extent, origin) for k in range(len(axes.images)))
            for axes, composite in zip(others, COMPOSITES, strict=True):
                r = hand.relevance(recording, composite).reshape(227, 227)
                share = r.sum() / hand.scores(recording)[hand.truth(recording)]
                name, number = re.fullmatch(r"(\w+)\nsum\(R\)/score = (\S+)", axes.get_title()).groups()
                assert name == composite and float(number) == pytest.approx(share, rel=2e-3, abs=6e-4)
                red, opacity = figures.overlay(axes)
                seen = np.abs(r) > 0.05 * np.percentile(np.abs(r), 99.9)
                assert seen.any() and np.array_equal(np.sign(red[seen]), np.sign(r[seen]))
                order = np.argsort(np.abs(r).ravel())
                assert (np.diff(opacity.ravel()[order]) > -1e-3).all(), "what is more relevant is more opaque"
                assert (opacity[r == 0] == 0).all() and opacity.max() == 1


def check_line(axes, x, r, start):
    """A line through samples x from number `start` on: the piece at each sample (but for the last, where pieces lie
    between samples) has the value of its relevance r; returns the colour limits."""
    pieces, values, limits = figures.coloured_line(axes)
    assert len(x) - 1 <= len(pieces) == len(values) <= len(x)
    scale = np.abs(x).max() or 1
    for k, piece in enumerate(pieces):
        away = np.hypot(8000 * piece[:, 0] - start - k, (piece[:, 1] - x[k]) / scale)
        assert away.min() < 1e-3, k
    np.testing.assert_allclose(values, r[: len(values)], rtol=1e-3, atol=1e-6 * np.abs(r).max())
    return limits


def test_waveforms_are_coloured_by_their_own_relevance_and_zoomed_where_most_is(hands):
    hands, setting = hands
    outcome = waveform_relevance.make(setting)
    recordings = check_table(outcome.tables["explanations"], hands, "AudioNet", (0,))
    check_findings(outcome.findings, hands, "AudioNet", recordings)
    assert list(outcome.figures) == [f"{task}_{c}" for task in ("digit", "gender") for c in COMPOSITES]
    for name, (figure, caption) in outcome.figures.items():
        task, _, composite = name.partition("_")
        hand = hands["AudioNet", task]
        assert hand.digest()[:12] in caption and composite in caption
        for recording, (title, (wave_axes, zoom, *_)) in zip(recordings, figures.rows(figure), strict=True):
            check_row_title(title, hand, recording)
            x, r = read_input(hand.study, "AudioNet", recording), hand.relevance(recording, composite)
            share = r.sum() / hand.scores(recording)[hand.truth(recording)]
            assert float(re.search(r"sum\(R\)/score = ([-\d.]+\d)", title)[1]) == pytest.approx(
                share, rel=2e-3, abs=6e-4
            )
            low, high = check_line(wave_axes, x, r, 0)
            assert low == -high < 0, "no relevance is white"
            # 50 ms are 400 samples
            sums = np.convolve(np.abs(r), np.ones(400), "valid")
            start = round(float(figures.coloured_line(zoom)[0][0][0, 0]) * 8000)
            assert sums[start] == pytest.approx(sums.max(), rel=1e-3)
            part = slice(start, start + 400)
            assert check_line(zoom, x[part], r[part], start) == (low, high)


def samples(blob):
    with wave.open(io.BytesIO(blob)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def test_audible_heatmaps_sound_as_their_names_say(hands):
    hands, setting = hands
    outcome = audible_heatmaps.make(setting)
    signals = {}
    for task in ("digit", "gender"):
        for recording in ("0_06_0", "0_05_0"):
            x = read_input(hands["AudioNet", task].study, "AudioNet", recording)
            r = hands["AudioNet", task].relevance(recording, COMPOSITES[0])
            stem = f"{task}_{recording}"
            signals[f"{stem}_recording"] = ("recording", x)
            signals[f"{stem}_relu_R_times_x"] = ("relu(R)*x", np.where(r > 0, r, 0) * x)
            signals[f"{stem}_relu_x_times_R"] = ("relu(x)*R", np.where(x > 0, x, 0) * r)
    assert list(outcome.sounds) == list(signals)
    for (blob, caption), (formula, wanted) in zip(outcome.sounds.values(), signals.values(), strict=True):
        stored = samples(blob)
        assert caption.endswith(f"; {formula}") or f"; {formula}" in caption
        assert stored @ wanted / np.linalg.norm(stored) / np.linalg.norm(wanted) > 0.9999
        assert np.abs(stored).max() <= 32767
    table = outcome.tables["sounds"]
    assert table["sound"].tolist() == [f"{stem}.wav" for stem in signals]
    assert table["formula"].tolist() == [formula for formula, _ in signals.values()]
    for rms, (blob, _) in zip(table["rms"], outcome.sounds.values(), strict=True):
        assert rms == pytest.approx(np.sqrt(np.mean((samples(blob) / 32767) ** 2)), abs=1e-4)
    for task, (figure, _) in outcome.figures.items():
        grid = np.reshape(figure.axes, (2, 3))
        for drawn, recording in zip(grid, ("0_06_0", "0_05_0"), strict=True):
            check_row_title(drawn[0].get_title(), hands["AudioNet", task], recording)
            for axes, name in zip(drawn, ("recording", "relu_R_times_x", "relu_x_times_R"), strict=True):
                ((time, amplitude),) = figures.lines(axes).values()
                np.testing.assert_allclose(time, np.arange(8000) / 8000, atol=1e-9)
                stored = samples(outcome.sounds[f"{task}_{recording}_{name}"][0]) / 32767
                np.testing.assert_allclose(amplitude, stored, atol=1e-4)
