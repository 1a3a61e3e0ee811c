"""The operator reads a forecaster of several replicas: real processes on one real Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from drse_operator.api.enums import ScalingPolicy
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.controller.forecasts import Forecasts
from tests.forecaster.forecaster import ForecasterProcess

StartPrometheus = Callable[[str], str]

JOBS = [JobKey("team", f"job-{number}") for number in range(12)]
HOSTS = ("127.0.0.1", "127.0.0.2")


@pytest.fixture(scope="module")
def prometheus(start_prometheus: StartPrometheus) -> str:
    now = int(time.time()) // 60 * 60
    lines = ["# TYPE load gauge"]
    for number, key in enumerate(JOBS):
        labels = f'deepseekjob="{key.name}",deepseekjob_namespace="{key.namespace}"'
        # Recorded into the future: a machine under load must not make it stale.
        lines += [f"load{{{labels}}} {number + 1} {at}" for at in range(now - 7200, now + 600, 60)]
    return start_prometheus("\n".join([*lines, "# EOF", ""]))


@pytest.fixture
def replicas(
    prometheus: str, unused_port: int, tmp_path: Path
) -> Iterator[Callable[[int, int], ForecasterProcess]]:
    """Start replica ``index`` of ``count``, each on an address of its own."""
    with ExitStack() as stack:

        def start(index: int, count: int) -> ForecasterProcess:
            query = "sum by (deepseekjob, deepseekjob_namespace) (load)"
            arguments = ("--query", query, "--shard", f"{index}/{count}", "--history", "1d")
            log = tmp_path / f"{index}-{count}.log"
            process = ForecasterProcess(prometheus, log, *arguments, port=unused_port, host=HOSTS[index])
            process.start()
            stack.callback(process.kill)
            return process

        yield start


def reader(port: int, hosts: list[str], max_age: float = 60.0) -> Forecasts:
    async def resolve(host: str, at: int) -> tuple[str, ...]:
        assert (host, at) == ("forecaster", port)
        return tuple(hosts)

    return Forecasts(f"http://forecaster:{port}", lambda: None, max_age=max_age, resolve=resolve)


def heard(forecasts: Forecasts) -> dict[JobKey, float | None]:
    return {key: forecasts.signal(key, ScalingPolicy.FORECAST).load for key in JOBS}


EVERYTHING = {key: float(number + 1) for number, key in enumerate(JOBS)}


async def test_nothing_is_lost_or_told_twice_when_the_number_of_replicas_changes(
    replicas: Callable[[int, int], ForecasterProcess], unused_port: int
) -> None:
    hosts = [HOSTS[0]]
    forecasts = reader(unused_port, hosts)
    async with httpx.AsyncClient(trust_env=False) as client:
        alone = replicas(0, 1)
        await forecasts.poll(client)
        assert heard(forecasts) == EVERYTHING

        second = replicas(1, 2)  # as a rollout does: the new one comes while the old one still serves all
        hosts.append(HOSTS[1])
        await forecasts.poll(client)
        assert heard(forecasts) == EVERYTHING

        alone.kill()  # and now nobody serves its share
        await forecasts.poll(client)
        assert heard(forecasts) == EVERYTHING, "the last answer stands until it is too old"

        first = replicas(0, 2)
        shares = [{f.name for f in one.answer().forecasts} for one in (first, second)]
        assert shares[0] and shares[1] and not shares[0] & shares[1]
        assert shares[0] | shares[1] == {key.name for key in JOBS}
        await forecasts.poll(client)
        assert heard(forecasts) == EVERYTHING


async def test_jobs_of_a_replica_that_is_gone_freeze_and_no_others(
    replicas: Callable[[int, int], ForecasterProcess], unused_port: int
) -> None:
    first, second = replicas(0, 2), replicas(1, 2)
    theirs = {JobKey(f.namespace, f.name) for f in second.answer().forecasts}
    forecasts = reader(unused_port, list(HOSTS), max_age=5.0)
    async with httpx.AsyncClient(trust_env=False) as client:
        await forecasts.poll(client)
        second.kill()
        await asyncio.sleep(5.1)
        await forecasts.poll(client)
        signals = {key: forecasts.signal(key, ScalingPolicy.FORECAST) for key in JOBS}
    assert {key for key, signal in signals.items() if signal.frozen is not None} == theirs
    assert all(signals[key].frozen is ScalingReason.FORECASTER_UNREACHABLE for key in theirs)
    assert HOSTS[1] in signals[next(iter(theirs))].frozen_message
    assert first.process.poll() is None
