"""The corpus: how many recordings, by whom, how long."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from data.corpus import META_NAME, gender_of, read_metadata, scan
from data.wav import RecordingError, read_wav
from experiments.command import main
from experiments.outcome import Experiment, Outcome
from experiments.setting import ExperimentError, Setting
from experiments.trained import SEXES

# AudioMNIST as the paper describes it; the hours are the paper's figure, which an independent count contradicts
PAPER = {"recordings": 30000, "speakers": 60, "female speakers": 12, "male speakers": 48, "hours": 9.5}
AGES = range(10, 111)  # years; what lies outside is a typing error, not an age (AudioMNIST has a 1234)


def recordings(data: Path) -> pd.DataFrame:
    """One row for each readable recording: speaker, sex, digit, repetition, seconds, rate (Hz).

    Raises ExperimentError when there is none, CorpusError for metadata that cannot be read.
    """
    meta = read_metadata(data / META_NAME)
    rows = []
    for recording in scan(data)[0]:
        try:
            samples, rate = read_wav(recording.path)
        except RecordingError:
            continue  # preprocessing lists defects; here only what can be heard counts
        sex = gender_of(meta.get(recording.speaker, {}))
        rows.append({
            "speaker": recording.speaker,
            "sex": "unknown" if sex is None else SEXES[sex],
            "digit": recording.digit,
            "repetition": recording.repetition,
            "seconds": len(samples) / rate,
            "rate": rate,
        })
    if not rows:
        raise ExperimentError(f"{data}: no readable recording found; one at least was wanted")
    return pd.DataFrame(rows)


def speakers(data: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each speaker: recordings, mean seconds, and the metadata as far as it makes sense."""
    meta = read_metadata(data / META_NAME)
    rows = []
    for speaker, own in frame.groupby("speaker"):
        entry = meta.get(speaker, {})
        age = str(entry.get("age", "")).strip()
        rows.append({
            "speaker": speaker,
            "sex": own["sex"].iloc[0],
            "age": int(age) if age.isdecimal() and int(age) in AGES else None,
            "accent": entry.get("accent"),
            "recordings": len(own),
            "mean_seconds": own["seconds"].mean(),
        })
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts and durations: columns quantity, ours, paper."""
    by_sex = frame.groupby("speaker")["sex"].first().value_counts()
    ours = {
        "recordings": len(frame),
        "speakers": frame["speaker"].nunique(),
        "female speakers": int(by_sex.get("female", 0)),
        "male speakers": int(by_sex.get("male", 0)),
        "digits": frame["digit"].nunique(),
        "hours": frame["seconds"].sum() / 3600,
        "mean seconds": frame["seconds"].mean(),
        "shortest seconds": frame["seconds"].min(),
        "longest seconds": frame["seconds"].max(),
    }
    return pd.DataFrame([{"quantity": key, "ours": value, "paper": PAPER.get(key)} for key, value in ours.items()])


def draw(frame: pd.DataFrame, people: pd.DataFrame) -> Figure:
    """Durations by digit, durations of all recordings by sex, ages of the speakers."""
    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    by_digit, all_of_them, ages = figure.subplots(1, 3)
    digits = sorted(frame["digit"].unique())
    by_digit.boxplot([frame.loc[frame["digit"] == d, "seconds"] for d in digits], tick_labels=digits, flierprops={
        "marker": ".", "markersize": 2})
    by_digit.set(xlabel="digit", ylabel="duration (s)")
    edges = np.linspace(0, max(1.0, frame["seconds"].max()), 41)
    colours = {"female": "C1", "male": "C0", "unknown": "0.6"}
    for sex, own in frame.groupby("sex"):
        all_of_them.hist(own["seconds"], edges, histtype="step", color=colours[sex], label=f"{sex}, {len(own)}")
    all_of_them.set(xlabel="duration (s)", ylabel="recordings")
    all_of_them.legend(fontsize="small")
    known = people.dropna(subset=["age"])
    if len(known):
        years = np.arange(known["age"].min() // 5 * 5, known["age"].max() + 6, 5)
        groups = [(sex, own["age"].astype(float)) for sex, own in known.groupby("sex")]
        ages.hist([own for _, own in groups], years, stacked=True, color=[colours[sex] for sex, _ in groups],
                  label=[sex for sex, _ in groups])
        ages.legend(fontsize="small")
    ages.set(xlabel="age (years)", ylabel="speakers")
    return figure


def make(setting: Setting) -> Outcome:
    """Tables of the corpus and its speakers, and a picture."""
    frame = recordings(setting.data)
    people = speakers(setting.data, frame)
    counts = summary(frame)
    hours = counts.set_index("quantity").loc["hours", "ours"]
    findings = [
        f"{len(frame)} recordings by {len(people)} speakers "
        f"({', '.join(f'{n} {sex}' for sex, n in people['sex'].value_counts().items())}), {hours:.2f} hours, "
        f"{frame['seconds'].mean():.3f} s on average, {frame['seconds'].max():.3f} s at most.",
        "AudioMNIST: the paper gives about 9.5 hours; an independent count of its files gives 5 h 21 min.",
    ]
    caption = "Durations by digit and by sex, and the speakers' ages where the metadata has a plausible one."
    return Outcome(tables={"summary": counts, "speakers": people, "recordings": frame},
                   figures={"corpus": (draw(frame, people), caption)}, findings=findings)


EXPERIMENT = Experiment("corpus", "The corpus", make, reads="data")

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
