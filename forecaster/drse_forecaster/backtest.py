"""What each candidate would have said, had it been asked at every grid time of the last days.

The problem: a forecast is worth acting on only where it beats the last value, and that can only be known from
forecasts made without looking ahead. The approach: rolling origins over the judged days. A candidate with a
model is replayed with what was learned from the data before each day (a *fold*); an EWMA at an origin uses
samples up to that origin only. In service the curve is refitted far more often than once a day, so the replay
errs on the hard side.

Neighbours: `learning` makes the folds, `gate` reads the assessments, `intervals` the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from drse_forecaster import correction, intervals
from drse_forecaster.correction import Candidate, Pulls
from drse_forecaster.models import SECONDS_PER_DAY, Curve
from drse_forecaster.series import FloatArray

#: Days of origins that candidates are judged on.
JUDGED_DAYS = 3

#: A skill measured on fewer origins is an anecdote.
MIN_JUDGED = 36

#: Origins over which coverage is measured, newest first.
COVERAGE_SECONDS = 86400


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One job's load on the coarse grid: unix times and GPU-equivalents, both shape (n,), gaps as NaN."""

    times: FloatArray
    values: FloatArray
    step_seconds: int

    @property
    def span_seconds(self) -> float:
        return float(self.times[-1] - self.times[0]) if self.times.size else 0.0

    def before(self, cut: float) -> History:
        """Return the part that was known before `cut`."""
        end = int(np.searchsorted(self.times, cut))
        return History(self.times[:end], self.values[:end], self.step_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a model learned from a history: its curve and how strongly that should pull at each horizon."""

    curve: Curve
    pulls: Pulls


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """How one candidate did on the judged days."""

    candidate: Candidate
    skill: float | None  #: MAE / MAE of the last value at the judged horizon; None if unknown
    pinball: float | None  #: the same for the pinball loss of the P90, both bounds conformal; None if unknown
    coverage: float | None  #: share of loads within the P90 at the judged horizon; None if unknown
    margins: FloatArray  #: P90 minus forecast by horizon, GPU-equivalents, NaN where too few errors


def fold_cuts(history: History, min_history_seconds: float) -> tuple[float, ...]:
    """Return the UTC midnights from which a judged day starts and before which enough history lies.

    They move once a day, so that what was learned for a fold serves all backtests of that day.
    """
    if not history.times.size:
        return ()
    first, last = float(history.times[0]), float(history.times[-1])
    midnight = math.floor(last / SECONDS_PER_DAY) * SECONDS_PER_DAY
    cuts = (midnight - days * SECONDS_PER_DAY for days in range(JUDGED_DAYS, -1, -1))
    return tuple(cut for cut in cuts if cut - first >= min_history_seconds)


def replay(
    candidate: Candidate, history: History, horizons: tuple[int, ...], folds: Mapping[float, Learned]
) -> FloatArray:
    """Return actual - forecast for each origin and horizon (grid steps), shape (n, len(horizons)).

    Rows of origins outside every fold, and cells whose actual value is unknown, are NaN. `folds` maps the
    start of a judged day to what was learned before it; a candidate without a model needs none.
    """
    errors = np.full((history.times.size, len(horizons)), np.nan)
    start = correction.smooth(history.values, candidate.kernel(history.step_seconds))
    if candidate.model is None:
        pulls = Pulls.none(len(horizons))
        _replay_rows(errors, start, np.zeros_like(start), history, horizons, pulls, (0, start.size))
        return errors
    for cut, learned in folds.items():
        first, end = (int(row) for row in np.searchsorted(history.times, [cut, cut + SECONDS_PER_DAY]))
        reach = min(end + max(horizons), start.size)
        curve = np.full_like(start, np.nan)
        curve[first:reach] = learned.curve.at(history.times[first:reach])
        _replay_rows(errors, start, curve, history, horizons, learned.pulls, (first, end))
    return errors


def _replay_rows(
    errors: FloatArray,
    start: FloatArray,
    curve: FloatArray,
    history: History,
    horizons: tuple[int, ...],
    pulls: Pulls,
    rows: tuple[int, int],
) -> None:
    for place, steps in enumerate(horizons):
        first, end = rows[0], min(rows[1], start.size - steps)
        if end <= first:
            continue
        here, there = slice(first, end), slice(first + steps, end + steps)
        forecast = correction.pull(
            start[here], curve[here], curve[there], pulls.follow[place], pulls.revert[place]
        )
        errors[here, place] = history.values[there] - forecast


def assess(
    candidates: tuple[Candidate, ...],
    history: History,
    horizons: tuple[int, ...],
    judged: int,
    folds: Mapping[str, Mapping[float, Learned]],
) -> tuple[Assessment, ...]:
    """Judge the candidates on the same origins; the first candidate must be the last value.

    `judged` is the place in `horizons` of the horizon that skill and coverage are measured at; `folds` maps a
    model's name to its folds. A candidate whose model has no fold yet is left out.
    """
    entered = [one for one in candidates if one.model is None or folds.get(one.model)]
    rows = int(JUDGED_DAYS * SECONDS_PER_DAY) // history.step_seconds
    errors = [replay(one, history, horizons, folds.get(one.model or "", {}))[-rows:] for one in entered]
    baseline = errors[0][:, judged]
    window = intervals.WINDOW_SECONDS // history.step_seconds
    newest = COVERAGE_SECONDS // history.step_seconds
    return tuple(
        Assessment(
            candidate=candidate,
            skill=_ratio(own[:, judged], baseline, _mean_absolute),
            pinball=_ratio(own[:, judged], baseline, intervals.conformal_pinball),
            coverage=intervals.rolling_coverage(own[:, judged], horizons[judged], window, newest),
            margins=np.array([intervals.upper_margin(column) for column in own[-window:].T]),
        )
        for candidate, own in zip(entered, errors, strict=True)
    )


def _mean_absolute(errors: FloatArray) -> float:
    return float(np.abs(errors).mean())


def _ratio(errors: FloatArray, baseline: FloatArray, loss: Callable[[FloatArray], float]) -> float | None:
    both = np.isfinite(errors) & np.isfinite(baseline)
    if int(both.sum()) < MIN_JUDGED:
        return None
    reference = loss(baseline[both])
    return loss(errors[both]) / reference if reference > 0 else None
