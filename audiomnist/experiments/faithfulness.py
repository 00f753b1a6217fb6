"""Faithfulness: what becomes of the prediction when relevant parts of a recording are removed first, or last.

The predicted class is explained, once, on the whole recording. Of the values that are not silent up to 30 % are taken
away: single ones, or blocks of 5 ms (waveforms) and tiles of 8 bins x 8 frames (spectrograms); silence or a straight
line takes their place. A composite's score is the area between "least relevant first" and "most relevant first" under
the share of recordings whose prediction stays, divided by 1 - chance: 0 for an order that knows nothing. Beside it
stand orders that know no network (amplitude, chance) and the relevance shuffled among parts of equal energy: what is
left of the difference to that one is more than "loud parts matter".

The paper's test is on waveforms (its shares and numbers are unverified). FreqRISE's published protocol is made too, as
it is, so that its numbers can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from audiomnist.explain import freqrise
from audiomnist.explain.faithfulness import (
    AMPLITUDE,
    LEAST,
    MAGNITUDE,
    MATCHED,
    MOST,
    RANDOM,
    RIVAL,
    SHARES,
    Forward,
    Parts,
    area,
    best_other,
    curves,
    generator,
    orders,
)
from audiomnist.explain.progress import Part, Progress
from audiomnist.progress_bar import progress_bar
from audiomnist.provenance import code_digest
from audiomnist.study import paper
from audiomnist.study.conclusion import ABOVE_ZERO, Conclusion
from audiomnist.study.outcome import CODE, Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import contrast, described, estimate, estimate_known
from audiomnist.study.trained import Recordings, TrainedRun, trained_runs

LIMIT = 10  # recordings of a run, by default: some 200 passes over each
AT_ONCE = 16  # recordings that are measured together, and kept together when a long experiment is stopped
MAIN = ("blocks", "interpolation")
VARIANTS = (MAIN, ("blocks", "silence"), ("values", "interpolation"), ("values", "silence"))
PAPER_NETWORK = "AudioNet"
KEYS = ["network", "task", "split", "units", "replacement", "source", "kind"]
GROUP = ["network", "task"]
VALUES = ("right", "margin", "energy")
DRAWS = 2000  # of the bootstrap: there are some 200 intervals
SCORES = ("score", "margin_score", "beyond_energy", "sign")


@dataclass
class Measured:
    """What was measured.

    curves: a row for each run, speaker, variant, order and share, means over the speaker's recordings: right (0 to 1),
    margin (scores), energy (0 to 1). scores: a row for each run, recording, variant and source: score, margin_score,
    beyond_energy, sign. published: FreqRISE's protocol, a row for each run, domain, source and share.
    """

    curves: pd.DataFrame
    scores: pd.DataFrame
    published: pd.DataFrame = field(default_factory=pd.DataFrame)


# --- measuring -------------------------------------------------------------------------------------------------------


def measure_batch(
    run: TrainedRun, recordings: Recordings, forward: Forward, label_as_target: bool = False
) -> tuple[list[tuple[str, ...]], dict[str, np.ndarray]]:
    """One batch: the orders, (units, replacement, source, kind) each, and arrays (N, orders, S) `right`, `margin`,
    `energy`; (N,) `known`, the prediction is the label.

    The main variant has all orders; the others have each composite's most and least relevant first.
    """
    setting = run.setting
    scores = forward(recordings.data)
    labels = recordings.labels[:, run.label_column]
    target = labels if label_as_target else scores.argmax(axis=1)
    relevances = {c: run.network.relevance(recordings.data, target, c).relevance for c in setting.composites}
    first = setting.composites[0]
    rivals = {first: run.network.relevance(recordings.data, best_other(scores, target), first).relevance}
    keys, found = [], {name: [] for name in VALUES}
    for units in dict.fromkeys(units for units, _ in VARIANTS):
        parts = Parts(recordings.data, units)
        for order in orders(parts, relevances, recordings.names, setting.seed, rivals, [first]):
            for replacement in (r for u, r in VARIANTS if u == units):
                if (units, replacement) == MAIN or (order.source in relevances and order.kind in (MOST, LEAST)):
                    one = curves(forward, parts, target, order.make(), replacement)
                    keys.append((units, replacement, order.source, order.kind))
                    for name in VALUES:
                        found[name].append(getattr(one, name))
    arrays = {name: np.stack(values, axis=1) for name, values in found.items()}
    return keys, arrays | {"known": scores.argmax(axis=1) == labels}


def published_batch(run: TrainedRun, recordings: Recordings, forward: Forward) -> dict[str, np.ndarray]:
    """FreqRISE's protocol over a batch of waveforms: {"domain|source": (N, S) probability of the true class} and
    {"complexity domain|source": (N,)} of the setting's first composite."""
    x = recordings.data.reshape(len(recordings.names), -1)
    labels = recordings.labels[:, run.label_column]
    composite = run.setting.composites[0]
    relevance = run.network.relevance(recordings.data, labels, composite).relevance.reshape(x.shape)
    found = {}
    for name, domain in freqrise.DOMAINS.items():
        values = domain.there(x)
        importances = {}
        if domain.relevance is not None:
            own = domain.relevance(x, relevance)
            found[f"complexity {name}|{composite}"] = freqrise.complexity(own)
            importances[composite] = lambda index, own=own: np.maximum(own, 0)
        if name != "time-frequency, windows of 800":  # the authors' chance and amplitude lie on the other windows

            def chance(index: int, name: str = name, shape: tuple[int, ...] = values.shape[1:]) -> np.ndarray:
                seeds = [generator(run.setting.seed, one, f"FreqRISE {name} {index}") for one in recordings.names]
                return np.stack([rng.random(shape) for rng in seeds])

            importances |= {AMPLITUDE: lambda index, values=values: np.abs(values), RANDOM: chance}
        for source, importance in importances.items():
            found[f"{name}|{source}"] = freqrise.probabilities(forward, x, labels, name, importance)
    return found


