"""Table 1: test accuracy of both networks on both tasks, by speaker, with intervals, beside the paper's.

The accuracy is the mean over speakers of each one's accuracy, its interval that of `audiomnist.study.statistics`: every
test recording is given to the trained network again, as the engine's log has sums only. Whether it is the paper's is a
question of equivalence: the interval inside the paper's mean +- max(MARGIN, the paper's deviation) is the same.

As a description the table has the paper's own form too, mean and standard deviation over the splits of the accuracies
in the logs. The paper does not say (to our knowledge: unverified) whether its deviation is that of the population or of
a sample; the population's is shown beside the sample's: the difference is a factor of sqrt(n / (n - 1)) for n splits.
"""

from __future__ import annotations

import math
import statistics as descriptive
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.summary import Result, collect, mean_and_deviation, percent
from audiomnist.study import paper, statistics
from audiomnist.study.conclusion import ABOVE_ZERO, Conclusion
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.statistics import Estimate
from audiomnist.study.trained import TrainedRun, trained_runs

TASKS = ("digit", "gender")  # of the paper's table, in its order
INPUTS = {"AlexNet": "spectrogram", "AudioNet": "waveform"}
MARGIN = 2.0  # points; a difference from the paper up to here, or up to its own deviation, counts as none
AGREEMENT = 0.1  # points; a log that differs more from the answers given here is told of
COLOURS = {"female": "C1", "male": "C0", "unknown": "0.5"}
MARKERS = {"female": "o", "male": "s", "unknown": "D"}


def tested_runs(setting: Setting) -> list[tuple[TrainedRun, Result]]:
    """The trained runs that are tested, with their results. Raises ExperimentError when there is none."""
    results = {result.run: result for result in collect(setting.runs)}
    found = [(run, results[str(run.run)]) for run in trained_runs(setting) if str(run.run) in results]
    if not found:
        raise ExperimentError(setting.runs, "a tested run at least", "none")
    return found


def measure(runs: Sequence[TrainedRun], limit: int | None = None) -> pd.DataFrame:
    """Columns network, task and those of `TrainedRun.answers`: a row for each run and test recording."""
    frames = [
        run.answers(limit).assign(network=run.run.network, task=run.run.task, weights_sha256=run.weights_sha256)
        for run in runs
    ]
    return pd.concat(frames, ignore_index=True)


def of(answers: pd.DataFrame, network: str, task: str) -> pd.DataFrame:
    """The rows of one network and task."""
    return answers[(answers["network"] == network) & (answers["task"] == task)]


