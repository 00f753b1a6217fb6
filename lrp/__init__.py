"""Layer-wise relevance propagation for Caffe networks, in numpy alone."""

from lrp.baselines import METHODS, explain
from lrp.composites import COMPOSITES, Composite, read_composite
from lrp.errors import LRPError
from lrp.explanation import Explanation
from lrp.network import Network
from lrp.rules import RULES, AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus

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
    "read_composite",
]
