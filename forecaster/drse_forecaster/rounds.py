"""One round: from the stored histories and fits to what is said about every job.

The problem: the answer must be the same whether it is computed in service, in a test or in a replay of last
week. The approach: a `Forecaster` that holds the store, the library of fits and who speaks for each job,
takes time and samples as arguments, and touches no network, thread or clock. A round is: `ingest` samples,
`answer` with what is fitted, hand out `due_fits`, `learn` their outcomes, answer again.

Neighbours: `service` drives it, `source` feeds it, `learning`, `backtest`, `gate`, `intervals` do the parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from drse_forecaster import backtest, correction, gate
from drse_forecaster.backtest import Assessment, History
from drse_forecaster.contract import (
    DEFAULT_HORIZON_MINUTES,
    HORIZONS_MINUTES,
    ForecastPoint,
    ForecastState,
    JobForecast,
)
from drse_forecaster.correction import CANDIDATES, Pulls
from drse_forecaster.learning import FitOutcome, FitTask, Library
from drse_forecaster.models import Curve, FlatCurve, Model, ProphetModel
from drse_forecaster.series import FloatArray, JobKey, JobSamples, JobSeries, SeriesShape, SeriesStore

#: Below this a P90 at half an hour would rest on fewer errors than a P90 needs.
MIN_HISTORY_SECONDS = 5400


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterSettings:
    """Times in seconds."""

    shape: SeriesShape = field(default_factory=SeriesShape)
    models: tuple[Model, ...] = (ProphetModel(),)
    refit_seconds: float = 1200.0
    stale_after_seconds: float = 300.0

    @property
    def grid_horizons(self) -> tuple[int, ...]:
        """The horizons of the backtest, in grid steps: enough to reach every minute that is answered."""
        step = self.shape.step_seconds
        return tuple(sorted({math.ceil(minutes * 60 / step) for minutes in HORIZONS_MINUTES}))

    @property
    def judged(self) -> int:
        """The place in `grid_horizons` of the horizon that the gate judges."""
        return self.grid_horizons.index(math.ceil(DEFAULT_HORIZON_MINUTES * 60 / self.shape.step_seconds))


@dataclass(slots=True)
class _Verdict:
    """The newest assessment of a job's candidates, who speaks, and what it was based on."""

    chosen: Assessment
    grid_time: float
    fits: tuple[int, ...]


