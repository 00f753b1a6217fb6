"""Layer-wise relevance propagation for Caffe networks, in numpy alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lrp.baselines import METHODS, explain
from lrp.composites import COMPOSITES, Composite, read_composite
from lrp.errors import LRPError
from lrp.explanation import Explanation
from lrp.network import Network
from lrp.rules import RULES, AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus

if TYPE_CHECKING:
    from lrp.view import Recording, WavRecording

__all__ = [
    "COMPOSITES",
    "METHODS",
    "RULES",
    "AlphaBeta",
    "Composite",
    "Epsilon",
    "Explanation",
    "Flat",
    "Gamma",
    "LRPError",
    "Network",
    "WSquare",
    "ZBox",
    "ZPlus",
    "Zero",
    "explain",
    "read",
    "read_composite",
]


def read(path: str | os.PathLike, seed: int = 0) -> Recording | WavRecording:
    """A recording to explain: a preprocessed HDF5 file, or a WAV file, which becomes what the network takes.

    seed: of the random position of a WAV file in its second (a function of seed and file name). `Network.relevance`
    takes what this gives in place of an array. Raises LRPError.
    """
    from lrp import view

    return view.read(path, seed)
