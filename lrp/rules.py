"""LRP rules: frozen values that say which linear terms share out the relevance of a linear layer.

For a layer z = W x + b a rule names terms. A term is a list of products (x_k, w_k), a bias b_k and a factor c; it has
its own denominator z' = sum_k w_k x_k + b_k and returns c * sum_k x_k * (w_k^T (R / stabilised z')). A rule never
mentions convolution, and a layer never mentions rules: `lrp.propagation` brings the two together.

What a rule must have: it is a class with `@rule` that derives from `Rule` and defines `terms()`, a tuple of one or more
`Term`s. Everything else has a default on `Rule` or `Term`. A rule may have

- settings: annotated fields with defaults, of type float, int, str, a `Literal` of texts, or one of these `| None`.
  Composite files offer them, and numbers must be finite; `setting(default, least=...)` gives a number a lower end.
- `bias` or `padding` as such a setting, to let the user choose how it is treated (see `Rule`).
- `stabiliser`, `sums_to_output` and `renormalises`, class attributes or properties (see `Rule`).

Selectors (`positive`, `square`, ...) are functions on arrays; x_k and w_k name them. They return a new array or their
argument, and are functions of a module or frozen dataclasses, because a layer keeps the prepared form of W+ under the
selector. Letters: x input, w weight, b bias, z output, R relevance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Real
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from lrp.errors import LRPError

# The epsilon rule's default stabiliser, in units of the layer's output.
EPSILON = 1e-6
# Denominators of one sign only need a guard against exactly zero; small enough to cost no visible relevance.
GUARD = 1e-9
# The three treatments of the bias, and the two of padding (see `Rule`).
BiasTreatment = Literal["keep", "exclude", "spread"]
PaddingTreatment = Literal["exclude", "absorb"]

RULES: dict[str, type[Rule]] = {}

Selector = Callable[[np.ndarray], np.ndarray]
AnyRule = TypeVar("AnyRule", bound="Rule")


# --- selectors -------------------------------------------------------------------------------------------------------
def identity(a: np.ndarray) -> np.ndarray:
    """a itself."""
    return a


def positive(a: np.ndarray) -> np.ndarray:
    """a+ = max(a, 0)."""
    return np.maximum(a, 0)


def negative(a: np.ndarray) -> np.ndarray:
    """a- = min(a, 0)."""
    return np.minimum(a, 0)


def square(a: np.ndarray) -> np.ndarray:
    """a squared."""
    return np.square(a)


def ones(a: np.ndarray) -> np.ndarray:
    """Ones in the shape of a."""
    return np.ones_like(a)


@dataclass(frozen=True)
class GammaBoost:
    """a + gamma * a+ (or a-, with `side=negative`): the selector of the gamma rule."""

    gamma: float
    side: Selector = positive

    def __call__(self, a: np.ndarray) -> np.ndarray:
        return a + np.asarray(self.gamma, dtype=a.dtype) * self.side(a)


@dataclass(frozen=True)
class AboveBound:
    """x minus the lower ("low") or upper ("high") end of the input's range.

    `value` None means: the smallest (largest) value of each item of the batch.
    """

    end: str
    value: float | None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.value is not None:
            return x - np.asarray(self.value, dtype=x.dtype)
        return x - (np.min if self.end == "low" else np.max)(x, axis=tuple(range(1, x.ndim)), keepdims=True)


# --- what a rule consists of -----------------------------------------------------------------------------------------
class Product(NamedTuple):
    """One product w_k x_k: a selector for the input and one for the weight."""

    x: Selector
    w: Selector


class Term(NamedTuple):
    """A share of the relevance with a denominator of its own.

    products: tuple of `Product`. bias: selector for the bias, or None for no bias. factor: c. where: None, or
    "positive"/"negative": only outputs whose plain z has that sign take part.
    """

    products: tuple[Product, ...]
    bias: Selector | None = None
    factor: float = 1.0
    where: str | None = None


def setting(default: float, least: float) -> Any:
    """A number among a rule's settings that is not below `least` (a dataclass field, which stands for the number)."""
    return field(default=default, metadata={"least": least})


