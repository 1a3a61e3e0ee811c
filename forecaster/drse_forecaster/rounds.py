"""One round: from the stored histories and what was learned to what is said about every job.

The problem: the answer must be the same whether it is computed in service, in a test or in a replay of last
week. The approach: a `Forecaster` that holds the store, the curves and the learners, takes time and samples
as arguments, and touches no network, thread or clock. A round is: `ingest` samples, `answer` with what is
known, hand out `due_work` (fits, then replays of newcomers), `learn` the outcomes, answer again. A job whose
replay is still to come is forecast as its last value with the conformal margin of its history.

Neighbours: `runner` drives it, `source` feeds it, `learning`, `book`, `learner` do the parts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from drse_forecaster import intervals
from drse_forecaster.book import Book, ReplayOutcome, ReplayTask
from drse_forecaster.contract import (
    DEFAULT_HORIZON_MINUTES,
    HORIZONS_MINUTES,
    ForecastPoint,
    ForecastState,
    JobForecast,
)
from drse_forecaster.experts import Grid
from drse_forecaster.learner import LAST_VALUE
from drse_forecaster.learning import DEFAULT_REFIT_SECONDS, FitOutcome, FitTask, History, Library
from drse_forecaster.models import Model, ProphetModel
from drse_forecaster.series import FloatArray, JobKey, JobSamples, JobSeries, SeriesShape, SeriesStore

#: Below this a P90 at half an hour would rest on fewer errors than a P90 needs.
MIN_HISTORY_SECONDS = 5400

#: Horizons that are learned, in minutes; those between are interpolated.
LEARNED_MINUTES = (5, 10, 20, 30)

#: A skill or coverage measured on fewer outcomes is an anecdote.
MIN_JUDGED = 36

Task = FitTask | ReplayTask
Outcome = FitOutcome | ReplayOutcome


def grid_of(step_seconds: int) -> Grid:
    """Return the grid on which `LEARNED_MINUTES` are whole steps, or the next whole step."""
    steps = {math.ceil(minutes * 60 / step_seconds) for minutes in LEARNED_MINUTES}
    return Grid(step_seconds, tuple(sorted(steps)))


def judged_place(grid: Grid) -> int:
    """Return the place among the grid's horizons of the one that skill and coverage are measured at."""
    return grid.horizons.index(math.ceil(DEFAULT_HORIZON_MINUTES * 60 / grid.step_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterSettings:
    """Times in seconds."""

    shape: SeriesShape = field(default_factory=SeriesShape)
    model: Model | None = field(default_factory=ProphetModel)
    refit_seconds: float = DEFAULT_REFIT_SECONDS
    stale_after_seconds: float = 300.0

    @property
    def grid(self) -> Grid:
        return grid_of(self.shape.step_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Spoken:
    """What is said about one job: by horizon of the grid, with its measured accuracy."""

    model: str
    p50: FloatArray  #: (H,)
    p90: FloatArray  #: (H,)
    skill: float | None
    pinball: float | None
    coverage: float | None


class Forecaster:
    """All knowledge about all jobs. Not thread-safe: one call at a time; `run` of tasks may run anywhere."""

    def __init__(self, settings: ForecasterSettings) -> None:
        self.settings = settings
        self.store = SeriesStore(settings.shape)
        self._library = Library(settings.model, settings.refit_seconds)
        self._book = Book(settings.grid)

    def ingest(self, batch: Iterable[JobSamples], now: float) -> frozenset[JobKey]:
        """Take in samples and drop jobs long silent. Returns the jobs not known before. `now`: unix
        seconds."""
        new = self.store.ingest(batch)
        gone = self.store.forget(now)
        self._library.forget(gone)
        self._book.forget(gone)
        return new

    def due_work(self, now: float) -> list[Task]:
        """Return what should be fitted or, when nothing is, whose history should be replayed.

        Jobs without fresh samples, and those too young to be forecast, wait.
        """
        histories: dict[JobKey, History] = {}
        for key, series in self.store.items():
            if now - series.newest <= self.settings.stale_after_seconds:
                history = self._history(series)
                if history.span_seconds >= MIN_HISTORY_SECONDS:
                    histories[key] = history
        fits: list[Task] = [*self._library.due(histories)]
        if fits:
            return fits
        return [*self._book.newcomers(list(histories), self.store, self._library, now)]

    def learn(self, outcomes: Iterable[Outcome]) -> None:
        """Keep what tasks found, for jobs that are still known."""
        for outcome in outcomes:
            if isinstance(outcome, FitOutcome):
                self._library.add(outcome)
                self._library.forget(frozenset(key for key in outcome.task.keys if key not in self.store))
            else:
                self._book.admit(outcome, self.store, self._library)

    def answer(self, now: float) -> tuple[JobForecast, ...]:
        """Return the forecast of every known job, by namespace and name. `now`: unix seconds."""
        self._book.catch_up(self.store, self._library, now)
        refused: dict[JobKey, tuple[ForecastState, str] | None] = {}
        histories = {key: self._history(series) for key, series in self.store.items()}
        for key, series in self.store.items():
            refused[key] = self._refusal(series, histories[key], now)
        spoken = self._speak([key for key, refusal in refused.items() if refusal is None], histories)
        return tuple(
            self._document(key, series, histories[key], refused[key], spoken.get(key))
            for key, series in self.store.items()
        )

    def _history(self, series: JobSeries) -> History:
        times, values = series.coarse.window()
        return History(times, values, self.settings.shape.step_seconds)

    def _speak(self, keys: list[JobKey], histories: dict[JobKey, History]) -> dict[JobKey, _Spoken]:
        spoken: dict[JobKey, _Spoken] = {}
        learned: defaultdict[float, list[JobKey]] = defaultdict(list)
        for key in keys:
            series = self.store.get(key)
            assert series is not None
            if key in self._book:
                learned[series.newest].append(key)
            else:
                spoken[key] = self._unlearned(series, histories[key])
        for at, group in learned.items():
            spoken |= self._learned(group, at)
        return spoken

    def _unlearned(self, series: JobSeries, history: History) -> _Spoken:
        """Return the last value with the margins of its own past errors."""
        margins = intervals.last_value_margins(history.values, self.settings.grid.horizons)
        p50 = np.full(margins.size, series.newest_value)
        return _Spoken(LAST_VALUE, p50, p50 + margins, None, None, None)

    def _learned(self, keys: list[JobKey], at: float) -> dict[JobKey, _Spoken]:
        grid = self.settings.grid
        place = judged_place(grid)
        windows = np.stack([self._series(key).window(grid.window) for key in keys])
        answer = self._book.say(keys, at, windows, self._library)
        assert answer is not None  # there are keys, and all are in the book
        said, learner = answer
        record = learner.record
        speakers = learner.speaker(place)
        found: dict[JobKey, _Spoken] = {}
        for row, key in enumerate(keys):
            enough = record.count[row, place] >= MIN_JUDGED
            found[key] = _Spoken(
                model=speakers[row],
                p50=said.p50[row],
                p90=said.p90[row],
                skill=_ratio(record.error, record.last_value_error, row, place) if enough else None,
                pinball=_ratio(record.pinball, record.last_value_pinball, row, place) if enough else None,
                coverage=_ratio(record.covered, record.count, row, place) if enough else None,
            )
        return found

    def _series(self, key: JobKey) -> JobSeries:
        series = self.store.get(key)
        assert series is not None
        return series

    def _document(
        self,
        key: JobKey,
        series: JobSeries,
        history: History,
        refusal: tuple[ForecastState, str] | None,
        spoken: _Spoken | None,
    ) -> JobForecast:
        common = {
            "namespace": key.namespace,
            "name": key.name,
            "as_of": datetime.fromtimestamp(series.newest, UTC) if math.isfinite(series.newest) else None,
            "load": series.newest_value if math.isfinite(series.newest_value) else None,
            "samples": int(np.isfinite(history.values).sum()),
            "history_seconds": history.span_seconds,
        }
        if refusal is not None or spoken is None:
            state, reason = refusal or (ForecastState.UNKNOWN, "Nothing was said about this job.")
            return JobForecast.model_validate({**common, "state": state, "reason": reason})
        points = self._points(series, spoken)
        if points is None:
            reason = f"The forecast of {spoken.model} is not finite; it is learned anew when samples are."
            return JobForecast.model_validate({**common, "state": ForecastState.BROKEN, "reason": reason})
        return JobForecast.model_validate(
            {
                **common,
                "state": ForecastState.READY,
                "reason": self._reason(key, history, spoken),
                "points": points,
                "model": spoken.model,
                "skill": spoken.skill,
                "coverage": spoken.coverage,
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

    def _points(self, series: JobSeries, spoken: _Spoken) -> tuple[ForecastPoint, ...] | None:
        """Return the points from the newest sample on, or None when a number is not finite."""
        known_at = np.array([0, *self.settings.grid.horizons]) * self.settings.shape.step_seconds / 60.0
        minutes = np.array(HORIZONS_MINUTES, dtype=np.float64)
        p50 = np.interp(minutes, known_at, np.concatenate([[series.newest_value], spoken.p50]))
        margin = np.interp(minutes, known_at, np.concatenate([[0.0], spoken.p90 - spoken.p50]))
        p90 = p50 + margin
        if not np.isfinite(p90).all():
            return None
        return tuple(
            ForecastPoint(minutes=int(at), p50=float(low), p90=float(high))
            for at, low, high in zip(HORIZONS_MINUTES, p50, p90, strict=True)
        )

    def _reason(self, key: JobKey, history: History, spoken: _Spoken) -> str:
        if spoken.model != LAST_VALUE and spoken.skill is not None and spoken.pinball is not None:
            return (
                f"Lately, {DEFAULT_HORIZON_MINUTES} minutes ahead, against the last value: "
                f"error x {spoken.skill:.2f}, P90 loss x {spoken.pinball:.2f}."
            )
        error = self._library.error(key)
        if error:
            return error
        if key not in self._book:
            return "Its history is being learned from; until then this is the last value."
        needed = self.settings.model.min_history_seconds if self.settings.model else 0.0
        if history.span_seconds < needed:
            return (
                f"{history.span_seconds / 86400:.1f} days of history are known and daily patterns are "
                f"learned from {needed / 86400:.0f} days on."
            )
        if spoken.model == LAST_VALUE:
            return "Nothing has beaten the last value so far."
        return "The blend has beaten the last value so far."


def _ratio(above: FloatArray, below: FloatArray, row: int, place: int) -> float | None:
    reference = float(below[row, place])
    return float(above[row, place]) / reference if reference > 0 else None
