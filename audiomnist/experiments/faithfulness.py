"""Faithfulness: accuracy against the share of the signal set to zero, by relevance, by amplitude and at random.

Waveform samples are set to zero, spectrogram values to the spectrogram's lowest (silence). The order comes from the
relevance of the true class, computed once on the whole recording. The paper's test is on waveforms (its shares and
numbers are unverified); on spectrograms it is ours, and there silencing the loudest values is itself a strong attack.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from audiomnist.explain.faithfulness import SHARES, compare
from audiomnist.study.outcome import Conclusion, Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import TrainedRun, trained_runs

LIMIT = 100  # recordings of a run, by default: a pass over them for each share and order
RANDOM_ORDERS = 3
PAPER_NETWORK = "AudioNet"
FIXED = ("amplitude", "random")  # orders that are no relevance


def measure(runs: list[TrainedRun], limit: int | None = LIMIT, shares: tuple[float, ...] = SHARES) -> pd.DataFrame:
    """Columns order, share (0 to 1), accuracy (0 to 1), deviation (over random orders), area (under the order's curve),
    beside what made the run; the setting's composites are the orders by relevance."""
    frames = []
    for run in tqdm(runs, unit="run", desc="faithfulness", disable=None):
        setting = run.setting
        recordings = run.read(run.listed(limit))
        labels = recordings.labels[:, run.label_column]
        relevances = {c: run.network.relevance(recordings.data, labels, c).relevance for c in setting.composites}
        seeds = [setting.seed + k for k in range(RANDOM_ORDERS)]
        for curve in compare(run.scores(), recordings.data, labels, relevances, shares, seeds):
            frames.append(
                pd.DataFrame(
                    {
                        **{key: [value] * len(curve.shares) for key, value in run.provenance.items()},
                        "engine": setting.engine,
                        "selection_seed": setting.seed,
                        "recordings": len(labels),
                        "order": curve.order,
                        "share": curve.shares,
                        "accuracy": curve.accuracy,
                        "deviation": curve.spread,
                        "area": curve.area,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A picture for each network and task: mean accuracy over the splits against the share taken away."""
    groups = list(dict.fromkeys(zip(frame["network"], frame["task"], strict=True)))
    figure = Figure(figsize=(0.6 + 3.5 * len(groups), 3.9), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    orders = list(dict.fromkeys(frame["order"]))
    colours = {
        order: "k" if order == "amplitude" else "0.6" if order == "random" else f"C{k}"
        for k, order in enumerate(orders)
    }
    for axes, (network, task) in zip(grid, groups, strict=True):
        own = frame[(frame["network"] == network) & (frame["task"] == task)]
        for order in orders:
            curve = own[own["order"] == order].groupby("share")["accuracy"].mean()
            area = own[own["order"] == order]["area"].mean()
            axes.plot(
                100 * curve.index,
                100 * curve,
                marker=".",
                linewidth=1.2,
                color=colours[order],
                linestyle="--" if order in FIXED else "-",
                label=f"{order} ({area:.3f})",
            )
        axes.set_title(f"{network}, {task}", fontsize="medium")
        axes.set(xlabel="share taken away (%)", ylim=(0, 102))
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.1, 110)
        axes.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"], fontsize="small")
        axes.minorticks_off()
        axes.legend(title="order (area under the curve)", fontsize="xx-small", title_fontsize="xx-small")
    grid[0].set_ylabel("accuracy (%)")
    return figure


def findings(frame: pd.DataFrame) -> list[str]:
    """For each network and task: the areas under the curves, smallest (fastest fall) first."""
    return [
        f"{network} on {task}, area under the accuracy curve: "
        f"{', '.join(f'{order} {area:.3f}' for order, area in own.items())}."
        for (network, task), own in areas(frame).items()
    ]


def areas(frame: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """{(network, task): area under the curve by order, mean over the splits, smallest first}."""
    return {
        group: own.drop_duplicates(["split", "order"]).groupby("order", sort=False)["area"].mean().sort_values()
        for group, own in frame.groupby(["network", "task"], sort=False)
    }


def conclusions(frame: pd.DataFrame) -> list[Conclusion]:
    """The paper's, on waveforms: accuracy falls fastest when what is relevant goes first."""
    checked = []
    for (network, task), own in areas(frame).items():
        if network != PAPER_NETWORK:
            continue
        for composite in own.index.difference(FIXED, sort=False):
            statement = (
                f"{network} on {task}: accuracy falls faster by relevance ({composite}) than by amplitude and at random"
            )
            evidence = ", ".join(f"area {own[order]:.3f} by {order}" for order in (composite, *FIXED))
            checked.append(Conclusion(statement, own[composite] < min(own[order] for order in FIXED), evidence))
    return checked


def make(setting: Setting) -> Outcome:
    """Curves of every trained run, drawn as means over the splits."""
    frame = measure(trained_runs(setting), setting.recordings(LIMIT))
    recordings = int(frame["recordings"].max())
    caption = (
        f"Accuracy while a growing share of each input is set to silence: first what is most relevant for the "
        f"true class, has the largest amplitude, or at random (mean of {RANDOM_ORDERS} orders); mean over the "
        f"splits, up to {recordings} test recordings each. The axis is linear up to 1 %, then logarithmic."
    )
    return Outcome(
        tables={"curves": frame},
        figures={"curves": (draw(frame), caption)},
        findings=findings(frame),
        conclusions=conclusions(frame),
        unverified=["The shares and numbers of the paper's faithfulness test are to be checked against it."],
    )


EXPERIMENT = Experiment("faithfulness", "Faithfulness of relevance", make, position=70)
