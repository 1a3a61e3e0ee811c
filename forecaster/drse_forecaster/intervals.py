"""Upper bounds from a forecaster's own past errors.

The problem: capacity must hold in nine cases of ten, and a model's own interval (Prophet's covers trend
uncertainty only) says little about that. The approach: split conformal prediction on the errors that the
very same procedure made lately. P90 = forecast + the quantile of (actual - forecast) at that horizon, with
the finite-sample correction ceil((n + 1) * level) / n. It holds for exchangeable errors; loads are not
quite that, so the window rolls and the coverage reached is measured (`rolling_coverage`) and shown beside
every forecast.

What it does not cover: a time of day with larger errors than others. The bound is right on average over the
window, not for each hour.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al.,
"Distribution-free predictive inference for regression", JASA 113, 2018.
"""

from __future__ import annotations

import math

import numpy as np

from drse_forecaster.series import FloatArray

LEVEL = 0.9

#: Errors older than this do not widen an interval any more.
WINDOW_SECONDS = 2 * 86400

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


def conformal_pinball(errors: FloatArray, level: float = LEVEL) -> float:
    """Return the mean pinball loss at `level` of errors (finite, shape (n,)) widened by their own margin.

    The loss counts what lies above the bound with weight `level` and what the bound wastes with 1 - `level`:
    the price of missing capacity against that of idle capacity.
    """
    beyond = errors - upper_margin(errors, level)
    return float(np.maximum(level * beyond, (level - 1) * beyond).mean())


def rolling_coverage(
    errors: FloatArray, horizon_steps: int, window_steps: int, last: int, level: float = LEVEL
) -> float | None:
    """Return the share of the newest `last` errors that a bound made at their time would have covered.

    Each is judged with the margin of the `window_steps` errors known at its origin, that is those whose
    actual value had come by then. `errors` is in order of origin on the grid, shape (n,), NaN where
    unknown. None when fewer than 30 could be judged.
    """
    covered: list[bool] = []
    for origin in range(max(errors.size - last, 0), errors.size):
        if not math.isfinite(errors[origin]):
            continue
        known_until = origin - horizon_steps + 1
        margin = upper_margin(errors[max(known_until - window_steps, 0) : max(known_until, 0)], level)
        if math.isfinite(margin):
            covered.append(bool(errors[origin] <= margin))
    return sum(covered) / len(covered) if len(covered) >= 30 else None
