"""What would have been forecast for recorded series, and how good that would have been.

The problem: whoever considers forecasting wants to know whether it would have helped on their load. The
approach: rolling origins on the grid with the very code that serves (`learner`, `seasonal`): curves are
fitted at the same cuts from the week before them, every step learns only from what had come by then, and
every origin at which the service would have answered counts, from the first 90 minutes on. Nothing is tuned
to the series.

Neighbours: `recorded` reads files, `report` turns this into JSON and a plot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drse_forecaster import bounds, intervals
from drse_forecaster.book import ShelfCurves, fill_gaps
from drse_forecaster.experts import DAYS, FEATURES, Grid
from drse_forecaster.learner import Learner, Said, replay
from drse_forecaster.learning import DEFAULT_REFIT_SECONDS, Shelf
from drse_forecaster.models import FitError, Model
from drse_forecaster.rounds import MIN_HISTORY_SECONDS
from drse_forecaster.series import FloatArray

#: The baseline's margin is the quantile of its own errors of this long.
BASELINE_SECONDS = 2 * 86400

_CHANGE, _LEVEL, _YESTERDAY = (FEATURES.index(one) for one in ("curveChange", "curveLevel", "yesterdayLevel"))


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """What was said at each origin about one horizon, and what came; each (S, T), NaN where nothing was."""

    start: FloatArray  #: the last value
    actual: FloatArray  #: what came, NaN also where the service would not have answered
    p50: FloatArray
    p90: FloatArray
    baseline_p90: FloatArray  #: the last value widened by the rolling quantile of its own errors
    ewma: FloatArray
    seasonal_naive: FloatArray  #: the value at the target's time a day before
    prophet: FloatArray  #: the curve alone
    speakers: tuple[tuple[str, ...], ...]  #: by origin, then series


def roll(
    grid: Grid,
    first: int,
    values: FloatArray,
    place: int,
    model: Model | None,
    refit_seconds: float = DEFAULT_REFIT_SECONDS,
) -> Rolled:
    """Replay (S, T) values from grid index `first` on and return what was said at horizon `place`."""
    shelves = fit_cuts(grid, first, values, model, refit_seconds)
    said = _Listener(place)
    replay(grid, Learner.start(values.shape[0], grid), first, values, ShelfCurves(grid, shelves), said)
    steps = grid.horizons[place]
    start = np.where(np.isfinite(values), fill_gaps(values), np.nan)
    actual = np.full_like(values, np.nan)
    actual[:, :-steps] = values[:, steps:]
    actual[~np.isfinite(start)] = np.nan
    begins = np.isfinite(values).argmax(axis=1)
    young = np.arange(values.shape[1]) - begins[:, None] < MIN_HISTORY_SECONDS / grid.step_seconds
    actual[young] = np.nan
    errors = np.full_like(values, np.nan)
    errors[:, :-steps] = values[:, steps:] - start[:, :-steps]
    columns = [np.stack(one, axis=1) for one in zip(*said.rows, strict=True)]
    p50, p90, ewma, yesterday, curve = columns
    margins = rolling_margins(errors, steps, BASELINE_SECONDS // grid.step_seconds)
    return Rolled(start, actual, p50, p90, start + margins, ewma, yesterday, curve, tuple(said.speakers))


def fit_cuts(
    grid: Grid, first: int, values: FloatArray, model: Model | None, refit_seconds: float
) -> list[Shelf]:
    """Fit every cut of every series from the week before it, as the service does."""
    shelves = [Shelf() for _ in range(values.shape[0])]
    if model is None:
        return shelves
    step = grid.step_seconds
    end = first + values.shape[1]
    every = max(round(refit_seconds / step), 1)
    begins = first + np.isfinite(values).argmax(axis=1)
    for cut in range(-(-first // every) * every, end, every):
        old_enough = np.flatnonzero((cut - begins) * step >= model.min_history_seconds)
        if not old_enough.size:
            continue
        since = max(cut - DAYS * grid.day, first)
        times = np.arange(since, cut, dtype=np.float64) * step
        curves = model.fit_many(times, values[old_enough, since - first : cut - first])
        for row, curve in zip(old_enough, curves, strict=True):
            shelves[row].curves[float(cut * step)] = None if isinstance(curve, FitError) else curve
    return shelves


class _Listener:
    """Keeps what is said about one horizon."""

    def __init__(self, place: int) -> None:
        self._place = place
        self.rows: list[tuple[FloatArray, ...]] = []
        self.speakers: list[tuple[str, ...]] = []

    def __call__(self, index: int, learner: Learner, said: Said) -> None:
        place = self._place
        features = said.features[:, place]
        with_curve = features[:, _CHANGE] != 0  # exactly zero only where there is no curve
        curve = said.start + features[:, _LEVEL] + features[:, _CHANGE]
        self.rows.append(
            (
                said.p50[:, place],
                said.p90[:, place],
                said.experts[:, place, 1],
                said.start + features[:, _YESTERDAY],
                np.where(with_curve, np.maximum(curve, 0.0), np.nan),
            )
        )
        self.speakers.append(tuple(learner.speaker(place)))


def rolling_margins(errors: FloatArray, steps: int, window: int) -> FloatArray:
    """Return at each origin the conformal margin of the newest `window` errors known there.

    `errors`: by origin, shape (S, T); that of origin t is known at t + steps.
    """
    margins = np.full_like(errors, np.nan)
    for place in range(errors.shape[1]):
        known = max(place - steps + 1, 0)
        recent = errors[:, max(known - window, 0) : known]
        if recent.shape[1] >= intervals.MIN_ERRORS:
            margins[:, place] = intervals.upper_margins(recent)
    return margins


@dataclass(frozen=True, slots=True)
class Scores:
    """How one series was forecast; errors in its own unit."""

    origins: int
    mae: float
    mae_last_value: float
    p90_coverage: float
    p90_coverage_by_week: tuple[float, ...]
    pinball_p90: float
    pinball_p90_last_value: float
    under_capacity_share: float  #: share of loads above P90 / headroom
    mae_others: dict[str, float]  #: competitors' errors over the last value's, on origins where both spoke
    model_share: dict[str, float]

    @property
    def mae_ratio(self) -> float | None:
        return self.mae / self.mae_last_value if self.mae_last_value > 0 else None

    @property
    def pinball_p90_ratio(self) -> float | None:
        return self.pinball_p90 / self.pinball_p90_last_value if self.pinball_p90_last_value > 0 else None


#: Share of its capacity that a service is meant to run at: the default of spec.scaling.scaleUpAt.
HEADROOM = 0.8


def score(grid: Grid, rolled: Rolled, row: int) -> Scores | None:
    """Return the scores of one series, None when nothing could be judged."""
    actual = rolled.actual[row]
    judged = np.isfinite(actual) & np.isfinite(rolled.p50[row])
    if not judged.any():
        return None
    came, p90 = actual[judged], rolled.p90[row][judged]
    both = judged & np.isfinite(rolled.baseline_p90[row])
    plain = np.abs(actual - rolled.start[row])
    others = {"ewma": rolled.ewma, "seasonalNaive": rolled.seasonal_naive, "prophet": rolled.prophet}
    return Scores(
        origins=int(judged.sum()),
        mae=float(np.abs(came - rolled.p50[row][judged]).mean()),
        mae_last_value=float(plain[judged].mean()),
        p90_coverage=float((came <= p90).mean()),
        p90_coverage_by_week=_by_week(grid, judged, actual <= rolled.p90[row]),
        pinball_p90=_pinball(actual, rolled.p90[row], both),
        pinball_p90_last_value=_pinball(actual, rolled.baseline_p90[row], both),
        under_capacity_share=float((came > p90 / HEADROOM).mean()),
        mae_others={name: _against(actual, one[row], plain, judged) for name, one in others.items()},
        model_share=_shares(
            [each[row] for each, count in zip(rolled.speakers, judged, strict=True) if count]
        ),
    )


def _pinball(actual: FloatArray, bound: FloatArray, judged: np.ndarray) -> float:
    return float(bounds.pinball(actual[judged], bound[judged]).mean()) if judged.any() else float("nan")


def _against(actual: FloatArray, forecast: FloatArray, plain: FloatArray, judged: np.ndarray) -> float:
    both = judged & np.isfinite(forecast)
    reference = float(plain[both].sum()) if both.any() else 0.0
    return float(np.abs(actual - forecast)[both].sum()) / reference if reference > 0 else float("nan")


def _by_week(grid: Grid, judged: np.ndarray, covered: np.ndarray) -> tuple[float, ...]:
    """Return the coverage of each week that is at least half full, or of all if none is."""
    week = DAYS * grid.day
    shares = []
    for begin in range(0, judged.size, week):
        part = judged[begin : begin + week]
        if part.sum() >= min(week // 2, judged.sum()):
            shares.append(float(covered[begin : begin + week][part].mean()))
    return tuple(shares)


def _shares(names: list[str]) -> dict[str, float]:
    return {name: names.count(name) / len(names) for name in sorted(set(names))}
