"""Training curves of all runs, from the engines' logs: any engine with Caffe's log lines."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import TrainedRun, trained_runs

_ITERATION = re.compile(r"\] Iteration (\d+)(?: \([^)]*\))?, loss = (\S+)")
_TESTING = re.compile(r"\] Iteration (\d+), Testing net \(#0\)")
_TEST_SCORE = re.compile(r"\] +Test net output #\d+: (accuracy|loss) = ([^\s(]+)")
COLUMNS = ("iteration", "quantity", "value")
LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS = "training loss", "validation accuracy", "validation loss"


def read_curves(log: Path) -> pd.DataFrame:
    """Columns iteration, quantity, value of one train.log.

    Where an interrupted training was continued, the later lines of an iteration count. Raises ExperimentError when the
    log has no line of progress.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ExperimentError(log, "the log of a training", error.strerror) from None
    values: dict[tuple[int, str], float] = {}
    testing = None
    try:
        for line in lines:
            if match := _TESTING.search(line):
                testing = int(match[1])
            elif match := _ITERATION.search(line):
                values[int(match[1]), LOSS] = float(match[2])
            elif testing is not None and (match := _TEST_SCORE.search(line)):
                quantity = VALIDATION_ACCURACY if match[1] == "accuracy" else VALIDATION_LOSS
                values[testing, quantity] = float(match[2])
    except ValueError:
        raise ExperimentError(log, "numbers in Caffe's lines of progress", f"{line!r:.80}") from None
    if not values:
        raise ExperimentError(log, "Caffe's lines of progress", "none")
    return pd.DataFrame([(i, q, v) for (i, q), v in sorted(values.items())], columns=COLUMNS)


def curves(runs: list[TrainedRun]) -> pd.DataFrame:
    """The curves of several runs, with what made each."""
    frames = []
    for run in runs:
        frame = read_curves(run.folder / "train.log")
        provenance = run.provenance
        frames.append(
            pd.DataFrame(
                {
                    **{key: [provenance[key]] * len(frame) for key in provenance},
                    **{column: frame[column] for column in COLUMNS},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A column for each network and task: training loss above, validation accuracy below, a line for each split."""
    groups = list(dict.fromkeys(zip(frame["network"], frame["task"], strict=True)))
    figure = Figure(figsize=(1 + 3 * len(groups), 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(groups), squeeze=False, sharex="col", sharey="row")
    for column, (network, task) in enumerate(groups):
        own = frame[(frame["network"] == network) & (frame["task"] == task)]
        for row, quantity in enumerate((LOSS, VALIDATION_ACCURACY)):
            axes = grid[row, column]
            for split, line in own[own["quantity"] == quantity].groupby("split"):
                factor = 100 if quantity == VALIDATION_ACCURACY else 1
                axes.plot(
                    line["iteration"],
                    factor * line["value"],
                    label=f"split {split}",
                    linewidth=1,
                    marker="." if len(line) < 30 else None,
                )
            if row == 0:
                axes.set_title(f"{network}, {task}", fontsize="medium")
                axes.set_yscale("log")
            else:
                axes.set(xlabel="iteration", ylim=(0, 102))
                classes = 10 if task == "digit" else 2
                if task in ("digit", "gender"):
                    axes.axhline(100 / classes, color="0.6", linestyle=":", linewidth=1)
            if column == 0:
                axes.set_ylabel("training loss" if row == 0 else "validation accuracy (%)")
        grid[0, column].legend(fontsize="x-small")  # a short run has no validation
    return figure


def make(setting: Setting) -> Outcome:
    """The curves of every trained run."""
    runs = trained_runs(setting)
    frame = curves(runs)
    last = frame[frame["quantity"] == VALIDATION_ACCURACY].groupby(["network", "task", "split"]).last()
    findings = [
        f"{network} on {task}, split {split}: validation accuracy {100 * row['value']:.1f} % at iteration "
        f"{row['iteration']}."
        for (network, task, split), row in last.iterrows()
    ]
    caption = (
        "Training loss (above, logarithmic) and validation accuracy (below; dotted: chance) against iterations, "
        "a line for each split."
    )
    return Outcome(tables={"curves": frame}, figures={"curves": (draw(frame), caption)}, findings=findings)


EXPERIMENT = Experiment("training_curves", "Training curves of all runs", make, position=30)
