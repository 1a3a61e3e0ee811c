"""The learners of all jobs, kept abreast of the grid.

The problem: jobs come and go, their learners must have heard every grid time exactly once and in order, and a
job that is new here may have a week of history. The approach: one learner holds all jobs as rows and is told
the next grid time once it has settled (late scrapes are in). A newcomer's history is replayed by a task of
its own, outside the loop; then it catches up and joins.

Neighbours: `learner` learns, `rounds` calls this each round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drse_forecaster.curves import Curve
from drse_forecaster.experts import CurveView, Grid
from drse_forecaster.learner import Learner, Said, replay
from drse_forecaster.learning import LEARNED_SECONDS, Library, Shelf
from drse_forecaster.perseries import join, take
from drse_forecaster.series import FloatArray, JobKey, SeriesStore

#: A grid time is learned from once this much time has passed: by then its scrape has been read.
SETTLE_SECONDS = 90.0

#: More would not be cheaper each, and the first would wait longer.
_REPLAYED_AT_ONCE = 128


@dataclass(frozen=True, slots=True, eq=False)
class ReplayTask:
    """The histories of newcomers and the curves that were fitted during them."""

    grid: Grid
    keys: tuple[JobKey, ...]
    first: int  #: grid index of the first column
    values: FloatArray  #: (jobs, n)
    shelves: tuple[Shelf, ...]

    def run(self) -> ReplayOutcome:
        """Replay, blocking: about a millisecond a grid time, little more for a hundred jobs."""
        began = time.perf_counter()
        learner = Learner.start(len(self.keys), self.grid)
        curves = ShelfCurves(self.grid, self.shelves)
        skipped = max(self.values.shape[1] - LEARNED_SECONDS // self.grid.step_seconds, 0)
        replay(self.grid, learner, self.first, self.values, curves, from_step=skipped)
        end = self.first + self.values.shape[1] - 1
        return ReplayOutcome(self.keys, learner, end, time.perf_counter() - began)


@dataclass(frozen=True, slots=True, eq=False)
class ReplayOutcome:
    """Learners that have heard everything up to grid index `end`."""

    keys: tuple[JobKey, ...]
    learner: Learner
    end: int
    seconds: float


class ShelfCurves:
    """The curve of each series that had been fitted before a grid time, for `learner.replay`.

    Curves are evaluated a day at a time.
    """

    def __init__(self, grid: Grid, shelves: Sequence[Shelf]) -> None:
        self._grid = grid
        self._shelves = shelves
        self._ahead = np.array(grid.horizons)
        self._read = [_Stretch(None, 0, np.empty(0)) for _ in shelves]

    def __call__(self, index: int) -> CurveView:
        grid = self._grid
        view = CurveView.none(len(self._shelves), self._ahead.size)
        for row, shelf in enumerate(self._shelves):
            curve = shelf.before(float(index * grid.step_seconds)) if shelf.curves else None
            if curve is None:
                continue
            read = self._read[row]
            place = index - read.first
            if curve is not read.curve or place >= grid.day:
                times = (index + np.arange(grid.day + grid.horizons[-1] + 1.0)) * grid.step_seconds
                read = self._read[row] = _Stretch(curve, index, curve.at(times))
                place = 0
            view.here[row], view.there[row] = read.values[place], read.values[place + self._ahead]
        return view


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """A curve's values on the grid from index `first` on."""

    curve: Curve | None
    first: int
    values: FloatArray


