"""Loads as they come: what each kind of ugliness does to a forecast, on recorded and constructed data.

Behaviour that is promised, one test each: gaps, outages that read zero, restarts, level shifts, bursts,
day-old jobs, nights of zeros, saturation. No models here: these hold with and without a curve.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drse_forecaster.contract import ForecastState, JobForecast
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.series import FloatArray, JobKey, JobSamples
from drse_local.series import read_series, series_path

NOW = 20_006 * 86400.0
KEY = JobKey("team", "chat")


def _recorded(days: float) -> FloatArray:
    """Return minutes of a recorded chat service in GPU-equivalents (ServeGen m_small, client 31)."""
    recorded = read_series(series_path("servegen_m_small_clients_10min.csv.gz", Path()), "client_31")
    first = recorded.times[0] + 3600.0
    return recorded.at(first + 60.0 * np.arange(days * 1440)) / 1300.0


def _say(values: FloatArray, now: float = NOW) -> JobForecast:
    forecaster = Forecaster(ForecasterSettings(model=None))
    times = NOW - 60.0 * np.arange(values.size)[::-1]
    forecaster.ingest([JobSamples(KEY, times, values)], now)
    while tasks := forecaster.due_work(now):
        forecaster.learn([task.run() for task in tasks])
    (answer,) = forecaster.answer(now)
    return answer


def _margin(answer: JobForecast) -> float:
    point = answer.at(10)
    assert answer.state is ForecastState.READY and point is not None
    return point.p90 - point.p50


def test_gaps_are_neither_zero_nor_news() -> None:
    values = _recorded(2)
    holed = values.copy()
    for start in (700, 1300, 2000, 2500):
        holed[start : start + 40] = np.nan
    whole, other = _say(values).at(10), _say(holed).at(10)
    assert whole is not None and other is not None
    assert other.p50 == pytest.approx(whole.p50, rel=0.1) and other.p90 == pytest.approx(whole.p90, rel=0.2)


def test_outage_that_reads_zero_is_over_when_it_is_over() -> None:
    """An exporter that reads zero for half an hour: the forecast is back with the load, and its bound too."""
    values = _recorded(2)
    broken = values.copy()
    broken[-90:-60] = 0.0
    whole, other = _say(values).at(10), _say(broken).at(10)
    assert whole is not None and other is not None
    assert other.p50 == pytest.approx(whole.p50, rel=0.25)
    assert whole.p90 * 0.9 < other.p90 < whole.p90 * 2


def test_during_such_an_outage_the_load_that_may_return_is_remembered_by_the_operator_not_here() -> None:
    values = _recorded(2)
    values[-3:] = 0.0
    answer = _say(values)
    assert answer.load == 0.0 and answer.state is ForecastState.READY, "what is measured is what is said"


def test_restart_of_a_counter_that_shows_as_nonsense_is_not_learned() -> None:
    values = _recorded(2)
    broken = values.copy()
    broken[500:505], broken[1500:1503] = -1e4, 1e9
    assert _say(broken).at(10) == _say(np.where(broken == values, values, np.nan)).at(10)


def test_level_shift_is_followed_within_minutes() -> None:
    noise = 1 + 0.03 * np.random.default_rng(1).normal(size=2025)
    values = np.r_[np.full(2000, 3.0), np.full(25, 9.0)] * noise
    point = _say(values).at(10)
    assert point is not None and point.p50 == pytest.approx(9.0, rel=0.1)


def test_bursts_widen_the_bound_and_leave_the_median() -> None:
    random = np.random.default_rng(2)
    calm = 4 + 0.1 * random.normal(size=2880)
    bursts = calm + np.where(random.random(2880) < 0.15, 6.0, 0.0)
    bursts[-10:] = calm[-10:]
    quiet, loud = _say(calm), _say(bursts)
    point = loud.at(10)
    assert point is not None and point.p50 == pytest.approx(4.0, abs=0.5)
    assert _margin(loud) > 3 * _margin(quiet)


def test_day_old_job_is_forecast_from_its_two_hours() -> None:
    answer = _say(_recorded(2)[-120:])
    assert answer.state is ForecastState.READY
    assert (answer.skill is None and "days of history" in answer.reason) or answer.reason
    assert _margin(answer) > 0


def test_nights_of_zeros_stay_zero_and_mornings_are_not_forgotten() -> None:
    minutes = np.arange(4 * 1440)
    day = 5.0 + 0.3 * np.random.default_rng(3).normal(size=minutes.size)
    values = np.where(minutes % 1440 < 600, 0.0, day)
    midnight = _say(values[: 3 * 1440 + 300])
    assert (midnight.at(10) or pytest.fail("no point")).p50 == pytest.approx(0.0, abs=1e-6)
    before_morning = _say(values[: 3 * 1440 + 595])
    assert before_morning.highest_p90(10) is not None and (before_morning.highest_p90(10) or 0) > 3.5


def test_saturated_load_is_not_mistaken_for_calm() -> None:
    """Utilisation stops at what is held: the bound never falls below the load that fills it."""
    values = np.minimum(_recorded(2), 4.0)
    values[-120:] = 4.0
    answer = _say(values)
    point = answer.at(10)
    assert point is not None and point.p90 >= 4.0