def _key(run: TrainedRun, paths: Sequence[str], code: str) -> str:
    """The name of a kept part: whatever decides what it holds. code: digest of the packages that do."""
    setting = run.setting
    made_from = [run.weights_sha256, setting.composites, setting.seed, setting.engine, code]
    return hashlib.sha256(json.dumps([Progress.key(paths), *made_from]).encode()).hexdigest()


def measure_run(run: TrainedRun, limit: int | None, progress: Progress | None, bar: tqdm | None = None) -> Measured:
    """One run, `AT_ONCE` recordings in memory at a time; `progress` keeps finished batches and gives them back."""
    forward = None
    shown, arrays = [], []
    listed, code = run.listed(limit), code_digest(*CODE) if progress else ""
    for names in (listed[start : start + AT_ONCE] for start in range(0, len(listed), AT_ONCE)):
        key = _key(run, [str(run.setting.preprocessed / name) for name in names], code) if progress else ""
        part = progress.read(key) if progress else None
        if part is None:
            forward = forward or run.scores()
            recordings = run.read(names)
            keys, found = measure_batch(run, recordings, forward)
            if recordings.data.shape[2] == 1:
                found |= published_batch(run, recordings, forward)
            part = Part(lines=["\t".join(key) for key in keys], groups=[found])
            if progress:
                progress.keep(key, part)
        shown = [tuple(line.split("\t")) for line in part.lines]
        arrays.append(part.groups[0])
        if bar is not None:
            bar.update(len(names))
    together = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
    return summarised(run, shown, together, listed)


def scores_of(
    keys: list[tuple[str, ...]], arrays: dict[str, np.ndarray], classes: int, shares: Sequence[float] = SHARES
) -> pd.DataFrame:
    """Per recording (index item), variant and source: columns units, replacement, source and

    score: area under `right`, least relevant first, minus the same, most relevant first, over 1 - 1 / classes;
    margin_score: the same of the margin, over the mean margin of the whole recordings; beyond_energy: energy-matched
    minus most relevant first, chance-corrected as the score; sign: rival's relevant first minus most relevant first.
    """
    chance = 1 - 1 / classes
    heights = {name: area(arrays[name], shares) for name in ("right", "margin")}
    at = {key: index for index, key in enumerate(keys)}
    start = arrays["margin"][:, 0, 0].mean()
    rows = []
    for units, replacement, source, kind in keys:
        if kind != MOST:
            continue

        def against(
            other: str, name: str = "right", units: str = units, replacement: str = replacement, source: str = source
        ) -> np.ndarray:
            index = at.get((units, replacement, source, other))
            most = heights[name][:, at[units, replacement, source, MOST]]
            return np.full(len(most), np.nan) if index is None else heights[name][:, index] - most

        rows.append(
            pd.DataFrame(
                {
                    "units": units,
                    "replacement": replacement,
                    "source": source,
                    "score": against(LEAST) / chance,
                    "margin_score": against(LEAST, "margin") / (start if start > 0 else np.nan),
                    "beyond_energy": against(MATCHED) / chance,
                    "sign": against(RIVAL) / chance,
                }
            ).rename_axis("item")
        )
    return pd.concat(rows)


