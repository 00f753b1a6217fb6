"""When two engines agree: the largest difference of a blob, relative to the largest value of that blob."""

import numpy as np

LAYER_TOLERANCE = 1e-5  # one layer
NET_TOLERANCE = 1e-4  # a whole net
EXTREME = 1e37  # beyond this (Caffe's FLT_MAX, infinities) values must be equal


def relative_error(found, wanted):
    """max |found - wanted| / max |wanted|, inf if shapes or the extreme values and NaNs differ."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        return np.inf
    plain = np.abs(wanted) < EXTREME
    if not np.array_equal(found[~plain], wanted[~plain], equal_nan=True):
        return np.inf
    if not plain.any():
        return 0.0
    error, scale = np.abs(found[plain] - wanted[plain]).max(), np.abs(wanted[plain]).max()
    return error / scale if scale else (0.0 if error == 0 else np.inf)


def norm_error(found, wanted):
    """Euclidean norm of found - wanted / norm of wanted: for gradients behind ReLU and MAX pooling of large nets.

    Where two values are equal up to rounding, one engine may let another element win than the other does, and that one
    element of millions gets its whole gradient or none.
    """
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        return np.inf
    error, scale = np.linalg.norm(found - wanted), np.linalg.norm(wanted)
    return error / scale if scale else (0.0 if error == 0 else np.inf)


def differences(found, wanted, tolerance, measure=relative_error):
    """One line for every array of `wanted` that `found` lacks or that differs by more than `tolerance`."""
    lines = [f"{name}: not there" for name in sorted(wanted.keys() - found.keys())]
    lines += [f"{name}: found, but not in the original" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        error = measure(found[name], wanted[name])
        if not error <= tolerance:
            lines.append(
                f"{name}: relative error {error:.2e}; wanted at most {tolerance:g}\n  found "
                f"{found[name].shape} {found[name].ravel()[:6]}\n  wanted {wanted[name].shape} "
                f"{wanted[name].ravel()[:6]}"
            )
    return lines
