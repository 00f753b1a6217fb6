"""Where rules meet linear layers: the forward pass with a rule's denominators, and the way back.

Equations: z'_t = sum_k w_k x_k + b_t for every term t, s_t = c_t R / (z'_t + e sign z'_t),
R_x = sum_t sum_k x_k * (w_k^T s_t). Products with the same x_k travel through the layer together (their weights are
stacked), products whose x_k is all zero (x- after a ReLU) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from lrp.layer import Linear
from lrp.rules import Product, Rule, Term, identity, negative, ones, positive

PLAIN = Term((Product(identity, identity),), bias=identity)  # W x + b


class Denominators:
    """What the forward pass of one linear layer leaves for its way back.

    terms: the rule's terms; z: their denominators, arrays of the layer's output shape; gate: the plain output z as the
    rule sees it (with or without bias), or None where no term asks for its sign.
    """

    def __init__(self, terms: tuple[Term, ...], z: list[np.ndarray], gate: np.ndarray | None) -> None:
        self.terms, self.z, self.gate = terms, z, gate


def _sign(x: np.ndarray) -> tuple[bool, bool]:
    """(x has positive values, x has negative values)."""
    return bool(x.max(initial=0) > 0), bool(x.min(initial=0) < 0)


def _resolve(products: Sequence[Product], sign: tuple[bool, bool]) -> tuple[Product, ...]:
    """The products that matter for an input of that sign: x- of an input without negative values is left out, and x+
    of an input without negative values is x itself (so that nothing is copied and routes can be shared)."""
    has_positive, has_negative = sign
    resolved = []
    for product in products:
        if product.x is positive and not has_negative or product.x is negative and not has_positive:
            product = product._replace(x=identity)
        elif product.x is positive and not has_positive or product.x is negative and not has_negative:
            continue
        resolved.append(product)
    return tuple(resolved)


def _nonzero(terms: Sequence[Term], x: np.ndarray) -> list[tuple[Product, ...]]:
    """The products of each term, resolved for the signs that occur in x (looked at only if a product asks for them)."""
    signed = any(product.x in (positive, negative) for term in terms for product in term.products)
    return [_resolve(term.products, _sign(x)) if signed else tuple(term.products) for term in terms]


def _bias_of(layer: Linear, term: Term, rule: Rule, x: np.ndarray) -> np.ndarray | None:
    """What the term's denominator has beside the inputs: its bias, or the weights on padding; None for neither."""
    if rule.padding == "absorb":
        (product,) = term.products
        return layer.hidden(x, product.w)
    if layer.bias is None or term.bias is None or rule.bias == "exclude":
        return None
    return term.bias(layer.bias_array(x.dtype))


def _sums(layer: Linear, x: np.ndarray, sums: Sequence[Sequence[Product]]) -> list[np.ndarray]:
    """[sum_k w_k x_k] for every tuple of products in `sums`; each x_k is selected and passed through the layer once."""
    routes = {}
    for index, products in enumerate(sums):
        for product in products:
            routes.setdefault(product.x, []).append((index, product.w))
    totals = [None] * len(sums)
    for selector, users in routes.items():
        results = layer.apply(np.asarray(selector(x), x.dtype), tuple(w for _, w in users))
        for (index, _), result in zip(users, results, strict=True):
            if totals[index] is None:
                totals[index] = result
            else:
                totals[index] += result
    return [np.zeros(layer.output_shape(x.shape), x.dtype) if total is None else total for total in totals]


def forward(layer: Linear, x: np.ndarray, rule: Rule | None = None) -> tuple[np.ndarray, Denominators | None]:
    """Output of a linear layer for the batch x and, if a rule is given, its `Denominators`.

    Returns (z, denominators); z = W x + b has the dtype of x. Denominators is None without a rule.
    """
    bias = None if layer.bias is None else layer.bias_array(x.dtype)
    if rule is None:
        (output,) = _sums(layer, x, [PLAIN.products])
        if bias is not None:
            output += bias
        return output, None
    rule.check_input(x, layer.where or layer.name)
    terms = tuple(rule.terms())
    products = _nonzero(terms, x)
    adds_up = rule.sums_to_output and (bias is None or rule.bias != "exclude")
    # Terms with the same products as the plain output (epsilon; z+ of a layer without negative weights is not one)
    same = [one == PLAIN.products for one in products]
    needed = [one for one, is_plain in zip(products, same, strict=True) if not is_plain]
    results = _sums(layer, x, needed if adds_up and not any(same) else [*needed, PLAIN.products])
    output = results.pop() if len(results) > len(needed) else None
    results = iter(results)
    z = [output.copy() if is_plain else next(results) for is_plain in same]
    for own, term in zip(z, terms, strict=True):
        shift = _bias_of(layer, term, rule, x)
        if shift is not None:
            own += shift
    gated = any(term.where for term in terms)
    gate = output.copy() if gated and bias is not None and rule.bias == "exclude" else None
    if output is None:
        output = reduce(np.add, z) if len(z) > 1 else z[0].copy()
    elif bias is not None:
        output += bias
    if gated and gate is None:
        gate = output.copy()
    return output, Denominators(terms, z, gate)


