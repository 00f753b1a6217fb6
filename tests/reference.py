"""Slow twins: textbook definitions over dense matrices and plain loops, in float64. Imports nothing of this project.

A linear layer is a matrix W (outputs, inputs), its connections C (1 where an output sees an input, also where the
weight is zero) and a bias b (outputs,). One recording at a time: x (inputs,), R (outputs,).
"""

import numpy as np


# --- layers as matrices ----------------------------------------------------------------------------------------------
def convolution_matrix(weight, shape, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """(W, C, output shape) of a cross-correlation with weight (O, I/G, kh, kw) on inputs (I, H, W)."""
    outputs, per_group, kh, kw = weight.shape
    channels, height, width = shape
    rows = (height + 2 * pad[0] - (dilation[0] * (kh - 1) + 1)) // stride[0] + 1
    columns = (width + 2 * pad[1] - (dilation[1] * (kw - 1) + 1)) // stride[1] + 1
    matrix = np.zeros((outputs, rows, columns, channels, height, width))
    connected = np.zeros_like(matrix)
    for o in range(outputs):
        first = (o // (outputs // group)) * per_group
        for r in range(rows):
            for c in range(columns):
                for i in range(per_group):
                    for a in range(kh):
                        for b in range(kw):
                            y, x = r * stride[0] - pad[0] + a * dilation[0], c * stride[1] - pad[1] + b * dilation[1]
                            if 0 <= y < height and 0 <= x < width:
                                matrix[o, r, c, first + i, y, x] += weight[o, i, a, b]
                                connected[o, r, c, first + i, y, x] = 1
    size = channels * height * width
    return matrix.reshape(-1, size), connected.reshape(-1, size), (outputs, rows, columns)


def deconvolution_matrix(weight, shape, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """(W, C, output shape) of a transposed convolution with weight (I, O/G, kh, kw) on inputs (I, H, W)."""
    _, per_group, kh, kw = weight.shape
    height = stride[0] * (shape[1] - 1) + dilation[0] * (kh - 1) + 1 - 2 * pad[0]
    width = stride[1] * (shape[2] - 1) + dilation[1] * (kw - 1) + 1 - 2 * pad[1]
    out = (per_group * group, height, width)
    matrix, connected, back = convolution_matrix(weight, out, stride, pad, dilation, group)
    assert back == tuple(shape)
    return matrix.T.copy(), connected.T.copy(), out


def pooled_size(size, kernel, stride, pad, padded):
    """Caffe's number of pooling windows along an axis; `padded`: some axis of the layer has padding."""
    count = int(np.ceil((size + 2 * pad - kernel) / stride)) + 1
    if padded and (count - 1) * stride >= size + pad:
        count -= 1
    return count


def pooling_windows(shape, kernel, stride, pad):
    """For inputs (C, H, W): list of (output index, [input indices], divisor of the average)."""
    channels, height, width = shape
    padded = any(pad)
    rows = pooled_size(height, kernel[0], stride[0], pad[0], padded)
    columns = pooled_size(width, kernel[1], stride[1], pad[1], padded)
    windows = []
    for c in range(channels):
        for r in range(rows):
            for q in range(columns):
                top, left = r * stride[0] - pad[0], q * stride[1] - pad[1]
                bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
                inside = [
                    (c, y, x)
                    for y in range(max(top, 0), min(bottom, height))
                    for x in range(max(left, 0), min(right, width))
                ]
                windows.append(((c, r, q), inside, (bottom - top) * (right - left)))
    return windows, (channels, rows, columns)


def average_matrix(shape, kernel, stride=(1, 1), pad=(0, 0)):
    """(W, C, output shape) of average pooling on inputs (C, H, W)."""
    windows, out = pooling_windows(shape, kernel, stride, pad)
    matrix = np.zeros((*out, *shape))
    for place, inside, divisor in windows:
        for index in inside:
            matrix[place + index] = 1 / divisor
    matrix = matrix.reshape(int(np.prod(out)), -1)
    return matrix, (matrix != 0).astype(float), out


def max_pooling(x, kernel, stride=(1, 1), pad=(0, 0)):
    """Maximum over the windows of x (C, H, W)."""
    windows, out = pooling_windows(x.shape, kernel, stride, pad)
    y = np.full(out, -np.inf)
    for place, inside, _ in windows:
        y[place] = max(x[index] for index in inside)
    return y


def max_pooling_relevance(x, relevance, kernel, stride=(1, 1), pad=(0, 0), ties="share"):
    """Every window hands its relevance in equal parts to the values that are its maximum, or to the first of them."""
    windows, _ = pooling_windows(x.shape, kernel, stride, pad)
    result = np.zeros_like(x)
    for place, inside, _ in windows:
        best = max(x[index] for index in inside)
        winners = [index for index in inside if x[index] == best][: None if ties == "share" else 1]
        for index in winners:
            result[index] += relevance[place] / len(winners)
    return result


# --- rules over a matrix ---------------------------------------------------------------------------------------------
def _shares(contributions, bias, relevance, connected, stabiliser, spread):
    """R_i = sum_j c_ij R_j / (z_j + e sign z_j), z_j = sum_i c_ij + b_j; contributions (outputs, inputs)."""
    result = np.zeros(contributions.shape[1])
    for j in range(len(contributions)):
        z = contributions[j].sum() + bias[j]
        denominator = z + (stabiliser if z >= 0 else -stabiliser)
        if denominator == 0:
            continue
        result += contributions[j] / denominator * relevance[j]
        if spread and connected[j].sum():
            result += connected[j] / connected[j].sum() * bias[j] / denominator * relevance[j]
    return result


def _plus(a):
    return np.where(a > 0, a, 0)


def _minus(a):
    return np.where(a < 0, a, 0)


def _bias(b, treatment):
    return np.zeros_like(b) if treatment == "exclude" else b


def epsilon(W, C, b, x, R, epsilon, bias, **_):
    """Bach et al. 2015, eq. 58."""
    return _shares(W * x, _bias(b, bias), R, C, epsilon, bias == "spread")


def zero(W, C, b, x, R, bias, **_):
    """Bach et al. 2015, eq. 56."""
    return epsilon(W, C, b, x, R, 0.0, bias)


def zplus(W, C, b, x, R, bias, guard, **_):
    """Positive contributions only."""
    return _shares(_plus(W * x), _plus(_bias(b, bias)), R, C, guard, bias == "spread")


def alpha_beta(W, C, b, x, R, alpha, beta, bias, one_sided, guard, **_):
    """Bach et al. 2015, eq. 60; `one_sided` as in the documentation of the rule."""
    b = _bias(b, bias)
    positive, negative = _plus(W * x), _minus(W * x)
    alphas, betas = np.full(len(R), float(alpha)), np.full(len(R), float(beta))
    if one_sided == "conserve" and beta > 0:
        alphas[negative.sum(axis=1) + _minus(b) == 0] = 1
        betas[positive.sum(axis=1) + _plus(b) == 0] = -1
    spread = bias == "spread"
    return _shares(positive, _plus(b), alphas * R, C, guard, spread) - _shares(
        negative, _minus(b), betas * R, C, guard, spread
    )


def gamma(W, C, b, x, R, gamma, bias, guard, **_):
    """Generalised gamma: contributions that have the sign of the output count 1 + gamma times."""
    b = _bias(b, bias)
    z = (W * x).sum(axis=1) + b
    contributions = np.where((W * x) * z[:, None] > 0, 1 + gamma, 1) * W * x
    biases = np.where(b * z > 0, 1 + gamma, 1) * b
    return _shares(contributions, biases, np.where(z != 0, R, 0), C, guard, bias == "spread")


def zbox(W, C, b, x, R, low, high, guard, **_):
    """Montavon et al. 2017, eq. 18."""
    low = x.min() if low is None else low
    high = x.max() if high is None else high
    return _shares(W * x - _plus(W) * low - _minus(W) * high, np.zeros_like(b), R, C, guard, False)


def wsquare(W, C, b, x, R, **_):
    """Montavon et al. 2017, eq. 12."""
    return _shares(W**2, np.zeros_like(b), R, C, 0.0, False)


def flat(W, C, b, x, R, guard, **_):
    """Equal shares among the inputs that an output sees."""
    return _shares(C, np.zeros_like(b), R, C, guard, False)


RULES = {
    "Epsilon": epsilon,
    "Zero": zero,
    "ZPlus": zplus,
    "AlphaBeta": alpha_beta,
    "Gamma": gamma,
    "ZBox": zbox,
    "WSquare": wsquare,
    "Flat": flat,
}


# --- DFT-LRP with dense matrices -------------------------------------------------------------------------------------
def synthesis_matrix(count):
    """(T, 2 (T // 2 + 1)): makes a real signal from the real and imaginary parts of its Fourier coefficients."""
    bins = count // 2 + 1
    matrix = np.zeros((count, 2 * bins))
    for n in range(count):
        for k in range(bins):
            times = 1 if k == 0 or 2 * k == count else 2
            matrix[n, k] = times * np.cos(2 * np.pi * k * n / count) / count
            matrix[n, bins + k] = -times * np.sin(2 * np.pi * k * n / count) / count
    return matrix


def ridge_width(x, ridge):
    """`ridge` times the 95th percentile (linear between neighbours) of |x| over samples that are not zero."""
    loud = sorted(abs(value) for value in x if value != 0)
    if not loud:
        return 0.0
    place = 0.95 * (len(loud) - 1)
    low = int(place)
    high = min(low + 1, len(loud) - 1)
    return ridge * (loud[low] + (place - low) * (loud[high] - loud[low]))


def _through(matrix, coefficients, x, relevance, d):
    """LRP of the linear layer x = matrix @ coefficients with R x / (x^2 + d^2); samples that are zero pass nothing."""
    result = np.zeros(len(coefficients))
    for n in range(len(x)):
        if x[n] != 0:
            result += matrix[n] * coefficients * x[n] / (x[n] ** 2 + d**2) * relevance[n]
    return result


def dft_relevance(x, relevance, ridge=0.0):
    """Relevance of the frequencies of x (T,), real and imaginary parts added."""
    bins = len(x) // 2 + 1
    y = np.array([sum(x[n] * np.exp(-2j * np.pi * k * n / len(x)) for n in range(len(x))) for k in range(bins)])
    layer = synthesis_matrix(len(x))
    parts = _through(layer, np.concatenate([y.real, y.imag]), x, relevance, ridge_width(x, ridge))
    return parts[:bins] + parts[bins:]


def stdft_relevance(x, relevance, window, hop, ridge=0.0):
    """Relevance (K, M) of the short-time coefficients of x (T,), over one dense matrix for all frames; frames begin
    half a window before multiples of the hop, as many as it takes to see the last sample and half a window behind."""
    length, count = len(window), len(x)
    bins, starts = length // 2 + 1, [-(length // 2)]
    while starts[-1] + length < count + length // 2:
        starts.append(starts[-1] + hop)
    cover = np.zeros(count)
    for start in starts:
        for i in range(length):
            if 0 <= start + i < count:
                cover[start + i] += window[i]
    single = synthesis_matrix(length)
    columns, coefficients = [], []
    for start in starts:
        frame = np.array([window[i] * x[start + i] if 0 <= start + i < count else 0 for i in range(length)])
        y = np.array([sum(frame[i] * np.exp(-2j * np.pi * k * i / length) for i in range(length)) for k in range(bins)])
        block = np.zeros((count, 2 * bins))
        for i in range(length):
            if 0 <= start + i < count:
                block[start + i] = single[i] / cover[start + i]
        columns.append(block)
        coefficients.append(np.concatenate([y.real, y.imag]))
    matrix, coefficients = np.concatenate(columns, axis=1), np.concatenate(coefficients)
    np.testing.assert_allclose(matrix @ coefficients, x, atol=1e-10)  # the layer does make x
    parts = _through(matrix, coefficients, x, relevance, ridge_width(x, ridge)).reshape(len(starts), 2, bins)
    return parts.sum(axis=1).T


def authors_stdft_relevance(x, relevance, window, hop):
    """(N // 2 + 1, M): short-time DFT-LRP as its authors define it, with their layer's real weights for all N
    frequencies of every frame: analysis by w_m(n) (cos, -sin) / sqrt N, synthesis by (cos, -sin) / (sqrt N W(n))."""
    length, count = len(window), len(x)
    starts = range(0, count - length + 1, hop)
    cover = np.zeros(count)
    for start in starts:
        cover[start : start + length] += window
    k, n = np.mgrid[:count, :count]
    angle = 2 * np.pi * k * n / count
    weights = np.concatenate([np.cos(angle), -np.sin(angle)]) / np.sqrt(count)  # (2 N, N)
    normed = relevance / (x + 1e-6)
    result = np.zeros((count // 2 + 1, len(starts)))
    for m, start in enumerate(starts):
        mask = np.zeros(count)
        mask[start : start + length] = window
        coefficients = (weights * mask) @ x
        parts = coefficients * ((weights / cover) @ normed)
        both = parts[:count] + parts[count:]
        for frequency in range(count):  # a real signal's coefficients above N / 2 are mirror images
            result[min(frequency, count - frequency), m] += both[frequency]
    return result
