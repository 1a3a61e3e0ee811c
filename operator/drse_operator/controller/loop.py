"""The one loop: wake, look, judge, plan, hand over.

A pass is synchronous, so it works on one consistent picture; all waiting is done by the executor. It

1. judges each job that something happened to (``workloads.life``) and takes in new scaling signals,
2. builds a snapshot and plans (``admission``),
3. writes decisions into statuses, and submits for each job its new status and the orders that follow.

A pass is woken by changes, gathered for ``_GATHER`` seconds, and by timers that statuses ask for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from drse_operator.admission.decisions import Assign, Plan, Release, Wait
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.enums import ScalingMode
from drse_operator.api.reasons import ConditionType, EventReason, StateReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.usage import Conflict, Usage
from drse_operator.cluster.world import World
from drse_operator.controller import planned
from drse_operator.controller.executor import Executor, Work
from drse_operator.controller.forecasts import Forecasts
from drse_operator.controller.pace import Pace
from drse_operator.controller.timers import Timers
from drse_operator.observe.metrics import Metrics
from drse_operator.scaling.apply import scale
from drse_operator.workloads.converge import converge, orphans
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.life import Assessment, Limits, assess
from drse_operator.workloads.observed import Job
from drse_operator.workloads.outcome import Delete, Event
from drse_operator.workloads.summary import summarize
from drse_operator.workloads.wanted import wanted_replicas

log = logging.getLogger(__name__)

#: Changes within this many seconds are taken together; longer when passes are long, but never beyond the cap.
_GATHER = 0.05
_GATHER_CAP = 1.0
#: A pass is made at least this often, whatever happens (seconds).
_RESYNC = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator may set about the loop."""

    limits: Limits
    images: EngineImages


