"""Relevance over spectrograms: the digit and the gender AlexNet, female and male speakers, several composites."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from audiomnist.explain import drawing
from audiomnist.signal.geometry import SPECTROGRAM
from audiomnist.study import relevance
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, TrainedRun
from lrp import Explanation

NETWORK = "AlexNet"
DIGITS = (0, 1)  # of the recordings shown


def draw(run: TrainedRun, recordings: Recordings, explanations: dict[str, Explanation]) -> Figure:
    """A row for each recording: its spectrogram, then relevance over it, a column for each composite.

    Every picture has a colour scale of its own, symmetric around zero: red speaks for the target, blue against it.
    """
    count = len(recordings.names)
    figure = Figure(figsize=(2.6 * (1 + len(explanations)), 2.35 * count + 0.5), dpi=110, layout="constrained")
    rows = figure.subfigures(count, 1, squeeze=False)[:, 0]
    first = next(iter(explanations.values()))
    for index, row in enumerate(rows):
        row.suptitle(relevance.line(run, recordings, first, index), fontsize="small", x=0.01, ha="left")
        grid = row.subplots(1, 1 + len(explanations), sharex=True, sharey=True)
        drawing.draw_spectrogram_alone(grid[0], recordings.data[index])
        grid[0].set_title("input (dB)", fontsize="x-small")
        for axes, explanation in zip(grid[1:], explanations.values(), strict=True):
            drawing.draw_spectrogram(row, axes, recordings.data[index], explanation.relevance[index], colourbar=False)
            axes.set_title(relevance.composite_note(explanation, index, SPECTROGRAM), fontsize="x-small")
            axes.set_ylabel("")
        for axes in grid:
            axes.tick_params(labelsize="x-small")
            axes.xaxis.label.set_size("x-small")
            axes.yaxis.label.set_size("x-small")
            if index < count - 1:
                axes.set_xlabel("")
    return figure


def losses(explanations: dict[str, Explanation]) -> str:
    """A sentence for each composite that loses relevance, to end a caption."""
    return "".join(f" {name}: {one.note}." for name, one in explanations.items() if one.note)


def add_picture(
    outcome: Outcome, run: TrainedRun, recordings: Recordings, explanations: dict[str, Explanation], frame: pd.DataFrame
) -> None:
    """The picture of one run."""
    caption = (
        f"Relevance of spectrograms for {run.task.label} ({run.run}, weights {run.weights_sha256[:12]}): red "
        "speaks for the target, blue against it; colours end at the 99.9th percentile of |R| of each picture. "
        "The recordings are the first of the test list by a female and a male speaker. A picture that is shared out "
        "within a rectangle shows nothing narrower: within 193 Hz a voice's harmonics (80 to 300 Hz apart) are one."
        f"{losses(explanations)}"
    )
    outcome.figures[run.run.task] = draw(run, recordings, explanations), caption


def make(setting: Setting) -> Outcome:
    """A picture for each task's first trained split, and the table behind the captions."""
    return relevance.pictures(setting, NETWORK, DIGITS, add_picture)


EXPERIMENT = Experiment("spectrogram_relevance", "Relevance over spectrograms", make, networks=(NETWORK,), position=40)
