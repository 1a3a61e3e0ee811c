"""Upper bounds that hold in nine cases of ten, and are no wider than that takes.

The problem: errors are large in some hours and small in others, grow with the load on one job and not on the
next, and change with it. One rolling quantile of all past errors is right on average and wrong most of the
time. The approach, in three layers, all of them online:

1. Several bounds: the forecast plus a multiple of a yardstick (how large errors were lately, at this time of
   day, at this level). The multiple follows the quantile of errors in that unit; and a quantile regression.
2. They are blended by pinball loss, as the forecasts are by absolute loss (`blending`).
3. A last correction moves up after a miss and down after a hit so that their balance is one in ten: whatever
   the load does, the share of misses over n steps is off by no more than (range of the correction) / rate n.

Where more than nine in ten loads equal the forecast (a night of zeros, a fixed number of instances), the 90 %
quantile is the forecast itself, and coverage is what it is. The correction must not run away then: it stops
at `LOWEST_CORRECTION`.

Sources: Gibbs and Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021;
Angelopoulos, Candes and Tibshirani, "Conformal PID control for time series prediction", NeurIPS 2023.

Shapes: S series, H horizons, Y yardsticks, B bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drse_forecaster.blending import Blend, Gate
from drse_forecaster.experts import Grid
from drse_forecaster.regression import Learning, Regression
from drse_forecaster.series import FloatArray

LEVEL = 0.9

SLOW_SECONDS = 2 * 86400.0
FAST_SECONDS = 3600.0
GATE_OPENS_AT = 0.5  # standard errors: a bound has something to win on every outcome, so evidence is plenty
TRACKING_RATE = 0.05  # yardsticks a step
CORRECTION_RATE = 0.05
LOWEST_CORRECTION = -0.25
_DAY_MEMORY = 0.6  # of a time of day's yardstick, from one day to the next

#: Features of the quantile regression: four yardsticks, then distances to the last value.
_REGRESSED = 11

#: How many yardsticks have a tracked multiple; the last measures the last value's errors, not the forecast's.
_YARDSTICKS = 6

#: Tracked bounds, the quantile regression, and the last value itself.
_BOUNDS = _YARDSTICKS + 2

#: Place of the bound that is the last value widened by the quantile of its own errors.
LAST_VALUE_BOUND = _YARDSTICKS - 1


@dataclass(slots=True, eq=False)
class BoundState:
    """What has been learned about errors."""

    slow: FloatArray  #: mean |error| over days, then its weight, (S, H, 2)
    fast: FloatArray  #: over the last hour
    last_value: FloatArray  #: of the last value, over days
    by_time: FloatArray  #: mean |error| by step of the day, NaN where unknown, (S, H, D)
    multiples: FloatArray  #: (S, H, Y)
    tracked: FloatArray  #: number of outcomes, (S, H)
    regression: Regression
    blend: Blend
    correction: FloatArray  #: in recent yardsticks, (S, H)
    gate: Gate  #: whether all this may replace the last value widened by its own errors

    @classmethod
    def start(cls, series: int, grid: Grid) -> BoundState:
        horizons = len(grid.horizons)
        shape = (series, horizons)
        prior = np.zeros(_REGRESSED)
        prior[0] = 1.0  # as much above the last value as errors were lately
        return cls(
            slow=np.zeros((*shape, 2)),
            fast=np.zeros((*shape, 2)),
            last_value=np.zeros((*shape, 2)),
            by_time=np.full((*shape, grid.day), np.nan),
            multiples=np.ones((*shape, _YARDSTICKS)),
            tracked=np.zeros(shape),
            regression=Regression.start(grid, series, prior),
            blend=Blend.start(series, horizons, np.full(_BOUNDS, 1.0 / _BOUNDS)),
            correction=np.zeros(shape),
            gate=Gate.start(series, horizons),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Hints:
    """What the bounds look at, besides past errors."""

    start: FloatArray  #: the last value, (S,)
    before: FloatArray  #: the value a step earlier, (S,)
    day_mean: FloatArray  #: mean load of a day, (S,)
    ceiling: FloatArray  #: the regression may not say more, (S,)
    opinions: FloatArray  #: forecasts that hint at a rise, (S, H, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """Bounds said at one origin."""

    yardsticks: FloatArray  #: (S, H, Y)
    margins: FloatArray  #: multiples of them, (S, H, Y)
    features: FloatArray  #: of the regression, (S, H, p)
    bounds: FloatArray  #: (S, H, B)
    blended: FloatArray  #: (S, H)
    corrected: FloatArray  #: (S, H)
    p90: FloatArray  #: (S, H), never below the forecast


def bound(state: BoundState, step_of_day: int, forecast: FloatArray, hints: Hints) -> Bounded:
    """Return the bounds over `forecast`, shape (S, H)."""
    start = hints.start[:, None]
    slow, fast, last = (_mean(one) for one in (state.slow, state.fast, state.last_value))
    recent = (slow + fast) / 2
    level = np.sqrt(np.maximum(forecast, 0.0) / (hints.day_mean[:, None] + 1e-9))
    timed = (_at_time(state, step_of_day, slow) + recent) / 2
    yardsticks = np.stack([slow, recent, level * slow, level * recent, timed, last], axis=-1)
    margins = state.multiples * yardsticks
    change = np.abs(hints.start - hints.before)[:, None]
    rises = hints.opinions - start[..., None]
    rises[..., 0] = np.maximum(rises[..., 0], 0.0)
    plain = [recent, slow, yardsticks[..., 2], timed, forecast - start, np.broadcast_to(change, recent.shape)]
    features = np.concatenate([np.stack(plain, axis=-1), rises], axis=-1)
    bases = np.repeat(forecast[..., None], _YARDSTICKS, axis=-1)
    bases[..., -1] = start
    highest = np.maximum(hints.ceiling[:, None], forecast)
    regressed = np.minimum(start + state.regression.say(features), highest)
    still = np.broadcast_to(start, forecast.shape)
    bounds = np.concatenate([bases + margins, np.stack([regressed, still], axis=-1)], axis=-1)
    bounds = np.maximum(bounds, forecast[..., None])
    blended = state.blend.say(bounds)
    corrected = np.maximum(blended + state.correction * recent, forecast)
    p90 = np.where(state.gate.open, corrected, bounds[..., LAST_VALUE_BOUND])
    return Bounded(yardsticks, margins, features, bounds, blended, corrected, p90)


def learn(
    state: BoundState,
    learning: Learning,
    index: int,
    said: Bounded,
    forecast: FloatArray,
    start: FloatArray,
    actual: FloatArray,
    known: NDArray[np.bool_],
) -> None:
    """Take in the outcome of each horizon.

    `index`: grid index at which it came. `start`: the last value at the origin, `actual`: what came; with
    `forecast` and `known` all (S, H).
    """
    step = learning.grid.step_seconds
    error = actual - forecast
    plain = actual - start
    _track(state, said, error, plain, known)
    learning.learn(state.regression, index, said.features, plain, known)
    slope = np.where(actual > said.blended, -LEVEL, 1 - LEVEL) * known
    state.blend.learn(said.bounds, said.blended, slope, step)
    gain = pinball(actual, said.bounds[..., LAST_VALUE_BOUND]) - pinball(actual, said.corrected)
    state.gate.learn(gain * known, step, GATE_OPENS_AT)
    missed = actual > said.corrected
    moved = state.correction + CORRECTION_RATE * np.where(missed, LEVEL, LEVEL - 1)
    state.correction[...] = np.where(known, np.maximum(moved, LOWEST_CORRECTION), state.correction)
    size = np.abs(error)
    _fade_in(state.slow, size, known, SLOW_SECONDS, step)
    _fade_in(state.fast, size, known, FAST_SECONDS, step)
    _fade_in(state.last_value, np.abs(plain), known, SLOW_SECONDS, step)
    origin_steps = (index - np.array(learning.grid.horizons)) % learning.grid.day
    horizon = np.arange(origin_steps.size)
    old = state.by_time[:, horizon, origin_steps]
    new = np.where(np.isfinite(old), _DAY_MEMORY * old + (1 - _DAY_MEMORY) * size, size)
    state.by_time[:, horizon, origin_steps] = np.where(known, new, old)


def usual_error(state: BoundState) -> FloatArray:
    """Return the mean |error| of the forecast over the last days, (S, H)."""
    return _mean(state.slow)


def pinball(actual: FloatArray, bound_: FloatArray) -> FloatArray:
    """Return the pinball loss at LEVEL: what is missing costs nine times what is idle."""
    above = actual - bound_
    return np.asarray(np.maximum(LEVEL * above, (LEVEL - 1) * above))


def _track(
    state: BoundState, said: Bounded, error: FloatArray, plain: FloatArray, known: NDArray[np.bool_]
) -> None:
    state.tracked += known
    rate = np.maximum(TRACKING_RATE, 1.0 / (state.tracked + 5.0))[..., None]
    errors = np.repeat(error[..., None], _YARDSTICKS, axis=-1)
    errors[..., -1] = plain
    moved = state.multiples + rate * np.where(errors > said.margins, LEVEL, LEVEL - 1)
    state.multiples[...] = np.where(known[..., None], np.maximum(moved, 0.0), state.multiples)


def _fade_in(
    mean: FloatArray, value: FloatArray, known: NDArray[np.bool_], half_life: float, step_seconds: int
) -> None:
    share = 1 - 0.5 ** (step_seconds / half_life)
    mean[..., 0] = np.where(known, mean[..., 0] + share * (value - mean[..., 0]), mean[..., 0])
    mean[..., 1] = np.where(known, mean[..., 1] + share * (1 - mean[..., 1]), mean[..., 1])


def _mean(faded: FloatArray) -> FloatArray:
    return np.asarray(faded[..., 0] / np.maximum(faded[..., 1], 1e-9))


def _at_time(state: BoundState, step_of_day: int, otherwise: FloatArray) -> FloatArray:
    """Return the mean yardstick of this step of the day and its neighbours, `otherwise` where unknown."""
    day = state.by_time.shape[-1]
    near = state.by_time[..., [(step_of_day - 1) % day, step_of_day, (step_of_day + 1) % day]]
    there = np.isfinite(near)
    total = np.where(there, near, 0.0).sum(axis=-1)
    return np.asarray(np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), otherwise))