def groups(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(network, task) of a frame's rows, in the paper's order of tasks, further tasks behind."""
    found = list(dict.fromkeys(zip(frame["network"], frame["task"], strict=True)))
    order = [*TASKS, *dict.fromkeys(task for _, task in found)]
    return sorted(found, key=lambda group: (list(NETWORKS).index(group[0]), order.index(group[1])))


def accuracy(answers: pd.DataFrame, seed: int) -> Estimate:
    """The mean over speakers of their accuracy, in percent, with its interval."""
    return statistics.estimate(answers, "right", seed).scaled(100)


def table(results: Sequence[Result], answers: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row for each network and task, in percent: our accuracy by speakers with its interval, the logged one over
    the splits, and the paper's."""
    rows = []
    for network, task in groups(answers):
        estimate = accuracy(of(answers, network, task), seed)
        logged = [100 * r.accuracy for r in results if (r.network, r.task) == (network, task)]
        mean, population = mean_and_deviation(logged)
        paper_mean, paper_deviation = NETWORKS[network].published.get(task, (math.nan, math.nan))
        rows.append(
            {
                "input": INPUTS.get(network, ""),
                "network": network,
                "task": task,
                "splits": estimate.splits,
                "speakers": estimate.speakers,
                "recordings": estimate.recordings,
                "accuracy": estimate.mean,
                "low": estimate.low,
                "high": estimate.high,
                "paper_mean": paper_mean,
                "paper_std": paper_deviation,
                "difference": estimate.mean - paper_mean,
                "logged_mean": mean,
                "population_std": population,
                "sample_std": descriptive.stdev(logged) if len(logged) > 1 else math.nan,
                "lowest": min(logged),
                "highest": max(logged),
            }
        )
    return pd.DataFrame(rows)


def _bar(axes: Axes, place: float, estimate: Estimate, **style) -> None:
    """A mean with its interval, where there is one."""
    below, above = (0, 0) if math.isnan(estimate.low) else (estimate.mean - estimate.low, estimate.high - estimate.mean)
    axes.errorbar(place, estimate.mean, [[below], [above]], color="k", capsize=4, zorder=4, **style)


def _draw_group(axes: Axes, answers: pd.DataFrame, network: str, task: str, seed: int) -> None:
    """One panel: speakers' dots by split, the splits' means, all of them, and the paper's band."""
    means = answers.groupby(["split", "speaker"], as_index=False).agg(
        right=("right", "mean"), gender=("gender", "first")
    )
    splits = sorted(means["split"].unique())
    end = len(splits) + 0.5
    if published := NETWORKS[network].published.get(task):
        mean, deviation = published
        axes.axhspan(mean - deviation, min(100, mean + deviation), color="0.87", zorder=0, label="paper, mean ± std")
        axes.axhline(mean, color="0.6", zorder=1)
    for place, split in enumerate(splits):
        own = means[means["split"] == split].sort_values(["gender", "right"])
        where = place - 0.15 + np.linspace(-0.25, 0.25, len(own))
        for gender in own["gender"].unique():
            chosen = (own["gender"] == gender).to_numpy()
            axes.plot(
                where[chosen], 100 * own["right"][chosen], MARKERS[gender], color=COLOURS[gender], markersize=4,
                alpha=0.8, label=f"a {gender} speaker", zorder=2,
            )  # fmt: skip
        one = accuracy(answers[answers["split"] == split], seed)
        _bar(axes, place + 0.3, one, fmt="_", label="mean of a split's speakers, 95 % interval")
    _bar(axes, len(splits), accuracy(answers, seed), fmt="D", markersize=7, label="mean of all speakers, 95 % interval")
    axes.set_xticks(range(len(splits) + 1), [*(f"split {split}" for split in splits), "all"])
    axes.set(xlim=(-0.6, end), title=f"{network} ({INPUTS.get(network, 'own input')}), {task}")


def draw(answers: pd.DataFrame, seed: int = 0) -> Figure:
    """A panel for each network and task: a dot for each speaker, coloured by gender and grouped by split, means with
    intervals, and the paper's mean and deviation as a band."""
    found = groups(answers)
    columns = len(dict.fromkeys(task for _, task in found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(1 + 4.6 * columns, 0.9 + 3.1 * rows), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    labels = {}
    for axes, group in zip(grid.ravel(), found, strict=False):
        _draw_group(axes, of(answers, *group), *group, seed)
        labels |= dict(reversed(pair) for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    for axes in grid.ravel()[len(found) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=min(3, 1 + columns), fontsize="small")
    return figure


def conclusions(answers: pd.DataFrame, runs: Sequence[TrainedRun], setting: Setting) -> list[Conclusion]:
    """The paper's accuracies are met, and spectrograms serve better than waveforms."""
    checked = []
    for network, task in groups(answers):
        if published := NETWORKS[network].published.get(task):
            region = statistics.equivalence_region(*published, MARGIN)
            statement = f"{network} on {task} is as accurate as in the paper, {percent(*published)} %"
            found = accuracy(of(answers, network, task), setting.seed)
            reason = paper.not_comparable(setting, runs, task, [network])
            checked.append(Conclusion(statement, found, region, not_applicable=reason))
    for task in TASKS:
        both = [of(answers, network, task) for network in paper.NETWORKS]
        if not set.intersection(*(set(frame["split"]) for frame in both)):
            continue
        found = statistics.contrast(*both, "right", setting.seed).scaled(100)
        statement = f"on {task} the spectrogram network is more accurate than the waveform network"
        reason = paper.not_comparable(setting, runs, task, paper.NETWORKS)
        claim = f"{task}: spectrograms serve better than waveforms"
        checked.append(Conclusion(statement, found, ABOVE_ZERO, " points", reason, claim))
    return checked


def findings(rows: pd.DataFrame, splits: pd.DataFrame) -> list[str]:
    """A sentence for each network and task, and one for each run whose log says otherwise than its weights do.

    A choice of the recordings may well be harder than all: only answers to all are held against the log."""
    said = []
    for row in rows.itertuples():
        interval = "no interval, as a split tests one speaker"
        if math.isfinite(row.low):
            interval = f"95 % interval {row.low:.2f} to {row.high:.2f}"
        published = f", paper {percent(row.paper_mean, row.paper_std)} %" if math.isfinite(row.paper_mean) else ""
        said.append(
            f"{row.network} on {row.task}: {row.accuracy:.2f} % ({interval}) over {row.speakers} speakers; over "
            f"{row.splits} split{'s' * (row.splits != 1)} as logged {percent(row.logged_mean, row.population_std)} %"
            f"{published}."
        )
    for row in splits.itertuples():
        if row.recordings == row.listed and 100 * abs(row.accuracy - row.answered) > AGREEMENT:
            said.append(
                f"{row.run}: its log says {100 * row.accuracy:.2f} %, its weights answer {100 * row.answered:.2f} % of "
                f"{row.recordings} recordings right here."
            )
    return said


def make(setting: Setting) -> Outcome:
    """The table, one row for every run behind it, one for every answer, and a picture."""
    found = tested_runs(setting)
    runs, results = [run for run, _ in found], [result for _, result in found]
    answers = measure(runs, setting.recordings(None))
    rows = table(results, answers, setting.seed)
    splits = []
    for run, result in found:
        own = of(answers, run.run.network, run.run.task)
        own = own[own["split"] == run.run.split]["right"]
        answered = {"answered": own.mean(), "recordings": len(own), "listed": len(run.listed())}
        logged = {"accuracy": result.accuracy, "loss": result.loss}
        splits.append({**run.provenance, **logged, **answered, "run": result.run})
    splits = pd.DataFrame(splits)
    checked = conclusions(answers, runs, setting)
    caption = (
        "Test accuracy of every speaker (orange circles: women, blue squares: men), the mean of each split and of all "
        "speakers with 95 % intervals (bootstrap over speakers, then recordings), and the paper's Table 1 as a band "
        "(mean ± standard deviation over its splits)."
    )
    contrasts = [{"statement": c.statement, "unit": c.unit.strip(), **asdict(c.estimate)} for c in checked]
    return Outcome(
        tables={"table1": rows, "splits": splits, "conclusions": pd.DataFrame(contrasts), "recordings": answers},
        figures={"table1": (draw(answers, setting.seed), caption)},
        findings=findings(rows, splits),
        conclusions=checked,
        unverified=[
            "Whether the paper's standard deviation is the population's or a sample's is to be checked; the "
            "table gives both of ours."
        ],
    )


EXPERIMENT = Experiment("table1", "Table 1: test accuracy", make, position=20)
