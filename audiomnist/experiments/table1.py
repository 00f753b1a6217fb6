"""Table 1: test accuracy of both networks on both tasks, mean and standard deviation over the splits.

The paper does not say (to our knowledge: unverified) whether its deviation is that of the population or of a sample;
the population's is shown beside the sample's, and the difference is a factor of sqrt(n / (n - 1)) for n splits.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.summary import Result, collect, mean_and_deviation, percent
from audiomnist.study.outcome import Conclusion, Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import trained_runs

TASKS = ("digit", "gender")  # of the paper's table, in its order
INPUTS = {"AlexNet": "spectrogram", "AudioNet": "waveform"}


def accuracies(runs: Path) -> list[Result]:
    """The test results of every tested run in a folder. Raises ExperimentError when there is none."""
    results = collect(runs)
    if not results:
        raise ExperimentError(f"{runs}: no tested run found; one at least was wanted")
    return results


def table(results: list[Result]) -> pd.DataFrame:
    """One row for each network and task: our accuracy in percent over the splits, and the paper's."""
    rows = []
    for network in NETWORKS.values():
        tasks = list(dict.fromkeys([*TASKS, *(r.task for r in results if r.network == network.name)]))
        for task in tasks:
            ours = [100 * r.accuracy for r in results if (r.network, r.task) == (network.name, task)]
            if not ours:
                continue
            mean, population = mean_and_deviation(ours)
            paper_mean, paper_deviation = network.published.get(task, (math.nan, math.nan))
            rows.append(
                {
                    "input": INPUTS.get(network.name, ""),
                    "network": network.name,
                    "task": task,
                    "splits": len(ours),
                    "mean": mean,
                    "population_std": population,
                    "sample_std": statistics.stdev(ours) if len(ours) > 1 else math.nan,
                    "lowest": min(ours),
                    "highest": max(ours),
                    "paper_mean": paper_mean,
                    "paper_std": paper_deviation,
                    "difference": mean - paper_mean,
                }
            )
    return pd.DataFrame(rows)


def draw(results: list[Result]) -> Figure:
    """Accuracy of every split as a dot, mean and population deviation as a bar, the paper's as a grey band."""
    rows = table(results)
    figure = Figure(figsize=(1.2 + 1.6 * len(rows), 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows.itertuples()):
        if math.isfinite(row.paper_mean):
            low, high = row.paper_mean - row.paper_std, min(100, row.paper_mean + row.paper_std)
            axes.fill_between([place - 0.35, place + 0.35], low, high, color="0.85", zorder=0)
            axes.hlines(
                row.paper_mean,
                place - 0.35,
                place + 0.35,
                color="0.5",
                zorder=1,
                label="paper, mean ± std" if place == 0 else None,
            )
        deviation = row.population_std if math.isfinite(row.population_std) else 0
        axes.errorbar(
            place,
            row.mean,
            deviation,
            fmt="s",
            color="C0",
            capsize=5,
            zorder=3,
            label="ours, mean ± std" if place == 0 else None,
        )
        ours = [100 * r.accuracy for r in results if (r.network, r.task) == (row.network, row.task)]
        axes.plot(
            [place + 0.15] * len(ours), ours, ".", color="C1", zorder=2, label="ours, one split" if place == 0 else None
        )
    axes.set_xticks(range(len(rows)), [f"{row.network}\n{row.task}" for row in rows.itertuples()])
    axes.set(ylabel="test accuracy (%)", ylim=(0, 102), xlim=(-0.6, len(rows) - 0.4))
    axes.legend(loc="lower left", fontsize="small")
    return figure


def conclusions(rows: pd.DataFrame) -> list[Conclusion]:
    """The paper's accuracies are met, and spectrograms serve better than waveforms."""
    checked = []
    for row in rows.itertuples():
        if math.isfinite(row.paper_mean):
            statement = f"{row.network} on {row.task} is at most one deviation of the paper's below its accuracy"
            evidence = f"{row.mean:.2f} %, paper {percent(row.paper_mean, row.paper_std)} %; splits: {row.splits}"
            checked.append(Conclusion(statement, row.mean >= row.paper_mean - row.paper_std, evidence))
    means = {(row.network, row.task): row.mean for row in rows.itertuples()}
    for task in TASKS:
        if ("AlexNet", task) in means and ("AudioNet", task) in means:
            spectrogram, waveform = means["AlexNet", task], means["AudioNet", task]
            checked.append(
                Conclusion(
                    f"on {task} the spectrogram network is more accurate than the waveform network",
                    spectrogram > waveform,
                    f"{spectrogram:.2f} % and {waveform:.2f} %",
                )
            )
    return checked


def make(setting: Setting) -> Outcome:
    """The table, one row for every run behind it, and a picture."""
    results = accuracies(setting.runs)
    rows = table(results)
    made_from = {str(run.run): run.provenance for run in trained_runs(setting)}
    splits = pd.DataFrame(
        [{**made_from.get(r.run, {}), "accuracy": r.accuracy, "loss": r.loss, "run": r.run} for r in results]
    )
    findings = [
        f"{row.network} on {row.task}: {percent(row.mean, row.population_std)} % over {row.splits} "
        f"split{'s' if row.splits > 1 else ''}"
        + (f" (paper: {percent(row.paper_mean, row.paper_std)} %)" if math.isfinite(row.paper_mean) else "")
        + "."
        for row in rows.itertuples()
    ]
    caption = (
        "Test accuracy by network and task: mean and population standard deviation over the splits, beside the "
        "paper's Table 1."
    )
    return Outcome(
        tables={"table1": rows, "splits": splits},
        figures={"table1": (draw(results), caption)},
        findings=findings,
        conclusions=conclusions(rows),
        unverified=[
            "Whether the paper's standard deviation is the population's or a sample's is to be checked; the "
            "table gives both of ours."
        ],
    )


EXPERIMENT = Experiment("table1", "Table 1: test accuracy", make, position=20)
