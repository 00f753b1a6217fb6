"""Where rules meet linear layers: the forward pass with a rule's denominators, and the way back.

Equations: z'_p = sum_k w_k x_k + b_p for every part p, s_p = c_p R / (z'_p + e sign z'_p),
R_x = sum_p sum_k x_k * (w_k^T s_p). Terms with the same x_k travel through the layer together (their weights are
stacked), terms whose x_k is all zero (x- after a ReLU) are left out.
"""

import numpy as np

from lrp.rules import Part, Term, everything, negative, ones, positive


class Denominators:
    """What the forward pass of one linear layer leaves for its way back.

    parts: the rule's parts; z: their denominators, arrays of the layer's output shape; gate: the plain output z as the
    rule sees it (with or without bias), or None where no part asks for its sign.
    """

    def __init__(self, parts, z, gate):
        self.parts, self.z, self.gate = parts, z, gate


def _sign(x):
    """(x has positive values, x has negative values)."""
    return bool(x.max(initial=0) > 0), bool(x.min(initial=0) < 0)


def _resolve(terms, sign):
    """The terms that matter for an input of that sign: x- of an input without negative values is left out, and x+ of
    an input without negative values is x itself (so that nothing is copied and routes can be shared)."""
    has_positive, has_negative = sign
    resolved = []
    for term in terms:
        if term.x is positive and not has_negative or term.x is negative and not has_positive:
            term = term._replace(x=everything)
        elif term.x is positive and not has_positive or term.x is negative and not has_negative:
            continue
        resolved.append(term)
    return tuple(resolved)


def _nonzero(parts, x):
    """The terms of each part, resolved for the signs that occur in x (looked at only if a term asks for them)."""
    signed = any(term.x in (positive, negative) for part in parts for term in part.terms)
    return [_resolve(part.terms, _sign(x)) if signed else part.terms for part in parts]


def _bias_of(layer, part, rule, dtype):
    if layer.bias is None or part.bias is None or getattr(rule, "bias", "exclude") == "exclude":
        return None
    return part.bias(layer.bias_array(dtype))


def _sums(layer, x, sums):
    """[sum_k w_k x_k] for every tuple of terms in `sums`; each x_k is selected and passed through the layer once."""
    routes = {}
    for index, terms in enumerate(sums):
        for term in terms:
            routes.setdefault(term.x, []).append((index, term.w))
    totals = [None] * len(sums)
    for selector, users in routes.items():
        results = layer.apply(selector(x), tuple(w for _, w in users))
        for (index, _), result in zip(users, results, strict=True):
            if totals[index] is None:
                totals[index] = result
            else:
                totals[index] += result
    return [np.zeros(layer.output_shape(x.shape), x.dtype) if total is None else total for total in totals]


def forward(layer, x, rule=None):
    """Output of a linear layer for the batch x and, if a rule is given, its `Denominators`.

    Returns (z, denominators); z = W x + b has the dtype of x. Denominators is None without a rule.
    """
    plain = Part((Term(everything, everything),), bias=everything)
    parts = () if rule is None else rule.parts()
    bias = None if layer.bias is None else layer.bias_array(x.dtype)
    with_bias = [_bias_of(layer, part, rule, x.dtype) for part in parts]
    terms = _nonzero(parts, x)
    adds_up = rule is not None and rule.parts_sum_to_output and (bias is None or rule.bias != "exclude")
    # Parts with the same terms as the plain output (epsilon; z+ of a layer without negative weights is another matter)
    same = [part_terms == plain.terms for part_terms in terms]
    needed = [part_terms for part_terms, is_plain in zip(terms, same, strict=True) if not is_plain]
    results = _sums(layer, x, needed if adds_up else [*needed, plain.terms])
    output = None if adds_up else results.pop()
    results = iter(results)
    z = [output.copy() if is_plain else next(results) for is_plain in same]
    for part, own in zip(z, with_bias, strict=True):
        if own is not None:
            part += own
    gated = any(part.where for part in parts)
    gate = output.copy() if gated and rule.bias == "exclude" else None
    if adds_up:
        output = np.add(*z)
    elif bias is not None:
        output += bias
    if rule is None:
        return output, None
    if gated and gate is None:
        gate = output.copy()
    return output, Denominators(parts, z, gate)


def _quotient(relevance, z, stabiliser):
    """R / (z + e sign z), with 0 where the denominator is 0."""
    if stabiliser == 0:
        return np.divide(relevance, z, out=np.zeros_like(z), where=z != 0)
    denominator = np.copysign(np.asarray(stabiliser, z.dtype), z)
    denominator += z
    return np.divide(relevance, denominator, out=denominator)


def backward(layer, x, relevance, rule, denominators, account=None):
    """Relevance of the input x of a linear layer, given that of its output.

    relevance: array of the output's shape. account: None, or a dict that receives the relevance absorbed by the
    "bias" and the "stabiliser", one number per item of the batch. Returns an array of the shape of x.
    """
    parts, z = denominators.parts, denominators.z
    factors = [part.factor for part in parts]
    shares = []
    for index, part in enumerate(parts):
        share = _quotient(relevance, z[index], rule.stabiliser)
        if part.where == "positive":
            share *= denominators.gate > 0
        elif part.where == "negative":
            share *= denominators.gate < 0
        if factors[index] != 1:
            share *= np.asarray(factors[index], share.dtype)
        shares.append(share)
    if rule.one_part_takes_all:
        for index, other in ((0, 1), (1, 0)):
            # c_this * share is R/z * factor; where the other side is missing, the factor becomes 1
            missing = z[other] == 0
            if missing.any():
                shares[index][missing] /= np.asarray(factors[index], relevance.dtype)
    routes = {}
    for terms, share in zip(_nonzero(parts, x), shares, strict=True):
        for term in terms:
            routes.setdefault(term.x, []).append((share, term.w))
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
    biases = [_bias_of(layer, part, rule, x.dtype) for part in parts]
    spread = getattr(rule, "bias", None) == "spread" and any(bias is not None for bias in biases)
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
            shared_out += (share * denominator).sum(axis=axes, dtype=np.float64)
            if bias is not None:
                absorbed += (share * bias).sum(axis=axes, dtype=np.float64, where=True if kept is None else kept)
        account["bias"] = absorbed
        # what the stabilised denominators keep, and what outputs lose whose denominator is zero
        account["stabiliser"] = relevance.sum(axis=axes, dtype=np.float64) - shared_out
    return result
