"""Forecasting that learns from every outcome: the one procedure that service, backtest and tests run.

The problem: a backtest is only worth something when the very procedure that it judged is what serves. The
approach: a `Learner` holds everything learned about a group of series and is told one step of the grid after
the other. `step` first takes in what came, then says what it expects from here on and remembers it, to be
judged when its time has come. `say` forecasts from any other moment (the minutes between grid times) with
what was learned, and learns nothing. Nothing reads ahead: a step is given no later sample.

    opinions (experts) -> regressions -> blend, gate -> P50 -> bounds -> P90

A service that starts anew replays the history that Prometheus holds, and so knows what it knew (`replay`).

Shapes: S series, H horizons, K experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drse_forecaster import bounds, experts
from drse_forecaster.blending import Blend, Gate
from drse_forecaster.bounds import Bounded, BoundState, Hints
from drse_forecaster.experts import FEATURES, SIMPLE, CurveView, Grid
from drse_forecaster.regression import Learning, Regression
from drse_forecaster.series import FloatArray

#: Regressions and what they look at. The first three stay close to the last value; the fourth may use all.
REGRESSIONS: dict[str, tuple[str, ...]] = {
    "recent": ("back1", "back2", "hourMean"),
    "daily": (
        "back1", "back2", "hourMean", "median6h",
        "yesterdayChange", "yesterdayLevel", "dailyChange", "dailyLevel",
    ),
    "hourly": (
        "back1", "back2", "hourMean", "hourAgoChange", "hourAgoLevel", "twoHoursAgoChange",
        "hourlyChange", "hourlyLevel",
    ),
    "everything": (
        "back1", "back2", "back3", "back6", "hourMean", "median1d", "yesterdayChange", "yesterdayLevel",
        "dailyChange", "dailyLevel", "weekChange", "weekLevel", "hourAgoChange", "hourlyChange",
        "hourlyLevel", "sine1", "cosine1", "sine2", "cosine2", "curveChange", "curveLevel",
    ),
    "prophet+ar": ("back1", "curveChange", "curveLevel"),
}  # fmt: skip

EXPERTS: tuple[str, ...] = (*SIMPLE, *REGRESSIONS)
LAST_VALUE = SIMPLE[0]
BoolArray = NDArray[np.bool_]
_COLUMNS = tuple([FEATURES.index(name) for name in names] for names in REGRESSIONS.values())
_HINTS = [
    EXPERTS.index(one) for one in ("dailyChange", "dailyLevel", "hourlyChange", "everything", "median30m")
]

#: Weight of the last value before anything is known; the others share the rest.
_LAST_VALUE_PRIOR = 0.5

#: A scheduled change is one when it is this many times the mean change over the horizon.
SCHEDULED_CHANGES = 2.0

#: After so many errors in a row to one side, each so many times the usual one, the last value speaks until
#: the blend has caught up.
MAX_SURPRISES = 2
SURPRISE = 10.0

#: Half-life of the losses that skill and coverage are measured over.
JUDGED_HALF_LIFE_SECONDS = 2 * 86400.0


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Forecasts from one origin."""

    start: FloatArray  #: the last value, NaN where the series was silent, (S,)
    experts: FloatArray  #: (S, H, K)
    features: FloatArray  #: (S, H, p)
    blended: FloatArray  #: (S, H)
    timetable: FloatArray  #: the last value and the scheduled change, (S, H)
    scheduled: BoolArray  #: whether such a change is due, (S, H)
    p50: FloatArray  #: (S, H)
    bounded: Bounded

    @property
    def p90(self) -> FloatArray:
        return self.bounded.p90


@dataclass(slots=True, eq=False)
class Record:
    """Faded sums of losses of what was said; each (S, H)."""

    count: FloatArray
    error: FloatArray
    last_value_error: FloatArray
    covered: FloatArray
    pinball: FloatArray
    last_value_pinball: FloatArray

    @classmethod
    def start(cls, series: int, horizons: int) -> Record:
        return cls(*(np.zeros((series, horizons)) for _ in range(6)))


