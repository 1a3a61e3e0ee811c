"""The load history of every job, on regular grids.

The problem: samples come a minute at a time, sometimes late, twice or not at all, while models want evenly
spaced arrays. The approach: two rings a job. The coarse one spans the history that models learn from (7
days at 5 minutes), the fine one the last hours at a minute, so that a forecast can start from the newest
minute. A missing sample is NaN in the arrays and stays in this process. Both rings hold samples *at* their
grid times, not means over a cell: a backfilled and a live sample then mean the same.

Neighbours: `source` delivers `JobSamples`; `rounds` reads the arrays. Nothing here knows models or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FINE_STEP_SECONDS = 60

#: A job with a larger load, in GPU-equivalents, is a broken metric.
MAX_LOAD = 1e6

#: Even a job that ran for a minute stays visible this long after its last sample.
MIN_RETENTION_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, order=True)
class JobKey:
    """Names one DeepSeekJob."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class JobSamples:
    """Samples of one job as they came from the source, by rising time, not yet judged."""

    key: JobKey
    times: FloatArray  #: unix seconds, shape (n,)
    values: FloatArray  #: load in GPU-equivalents, shape (n,); may hold NaN, infinite or negative values


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """The grids that every job of one forecaster shares."""

    history_seconds: int = 7 * 86400
    step_seconds: int = 300
    recent_seconds: int = 6 * 3600

    def __post_init__(self) -> None:
        if self.step_seconds % FINE_STEP_SECONDS or self.step_seconds <= 0:
            raise ValueError(f"The step is {self.step_seconds} s, but must be a whole number of minutes.")
        if self.history_seconds < 3 * 3600:
            raise ValueError(f"The history is {self.history_seconds} s, but must be 3 hours or more.")


