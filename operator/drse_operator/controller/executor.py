"""Carries out what was decided: the status first, then the objects that follow from it.

One job is worked on by at most one task. A status write names the resourceVersion that the decision was
made from, so a decision made from an old picture is refused, not merged. Nothing is written without a
valid Lease. After a crash between any two writes, the next look at the cluster finds what is missing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from drse_operator.api.base import API_VERSION
from drse_operator.api.reasons import EventReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.cluster.events import EventRecorder
from drse_operator.cluster.world import World
from drse_operator.observe.metrics import Metrics
from drse_operator.workloads.observed import Job
from drse_operator.workloads.outcome import Action, Create, Delete, Event

log = logging.getLogger(__name__)

FIELD_MANAGER = "drse-operator"
_DEFAULT_WORKERS = 32
#: Seconds that a job is left alone after work on it has failed; doubles with each failure in a row.
_REST_BASE = 0.5
_REST_CAP = 15.0


class NotLeader(Exception):
    """The Lease is no longer ours: nothing may be written."""


@dataclass(frozen=True, slots=True)
class Work:
    """Everything to do for one job now. ``status`` is None when it stays as it is.

    ``job`` is None when the job is gone and only what it left behind has to go.
    """

    uid: str
    job: Job | None
    status: DeepSeekJobStatus | None
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    #: Work that gives or frees GPUs goes before work that only tells.
    urgent: bool = True


@dataclass(order=True, slots=True)
class _Queued:
    rank: int
    number: int
    work: Work = field(compare=False)


class Executor:
    """A fixed number of workers over one queue of :class:`Work`.

    ``done(uid)`` is called when a job may be looked at again.
    """

    def __init__(
        self,
        api: KubeApi,
        world: World,
        events: EventRecorder,
        metrics: Metrics,
        may_write: Callable[[], bool],
        done: Callable[[str], None],
        workers: int = _DEFAULT_WORKERS,
    ) -> None:
        self._api = api
        self._world = world
        self._events = events
        self._metrics = metrics
        self._may_write = may_write
        self._done = done
        self._workers = workers
        self._queue: asyncio.PriorityQueue[_Queued] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}

    def busy(self, uid: str) -> bool:
        """True while something is being done for the job."""
        return uid in self._busy

    def submit(self, work: Work) -> None:
        """Take on work for a job that is not busy; from now on its new status is assumed."""
        assert work.uid not in self._busy
        self._busy.add(work.uid)
        if work.status is not None:
            self._world.assume(work.uid, work.status)
        self._queue.put_nowait(_Queued(0 if work.urgent else 1, next(self._numbers), work))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"executor-{number}")

    async def _worker(self) -> None:
        while True:
            queued = await self._queue.get()
            uid, job = queued.work.uid, queued.work.job
            who = uid if job is None else job.key
            try:
                await self._carry_out(queued.work)
            except NotLeader:
                log.info("%s: not written, leadership has ended", who)
            except ApiError as error:
                self._metrics.api_errors.labels(reason=error.reason).inc()
                log.warning("%s: %s", who, error)
            except ApiUnreachable as error:
                self._metrics.api_errors.labels(reason="Unreachable").inc()
                log.warning("%s: %s", who, error)
            else:
                self._failures.pop(uid, None)
                self._finish(uid)
                continue
            self._rest(uid)

    def _finish(self, uid: str) -> None:
        self._world.settle(uid)
        self._busy.discard(uid)
        self._done(uid)

    def _rest(self, uid: str) -> None:
        """After a failure the job is left alone for a while, longer each time."""
        self._world.settle(uid)
        failures = self._failures[uid] = self._failures.get(uid, 0) + 1
        delay = min(_REST_BASE * 2 ** (failures - 1), _REST_CAP)
        asyncio.get_running_loop().call_later(delay, self._finish, uid)

    async def _carry_out(self, work: Work) -> None:
        job = work.job
        if job is not None:
            if work.status is not None and not await self._write_status(job, work.status):
                return
            for event in work.events:
                self._events.record(job, event)
        refused: ApiError | None = None
        for action in work.actions:
            self._guard()
            try:
                if isinstance(action, Delete):
                    await self._delete(action)
                elif job is not None:
                    await self._create(job, action)
            except ApiError as error:
                # One object that cannot be made (a Service whose name is taken) holds up no other.
                refused = refused or error
        if refused is not None:
            raise refused

    async def _write_status(self, job: Job, status: DeepSeekJobStatus) -> bool:
        """Write the status if the job has not changed since; True when it stands as wanted."""
        document = {
            "apiVersion": API_VERSION,
            "kind": "DeepSeekJob",
            "metadata": {
                "name": job.key.name,
                "namespace": job.key.namespace,
                "uid": job.uid,
                "resourceVersion": job.resource_version,
            },
            "status": status.to_wire(),
        }
        while True:
            self._guard()
            started = time.monotonic()
            try:
                written = await self._api.apply(kinds.DEEPSEEKJOB, document, FIELD_MANAGER, "status")
                self._metrics.status_write_seconds.observe(time.monotonic() - started)
                self._world.jobs.put(written)
                return True
            except ApiUnreachable as error:
                # The write may have landed. The promise stays assumed until the server has been asked.
                log.warning("%s: status write unanswered, asking: %s", job.key, error)
                await asyncio.sleep(1)
                if (stands := await self._reread(job, status)) is not None:
                    return stands
            except ApiError as error:
                if error.conflict:
                    stands = await self._reread(job, status)
                    return bool(stands)
                if error.not_found:
                    self._world.jobs.forget(job.key.namespace, job.key.name, job.uid)
                    return False
                raise

    async def _reread(self, job: Job, wanted: DeepSeekJobStatus) -> bool | None:
        """What the server has now: True if it is what we wanted, False if not, None if it did not say."""
        try:
            document = await self._api.get(kinds.DEEPSEEKJOB, job.key.name, job.key.namespace)
        except ApiUnreachable:
            return None
        except ApiError as error:
            if error.not_found:
                self._world.jobs.forget(job.key.namespace, job.key.name, job.uid)
                return False
            return None
        self._world.jobs.put(document)
        if document["metadata"]["uid"] != job.uid:
            return False
        return DeepSeekJobStatus.model_validate(document.get("status") or {}) == wanted

    async def _create(self, job: Job, action: Create) -> None:
        kind = kinds.BY_NAME[action.document["kind"]]
        metadata = action.document["metadata"]
        try:
            created = await self._api.create(kind, action.document)
        except ApiError as error:
            if not error.conflict:
                self._events.record(job, _not_created(kind.kind, metadata["name"], error))
                raise
            created = await self._api.get(kind, metadata["name"], metadata["namespace"])
            owners = created["metadata"].get("ownerReferences") or ()
            if all(reference["uid"] != job.uid for reference in owners):
                self._events.record(job, _name_taken(kind.kind, metadata["name"]))
                raise
        self._world.store(kind).put(created)

    async def _delete(self, action: Delete) -> None:
        kind = kinds.BY_NAME[action.kind]
        await self._api.delete(kind, action.name, action.namespace, action.uid)

    def _guard(self) -> None:
        if not self._may_write():
            raise NotLeader


def _not_created(kind: str, name: str, error: ApiError) -> Event:
    message = f"{kind} {name} was refused by the API server: {error.message}"
    return Event(EventReason.CREATE_REFUSED, message, warning=True)


def _name_taken(kind: str, name: str) -> Event:
    message = f"{kind} {name} exists and belongs to somebody else: delete it, or rename the job"
    return Event(EventReason.NAME_TAKEN, message, warning=True)
