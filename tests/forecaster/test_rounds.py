"""Rounds on plain data: what is said about good, bad and missing histories. No network, no clock.

The tests that fit Prophet say so; the others run without models.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drse_forecaster.contract import HORIZONS_MINUTES, ForecastState, JobForecast
from drse_forecaster.learner import LAST_VALUE
from drse_forecaster.learning import FitTask
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.series import FloatArray, JobKey, JobSamples

# Prophet's use of pandas is not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

DAY = 86400.0
NOW = 1_700_000_000.0 // DAY * DAY + 7 * DAY
KEY = JobKey("team", "chat")


def _forecaster(with_models: bool = False) -> Forecaster:
    return Forecaster(ForecasterSettings() if with_models else ForecasterSettings(model=None))


def _minutes(hours: float, end: float = NOW) -> FloatArray:
    return np.arange(end - hours * 3600, end + 1, 60.0)


def _say(values: FloatArray, now: float = NOW, end: float = NOW) -> JobForecast:
    """Return what is said about one job whose values came a minute apart until `end`."""
    forecaster = _forecaster()
    times = end - 60.0 * np.arange(values.size, dtype=np.float64)[::-1]
    forecaster.ingest([JobSamples(KEY, times, values)], now)
    _learn_all(forecaster, now)
    (answer,) = forecaster.answer(now)
    return answer


def _ramp(times: FloatArray) -> FloatArray:
    """Return 2 GPU-equivalents, rising to 9 within ten minutes at 09:00 and falling at 18:00, every day."""
    hour = times % DAY / 3600
    return 2 + 7 * np.clip((hour - 9) * 6, 0, 1) * np.clip((18 - hour) * 6, 0, 1)


def _noisy(times: FloatArray, seed: int = 1) -> FloatArray:
    noise = np.random.default_rng(seed).normal(size=times.size)
    return np.maximum(_ramp(times) * (1 + 0.05 * noise), 0.0)


def _learn_all(forecaster: Forecaster, now: float) -> None:
    while tasks := forecaster.due_work(now):
        forecaster.learn([task.run() for task in tasks])


def _with_week(
    load: FloatArray, times: FloatArray, recent: FloatArray, recent_load: FloatArray
) -> Forecaster:
    forecaster = _forecaster(with_models=True)
    end = float(recent[-1])
    forecaster.ingest([JobSamples(KEY, times, load), JobSamples(KEY, recent, recent_load)], end)
    return forecaster


def test_points_reach_every_promised_minute() -> None:
    answer = _say(np.full(360, 3.0))
    assert answer.state is ForecastState.READY
    assert tuple(point.minutes for point in answer.points) == HORIZONS_MINUTES


def test_steady_load_is_forecast_as_itself() -> None:
    answer = _say(np.full(360, 3.0))
    assert {(point.p50, point.p90) for point in answer.points} == {(3.0, 3.0)}
    assert answer.model == "lastValue"


def test_all_zero_load_is_a_real_zero() -> None:
    answer = _say(np.zeros(360))
    assert answer.state is ForecastState.READY and answer.load == 0.0
    assert all(point.p90 == 0.0 for point in answer.points)


def test_level_shift_is_followed_at_once() -> None:
    answer = _say(np.concatenate([np.full(300, 2.0), np.full(60, 8.0)]))
    point = answer.at(10)
    assert point is not None and point.p50 == pytest.approx(8.0, abs=0.3)


def test_noisy_level_is_forecast_by_its_mean_not_its_last_value() -> None:
    values = np.maximum(10 + 2 * np.random.default_rng(8).normal(size=1440), 0)
    answer = _say(values)
    assert answer.model != LAST_VALUE
    assert answer.skill is not None and answer.skill < 0.9


def test_uncertainty_grows_with_the_horizon_of_a_wandering_load() -> None:
    values = 50 + np.cumsum(np.random.default_rng(9).normal(size=360))
    bounds = [point.p90 - point.p50 for point in _say(values).points]
    assert bounds[0] < bounds[9] < bounds[-1]


@pytest.mark.parametrize(
    ("samples", "state"),
    [
        pytest.param(np.full(1, 3.0), ForecastState.TOO_SHORT, id="one sample"),
        pytest.param(np.full(80, 3.0), ForecastState.TOO_SHORT, id="80 minutes"),
        pytest.param(np.full(101, 3.0), ForecastState.READY, id="100 minutes"),
        pytest.param(np.full(360, np.nan), ForecastState.BROKEN, id="all NaN"),
        pytest.param(np.r_[np.full(300, 3.0), np.full(60, np.inf)], ForecastState.BROKEN, id="now infinite"),
        pytest.param(np.r_[np.full(300, 3.0), np.full(60, -1.0)], ForecastState.BROKEN, id="now negative"),
        pytest.param(
            np.r_[np.full(357, 3.0), np.full(3, np.nan)], ForecastState.READY, id="NaN for 3 minutes"
        ),
    ],
)
def test_state_of_a_history(samples: FloatArray, state: ForecastState) -> None:
    answer = _say(samples)
    assert answer.state is state
    assert bool(answer.points) is (state is ForecastState.READY)
    assert answer.reason.endswith((".", "itself."))


def test_old_news_is_stale_and_says_how_old() -> None:
    answer = _say(np.full(360, 3.0), now=NOW + 600)
    assert answer.state is ForecastState.STALE and not answer.points
    assert "600 s old" in answer.reason
    assert answer.load == 3.0


def test_job_that_never_had_a_usable_sample_becomes_unknown() -> None:
    answer = _say(np.full(120, np.nan), now=NOW + 600)
    assert answer.state is ForecastState.UNKNOWN and answer.as_of is None and answer.load is None


def test_forecast_recovers_when_samples_come_again() -> None:
    forecaster = _forecaster()
    forecaster.ingest([JobSamples(KEY, _minutes(6), np.full(361, 3.0))], NOW)
    assert forecaster.answer(NOW + 1800)[0].state is ForecastState.STALE
    later = NOW + 1800
    forecaster.ingest([JobSamples(KEY, np.array([later]), np.array([4.0]))], later)
    (answer,) = forecaster.answer(later)
    assert answer.state is ForecastState.READY and answer.load == 4.0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 120),
            st.one_of(st.floats(0, 1e9), st.sampled_from([0.0, np.nan, np.inf, -np.inf, -1.0, 1e308])),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 900),
)
def test_any_history_gets_a_finite_and_ordered_answer(
    runs: list[tuple[int, float, bool]], silence: int
) -> None:
    """Runs of equal values, some of them missing, then silence: JSON is valid, bounds are in order."""
    length = sum(minutes for minutes, _, _ in runs)
    values = np.concatenate([np.full(minutes, value) for minutes, value, _ in runs])
    missing = np.concatenate([np.full(minutes, gone) for minutes, _, gone in runs])
    times = NOW - silence - 60.0 * np.arange(length)[::-1]
    times = np.floor(times / 60) * 60
    forecaster = _forecaster()
    forecaster.ingest([JobSamples(KEY, times[~missing], values[~missing])], NOW)
    for answer in forecaster.answer(NOW):
        document = json.loads(answer.model_dump_json(by_alias=True), parse_constant=_refuse)
        assert (document["state"] == "Ready") is bool(document["points"])
        assert all(0 <= point["p50"] <= point["p90"] for point in document["points"])


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_jobs_do_not_touch_each_other() -> None:
    forecaster = _forecaster()
    other = JobKey("team", "other")
    batch = [
        JobSamples(KEY, _minutes(3), np.full(181, 3.0)),
        JobSamples(other, _minutes(3), np.full(181, np.nan)),
    ]
    forecaster.ingest(batch, NOW)
    states = {answer.name: answer.state for answer in forecaster.answer(NOW)}
    assert states == {"chat": ForecastState.READY, "other": ForecastState.BROKEN}


def test_fits_are_asked_for_once_and_again_at_the_next_cut() -> None:
    times = np.arange(NOW - 3.5 * DAY, NOW + 1, 300)
    forecaster = _with_week(_noisy(times), times, _minutes(2), _noisy(_minutes(2)))
    tasks = forecaster.due_work(NOW)
    fits = [task for task in tasks if isinstance(task, FitTask)]
    assert [task.cut - NOW for task in fits] == [0.0, -DAY / 2, -DAY, -1.5 * DAY]
    assert all(task.times[-1] < task.cut for task in fits), "a fit must not see what it will be judged on"
    forecaster.learn([task.run() for task in fits])
    (replay,) = forecaster.due_work(NOW)
    forecaster.learn([replay.run()])
    assert forecaster.due_work(NOW) == []
    later = NOW + DAY / 2 + 60
    forecaster.ingest([JobSamples(KEY, np.arange(NOW, later, 60), np.full(721, 2.0))], later)
    assert [task.cut - NOW for task in forecaster.due_work(later) if isinstance(task, FitTask)] == [DAY / 2]


def test_frequent_refits_do_not_multiply_the_fits_of_a_start() -> None:
    times = np.arange(NOW - 7 * DAY, NOW + 1, 300)
    forecaster = Forecaster(ForecasterSettings(refit_seconds=1200))
    later = NOW + 1200
    forecaster.ingest([JobSamples(KEY, np.append(times, later), np.full(times.size + 1, 2.0))], later)
    cuts = [task.cut - NOW for task in forecaster.due_work(later) if isinstance(task, FitTask)]
    assert cuts[:3] == [1200.0, 0.0, -DAY / 4] and len(cuts) <= 18


def test_short_history_is_not_fitted() -> None:
    times = np.arange(NOW - 1.875 * DAY, NOW + 1, 300)
    forecaster = _with_week(_noisy(times), times, _minutes(2), _noisy(_minutes(2)))
    assert not any(isinstance(task, FitTask) for task in forecaster.due_work(NOW))
    (answer,) = forecaster.answer(NOW)
    assert answer.state is ForecastState.READY and answer.model == LAST_VALUE


def test_daily_ramp_is_seen_ten_minutes_ahead() -> None:
    """Fits Prophet. Seven days end four minutes before the rise: now 2, in ten minutes 6, in fifteen 9."""
    now = NOW - DAY + 9 * 3600 - 240
    times, recent = np.arange(now - 240 - 7 * DAY, now + 1, 60.0), _minutes(6, now)
    load = _noisy(times)
    coarse = times % 300 == 0
    forecaster = _with_week(load[coarse], times[coarse], recent, load[-recent.size :])
    before = forecaster.answer(now)[0]
    assert before.model == LAST_VALUE and (before.highest_p90(10) or 0) < 4
    _learn_all(forecaster, now)
    answer = forecaster.answer(now)[0]
    assert answer.model != LAST_VALUE
    assert answer.load is not None and answer.load < 2.5
    assert answer.skill is not None and answer.skill < 0.9
    assert (answer.highest_p90(10) or 0) > 5
    at_thirty = answer.at(30)
    assert at_thirty is not None and at_thirty.p50 == pytest.approx(9, abs=1)


def test_random_walk_costs_nothing() -> None:
    times = np.arange(NOW - 4 * DAY, NOW + 1, 300.0)
    walk = 30 + np.cumsum(np.random.default_rng(21).normal(size=times.size)) * 0.2
    walk = np.abs(walk)
    forecaster = _with_week(walk, times, times[-1:], walk[-1:])
    _learn_all(forecaster, NOW)
    answer = forecaster.answer(NOW)[0]
    assert answer.skill is not None and answer.skill < 1.02, (
        "nothing can be won here, and nothing may be lost"
    )
