"""A recorded load with a steep rise every morning, forecast from the week before it.

The series (ServeGen, pool m_small, client 31) rises from 2 to 9 GPU-equivalents within 20 minutes at 08:00.
Which UTC hour that falls on decides where the cuts of the fits lie, so two are tried.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from drse_forecaster.learner import LAST_VALUE
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.series import FloatArray, JobKey, JobSamples
from drse_local.series import RecordedSeries, read_series, series_path

# Prophet's use of pandas is not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

RISE = datetime(2025, 1, 13, 7, 55, tzinfo=UTC).timestamp()
GPU_EQUIVALENTS = 1 / 1300
CAPACITY = 4.0


@pytest.fixture(scope="module")
def recorded() -> RecordedSeries:
    return read_series(series_path("servegen_m_small_clients_10min.csv.gz", Path()), "client_31")


@pytest.mark.parametrize("hours", [0, 11])
def test_rise_is_seen_before_the_load_asks_for_it(recorded: RecordedSeries, hours: int) -> None:
    shift = hours * 3600.0
    now = RISE - 240 + shift

    def load(times: FloatArray) -> FloatArray:
        return recorded.at(times - shift) * GPU_EQUIVALENTS

    week = np.arange(np.ceil((now - 7 * 86400) / 300) * 300, now + 1, 300.0)
    recent = np.arange(now - 6 * 3600, now + 1, 60.0)
    forecaster = Forecaster(ForecasterSettings())
    key = JobKey("team", "chat")
    forecaster.ingest([JobSamples(key, times, load(times)) for times in (week, recent)], now)
    while tasks := forecaster.due_work(now):
        forecaster.learn([task.run() for task in tasks])
    (answer,) = forecaster.answer(now)

    highest, point = answer.highest_p90(10), answer.at(10)
    assert answer.model != LAST_VALUE and answer.skill is not None and answer.skill < 1
    assert answer.load is not None and answer.load < 0.55 * CAPACITY
    assert highest is not None and highest > 1.1 * CAPACITY
    coming = float(load(np.array([now + 600]))[0])
    assert point is not None and point.p50 == pytest.approx(coming, rel=0.15)
    assert point.p90 > coming
