"""What has to be fitted, and fitting it.

The problem: a forecast must not wait for a fit, and what was said last Tuesday must be repeatable, or a
restart would not know what the process before it knew. The approach: fits belong to *cuts*, fixed times some
hours apart; the curve of a cut has seen the samples before it and speaks from then on. All jobs of a cut are
one task (plain data in, curves out) that any executor may run. A `Library` holds the curves by job and cut,
asks for those that lack, and never fits one twice.

Neighbours: `rounds` plans and uses, `runner` runs the tasks beside the event loop.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field

import numpy as np

from drse_forecaster.curves import Curve
from drse_forecaster.experts import CurveView
from drse_forecaster.models import FitError, Model
from drse_forecaster.series import FloatArray, JobKey

logger = logging.getLogger(__name__)

DEFAULT_REFIT_SECONDS = 12 * 3600

#: Least distance of cuts that lie behind.
PAST_CUT_SECONDS = 6 * 3600

#: Of a longer history the newest part is learned from, and all of it is looked back upon. What lies before
#: would have faded to a quarter of its weight.
LEARNED_SECONDS = 4 * 86400


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One job's load on the coarse grid: unix times and GPU-equivalents, both shape (n,), gaps as NaN."""

    times: FloatArray
    values: FloatArray
    step_seconds: int

    @property
    def span_seconds(self) -> float:
        return float(self.times[-1] - self.times[0]) if self.times.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class FitTask:
    """The fits of one cut: everything they need, and where the results belong."""

    model: Model
    cut: float  #: unix seconds; samples before it are in `values`
    keys: tuple[JobKey, ...]
    times: FloatArray  #: (n,)
    values: FloatArray  #: (jobs, n), gaps and what lies before a job's beginning as NaN

    def run(self) -> FitOutcome:
        """Fit, blocking. Never raises: what cannot be fitted, or a defect in a model, is an outcome."""
        began = time.perf_counter()
        try:
            curves = tuple(self.model.fit_many(self.times, self.values))
        except Exception as error:
            logger.exception("fit failed", extra={"model": self.model.name})
            curves = tuple(FitError(f"{self.model.name} failed: {error}") for _ in self.keys)
        return FitOutcome(self, curves, time.perf_counter() - began)


@dataclass(frozen=True, slots=True, eq=False)
class FitOutcome:
    """What came of a task: a curve or why there is none, by job."""

    task: FitTask
    curves: tuple[Curve | FitError, ...]
    seconds: float  #: how long it took

    @property
    def errors(self) -> tuple[tuple[JobKey, FitError], ...]:
        pairs = zip(self.task.keys, self.curves, strict=True)
        return tuple((key, one) for key, one in pairs if isinstance(one, FitError))


@dataclass(slots=True)
class Shelf:
    """One job's curves by cut; None where the fit failed."""

    curves: dict[float, Curve | None] = field(default_factory=dict)
    error: str | None = None  #: of the newest attempt

    def before(self, at: float) -> Curve | None:
        """Return the newest curve whose cut lies before `at` (unix seconds)."""
        cuts = [cut for cut, curve in self.curves.items() if cut < at and curve is not None]
        return self.curves[max(cuts)] if cuts else None


class Library:
    """All curves. Not thread-safe: tasks run elsewhere, results are added where it is read."""

    def __init__(self, model: Model | None, refit_seconds: float) -> None:
        self.model = model
        self._refit_seconds = refit_seconds
        self._shelves: dict[JobKey, Shelf] = {}

    def cuts(self, history: History) -> tuple[float, ...]:
        """Return the cuts before which this history is long enough, oldest first.

        However often it is refitted, past cuts are some hours apart: they only serve to learn from.
        """
        if self.model is None or not history.times.size:
            return ()
        last = float(history.times[-1])
        first = max(float(history.times[0]) + self.model.min_history_seconds, last - LEARNED_SECONDS)
        newest = math.floor(last / self._refit_seconds) * self._refit_seconds
        every = max(self._refit_seconds, PAST_CUT_SECONDS)
        past = {every * number for number in range(math.ceil(first / every), math.floor(last / every) + 1)}
        return tuple(sorted(past | {newest})) if newest >= first else tuple(sorted(past))

    def due(self, histories: dict[JobKey, History]) -> list[FitTask]:
        """Return the fits that these jobs lack, newest cut first."""
        lacking: dict[float, list[JobKey]] = {}
        for key, history in histories.items():
            shelf = self._shelves.setdefault(key, Shelf())
            cuts = self.cuts(history)
            for old in [cut for cut in shelf.curves if cuts and cut < cuts[0]]:
                del shelf.curves[old]
            for cut in cuts:
                if cut not in shelf.curves:
                    lacking.setdefault(cut, []).append(key)
        return [self._task(cut, lacking[cut], histories) for cut in sorted(lacking, reverse=True)]

    def _task(self, cut: float, keys: list[JobKey], histories: dict[JobKey, History]) -> FitTask:
        assert self.model is not None
        first = min(float(histories[key].times[0]) for key in keys)
        step = histories[keys[0]].step_seconds
        times = np.arange(first, cut, step)
        values = np.full((len(keys), times.size), np.nan)
        for row, key in enumerate(keys):
            history = histories[key]
            known = history.values[history.times < cut]
            begin = round((float(history.times[0]) - first) / step)
            values[row, begin : begin + known.size] = known
        return FitTask(self.model, cut, tuple(keys), times, values)

    def add(self, outcome: FitOutcome) -> None:
        """Keep results. A failed fit is not tried again before the next cut."""
        for key, curve in zip(outcome.task.keys, outcome.curves, strict=True):
            shelf = self._shelves.setdefault(key, Shelf())
            failed = isinstance(curve, FitError)
            shelf.curves[outcome.task.cut] = None if failed else curve  # type: ignore[assignment]
            if outcome.task.cut >= max(shelf.curves):
                shelf.error = str(curve) if failed else None

    def view(self, keys: list[JobKey], at: float, ahead_seconds: FloatArray) -> CurveView:
        """Return each job's newest curve at unix time `at` and the horizons after it."""
        view = CurveView.none(len(keys), ahead_seconds.size)
        times = at + np.concatenate([[0.0], ahead_seconds])
        for row, key in enumerate(keys):
            shelf = self._shelves.get(key)
            curve = shelf.before(at) if shelf else None
            if curve is not None:
                values = curve.at(times)
                view.here[row], view.there[row] = values[0], values[1:]
        return view

    def shelf(self, key: JobKey) -> Shelf:
        """Return a copy of a job's shelf that later results do not change."""
        shelf = self._shelves.get(key, Shelf())
        return Shelf(dict(shelf.curves), shelf.error)

    def error(self, key: JobKey) -> str | None:
        """Return why the newest fit of this job failed, or None."""
        shelf = self._shelves.get(key)
        return shelf.error if shelf else None

    def forget(self, keys: frozenset[JobKey]) -> None:
        """Drop the results of jobs that are gone."""
        for key in keys:
            self._shelves.pop(key, None)
