"""The grids: what goes in comes out at its time, and nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_forecaster.series import JobKey, JobSamples, JobSeries, Ring, SeriesShape, SeriesStore

START = 1_700_000_100.0 // 300 * 300
KEY = JobKey("team", "chat")


def _samples(values: list[float], step: int = 60, key: JobKey = KEY, start: float = START) -> JobSamples:
    return JobSamples(
        key, start + step * np.arange(len(values), dtype=np.float64), np.array(values, dtype=np.float64)
    )


@given(st.lists(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 9)), max_size=8), max_size=8))
def test_ring_holds_the_newest_value_of_the_last_cells(batches: list[list[tuple[int, float]]]) -> None:
    ring, size, expected = Ring(60, 20), 20, dict[int, float]()
    newest = -1
    for batch in batches:
        ring.put(
            np.array([60.0 * cell for cell, _ in batch]),
            np.array([value for _, value in batch], dtype=np.float64),
        )
        newest = max([newest, *(cell for cell, _ in batch)])
        for cell, value in batch:
            if cell > newest - size:
                expected[cell] = value
    expected = {cell: value for cell, value in expected.items() if cell > newest - size}
    times, values = ring.window()
    known = np.isfinite(values)
    assert (
        dict(zip((times[known] / 60).astype(int).tolist(), values[known].tolist(), strict=True)) == expected
    )
    assert not times.size or (np.diff(times) == 60).all()
    assert not times.size or (known[0] and known[-1])


def test_gap_is_nan_and_keeps_its_length() -> None:
    ring = Ring(60, 10)
    ring.put(np.array([0.0, 60.0, 240.0]), np.array([1.0, 2.0, 5.0]))
    times, values = ring.window()
    assert times.tolist() == [0, 60, 120, 180, 240]
    assert np.array_equal(values, [1.0, 2.0, np.nan, np.nan, 5.0], equal_nan=True)


def test_samples_between_grid_times_are_left_out_of_the_coarse_grid() -> None:
    series = JobSeries(SeriesShape())
    one = _samples([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    series.ingest(one.times, one.values)
    assert series.coarse.window()[1].tolist() == [1.0, 6.0]
    assert series.fine.window()[1].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_window_is_in_phase_with_the_newest_minute() -> None:
    series = JobSeries(SeriesShape())
    one = _samples([float(minute) for minute in range(13)])
    series.ingest(one.times, one.values)
    assert series.window(3).tolist() == [2.0, 7.0, 12.0]
    assert np.isnan(series.window(18)[:2]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.5, 1e308])
def test_unusable_value_is_seen_but_not_kept(bad: float) -> None:
    series = JobSeries(SeriesShape())
    one = _samples([1.0, bad])
    series.ingest(one.times, one.values)
    assert series.newest_value == 1.0 and series.newest == START
    assert series.seen == START + 60


def test_store_reports_new_jobs_once() -> None:
    store = SeriesStore(SeriesShape())
    other = JobKey("team", "other")
    assert store.ingest([_samples([1.0]), _samples([1.0], key=other)]) == {KEY, other}
    assert store.ingest([_samples([2.0], start=START + 60)]) == frozenset()


def test_job_is_forgotten_after_being_silent_longer_than_it_spoke() -> None:
    store = SeriesStore(SeriesShape())
    short, long = JobKey("team", "short"), JobKey("team", "long")
    store.ingest([_samples([1.0] * 10, key=short), _samples([1.0] * 600, step=300, key=long)])
    end_of_long = START + 599 * 300
    assert store.forget(START + 3600) == frozenset()
    assert store.forget(end_of_long) == {short}
    assert store.forget(end_of_long + 599 * 300) == frozenset()
    assert store.forget(end_of_long + 599 * 300 + 1) == {long}


@pytest.mark.parametrize(("history", "step"), [(3600, 300), (604800, 90), (604800, 0)])
def test_shape_refuses_what_cannot_work(history: int, step: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        SeriesShape(history_seconds=history, step_seconds=step)
