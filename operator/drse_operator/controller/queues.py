"""``status`` of the GPUQueues: what each holds and how much waits in it.

It only informs, so it is written at most every few seconds a queue, outside of the passes, and a write that
fails is simply made again with newer numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.base import API_VERSION
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.cluster.world import World

log = logging.getLogger(__name__)

#: Seconds between two looks at what has changed.
_PERIOD = 3.0


class QueueReporter:
    """Writes the numbers of the last pass into the queues' statuses."""

    def __init__(self, api: KubeApi, world: World, may_write: Callable[[], bool], manager: str) -> None:
        self._api = api
        self._world = world
        self._may_write = may_write
        self._manager = manager
        self._wanted: dict[str, GPUQueueStatus] = {}

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """Remember what a pass saw and decided."""
        self._wanted = statuses(snapshot, plan)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            for name, status in self._wanted.items():
                queue = self._world.queues.get("", name)
                if queue is None or not self._may_write():
                    continue
                status = status.model_copy(update={"observed_generation": queue.generation})
                if status != queue.status.model_copy(update={"conditions": ()}):
                    await self._write(name, status)

    async def _write(self, name: str, status: GPUQueueStatus) -> None:
        document = {
            "apiVersion": API_VERSION,
            "kind": "GPUQueue",
            "metadata": {"name": name},
            "status": status.to_wire(),
        }
        try:
            self._world.queues.put(await self._api.apply(kinds.GPUQUEUE, document, self._manager, "status"))
        except (ApiError, ApiUnreachable) as error:
            log.warning("status of GPUQueue %s: %s", name, error)


def statuses(snapshot: Snapshot, plan: Plan) -> dict[str, GPUQueueStatus]:
    """The numbers of each queue, by name."""
    pending_jobs: Counter[str] = Counter()
    pending_gpus: Counter[str] = Counter()
    running: Counter[str] = Counter()
    queue_of = {job.key: job.queue for job in snapshot.jobs}
    for wait in plan.wait:
        pending_jobs[queue_of[wait.key]] += 1
        pending_gpus[queue_of[wait.key]] += wait.gpus
    for job in snapshot.jobs:
        running[job.queue] += bool(job.holdings)
    return {
        name: GPUQueueStatus(
            assigned_gpus=queue.held,
            pending_gpus=pending_gpus[name],
            pending_jobs=pending_jobs[name],
            running_jobs=running[name],
        )
        for name, queue in snapshot.queues.items()
    }
