"""The upper bound of a job that nothing has been learned about yet, from its last value's own errors.

The problem: a new or restarted forecaster must give a bound before it has replayed a history. The approach:
split conformal prediction. P90 = last value + the quantile of (actual - last value) at that horizon, with the
finite-sample correction ceil((n + 1) * level) / n. It holds for exchangeable errors.

Neighbours: `bounds` takes over once a job's history has been replayed.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al.,
"Distribution-free predictive inference for regression", JASA 113, 2018.
"""

from __future__ import annotations

import math

import numpy as np

from drse_forecaster.series import FloatArray

LEVEL = 0.9

#: Older errors do not widen an interval any more.
WINDOW_ERRORS = 576

#: The smallest n for which ceil((n + 1) * LEVEL) <= n, hence for which a P90 exists at all.
MIN_ERRORS = math.ceil(LEVEL / (1 - LEVEL) - 1e-9)


def upper_margin(errors: FloatArray, level: float = LEVEL) -> float:
    """Return what to add to a forecast so that `level` of these errors (actual - forecast) stay below.

    Never below zero: an upper bound under the median would be a bias correction in disguise. NaN errors do
    not count; NaN is returned when fewer than MIN_ERRORS are left.
    """
    known = errors[np.isfinite(errors)]
    if known.size < MIN_ERRORS:
        return math.nan
    rank = min(math.ceil((known.size + 1) * level - 1e-9), known.size)
    return max(float(np.partition(known, rank - 1)[rank - 1]), 0.0)


def upper_margins(errors: FloatArray, level: float = LEVEL) -> FloatArray:
    """Return `upper_margin` of each row of (S, n) errors."""
    count = np.isfinite(errors).sum(axis=1)
    rank = np.minimum(np.ceil((count + 1) * level - 1e-9), count).astype(int)
    ordered = np.sort(errors, axis=1)  # NaN last
    margins = ordered[np.arange(errors.shape[0]), np.maximum(rank - 1, 0)]
    return np.where(count >= MIN_ERRORS, np.maximum(margins, 0.0), np.nan)


def last_value_margins(values: FloatArray, horizons: tuple[int, ...]) -> FloatArray:
    """Return the margins over the last value at these horizons (steps), from its errors over `values`.

    Gaps are NaN in `values`, shape (n,). A horizon with too few errors gets that of the nearest shorter one,
    grown with the square root of time, as a random walk's would; all NaN when no horizon has enough.
    """
    margins = np.array([upper_margin((values[h:] - values[:-h])[-WINDOW_ERRORS:]) for h in horizons])
    for place in range(1, margins.size):
        if not math.isfinite(margins[place]):
            margins[place] = margins[place - 1] * math.sqrt(horizons[place] / horizons[place - 1])
    return margins