class Ring:
    """The newest `size` samples on a grid of `step_seconds`; times that hold no sample are NaN."""

    def __init__(self, step_seconds: int, size: int) -> None:
        self.step_seconds = step_seconds
        self._values: FloatArray = np.full(size, np.nan)
        self._end: int | None = None  # grid index of the newest cell, counted from the epoch

    def put(self, times: FloatArray, values: FloatArray) -> None:
        """Store samples whose times lie on the grid; others, and those older than the ring, are left out."""
        index = np.rint(times / self.step_seconds).astype(np.int64)
        on_grid = np.abs(times - index * self.step_seconds) < 1.0
        index, values = index[on_grid], values[on_grid]
        if not index.size:
            return
        self._advance(int(index.max()))
        assert self._end is not None
        position = self._values.size - 1 - (self._end - index)
        inside = position >= 0
        self._values[position[inside]] = values[inside]

    def _advance(self, end: int) -> None:
        ahead = 0 if self._end is None else end - self._end
        if self._end is None:
            self._end = end
        elif ahead > 0:
            kept = max(self._values.size - ahead, 0)
            self._values[:kept] = self._values[self._values.size - kept :]
            self._values[kept:] = np.nan
            self._end = end

    def window(self) -> tuple[FloatArray, FloatArray]:
        """Return (times in unix seconds, values), from the first known sample to the newest, gaps as NaN.

        Both are copies of equal length; empty when nothing is known.
        """
        known = np.flatnonzero(np.isfinite(self._values))
        if self._end is None or not known.size:
            return np.empty(0), np.empty(0)
        values = self._values[known[0] : known[-1] + 1].copy()
        newest = self._end - (self._values.size - 1 - int(known[-1]))
        times = np.arange(newest - values.size + 1, newest + 1, dtype=np.float64) * self.step_seconds
        return times, values

    def until(self, index: int, count: int) -> FloatArray:
        """Return `count` values up to grid index `index` (time / step), oldest first, NaN where unknown."""
        found = np.full(count, np.nan)
        if self._end is not None:
            size = self._values.size
            last = size - 1 - (self._end - index)  # place of `index` in the ring; may lie outside
            first = last - count + 1
            low, high = max(first, 0), min(last + 1, size)
            if low < high:
                found[low - first : high - first] = self._values[low:high]
        return found

    def back_from(self, time: float, step_seconds: int, count: int) -> FloatArray:
        """Return the values at `time`, `time - step`, ..., oldest first, shape (count,), NaN where
        unknown."""
        found = np.full(count, np.nan)
        if self._end is not None:
            offsets = np.arange(count)[::-1] * (step_seconds // self.step_seconds)
            position = self._values.size - 1 - (self._end - (round(time / self.step_seconds) - offsets))
            inside = (position >= 0) & (position < self._values.size)
            found[inside] = self._values[position[inside]]
        return found


@dataclass(slots=True)
class JobSeries:
    """One job's history. Invariant: the rings hold finite loads of zero or more, or NaN."""

    shape: SeriesShape
    coarse: Ring = field(init=False)
    fine: Ring = field(init=False)
    seen: float = -math.inf  #: time of the newest sample of any kind, usable or not
    newest: float = -math.inf  #: time of the newest usable sample
    newest_value: float = math.nan

    def __post_init__(self) -> None:
        self.coarse = Ring(self.shape.step_seconds, self.shape.history_seconds // self.shape.step_seconds)
        self.fine = Ring(FINE_STEP_SECONDS, self.shape.recent_seconds // FINE_STEP_SECONDS)

    def ingest(self, times: FloatArray, values: FloatArray) -> None:
        """Take in samples in any order. What is not finite, below zero or absurd is seen but not kept."""
        if not times.size:
            return
        self.seen = max(self.seen, float(times.max()))
        usable = np.isfinite(values) & (values >= 0) & (values <= MAX_LOAD)
        times, values = times[usable], values[usable]
        if not times.size:
            return
        self.coarse.put(times, values)
        self.fine.put(times, values)
        last = int(times.argmax())
        if times[last] >= self.newest:
            self.newest, self.newest_value = float(times[last]), float(values[last])

    def window(self, count: int) -> FloatArray:
        """Return `count` values a coarse step apart, ending at the newest sample, gaps filled, oldest first.

        They are in phase with the newest minute, so that a forecast made between two coarse grid times starts
        from numbers of just the kind that were learned from: the minutes of the last hours as they are, older
        values between their neighbours on the grid. NaN before the series begins.
        """
        step = self.shape.step_seconds
        index = int(self.newest // step)
        share = (self.newest - index * step) / step
        coarse = _filled(self.coarse.until(index, count))
        after = np.append(coarse[1:], self.newest_value)
        values = coarse + share * (after - coarse)
        fine = self.fine.back_from(self.newest, step, min(count, self.shape.recent_seconds // step))
        known = np.isfinite(fine)
        values[-fine.size :][known] = fine[known]
        values[-1] = self.newest_value
        return values


def _filled(values: FloatArray) -> FloatArray:
    known = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(values.size), 0))
    return np.asarray(values[newest])


class SeriesStore:
    """All jobs' histories. Not thread-safe: one round at a time writes it."""

    def __init__(self, shape: SeriesShape) -> None:
        self.shape = shape
        self._series: dict[JobKey, JobSeries] = {}

    def __len__(self) -> int:
        return len(self._series)

    def __contains__(self, key: JobKey) -> bool:
        return key in self._series

    def __iter__(self) -> Iterator[JobKey]:
        return iter(sorted(self._series))

    def get(self, key: JobKey) -> JobSeries | None:
        return self._series.get(key)

    def items(self) -> list[tuple[JobKey, JobSeries]]:
        """Return every (job, history), by job."""
        return sorted(self._series.items(), key=lambda item: item[0])

    def ingest(self, batch: Iterable[JobSamples]) -> frozenset[JobKey]:
        """Take in samples; return the jobs that were not known before."""
        new = set()
        for samples in batch:
            if samples.key not in self._series:
                self._series[samples.key] = JobSeries(self.shape)
                new.add(samples.key)
            self._series[samples.key].ingest(samples.times, samples.values)
        return frozenset(new)

    def forget(self, now: float) -> frozenset[JobKey]:
        """Drop and return jobs that have been silent for longer than they ever spoke.

        A service with a week of history is kept a week, so that it is known again after a pause; a batch job
        of ten minutes goes after an hour. `now` in unix seconds.
        """
        gone = frozenset(key for key, one in self._series.items() if now - one.seen > self._retention(one))
        for key in gone:
            del self._series[key]
        return gone

    def _retention(self, series: JobSeries) -> float:
        times, _ = series.coarse.window()
        spoken = float(times[-1] - times[0]) if times.size else 0.0
        return min(max(spoken, MIN_RETENTION_SECONDS), float(self.shape.history_seconds))