def rule(cls: type[AnyRule]) -> type[AnyRule]:
    """Class decorator: make a frozen dataclass of the rule and register it under its name in `RULES`."""
    cls = dataclass(frozen=True)(cls)
    cls._types = get_type_hints(cls)
    RULES[cls.__name__] = cls
    return cls


@dataclass(frozen=True)
class Rule:
    """What all rules share, and the defaults of everything that a rule need not define (plain class attributes: with
    annotations they would come first among the settings of every rule)."""

    #: {name: type} of the settings, filled in by `rule`
    _types = {}
    #: "keep" leaves the bias its share of the relevance (it is absorbed), "exclude" leaves the bias out of the
    #: denominator, "spread" hands the bias's share back in equal parts to the inputs that its output is connected to
    #: (the N of Bach et al. 2015, eq. 58, for the bias alone)
    bias = "keep"
    #: of rules that do not look at x: "exclude" leaves the zeros around an image out, "absorb" gives them their share,
    #: which is lost (and counted with what stabilisers absorb)
    padding = "exclude"
    #: added to the denominator, with the denominator's sign (plus at zero)
    stabiliser = GUARD
    #: the plain output is the sum of the terms' denominators (saves computing it beside them)
    sums_to_output = False
    #: where denominators are zero, the factors of the other terms are divided by their sum, so that nothing is lost;
    #: not where that sum is zero
    renormalises = False

    def __post_init__(self) -> None:
        for one in fields(self):
            self._check(one.name, self._types[one.name], one.metadata.get("least"))

    def _check(self, name: str, kind: Any, least: float | None) -> None:
        """LRPError unless setting `name` is of its type; a number also finite and not below `least`."""
        value, kinds = getattr(self, name), get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        if value is None and type(None) in kinds:
            return
        choices = [choice for one in kinds if get_origin(one) is Literal for choice in get_args(one)]
        if choices:
            good = value in choices
            expected = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        elif str in kinds:
            good, expected = isinstance(value, str), "a text"
        elif not isinstance(value, Real) or isinstance(value, bool):
            good, expected = False, "a number"
        else:
            expected = "a finite number" if least is None else f"a finite number of at least {least}"
            try:
                good = math.isfinite(value) and (least is None or value >= least)
            except OverflowError:  # an integer beyond all floats
                good = False
        if not good:
            raise LRPError(f"rule {type(self).__name__}: {name}", expected, repr(value))

    def terms(self) -> tuple[Term, ...]:
        """The terms of the rule, a tuple of `Term`."""
        raise NotImplementedError

    @property
    def looks_at_x(self) -> bool:
        """Whether shares depend on the input; if not, all inputs of an output are told apart by their weights alone."""
        return any(product.x is not ones for term in self.terms() for product in term.products)

    def check_input(self, x: np.ndarray, where: str) -> None:
        """LRPError for an input that the rule is not made for. where: the layer, the beginning of the error."""


@rule
class Epsilon(Rule):
    """LRP-epsilon: R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign z_j) (Bach et al. 2015, eq. 58)."""

    epsilon: float = setting(EPSILON, least=0)
    bias: BiasTreatment = "keep"

    @property
    def stabiliser(self) -> float:
        """epsilon, in units of the layer's output."""
        return self.epsilon

    def terms(self) -> tuple[Term, ...]:
        return (Term((Product(identity, identity),), bias=identity),)


@rule
class Zero(Rule):
    """LRP-0: R_i = sum_j x_i w_ij R_j / z_j (Bach et al. 2015, eq. 56); outputs that are exactly zero pass nothing."""

    bias: BiasTreatment = "keep"
    stabiliser = 0.0

    def terms(self) -> tuple[Term, ...]:
        return (Term((Product(identity, identity),), bias=identity),)


