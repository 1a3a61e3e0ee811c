"""The load of a job as Prometheus has measured it, and what the forecaster expects of it.

The load is asked for with the very expression that the forecaster asks with, so both speak of the same number
in the same unit (GPU-equivalents); the answer is Prometheus' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from drse_forecaster.contract import JobForecast
from drse_forecaster.queries import JOB_LABEL, NAMESPACE_LABEL, build_load_query
from drse_operator.api.keys import JobKey

STEP_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LoadSample:
    """at: seconds since the epoch; load: GPU-equivalents."""

    at: float
    load: float


Loads = tuple[LoadSample, ...]


class LoadReader:
    """Asks Prometheus and the forecaster; `async with` closes its connections.

    prometheus, forecaster: base URLs.
    """

    def __init__(self, prometheus: str, forecaster: str) -> None:
        self._prometheus = prometheus
        self._forecaster = forecaster
        self._query = build_load_query()
        # Proxies of the environment are not asked: everything is on loopback.
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def between(self, job: JobKey, start: float, end: float) -> Loads | None:
        """Load every five seconds; instants before the first sample are left out. None: no answer now."""
        grid = start - start % STEP_SECONDS
        parameters = {"start": grid, "end": end, "step": STEP_SECONDS}
        for series in await self._ask("query_range", parameters) or ():
            if _is_about(series, job):
                return tuple(LoadSample(float(at), float(value)) for at, value in series["values"])
        return None

    async def at(self, job: JobKey, when: float) -> float | None:
        """Load at an instant; None when Prometheus knows none."""
        for series in await self._ask("query", {"time": when}) or ():
            if _is_about(series, job):
                return float(series["value"][1])
        return None

    async def forecast(self, job: JobKey) -> JobForecast | None:
        """What the forecaster says now; None while it does not answer or does not know the job."""
        try:
            url = f"{self._forecaster}/v1/forecasts/{job.namespace}/{job.name}"
            answer = await self._http.get(url)
            return JobForecast.model_validate_json(answer.content) if answer.is_success else None
        except (httpx.HTTPError, ValidationError):
            return None

    async def _ask(self, what: str, parameters: dict[str, float]) -> list[dict[str, Any]] | None:
        try:
            answer = await self._http.get(
                f"{self._prometheus}/api/v1/{what}", params={"query": self._query, **parameters}
            )
            answer.raise_for_status()
            result: list[dict[str, Any]] = answer.json()["data"]["result"]
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return result


def _is_about(series: dict[str, Any], job: JobKey) -> bool:
    labels = series["metric"]
    return (labels.get(NAMESPACE_LABEL), labels.get(JOB_LABEL)) == (job.namespace, job.name)


def crossed_at(loads: Loads, threshold: float, since: float) -> float | None:
    """When the measured load rose above a threshold for good: the first of two samples in a row that exceed
    it, at or after `since`. One sample alone may be a scrape that met a hand-over of GPUs half-way."""
    later = [sample for sample in loads if sample.at >= since]
    for first, second in pairwise(later):
        if first.load > threshold and second.load > threshold:
            return first.at
    return None


def expected_crossing(forecast: JobForecast, threshold: float) -> float | None:
    """When the median forecast rises above a threshold, seconds since the epoch; None: not in its horizon."""
    if not forecast.ready or forecast.as_of is None or forecast.load is None:
        return None
    path = [(0.0, forecast.load), *((float(p.minutes), p.p50) for p in forecast.points)]
    for (before, low), (after, high) in pairwise(path):
        if low <= threshold < high:
            minutes = before + (after - before) * (threshold - low) / (high - low)
            return forecast.as_of.timestamp() + 60 * minutes
    return None
