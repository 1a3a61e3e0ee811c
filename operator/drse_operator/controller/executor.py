"""Carries out what was decided: the status first, then the objects that follow from it.

One job is worked on by at most one task. A status write names the resourceVersion that the decision was
made from, so a decision made from an old picture is refused, not merged. Nothing is written without a
valid Lease, and each status carries the term of its leader (``controller.fence``). After a crash between any
two writes, the next look at the cluster finds what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

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
#: One in so many workers does work that only tells before work that gives or frees GPUs.
_TELLS_OF = 8
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


@dataclass(slots=True)
class _Queued:
    #: None when other work has taken its place.
    work: Work | None


class _Backlog:
    """Work in two lines, one of which is served first by most."""

    def __init__(self) -> None:
        self._lines: tuple[deque[_Queued], deque[_Queued]] = (deque(), deque())
        self._ready = asyncio.Semaphore(0)

    def put(self, work: Work) -> _Queued:
        """Queue work up."""
        queued = _Queued(work)
        self._lines[not work.urgent].append(queued)
        self._ready.release()
        return queued

    async def get(self, urgent: bool) -> Work:
        """The next work, urgent work first if ``urgent``, else last; waits for some."""
        while True:
            await self._ready.acquire()
            first, second = self._lines if urgent else reversed(self._lines)
            work = (first or second).popleft().work
            if work is not None:
                return work


def _instead(old: Work, new: Work) -> Work:
    """New work that was decided from the status that old work was about to write."""
    return replace(new, status=new.status or old.status, events=(*old.events, *new.events))


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
        term: int,
        workers: int = _DEFAULT_WORKERS,
    ) -> None:
        self._api = api
        self._world = world
        self._events = events
        self._metrics = metrics
        self._may_write = may_write
        self._done = done
        self._term = term
        self._workers = workers
        self._backlog = _Backlog()
        self._busy: set[str] = set()
        #: Work that only tells and has not begun, by uid: it makes way for other work on the job.
        self._tells: dict[str, _Queued] = {}
        self._failures: dict[str, int] = {}

    def busy(self, uid: str) -> bool:
        """True while something is being done for the job that other work must not come between."""
        return uid in self._busy and uid not in self._tells

    def submit(self, work: Work) -> None:
        """Take on work for a job that is not busy; from now on its new status is assumed."""
        assert not self.busy(work.uid)
        waiting = self._tells.pop(work.uid, None)
        if waiting is not None and waiting.work is not None:
            work = _instead(waiting.work, work)
            waiting.work = None
        self._busy.add(work.uid)
        if work.status is not None:
            status = work.status.model_copy(update={"term": self._term})
            work = replace(work, status=status)
            self._world.assume(work.uid, status)
        self._metrics.writes_pending.set(len(self._busy))
        queued = self._backlog.put(work)
        if not work.urgent:
            self._tells[work.uid] = queued

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                # However much there is to do, somebody tells those who wait why they do.
                urgent = number % _TELLS_OF != _TELLS_OF - 1
                group.create_task(self._worker(urgent), name=f"executor-{number}")

    async def _worker(self, urgent: bool) -> None:
        while True:
            work = await self._backlog.get(urgent)
            uid, job = work.uid, work.job
            self._tells.pop(uid, None)
            who = uid if job is None else job.key
            try:
                await self._carry_out(work)
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
        self._metrics.writes_pending.set(len(self._busy))
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
