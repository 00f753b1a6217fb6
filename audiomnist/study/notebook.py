"""An experiment in a notebook: made, and shown piece by piece; where something is missing, one sentence says so.

    made = make(table1.EXPERIMENT, root, data, preprocessed, runs, limit=10)
    made.table("table1")
    made.figures()
    made.sounds()
    made.findings()

Of an experiment that could not be made the four show nothing, so that a notebook runs to its end all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from audiomnist.corpus.layout import CorpusError
from audiomnist.explain.page import player
from audiomnist.study.conclusion import judge
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting
from caffe_proto import UserError


@dataclass(frozen=True)
class Made:
    """An experiment and its outcome; an empty one where it could not be made."""

    experiment: Experiment
    outcome: Outcome

    def table(self, name: str, view: Callable[[pd.DataFrame], Any] = lambda table: table) -> Any:
        """The table of that name, as `view` shows it; None where nothing was made."""
        return view(self.outcome.tables[name]) if self.outcome.tables else None

    def figures(self) -> None:
        """Display every figure with its caption, under the name of the file that `audiomnist NAME` writes."""
        from IPython.display import display

        for stem, (figure, caption) in self.outcome.figures.items():
            display(figure)
            print(f"{self.experiment.name}/{stem}.png: {caption}")

    def sounds(self) -> None:
        """A player for every sound, under its caption and the name of its file."""
        from IPython.display import HTML, display

        for stem, (sound, caption) in self.outcome.sounds.items():
            print(f"{self.experiment.name}/{stem}.wav: {caption}")
            display(HTML(player(sound, caption)))

    def findings(self) -> None:
        """Print what was found, which of the paper's conclusions hold here, and what is to be checked in the paper."""
        checks = (f"To be checked: {text}" for text in self.outcome.unverified)
        own = self.outcome.conclusions
        judged = zip(own, judge({self.experiment.name: own})[self.experiment.name], strict=True)
        verdicts = (f"{verdict.capitalize()}: {one.statement} ({evidence})" for one, (verdict, evidence) in judged)
        for text in (*self.outcome.findings, *verdicts, *checks):
            print(text)


def demo_command(experiment: Experiment) -> str:
    """The command that makes, in the demo's folders, what the experiment is made from."""
    if experiment.task is None:
        return "./train_test.sh --demo"
    network = experiment.networks[0] if experiment.networks else "all"
    return f"./train_test.sh --demo {network} {experiment.task} 0"


def make(
    experiment: Experiment,
    root: str,
    data: str,
    preprocessed: str,
    runs: str,
    composites: list[str] | None = None,
    **others: Any,
) -> Made:
    """The experiment made from the folders, which are relative to `root`; a missing input is printed as one sentence.

    composites: names of lrp's composites, None for the study's own. others: further fields of `Setting`.
    """
    if composites is not None:
        others["composites"] = tuple(composites)
    setting = Setting.under(root, data, preprocessed, runs, **others)
    try:
        return Made(experiment, experiment.make(setting))
    except (ExperimentError, CorpusError) as error:
        command = demo_command(experiment)
        print(f"Nothing to show: {error}; `{command}` makes the demo's, the first cell names the folders of others.")
    except UserError as error:
        print(f"Nothing to show: {error}.")
    return Made(experiment, Outcome())
