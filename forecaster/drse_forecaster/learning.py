"""What has to be fitted, and fitting it.

The problem: a fit costs a fraction of a second, a forecast must not wait for it, and the backtest needs
curves that did not see the judged days. The approach: fits are tasks (plain data in, `Learned` out) that
any executor may run, and a `Library` holds the results by job, model and fold. What is missing or old is
asked for again; until it arrives the forecast is made from what there is. A fold's result never changes, so
it is fitted once.

Neighbours: `rounds` plans and uses, `service` runs the tasks beside the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drse_forecaster import backtest, correction
from drse_forecaster.backtest import History, Learned
from drse_forecaster.models import FitError, Model
from drse_forecaster.series import JobKey


@dataclass(frozen=True, slots=True, eq=False)
class FitTask:
    """One fit: everything it needs, and where the result belongs."""

    key: JobKey
    model: Model
    cut: float | None  #: start of the judged day that this is for; None for the fit that forecasts
    history: History
    horizons: tuple[int, ...]

    def run(self) -> FitOutcome:
        """Fit, blocking. Never raises for a history that cannot be fitted: that is an outcome."""
        began = time.perf_counter()
        try:
            curve = self.model.fit(self.history.times, self.history.values)
        except FitError as error:
            return FitOutcome(self, None, str(error), time.perf_counter() - began)
        pulls = correction.learn_pulls(self.history.values, curve.at(self.history.times), self.horizons)
        return FitOutcome(self, Learned(curve, pulls), None, time.perf_counter() - began)


@dataclass(frozen=True, slots=True, eq=False)
class FitOutcome:
    """What came of a task: either `learned` or the `error` sentence."""

    task: FitTask
    learned: Learned | None
    error: str | None
    seconds: float  #: how long it took


@dataclass(slots=True)
class _Shelf:
    """One job's results of one model."""

    current: Learned | None = None
    fitted_until: float = 0.0  #: newest sample that the last attempt at `current` saw, unix seconds
    error: str | None = None
    folds: dict[float, Learned | None] = field(default_factory=dict)  #: None where the fit failed


class Library:
    """All results. Not thread-safe: tasks run elsewhere, results are added where it is read."""

    def __init__(self, models: tuple[Model, ...], horizons: tuple[int, ...], refit_seconds: float) -> None:
        self.models = models
        self._horizons = horizons
        self._refit_seconds = refit_seconds
        self._shelves: dict[tuple[JobKey, str], _Shelf] = {}

    def due(self, key: JobKey, history: History) -> list[FitTask]:
        """Return the fits that this job lacks or whose newest result is older than the refit interval."""
        return [task for model in self.models for task in self._due_for(key, model, history)]

    def _due_for(self, key: JobKey, model: Model, history: History) -> Iterable[FitTask]:
        if history.span_seconds < model.min_history_seconds:
            return
        shelf = self._shelves.setdefault((key, model.name), _Shelf())
        cuts = backtest.fold_cuts(history, model.min_history_seconds)
        for old in set(shelf.folds).difference(cuts):
            del shelf.folds[old]
        if float(history.times[-1]) - shelf.fitted_until >= self._refit_seconds:
            yield FitTask(key, model, None, history, self._horizons)
        for cut in cuts:
            if cut not in shelf.folds:
                yield FitTask(key, model, cut, history.before(cut), self._horizons)

    def add(self, outcome: FitOutcome) -> None:
        """Keep a result. A failed refit keeps the older curve: it is judged like any other."""
        task = outcome.task
        shelf = self._shelves.setdefault((task.key, task.model.name), _Shelf())
        if task.cut is not None:
            shelf.folds[task.cut] = outcome.learned
            return
        shelf.fitted_until = float(task.history.times[-1])
        shelf.error = outcome.error
        if outcome.learned is not None:
            shelf.current = outcome.learned

    def current(self, key: JobKey, model: str) -> Learned | None:
        """Return what forecasts now, or None."""
        shelf = self._shelves.get((key, model))
        return shelf.current if shelf else None

    def folds(self, key: JobKey) -> Mapping[str, Mapping[float, Learned]]:
        """Return the folds of every model that can also forecast now: who may not speak is not judged."""
        found = {}
        for model in self.models:
            shelf = self._shelves.get((key, model.name))
            if shelf and shelf.current is not None:
                found[model.name] = {cut: one for cut, one in shelf.folds.items() if one is not None}
        return found

    def errors(self, key: JobKey) -> tuple[str, ...]:
        """Return why models of this job could not be fitted the last time."""
        shelves = (self._shelves.get((key, model.name)) for model in self.models)
        return tuple(shelf.error for shelf in shelves if shelf and shelf.error)

    def forget(self, keys: frozenset[JobKey]) -> None:
        """Drop the results of jobs that are gone."""
        for place in [place for place in self._shelves if place[0] in keys]:
            del self._shelves[place]
