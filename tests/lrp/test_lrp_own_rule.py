"""Rules of a user's own, with no more than the docstring of `lrp.rules` asks for."""

from typing import Literal

import numpy as np
import pytest
import random_networks
from test_lrp_layers import CASES, build
from test_lrp_network import SMALL, parse, small_input, small_weights

from lrp import RULES, Composite, LRPError, Network, linear, propagation, read_composite
from lrp.rules import Product, Rule, Term, identity, negative, ones, positive, rule, setting


def half(a):
    """A selector of the user's own, whose values are of another type than its argument's."""
    return (a / 2).astype(np.float64)


@pytest.fixture
def own():
    """Rules defined here, {name: class}; the registry is as before afterwards."""
    before = dict(RULES)

    @rule
    class Bare(Rule):
        def terms(self):
            return (Term((Product(identity, identity),)),)

    @rule
    class Biased(Rule):
        def terms(self):
            return (Term((Product(identity, half), Product(half, identity)), bias=identity),)

    @rule
    class Three(Rule):
        """Positive contributions, negative ones, and equal shares, each with a denominator of its own."""

        share: float = 0.25
        strength: float = setting(1.0, least=0.5)
        mode: Literal["a", "b", "c"] = "a"
        note: str = ""
        steps: int | None = None

        def terms(self):
            return (
                Term((Product(positive, positive), Product(negative, negative)), bias=positive, factor=2.0),
                Term((Product(positive, negative), Product(negative, positive)), bias=negative, factor=-1 - self.share),
                Term((Product(ones, ones),), factor=self.share),
            )

    @rule
    class Renormalised(Three):
        renormalises = True

    @rule
    class Everything(Rule):
        """All that a rule may have, in a combination that none of ours has."""

        bias: Literal["keep", "exclude", "spread"] = "exclude"
        sums_to_output = True
        renormalises = True
        stabiliser = 0.0

        def terms(self):
            return (
                Term((Product(identity, positive),), bias=positive, where="positive"),
                Term((Product(identity, negative),), bias=negative, where="negative"),
                Term((), factor=3.0),
            )

    @rule
    class Alone(Rule):
        """One term that is the plain output itself."""

        sums_to_output = True
        renormalises = True

        def terms(self):
            return [Term([Product(identity, identity)], identity, 0.5)]

    yield {name: made for name, made in RULES.items() if name not in before}
    for name in set(RULES) - set(before):
        del RULES[name]