class Forecaster:
    """All knowledge about all jobs. Not thread-safe: one call at a time; `FitTask.run` may run anywhere."""

    def __init__(self, settings: ForecasterSettings) -> None:
        self.settings = settings
        self.store = SeriesStore(settings.shape)
        self._library = Library(settings.models, settings.grid_horizons, settings.refit_seconds)
        self._verdicts: dict[JobKey, _Verdict] = {}

    def ingest(self, batch: Iterable[JobSamples], now: float) -> frozenset[JobKey]:
        """Take in samples and drop jobs long silent. Returns the jobs not known before. `now`: unix
        seconds."""
        new = self.store.ingest(batch)
        gone = self.store.forget(now)
        self._library.forget(gone)
        for key in gone:
            self._verdicts.pop(key, None)
        return new

    def due_fits(self, now: float) -> list[FitTask]:
        """Return what should be fitted, the fits that forecast first. Jobs without fresh samples wait."""
        tasks: list[FitTask] = []
        for key, series in self.store.items():
            if now - series.newest <= self.settings.stale_after_seconds:
                tasks += self._library.due(key, self._history(series))
        return sorted(tasks, key=lambda task: task.cut is not None)

    def learn(self, outcomes: Iterable[FitOutcome]) -> None:
        """Keep what tasks found, for jobs that are still known."""
        for outcome in outcomes:
            if outcome.task.key in self.store:
                self._library.add(outcome)

    def answer(self, now: float) -> tuple[JobForecast, ...]:
        """Return the forecast of every known job, by namespace and name. `now`: unix seconds."""
        return tuple(self._answer_one(key, series, now) for key, series in self.store.items())

    def _history(self, series: JobSeries) -> History:
        times, values = series.coarse.window()
        return History(times, values, self.settings.shape.step_seconds)

    def _answer_one(self, key: JobKey, series: JobSeries, now: float) -> JobForecast:
        history = self._history(series)
        common = JobForecast(
            namespace=key.namespace,
            name=key.name,
            state=ForecastState.UNKNOWN,
            reason="",
            as_of=datetime.fromtimestamp(series.newest, UTC) if math.isfinite(series.newest) else None,
            load=series.newest_value if math.isfinite(series.newest_value) else None,
            samples=int(np.isfinite(history.values).sum()),
            history_seconds=history.span_seconds,
        )
        refusal = self._refusal(series, history, now)
        if refusal is not None:
            state, reason = refusal
            return common.model_copy(update={"state": state, "reason": reason})
        chosen = self._chosen(key, history)
        points = self._points(key, series, chosen)
        if points is None:
            reason = f"The forecast of {chosen.candidate.name} is not finite; the next refit may mend it."
            return common.model_copy(update={"state": ForecastState.BROKEN, "reason": reason})
        return common.model_copy(
            update={
                "state": ForecastState.READY,
                "reason": self._reason(key, history, chosen),
                "points": points,
                "model": chosen.candidate.name,
                "skill": chosen.skill,
                "coverage": chosen.coverage,
            }
        )

    def _refusal(self, series: JobSeries, history: History, now: float) -> tuple[ForecastState, str] | None:
        limit = self.settings.stale_after_seconds
        age = now - series.newest
        if age > limit and now - series.seen <= limit:
            return ForecastState.BROKEN, (
                "Prometheus returns values that no load can have (not finite, negative or absurd); "
                "check the exporter's metrics and the operator's drse_job_* metrics."
            )
        if not math.isfinite(age):
            return ForecastState.UNKNOWN, (
                "No usable sample was ever seen and none comes now; "
                "check that Prometheus scrapes the job's exporters and the operator."
            )
        if age > limit:
            return ForecastState.STALE, (
                f"The newest sample is {age:.0f} s old and {limit:.0f} s are allowed; "
                "check that Prometheus still scrapes the job's exporters and the operator."
            )
        if history.span_seconds < MIN_HISTORY_SECONDS or history.values.size < 2:
            return ForecastState.TOO_SHORT, (
                f"{history.span_seconds / 60:.0f} minutes of history are known and "
                f"{MIN_HISTORY_SECONDS / 60:.0f} are needed; this clears by itself."
            )
        return None

    def _chosen(self, key: JobKey, history: History) -> Assessment:
        """Return who speaks; judged anew only when the grid or the fits have moved on."""
        folds = self._library.folds(key)
        fits = tuple(len(one) for one in folds.values())
        old = self._verdicts.get(key)
        if old is not None and old.grid_time == history.times[-1] and old.fits == fits:
            return old.chosen
        settings = self.settings
        assessments = backtest.assess(CANDIDATES, history, settings.grid_horizons, settings.judged, folds)
        chosen = gate.choose(assessments, old.chosen.candidate.name if old else None)
        self._verdicts[key] = _Verdict(chosen, float(history.times[-1]), fits)
        return chosen

    def _points(self, key: JobKey, series: JobSeries, chosen: Assessment) -> tuple[ForecastPoint, ...] | None:
        """Return the points from the newest sample on, or None when a number is not finite."""
        step = self.settings.shape.step_seconds
        minutes = np.array(HORIZONS_MINUTES, dtype=np.float64)
        kernel = chosen.candidate.kernel(step)
        start = correction.smooth(series.recent(kernel.size), kernel)[-1:]
        curve, pulls = self._learned(key, chosen)
        here = curve.at(np.array([series.newest]))
        there = curve.at(series.newest + 60.0 * minutes)
        p50 = correction.pull(
            start, here, there, self._by_minute(pulls.follow, minutes), self._by_minute(pulls.revert, minutes)
        )
        margin = self._by_minute(_without_gaps(chosen.margins), minutes)
        p90 = p50 + margin
        if not np.isfinite(p90).all():
            return None
        return tuple(
            ForecastPoint(minutes=int(at), p50=float(low), p90=float(high))
            for at, low, high in zip(HORIZONS_MINUTES, p50, p90, strict=True)
        )

    def _learned(self, key: JobKey, chosen: Assessment) -> tuple[Curve, Pulls]:
        learned = self._library.current(key, chosen.candidate.model) if chosen.candidate.model else None
        if learned is None:
            return FlatCurve(), Pulls.none(len(self.settings.grid_horizons))
        return learned.curve, learned.pulls

    def _by_minute(self, by_horizon: FloatArray, minutes: FloatArray) -> FloatArray:
        """Interpolate what is known at grid horizons; at horizon zero nothing pulls and nothing is
        uncertain."""
        known_at = np.array([0, *self.settings.grid_horizons]) * self.settings.shape.step_seconds / 60.0
        return np.asarray(np.interp(minutes, known_at, np.concatenate([[0.0], by_horizon])))

    def _reason(self, key: JobKey, history: History, chosen: Assessment) -> str:
        if chosen.candidate.model is not None and chosen.skill is not None and chosen.pinball is not None:
            return (
                f"Backtest against the last value at {DEFAULT_HORIZON_MINUTES} minutes: "
                f"error x {chosen.skill:.2f}, P90 loss x {chosen.pinball:.2f}."
            )
        errors = self._library.errors(key)
        if errors:
            return errors[0]
        needed = min((model.min_history_seconds for model in self.settings.models), default=0.0)
        if history.span_seconds < needed:
            return (
                f"{history.span_seconds / 86400:.1f} days of history are known and daily patterns are "
                f"learned from {needed / 86400:.0f} days on."
            )
        if chosen.candidate == correction.LAST_VALUE:
            return "No model has beaten the last value in the backtest so far."
        return f"{chosen.candidate.name} has beaten the last value in the backtest."


def _without_gaps(margins: FloatArray) -> FloatArray:
    """Fill horizons without a margin from their neighbours; all NaN stays so.

    Beyond the last known horizon the margin grows with the square root of time, as a random walk's would.
    """
    known = np.flatnonzero(np.isfinite(margins))
    if not known.size or known.size == margins.size:
        return margins
    place = np.arange(margins.size, dtype=np.float64)
    filled = np.interp(place, known, margins[known])
    last = known[-1]
    filled[last + 1 :] *= np.sqrt((place[last + 1 :] + 1) / (last + 1))
    return np.asarray(filled)
