"""LRP rules: frozen values that say which linear terms share out the relevance of a linear layer.

For a layer z = W x + b a rule names parts. A part is a list of terms (x_k, w_k), a bias b_k and a factor c; it has its
own denominator z' = sum_k w_k x_k + b_k and returns c * sum_k x_k * (w_k^T (R / stabilised z')). A rule never mentions
convolution, and a layer never mentions rules: `lrp.propagation` brings the two together.

Selectors (`positive`, `square`, ...) are plain functions on arrays; x_k and w_k name them, so that a layer can keep the
prepared form of W+ from one call to the next. Letters: x input, w weight, b bias, z output, R relevance.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lrp.errors import LRPError

# The epsilon rule's default stabiliser, in units of the layer's output.
EPSILON = 1e-6
# Denominators of one sign only need a guard against exactly zero; small enough to cost no visible relevance.
GUARD = 1e-9
# Three treatments of the bias (see `Rule`).
BIAS_TREATMENTS = ("keep", "exclude", "spread")

RULES = {}


# --- selectors -------------------------------------------------------------------------------------------------------
def everything(a):
    """a itself."""
    return a


def positive(a):
    """a+ = max(a, 0)."""
    return np.maximum(a, 0)


def negative(a):
    """a- = min(a, 0)."""
    return np.minimum(a, 0)


def square(a):
    """a squared."""
    return np.square(a)


def ones(a):
    """Ones in the shape of a."""
    return np.ones_like(a)


@dataclass(frozen=True)
class Raised:
    """a + gamma * a+ (or a-, with `side=negative`): the selector of the gamma rule."""

    gamma: float
    side: object = positive

    def __call__(self, a):
        return a + np.asarray(self.gamma, dtype=a.dtype) * self.side(a)


@dataclass(frozen=True)
class Above:
    """x minus the lower ("low") or upper ("high") end of the input's range.

    `value` None means: the smallest (largest) value of each item of the batch.
    """

    end: str
    value: float | None

    def __call__(self, x):
        if self.value is not None:
            return x - np.asarray(self.value, dtype=x.dtype)
        return x - (np.min if self.end == "low" else np.max)(x, axis=tuple(range(1, x.ndim)), keepdims=True)


class Term(NamedTuple):
    """One product w_k x_k: a selector for the input and one for the weight."""

    x: object
    w: object


class Part(NamedTuple):
    """A share of the relevance with a denominator of its own.

    factor: what the returned relevance is multiplied by. bias: selector for the bias, or None for no bias.
    where: None, or "positive"/"negative": only outputs whose plain z has that sign take part.
    """

    terms: tuple
    bias: object = None
    factor: float = 1.0
    where: str | None = None


def rule(cls):
    """Class decorator: make a frozen dataclass of the rule and register it under its name in `RULES`."""
    cls = dataclass(frozen=True)(cls)
    RULES[cls.__name__] = cls
    return cls


@dataclass(frozen=True)
class Rule:
    """What all rules share.

    bias: "keep" leaves the bias its share of the relevance (it is absorbed), "exclude" leaves the bias out of the
    denominator, "spread" hands the bias's share back in equal parts to the inputs that its output is connected to
    (the N of Bach et al. 2015, eq. 58, for the bias alone).
    """

    def __post_init__(self):
        for name in ("bias",):
            if hasattr(self, name) and getattr(self, name) not in BIAS_TREATMENTS:
                raise LRPError(
                    f"rule {type(self).__name__}: bias {getattr(self, name)!r} found; "
                    f"one of {', '.join(BIAS_TREATMENTS)} wanted"
                )

    def _check_number(self, name, least=None):
        """Raise LRPError unless setting `name` is a finite number, and not below `least`."""
        value = getattr(self, name)
        try:
            good = math.isfinite(value) and (least is None or value >= least)
        except OverflowError:  # an integer beyond all floats
            good = False
        if not good:
            wanted = "a finite number" if least is None else f"a finite number of at least {least}"
            raise LRPError(f"rule {type(self).__name__}: {name} {value!r} found; {wanted} wanted")

    @property
    def stabiliser(self):
        """What is added to the denominator, with the denominator's sign (plus at zero)."""
        return GUARD

    #: the plain output is the sum of the parts' denominators (saves computing it beside them)
    parts_sum_to_output = False
    #: all relevance goes to the part whose denominator is not zero
    one_part_takes_all = False

    def parts(self):
        """The parts of the rule, a tuple of `Part`."""
        raise NotImplementedError