@rule
class Gamma(Rule):
    """LRP-gamma: positive contributions count 1 + gamma times (Montavon et al. 2019, section 10.2.3).

    For inputs of both signs the generalised form is used (Andeol et al. 2021): outputs z > 0 favour positive
    contributions, outputs z < 0 negative ones; for x >= 0 and z > 0 it is the original.
    """

    gamma: float = setting(0.25, least=0)
    bias: BiasTreatment = "keep"

    def terms(self) -> tuple[Term, ...]:
        up, down = GammaBoost(self.gamma, positive), GammaBoost(self.gamma, negative)
        return (
            Term((Product(positive, up), Product(negative, down)), bias=up, where="positive"),
            Term((Product(positive, down), Product(negative, up)), bias=down, where="negative"),
        )


@rule
class ZPlus(Rule):
    """The z+ rule: positive contributions only (Montavon et al. 2017, eq. 14), for inputs of either sign."""

    bias: BiasTreatment = "keep"

    def terms(self) -> tuple[Term, ...]:
        return (Term((Product(positive, positive), Product(negative, negative)), bias=positive),)


@rule
class AlphaBeta(Rule):
    """LRP-alpha-beta: alpha times the positive minus beta times the negative contributions (Bach et al. 2015, eq. 60).

    one_sided decides about an output whose contributions all have one sign, so that the other denominator is 0/0:
    "textbook" drops the missing side only and so multiplies its relevance by alpha (or by -beta), as zennit and the LRP
    toolbox do; "conserve" gives its whole relevance to the side that exists. Everywhere else the two agree.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: BiasTreatment = "keep"
    one_sided: Literal["textbook", "conserve"] = "textbook"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-12:
            got = f"alpha {self.alpha:g} and beta {self.beta:g}"
            raise LRPError("rule AlphaBeta", "alpha - beta = 1 and beta >= 0", got)

    @property
    def sums_to_output(self) -> bool:
        """Whether both terms are there."""
        return self.beta > 0

    @property
    def renormalises(self) -> bool:
        """Whether an output of one sign gives its whole relevance to the side that exists."""
        return self.one_sided == "conserve" and self.beta > 0

    def terms(self) -> tuple[Term, ...]:
        plus = Term((Product(positive, positive), Product(negative, negative)), bias=positive, factor=self.alpha)
        minus = Term((Product(positive, negative), Product(negative, positive)), bias=negative, factor=-self.beta)
        return (plus, minus) if self.beta > 0 else (plus,)


@rule
class ZBox(Rule):
    """The z^B rule for inputs in a box low <= x <= high (Montavon et al. 2017, eq. 18).

    Its contributions x w - low w+ - high w- are computed as (x - low) w+ + (x - high) w-, where nothing cancels.

    low, high: ends of the range of the layer's own input, in its units; None takes the smallest (largest) value of each
    item. An input outside is refused: the rule holds inside, and ends in other units (of decibels, where a Power layer
    that could not be folded has scaled them) would give numbers that mean nothing.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise LRPError("rule ZBox", "low < high", f"low {self.low:g} and high {self.high:g}")

    def check_input(self, x: np.ndarray, where: str) -> None:
        low, high = (float(end(x)) for end in (np.min, np.max))
        # a bound is rounded as the input was
        below = self.low is not None and low < min(self.low, float(x.dtype.type(self.low)))
        above = self.high is not None and high > max(self.high, float(x.dtype.type(self.high)))
        if below or above:
            raise LRPError(where, f"inputs in the box of rule {self!r}", f"inputs from {low:g} to {high:g}")

    def terms(self) -> tuple[Term, ...]:
        return (
            Term((Product(AboveBound("low", self.low), positive), Product(AboveBound("high", self.high), negative))),
        )


@rule
class WSquare(Rule):
    """The w^2 rule: shares in proportion to the squared weights (Montavon et al. 2017, eq. 12)."""

    padding: PaddingTreatment = "exclude"
    stabiliser = 0.0  # squares of small weights lie near the guard, and cannot cancel

    def terms(self) -> tuple[Term, ...]:
        return (Term((Product(ones, square),)),)


@rule
class Flat(Rule):
    """The flat rule: equal shares for all inputs that an output sees (Lapuschkin et al. 2019)."""

    padding: PaddingTreatment = "exclude"

    def terms(self) -> tuple[Term, ...]:
        return (Term((Product(ones, ones),)),)
