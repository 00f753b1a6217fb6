"""Layer-wise relevance propagation for Caffe networks, in numpy alone."""

from lrp.composites import COMPOSITES, Composite
from lrp.errors import LRPError
from lrp.network import Explanation, Network
from lrp.rules import RULES, AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus

__all__ = ["COMPOSITES", "RULES", "AlphaBeta", "Composite", "Epsilon", "Explanation", "Flat", "Gamma", "LRPError",
           "Network", "WSquare", "ZBox", "ZPlus", "Zero"]
