"""In which order the executor works, and what makes way for what. That it writes rightly: tests/operator."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from drse_operator.api.enums import Phase
from drse_operator.api.reasons import EventReason
from drse_operator.api.status import DeepSeekJobStatus, QueueStatus
from drse_operator.cluster.client import KubeApi
from drse_operator.cluster.events import EventRecorder
from drse_operator.cluster.world import World
from drse_operator.controller.executor import Executor, Work
from drse_operator.observe.metrics import Metrics
from drse_operator.workloads.outcome import Event
from tests.lifecycle.model import job as document

WAITS = QueueStatus(position=3, reason="WaitingForTurn", since="2030-01-01T00:00:00Z")


class Recorded(Executor):
    """Notes what it would carry out."""

    def __init__(self, world: World, workers: int = 1) -> None:
        api = cast(KubeApi, None)
        self.carried_out: list[Work] = []
        events, metrics = EventRecorder(api, "test"), Metrics("test")
        super().__init__(api, world, events, metrics, lambda: True, lambda _: None, term=1, workers=workers)

    async def _carry_out(self, work: Work) -> None:
        self.carried_out.append(work)

    async def finish(self) -> None:
        """Work until nothing is left to do."""
        running = asyncio.create_task(self.run())
        while self._busy:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def world() -> World:
    made = World(lambda _: None, lambda: None)
    for number in range(4):
        given = document(f"job-{number}", "Batch", 1)
        given["metadata"] |= {
            "uid": f"job-{number}",
            "resourceVersion": "1",
            "creationTimestamp": "2030-01-01T00:00:00Z",
        }
        made.jobs.put(given)
    return made


def tell(world: World, uid: str) -> Work:
    waits = DeepSeekJobStatus(phase=Phase.QUEUED, queue=WAITS)
    return Work(uid, world.job(uid), waits, events=(Event(EventReason.WAITING, "waits"),), urgent=False)


def start(world: World, uid: str) -> Work:
    started = DeepSeekJobStatus(phase=Phase.STARTING)
    return Work(uid, world.job(uid), started, events=(Event(EventReason.ASSIGNED, "starts"),))


async def test_who_gets_gpus_goes_before_who_is_told(world: World) -> None:
    executor = Recorded(world)
    for uid in ("job-0", "job-1"):
        executor.submit(tell(world, uid))
    for uid in ("job-2", "job-3"):
        executor.submit(start(world, uid))
    await executor.finish()
    assert [work.uid for work in executor.carried_out] == ["job-2", "job-3", "job-0", "job-1"]


async def test_however_much_is_urgent_somebody_tells(world: World) -> None:
    executor = Recorded(world, workers=8)
    for uid in ("job-0", "job-1", "job-2"):
        executor.submit(start(world, uid))
    executor.submit(tell(world, "job-3"))
    running = [asyncio.create_task(executor._worker(urgent=False))]
    while not executor.carried_out:
        await asyncio.sleep(0)
    running[0].cancel()
    assert executor.carried_out[0].uid == "job-3"


async def test_a_job_that_waits_to_be_told_of_its_wait_can_be_given_gpus(world: World) -> None:
    executor = Recorded(world)
    executor.submit(tell(world, "job-0"))
    assert not executor.busy("job-0")
    told = world.job("job-0")
    assert told is not None and told.status.queue == WAITS, "assumed until then"
    executor.submit(start(world, "job-0"))
    assert executor.busy("job-0")
    await executor.finish()
    (work,) = executor.carried_out
    assert work.status is not None and (work.status.phase, work.status.queue) == (Phase.STARTING, None)
    assert [event.reason for event in work.events] == [EventReason.WAITING, EventReason.ASSIGNED]
    assert not executor.busy("job-0")


async def test_what_was_to_be_told_is_told_by_work_that_leaves_the_status_alone(world: World) -> None:
    executor = Recorded(world)
    executor.submit(tell(world, "job-0"))
    executor.submit(replace(start(world, "job-0"), status=None))
    await executor.finish()
    (work,) = executor.carried_out
    assert work.status is not None and work.status.queue == WAITS


async def test_work_that_has_begun_is_not_taken_back(world: World) -> None:
    executor = Recorded(world)
    executor.submit(start(world, "job-0"))
    with pytest.raises(AssertionError):
        executor.submit(tell(world, "job-0"))
