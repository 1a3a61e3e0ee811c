"""The forecaster's answers, polled in the background and turned into signals for the scaling policy.

The operator never waits for the forecaster: a job's last answer is used until it is too old, and then the job
is frozen and says so. The forecaster may be several replicas that share the jobs (``--shard``): its name then
resolves to several addresses, as a headless Service's does, and each is asked. While their number changes, a
job may be answered for twice, or by nobody for a moment: the better answer counts, and the last one stands.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from drse_forecaster.contract import ForecastList, ForecastState, JobForecast
from drse_operator.api.enums import ScalingPolicy
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.scaling.policy import Point, Signal, aged

log = logging.getLogger(__name__)

_TIMEOUT = 5.0
_PATH = "/v1/forecasts"

#: From host and port to the addresses behind them; raises OSError.
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """All addresses of a host in the family that it is reached by first, in order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # Where each replica has an address of both families, it must not be asked twice.
    return tuple(sorted({str(address[0]) for family, *_, address in found if family == found[0][0]}))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one replica said about a job; ``at`` by the monotonic clock."""

    forecast: JobForecast
    replica: str
    at: float

    @property
    def rank(self) -> tuple[float, bool, int]:
        as_of = self.forecast.as_of
        return (as_of.timestamp() if as_of else 0.0, self.forecast.ready, self.forecast.samples)


class Forecasts:
    """Polls every replica behind ``url`` each ``period`` seconds; an answer older than ``max_age`` seconds no
    longer counts.

    ``round`` grows with each poll, answered or not, so that decisions are made once a poll.
    """

    def __init__(
        self,
        url: str,
        changed: Callable[[], None],
        period: float = 15.0,
        max_age: float = 120.0,
        resolve: Resolve = resolve,
    ) -> None:
        self.round = 0
        self._url = httpx.URL(url.rstrip("/"))
        self._changed = changed
        self._period = period
        self._max_age = max_age
        self._resolve = resolve
        self._by_job: dict[JobKey, _Heard] = {}
        self._troubles: tuple[str, ...] = ("the forecaster has not answered yet",)

    async def run(self) -> None:
        """Poll until cancelled."""
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
            while True:
                await self.poll(client)
                self.round += 1
                self._changed()
                await asyncio.sleep(self._period)

    async def poll(self, client: httpx.AsyncClient) -> None:
        """Ask every replica once, and drop what has grown too old."""
        try:
            replicas = await self._replicas()
        except OSError as error:
            self._troubles = (f"the forecaster's name {self._url.host} does not resolve ({error.strerror})",)
            log.warning("forecaster: %s", error)
            return
        troubles = await asyncio.gather(*(self._ask(client, replica) for replica in replicas))
        self._troubles = tuple(trouble for trouble in troubles if trouble)
        now = time.monotonic()
        self._by_job = {key: one for key, one in self._by_job.items() if now - one.at <= self._max_age}

    async def _replicas(self) -> tuple[httpx.URL, ...]:
        """The address of each replica. Over TLS the name itself: certificates speak of names."""
        if self._url.scheme != "http":
            return (self._url,)
        addresses = await self._resolve(self._url.host, self._url.port or 80)
        return tuple(self._url.copy_with(host=address) for address in addresses)

    async def _ask(self, client: httpx.AsyncClient, replica: httpx.URL) -> str:
        """Ask one replica; returns what is wrong with it, or nothing."""
        headers = {"Host": self._url.netloc.decode()}
        try:
            response = await client.get(f"{replica}{_PATH}", headers=headers)
            response.raise_for_status()
            answer = ForecastList.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError) as error:
            log.warning("forecaster: %s", error)
            return f"the forecaster at {replica}{_PATH} gives no usable answer ({type(error).__name__})"
        now = time.monotonic()
        for forecast in answer.forecasts:
            self._hear(_Heard(forecast, str(replica), now))
        return ""

    def _hear(self, heard: _Heard) -> None:
        """Keep an answer, unless another replica has given a better one that still counts."""
        key = JobKey(heard.forecast.namespace, heard.forecast.name)
        known = self._by_job.get(key)
        others = known is not None and known.replica != heard.replica
        if known is None or not others or heard.rank > known.rank:
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
