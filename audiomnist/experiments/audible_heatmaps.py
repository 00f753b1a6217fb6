"""Audible heatmaps: recordings in which only what the waveform network uses sounds, by both readings of the formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiomnist.explain.audible import DEFAULT, SAMPLE_RATE, normalised, of_waveform, wav_bytes
from audiomnist.study import relevance
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, TrainedRun, first_runs

NETWORK = "AudioNet"
READINGS = (DEFAULT, "relu(x)*R")  # of the paper's formula; the first is our default
FILE_NAMES = {"relu(R)*x": "relu_R_times_x", "relu(x)*R": "relu_x_times_R"}
UNVERIFIED = (
    "Two readings of the paper's formula exist, relu(R) * x and relu(x) * R; which one is the paper's is to "
    "be checked, and both are here."
)


def sounds(run: TrainedRun, recordings: Recordings, index: int, composite: str) -> dict[str, np.ndarray]:
    """{"recording", then each of READINGS: signal (8000,) in -1..1 at 8 kHz} of one recording."""
    x = recordings.data[index].astype(np.float64).ravel()
    targets = recordings.labels[:, run.label_column]
    explanation = run.network.relevance(recordings.data[index : index + 1], targets[index : index + 1], composite)
    return {"recording": normalised(x), **{f: of_waveform(x, explanation.relevance, f) for f in READINGS}}


def draw(signals: list[dict[str, np.ndarray]], titles: list[str]) -> Figure:
    """A row for each recording: the recording and its audible heatmaps as waveforms."""
    figure = Figure(figsize=(11, 1.9 * len(signals) + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(len(signals), 1 + len(READINGS), squeeze=False, sharex=True, sharey=True)
    for row, (own, title) in enumerate(zip(signals, titles, strict=True)):
        for axes, (name, signal) in zip(grid[row], own.items(), strict=True):
            axes.plot(
                np.arange(len(signal)) / SAMPLE_RATE, signal, linewidth=0.4, color="C0" if name == "recording" else "C3"
            )
            axes.set_title(f"{title}\n{name}" if name == "recording" else name, fontsize="x-small")
            if row == len(signals) - 1:
                axes.set_xlabel("time (s)")
        grid[row, 0].set_ylabel("amplitude")
    return figure


def make(setting: Setting) -> Outcome:
    """Sounds of a female and a male recording for the first trained split of each task, and their waveforms."""
    outcome = Outcome(unverified=[UNVERIFIED])
    composite = setting.composites[0]
    rows = []
    for run in first_runs(setting, NETWORK):
        recordings = run.examples()
        explanation = relevance.explain(run, recordings, [composite])[composite]
        signals = [sounds(run, recordings, index, composite) for index in range(len(recordings.names))]
        titles = [relevance.line(run, recordings, explanation, index) for index in range(len(signals))]
        for index, own in enumerate(signals):
            about = recordings.describe(index)
            for name, signal in own.items():
                stem = f"{run.run.task}_{about['recording']}_{FILE_NAMES.get(name, name)}"
                outcome.sounds[stem] = wav_bytes(signal), f"{titles[index]}; {name}"
                rows.append(
                    {
                        **run.provenance,
                        "composite": composite,
                        **about,
                        "sound": f"{stem}.wav",
                        "formula": name,
                        "rms": float(np.sqrt(np.mean(signal**2))),
                    }
                )
        caption = (
            f"Recordings and their audible heatmaps as waveforms, all with the same RMS from the first to the last "
            f"sample that can be heard ({run.run}, weights {run.weights_sha256[:12]}, {composite})."
        )
        outcome.figures[run.run.task] = draw(signals, titles), caption
    outcome.tables["sounds"] = pd.DataFrame(rows)
    outcome.findings = [
        "The sounds are to be listened to; the paper's user study found them easier to interpret than pictures."
    ]
    return outcome


EXPERIMENT = Experiment("audible_heatmaps", "Audible heatmaps", make, networks=(NETWORK,), position=80)
