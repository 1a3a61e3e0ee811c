"""The forecaster's answers, polled in the background and turned into signals for the scaling policy.

The operator never waits for the forecaster: a job's last answer is used until it is too old, and then the
job is frozen and says so. Where several replicas share the jobs, the last answer of one that is gone for a
moment stands as well (``outside.forecaster`` asks them all).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from drse_forecaster.contract import ForecastState, JobForecast
from drse_operator.api.enums import ScalingPolicy
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.outside.forecaster import Forecaster, rank
from drse_operator.scaling.policy import Point, Signal, aged

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one replica said about a job; ``at`` by the monotonic clock."""

    forecast: JobForecast
    replica: str
    at: float


class Forecasts:
    """Polls ``forecaster`` each ``period`` seconds; answers older than ``max_age`` seconds no longer count.

    ``round`` grows with each poll, answered or not, so that decisions are made once a poll.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        changed: Callable[[], None],
        period: float = 15.0,
        max_age: float = 120.0,
    ) -> None:
        self.round = 0
        self._forecaster = forecaster
        self._changed = changed
        self._period = period
        self._max_age = max_age
        self._by_job: dict[JobKey, _Heard] = {}
        self._troubles: tuple[str, ...] = ("the forecaster has not answered yet",)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            self.round += 1
            self._changed()
            await asyncio.sleep(self._period)

    async def poll(self) -> None:
        """Ask every replica once, and drop what has grown too old."""
        answer = await self._forecaster.ask()
        self._troubles = answer.troubles
        for trouble in self._troubles:
            log.warning("forecaster: %s", trouble)
        now = time.monotonic()
        for reply in answer.replies:
            for forecast in () if reply.said is None else reply.said.forecasts:
                self._hear(_Heard(forecast, reply.replica, now))
        self._by_job = {key: one for key, one in self._by_job.items() if now - one.at <= self._max_age}

    def _hear(self, heard: _Heard) -> None:
        """Keep an answer, unless another replica has given a better one that still counts."""
        key = JobKey(heard.forecast.namespace, heard.forecast.name)
        known = self._by_job.get(key)
        others = known is not None and known.replica != heard.replica
        if known is None or not others or rank(heard.forecast) > rank(known.forecast):
            self._by_job[key] = heard

    def load(self, key: JobKey) -> float | None:
        """A job's load in GPU-equivalents, as of the last answer that is not too old."""
        forecast = self._forecast(key)
        return None if forecast is None or forecast.state is ForecastState.STALE else forecast.load

    def signal(self, key: JobKey, policy: ScalingPolicy) -> Signal:
        """What is known of a job's load now."""
        forecast = self._forecast(key)
        if forecast is not None:
            return to_signal(forecast, policy, time.time())
        if self._troubles:
            message = "; ".join(self._troubles)
            return Signal(None, frozen=ScalingReason.FORECASTER_UNREACHABLE, frozen_message=message)
        message = "no load of this job has been seen in Prometheus yet"
        return Signal(None, frozen=ScalingReason.LOAD_UNKNOWN, frozen_message=message)

    def _forecast(self, key: JobKey) -> JobForecast | None:
        heard = self._by_job.get(key)
        fresh = heard is not None and time.monotonic() - heard.at <= self._max_age
        return heard.forecast if heard is not None and fresh else None


def to_signal(forecast: JobForecast, policy: ScalingPolicy, now: float) -> Signal:
    """A forecast as the policy reads it at ``now`` (seconds since the epoch). A job too young to be forecast
    is scaled on its load alone."""
    fresh = forecast.state in (ForecastState.READY, ForecastState.TOO_SHORT)
    if fresh and forecast.load is not None:
        points = tuple(Point(p.minutes, p.p50, p.p90) for p in forecast.points)
        age = 0.0 if forecast.as_of is None else max(now - forecast.as_of.timestamp(), 0.0)
        return Signal(forecast.load, aged(points, age / 60))
    if forecast.state is ForecastState.STALE:
        reason = ScalingReason.LOAD_STALE
    elif policy is ScalingPolicy.FORECAST and forecast.load is not None:
        reason = ScalingReason.FORECAST_UNAVAILABLE
    else:
        reason = ScalingReason.LOAD_UNKNOWN
    return Signal(forecast.load, frozen=reason, frozen_message=forecast.reason)