def _quotient(relevance: np.ndarray, z: np.ndarray, stabiliser: float) -> np.ndarray:
    """R / (z + e sign z), with 0 where the denominator is 0."""
    if stabiliser == 0:
        return np.divide(relevance, z, out=np.zeros_like(z), where=z != 0)
    denominator = np.copysign(np.asarray(stabiliser, z.dtype), z)
    denominator += z
    return np.divide(relevance, denominator, out=denominator)


def _renormalise(shares: Sequence[np.ndarray], z: Sequence[np.ndarray], factors: Sequence[float]) -> None:
    """Where denominators are zero, divide the shares by the sum of the other terms' factors, in place; where that sum
    is zero, nothing is changed."""
    # which terms are there, a bit each, so that every output's divisor is looked up and not added up
    present = np.zeros_like(z[0], np.min_scalar_type(2 ** len(z) - 1))
    for index, one in enumerate(z):
        present |= (one != 0) * present.dtype.type(1 << index)
    everyone = 2 ** len(z) - 1
    if present.min(initial=everyone) == everyone:
        return
    left = [sum(factor for index, factor in enumerate(factors) if code >> index & 1) for code in range(everyone)]
    divisor = np.array([total or 1 for total in left] + [1], z[0].dtype)[present]
    for share in shares:
        share /= divisor


def backward(
    layer: Linear,
    x: np.ndarray,
    relevance: np.ndarray,
    rule: Rule,
    denominators: Denominators,
    account: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Relevance of the input x of a linear layer, given that of its output.

    relevance: array of the output's shape. account: None, or a dict that receives the relevance absorbed by the
    "bias" and the "stabiliser", one number per item of the batch. Returns an array of the shape of x.
    """
    terms, z = denominators.terms, denominators.z
    shares = []
    for term, denominator in zip(terms, z, strict=True):
        share = _quotient(relevance, denominator, rule.stabiliser)
        if term.where == "positive":
            share *= denominators.gate > 0
        elif term.where == "negative":
            share *= denominators.gate < 0
        if term.factor != 1:
            share *= np.asarray(term.factor, share.dtype)
        shares.append(share)
    if rule.renormalises:
        _renormalise(shares, z, [term.factor for term in terms])
    routes = {}
    for products, share in zip(_nonzero(terms, x), shares, strict=True):
        for product in products:
            routes.setdefault(product.x, []).append((share, product.w))
    result = None
    for selector, users in routes.items():
        back = layer.adjoint([share for share, _ in users], tuple(w for _, w in users), x.shape)
        if selector is not ones:
            back *= selector(x)
        if result is None:
            result = back
        else:
            result += back
    if result is None:
        result = np.zeros(x.shape, x.dtype)
    biases = [_bias_of(layer, term, rule, x) for term in terms]
    spread = rule.bias == "spread" and any(bias is not None for bias in biases)
    kept = None  # where a bias keeps its share: everywhere, or where an output that sees padding alone cannot spread it
    if spread:
        (connected,) = layer.apply(np.ones_like(x), (ones,))
        by_bias = sum(share * bias for share, bias in zip(shares, biases, strict=True) if bias is not None)
        result += layer.adjoint([by_bias / np.maximum(connected, 1)], (ones,), x.shape)
        kept = connected == 0
    if account is not None:
        axes = tuple(range(1, relevance.ndim))
        absorbed = np.zeros(len(relevance), np.float64)
        shared_out = np.zeros(len(relevance), np.float64)
        for share, denominator, bias in zip(shares, z, biases, strict=True):
            if rule.padding == "absorb" and bias is not None:
                denominator, bias = denominator - bias, None
            shared_out += (share * denominator).sum(axis=axes, dtype=np.float64)
            if bias is not None:
                absorbed += (share * bias).sum(axis=axes, dtype=np.float64, where=True if kept is None else kept)
        account["bias"] = absorbed
        # what the stabilised denominators and padding keep, and what outputs lose whose denominator is zero
        account["stabiliser"] = relevance.sum(axis=axes, dtype=np.float64) - shared_out
    return result
