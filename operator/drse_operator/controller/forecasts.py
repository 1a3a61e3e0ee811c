"""The forecaster's answers, polled in the background and turned into signals for the scaling policy.

The operator never waits for the forecaster: the last answer is used until it is too old, and then every
job that scales on it is frozen and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from drse_forecaster.contract import ForecastList, ForecastState, JobForecast
from drse_operator.api.enums import ScalingPolicy
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.scaling.policy import Point, Signal

log = logging.getLogger(__name__)

_TIMEOUT = 5.0


class Forecasts:
    """Polls ``url`` every ``period`` seconds; an answer older than ``max_age`` seconds no longer counts.

    ``round`` grows with each poll, answered or not, so that decisions are made once a poll.
    """

    def __init__(
        self, url: str, changed: Callable[[], None], period: float = 15.0, max_age: float = 120.0
    ) -> None:
        self.round = 0
        self._url = url.rstrip("/") + "/v1/forecasts"
        self._changed = changed
        self._period = period
        self._max_age = max_age
        self._by_job: dict[JobKey, JobForecast] = {}
        self._answered: float | None = None
        self._trouble = "the forecaster has not answered yet"

    async def run(self) -> None:
        """Poll until cancelled."""
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
            while True:
                await self._poll(client)
                self.round += 1
                self._changed()
                await asyncio.sleep(self._period)

    async def _poll(self, client: httpx.AsyncClient) -> None:
        try:
            response = await client.get(self._url)
            response.raise_for_status()
            answer = ForecastList.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError) as error:
            self._trouble = f"the forecaster at {self._url} gives no usable answer ({type(error).__name__})"
            log.warning("forecaster: %s", error)
            return
        self._answered = time.monotonic()
        self._by_job = {JobKey(f.namespace, f.name): f for f in answer.forecasts}

    def signal(self, key: JobKey, policy: ScalingPolicy) -> Signal:
        """What is known of a job's load now."""
        if self._answered is None or time.monotonic() - self._answered > self._max_age:
            return Signal(None, frozen=ScalingReason.FORECASTER_UNREACHABLE, frozen_message=self._trouble)
        forecast = self._by_job.get(key)
        if forecast is None:
            message = "no load of this job has been seen in Prometheus yet"
            return Signal(None, frozen=ScalingReason.LOAD_UNKNOWN, frozen_message=message)
        return to_signal(forecast, policy)


def to_signal(forecast: JobForecast, policy: ScalingPolicy) -> Signal:
    """A forecast as the policy reads it. A job too young to be forecast is scaled on its load alone."""
    points = tuple(Point(p.minutes, p.p50, p.p90) for p in forecast.points)
    fresh = forecast.state in (ForecastState.READY, ForecastState.TOO_SHORT)
    if fresh and forecast.load is not None:
        return Signal(forecast.load, points)
    if forecast.state is ForecastState.STALE:
        reason = ScalingReason.LOAD_STALE
    elif policy is ScalingPolicy.FORECAST and forecast.load is not None:
        reason = ScalingReason.FORECAST_UNAVAILABLE
    else:
        reason = ScalingReason.LOAD_UNKNOWN
    return Signal(forecast.load, frozen=reason, frozen_message=forecast.reason)
