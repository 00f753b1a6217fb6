"""The corpus: how many recordings, by whom, how long."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from audiomnist.corpus.table import corpus_table, draw_corpus
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting

# AudioMNIST as the paper describes it; the hours are the paper's figure, which an independent count contradicts
PAPER = {"recordings": 30000, "speakers": 60, "female speakers": 12, "male speakers": 48, "hours": 9.5}


def recordings(data: Path) -> pd.DataFrame:
    """`corpus_table` of what can be heard, unknown genders said so. Raises ExperimentError when nothing can be heard,
    CorpusError for metadata that cannot be read.
    """
    table = corpus_table(data)
    heard = table.dropna(subset=["seconds"])  # preprocessing lists defects; here only what can be heard counts
    if heard.empty:
        raise ExperimentError(data, "a readable recording at least", "none")
    return heard.fillna({"gender": "unknown"}).reset_index(drop=True)


def speakers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each speaker: gender, age, accent, number of recordings, their mean duration (s)."""
    attributes = {key: (key, "first") for key in ("gender", "age", "accent")}
    grouped = frame.groupby("speaker")
    return grouped.agg(**attributes, recordings=("path", "size"), mean_seconds=("seconds", "mean")).reset_index()


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts and durations: columns quantity, ours, paper."""
    by_gender = frame.groupby("speaker")["gender"].first().value_counts()
    ours = {
        "recordings": len(frame),
        "speakers": frame["speaker"].nunique(),
        "female speakers": int(by_gender.get("female", 0)),
        "male speakers": int(by_gender.get("male", 0)),
        "digits": frame["digit"].nunique(),
        "hours": frame["seconds"].sum() / 3600,
        "mean seconds": frame["seconds"].mean(),
        "shortest seconds": frame["seconds"].min(),
        "longest seconds": frame["seconds"].max(),
    }
    return pd.DataFrame([{"quantity": key, "ours": value, "paper": PAPER.get(key)} for key, value in ours.items()])


def make(setting: Setting) -> Outcome:
    """Tables of the corpus and its speakers, and a picture."""
    frame = recordings(setting.data)
    people = speakers(frame)
    counts = summary(frame)
    hours = counts.set_index("quantity").loc["hours", "ours"]
    findings = [
        f"{len(frame)} recordings by {len(people)} speakers "
        f"({', '.join(f'{n} {gender}' for gender, n in people['gender'].value_counts().items())}), {hours:.2f} hours, "
        f"{frame['seconds'].mean():.3f} s on average, {frame['seconds'].max():.3f} s at most.",
        "AudioMNIST: the paper gives about 9.5 hours; an independent count of its files gives 5 h 21 min.",
    ]
    caption = "Durations by digit and by speaker; genders, and ages where the metadata has plausible ones."
    return Outcome(
        tables={"summary": counts, "speakers": people, "recordings": frame},
        figures={"corpus": (draw_corpus(frame), caption)},
        findings=findings,
    )


EXPERIMENT = Experiment("corpus", "The corpus", make, reads="data", position=10)
