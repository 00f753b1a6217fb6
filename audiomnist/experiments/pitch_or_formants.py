"""Does the gender AlexNet go by the pitch or by the formants? Move one and leave the other where it is.

Scaling a spectrogram's frequency axis (`gender_hypothesis`) moves the fundamental, its harmonics, the formants and the
tilt together, so that what fools the network then may be any of them. Here the spectrogram X in decibels is split into
its envelope E (formants, tilt) and the harmonics F over it (`audiomnist.signal.frequency_axis`), and S_g, the scaling
by g, is applied to both or to one: S_g E + S_g F, E + S_g F, S_g E + F. Where the axis is squeezed, E keeps its highest
frequency and F is 0. What is made lies between -80 and 0 dB, as inputs do. Two more conditions say what the method
itself does: scaled there and back, which only blurs; and silence in the upper third, which squeezing by 0.66 empties.

The margin m is the score of "female" minus that of "male". The pitch's share of what scaling does is

    (m(E + S_g F) - m(X)) / (m(S_g E + S_g F) - m(X))

at the paper's factors, of means over speakers; the formants' share likewise. The two need not add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.special import expit

from audiomnist.experiments.gender_hypothesis import FACTORS, FEMALE, MALE, NETWORK, TASK
from audiomnist.progress_bar import progress_bar
from audiomnist.signal.frequency_axis import in_range, pitch_of, scale_frequency, split
from audiomnist.study import paper, statistics
from audiomnist.study.conclusion import Conclusion
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import UNIT
from audiomnist.study.trained import GENDER_COLUMN, TrainedRun, trained_runs

GRID = tuple(np.geomspace(0.5, 2, 13).round(4).tolist())  # factors; the seventh is 1
LIMIT = 120  # recordings of a run, by default: 54 passes over each
ORIGINAL, BOTH, PITCH, FORMANTS, ROUND_TRIP, EMPTY_TOP = (
    "original", "both", "pitch", "formants", "round trip", "empty top",
)  # fmt: skip
SCALED = (BOTH, PITCH, FORMANTS, ROUND_TRIP)
TOP_BIN = 150  # of 227: squeezing by 0.66 leaves nothing from here on
MAJORITY, FEW_FLIPS = 50.0, 5.0  # percent: what the hypothesis asks of the pitch's share, and allows the empty top
COLOURS = {BOTH: "k", PITCH: "C3", FORMANTS: "C0", ROUND_TRIP: "0.6"}
DRAWS = 2000  # of the bootstrap of a point of a curve


def _parts(envelope: np.ndarray, harmonics: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    return scale_frequency(envelope, factor, "repeat"), scale_frequency(harmonics, factor, "zero")


def in_condition(envelope: np.ndarray, harmonics: np.ndarray, condition: str, factor: float) -> np.ndarray:
    """Spectrograms (..., 227, T) in dB of which both parts, one, or none is scaled by `factor` (see the module)."""
    moved_envelope, moved_harmonics = _parts(envelope, harmonics, factor)
    if condition == ROUND_TRIP:
        moved_envelope, moved_harmonics = _parts(moved_envelope, moved_harmonics, 1 / factor)
    kept = envelope if condition == PITCH else moved_envelope, harmonics if condition == FORMANTS else moved_harmonics
    return in_range(sum(kept))


def without_top(data: np.ndarray) -> np.ndarray:
    """Spectrograms (..., F, T) with silence, their lowest value, from bin `TOP_BIN` on."""
    emptied = data.copy()
    emptied[..., TOP_BIN:, :] = data.min(axis=(-2, -1), keepdims=True)
    return emptied


def margins(run: TrainedRun, limit: int | None, done: Callable[[int], object] = lambda _: None) -> pd.DataFrame:
    """A row for each test recording, condition and factor: columns of `TrainedRun.measured_from`, UNIT, gender, digit,
    pitch (Hz, of the recording), condition, factor, margin (score of female minus male).

    The conditions of `SCALED` have the factors of `GRID` and the paper's for the speaker's gender; ORIGINAL and
    EMPTY_TOP have 1. `done(n)` is called after n recordings.
    """
    scores, frames = run.scores(), []
    for recordings in run.batches(limit):
        data, genders = recordings.data, recordings.labels[:, GENDER_COLUMN]
        about = pd.DataFrame([{"split": run.run.split, **recordings.describe(k)} for k in range(len(data))])
        about["pitch"] = [pitch_of(item) for item in data[:, 0]]
        envelope, harmonics = split(data)

        def ask(condition: str, factor: float, changed: np.ndarray, rows: np.ndarray, about=about) -> None:
            said = scores(changed).astype(np.float64)
            own = about[rows].assign(condition=condition, factor=factor, margin=said[:, FEMALE] - said[:, MALE])
            frames.append(own)

        everybody = np.ones(len(data), bool)
        ask(ORIGINAL, 1.0, data, everybody)
        ask(EMPTY_TOP, 1.0, without_top(data), everybody)
        chosen = [(factor, everybody) for factor in GRID if factor != 1]
        chosen += [(factor, genders == gender) for gender, factor in FACTORS.items()]
        for factor, rows in chosen:
            for condition in SCALED if rows.any() else ():
                ask(condition, factor, in_condition(envelope[rows], harmonics[rows], condition, factor), rows)
        done(len(data))
    return pd.concat(frames, ignore_index=True).assign(**run.measured_from)


def at_factors(frame: pd.DataFrame, gender: str | None = None) -> pd.DataFrame:
    """Rows UNIT, gender; columns ORIGINAL, EMPTY_TOP and SCALED at the paper's factors: margins, counted towards the
    other gender, so that what is above 0 is taken for it. gender: its speakers only."""
    own = frame[frame["gender"] == gender] if gender else frame
    factor = own["gender"].map({"male": FACTORS[MALE], "female": FACTORS[FEMALE]})
    own = own[(own["factor"] == factor) | own["condition"].isin((ORIGINAL, EMPTY_TOP))]
    other = own["gender"].map({"male": 1.0, "female": -1.0})
    table = own.assign(margin=other * own["margin"]).pivot(
        index=[*UNIT, "gender"], columns="condition", values="margin"
    )
    return table.reindex(columns=[ORIGINAL, EMPTY_TOP, *SCALED]).rename_axis(columns=None).reset_index()


def shares(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Columns gender, part, speakers, recordings, and share, share_low, share_high (percent): the shares that pitch and
    formants have in what scaling both does at the paper's factors, of women, men and both."""
    rows = []
    for gender in ("female", "male", "both"):
        table = at_factors(frame, None if gender == "both" else gender)
        for part in (PITCH, FORMANTS) if len(table) else ():
            moved = table[UNIT].assign(part=table[part] - table[ORIGINAL], both=table[BOTH] - table[ORIGINAL])
            found = statistics.ratio(moved, "part", "both", seed).scaled(100)
            rows.append(
                {"gender": gender, "part": part, "speakers": found.speakers, "recordings": found.recordings}
                | found.columns("share")
            )
    return pd.DataFrame(rows)