def summarised(
    run: TrainedRun, keys: list[tuple[str, ...]], arrays: dict[str, np.ndarray], recordings: list[str]
) -> Measured:
    """Curves as means over each speaker's recordings, and every recording's scores, beside what made the run."""
    about = run.measured_from
    speakers = np.array([name.partition("/")[0] for name in recordings])
    names, index, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    means = {}
    for name in VALUES:
        sums = np.zeros((len(names), *arrays[name].shape[1:]))
        np.add.at(sums, index, arrays[name])
        means[name] = sums / counts[:, None, None]
    grid = pd.MultiIndex.from_product([names, range(len(keys)), SHARES], names=["speaker", "order", "share"])
    frame = pd.DataFrame({name: values.ravel() for name, values in means.items()}, index=grid).reset_index()
    labels = pd.DataFrame(keys, columns=KEYS[3:])
    frame = pd.concat([frame, labels.iloc[frame.pop("order")].reset_index(drop=True)], axis=1)
    scores = scores_of(keys, arrays, len(run.task.classes)).reset_index()
    item = scores.pop("item").to_numpy()
    scores.insert(0, "speaker", speakers[item])
    scores.insert(1, "recording", np.array(recordings)[item])
    published = [
        pd.DataFrame(
            {"domain": name.split("|")[0], "source": name.split("|")[1], "share": freqrise.SHARES}
            | {
                "probability": values.mean(axis=0),
                "area": np.trapezoid(values.mean(axis=0), freqrise.SHARES),
                "complexity": arrays.get(f"complexity {name}", np.array(np.nan)).mean(),
            }
        )
        for name, values in arrays.items()
        if "|" in name and not name.startswith("complexity ")
    ]
    known = {"recordings_known": int(arrays["known"].sum()), "recordings_of_run": len(recordings)}

    def beside(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({**about, **known}, index=frame.index).join(frame)

    protocol = beside(pd.concat(published, ignore_index=True)) if published else pd.DataFrame()
    return Measured(beside(frame), beside(scores), protocol)


def measure(runs: list[TrainedRun], limit: int | None = LIMIT) -> Measured:
    """Every run; a batch of recordings, the means over speakers and four numbers a recording are in memory at once.

    Where the setting names a folder for it, finished batches are kept there until all is done.
    """
    kept = runs[0].setting.kept
    progress = None if kept is None else Progress(kept, {"experiment": "faithfulness"})
    try:
        with progress_bar(
            total=sum(len(run.listed(limit)) for run in runs), unit="recording", desc="faithfulness"
        ) as bar:
            made = [measure_run(run, limit, progress, bar) for run in runs]
        if progress:
            progress.remove()
    finally:
        if progress:
            progress.close()
    published = [one.published for one in made if len(one.published)]
    return Measured(
        pd.concat([one.curves for one in made], ignore_index=True),
        pd.concat([one.scores for one in made], ignore_index=True),
        pd.concat(published, ignore_index=True) if published else pd.DataFrame(),
    )


# --- what it says ----------------------------------------------------------------------------------------------------


def ranking(scores: pd.DataFrame, seed: int) -> dict[str, int]:
    """{source: rank} of one network, task and variant: 1 + the number of sources whose score is larger by an interval
    of the difference, paired on recordings, that does not cover 0. Equal ranks are ties.

    scores: rows of `Measured.scores`.
    """
    own = dict(list(scores.groupby("source", sort=False)))
    ranks = {}
    for source, one in own.items():
        others = [other for name, other in own.items() if name != source]
        ranks[source] = 1 + sum(contrast(other, one, "score", seed, DRAWS).low > 0 for other in others)
    return ranks


def summary(measured: Measured, seed: int) -> pd.DataFrame:
    """A row for each network, task, variant and source: score, margin_score, beyond_energy and sign with the ends of
    their intervals (score_low, score_high ...), and rank among the sources of the variant (see `ranking`)."""
    rows = []
    for group, own in measured.scores.groupby([*GROUP, "units", "replacement"], sort=False):
        ranks = ranking(own, seed)
        for source, one in own.groupby("source", sort=False):
            found = {column: estimate_known(one, column, seed, DRAWS) for column in SCORES}
            row = dict(zip([*GROUP, "units", "replacement"], group, strict=True))
            row |= {"source": source, "rank": ranks[source]}
            for column, value in found.items():
                row |= value.columns(column)
            rows.append(row | {"speakers": found["score"].speakers, "recordings": found["score"].recordings})
    return pd.DataFrame(rows)


def in_main(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the main variant."""
    return table[(table["units"] == MAIN[0]) & (table["replacement"] == MAIN[1])]


def findings(table: pd.DataFrame) -> list[str]:
    """For each network and task: the scores by rank, ties said so, and what is left beyond energy."""
    sentences = []
    for (network, task), own in in_main(table).groupby(GROUP, sort=False):
        own = own.sort_values(["rank", "score"], ascending=[True, False])
        by_rank = [
            " = ".join(f"{row['source']} {described(row, 'score')}" for _, row in tied.iterrows())
            for _, tied in own.groupby("rank")
        ]
        beyond = [
            f"{row['source']} {described(row, 'beyond_energy')}"
            for _, row in own.dropna(subset=["beyond_energy"]).iterrows()
        ]
        count = f"{own['recordings'].iloc[0]} recordings of {own['speakers'].iloc[0]} speakers"
        sentences.append(
            f"{network} on {task} ({count}), score (least minus most relevant first) by rank, = is a tie: "
            f"{'; '.join(by_rank)}. Beyond energy: {', '.join(beyond)}."
        )
    return sentences


def conclusions(measured: Measured, runs: list[TrainedRun], setting: Setting) -> list[Conclusion]:
    """The paper's, on waveforms: the prediction falls fastest when what is relevant goes first.

    The first composite stands for the paper's rules; what the others do, and energy, are questions of our own.
    """
    checked = []
    scores = in_main(measured.scores)
    for (network, task), own in scores[scores["network"] == PAPER_NETWORK].groupby(GROUP, sort=False):
        reason = paper.not_comparable(setting, runs, task, [network])
        by_source = dict(list(own.groupby("source", sort=False)))
        for source in (name for name in by_source if name not in BASELINES):
            faster = f"{network} on {task}: the prediction falls faster by relevance ({source}) than"
            for name, wording in ((AMPLITUDE, "by amplitude"), (RANDOM, "at random")):
                found = contrast(by_source[source], by_source[name], "score", setting.seed, DRAWS)
                claim = f"{task}: relevance before {name}"
                claim = claim if source == setting.composites[0] and claim in paper.CLAIMS else None
                checked.append(Conclusion(f"{faster} {wording}", found, ABOVE_ZERO, "", reason, claim))
            beyond = by_source[source].dropna(subset=["beyond_energy"])
            if len(beyond):
                found = estimate(beyond, "beyond_energy", setting.seed, 0.0, DRAWS)
                checked.append(Conclusion(f"{faster} by parts of equal energy", found, ABOVE_ZERO, "", reason))
    return checked


# --- pictures --------------------------------------------------------------------------------------------------------

SHOWN = {  # kind: (colour, line, label) of the first composite's curves
    MOST: ("C3", "-", "most relevant first"),
    MAGNITUDE: ("C1", "-", "largest |R| first"),
    MATCHED: ("C4", "--", "random of equal energy"),
    RIVAL: ("C2", "--", "relevant for the rival first"),
    LEAST: ("C0", "-", "least relevant first"),
}
BASELINES = {AMPLITUDE: ("k", "-", "largest amplitude first"), RANDOM: ("0.6", "-", "random")}


def _band(axes, own: pd.DataFrame, column: str, factor: float, seed: int, **style) -> None:
    """Mean over the speakers of a curve, with its interval."""
    of_speakers = own.assign(recording="all")
    found = [estimate(at, column, seed, draws=DRAWS) for _, at in of_speakers.groupby("share")]
    points = factor * np.array([(one.mean, one.low, one.high) for one in found]).T
    percent = 100 * np.array(sorted(own["share"].unique()))
    axes.plot(percent, points[0], marker=".", **style)
    axes.fill_between(percent, points[1], points[2], color=style["color"], alpha=0.12, linewidth=0)


def draw_curves(measured: Measured, composite: str, seed: int) -> Figure:
    """A column for each network and task: predictions that stay with the energy that is gone on a second axis, and the
    margin; the main variant and one composite."""
    main = in_main(measured.curves)
    groups = list(main.groupby(GROUP, sort=False))
    figure = Figure(figsize=(max(7, 1 + 3.7 * len(groups)), 7.4), dpi=100, layout="constrained")
    grid = figure.subplots(2, len(groups), squeeze=False, sharex=True)  # margins have scales of their own
    for column, ((network, task), own) in enumerate(groups):
        upper, lower = grid[:, column]
        upper.tick_params(labelleft=column == 0)
        second = upper.twinx()
        start = own.loc[own["share"] == 0, "margin"].mean()
        for source, kind, (colour, line, label) in [
            *((composite, kind, style) for kind, style in SHOWN.items()),
            *((source, MOST, style) for source, style in BASELINES.items()),
        ]:
            curve = own[(own["source"] == source) & (own["kind"] == kind)]
            width = 3 if (source, kind) == (composite, MOST) else 1.3  # seen below |R|, which is R where none is < 0
            style = {"color": colour, "linestyle": line, "linewidth": width}
            _band(upper, curve, "right", 100, seed, label=label, **style)
            _band(lower, curve, "margin", 100 / start, seed, **style)
            gone = 100 * curve.groupby("share")["energy"].mean()
            second.plot(100 * gone.index, gone, color=colour, linestyle=":", linewidth=1)
        upper.set_title(f"{network}, {task}", fontsize="medium")
        upper.set(ylim=(0, 103))
        second.set(ylim=(0, 103))
        if column == len(groups) - 1:
            second.set_ylabel("energy removed (%), dotted")
        else:
            second.set_yticklabels([])
        lower.axhline(0, color="0.7", linewidth=0.8)
        lower.set_xlabel("removed, of what is not silent (%)")
    grid[0, 0].set_ylabel("prediction stays (%)")
    grid[1, 0].set_ylabel("margin to the best other class\n(% of that of the whole recordings)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(groups) == 1 else 4, fontsize="small")
    return figure


def draw_scores(table: pd.DataFrame) -> Figure:
    """A forest plot: a row for each source, a mark for each variant, and what the main variant leaves beyond energy."""
    groups = list(table.groupby(GROUP, sort=False))
    sources = list(dict.fromkeys(table["source"]))
    sources = [s for s in sources if s not in BASELINES] + [s for s in BASELINES if s in sources]
    figure = Figure(figsize=(max(7, 2.2 + 3.1 * len(groups)), 1.8 + 0.75 * len(sources)), dpi=100, layout="constrained")
    grid = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    rows = {source: len(sources) - 1 - k for k, source in enumerate(sources)}
    for axes, ((network, task), own) in zip(grid, groups, strict=True):
        marks = [(units, replacement, "score", f"{units}, {replacement}") for units, replacement in VARIANTS]
        marks.append((*MAIN, "beyond_energy", f"beyond energy ({', '.join(MAIN)})"))
        for number, (units, replacement, column, label) in enumerate(marks):
            part = own[(own["units"] == units) & (own["replacement"] == replacement)].dropna(subset=[column])
            middle = part[column].to_numpy()
            axes.errorbar(
                middle,
                part["source"].map(rows).to_numpy() + 0.3 - 0.15 * number,
                xerr=np.abs(part[[f"{column}_low", f"{column}_high"]].to_numpy().T - middle),
                fmt="o" if column == "score" else "D",
                markersize=4,
                markerfacecolor=f"C{number}" if column == "score" else "w",
                color=f"C{number}",
                linewidth=1,
                label=label,
            )
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.set_ylim(-0.5, len(sources) - 0.5)
        axes.set_yticks(list(rows.values()), list(rows))
        axes.set_title(f"{network}, {task}", fontsize="medium")
        axes.set_xlabel("score (0: knows nothing)")
        for row in range(1, len(sources)):
            axes.axhline(row - 0.5, color="0.9", linewidth=0.8)
    columns = 2 if len(groups) == 1 else 3
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize="small")
    return figure


def draw_published(frame: pd.DataFrame) -> Figure:
    """FreqRISE's protocol: a row for each network and task, a column for each domain; means over the splits."""
    groups, domains = list(frame.groupby(GROUP, sort=False)), ("time", "frequency", "time-frequency")
    figure = Figure(figsize=(11, 0.6 + 3.1 * len(groups)), dpi=100, layout="constrained")
    grid = figure.subplots(len(groups), 3, squeeze=False, sharex=True, sharey=True)
    for row, ((network, task), own) in zip(grid, groups, strict=True):
        for axes, domain in zip(row, domains, strict=True):
            part = own[own["domain"].str.startswith(domain + ",") | (own["domain"] == domain)]
            for source, curve in part.groupby("source", sort=False):
                mean = curve.groupby("share")["probability"].mean()
                colour = BASELINES[source][0] if source in BASELINES else "C3"
                label = f"{source} ({curve['area'].mean():.3f})"
                axes.plot(100 * mean.index, mean, marker=".", color=colour, label=label)
            axes.set(title=f"{network}, {task}: {domain}", ylim=(0, 1.02), xlabel="set to zero, of all values (%)")
            axes.legend(title="by (area)", fontsize="x-small", title_fontsize="x-small")
        row[0].set_ylabel("mean probability of the true class")
    return figure


def by_speaker(scores: pd.DataFrame) -> pd.DataFrame:
    """`Measured.scores` as means over each speaker's recordings, whose number is in the column recordings."""
    keys = [name for name in scores.columns if name not in (*SCORES, "recording")]
    means = scores.groupby(keys, sort=False, dropna=False)
    return means[list(SCORES)].mean().assign(recordings=means.size()).reset_index()


def make(setting: Setting) -> Outcome:
    """Every trained run measured; curves, scores with intervals by speakers, and FreqRISE's protocol for waveforms."""
    runs = trained_runs(setting)
    measured = measure(runs, setting.recordings(LIMIT))
    table = summary(measured, setting.seed)
    composite = setting.composites[0]
    of = (
        f"means over {'; '.join(f'{n} ({r} recordings, {s} speakers)' for n, r, s in _counts(table))}, 95 % intervals "
        "by drawing speakers within the splits, and their recordings"
    )
    outcome = Outcome(
        tables={"scores": table, "speakers": by_speaker(measured.scores), "curves": measured.curves},
        figures={
            "curves": (
                draw_curves(measured, composite, setting.seed),
                f"What is left of the prediction while parts of a recording are removed ({composite}; "
                f"{' replaced by '.join(MAIN)}): {of}. Dotted: the share of the recording's energy that is gone. The "
                "rival is the best other class; random of equal energy takes other parts of the same energies.",
            ),
            "scores": (
                draw_scores(table),
                "Score: area between least and most relevant first under the predictions that stay, up to "
                f"{100 * SHARES[-1]:.0f} % of what is not silent, over 1 - chance; {of}. Colours: what goes together, "
                "and what replaces it. Diamonds: the same against random parts of equal energy.",
            ),
        },
        findings=findings(table),
        conclusions=conclusions(measured, runs, setting),
        unverified=["The shares and numbers of the paper's faithfulness test are to be checked against it."],
    )
    if len(measured.published):
        outcome.tables["freqrise"] = measured.published
        outcome.figures["freqrise"] = (
            draw_published(measured.published),
            f"FreqRISE's published protocol on the waveform network ({composite}, the true class): the largest values "
            "set to zero in each domain, and the area under the curve (0.95 is the most); means over the splits.",
        )
        for (network, task), own in measured.published.groupby(GROUP, sort=False):
            areas = own.groupby(["domain", "source"], sort=False)[["area", "complexity"]].mean()
            text = ", ".join(
                f"{domain} by {source} {row.area:.3f}"
                + ("" if np.isnan(row.complexity) else f" (complexity {row.complexity:.2f})")
                for (domain, source), row in areas.iterrows()
            )
            outcome.findings.append(f"{network} on {task}, FreqRISE's protocol, area: {text}.")
    return outcome


def _counts(table: pd.DataFrame) -> list[tuple[str, int, int]]:
    """(network and task, recordings, speakers) of each."""
    first = table.drop_duplicates(GROUP)
    return [(f"{row.network} on {row.task}", row.recordings, row.speakers) for row in first.itertuples()]


EXPERIMENT = Experiment("faithfulness", "Faithfulness of relevance", make, position=70)
