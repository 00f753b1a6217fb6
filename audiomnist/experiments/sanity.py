"""Sanity checks: does an explanation depend on what the network has learnt, and on the class that it explains?

(a) Cascading randomisation: layers get new weights from the network's own fillers, from the top down and from the
bottom up, and the class that the trained network predicts is explained again; how alike are the explanations? (Adebayo
et al. 2018.) Going down from the top is biased: what lies below still carries the input (Binder et al. 2023), so
(b) efficient MPRT stands beside it: by how much the complexity of |R| rises when all layers are new (Hedstroem et al.
2023). (c) The same for a network that was trained on permuted labels, where there is one (`audiomnist permute-labels`).
(d) Class contrast: how alike are the explanations of the best and of the second class? (e) Nulls: the relevance of
another recording, and the map of energy.

"Class-specific" is said of an explanation whose contrast (d) lies below 0.5 and which all new weights bring down to the
level of another recording's (a). Rank correlations are over what is not silent. What is not defined (a cosine of no
relevance) is left out; the column recordings counts those with a contrast.

Of two classes the contrast decides nothing, so that a network with two is at best undecided, and (a) can only refute.
Classes are explained as pictures show them, each from its own score, and what one gains the other loses: where the
scores' signs differ, the cosine is negative though both pictures show the same evidence. Explaining the margin instead
is no way out: a - b and b - a are one picture with two signs, a cosine of -1 whatever the network has learnt.

100 recordings of each network and task are looked at, shared out among its splits, with five sets of new weights; of
the demo's voices a few, with two.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from google.protobuf import text_format
from matplotlib.figure import Figure

from audiomnist.explain import drawing
from audiomnist.explain.faithfulness import best_other, energy
from audiomnist.explain.similarity import cosine, histogram_entropy, rank_correlation, ssim
from audiomnist.progress_bar import progress_bar
from audiomnist.study import paper
from audiomnist.study.conclusion import Conclusion
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import UNIT, Estimate, described, estimate_known
from audiomnist.study.trained import Recordings, TrainedRun, first_runs, import_quietly, permuted_runs, trained_runs
from caffe_proto import read_net, read_weights
from lrp import Network
from lrp.baselines import explain, silence

LIMIT, SEEDS = 100, 5  # recordings of a network and task, and sets of new weights, by default
DEMO_LIMIT, FEW_SEEDS = 6, 2  # of a run of the demo's voices; as many sets where fewer than LIMIT recordings are chosen
BASELINES = ("gradient", "gradient_x_input", "guided_backpropagation")  # one pass each
AT_ONCE = 16  # recordings whose explanations are in memory at once
TOP_DOWN, BOTTOM_UP, PERMUTED, ANOTHER, ENERGY = (
    "top down",
    "bottom up",
    "permuted labels",
    "another recording",
    "energy map",
)
MEASURES = ("spearman_abs", "spearman", "ssim_abs")
CONTRAST = 0.5  # cosine of two classes' explanations, below which they are different ones
TOLERANCE = 0.1  # of a rank correlation, within which it is at the null's level
DEMO = (
    f"So that the demo is quick, it looks at {DEMO_LIMIT} recordings of a run with {FEW_SEEDS} sets of new weights; of "
    f"other recordings it is {LIMIT} of a network and task, with {SEEDS}."
)
GROUP = ["network", "task", "method"]
DRAWS = 2000  # of the bootstrap


@dataclass
class Measured:
    """alike: a row for each run, recording, method, direction, number of new layers and seed: `MEASURES` between the
    trained network's explanation and the other one. single: a row for each run, recording and method: classes (how many
    there are), contrast (cosine of best and second class), complexity, and complexity_rise with all layers new (mean
    over seeds)."""

    alike: pd.DataFrame
    single: pd.DataFrame


# --- new weights -----------------------------------------------------------------------------------------------------


def new_weights(run: TrainedRun, seed: int) -> dict[str, list[np.ndarray]]:
    """{layer: [arrays]}, bottom to top, of the run's network as training begins: from the fillers of its
    train.prototxt, by the seed."""
    net, filled = read_net(run.deploy), {layer.name: layer for layer in read_net(run.folder / "train.prototxt").layer}
    for layer in net.layer:
        for name in ("convolution_param", "inner_product_param"):
            if layer.name in filled and layer.HasField(name):
                own, given = getattr(layer, name), getattr(filled[layer.name], name)
                own.weight_filler.CopyFrom(given.weight_filler)
                own.bias_filler.CopyFrom(given.bias_filler)
    caffe = import_quietly()
    caffe.set_mode_cpu()
    caffe.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "filled.prototxt")
        path.write_text(text_format.MessageToString(net), encoding="utf-8")
        made = caffe.Net(str(path), caffe.TEST)
    return {name: [np.array(blob.data) for blob in blobs] for name, blobs in made.params.items()}


def cascades(layers: Sequence[str]) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(direction, number, names) of the layers, bottom to top, that are new: one more each time, down from the top and
    up from the bottom, up to all of them."""
    for count in range(1, len(layers) + 1):
        yield TOP_DOWN, count, tuple(layers[-count:])
    for count in range(1, len(layers)):
        yield BOTTOM_UP, count, tuple(layers[:count])