class Loop:
    """Ties the rooms together for one leader."""

    def __init__(
        self,
        world: World,
        picture: Picture,
        executor: Executor,
        forecasts: Forecasts | None,
        metrics: Metrics,
        settings: Settings,
        report: Callable[[Snapshot, Plan], None] | None = None,
    ) -> None:
        self.last_pass = time.monotonic()
        self._world = world
        self._picture = picture
        self._executor = executor
        self._forecasts = forecasts
        self._metrics = metrics
        self._settings = settings
        self._report = report
        self._pace = Pace()
        self._dirty: set[str] = set()
        self._timers = Timers()
        self._wake = asyncio.Event()
        self._scaled: dict[str, int] = {}
        self._pass_seconds = 0.0

    # -- being woken -----------------------------------------------------------------------------------

    def touch(self, uid: str) -> None:
        """Something happened to a job."""
        self._dirty.add(uid)
        self._wake.set()

    def stir(self) -> None:
        """Something happened that any job may depend on."""
        self._wake.set()

    def touch_scaled(self) -> None:
        """New forecasts are in."""
        for job in self._world.all_jobs():
            if job.spec is not None and job.spec.scaling.mode is not ScalingMode.OFF:
                self._dirty.add(job.uid)
        self._wake.set()

    async def run(self) -> None:
        """Pass after pass until cancelled. A pass that fails is logged and made again."""
        self._dirty.update(job.uid for job in self._world.all_jobs())
        while True:
            try:
                self.make_pass(time.time())
                self.last_pass = time.monotonic()
            except Exception:
                self._metrics.pass_failures.inc()
                log.exception("a pass failed; it is made again")
                await asyncio.sleep(1)
            await self._sleep()

    async def _sleep(self) -> None:
        timeout = min(_RESYNC, self._timers.wait(time.time()))
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(min(max(_GATHER, 2 * self._pass_seconds), _GATHER_CAP))
        self._wake.clear()

    # -- one pass --------------------------------------------------------------------------------------

    def make_pass(self, now: float) -> None:
        """Look at everything once, at ``now`` (seconds since the epoch), and submit what follows."""
        started = time.perf_counter()
        self._dirty.update(self._timers.due(now))
        usage = self._picture.usage()
        judged = self._judge_dirty(usage, now)
        for uid, assessment in judged.items():
            self._world.assume(uid, assessment.status)
        try:
            snapshot = self._picture.snapshot(usage)
            decisions = plan(snapshot, now)
            self._picture.remember(decisions.memory)
        finally:
            for uid in judged:
                self._world.settle(uid)
        self._submit_all(judged, decisions, now)
        self._pass_seconds = time.perf_counter() - started
        self._metrics.plan_seconds.observe(self._pass_seconds)
        self._metrics.take_plan(snapshot, decisions, usage, now)
        if self._report is not None:
            self._report(snapshot, decisions)

    def _judge_dirty(self, usage: Usage, now: float) -> dict[str, Assessment]:
        """Judge the jobs that something happened to, those being worked on excepted: they stay dirty."""
        losers = {c.second_uid: c for c in usage.conflicts}
        self._dirty.update(losers)
        judged: dict[str, Assessment] = {}
        for uid in sorted(self._dirty):
            job = self._world.job(uid)
            if self._executor.busy(uid):
                continue
            self._dirty.discard(uid)
            if job is None:
                self._clear_away(uid)
                continue
            try:
                judged[uid] = self._judge(job, losers.get(uid), now)
            except Exception as error:
                self._set_aside(job, error)
        return judged

    def _judge(self, job: Job, lost: Conflict | None, now: float) -> Assessment:
        assessment = assess(self._picture.seen(job), now, self._settings.limits)
        if lost is not None:
            _give_way(assessment, lost.second_replica, lost.uuid, str(lost.first))
        self._take_scaling(job, assessment, now)
        return assessment

    def _set_aside(self, job: Job, error: Exception) -> None:
        """One job that cannot be handled must not stop the others: it waits until it changes, and says so."""
        self._metrics.pass_failures.inc()
        log.exception("%s cannot be handled and is set aside", job.key)
        self._picture.refuse(job, f"the operator cannot handle this job ({type(error).__name__}: {error})")
        self._dirty.add(job.uid)

    def _clear_away(self, uid: str) -> None:
        """A job is gone: delete what it left behind, sooner than garbage collection gets to it."""
        self._pace.forget(uid)
        self._scaled.pop(uid, None)
        actions = orphans(self._world.pods_of(uid).values(), self._world.claims_of(uid).values())
        if actions:
            self._executor.submit(Work(uid, None, None, actions))

    def _take_scaling(self, job: Job, assessment: Assessment, now: float) -> None:
        """Make one scaling decision a poll of the forecaster."""
        spec, forecasts = job.spec, self._forecasts
        if spec is None or forecasts is None or assessment.ended is not None or spec.suspend:
            return
        if self._scaled.get(job.uid) == forecasts.round:
            return
        self._scaled[job.uid] = forecasts.round
        before = wanted_replicas(spec, assessment.status)
        signal = forecasts.signal(job.key, spec.scaling.policy)
        scaling = scale(spec, assessment.status, signal, before, now)
        if scaling is None:
            return
        assessment.set(scaling=scaling)
        after = wanted_replicas(spec, assessment.status)
        if after != before and spec.scaling.mode is ScalingMode.AUTO:
            reason = EventReason.SCALED_UP if after > before else EventReason.SCALED_DOWN
            assessment.events.append(Event(reason, f"from {before} to {after} replicas: {scaling.message}"))
            self._metrics.scaling_actions.labels(driver=scaling.reason).inc()

    # -- handing over ----------------------------------------------------------------------------------

    def _submit_all(self, judged: dict[str, Assessment], decisions: Plan, now: float) -> None:
        """Assignments first, in the order they were promised; then everybody else."""
        waits = {wait.uid: wait for wait in decisions.wait}
        assigns = _by_uid(decisions.assign)
        releases = {release.uid: release for release in decisions.release}
        ordered = dict.fromkeys([*assigns, *releases, *judged, *waits])
        for uid in ordered:
            job = self._world.job(uid)
            if job is None or self._executor.busy(uid):
                continue
            assessment = judged.get(uid)
            wait = waits.get(uid)
            only_waits = assessment is None and uid not in assigns and uid not in releases
            if only_waits and (wait is None or not self._worth_telling(job, wait, now)):
                continue
            assessment = assessment or Assessment(job.status)
            try:
                self._submit(job, assessment, assigns.get(uid, ()), releases.get(uid), wait, now)
            except Exception as error:
                self._set_aside(job, error)

    def _worth_telling(self, job: Job, wait: Wait, now: float) -> bool:
        """Whether a wait, being all there is to say, must be written now. Most need not: this is cheap."""
        status = planned.with_wait(job.status, wait, now)
        if status == job.status:
            return False
        due = self._pace.due(job.status, status, job.uid, now)
        if due > now:
            self._timers.set(job.uid, due)
        return due <= now

    def _submit(
        self,
        job: Job,
        assessment: Assessment,
        assigns: tuple[Assign, ...],
        release: Release | None,
        wait: Wait | None,
        now: float,
    ) -> None:
        seen = self._picture.seen(job)
        status = _decided(assessment.status, assigns, release, wait, now)
        status = summarize(seen, status, now, assessment.ended, assessment.ended_message)
        actions = (*converge(seen, status, self._settings.images), *_expired(job, status, assessment, now))
        turned = _turned(job.status, status)
        events = (*assessment.events, *_told(job, assigns, release, wait), *turned)
        if turned and any(p.reason is StateReason.DEVICE_MISMATCH for p in seen.problems):
            self._metrics.mismatches.inc()
        if assessment.wake_at is not None:
            self._timers.set(job.uid, assessment.wake_at)
        due = self._pace.due(job.status, status, job.uid, now)
        if due > now and not actions and not events:
            self._timers.set(job.uid, due)
            return
        changed = status != job.status
        if not changed and not actions:
            return
        if changed:
            self._pace.written(job.uid, now)
        urgent = bool(assigns or release or actions or job.status.assignments)
        self._executor.submit(Work(job.uid, job, status if changed else None, actions, events, urgent))


