"""Operator and console read a forecaster of several replicas: real processes on one real Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from drse_operator.api.enums import ScalingPolicy
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.cluster.client import KubeApi
from drse_operator.controller.forecasts import Forecasts
from drse_operator.observe.console.outside import Addresses, Outside
from drse_operator.outside.forecaster import AtAddress
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

    forecaster = AtAddress(f"http://forecaster:{port}", resolve)
    return Forecasts(forecaster, lambda: None, max_age=max_age)


def heard(forecasts: Forecasts) -> dict[JobKey, float | None]:
    return {key: forecasts.signal(key, ScalingPolicy.FORECAST).load for key in JOBS}


EVERYTHING = {key: float(number + 1) for number, key in enumerate(JOBS)}


async def test_nothing_is_lost_or_told_twice_when_the_number_of_replicas_changes(
    replicas: Callable[[int, int], ForecasterProcess], unused_port: int
) -> None:
    hosts = [HOSTS[0]]
    forecasts = reader(unused_port, hosts)
    alone = replicas(0, 1)
    await forecasts.poll()
    assert heard(forecasts) == EVERYTHING

    second = replicas(1, 2)  # as a rollout does: the new one comes while the old one still serves all
    hosts.append(HOSTS[1])
    await forecasts.poll()
    assert heard(forecasts) == EVERYTHING

    alone.kill()  # and now nobody serves its share
    await forecasts.poll()
    assert heard(forecasts) == EVERYTHING, "the last answer stands until it is too old"

    first = replicas(0, 2)
    shares = [{f.name for f in one.answer().forecasts} for one in (first, second)]
    assert shares[0] and shares[1] and not shares[0] & shares[1]
    assert shares[0] | shares[1] == {key.name for key in JOBS}
    await forecasts.poll()
    assert heard(forecasts) == EVERYTHING


async def test_jobs_of_a_replica_that_is_gone_freeze_and_no_others(
    replicas: Callable[[int, int], ForecasterProcess], unused_port: int
) -> None:
    first, second = replicas(0, 2), replicas(1, 2)
    theirs = {JobKey(f.namespace, f.name) for f in second.answer().forecasts}
    forecasts = reader(unused_port, list(HOSTS), max_age=5.0)
    await forecasts.poll()
    second.kill()
    await asyncio.sleep(5.1)
    await forecasts.poll()
    signals = {key: forecasts.signal(key, ScalingPolicy.FORECAST) for key in JOBS}
    assert {key for key, signal in signals.items() if signal.frozen is not None} == theirs
    assert all(signals[key].frozen is ScalingReason.FORECASTER_UNREACHABLE for key in theirs)
    assert HOSTS[1] in signals[next(iter(theirs))].frozen_message
    assert first.process.poll() is None


async def test_a_replica_whose_address_is_gone_is_missed(
    replicas: Callable[[int, int], ForecasterProcess], unused_port: int
) -> None:
    """As it is when a pod is not ready: a name service no longer tells of it."""
    replicas(0, 2)
    forecasts = reader(unused_port, [HOSTS[0]])
    await forecasts.poll()
    lost = {forecasts.signal(key, ScalingPolicy.FORECAST).frozen_message for key in JOBS}
    assert lost == {"", "of the forecaster's 2 shards, 1 did not answer: see that its pods run"}


async def test_the_console_shows_the_jobs_of_all_replicas(
    replicas: Callable[[int, int], ForecasterProcess],
    unused_port: int,
    names: dict[str, tuple[str, ...]],
) -> None:
    names["forecaster.test"] = HOSTS
    _, second = replicas(0, 2), replicas(1, 2)
    addresses = Addresses("drse-system", forecaster=f"http://forecaster.test:{unused_port}")
    assert await console(addresses) == (set(JOBS), "")
    second.kill()
    told, trouble = await console(addresses)
    assert told and told < set(JOBS)
    assert HOSTS[1] in trouble and "does not answer" in trouble


async def console(addresses: Addresses) -> tuple[set[JobKey], str]:
    """The jobs whose forecasts a console that starts now is told, and what it says is wrong with them."""
    # Nobody is there to tell of anything else.
    async with KubeApi(Configuration(host="http://127.0.0.1:9")) as api:
        outside = Outside(api, addresses, lambda: None)
        asking = asyncio.create_task(outside.run())
        async with asyncio.timeout(60):
            while not outside.surroundings.source("forecaster").configured:
                await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    found = outside.surroundings.forecasts
    told = {JobKey(f.namespace, f.name) for f in found.forecasts} if found is not None else set()
    return told, outside.surroundings.source("forecaster").trouble