# --- measuring -------------------------------------------------------------------------------------------------------


def relevance(network: Network, x: np.ndarray, target: np.ndarray, method: str) -> np.ndarray:
    """Relevance like x (N, C, H, W) of classes (N,) by a composite or baseline, as pictures show it."""
    return explain(network, x, method, target).relevance


def alike(own: np.ndarray, other: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES` (N,) between two relevances (N, C, H, W), where the mask is true; SSIM over all of the input."""
    return {
        "spearman_abs": rank_correlation(np.abs(own), np.abs(other), where),
        "spearman": rank_correlation(own, other, where),
        "ssim_abs": ssim(np.abs(own), np.abs(other)),
    }


def _rows(names: Sequence[str], **columns: object) -> pd.DataFrame:
    """Columns speaker and recording of the names, and more."""
    return pd.DataFrame({"speaker": [n.partition("/")[0] for n in names], "recording": list(names), **columns})


def measure_batch(
    run: TrainedRun, recordings: Recordings, methods: Sequence[str], seeds: Sequence[int], permuted: Network | None
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """The rows of `Measured` of one batch."""
    x, names = recordings.data, recordings.names
    where = x != silence(x)
    scores = run.network.forward(x)
    best = scores.argmax(axis=1)
    second = best_other(scores, best)
    own = {method: relevance(run.network, x, best, method) for method in methods}
    complexity = {method: histogram_entropy(np.abs(one)) for method, one in own.items()}
    loud = energy(x)
    rise = {method: np.zeros(len(x)) for method in methods}
    found = []

    def add(method: str, direction: str, layers: int, seed: int, other: np.ndarray) -> None:
        about = {"method": method, "direction": direction, "layers": layers, "weights_seed": seed}
        found.append(_rows(names, **about, **alike(own[method], other, where)))

    trained = read_weights(run.weights)
    for seed in seeds:
        drawn = new_weights(run, seed)
        for direction, count, layers in cascades(list(drawn)):
            network = Network(run.deploy, {name: drawn[name] if name in layers else trained[name] for name in drawn})
            for method in methods:
                other = relevance(network, x, best, method)
                add(method, direction, count, seed, other)
                if count == len(drawn):
                    before = complexity[method]
                    more = histogram_entropy(np.abs(other)) - before
                    rise[method] += more / np.where(before > 0, before, np.nan) / len(seeds)
    single = []
    for method in methods:
        add(method, ENERGY, 0, 0, loud)
        if len(x) > 1:
            add(method, ANOTHER, 0, 0, np.roll(own[method], 1, axis=0))
        if permuted is not None:
            add(method, PERMUTED, 0, 0, relevance(permuted, x, best, method))
        rival = relevance(run.network, x, second, method)
        single.append(
            _rows(
                names,
                method=method,
                classes=scores.shape[1],
                contrast=cosine(own[method], rival),
                complexity=complexity[method],
                complexity_rise=rise[method],
            )
        )
    return found, single


def permuted_run(run: TrainedRun) -> Network | None:
    """The same network trained on permuted labels, from the folder beside the runs, or None where there is none."""
    return next((one.network for one in permuted_runs(run.setting) if one.run == run.run), None)


def extent(setting: Setting, splits: int) -> tuple[int | None, int]:
    """(recordings of a run, None for all; sets of new weights) where a network and task has so many splits."""
    if setting.limit is None:
        return (DEMO_LIMIT, FEW_SEEDS) if paper.is_demo(setting.data) else (math.ceil(LIMIT / splits), SEEDS)
    limit = setting.recordings(None)
    return limit, SEEDS if limit is None or limit >= LIMIT else FEW_SEEDS


def measure(runs: list[TrainedRun]) -> Measured:
    """Every run with every composite of the setting and every one of `BASELINES`."""
    similar, single = [], []
    splits = Counter((run.run.network, run.run.task) for run in runs)
    extents = {run: extent(run.setting, splits[run.run.network, run.run.task]) for run in runs}
    total = sum(len(run.listed(limit)) for run, (limit, _) in extents.items())
    with progress_bar(total=total, unit="recording", desc="sanity") as bar:
        for run, (limit, count) in extents.items():
            setting = run.setting
            methods = [*setting.composites, *BASELINES]
            seeds = [setting.seed + k for k in range(count)]
            permuted = permuted_run(run)
            about = run.measured_from
            for recordings in run.batches(limit, AT_ONCE):
                found = measure_batch(run, recordings, methods, seeds, permuted)
                for made, everything in zip(found, (similar, single), strict=True):
                    frame = pd.concat(made, ignore_index=True)
                    everything.append(pd.DataFrame(about, index=frame.index).join(frame))
                bar.update(len(recordings.names))
    return Measured(pd.concat(similar, ignore_index=True), pd.concat(single, ignore_index=True))


# --- what it says ----------------------------------------------------------------------------------------------------


def _estimate(frame: pd.DataFrame, column: str, seed: int) -> Estimate:
    return estimate_known(frame.groupby(UNIT)[column].mean().reset_index(), column, seed, DRAWS)


def above_null(alike_: pd.DataFrame) -> pd.DataFrame:
    """Columns split, speaker, recording, above: rank correlation of |R| with all layers new (mean over seeds) minus the
    one with another recording's, of one method's rows of `Measured.alike`."""
    last = alike_[alike_["direction"] == TOP_DOWN]["layers"].max()
    full = alike_[(alike_["direction"] == TOP_DOWN) & (alike_["layers"] == last)].groupby(UNIT)["spearman_abs"].mean()
    null = alike_[alike_["direction"] == ANOTHER].groupby(UNIT)["spearman_abs"].mean()
    return (full - null).rename("above").reset_index()


def verdict(contrast: Estimate, above: Estimate, classes: int) -> str:
    """ "class-specific" where the intervals lie wholly below `CONTRAST` and `TOLERANCE`, "not class-specific" where one
    lies wholly above, else "undecided". Of two classes the contrast counts for nothing (see the module)."""
    if above.low > TOLERANCE or (classes > 2 and contrast.low > CONTRAST):
        return "not class-specific"
    specific = classes > 2 and contrast.high < CONTRAST and above.high < TOLERANCE
    return "class-specific" if specific else "undecided"


def summary(measured: Measured, seed: int) -> pd.DataFrame:
    """A row for each network, task and method: contrast, what all new weights leave above the null, complexity's rise,
    each with its interval, the correlations with energy and permuted labels, and the verdict."""
    rows = []
    for group, single in measured.single.groupby(GROUP, sort=False):
        own = measured.alike
        for name, value in zip(GROUP, group, strict=True):
            own = own[own[name] == value]
        found = {
            "contrast": _estimate(single, "contrast", seed),
            "above_null": _estimate(above_null(own), "above", seed),
            "complexity_rise": _estimate(single, "complexity_rise", seed),
            **{
                name: _estimate(own[own["direction"] == direction], "spearman_abs", seed)
                for name, direction in (("another", ANOTHER), ("energy", ENERGY), ("permuted", PERMUTED))
            },
        }
        row = dict(zip(GROUP, group, strict=True))
        for name, one in found.items():
            row |= one.columns(name)
        count, classes = found["contrast"], int(single["classes"].iloc[0])
        row |= {"classes": classes, "verdict": verdict(found["contrast"], found["above_null"], classes)}
        rows.append(row | {"recordings": count.recordings, "speakers": count.speakers})
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame) -> list[str]:
    """A sentence for each network and task, and what to think of going down from the top."""
    sentences = []
    for (network, task), own in table.groupby(GROUP[:2], sort=False):
        parts = [
            f"{row['method']} {row['verdict']}: contrast {described(row, 'contrast')}, above the null with new weights "
            f"{described(row, 'above_null')}, complexity rises by {described(row, 'complexity_rise')}"
            + ("" if np.isnan(row["permuted"]) else f", permuted labels {described(row, 'permuted')}")
            for _, row in own.iterrows()
        ]
        sentences.append(f"{network} on {task} ({own['recordings'].iloc[0]} recordings): {'; '.join(parts)}.")
    for (network, task), _ in table[table["classes"] == 2].groupby(GROUP[:2], sort=False):
        sentences.append(
            f"{network} on {task} has two classes, whose contrast decides nothing: each is explained from its own "
            "score, and what speaks for one speaks against the other. No explanation can be called class-specific "
            "there; new weights can only refute it."
        )
    if table["permuted"].isna().all():
        sentences.append(
            "No network trained on permuted labels was found: `audiomnist permute-labels data data_permuted`, then "
            "`./train_test.sh --data data_permuted --preprocessed preprocessed_permuted --runs runs_permuted`."
        )
    return [
        *sentences,
        "Going down from the top is biased: the layers below still carry the input, and relevance that follows it "
        "looks unchanged (Binder et al. 2023); efficient MPRT does not depend on an order.",
    ]


def conclusions(measured: Measured, table: pd.DataFrame, setting: Setting, runs: list[TrainedRun]) -> list[Conclusion]:
    """What must hold for pictures of relevance to speak about a class."""
    checked, single = [], measured.single
    groups = list(dict.fromkeys(zip(table["network"], table["task"], strict=True)))
    reasons = {(network, task): paper.not_comparable(setting, runs, task, [network]) for network, task in groups}
    for _, row in table[~table["method"].isin(BASELINES)].iterrows():
        splits = single[(single["network"] == row["network"]) & (single["task"] == row["task"])]["split"].nunique()
        reason = reasons[row["network"], row["task"]]
        of = f"{row['network']} on {row['task']}: {row['method']}"
        for column, what, end in (
            ("contrast", "tells classes apart, by the cosine between two", CONTRAST),
            ("above_null", "depends on what was learnt, by what all new weights leave above another's", TOLERANCE),
        ):
            if column == "contrast" and row["classes"] == 2:
                continue  # it decides nothing
            values = (row[column], row[f"{column}_low"], row[f"{column}_high"])
            found = Estimate(*map(float, values), splits, int(row["speakers"]), int(row["recordings"]))
            checked.append(Conclusion(f"{of} {what}", found, (-np.inf, end), "", reason))
    return checked


# --- pictures --------------------------------------------------------------------------------------------------------


def draw_cascades(measured: Measured) -> Figure:
    """A column for each network and task, a row for each measure: likeness against the share of layers that are new."""
    groups = list(measured.alike.groupby(GROUP[:2], sort=False))
    titles = ("rank correlation of |R|", "rank correlation of R", "SSIM of |R|")
    figure = Figure(figsize=(max(7.5, 1 + 3.6 * len(groups)), 9.4), dpi=100, layout="constrained")
    grid = figure.subplots(3, len(groups), squeeze=False, sharex=True, sharey="row")
    for column, ((network, task), own) in enumerate(groups):
        count = own["layers"].max()
        for row, (measure_, title) in enumerate(zip(MEASURES, titles, strict=True)):
            axes = grid[row, column]
            for number, (method, part) in enumerate(own.groupby("method", sort=False)):
                by = part.groupby(["direction", "layers"])[measure_].mean()
                full = by[TOP_DOWN, count]
                for direction, line in ((TOP_DOWN, "-"), (BOTTOM_UP, "--")):
                    points = {0: 1.0, **by[direction].to_dict(), count: full}
                    axes.plot(
                        [100 * k / count for k in points],
                        list(points.values()),
                        color=f"C{number}",
                        linestyle=line,
                        marker=".",
                        linewidth=1.2,
                        label=f"{method}, {direction}",
                    )
                if ANOTHER in by:
                    axes.plot([100], [by[ANOTHER, 0]], "x", color=f"C{number}", clip_on=False)
                if PERMUTED in by:
                    axes.plot([100], [by[PERMUTED, 0]], "s", color=f"C{number}", markerfacecolor="none", clip_on=False)
            axes.axhline(0, color="0.7", linewidth=0.8)
            if column == 0:
                axes.set_ylabel(title)
        grid[0, column].set_title(f"{network}, {task}", fontsize="medium")
        grid[2, column].set_xlabel("layers with new weights (%)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(groups) == 1 else 4, fontsize="x-small")
    return figure


def draw_summary(table: pd.DataFrame) -> Figure:
    """Forest plots: a column for each network and task; contrast, what is above the null, complexity's rise."""
    groups = list(table.groupby(GROUP[:2], sort=False))
    methods = list(dict.fromkeys(table["method"]))
    rows = {method: len(methods) - 1 - k for k, method in enumerate(methods)}
    kinds = (
        ("contrast", "cosine of two classes' R", CONTRAST),
        ("above_null", "rank correlation of |R|, new weights\nminus another recording", TOLERANCE),
        ("complexity_rise", "rise of complexity, new weights", None),
    )
    figure = Figure(
        figsize=(max(6.5, 2.2 + 3 * len(groups)), 1 + 3 * (0.7 + 0.24 * len(methods))), dpi=100, layout="constrained"
    )
    grid = figure.subplots(3, len(groups), squeeze=False, sharey=True, sharex="row")
    for column, ((network, task), own) in enumerate(groups):
        for row, (name, label, edge) in enumerate(kinds):
            axes, middle = grid[row, column], own[name].to_numpy()
            ends = np.abs(own[[f"{name}_low", f"{name}_high"]].to_numpy().T - middle)
            void = name == "contrast" and own["classes"].iloc[0] == 2
            colour = "0.7" if void else "C0"
            axes.errorbar(middle, own["method"].map(rows), xerr=ends, fmt="o", markersize=4, color=colour, linewidth=1)
            axes.axvline(0, color="0.7", linewidth=0.8)
            if edge is not None and not void:
                axes.axvline(edge, color="C3", linewidth=1, linestyle="--")
            axes.set_yticks(list(rows.values()), list(rows), fontsize="small")
            axes.set_ylim(-0.5, len(methods) - 0.5)
            axes.set_xlabel(label, fontsize="small")
        grid[0, column].set_title(f"{network}, {task}", fontsize="medium")
    return figure


def draw_example(run: TrainedRun, composite: str) -> tuple[Figure, str]:
    """One recording: relevance of the best and of the second class, and of the margin between them; its caption."""
    recordings = run.examples()
    x = recordings.data[:1]
    scores = run.network.forward(x)
    best = scores.argmax(axis=1)
    second = best_other(scores, best)
    pair = {name: relevance(run.network, x, target, composite)[0] for name, target in (("a", best), ("b", second))}
    a, b = (float(scores[0, int(target[0])]) for target in (best, second))
    names = [run.task.classes[int(target[0])] for target in (best, second)]
    shown = [pair["a"], pair["b"], pair["a"] - pair["b"]]
    texts = [
        f"best class, {names[0]} (score {a:.2f})",
        f"second class, {names[1]} (score {b:.2f})",
        f"margin {names[0]} - {names[1]} ({a - b:.2f})",
    ]
    alike_ = float(cosine(pair["a"][None], pair["b"][None])[0])
    caption = (
        f"What speaks for the best class, for the second, and for the first rather than the second ({run.run}, weights "
        f"{run.weights_sha256[:12]}, {composite}; cosine of the first two {alike_:.2f}). LRP is linear in its start, "
        "so the last is the difference of the others."
    )
    return drawing.compare(x[0], shown, texts), caption


def by_layer(alike_: pd.DataFrame) -> pd.DataFrame:
    """`Measured.alike` as means over recordings and sets of new weights, whose number is in the column rows."""
    keys = [name for name in alike_.columns if name not in (*MEASURES, "speaker", "recording", "weights_seed")]
    means = alike_.groupby(keys, sort=False)
    return means[list(MEASURES)].mean().assign(rows=means.size()).reset_index()


def make(setting: Setting) -> Outcome:
    """Every trained run checked; a picture of the margin for each task's first."""
    runs = trained_runs(setting)
    measured = measure(runs)
    table = summary(measured, setting.seed)
    recordings = measured.single.drop_duplicates(["network", "task", "split", "recording"])
    count = f"{len(recordings)} recordings, {measured.alike['weights_seed'].nunique()} sets of new weights"
    outcome = Outcome(
        tables={"verdicts": table, "layers": by_layer(measured.alike), "recordings": measured.single},
        figures={
            "cascades": (
                draw_cascades(measured),
                f"Explanations of the class that the trained network predicts, while layers get new weights from their "
                f"own fillers, down from the top and up from the bottom ({count}). Crosses: another recording's; open "
                "squares: a network trained on permuted labels. Rank correlations over what is not silent.",
            ),
            "verdicts": (
                draw_summary(table),
                f"Contrast of classes, what all new weights leave above the level of another recording, and efficient "
                f"MPRT ({count}; 95 % intervals by speakers). Dashed: the limits of the verdict; grey: of two classes, "
                "whose contrast decides nothing.",
            ),
        },
        findings=findings(table) + ([DEMO] if setting.limit is None and paper.is_demo(setting.data) else []),
        conclusions=conclusions(measured, table, setting, runs),
    )
    for network in dict.fromkeys(run.run.network for run in runs):
        for run in first_runs(setting, network):
            outcome.figures[f"margin_{network}_{run.run.task}"] = draw_example(run, setting.composites[0])
    return outcome


EXPERIMENT = Experiment("sanity", "Sanity checks of relevance", make, permuted=True, position=75)