NAMES = ("Bare", "Biased", "Three", "Renormalised", "Everything", "Alone")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["AlexNet", pytest.param("AudioNet", marks=pytest.mark.slow)])
def test_runs_on_both_networks_from_a_file(which, name, own, tmp_path):
    (tmp_path / "own.toml").write_text(f'default = "{name}"\n[types]\nConvolution = {{rule = "{name}"}}\n')
    network = Network(parse(random_networks.deploy_text(which)), random_networks.random_weights(which))
    x = random_networks.random_inputs(which, 1)
    found = network.relevance(x, composite=str(tmp_path / "own.toml"), absorbed=True, layers=True)
    assert found.relevance.shape == x.shape and found.relevance.dtype == np.float32
    assert set(found.rules.values()) == {repr(own[name]())}
    np.testing.assert_allclose(found.scores, network.relevance(x, composite="epsilon_plus").scores, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_runs_on_every_layer_type(case, name, own, tmp_path):
    engine, path, x = build(tmp_path, CASES[case])
    network = Network.from_pycaffe(engine, path)
    found = network.relevance(x, 1, Composite("own", own[name]()), np.float64, absorbed=True, layers=True)
    assert found.relevance.shape == x.shape
    np.testing.assert_allclose(found.scores, network.forward(x, np.float64), rtol=1e-9, atol=1e-9)


def test_the_bias_is_kept_unless_a_rule_says_otherwise(own):
    """Both halves together are the plain rule: with a bias in the terms LRP-epsilon, without one its `exclude`."""
    network = Network(parse(SMALL), small_weights())
    for name, wanted in (("Biased", "keep"), ("Bare", "exclude")):
        same = RULES["Epsilon"](1e-9, bias=wanted)
        found, known = (
            network.relevance(small_input(), 1, Composite("c", default=one), np.float64) for one in (own[name](), same)
        )
        np.testing.assert_allclose(found.relevance, known.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "wanted", "textbook"),
    [
        # weights 1, -2, 4; contributions x * w; factors 2 (positive), -1.25 (negative), 0.25 (a third for each input)
        ([1.0, 1.0, 1.0], [2 / 5 + 1 / 12, -1.25 + 1 / 12, 8 / 5 + 1 / 12], None),
        # no negative contribution: the two factors left, 2 and 0.25, become 8/9 and 1/9
        (
            [1.0, 0.0, 1.0],
            [8 / 9 / 5 + 1 / 27, 1 / 27, 8 / 9 * 4 / 5 + 1 / 27],
            [2 / 5 + 1 / 12, 1 / 12, 8 / 5 + 1 / 12],
        ),
        # no positive one: -1.25 and 0.25 become 1.25 and -0.25
        ([0.0, 1.0, 0.0], [-1 / 12, 1.25 - 1 / 12, -1 / 12], [1 / 12, -1.25 + 1 / 12, 1 / 12]),
        # neither: equal shares of everything
        ([0.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [1 / 12, 1 / 12, 1 / 12]),
    ],
)
def test_three_terms_by_hand(x, wanted, textbook, own):
    layer, x, R = linear.InnerProduct(np.array([[1.0, -2.0, 4.0]]), None), np.array([x]), np.array([[1.0]])
    for name, values in (("Renormalised", wanted), ("Three", wanted if textbook is None else textbook)):
        one = own[name]()
        _, kept = propagation.forward(layer, x, one)
        found = propagation.backward(layer, x, R, one, kept)
        np.testing.assert_allclose(found, [values], rtol=1e-7, atol=1e-9)
        if name == "Renormalised":
            np.testing.assert_allclose(found.sum(), 1, rtol=1e-7)


def test_factors_that_cancel_are_left_alone(own):
    """The factors of the terms that are left, 1 and -1, cannot be scaled to a sum of 1."""

    @rule
    class Cancelling(Rule):
        renormalises = True

        def terms(self):
            both = (Product(identity, identity),)
            return Term(both, factor=1.0), Term(both, factor=-1.0), Term((Product(identity, negative),), factor=1.0)

    layer, x = linear.InnerProduct(np.array([[1.0, 2.0]]), None), np.array([[1.0, 1.0]])
    _, kept = propagation.forward(layer, x, Cancelling())
    np.testing.assert_allclose(propagation.backward(layer, x, np.array([[3.0]]), Cancelling(), kept), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("share = 0.5, strength = 2, mode = 'b', note = 'x', steps = 3", None),
        ("mode = 'd'", "default: rule Three: mode: expected one of a, b, c, got 'd'"),
        ("mode = 1", "default: rule Three: mode: expected one of a, b, c, got 1"),
        ("note = 1", "default: rule Three: note: expected a text, got 1"),
        ("steps = 'many'", "default: rule Three: steps: expected a number, got 'many'"),
        ("strength = 0.4", "default: rule Three: strength: expected a finite number of at least 0.5, got 0.4"),
        ("share = nan", "default: rule Three: share: expected a finite number, got nan"),
        ("share = [1]", r"default: rule Three: share: expected a number, got \[1\]"),
        ("share = true", "default: rule Three: share: expected a number, got True"),
        ("size = 1", "rule Three: expected setting share or strength or mode or note or steps, got 'size'"),
    ],
)
def test_settings_of_a_file_are_checked_by_the_fields_types(settings, message, own, tmp_path):
    (tmp_path / "c.toml").write_text(f'default = {{rule = "Three", {settings}}}')
    if message is None:
        assert read_composite(tmp_path / "c.toml").default == own["Three"](0.5, 2, "b", "x", 3)
        return
    with pytest.raises(LRPError, match=message):
        read_composite(tmp_path / "c.toml")


def test_a_setting_without_a_default_is_asked_for(own, tmp_path):
    @rule
    class Demanding(Rule):
        amount: float

        def terms(self):
            return (Term((Product(ones, ones),), factor=self.amount),)

    (tmp_path / "c.toml").write_text('default = "Demanding"')
    with pytest.raises(LRPError, match="default: rule Demanding: expected setting 'amount', got none"):
        read_composite(tmp_path / "c.toml")