@dataclass(slots=True, eq=False)
class Learner:
    """Everything learned about S series. Rows are independent: see `perseries`."""

    regressions: tuple[Regression, ...]
    blend: Blend
    gate: Gate
    surprises: FloatArray  #: large errors of the blend to the same side in a row, signed, (S, H)
    timetable_gate: Gate  #: whether scheduled changes have come as scheduled
    bounds: BoundState
    record: Record
    pending: tuple[Said, ...]  #: by grid index modulo its length

    @classmethod
    def start(cls, series: int, grid: Grid) -> Learner:
        horizons = len(grid.horizons)
        prior = np.full(len(EXPERTS), (1 - _LAST_VALUE_PRIOR) / (len(EXPERTS) - 1))
        prior[0] = _LAST_VALUE_PRIOR
        learner = cls(
            regressions=tuple(Regression.start(grid, series, np.zeros(len(one))) for one in _COLUMNS),
            blend=Blend.start(series, horizons, prior),
            gate=Gate.start(series, horizons),
            surprises=np.zeros((series, horizons)),
            timetable_gate=Gate.start(series, horizons),
            bounds=BoundState.start(series, grid),
            record=Record.start(series, horizons),
            pending=(),
        )
        window = np.zeros((series, grid.window))
        silent = learner.say(grid, window, 0.0, CurveView.none(series, horizons))
        silent = replace(silent, start=np.full(series, np.nan))
        learner.pending = (silent,) * (grid.horizons[-1] + 1)
        return learner

    def say(self, grid: Grid, window: FloatArray, time: float, curve: CurveView) -> Said:
        """Return forecasts from the window's end at unix `time`, with what is known so far.

        `window`: see `experts.form`.
        """
        day = time / 86400.0
        opinions = experts.form(grid, window, day % 1.0, curve)
        start = opinions.start
        regressed = [
            np.clip(start[:, None] + one.say(opinions.features[..., columns]), 0.0, opinions.ceiling[:, None])
            for one, columns in zip(self.regressions, _COLUMNS, strict=True)
        ]
        said = np.concatenate([opinions.forecasts, np.stack(regressed, axis=-1)], axis=-1)
        blended = self.blend.say(said)
        timetable = np.maximum(start[:, None] + opinions.scheduled, 0.0)
        scheduled = np.abs(opinions.scheduled) > SCHEDULED_CHANGES * self.regressions[0].scale
        trusted = scheduled & self.timetable_gate.open
        believed = self.gate.open & (np.abs(self.surprises) < MAX_SURPRISES)
        p50 = np.where(trusted, timetable, np.where(believed, blended, start[:, None]))
        hints = Hints(
            start=start,
            before=np.where(np.isfinite(window[:, -2]), window[:, -2], start),
            ceiling=opinions.ceiling,
            day_mean=_mean_known(window[:, -grid.day :]),
            opinions=said[..., _HINTS],
        )
        bounded = bounds.bound(self.bounds, int((day % 1.0) * grid.day + 1e-6) % grid.day, p50, hints)
        rise = np.where(trusted & (opinions.scheduled > 0), start[:, None] + opinions.scheduled_most, 0.0)
        bounded = replace(bounded, p90=np.maximum(bounded.p90, rise))
        return Said(start, said, opinions.features, blended, timetable, scheduled, p50, bounded)

    def step(self, grid: Grid, index: int, values: FloatArray, window: FloatArray, curve: CurveView) -> Said:
        """Take in the samples of grid time `index * step` and return what is said there.

        `values`: shape (S,), NaN where silent. `window` ends with them, gaps filled. `curve` must be fitted
        on earlier samples only.
        """
        self._learn(grid, index, values)
        said = self.say(grid, window, float(index * grid.step_seconds), curve)
        if not np.isfinite(values).all():
            said = replace(said, start=np.where(np.isfinite(values), said.start, np.nan))
        slots = list(self.pending)
        slots[index % len(slots)] = said
        self.pending = tuple(slots)
        return said

    def _learn(self, grid: Grid, index: int, values: FloatArray) -> None:
        past = [self.pending[(index - steps) % len(self.pending)] for steps in grid.horizons]
        start = np.stack([one.start for one in past], axis=1)
        known = np.isfinite(start) & np.isfinite(values)[:, None]
        if not known.any():
            return
        start = np.where(known, start, 0.0)
        actual = np.where(known, values[:, None], start)
        features, said, blended, timetable, scheduled, p50 = (
            np.stack([getattr(one, name)[:, place] for place, one in enumerate(past)], axis=1)
            for name in ("features", "experts", "blended", "timetable", "scheduled", "p50")
        )
        bounded = _at_horizons([one.bounded for one in past])
        learning = Learning(grid)
        quantile = Learning(grid, tau=bounds.LEVEL, least_error=0.1, prior_share=0.02)
        for regression, columns in zip(self.regressions, _COLUMNS, strict=True):
            learning.learn(regression, index, features[..., columns], actual - start, known)
        self.blend.learn(said, blended, np.sign(blended - actual) * known, grid.step_seconds)
        plain = np.abs(start - actual)
        self.gate.learn((plain - np.abs(blended - actual)) * known, grid.step_seconds)
        self._be_surprised(actual - blended, known)
        by_timetable = (plain - np.abs(timetable - actual)) * known * scheduled
        self.timetable_gate.learn(by_timetable, grid.step_seconds)
        self._judge(grid, bounded, p50, start, actual, known)
        bounds.learn(self.bounds, quantile, index, bounded, p50, start, actual, known)

    def _be_surprised(self, error: FloatArray, known: BoolArray) -> None:
        """Count large errors to one side: after a shift of level, what was learned is of another load."""
        usual = bounds.usual_error(self.bounds)
        large = np.abs(error) > SURPRISE * usual
        side = np.sign(error)
        again = side * self.surprises > 0
        count = np.where(large, np.where(again, self.surprises + side, side), 0.0)
        self.surprises[...] = np.where(known, count, self.surprises)

    def _judge(
        self,
        grid: Grid,
        bounded: Bounded,
        p50: FloatArray,
        start: FloatArray,
        actual: FloatArray,
        known: BoolArray,
    ) -> None:
        fade = 0.5 ** (grid.step_seconds / JUDGED_HALF_LIFE_SECONDS)
        widened = bounded.bounds[..., bounds.LAST_VALUE_BOUND]
        losses = (
            (self.record.count, np.ones_like(actual)),
            (self.record.error, np.abs(actual - p50)),
            (self.record.last_value_error, np.abs(actual - start)),
            (self.record.covered, actual <= bounded.p90),
            (self.record.pinball, bounds.pinball(actual, bounded.p90)),
            (self.record.last_value_pinball, bounds.pinball(actual, widened)),
        )
        for total, loss in losses:
            total *= fade
            total += loss * known

    def speaker(self, place: int) -> list[str]:
        """Return who speaks at a horizon for each series: the last value, or a blend by its first expert."""
        heaviest = self.blend.weights[:, place].argmax(axis=-1)
        opened = self.gate.open[:, place]
        return [
            f"blend:{EXPERTS[one]}" if speaks else LAST_VALUE
            for one, speaks in zip(heaviest, opened, strict=True)
        ]


