"""Starting from what was just measured, and following a learned curve from there.

The problem: a curve learned from last week is off by whatever makes today different, and over ten minutes
that offset matters more than the shape; but where the curve is steep, the shape is all that matters. The
approach: start at the newest sample (or its exponentially weighted mean, EWMA) and let the curve pull, for
each horizon h by two learned shares:

    forecast(t, h) = start + follow[h] * (curve(t + h) - curve(t)) + revert[h] * (curve(t) - start)

`follow` is the part of the curve's coming change that is believed, `revert` the part of today's offset that
will have faded (1 - revert is the AR coefficient of the residual at that horizon). With both zero this is the
last value or the EWMA, so all candidates are one formula, judged alike, and a useless curve is learned away.
The shares come from least absolute deviations: a handful of bursts would dominate squares.

Neighbours: `models` gives curves, `backtest` replays this over history, `rounds` applies it to the newest
sample. All arrays are on the coarse grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drse_forecaster.series import FloatArray

#: Weights below 2^-8 of the newest are left out of the mean.
_KERNEL_HALF_LIVES = 8

_MAX_ITERATIONS = 30

#: Mean changes below this many GPU-equivalents are rounding, and nothing is learned from them.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to forecast: where it starts and which model's curve pulls."""

    name: str
    model: str | None  #: name of the model; None when nothing pulls
    half_life_seconds: float  #: of the EWMA it starts from; 0 starts from the newest sample itself

    def kernel(self, step_seconds: int) -> FloatArray:
        """Return the weights of the newest samples, newest first, on a grid of `step_seconds`."""
        if self.half_life_seconds <= 0:
            return np.ones(1)
        steps = int(np.ceil(_KERNEL_HALF_LIVES * self.half_life_seconds / step_seconds))
        return np.asarray(0.5 ** (np.arange(steps + 1) * step_seconds / self.half_life_seconds))


LAST_VALUE = Candidate("lastValue", None, 0.0)

#: In order of simplicity: of two that are equally good, the earlier one speaks.
CANDIDATES: tuple[Candidate, ...] = (
    LAST_VALUE,
    Candidate("ewma", None, 600.0),
    Candidate("prophet+ar", "prophet", 0.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Pulls:
    """How strongly a curve pulls at each horizon (grid steps); both shares lie between 0 and 1."""

    follow: FloatArray  #: share of the curve's change that is followed, shape (horizons,)
    revert: FloatArray  #: share of the distance to the curve that is closed, shape (horizons,)

    @classmethod
    def none(cls, horizons: int) -> Pulls:
        return cls(np.zeros(horizons), np.zeros(horizons))


def smooth(values: FloatArray, kernel: FloatArray) -> FloatArray:
    """Return the weighted mean of each value and those before it, same shape (n,).

    NaN values carry no weight. Where the value itself is NaN so is the result: a forecast starts from a
    sample that exists.
    """
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), kernel)[: values.size]
    weight = np.convolve(known.astype(np.float64), kernel)[: values.size]
    smoothed = np.full(values.size, np.nan)
    smoothed[known] = total[known] / weight[known]
    return smoothed


def learn_pulls(values: FloatArray, curve: FloatArray, horizons: tuple[int, ...]) -> Pulls:
    """Fit both shares for each horizon (grid steps) on a history and the curve's values there, shape (n,).

    NaN values are left out. A horizon that nothing can be learned for gets no pull.
    """
    follow, revert = np.zeros(len(horizons)), np.zeros(len(horizons))
    for place, steps in enumerate(horizons):
        change = values[steps:] - values[:-steps]
        pulls = np.stack([curve[steps:] - curve[:-steps], curve[:-steps] - values[:-steps]], axis=1)
        known = np.isfinite(change) & np.isfinite(pulls).all(axis=1)
        if known.any():
            follow[place], revert[place] = _least_absolute(pulls[known], change[known])
    return Pulls(follow, revert)


def _least_absolute(features: FloatArray, target: FloatArray) -> FloatArray:
    """Return weights in [0, 1], shape (k,), that minimise sum |target - features @ weights|.

    Iteratively reweighted least squares, with errors below 2 % of the mean change counting alike (a Huber
    loss, which keeps the weights finite), and a ridge so small that it only matters for features that are
    zero.
    """
    floor = 0.02 * float(np.abs(target).mean())
    if floor < _NEGLIGIBLE:
        return np.zeros(features.shape[1])
    ridge = 1e-9 * (float((features**2).sum()) + floor**2) * np.eye(features.shape[1])
    weights = np.zeros(features.shape[1])
    for _ in range(_MAX_ITERATIONS):
        errors = np.abs(target - features @ weights)
        weighted = features * (floor / np.maximum(errors, floor))[:, None]
        new = np.clip(np.linalg.solve(weighted.T @ features + ridge, weighted.T @ target), 0.0, 1.0)
        if float(np.abs(new - weights).max()) < 1e-3:
            return np.asarray(new)
        weights = new
    return weights


def pull(
    start: FloatArray, here: FloatArray, there: FloatArray, follow: FloatArray, revert: FloatArray
) -> FloatArray:
    """Return the forecast (GPU-equivalents, never negative) from `start`, the curve here and at the horizon.

    Shapes broadcast.
    """
    return np.maximum(start + follow * (there - here) + revert * (here - start), 0.0)
