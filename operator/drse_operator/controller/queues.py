"""``status`` of the GPUQueues: what each holds, how much waits in it, and what admission remembers of it.

Written at most every few seconds a queue, outside of the passes. What happens between two writes is told by
the jobs' own statuses (``admission.recall``), so a write that fails or comes late loses nothing: it is made
again with newer numbers. A write names the resourceVersion that it replaces, so that one of a leader of old
never covers a newer one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from drse_operator.admission.decisions import Memory, Plan
from drse_operator.admission.planner import Planner
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.base import API_VERSION
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import kinds, tags
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.cluster.parse import QueueObject
from drse_operator.cluster.world import World
from drse_operator.controller.fairness import FairnessWatch
from drse_operator.controller.starts import Starts

log = logging.getLogger(__name__)

#: Seconds between two looks at what has changed, and seconds that each write adds to it.
_PERIOD = 3.0
_PER_WRITE = 0.2
#: Clocks that run are written after so many seconds although nothing else has changed.
_CLOCKS = 60.0


class QueueReporter:
    """Writes what the last pass left into the queues' statuses."""

    def __init__(
        self,
        api: KubeApi,
        world: World,
        may_write: Callable[[], bool],
        manager: str,
        starts: Starts,
        fairness: FairnessWatch,
        planner: Planner,
        term: int,
    ) -> None:
        self._planner = planner
        self._starts = starts
        self._fairness = fairness
        self._term = term
        self._api = api
        self._world = world
        self._may_write = may_write
        self._manager = manager
        self._last: tuple[Snapshot, Plan] | None = None

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """Remember what a pass saw and decided."""
        self._last = snapshot, plan

    async def run(self) -> None:
        """Write until cancelled."""
        written = 0
        while True:
            await asyncio.sleep(max(_PERIOD, written * _PER_WRITE))
            written = 0
            wanted = {} if self._last is None else statuses(*self._last, self._planner.memory())
            for name, status in wanted.items():
                status = self._judged(name, status)
                queue = self._world.queues.get("", name)
                if queue is None or not self._may_write():
                    continue
                status = status.model_copy(update={"observed_generation": queue.generation})
                if worth_writing(queue.status, status):
                    await self._write(queue, status)
                    written += 1

    def _judged(self, name: str, status: GPUQueueStatus) -> GPUQueueStatus:
        """With how promises to the queue's jobs have been kept."""
        known = self._starts.calibrations.get(name)
        return status.model_copy(
            update={
                "told": None if known is None or not known.told else tags.told(known),
                "term": self._term,
                "fairness_bound_used": round(self._fairness.used_by[name], 4),
            }
        )

    async def _write(self, queue: QueueObject, status: GPUQueueStatus) -> None:
        document = {
            "apiVersion": API_VERSION,
            "kind": "GPUQueue",
            "metadata": {"name": queue.name, "resourceVersion": queue.resource_version, "uid": queue.uid},
            "status": status.to_wire(),
        }
        try:
            self._world.queues.put(await self._api.apply(kinds.GPUQUEUE, document, self._manager, "status"))
        except ApiError as error:
            if not (error.conflict or error.not_found):
                log.warning("status of GPUQueue %s: %s", queue.name, error)
        except ApiUnreachable as error:
            log.warning("status of GPUQueue %s: %s", queue.name, error)


def worth_writing(old: GPUQueueStatus, new: GPUQueueStatus) -> bool:
    """Whether more has changed than the time on clocks, or these have run for long."""
    if _still(old) != _still(new):
        return True
    if old.clock_at is None or new.clock_at is None or not any(flow.rate for flow in new.flows):
        return False
    return abs(times.from_wire(new.clock_at) - times.from_wire(old.clock_at)) >= _CLOCKS


def _still(status: GPUQueueStatus) -> GPUQueueStatus:
    """The status with all clocks at 0. How far kinds have come is told by those who brought them there."""
    flows = tuple(flow.model_copy(update={"virtual": 0.0, "rate": 0.0}) for flow in status.flows)
    return status.model_copy(
        update={"conditions": (), "term": None, "clock_at": None, "virtual_time": (), "flows": flows}
    )


def statuses(snapshot: Snapshot, plan: Plan, memory: Memory) -> dict[str, GPUQueueStatus]:
    """The numbers of each queue, by name, and its part of what the plan left to remember."""
    pending_jobs: Counter[str] = Counter()
    pending_gpus: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for pending in plan.pending:
        pending_jobs[pending.flow.queue] += pending.jobs
        pending_gpus[pending.flow.queue] += pending.gpus
    for job in snapshot.jobs:
        running[job.queue] += bool(job.holdings)
    return {
        name: GPUQueueStatus(
            assigned_gpus=queue.held,
            pending_gpus=pending_gpus[name],
            pending_jobs=pending_jobs[name],
            running_jobs=running[name],
            learned=tags.learned_status(snapshot.learned, name),
        ).model_copy(update=tags.memory_of(memory, name))
        for name, queue in snapshot.queues.items()
    }
