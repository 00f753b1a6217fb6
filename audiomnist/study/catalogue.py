"""The experiments, found: every file of `audiomnist/experiments` that defines EXPERIMENT."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from audiomnist import experiments

if TYPE_CHECKING:
    from audiomnist.study.outcome import Experiment


def names() -> list[str]:
    """The experiments' names, in alphabetical order; nothing is imported for it."""
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def command_name(name: str) -> str:
    """The sub-command of `audiomnist` that makes the experiment of this name."""
    return name.replace("_", "-")


def find(name: str) -> Experiment:
    """The experiment that the file `<name>.py` defines."""
    return importlib.import_module(f"{experiments.__name__}.{name}").EXPERIMENT


def catalogue() -> dict[str, Experiment]:
    """All experiments by name, in the order of the results page."""
    found = map(find, names())
    return {one.name: one for one in sorted(found, key=lambda one: (one.position, one.name))}
