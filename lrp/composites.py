"""Composites: named maps from a network's linear layers to rules.

A layer's rule is the first that is found: by its name (patterns), as a first layer (one that no other linear layer
comes before), by its type, then the default. Registered composites are offered by the command line and tested as they
are.
"""

import fnmatch
from dataclasses import dataclass

from lrp.errors import LRPError
from lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, ZBox, ZPlus

COMPOSITES = {}


@dataclass(frozen=True)
class Composite:
    """name; default: rule of every linear layer not named otherwise; types: ((Caffe type, rule), ...);
    first: rule of the first layers, or None; names: ((shell pattern of layer names, rule), ...)."""

    name: str
    default: Rule = Epsilon()
    types: tuple = ()
    first: Rule | None = None
    names: tuple = ()

    def rule_for(self, layer, is_first):
        """The rule of a linear layer."""
        for pattern, rule in self.names:
            if fnmatch.fnmatchcase(layer.name, pattern):
                return rule
        if is_first and self.first is not None:
            return self.first
        return dict(self.types).get(layer.type, self.default)


def register(composite):
    """Add a composite to `COMPOSITES`; returns it."""
    COMPOSITES[composite.name] = composite
    return composite


def _convolutions(rule):
    return (("Convolution", rule), ("Deconvolution", rule))


def _excitation(rule):
    return Composite("excitation_backprop", default=rule)


register(Composite("epsilon_plus", types=_convolutions(ZPlus())))
register(Composite("epsilon_plus_flat", types=_convolutions(ZPlus()), first=Flat()))
register(Composite("epsilon_alpha2_beta1", types=_convolutions(AlphaBeta(2, 1))))
register(Composite("epsilon_alpha2_beta1_flat", types=_convolutions(AlphaBeta(2, 1)), first=Flat()))
register(Composite("epsilon_gamma_box", types=_convolutions(Gamma(0.25)), first=ZBox()))
register(_excitation(ZPlus(bias="exclude")))


def find_composite(composite):
    """The composite of that name, or the composite itself; LRPError naming the known ones."""
    if isinstance(composite, Composite):
        return composite
    if composite not in COMPOSITES:
        raise LRPError(f"composite: {composite!r} found; one of {', '.join(COMPOSITES)} wanted")
    return COMPOSITES[composite]