@rule
class Epsilon(Rule):
    """LRP-epsilon: R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign z_j) (Bach et al. 2015, eq. 58)."""

    epsilon: float = EPSILON
    bias: str = "keep"

    def __post_init__(self):
        super().__post_init__()
        self._check_number("epsilon", 0)

    @property
    def stabiliser(self):
        return self.epsilon

    def parts(self):
        return (Part((Term(everything, everything),), bias=everything),)


@rule
class Zero(Rule):
    """LRP-0: R_i = sum_j x_i w_ij R_j / z_j (Bach et al. 2015, eq. 56); outputs that are exactly zero pass nothing."""

    bias: str = "keep"

    @property
    def stabiliser(self):
        return 0.0

    def parts(self):
        return (Part((Term(everything, everything),), bias=everything),)


@rule
class Gamma(Rule):
    """LRP-gamma: positive contributions count 1 + gamma times (Montavon et al. 2019, section 10.2.3).

    For inputs of both signs the generalised form is used (Andeol et al. 2021): outputs z > 0 favour positive
    contributions, outputs z < 0 negative ones; for x >= 0 and z > 0 it is the original.
    """

    gamma: float = 0.25
    bias: str = "keep"

    def __post_init__(self):
        super().__post_init__()
        self._check_number("gamma", 0)

    def parts(self):
        up, down = Raised(self.gamma, positive), Raised(self.gamma, negative)
        return (
            Part((Term(positive, up), Term(negative, down)), bias=up, where="positive"),
            Part((Term(positive, down), Term(negative, up)), bias=down, where="negative"),
        )


@rule
class ZPlus(Rule):
    """The z+ rule: positive contributions only (Montavon et al. 2017, eq. 14), for inputs of either sign."""

    bias: str = "keep"

    def parts(self):
        return (Part((Term(positive, positive), Term(negative, negative)), bias=positive),)


@rule
class AlphaBeta(Rule):
    """LRP-alpha-beta: alpha times the positive minus beta times the negative contributions (Bach et al. 2015, eq. 60).

    one_sided decides about an output whose contributions all have one sign, so that the other denominator is 0/0:
    "conserve" gives its whole relevance to the side that exists, "textbook" drops the missing side only and thereby
    multiplies its relevance by alpha (or by -beta). Everywhere else the two agree.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: str = "keep"
    one_sided: str = "conserve"

    def __post_init__(self):
        super().__post_init__()
        self._check_number("alpha")
        self._check_number("beta")
        if self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-12:
            raise LRPError(
                f"rule AlphaBeta: alpha {self.alpha:g} and beta {self.beta:g} found; alpha - beta = 1 and beta >= 0 "
                "wanted"
            )
        if self.one_sided not in ("conserve", "textbook"):
            raise LRPError(f"rule AlphaBeta: one_sided {self.one_sided!r} found; conserve or textbook wanted")

    @property
    def parts_sum_to_output(self):
        return self.beta > 0

    @property
    def one_part_takes_all(self):
        return self.one_sided == "conserve" and self.beta > 0

    def parts(self):
        plus = Part((Term(positive, positive), Term(negative, negative)), bias=positive, factor=self.alpha)
        minus = Part((Term(positive, negative), Term(negative, positive)), bias=negative, factor=-self.beta)
        return (plus, minus) if self.beta > 0 else (plus,)


@rule
class ZBox(Rule):
    """The z^B rule for inputs in a box low <= x <= high (Montavon et al. 2017, eq. 18).

    Its contributions x w - low w+ - high w- are computed as (x - low) w+ + (x - high) w-, where nothing cancels.

    low, high: ends of the input's range, in its units; None takes the smallest (largest) value of each recording.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                self._check_number(name)
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise LRPError(f"rule ZBox: low {self.low:g} and high {self.high:g} found; low < high wanted")

    def parts(self):
        return (Part((Term(Above("low", self.low), positive), Term(Above("high", self.high), negative))),)


@rule
class WSquare(Rule):
    """The w^2 rule: shares in proportion to the squared weights (Montavon et al. 2017, eq. 12)."""

    def parts(self):
        return (Part((Term(ones, square),)),)


@rule
class Flat(Rule):
    """The flat rule: equal shares for all inputs that an output sees (Lapuschkin et al. 2019)."""

    def parts(self):
        return (Part((Term(ones, ones),)),)
