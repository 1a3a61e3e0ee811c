"""The simple opinions about what comes next, and the features that regressions form theirs from.

The problem: one load repeats by the day, one by the hour, one wanders, one flickers around a level, and which
it is can change. The approach: state every simple opinion (last value, means, medians, "as at this time
yesterday", "as an hour ago", the curve of Prophet) at every step, and leave it to `regression` and `blending`
to learn whom to believe. All come from one window that ends at the origin; nothing after it is in reach.

Shapes: S series, H horizons. The window holds the last seven days and one step on the grid, newest last.

Neighbours: `learner` calls this for every origin, on the grid as well as between grid times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drse_forecaster.series import FloatArray

DAYS = 7
_HOURS = 12

#: A linear forecast may not exceed this multiple of the largest load of the last day or so: its weights may
#: still be wild after a handful of examples.
CEILING = 1.5

#: A change is scheduled when so many days are known and this share of them moved alike.
MIN_PERIODS = 3
AGREEMENT = 0.7

_HALF_LIVES_SECONDS = (600.0, 1800.0, 7200.0)
_EWMA_REACH_SECONDS = 8 * 7200.0

#: Names of the simple opinions, in the order of `Opinions.forecasts`; the first is the last value.
SIMPLE = (
    "lastValue",
    *(f"ewma{half_life:.0f}s" for half_life in _HALF_LIVES_SECONDS),
    "median30m",
    "median1h",
    "median6h",
    "median1d",
    "dailyChange",
    "dailyLevel",
    "yesterday",
    "hourlyChange",
    "hourlyLevel",
)

#: Names of the features, all of them distances to the last value or scaled by the level: a regression whose
#: weights are zero says the last value.
FEATURES = (
    "back1",
    "back2",
    "back3",
    "back6",
    "hourMean",
    "median6h",
    "median1d",
    "level2h",
    "yesterdayChange",
    "yesterdayLevel",
    "dailyChange",
    "dailyLevel",
    "weekChange",
    "weekLevel",
    "hourAgoChange",
    "hourAgoLevel",
    "twoHoursAgoChange",
    "hourlyChange",
    "hourlyLevel",
    "sine1",
    "cosine1",
    "sine2",
    "cosine2",
    "curveChange",
    "curveLevel",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Step and horizons that all series of one learner share."""

    step_seconds: int
    horizons: tuple[int, ...]  #: in steps, rising

    @property
    def day(self) -> int:
        """Steps in a day."""
        return 86400 // self.step_seconds

    @property
    def hour(self) -> int:
        """Steps in an hour, at least one."""
        return max(3600 // self.step_seconds, 1)

    @property
    def reach(self) -> int:
        """Steps that exponentially weighted means look back."""
        return int(_EWMA_REACH_SECONDS // self.step_seconds) + 1

    @property
    def window(self) -> int:
        """Length of the window that opinions are formed from."""
        return DAYS * self.day + 1


@dataclass(frozen=True, slots=True, eq=False)
class CurveView:
    """The newest fitted curve of each series around an origin; NaN where there is none."""

    here: FloatArray  #: at the origin, (S,)
    there: FloatArray  #: at the horizons, (S, H)

    @classmethod
    def none(cls, series: int, horizons: int) -> CurveView:
        return cls(np.full(series, np.nan), np.full((series, horizons), np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class Opinions:
    """What can be said at one origin. Loads in the unit of the window, finite."""

    start: FloatArray  #: the last value, (S,)
    ceiling: FloatArray  #: no forecast is above it, (S,)
    forecasts: FloatArray  #: simple opinions, (S, H, len(SIMPLE))
    features: FloatArray  #: (S, H, len(FEATURES))
    scheduled: FloatArray  #: change that came at this time on most days, zero where there is none, (S, H)
    scheduled_most: FloatArray  #: the largest of those days' changes, (S, H)


def form(grid: Grid, window: FloatArray, phase: float, curve: CurveView) -> Opinions:
    """Return the opinions at the window's end.

    `window`: shape (S, grid.window), gaps filled with the value before them, NaN before a series begins; the
    newest value must be known. `phase`: day of the origin, as a fraction of a day.
    """
    start = window[:, -1]
    horizons = np.array(grid.horizons)
    near = window[:, -(grid.day + grid.reach) :]
    known = np.where(np.isfinite(near), near, start[:, None])  # before its beginning: as now
    means = [_ewma(known, grid, half_life) for half_life in _HALF_LIVES_SECONDS]
    hour, day = grid.hour, grid.day
    medians = [
        np.median(known[:, -max(hour // 2, 3) :], axis=1),
        np.median(known[:, -max(hour, 3) :], axis=1),
        np.median(known[:, -6 * hour :], axis=1),
        np.median(known[:, -day :: max(day // 72, 1)], axis=1),
    ]
    daily = _Repeats.find(window, horizons, day, DAYS)
    hourly = _Repeats.find(window, horizons, hour, _HOURS)
    base = start[:, None]
    shape = (start.size, horizons.size)
    forecasts = [
        *(np.broadcast_to(one[:, None], shape) for one in (start, *means, *medians)),
        base + daily.change,
        base + daily.level,
        base + daily.newest_change,
        base + hourly.change,
        base + hourly.level,
    ]
    angle = 2 * np.pi * (phase + horizons / day)
    waves = [np.outer(means[2], wave(turns * angle)) for turns in (1, 2) for wave in (np.sin, np.cos)]
    back = [np.broadcast_to((known[:, -1 - steps] - start)[:, None], shape) for steps in (1, 2, 3, 6)]
    flat = (known[:, -hour:].mean(axis=1), medians[2], medians[3], means[2])
    features = [
        *back,
        *(np.broadcast_to((one - start)[:, None], shape) for one in flat),
        daily.newest_change,
        daily.newest_level,
        daily.change,
        daily.level,
        daily.oldest_change,
        daily.oldest_level,
        hourly.newest_change,
        hourly.newest_level,
        hourly.second_change,
        hourly.change,
        hourly.level,
        *waves,
        _or_zero(curve.there - curve.here[:, None]),
        np.broadcast_to(_or_zero(curve.here - start)[:, None], shape),
    ]
    return Opinions(
        start=start,
        ceiling=CEILING * known.max(axis=1),
        forecasts=np.maximum(np.stack(forecasts, axis=-1), 0.0),
        features=np.stack(features, axis=-1),
        scheduled=daily.regular,
        scheduled_most=daily.most,
    )


def _ewma(known: FloatArray, grid: Grid, half_life: float) -> FloatArray:
    reach = min(grid.reach, known.shape[1])
    weights = 0.5 ** (np.arange(reach)[::-1] * grid.step_seconds / half_life)
    return np.asarray(known[:, -reach:] @ (weights / weights.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class _Repeats:
    """What followed the same phase of earlier periods, as distance to the last value; zero where unknown.

    All of shape (S, H).
    """

    change: FloatArray  #: median of the changes that followed
    level: FloatArray  #: median of the levels
    newest_change: FloatArray
    newest_level: FloatArray
    second_change: FloatArray
    oldest_change: FloatArray
    oldest_level: FloatArray
    regular: FloatArray  #: `change` where most periods agree on it, else zero
    most: FloatArray  #: largest change

    @classmethod
    def find(cls, window: FloatArray, horizons: np.ndarray, period: int, periods: int) -> _Repeats:
        start = window[:, -1, None]
        back = period * np.arange(1, periods + 1)
        back = back[back < window.shape[1]]
        then = window[:, -1 - back]
        ahead = (
            horizons[:, None] - back[None, :]
        )  # beyond the origin where a period is shorter than a horizon
        after = window[:, np.minimum(ahead, 0) - 1]
        after = np.where(ahead <= 0, after, np.nan)
        changes = after - then[:, None, :]
        levels = after - start[:, :, None]
        zeros = np.zeros(after.shape[:2])
        return cls(
            change=_or_zero(_median_known(changes)),
            level=_or_zero(_median_known(levels)),
            newest_change=_or_zero(changes[..., 0]),
            newest_level=_or_zero(levels[..., 0]),
            second_change=_or_zero(changes[..., 1]) if back.size > 1 else zeros,
            oldest_change=_or_zero(changes[..., -1]),
            oldest_level=_or_zero(levels[..., -1]),
            regular=_agreed(changes),
            most=np.where(np.isfinite(changes), changes, -np.inf).max(axis=-1),
        )


def _agreed(changes: FloatArray) -> FloatArray:
    """Return the median change where most periods moved at least half as far the same way, else zero."""
    median = _or_zero(_median_known(changes))
    alike = changes * np.sign(median)[..., None] >= np.abs(median)[..., None] / 2  # False for NaN
    known = np.isfinite(changes).sum(axis=-1)
    agreed = (known >= MIN_PERIODS) & (alike.sum(axis=-1) >= AGREEMENT * known)
    return np.asarray(np.where(agreed, median, 0.0))


def _median_known(values: FloatArray) -> FloatArray:
    """Return the median over the last axis of what is not NaN, NaN where nothing is."""
    flat = np.sort(values, axis=-1).reshape(-1, values.shape[-1])  # NaN last
    count = np.isfinite(flat).sum(axis=-1)
    last = np.maximum(count - 1, 0)
    rows = np.arange(flat.shape[0])
    middle = (flat[rows, last // 2] + flat[rows, np.minimum(count // 2, last)]) / 2
    return np.asarray(middle.reshape(values.shape[:-1]))


def _or_zero(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), 0.0, values)
