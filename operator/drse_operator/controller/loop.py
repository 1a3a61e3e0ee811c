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
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from drse_operator.admission.decisions import Assign, Mention, Plan, Release, Tell, Wait
from drse_operator.admission.discretion import for_reader_of, release_for_owner, wait_for_owner
from drse_operator.admission.planner import Planner
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.enums import ScalingMode
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import EventReason, StateReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.usage import Conflict, Usage
from drse_operator.cluster.world import World
from drse_operator.controller import planned, telling
from drse_operator.controller.executor import Executor, Work
from drse_operator.controller.forecasts import Forecasts
from drse_operator.controller.pace import Pace
from drse_operator.controller.starts import Starts
from drse_operator.controller.sweep import Sweep
from drse_operator.controller.timers import Timers
from drse_operator.observe.journal import Journal
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
#: Seconds until what was not told since too much is told at once is looked at again.
_TOLD_LATER = 1.0
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
        reports: tuple[Callable[[Snapshot, Plan], None], ...],
        journal: Journal,
        starts: Starts,
        planner: Planner,
    ) -> None:
        self.last_pass = time.monotonic()
        self._world = world
        self._picture = picture
        self._executor = executor
        self._forecasts = forecasts
        self._metrics = metrics
        self._settings = settings
        self._reports = reports
        self._journal = journal
        self._starts = starts
        self._planner = planner
        self._sweep = Sweep()
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

    def touch_told(self) -> None:
        """There are new starts to tell."""
        self._sweep.touch()
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
                # In whole microseconds, as times are written: what is read back is then the very same.
                self.make_pass(round(time.time(), 6))
                self.last_pass = time.monotonic()
            except Exception:
                self._metrics.pass_failures.inc()
                log.exception("a pass failed; it is made again")
                await asyncio.sleep(1)
            await self._sleep()

    async def _sleep(self) -> None:
        now = time.time()
        timeout = min(_RESYNC, self._timers.wait(now), self._sweep.wait(now))
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
            tell = Tell(tuple(judged), self._sweep.next(now))
            decisions = self._plan(snapshot, now, tell)
            self._picture.remember(snapshot, decisions)
        except Exception:
            # What was planned with is in doubt: the statuses are not.
            self._planner.forget()
            self._picture.forget()
            raise
        finally:
            for uid in judged:
                self._world.settle(uid)
        self._submit_all(judged, decisions, now)
        self._sweep.take(decisions.pending, bool(judged or decisions.assign or decisions.release))
        self._pass_seconds = time.perf_counter() - started
        self._metrics.plan_seconds.observe(self._pass_seconds)
        self._metrics.take_plan(snapshot, decisions, usage, now)
        for report in self._reports:
            report(snapshot, decisions)

    def _plan(self, snapshot: Snapshot, now: float, tell: Tell) -> Plan:
        planner = self._planner
        audits, drifts = planner.audits, planner.drifts
        decisions = planner.plan(snapshot, now, tell, self._picture.durations(snapshot))
        self._metrics.plan_audits.inc(planner.audits - audits)
        self._metrics.plan_drifts.inc(planner.drifts - drifts)
        if planner.drifts > drifts:
            log.error("the engine kept between passes had drifted: one made anew decides otherwise")
        return decisions

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
            first = for_reader_of(job.key.namespace, str(lost.first), self._mention(lost.first))
            _give_way(assessment, lost.second_replica, lost.uuid, first)
        self._take_scaling(job, assessment, now)
        completed = assessment.ended is StateReason.WORKERS_SUCCEEDED
        assessment.status = planned.with_ran(assessment.status, job, completed, now)
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
            self._journal.scaled(job, before, after, scaling, now)

    # -- handing over ----------------------------------------------------------------------------------

    def _submit_all(self, judged: dict[str, Assessment], decisions: Plan, now: float) -> None:
        """Assignments first, in the order they were promised; then everybody else."""
        waits = {wait.uid: wait_for_owner(wait) for wait in self._starts.tell(decisions.wait)}
        assigns = _by_uid(decisions.assign)
        releases = {release.uid: release_for_owner(release) for release in decisions.release}
        takers = self._takers(decisions.release)
        ordered = dict.fromkeys([*assigns, *releases, *judged, *takers, *waits])
        for uid in ordered:
            job = self._world.job(uid)
            if job is None or self._executor.busy(uid):
                continue
            assessment = judged.get(uid)
            wait = waits.get(uid)
            only_waits = not any(uid in decided for decided in (judged, assigns, releases, takers))
            if only_waits and (wait is None or not self._worth_telling(job, wait, now)):
                continue
            assessment = assessment or Assessment(job.status)
            assessment.events += takers.get(uid, ())
            try:
                self._submit(job, assessment, assigns.get(uid, ()), releases.get(uid), wait, now)
            except Exception as error:
                self._set_aside(job, error)

    def _takers(self, releases: tuple[Release, ...]) -> dict[str, list[Event]]:
        """What to tell those for whom GPUs are taken from others, by uid."""
        told: dict[str, list[Event]] = {}
        for release in releases:
            taker = self._named(release.taker)
            if taker is not None:
                message = f"replicas {list(release.replicas)} of {release.key} give way: {release.message}"
                message = for_reader_of(taker.key.namespace, message, self._mention(release.key))
                told.setdefault(taker.uid, []).append(Event(EventReason.PREEMPTING, message))
        return told

    def _named(self, key: JobKey | None) -> Job | None:
        return None if key is None else self._world.jobs.get(key.namespace, key.name)

    def _mention(self, key: JobKey) -> Mention:
        job = self._named(key)
        return Mention(key, "" if job is None or job.spec is None else job.spec.queue)

    def _worth_telling(self, job: Job, wait: Wait, now: float) -> bool:
        """Whether a wait, being all there is to say, must be written now. Most need not: this is cheap."""
        before = job.status.queue
        if before is None or job.status.assignments:
            return True
        due = self._pace.told_from(job.uid, before, wait, now)
        if due <= now:
            if self._pace.may_tell(now):
                return True
            due = now + _TOLD_LATER
        if due < math.inf and job.spec is not None:
            self._sweep.again(job.spec.queue, due)
        return False

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
        status = planned.with_place(assessment.status, self._picture.place(job.uid))
        taker = None if release is None else self._named(release.taker)
        status = _decided(job, status, assigns, release, taker, wait, now)
        status = summarize(seen, status, now, assessment.ended, assessment.ended_message)
        actions = (*converge(seen, status, self._settings.images), *_expired(job, status, assessment, now))
        turned = telling.turned(job.status, status)
        events = (*assessment.events, *telling.decisions(job, assigns, release, wait), *turned)
        if turned and any(p.reason is StateReason.DEVICE_MISMATCH for p in seen.problems):
            self._metrics.mismatches.inc()
        if assessment.wake_at is not None:
            self._timers.set(job.uid, assessment.wake_at)
        if (
            assigns
            and (queue := self._world.queues.get("", job.spec.queue if job.spec is not None else ""))
            and queue.spec is not None
        ):
            # From then on others may take its GPUs.
            self._timers.set(job.uid, now + queue.spec.min_runtime_seconds)
        due = self._pace.due(job.status, status, job.uid, now)
        if due > now and not actions and not events:
            if due < math.inf:
                self._timers.set(job.uid, due)
            return
        changed = status != job.status
        if not changed and not actions and not events:
            return
        if changed:
            self._pace.written(job.uid, now)
        self._metrics.take_events(events)
        urgent = bool(assigns or release or actions or job.status.assignments)
        self._executor.submit(Work(job.uid, job, status if changed else None, actions, events, urgent))


def _decided(
    job: Job,
    status: DeepSeekJobStatus,
    assigns: tuple[Assign, ...],
    release: Release | None,
    taker: Job | None,
    wait: Wait | None,
    now: float,
) -> DeepSeekJobStatus:
    for assign in assigns:
        status = planned.with_assign(status, assign, now)
    if release is not None:
        status = planned.with_release(status, release, job, taker, now)
    return planned.with_wait(status, wait, now)


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