def _decided(
    status: DeepSeekJobStatus,
    assigns: tuple[Assign, ...],
    release: Release | None,
    wait: Wait | None,
    now: float,
) -> DeepSeekJobStatus:
    for assign in assigns:
        status = planned.with_assign(status, assign, now)
    if release is not None:
        status = planned.with_release(status, release)
    return planned.with_wait(status, wait, now)


def _told(
    job: Job, assigns: tuple[Assign, ...], release: Release | None, wait: Wait | None
) -> tuple[Event, ...]:
    events = []
    for assign in assigns:
        gpus = sum(p.count for p in assign.placements)
        nodes = ", ".join(dict.fromkeys(p.node for p in assign.placements))
        who = ", ".join(str(r) for r in sorted({p.replica for p in assign.placements}))
        message = f"{gpus} x {assign.shape.kind.product} on {nodes} for replica {who}"
        events.append(Event(EventReason.ASSIGNED, message))
    if release is not None:
        events.append(Event(EventReason.RELEASED, f"replicas {list(release.replicas)}: {release.message}"))
    before = job.status.queue
    if wait is not None and (before is None or before.reason != wait.reason):
        message = f"{wait.reason}: {wait.message}"
        events.append(Event(EventReason.WAITING, message, warning=wait.reason.user_must_act))
    return tuple(events)


#: Conditions whose turn to False is an event.
_TURNS = {
    ConditionType.DEVICES_HEALTHY: EventReason.DEVICE_LOST,
    ConditionType.SCALING_ACTIVE: EventReason.SCALING_FROZEN,
}


def _turned(before: DeepSeekJobStatus, after: DeepSeekJobStatus) -> tuple[Event, ...]:
    """What has gone wrong since the last status: GPUs under a running job, or the data for scaling."""
    known = {(c.type, c.reason) for c in before.conditions if c.status == "False"}
    return tuple(
        Event(_TURNS[ConditionType(condition.type)], condition.message, warning=True)
        for condition in after.conditions
        if condition.status == "False"
        and condition.type in _TURNS
        and (condition.type, condition.reason) not in known
    )


def _give_way(assessment: Assessment, replica: int, uuid: str, first: str) -> None:
    """Two live assignments name one device: the later one is taken back before it can hurt."""
    kept = tuple(a for a in assessment.status.assignments if a.replica != replica)
    assessment.set(assignments=kept)
    message = f"replica {replica} was given back: GPU {uuid} was promised to {first} before"
    assessment.events.append(Event(EventReason.RELEASED, message, warning=True))


def _expired(job: Job, status: DeepSeekJobStatus, assessment: Assessment, now: float) -> tuple[Delete, ...]:
    """Delete a finished job whose time to live is over, or look again when it will be."""
    if job.spec is None or job.spec.ttl_seconds_after_finished is None or job.deleting:
        return ()
    if status.phase is None or not status.phase.finished or status.completion_time is None:
        return ()
    expiry = times.from_wire(status.completion_time) + job.spec.ttl_seconds_after_finished
    if now < expiry:
        assessment.wake(expiry)
        return ()
    return (Delete("DeepSeekJob", job.key.namespace, job.key.name, job.uid),)


def _by_uid(assigns: tuple[Assign, ...]) -> dict[str, tuple[Assign, ...]]:
    grouped: dict[str, tuple[Assign, ...]] = {}
    for assign in assigns:
        grouped[assign.uid] = (*grouped.get(assign.uid, ()), assign)
    return grouped
