"""One look at the cluster, and everything that follows from it, each thing worked out at most once.

A reader with all rights sees what the operator sees and asks the same planner. A reader who may list only
some kinds, or only some namespaces, gets a scene that is not ``complete``: planning on half a picture would
answer wrongly, so the views then fall back on what the operator has written into the statuses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

from drse_operator.admission.decisions import Eta, Mention, Plan
from drse_operator.admission.discretion import discreet
from drse_operator.admission.dispatch import Outcome
from drse_operator.admission.engine import Engine
from drse_operator.admission.eta import Calibration, forward
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Job as Asking
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.keys import JobKey
from drse_operator.cluster import tags
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.usage import Usage
from drse_operator.cluster.world import World
from drse_operator.workloads.observed import Job
from drse_operator.workloads.wanted import wanted_replicas


class UnknownJobError(LookupError):
    """There is no job of that name, or the reader may not see it."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which jobs are shown; None means all."""

    queue: str | None = None
    namespaces: frozenset[str] | None = None
    keys: frozenset[JobKey] | None = None

    def shows(self, job: Job) -> bool:
        """Whether a job is among them."""
        return (
            (self.queue is None or (job.spec is not None and job.spec.queue == self.queue))
            and (self.namespaces is None or job.key.namespace in self.namespaces)
            and (self.keys is None or job.key in self.keys)
        )


EVERYWHERE = Where()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a job, or its next replica, waits. ``gpus`` is how many it lacks; ``mentions`` are the other jobs
    that the message names."""

    job: Job
    reason: str
    message: str
    position: int | None
    gpus: int
    mentions: tuple[Mention, ...] = ()

    def told_to(self, may_name: Callable[[JobKey], bool]) -> Waiting:
        """The wait without the names of jobs that the reader may not know."""
        if all(may_name(mention.key) for mention in self.mentions):
            return self
        return replace(self, message=discreet(self.message, self.mentions, may_name), mentions=())


@dataclass(frozen=True, slots=True)
class Settled:
    """The engine after a pass, and what the pass found: reservations, who is blocked."""

    engine: Engine
    outcome: Outcome


class Scene:
    """The cluster at ``now`` (seconds since the epoch).

    ``unread`` names the kinds (plural) that could not be listed in the whole cluster. ``visible`` are the
    namespaces whose jobs may be named to the reader, all when None; other jobs appear only in numbers.
    """

    def __init__(
        self,
        world: World,
        now: float,
        unread: Collection[str] = (),
        visible: frozenset[str] | None = None,
        picture: Picture | None = None,
    ) -> None:
        self.world = world
        self.now = now
        self.unread = tuple(sorted(unread))
        self.visible = visible
        self.picture = Picture(world) if picture is None else picture

    @property
    def complete(self) -> bool:
        """Whether everything that the planner looks at is known."""
        return not self.unread

    def as_seen_by(self, namespaces: frozenset[str] | None) -> Scene:
        """The same look for a reader to whom only jobs of these namespaces may be named."""
        _ = self.waits, self.asking, self.settled if self.complete else None
        seen = copy(self)  # what has been worked out so far is shared
        seen.visible = namespaces
        seen.waits = {uid: wait.told_to(seen.may_name) for uid, wait in self.waits.items()}
        return seen

    # -- what follows from it --------------------------------------------------------------------------

    @cached_property
    def usage(self) -> Usage:
        """Who holds which GPUs."""
        return self.picture.usage()

    @cached_property
    def snapshot(self) -> Snapshot:
        """The operator's snapshot."""
        return self.picture.snapshot(self.usage)

    @cached_property
    def plan(self) -> Plan:
        """The operator's next decision; an empty one when the scene is not complete."""
        return plan(self.snapshot, self.now) if self.complete else Plan()

    @cached_property
    def settled(self) -> Settled:
        """The engine after the same pass, for what a plan does not carry."""
        engine = Engine.of(self.snapshot, self.now)
        return Settled(engine, engine.decide(self.now))

    @cached_property
    def waits(self) -> dict[str, Waiting]:
        """Why jobs wait, by uid, in the order of their turns: by the plan, or as last written without one."""
        if self.complete:
            jobs = {job.uid: job for job in self.world.all_jobs()}
            return {
                w.uid: Waiting(job, w.reason, w.message, w.position, w.gpus or _lacking(job), w.mentions)
                for w in self.plan.wait
                for job in (jobs[w.uid],)
            }
        return written(self.world)

    @cached_property
    def asking(self) -> dict[str, Asking]:
        """Jobs that take part in admission, as the planner sees them, by uid."""
        return {job.uid: job for job in self.snapshot.jobs}

    @cached_property
    def starting(self) -> frozenset[str]:
        """Uids of jobs that the next plan gives GPUs."""
        return frozenset(assign.uid for assign in self.plan.assign)

    # -- jobs ------------------------------------------------------------------------------------------

    def job(self, key: JobKey) -> Job:
        """A job by name. Raises UnknownJobError."""
        found = self.world.jobs.get(key.namespace, key.name)
        if found is None or not self.may_name(key):
            raise UnknownJobError(f"there is no DeepSeekJob {key.name} in namespace {key.namespace}")
        return found

    def may_name(self, key: JobKey) -> bool:
        """Whether the reader may learn the job's name."""
        return self.visible is None or key.namespace in self.visible

    def etas(self, uids: Collection[str]) -> dict[str, Eta]:
        """Expected starts: as the operator has told them, else by a forward run, corrected as theirs."""
        told = {uid: eta for uid in uids if (eta := self.told(uid)) is not None}
        asked = [uid for uid in uids if uid not in told]
        if not asked or not self.complete:
            return told
        starts = forward(self.snapshot, self.now, asked)
        jobs = {uid: job for uid in starts if (job := self.world.job(uid)) is not None}
        return told | {uid: self.calibrated(job, starts[uid]) for uid, job in jobs.items()}

    def calibrated(self, job: Job, start: float) -> Eta:
        """What to tell of an expected start that a forward run has found."""
        queue = self.world.queues.get("", queue_of(job))
        known = Calibration() if queue is None else tags.calibration(queue.status)
        return known.eta(start, self.now)

    def told(self, uid: str) -> Eta | None:
        """Expected start of a job as the operator has written it."""
        job = self.world.job(uid)
        queue = None if job is None else job.status.queue
        if queue is None or queue.eta is None or queue.eta.p50 is None or queue.eta.p90 is None:
            return None
        return Eta(times.from_wire(queue.eta.p50), times.from_wire(queue.eta.p90))


def queue_of(job: Job) -> str:
    """Name of the job's queue; empty when its spec does not parse."""
    return "" if job.spec is None else job.spec.queue


def written(world: World) -> dict[str, Waiting]:
    """Why jobs wait, by uid, as the operator last wrote it, in the order of their turns."""
    found = [wait for job in world.all_jobs() if (wait := _written(job)) is not None]
    found.sort(
        key=lambda w: (queue_of(w.job), w.position or sys.maxsize, w.job.key.namespace, w.job.key.name)
    )
    return {wait.job.uid: wait for wait in found}


def _written(job: Job) -> Waiting | None:
    """A wait as the operator has written it."""
    queue = job.status.queue
    if queue is None:
        return None
    return Waiting(job, queue.reason, queue.message, queue.position, _lacking(job))


def _lacking(job: Job) -> int:
    """GPUs that the job lacks, as far as its own words tell."""
    if job.spec is None:
        return 0
    replicas = max(0, wanted_replicas(job.spec, job.status) - job.status.replicas)
    return replicas * (job.status.gpus_per_replica or job.spec.resources.gpus_per_replica or 0)
