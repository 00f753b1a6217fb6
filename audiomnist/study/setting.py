"""What an experiment looks at: where things lie, how many recordings, which composites, which engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiomnist.places import HOME
from caffe_proto import UserError

COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat")


class ExperimentError(UserError, RuntimeError):
    """An experiment that cannot be made; the message is one sentence for the user."""


@dataclass(frozen=True)
class Setting:
    """Everything that decides an experiment's result, beside the files it reads.

    `limit` is the largest number of test recordings looked at in each run (None: each experiment's own default; 0: all
    of them); which ones is drawn with `seed`. `engine` is one of `trained.ENGINES`, `gpu` the device it computes on
    (None: the CPU). `keep_relevance`: the arrays behind pictures of relevance are written too, as HDF5. `kept` is where
    a long experiment keeps finished parts while it works (None: nowhere); it decides nothing.
    """

    data: Path = HOME / "data"
    preprocessed: Path = HOME / "preprocessed_data"
    runs: Path = HOME / "runs"
    limit: int | None = None
    seed: int = 0
    composites: tuple[str, ...] = COMPOSITES
    engine: str = "caffe"
    gpu: int | None = None
    keep_relevance: bool = False
    kept: Path | None = None

    def recordings(self, default: int | None) -> int | None:
        """How many recordings of a run to look at, None for all, where an experiment's own default is `default`."""
        chosen = default if self.limit is None else self.limit
        return chosen or None