class Book:
    """Learners by job. Not thread-safe; `ReplayTask.run` may run anywhere."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.keys: list[JobKey] = []  #: by row of the learner
        self._rows: dict[JobKey, int] = {}
        self._learner: Learner | None = None
        self._index: int | None = None
        self._ahead = np.array(grid.horizons, dtype=np.float64) * grid.step_seconds

    def __contains__(self, key: JobKey) -> bool:
        return key in self._rows

    def _seat(self, keys: list[JobKey]) -> None:
        self.keys = keys
        self._rows = {key: row for row, key in enumerate(keys)}

    def settled(self, now: float) -> int:
        """Return the newest grid index that may be learned from at `now` (unix seconds)."""
        return int((now - SETTLE_SECONDS) // self.grid.step_seconds)

    def catch_up(self, store: SeriesStore, library: Library, now: float) -> None:
        """Tell the learners of every grid time that has settled since the last call."""
        if self._learner is not None and self._index is not None:
            self._index = self._advance(self._learner, self.keys, self._index, now, store, library)

    def newcomers(
        self, keys: list[JobKey], store: SeriesStore, library: Library, now: float
    ) -> list[ReplayTask]:
        """Return the tasks that replay the histories of those among `keys` that are not in the book."""
        new = [key for key in keys if key not in self]
        batches = [new[first : first + _REPLAYED_AT_ONCE] for first in range(0, len(new), _REPLAYED_AT_ONCE)]
        return [self._replay_task(batch, store, library, now) for batch in batches]

    def _replay_task(self, new: list[JobKey], store: SeriesStore, library: Library, now: float) -> ReplayTask:
        end = self.settled(now)
        first = end - self.grid.window + 1
        values = np.stack([self._values(store, key, end) for key in new])
        heard = np.flatnonzero(np.isfinite(values).any(axis=0))
        if heard.size:
            first, values = first + int(heard[0]), values[:, heard[0] :]
        shelves = tuple(library.shelf(key) for key in new)
        return ReplayTask(self.grid, tuple(new), first, values, shelves)

    def admit(self, outcome: ReplayOutcome, store: SeriesStore, library: Library) -> None:
        """Let in newcomers whose history has been replayed; those gone meanwhile are left out."""
        rows = np.array([row for row, key in enumerate(outcome.keys) if key in store], dtype=np.intp)
        if not rows.size:
            return
        keys = [outcome.keys[row] for row in rows]
        learner = take(outcome.learner, rows)
        if self._learner is None or self._index is None:
            self._seat(keys)
            self._learner, self._index = learner, outcome.end
            return
        for index in range(outcome.end + 1, self._index + 1):
            self._tell(learner, keys, index, store, library)
        for index in range(self._index + 1, outcome.end + 1):
            self._tell(self._learner, self.keys, index, store, library)
        self._index = max(self._index, outcome.end)
        self._learner = join([self._learner, learner])
        self._seat([*self.keys, *keys])

    def forget(self, keys: frozenset[JobKey]) -> None:
        """Drop jobs that are gone."""
        stay = [row for row, key in enumerate(self.keys) if key not in keys]
        if len(stay) == len(self.keys):
            return
        self._seat([self.keys[row] for row in stay])
        if self._learner is not None:
            self._learner = take(self._learner, np.array(stay, dtype=np.intp)) if stay else None
        if not stay:
            self._index = None

    def say(
        self, keys: list[JobKey], at: float, windows: FloatArray, library: Library
    ) -> tuple[Said, Learner] | None:
        """Return what is forecast from `at` (unix seconds) for these jobs, and the learner of just them.

        `windows`: shape (jobs, grid.window), a step apart, ending at `at`, gaps filled. None for no jobs.
        """
        if self._learner is None or not keys:
            return None
        learner = take(self._learner, np.array([self._rows[key] for key in keys], dtype=np.intp))
        return learner.say(self.grid, windows, at, library.view(keys, at, self._ahead)), learner

    def _advance(
        self,
        learner: Learner,
        keys: list[JobKey],
        index: int,
        now: float,
        store: SeriesStore,
        library: Library,
    ) -> int:
        end = self.settled(now)
        for next_index in range(index + 1, end + 1):
            self._tell(learner, keys, next_index, store, library)
        return max(index, end)

    def _tell(
        self, learner: Learner, keys: list[JobKey], index: int, store: SeriesStore, library: Library
    ) -> None:
        raw = np.stack([self._values(store, key, index) for key in keys])
        windows = fill_gaps(raw)
        windows[:, -1] = np.where(np.isfinite(windows[:, -1]), windows[:, -1], 0.0)
        at = float(index * self.grid.step_seconds)
        learner.step(self.grid, index, raw[:, -1], windows, library.view(keys, at, self._ahead))

    def _values(self, store: SeriesStore, key: JobKey, end: int) -> FloatArray:
        series = store.get(key)
        assert series is not None  # the store forgets together with the book
        return series.coarse.until(end, self.grid.window)


def fill_gaps(rows: FloatArray) -> FloatArray:
    """Return (S, n) rows with each NaN replaced by the value before it, if there is one."""
    known = np.isfinite(rows)
    newest = np.maximum.accumulate(np.where(known, np.arange(rows.shape[1]), 0), axis=1)
    return np.asarray(np.take_along_axis(rows, newest, axis=1))
