"""Layer-wise relevance propagation for Caffe networks, in numpy alone."""

from lrp.composites import COMPOSITES, Composite
from lrp.errors import LRPError
from lrp.network import Explanation, Network
from lrp.rules import RULES

__all__ = ["COMPOSITES", "RULES", "Composite", "Explanation", "LRPError", "Network"]
