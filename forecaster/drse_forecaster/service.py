"""The HTTP side: what is published, as JSON, within a millisecond or so.

    GET /v1/forecasts                        every job, one document
    GET /v1/forecasts/{namespace}/{name}     one job, or 404 with a sentence
    GET /openapi.json                        this, for machines
    GET /healthz                             200 while the loop moves, else 503
    GET /readyz                              200 once a first round has been made, even a failed one
    GET /metrics                             Prometheus text format

Nothing is computed here but age: should the loop ever stand still, what it published turns Stale by itself,
so nobody is handed a forecast that is marked Ready and is not. JSON never carries NaN: the models refuse
it. Forecasts carry an ETag and answer `If-None-Match` with 304, so a reader may ask as often as it likes.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from drse_forecaster.contract import ForecastList, ForecastState, JobForecast, Problem
from drse_forecaster.openapi import describe
from drse_forecaster.runner import Runner


def build_app(runner: Runner) -> Starlette:
    """Return the ASGI application that serves what `runner` publishes."""
    endpoints = _Endpoints(runner)
    return Starlette(
        routes=[
            Route("/v1/forecasts", endpoints.forecasts),
            Route("/v1/forecasts/{namespace}/{name}", endpoints.forecast),
            Route("/openapi.json", endpoints.openapi),
            Route("/healthz", endpoints.healthz),
            Route("/readyz", endpoints.readyz),
            Route("/metrics", endpoints.metrics),
        ]
    )


def age_out(forecast: JobForecast, now: datetime, limit_seconds: float) -> JobForecast:
    """Return the forecast, or its Stale form when it is Ready and its newest sample is older than the
    limit."""
    if not forecast.ready or forecast.as_of is None:
        return forecast
    age = (now - forecast.as_of).total_seconds()
    if age <= limit_seconds:
        return forecast
    reason = (
        f"The newest sample is {age:.0f} s old and {limit_seconds:.0f} s are allowed; "
        "the forecaster is late, see its /healthz."
    )
    return forecast.model_copy(update={"state": ForecastState.STALE, "reason": reason, "points": ()})


class _Endpoints:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def forecasts(self, request: Request) -> Response:
        current = self._current()
        if current is None:
            return _problem(503, "No round has been made yet; ask again in a few seconds.")
        return _tagged(request, current)

    async def forecast(self, request: Request) -> Response:
        current = self._current()
        if current is None:
            return _problem(503, "No round has been made yet; ask again in a few seconds.")
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        found = current.find(namespace, name)
        if found is None:
            return _problem(
                404, f"No load of DeepSeekJob {namespace}/{name} was seen; check its name and that it runs."
            )
        return _tagged(request, found)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(describe())

    async def healthz(self, request: Request) -> Response:
        if self._runner.late:
            return _problem(503, "The forecasting loop stands still; the process must be restarted.")
        return _problem(200, "ok")

    async def readyz(self, request: Request) -> Response:
        published = self._runner.published
        if published is None:
            return _problem(503, "No round has been made yet.")
        return _problem(200, published.problem or "ok")

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._runner.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _current(self) -> ForecastList | None:
        """Return what is published, with what has grown too old since then marked so."""
        published = self._runner.published
        if published is None:
            return None
        now = datetime.fromtimestamp(self._runner.clock(), UTC)
        limit = self._runner.forecaster.settings.stale_after_seconds
        forecasts = tuple(age_out(one, now, limit) for one in published.forecasts.forecasts)
        return published.forecasts.model_copy(update={"forecasts": forecasts})


def _tagged(request: Request, document: ForecastList | JobForecast) -> Response:
    """Answer with the document and its ETag, or with 304 to whoever has it (RFC 9110, section 13.1.2)."""
    body = document.model_dump_json(by_alias=True)
    tag = f'"{hashlib.blake2b(body.encode(), digest_size=12).hexdigest()}"'
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type="application/json")


def _json(status: int, document: ForecastList | JobForecast | Problem) -> Response:
    return Response(document.model_dump_json(by_alias=True), status, media_type="application/json")


def _problem(status: int, message: str) -> Response:
    return _json(status, Problem(message=message))
