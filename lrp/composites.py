"""Composites: named maps from a network's linear layers to rules.

A layer's rule is the first that is found: by its name (patterns), as a first layer (one that no other linear layer
comes before), by its type, then the default. Registered composites are offered by the command line and tested as they
are.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import MISSING, dataclass, fields
from typing import get_args

from caffe_proto.texts import read_json, read_toml
from lrp.errors import LRPError
from lrp.layer import Linear, Ties
from lrp.rules import RULES, AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, ZPlus

COMPOSITES: dict[str, Composite] = {}
# What is used where nobody chooses. Flat in the first layer: relevance then does not depend on where the input's zero
# lies (README.md, "Why the first layer matters", with measurements).
DEFAULT = "epsilon_plus_flat"


@dataclass(frozen=True)
class Composite:
    """name; default: rule of every linear layer not named otherwise; types: ((Caffe type, rule), ...);
    first: rule of the first layers, or None; names: ((shell pattern of layer names, rule), ...); ties: whether tied
    maxima of a pooling window "share", or the "first" takes all; note: what a reader of its pictures must know, printed
    in their captions."""

    name: str
    default: Rule = Epsilon()
    types: tuple[tuple[str, Rule], ...] = ()
    first: Rule | None = None
    names: tuple[tuple[str, Rule], ...] = ()
    ties: Ties = "share"
    note: str = ""

    def rule_for(self, layer: Linear, is_first: bool) -> Rule:
        """The rule of a linear layer."""
        for pattern, rule in self.names:
            if fnmatch.fnmatchcase(layer.name, pattern):
                return rule
        if is_first and self.first is not None:
            return self.first
        return dict(self.types).get(layer.type, self.default)


def register(composite: Composite) -> Composite:
    """Add a composite to `COMPOSITES`; returns it."""
    COMPOSITES[composite.name] = composite
    return composite


def _convolutions(rule: Rule) -> tuple[tuple[str, Rule], ...]:
    return (("Convolution", rule), ("Deconvolution", rule))


ONE_SIDED = "outputs whose contributions have one sign pass on twice their relevance or minus it, so R need not add up"
TOOLBOX = (
    "epsilon 1 keeps relevance, one-sided outputs multiply it, so R need not add up; the first of tied maxima wins"
)

register(Composite("epsilon_plus", types=_convolutions(ZPlus())))
register(Composite("epsilon_plus_flat", types=_convolutions(ZPlus()), first=Flat()))
# Names from the literature give the literature's numbers: these are zennit's composites of the same name.
register(Composite("epsilon_alpha2_beta1", types=_convolutions(AlphaBeta(2, 1)), note=ONE_SIDED))
register(Composite("epsilon_alpha2_beta1_flat", types=_convolutions(AlphaBeta(2, 1)), first=Flat(), note=ONE_SIDED))
_CONSERVING = _convolutions(AlphaBeta(2, 1, one_sided="conserve"))
register(Composite("epsilon_alpha2_beta1_conserving", types=_CONSERVING))
register(Composite("epsilon_alpha2_beta1_conserving_flat", types=_CONSERVING, first=Flat()))
register(Composite("epsilon_gamma_box", types=_convolutions(Gamma(0.25)), first=ZBox()))
register(
    Composite(
        "excitation_backprop",
        default=ZPlus(bias="exclude"),
        note="outputs that no input spoke for, which their bias alone made, lose their relevance",
    )
)
# The composites of the LRP toolbox for Caffe (formulas 100, 102 and 104 of its `relpropformulatype`) with the settings
# of its configuration and its default (alphabeta_beta 1, epsstab 1), the switch to flat or w^2 at the first layer. Its
# flat rule divides by the kernel's area without the channels; for one channel that is this one.
for _name, _first in (
    ("toolbox_100", None),
    ("toolbox_102", Flat(padding="absorb")),
    ("toolbox_104", WSquare(padding="absorb")),
):
    register(Composite(_name, Epsilon(1.0), _convolutions(AlphaBeta(2, 1)), _first, ties="first", note=TOOLBOX))


def _read_rule(value: object, where: str) -> Rule:
    """A rule from a file: its name, or a table {rule: NAME, setting: value, ...}."""
    settings = dict(value) if isinstance(value, dict) else {"rule": value}
    name = settings.pop("rule", None)
    if not isinstance(name, str) or name not in RULES:
        raise LRPError(f"{where}: rule", f"one of {', '.join(RULES)}", repr(name))
    known = [field.name for field in fields(RULES[name])]
    unknown = [setting for setting in settings if setting not in known]
    missing = [one.name for one in fields(RULES[name]) if one.default is MISSING and one.name not in settings]
    if unknown:
        expected = f"setting {' or '.join(known)}" if known else "no settings"
        raise LRPError(f"{where}: rule {name}", expected, repr(unknown[0]))
    if missing:
        raise LRPError(f"{where}: rule {name}", f"setting {missing[0]!r}", "none")
    try:
        return RULES[name](**settings)
    except LRPError as error:
        raise LRPError(f"{where}: {error.place}", error.expected, error.got) from None


def read_composite(path: str | os.PathLike) -> Composite:
    """A composite from a TOML or JSON file with the keys name, default, first, types, names, ties, note (all optional).

    A rule is its name ("ZPlus") or a table with its settings ({rule = "AlphaBeta", alpha = 3, beta = 2}); `types` maps
    Caffe layer types and `names` shell patterns of layer names to rules. Raises LRPError.
    """
    path = os.fspath(path)
    read = read_json if os.path.splitext(path)[1].lower() == ".json" else read_toml
    with LRPError.of_files():
        tables = read(path, "a composite as TOML or JSON")
    known = [field.name for field in fields(Composite)]
    if not isinstance(tables, dict) or any(key not in known for key in tables):
        got = [key for key in tables if key not in known][0] if isinstance(tables, dict) else type(tables).__name__
        raise LRPError(path, f"the keys {', '.join(known)}", repr(got))
    settings = {"name": str(tables.get("name", os.path.splitext(os.path.basename(path))[0]))}
    for key in ("default", "first"):
        if key in tables:
            settings[key] = _read_rule(tables[key], f"{path}: {key}")
    for key, choices in (("ties", get_args(Ties)), ("note", ())):
        value = tables.get(key, "")
        if not isinstance(value, str) or key in tables and choices and value not in choices:
            raise LRPError(f"{path}: {key}", " or ".join(choices) or "a text", repr(value))
        if key in tables:
            settings[key] = value
    for key in ("types", "names"):
        table = tables.get(key, {})
        if not isinstance(table, dict):
            raise LRPError(f"{path}: {key}", "a table", repr(table))
        settings[key] = tuple((which, _read_rule(value, f"{path}: {key}: {which}")) for which, value in table.items())
    return Composite(**settings)


def find_composite(composite: str | os.PathLike | Composite) -> Composite:
    """The composite of that name or in that .toml or .json file, or the composite itself; LRPError otherwise."""
    if isinstance(composite, Composite):
        return composite
    if os.path.splitext(composite)[1].lower() in (".toml", ".json"):
        return read_composite(composite)
    if composite not in COMPOSITES:
        raise LRPError("composite", f"one of {', '.join(COMPOSITES)}", repr(composite))
    return COMPOSITES[composite]
