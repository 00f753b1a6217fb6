"""What the relevance experiments share: explaining example recordings, and the table and caption of explanations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from audiomnist.explain import results
from audiomnist.explain.drawing import resolution, rule_summary
from audiomnist.provenance import made_by
from audiomnist.signal.geometry import Geometry, study_geometry
from audiomnist.study.outcome import Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, TrainedRun, first_runs
from lrp import Explanation

RULES_UNVERIFIED = (
    "Which rule the paper uses on which layer is to be checked against it; every caption names the "
    "composite behind its picture."
)


def explain(run: TrainedRun, recordings: Recordings, composites: Sequence[str]) -> dict[str, Explanation]:
    """The true class of every recording explained with every composite: {composite: Explanation}."""
    targets = recordings.labels[:, run.label_column]
    return {name: run.network.relevance(recordings.data, targets, name) for name in composites}


def table(run: TrainedRun, recordings: Recordings, explanations: dict[str, Explanation]) -> pd.DataFrame:
    """One row for each recording and composite: what was explained, what made it, and sum(R) / score."""
    rows = []
    for composite, explanation in explanations.items():
        for index in range(len(recordings.names)):
            rows.append(
                {
                    **run.provenance,
                    "selection_seed": run.setting.seed,
                    **recordings.describe(index),
                    "composite": composite,
                    "rules": rule_summary(explanation.rules),
                    "target": run.task.classes[explanation.target[index]],
                    "prediction": run.task.classes[explanation.prediction[index]],
                    "score": explanation.score[index],
                    "sum_over_score": explanation.conserved[index],
                }
            )
    return pd.DataFrame(rows)


def line(run: TrainedRun, recordings: Recordings, explanation: Explanation, index: int) -> str:
    """Who says what, and what the network makes of it, in one line."""
    about = recordings.describe(index)
    classes = run.task.classes
    return (
        f"digit {about['digit']}, {about['gender']} speaker {about['speaker']}: target "
        f"{classes[explanation.target[index]]}, predicted {classes[explanation.prediction[index]]}"
    )


def composite_note(explanation: Explanation, index: int, geometry: Geometry | None = None) -> str:
    """Composite and sum(R) / score, for above a picture, and within what the first layer cannot tell values apart."""
    note = f"{explanation.composite}\nsum(R)/score = {explanation.conserved[index]:.3f}"
    return "\n".join(filter(None, (note, resolution(explanation, geometry))))


def conservation(frame: pd.DataFrame) -> list[str]:
    """A sentence for each network, task and composite: the range of sum(R) / score over the pictures."""
    sentences = []
    for (network, task, composite), own in frame.groupby(["network", "task", "composite"], sort=False):
        low, high = own["sum_over_score"].min(), own["sum_over_score"].max()
        right = int(np.sum(own["target"] == own["prediction"]))
        sentences.append(
            f"{network} on {task}, {composite}: sum(R)/score from {low:.3f} to {high:.3f}; {right} of "
            f"{len(own)} recordings recognised."
        )
    return sentences


def arrays(
    run: TrainedRun, recordings: Recordings, explanation: Explanation, data: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str | int]]:
    """(columns, attributes) of `explain.results` for explained recordings; data: what was explained instead of their
    own (N, C, H, W)."""
    data = recordings.data if data is None else data
    columns = results.columns(explanation, data, recordings.labels, recordings.names)
    about = {"run": str(run.run), "weights_sha256": run.weights_sha256, **made_by()}
    return columns, results.attributes(explanation, study_geometry(data.shape[1:])) | about


def pictures(
    setting: Setting,
    network: str,
    digits: tuple[int, ...],
    draw: Callable[[Outcome, TrainedRun, Recordings, dict[str, Explanation], pd.DataFrame], None],
) -> Outcome:
    """The example recordings of every task's first trained split explained with the setting's composites.

    draw(outcome, run, recordings, explanations, frame) adds a run's figures to the outcome, and columns of its own to
    the run's `table`; all tables together become the outcome's.
    """
    outcome = Outcome(unverified=[RULES_UNVERIFIED])
    tables = []
    for run in first_runs(setting, network):
        recordings = run.examples(digits)
        explanations = explain(run, recordings, setting.composites)
        frame = table(run, recordings, explanations)
        draw(outcome, run, recordings, explanations, frame)
        tables.append(frame)
        if setting.keep_relevance:
            for composite, explanation in explanations.items():
                outcome.arrays[f"{run.run.task}_{composite}"] = arrays(run, recordings, explanation)
    outcome.tables["explanations"] = pd.concat(tables, ignore_index=True)
    outcome.findings = conservation(outcome.tables["explanations"])
    return outcome
