"""The HTTP answers, over the ASGI application itself. The runner's source is scripted by the published
state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from drse_forecaster.contract import ForecastList, JobForecast
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.runner import Published, Runner
from drse_forecaster.series import JobKey, JobSamples
from drse_forecaster.service import build_app

NOW = 1_700_000_040.0


class NeverRead:
    """These tests publish by hand."""

    async def history(self, end: float) -> list[JobSamples]:
        raise AssertionError

    async def recent(self, start: float, end: float) -> list[JobSamples]:
        raise AssertionError


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(clock: Clock) -> Runner:
    forecaster = Forecaster(ForecasterSettings(model=None))
    return Runner(forecaster=forecaster, source=NeverRead(), fit_executor=ThreadPoolExecutor(1), clock=clock)


@pytest.fixture
async def client(runner: Runner) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=build_app(runner))
    async with httpx.AsyncClient(transport=transport, base_url="http://forecaster") as client:
        yield client


def _publish(runner: Runner, problem: str | None = None) -> None:
    times = NOW - 60.0 * np.arange(300, dtype=np.float64)[::-1]
    load = np.maximum(5 + np.random.default_rng(0).normal(size=300), 0)
    runner.forecaster.ingest([JobSamples(JobKey("team", "chat"), times, load)], NOW)
    answers = runner.forecaster.answer(NOW)
    runner.published = Published(
        ForecastList(generated_at=datetime.fromtimestamp(NOW, UTC), forecasts=answers), problem
    )


async def test_bulk_answer_is_the_contract(runner: Runner, client: httpx.AsyncClient) -> None:
    _publish(runner)
    response = await client.get("/v1/forecasts")
    assert response.status_code == 200 and response.headers["content-type"] == "application/json"
    answer = ForecastList.model_validate_json(response.content)
    assert runner.published is not None and answer == runner.published.forecasts
    assert answer.forecasts[0].ready and len(answer.forecasts[0].points) == 13


async def test_single_answer_and_the_sentence_for_unknown_jobs(
    runner: Runner, client: httpx.AsyncClient
) -> None:
    _publish(runner)
    found = await client.get("/v1/forecasts/team/chat")
    assert JobForecast.model_validate_json(found.content).name == "chat"
    missing = await client.get("/v1/forecasts/team/nobody")
    assert missing.status_code == 404
    assert missing.json() == {
        "message": "No load of DeepSeekJob team/nobody was seen; check its name and that it runs."
    }


async def test_before_the_first_round_nothing_is_ready(client: httpx.AsyncClient) -> None:
    for path in ("/v1/forecasts", "/v1/forecasts/team/chat", "/readyz"):
        assert (await client.get(path)).status_code == 503
    assert (await client.get("/healthz")).status_code == 200


async def test_visible_failure_is_ready_and_told(runner: Runner, client: httpx.AsyncClient) -> None:
    _publish(runner, problem="Prometheus does not answer.")
    response = await client.get("/readyz")
    assert response.status_code == 200 and response.json() == {"message": "Prometheus does not answer."}


async def test_forecast_ages_even_when_the_loop_stands_still(
    runner: Runner, client: httpx.AsyncClient, clock: Clock
) -> None:
    _publish(runner)
    clock.now += 300
    assert (await client.get("/v1/forecasts/team/chat")).json()["state"] == "Ready"
    clock.now += 1
    aged = (await client.get("/v1/forecasts/team/chat")).json()
    assert aged["state"] == "Stale" and aged["points"] == [] and "301 s old" in aged["reason"]
    assert (await client.get("/healthz")).status_code == 503


async def test_metrics_are_in_the_text_format(runner: Runner, client: httpx.AsyncClient) -> None:
    _publish(runner)
    text = (await client.get("/metrics")).text
    assert 'drse_forecast_series{state="Ready"} 1.0' in text
    assert 'drse_forecast_actual_load{deepseekjob="chat",deepseekjob_namespace="team"}' in text
    assert 'drse_forecast_source_errors_total{reason="Refused"} 0.0' in text
    assert "drse_forecast_round_seconds_bucket" in text


async def test_metrics_before_the_first_round_are_empty_not_an_error(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.status_code == 200 and 'drse_forecast_series{state="Ready"} 0.0' in response.text


async def test_etag_spares_the_reader_what_it_has(
    runner: Runner, client: httpx.AsyncClient, clock: Clock
) -> None:
    _publish(runner)
    for path in ("/v1/forecasts", "/v1/forecasts/team/chat"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert again.status_code == 304 and again.content == b""
        assert again.headers["etag"] == first.headers["etag"]
    clock.now += 301
    stale = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert stale.status_code == 200, "a forecast that has become Stale is another answer"


async def test_openapi_describes_what_is_served(runner: Runner, client: httpx.AsyncClient) -> None:
    _publish(runner)
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    schema = document["components"]["schemas"]["JobForecast"]
    answer = (await client.get("/v1/forecasts/team/chat")).json()
    assert set(answer) == set(schema["properties"])
    for path in document["paths"]:
        served = await client.get(path.format(namespace="team", name="chat"))
        assert served.status_code == 200
    assert "$defs" not in str(document)