def flips(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Columns gender, condition, and flipped, flipped_low, flipped_high: percent of the recordings that are answered
    rightly as they are and taken for the other gender in the condition, at the paper's factors."""
    rows = []
    for gender in ("female", "male", "both"):
        table = at_factors(frame, None if gender == "both" else gender)
        right = table[table[ORIGINAL] < 0]
        for condition in (*SCALED, EMPTY_TOP) if len(right) else ():
            found = statistics.estimate(right[UNIT].assign(flipped=right[condition] > 0), "flipped", seed).scaled(100)
            rows.append({"gender": gender, "condition": condition} | found.columns("flipped"))
    return pd.DataFrame(rows)


def curves(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Columns gender, condition, factor, female, female_low, female_high: the probability of "female" (softmax of the
    two scores) over speakers, at every factor of `GRID`."""
    original = frame[frame["condition"] == ORIGINAL]
    whole = pd.concat([frame, *(original.assign(condition=condition) for condition in SCALED)])
    whole = whole[whole["factor"].isin(GRID) & whole["condition"].isin(SCALED)]
    whole = whole.assign(female=expit(whole["margin"]))
    rows = []
    for (gender, condition, factor), own in whole.groupby(["gender", "condition", "factor"]):
        found = statistics.estimate(own, "female", seed, draws=DRAWS)
        rows.append({"gender": gender, "condition": condition, "factor": factor} | found.columns("female"))
    return pd.DataFrame(rows)


def half_way(factors: Sequence[float], female: Sequence[bool]) -> float:
    """The factor at which half of the answers are "female": of a logistic curve over log factor, fitted to answers (N,)
    at factors (N,) by greatest likelihood; nan where the curve is half as high nowhere between 0.5 and 2."""
    x, y = np.log(factors), np.asarray(female, np.float64)

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * x
        return float(np.logaddexp(0, z).sum() - y @ z + 1e-3 * line @ line)  # a little ridge: answers may be parted

    offset, slope = minimize(loss, (0.0, 0.0)).x
    found = math.exp(-offset / slope) if abs(slope) > 1e-3 else math.nan
    return found if GRID[0] <= found <= GRID[-1] else math.nan


def turning_points(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns gender, condition, factor: where half of the answers are "female" (`half_way`), without intervals.

    On the way to the other gender: of women's factors up to 1, and men's from 1 on.
    """
    original = frame[frame["condition"] == ORIGINAL]
    rows = []
    for (gender, condition), own in frame[frame["factor"].isin(GRID)].groupby(["gender", "condition"]):
        if condition in (BOTH, PITCH, FORMANTS):
            own = pd.concat([own, original[original["gender"] == gender]])
            own = own[own["factor"] <= 1] if gender == "female" else own[own["factor"] >= 1]
            factor = half_way(own["factor"].to_numpy(), own["margin"].to_numpy() > 0)
            rows.append({"gender": gender, "condition": condition, "factor": factor})
    return pd.DataFrame(rows)


def pitch_ratio(frame: pd.DataFrame) -> float:
    """Median pitch of the female speakers over that of the male ones, each speaker the median of the recordings."""
    by_speaker = frame[frame["condition"] == ORIGINAL].groupby(["gender", "speaker"])["pitch"].median()
    medians = by_speaker.groupby("gender").median()
    return float(medians.get("female", math.nan) / medians.get("male", math.nan))


def draw(table: pd.DataFrame, ratio: float) -> Figure:
    """P(female) against the factor, a panel for women and one for men, of `curves`; ratio: of `pitch_ratio`."""
    figure = Figure(figsize=(9.5, 4), dpi=100, layout="constrained")
    genders = [gender for gender in ("female", "male") if gender in set(table["gender"])]
    for axes, gender in zip(figure.subplots(1, len(genders), sharey=True, squeeze=False)[0], genders, strict=True):
        for condition in SCALED:
            own = table[(table["gender"] == gender) & (table["condition"] == condition)].sort_values("factor")
            factor, values = own["factor"].to_numpy(), 100 * own[["female", "female_low", "female_high"]].to_numpy()
            axes.plot(factor, values[:, 0], ".-", color=COLOURS[condition], label=condition, linewidth=1.2)
            axes.fill_between(factor, values[:, 1], values[:, 2], color=COLOURS[condition], alpha=0.15, linewidth=0)
        there = 1 / ratio if gender == "female" else ratio
        if math.isfinite(there):
            axes.axvline(there, color="C2", linestyle="--", linewidth=1, label="the other gender's pitch")
        axes.axhline(50, color="0.4", linestyle=":", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks((0.5, 0.71, 1, 1.41, 2), ("0.5", "0.71", "1", "1.41", "2"))
        axes.set(title=f"{gender} speakers", xlabel="factor of the frequency axis", ylim=(-2, 102))
    figure.axes[0].set_ylabel("probability of “female” (%)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside upper center", ncols=len(labels))
    return figure


def findings(share: pd.DataFrame, flipped: pd.DataFrame, turning: pd.DataFrame, ratio: float) -> list[str]:
    """Sentences of the tables."""
    sentences = []
    for row in share.itertuples():
        does = f"does {row.share:.0f} % [{row.share_low:.0f}, {row.share_high:.0f}]"
        if math.isnan(row.share):
            does = "has no share that could be told"
        sentences.append(
            f"The {row.part} alone, moved by the paper's factors, {does} of what moving both does to the margin "
            f"({row.gender}, {row.speakers} speakers)."
        )
    for gender, own in flipped.groupby("gender", sort=False):
        parts = [
            f"{row.condition} {row.flipped:.1f} % [{row.flipped_low:.1f}, {row.flipped_high:.1f}]"
            for row in own.itertuples()
        ]
        sentences.append(f"Taken for the other gender ({gender}): {', '.join(parts)}.")
    if math.isfinite(ratio):
        sentences.append(f"Women's pitch is {ratio:.2f} times men's in these recordings (medians over speakers).")
    for row in turning.itertuples():
        where = f"at {row.factor:.2f}" if math.isfinite(row.factor) else "nowhere between 0.5 and 2"
        sentences.append(f"Half of the answers are “female” {where} ({row.condition} moved, {row.gender} speakers).")
    return sentences


def conclusions(frame: pd.DataFrame, seed: int, not_applicable: str | None = None) -> list[Conclusion]:
    """Whether "the fundamental and its harmonics" is what the network uses, as its two conditions."""
    table = at_factors(frame)
    moved = table[UNIT].assign(part=table[PITCH] - table[ORIGINAL], both=table[BOTH] - table[ORIGINAL])
    right = table[table[ORIGINAL] < 0]
    emptied = right[UNIT].assign(flipped=right[EMPTY_TOP] > 0)
    found = [
        Conclusion(
            "fundamental and harmonics alone do more than half of what scaling the whole axis does",
            statistics.ratio(moved, "part", "both", seed).scaled(100),
            (MAJORITY, math.inf),
            not_applicable=not_applicable,
        )
    ]
    if len(right):
        found.append(
            Conclusion(
                "silence in the upper third alone changes hardly any answer",
                statistics.estimate(emptied, "flipped", seed).scaled(100),
                (-math.inf, FEW_FLIPS),
                not_applicable=not_applicable,
            )
        )
    return found


def make(setting: Setting) -> Outcome:
    """Margins of every gender run in every condition, the shares of pitch and formants, curves over the factor."""
    runs = trained_runs(setting, NETWORK, TASK)
    limit = setting.recordings(LIMIT)
    total = sum(len(run.listed(limit)) for run in runs)
    with progress_bar(total=total, unit="recording", desc="pitch or formants") as bar:
        frame = pd.concat([margins(run, limit, bar.update) for run in runs], ignore_index=True)
    share, flipped, turning = shares(frame, setting.seed), flips(frame, setting.seed), turning_points(frame)
    curve, ratio = curves(frame, setting.seed), pitch_ratio(frame)
    caption = (
        "What the gender AlexNet says of test spectrograms whose frequency axis is scaled: of harmonics and envelope "
        "(both), of the harmonics alone (pitch), of the envelope alone (formants), and there and back (round trip: "
        "what the blur does). Mean over speakers with 95 % intervals; dashed: where the speakers' pitch is the other "
        "gender's, by medians; dotted: the network is undecided."
    )
    return Outcome(
        tables={"shares": share, "flips": flipped, "turning_points": turning, "curves": curve, "recordings": frame},
        figures={"curves": (draw(curve, ratio), caption)},
        findings=findings(share, flipped, turning, ratio),
        conclusions=conclusions(frame, setting.seed, paper.not_comparable(setting, runs, TASK, [NETWORK])),
    )


EXPERIMENT = Experiment(
    "pitch_or_formants",
    "Pitch or formants? The parts of a voice moved one by one",
    make,
    networks=(NETWORK,),
    task=TASK,
    position=65,
)
