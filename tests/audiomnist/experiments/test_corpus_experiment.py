"""The corpus experiment on recordings whose lengths are chosen: every number and everything drawn."""

import re

import numpy as np
import pandas as pd
import pytest

from audiomnist.experiments import corpus
from audiomnist.study.setting import Setting
from tests import figures
from tests.small_corpus import wav_file, write_meta

# {speaker: (gender, age, seconds of digit 0, 1, ... of repetition 0, 1, ...)}
SPEAKERS = {
    "01": ("male", 31, [[0.25, 0.5, 0.75], [0.5, 0.5, 0.5]]),
    "02": ("female", 24, [[1.0, 0.125, 0.25]]),
    "03": ("female", "1234", [[0.375, 0.625, 0.875]]),
    "04": (None, 33, [[0.5, 0.25, 0.125]]),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    data = tmp_path_factory.mktemp("corpus")
    for speaker, (_, _, repetitions) in SPEAKERS.items():
        (data / speaker).mkdir()
        for k, lengths in enumerate(repetitions):
            for digit, seconds in enumerate(lengths):
                samples = np.full(int(8000 * seconds), 1000, "<i2")
                (data / speaker / f"{digit}_{speaker}_{k}.wav").write_bytes(wav_file(samples.tobytes()))
    meta = {s: {"gender": g, "age": age, "accent": "German"} for s, (g, age, _) in SPEAKERS.items()}
    write_meta(data, {s: {k: v for k, v in entry.items() if v is not None} for s, entry in meta.items()})
    return corpus.make(Setting(data=data))


def lengths(digit=None, speaker=None):
    """The chosen seconds, of one digit or one speaker or all."""
    chosen = SPEAKERS.values() if speaker is None else [SPEAKERS[speaker]]
    return [row[k] for _, _, rows in chosen for row in rows for k in range(3) if digit is None or k == digit]


def test_every_count_and_duration_beside_the_papers(outcome):
    rows = outcome.tables["summary"].set_index("quantity")
    wanted = {
        "recordings": (15, 30000),
        "speakers": (4, 60),
        "female speakers": (2, 12),
        "male speakers": (1, 48),
        "digits": (3, None),
        "hours": (sum(lengths()) / 3600, 9.5),
        "mean seconds": (sum(lengths()) / 15, None),
        "shortest seconds": (0.125, None),
        "longest seconds": (1.0, None),
    }
    assert list(rows.index) == list(wanted)
    for quantity, (ours, paper) in wanted.items():
        assert rows.loc[quantity, "ours"] == pytest.approx(ours), quantity
        shown = rows.loc[quantity, "paper"]
        assert np.isnan(shown) if paper is None else shown == paper, quantity


def test_a_corpus_of_one_gender_has_none_of_the_other():
    frame = pd.DataFrame({"speaker": ["01", "02"], "gender": "male", "digit": 1, "seconds": 0.5})
    counts = corpus.summary(frame).set_index("quantity")["ours"]
    assert (counts["female speakers"], counts["male speakers"]) == (0, 2)
    counts = corpus.summary(frame.assign(gender=["female", None])).set_index("quantity")["ours"]
    assert (counts["female speakers"], counts["male speakers"]) == (1, 0)


def test_every_speaker_has_a_row(outcome):
    people = outcome.tables["speakers"]
    assert people["speaker"].tolist() == list(SPEAKERS)
    assert people["gender"].tolist() == ["male", "female", "female", "unknown"]
    assert people["age"].isna().tolist() == [False, False, True, False] and people["age"].dropna().tolist() == [
        31,
        24,
        33,
    ]
    assert people["recordings"].tolist() == [6, 3, 3, 3]
    assert people["mean_seconds"].tolist() == pytest.approx([np.mean(lengths(speaker=s)) for s in SPEAKERS])
    assert len(outcome.tables["recordings"]) == 15


def test_the_first_sentence_gives_the_same_numbers(outcome):
    text = outcome.findings[0]
    numbers = r"15 recordings by 4 speakers \((.*)\), (\S+) hours, (\S+) s on average, (\S+) s at most\."
    genders, hours, mean, longest = re.fullmatch(numbers, text).groups()
    assert sorted(genders.split(", ")) == ["1 male", "1 unknown", "2 female"]
    assert hours == f"{sum(lengths()) / 3600:.2f}" and mean == f"{sum(lengths()) / 15:.3f}" and longest == "1.000"


def medians(axes):
    """{tick label: height of the box's median} of a box plot."""
    labels = [label.get_text() for label in axes.get_xticklabels()]
    lines = [line for line in axes.lines if line.get_color() == "C1"]  # matplotlib's colour of medians
    return {label: float(line.get_ydata()[0]) for label, line in zip(labels, lines, strict=True)}


def test_what_is_drawn_are_the_durations_genders_and_ages(outcome):
    (figure, caption) = outcome.figures["corpus"]
    figures.assert_looks(figure, "corpus")
    by_digit, genders, by_speaker, ages = figure.axes
    assert medians(by_digit) == pytest.approx({str(d): np.median(lengths(digit=d)) for d in range(3)})
    assert medians(by_speaker) == pytest.approx({s: np.median(lengths(speaker=s)) for s in SPEAKERS})
    assert figures.bars(genders) == {"male": 1, "female": 2, "unknown": 1}
    heights = {(bar.get_x(), bar.get_width()): bar.get_height() for bar in ages.patches if bar.get_height()}
    assert heights == {(20, 5): 1, (30, 5): 2} and "1 unknown" in ages.get_title()
    assert by_digit.get_ylim()[0] == 0 and "15 recordings, 4 speakers" in figure.get_suptitle()
    assert "by digit and by speaker" in caption
