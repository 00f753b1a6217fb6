"""An experiment in a notebook: made, and shown piece by piece; where something is missing, one sentence says so.

    made = make(table1.EXPERIMENT, data=data, preprocessed=preprocessed, runs=runs, limit=10)
    made.table("table1")
    made.figures()
    made.sounds()
    made.findings()

Of an experiment that could not be made the four show nothing, so that a notebook runs to its end all the same.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from audiomnist.corpus.layout import CorpusError
from audiomnist.explain.page import player
from audiomnist.study.conclusion import judge
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.statistics import LEVEL
from caffe_proto import UserError

FOLDERS = ("data", "preprocessed", "runs")
CONCLUSIONS = "The paper's conclusions, and what must hold for them"
WIDTH = 100  # characters of a printed line
INTERVAL = re.compile(r"\[-?[\d.]+, -?[\d.]+\]")


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
            print(textwrap.fill(f"{self.experiment.name}/{stem}.png: {caption}", WIDTH))

    def sounds(self) -> None:
        """A player for every sound, under its caption and the name of its file."""
        from IPython.display import HTML, display

        for stem, (sound, caption) in self.outcome.sounds.items():
            print(f"{self.experiment.name}/{stem}.wav: {caption}")
            display(HTML(player(sound, caption)))

    def findings(self) -> None:
        """Print what was found, which of the paper's conclusions hold here, and what is to be checked in the paper."""
        outcome = self.outcome
        found = "Found"
        if any(INTERVAL.search(text) for text in outcome.findings):
            found += f" (in square brackets: {100 * LEVEL:.0f} % intervals by speakers)"
        name = self.experiment.name
        judged = zip(outcome.conclusions, judge({name: outcome.conclusions})[name], strict=True)
        claims = [f"{verdict.capitalize()}: {one.statement} ({evidence})." for one, (verdict, evidence) in judged]
        parts = {found: outcome.findings, CONCLUSIONS: claims, "To be checked in the paper": outcome.unverified}
        for head, texts in parts.items():
            if texts:
                wrapped = (textwrap.fill(one, WIDTH, initial_indent="- ", subsequent_indent="  ") for one in texts)
                print("\n".join([f"{head}:", *wrapped]), end="\n\n")


def demo_command(experiment: Experiment) -> str:
    """The command that makes, in the demo's folders, what the experiment is made from."""
    if experiment.task is None:
        return "./train_test.sh --demo"
    network = experiment.networks[0] if experiment.networks else "all"
    return f"./train_test.sh --demo {network} {experiment.task} 0"


def make(experiment: Experiment, **settings: Any) -> Made:
    """The experiment made from folders relative to where Python works; a missing input is printed as one sentence.

    settings: fields of `Setting`; folders as text, composites as a list of names.
    """
    try:
        return Made(experiment, experiment.make(_setting(settings)))
    except (ExperimentError, CorpusError) as error:
        command = demo_command(experiment)
        print(f"Nothing to show: {error}; `{command}` makes the demo's, the first cell names the folders of others.")
    except UserError as error:
        print(f"Nothing to show: {error}.")
    return Made(experiment, Outcome())


def _setting(settings: dict[str, Any]) -> Setting:
    """Raises UserError for a name that is none of the settings'."""
    names = [field.name for field in fields(Setting) if field.name != "kept"]
    for name in settings:
        if name not in names:
            raise UserError("settings", ", ".join(names), name)
    folders = {name: Path(settings[name]).resolve() for name in FOLDERS if name in settings}
    composites = {"composites": tuple(settings["composites"])} if "composites" in settings else {}
    return Setting(**{**settings, **folders, **composites})
