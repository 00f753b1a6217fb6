"""Clipping: several samples in a row at an end of the scale, where the converter could go no further."""

from __future__ import annotations

import numpy as np

CLIPPED_RUN = 3  # samples in a row at the same end; one or two may be there by chance
LIMIT = 32767  # on the scale of 16-bit samples; some converters never give -32768


def clipped_runs(samples: np.ndarray, high: float = LIMIT, low: float = -LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of at least CLIPPED_RUN samples at or beyond an end of the scale start and stop, in order.

    samples (N,) of any type -> starts (K,), stops (K,); a run is samples[start:stop].
    """
    ends = [np.concatenate([[False], at_the_end, [False]]) for at_the_end in (samples >= high, samples <= low)]
    edges = [np.flatnonzero(end[1:] != end[:-1]) for end in ends]  # a start, a stop, a start ...
    starts, stops = np.sort(np.concatenate([np.reshape(edge, (-1, 2)) for edge in edges]), axis=0).T
    long = stops - starts >= CLIPPED_RUN
    return starts[long], stops[long]