Curves = Callable[[int], CurveView]
Hear = Callable[[int, Learner, Said], None]


def replay(
    grid: Grid,
    learner: Learner,
    first: int,
    values: FloatArray,
    curves: Curves,
    hear: Hear | None = None,
    from_step: int = 0,
) -> None:
    """Tell a learner that has heard nothing of (S, T) values from grid index `first` on, step by step.

    `curves(index)` returns the curves that were fitted before that step. `hear` gets what is said at each.
    Steps before `from_step` are known to those after, but not learned from.
    """
    windows = Windows.start(grid, values.shape[0])
    for place in range(values.shape[1]):
        window = windows.push(values[:, place])
        if place < from_step:
            continue
        if not np.isfinite(window[:, -1]).all():  # of a series that has not begun, anything will do
            window = np.where(np.isfinite(window[:, -1:]), window, 0.0)
        said = learner.step(grid, first + place, values[:, place], window, curves(first + place))
        if hear is not None:
            hear(first + place, learner, said)


@dataclass(slots=True, eq=False)
class Windows:
    """The windows that `Learner.step` wants, for series that are told step by step."""

    _buffer: FloatArray
    _end: int
    _length: int

    @classmethod
    def start(cls, grid: Grid, series: int) -> Windows:
        length = grid.window
        return cls(np.full((series, 3 * length), np.nan), 0, length)

    def push(self, values: FloatArray) -> FloatArray:
        """Append one value a series, NaN for none, and return the windows with gaps filled, a view."""
        if self._end == self._buffer.shape[1]:
            self._buffer[:, : self._length] = self._buffer[:, -self._length :]
            self._end = self._length
        if self._end == 0:
            self._end = self._length
        before = self._buffer[:, self._end - 1]
        self._buffer[:, self._end] = np.where(np.isfinite(values), values, before)
        self._end += 1
        return self._buffer[:, self._end - self._length : self._end]


def _mean_known(values: FloatArray) -> FloatArray:
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _at_horizons(said: list[Bounded]) -> Bounded:
    """Return each horizon's column of what was said at that horizon's own origin."""
    return Bounded(
        *(
            np.stack([getattr(one, name)[:, place] for place, one in enumerate(said)], axis=1)
            for name in ("yardsticks", "margins", "features", "bounds", "blended", "corrected", "p90")
        )
    )
