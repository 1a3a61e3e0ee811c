"""The loop around the rounds: failures, recoveries, fits. The source here is scripted;
test_source_prometheus.py and test_process.py have a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from drse_forecaster.contract import ForecastState
from drse_forecaster.curves import Curve
from drse_forecaster.models import FitError
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.runner import Runner
from drse_forecaster.series import FloatArray, JobKey, JobSamples
from drse_forecaster.sharding import Shard
from drse_forecaster.source import SourceError, SourceErrorKind

DAY = 86400.0
START = 1_700_000_000.0 // DAY * DAY


@dataclass
class ScriptedSource:
    """Answers from a constant load, or fails while `down`; remembers what it was asked."""

    days: float = 3.0
    down: bool = False
    jobs: tuple[JobKey, ...] = (JobKey("team", "chat"),)
    histories: int = 0
    recents: list[tuple[float, float]] = field(default_factory=list)

    async def history(self, end: float) -> list[JobSamples]:
        self._fail_if_down()
        self.histories += 1
        return self._samples(np.arange(np.ceil((end - self.days * DAY) / 300) * 300, end + 1, 300.0))

    async def recent(self, start: float, end: float) -> list[JobSamples]:
        self._fail_if_down()
        self.recents.append((start, end))
        return self._samples(np.arange(np.ceil(start / 60) * 60, end + 1, 60.0))

    def _samples(self, times: FloatArray) -> list[JobSamples]:
        return [JobSamples(key, times, np.full(times.size, 4.0)) for key in self.jobs]

    def _fail_if_down(self) -> None:
        if self.down:
            raise SourceError(SourceErrorKind.UNREACHABLE, "Nobody is there.")


@dataclass(frozen=True)
class StubbornModel:
    """A model that cannot be fitted, by refusal or by a defect."""

    error: Exception
    name: str = "stubborn"
    min_history_seconds: float = DAY

    def fit_many(self, times: FloatArray, values: FloatArray) -> list[Curve | FitError]:
        if isinstance(self.error, FitError):
            return [self.error] * values.shape[0]
        raise self.error


@dataclass(frozen=True)
class FlatModel:
    name: str = "flat"
    min_history_seconds: float = DAY

    def fit_many(self, times: FloatArray, values: FloatArray) -> list[Curve | FitError]:
        return [ZeroCurve()] * values.shape[0]


class ZeroCurve:
    def at(self, times: FloatArray) -> FloatArray:
        return np.zeros_like(times)


@dataclass
class Clock:
    now: float = START + 12 * 3600 + 7

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def executor() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def _runner(
    source: ScriptedSource,
    clock: Clock,
    executor: ThreadPoolExecutor,
    model: StubbornModel | FlatModel | None = None,
) -> Runner:
    forecaster = Forecaster(ForecasterSettings(model=model))
    return Runner(forecaster=forecaster, source=source, fit_executor=executor, clock=clock)


def _state(runner: Runner) -> ForecastState:
    assert runner.published is not None
    return runner.published.forecasts.forecasts[0].state


def _metric(runner: Runner, name: str, **labels: str) -> float | None:
    return runner.metrics.registry.get_sample_value(name, labels)


async def test_history_is_read_once_and_minutes_after_that(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor)
    for _ in range(3):
        await runner.round()
        clock.now += 60
    assert source.histories == 1
    assert [end - start for start, end in source.recents] == [6 * 3600, 180, 180]
    assert _state(runner) is ForecastState.READY


async def test_outage_turns_forecasts_stale_then_recovers(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor)
    await runner.round()
    source.down = True
    clock.now += 200
    await runner.round()
    assert _state(runner) is ForecastState.READY, "three minutes old may still be used"
    assert runner.published is not None and runner.published.problem == "Nobody is there."
    clock.now += 200
    await runner.round()
    assert _state(runner) is ForecastState.STALE
    assert _metric(runner, "drse_forecast_source_errors_total", reason="Unreachable") == 2
    source.down = False
    await runner.round()
    assert _state(runner) is ForecastState.READY and runner.published.problem is None
    assert source.histories == 1, "a short outage is caught up by minutes"


async def test_long_outage_reads_the_history_again(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor)
    await runner.round()
    clock.now += 7 * 3600
    await runner.round()
    assert source.histories == 2


async def test_prometheus_down_from_the_start_is_published_as_such(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(down=True), Clock()
    runner = _runner(source, clock, executor)
    await runner.round()
    assert runner.published is not None
    assert runner.published.forecasts.forecasts == () and runner.published.problem == "Nobody is there."
    source.down = False
    await runner.round()
    assert _state(runner) is ForecastState.READY and source.histories == 1


async def test_failures_are_retried_soon_and_then_slower(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(down=True), Clock()
    runner = _runner(source, clock, executor)
    pauses = []
    for _ in range(9):
        await runner.round()
        pauses.append(runner.pause())
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    source.down = False
    await runner.round()
    assert (clock.now + runner.pause()) % 60 == pytest.approx(2.0), "just after the next minute"


async def test_job_that_comes_back_gets_its_history_within_the_hour(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor)
    await runner.round()
    source.jobs = (*source.jobs, JobKey("team", "resumed"))
    clock.now += 60
    await runner.round()
    assert source.histories == 1
    clock.now += 3600
    await runner.round()
    assert source.histories == 2
    clock.now += 3600
    await runner.round()
    assert source.histories == 2, "nothing new came"


@pytest.mark.parametrize(
    "error", [FitError("no shape in it"), ZeroDivisionError("a defect")], ids=["refusal", "defect"]
)
async def test_fit_that_fails_leaves_the_last_value_speaking(
    executor: ThreadPoolExecutor, error: Exception
) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor, StubbornModel(error))
    await runner.round()
    await runner.fits_done()
    assert _state(runner) is ForecastState.READY
    assert runner.published is not None and str(error) in runner.published.forecasts.forecasts[0].reason
    failed = _metric(runner, "drse_forecast_fit_errors_total", model="stubborn")
    assert failed is not None and failed >= 1
    clock.now += 60
    await runner.round()
    await runner.fits_done()
    assert _metric(runner, "drse_forecast_fit_errors_total", model="stubborn") == failed, (
        "not tried every minute"
    )


async def test_served_forecasts_are_scored_when_their_time_has_come(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor, FlatModel())
    for _ in range(13):
        await runner.round()
        await runner.fits_done()
        clock.now += 60
    labels = {"deepseekjob": "chat", "deepseekjob_namespace": "team"}
    assert _metric(runner, "drse_forecast_scored_total", **labels) == 3
    assert _metric(runner, "drse_forecast_covered_total", **labels) == 3
    assert _metric(runner, "drse_forecast_abs_error", **labels) == 0
    assert _metric(runner, "drse_forecast_relative_scored_total", **labels) == 3
    assert _metric(runner, "drse_forecast_relative_error_sum_total", **labels) == 0
    assert _metric(runner, "drse_forecast_load", **labels, quantile="0.9", horizon="10m") == 4.0
    assert _metric(runner, "drse_forecast_series", state="Ready") == 1


async def test_replicas_share_the_jobs(executor: ThreadPoolExecutor) -> None:
    jobs = tuple(JobKey("team", f"job-{number}") for number in range(12))
    served: list[str] = []
    for index in range(3):
        runner = _runner(ScriptedSource(jobs=jobs), Clock(), executor)
        runner.shard = Shard(index, 3)
        await runner.round()
        assert runner.published is not None
        served += [forecast.name for forecast in runner.published.forecasts.forecasts]
    assert sorted(served) == sorted(key.name for key in jobs)


async def test_loop_that_stands_still_is_late(executor: ThreadPoolExecutor) -> None:
    source, clock = ScriptedSource(), Clock()
    runner = _runner(source, clock, executor)
    await runner.round()
    assert not runner.late
    clock.now += 301
    assert runner.late
