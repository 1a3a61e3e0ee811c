"""What earlier plans left: of our own, kept at hand; of anybody's, read from the statuses.

Both tell the same (P7). The leader reads the statuses once, when it begins to lead, and later writes them;
the command line reads them each time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drse_operator.admission.decisions import Memory, Plan
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES
from drse_operator.admission.persistence import durations
from drse_operator.admission.recall import recall
from drse_operator.admission.snapshot import Ended, FlowKey, Learned, Mark, Snapshot
from drse_operator.api import times
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import tags
from drse_operator.cluster.world import World

#: Estimates are made anew so seldom that it takes at most this part of the time.
_ESTIMATING = 0.02
#: Attempts of one job that are remembered: those that may still be judged again.
_ATTEMPTS = 64
#: Seconds that estimates stay as they are at least: what waits is put in order by them.
_ESTIMATES = 10.0


def from_statuses(statuses: Mapping[str, GPUQueueStatus], seen: Snapshot, ended: Iterable[Ended]) -> Snapshot:
    """A snapshot with the memory that the statuses of the queues hold, brought up to date."""
    written, learned = tags.read_all(statuses)
    news = [over for over in ended if over.queue in written and over.ended_at > written[over.queue].clock_at]
    memory = recall(written, seen.queues, seen.jobs, news, DEFAULT_RULES.quantum)
    return _with(replace(seen, learned=tags.learn(learned, news)), memory)


def _with(seen: Snapshot, memory: Memory) -> Snapshot:
    return replace(seen, flows=memory.flows, virtual_time=memory.virtual_time, clock_at=memory.clock_at)


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a flow was charged for a replica that the API server may not know of yet."""

    uid: str
    replica: int
    since: str
    flow: FlowKey
    charged: float


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Replicas of a job that gave their GPUs back, by when they got them; whether the job ended with them."""

    replicas: tuple[int, ...]
    began: float
    ended: bool


class Recent:
    """What our own plans have left."""

    def __init__(self, first: Snapshot) -> None:
        self.marks: dict[str, Mark] = {}
        self.memory = Memory()
        self.learned: tuple[Learned, ...] = first.learned
        self._promises: list[_Promise] = []
        #: Attempts that have been accounted for, by uid of their job.
        self._taken: dict[str, list[_Attempt]] = {}
        self._first = True
        self._durations: tuple[tuple[Learned, ...], Durations] | None = None
        self._estimated = (0.0, 0.0)

    def complete(self, seen: Snapshot, ended: Iterable[Ended], world: World) -> Snapshot:
        """A snapshot with what our plans remember, and with what has ended since the last of them."""
        news = [over for over in ended if not self._accounted(over)]
        now = self.memory.clock_at or 0.0
        lost = [_refund(p, now) for p in self._promises if _is_lost(p, world)]
        gone = [] if self._first else [over for job in world.departed if (over := tags.departed(job, now))]
        learned = tags.learn(self.learned, news)
        return _with(replace(seen, learned=learned, ended=(*news, *lost, *gone)), self.memory)

    def take(self, snapshot: Snapshot, plan: Plan, world: World) -> None:
        """A plan was made from the snapshot."""
        if self._first:
            self._account_for_the_past(world)
            self._first = False
        for over in snapshot.ended:
            if over.replicas:
                self._taken[over.uid] = [*self._taken.get(over.uid, ())[-_ATTEMPTS:], _attempt(over)]
        world.departed.clear()
        self.learned, self.memory = snapshot.learned, plan.memory
        # A promise that is lost has just been paid back.
        self._promises = [p for p in self._promises if _is_open(p, world) and not _is_lost(p, world)]
        since = times.to_wire_exact(plan.memory.clock_at or 0.0)
        for assign in plan.assign:
            replicas = sorted({p.replica for p in assign.placements})
            self._promises += [
                _Promise(
                    assign.uid, r, since, snapshot.by_uid[assign.uid].flow, assign.charged / len(replicas)
                )
                for r in replicas
            ]
        self.marks |= plan.memory.marks
        for uid in [uid for uid in self.marks if (job := world.job(uid)) is None or job.status.mark]:
            del self.marks[uid]
        for uid in [uid for uid in self._taken if world.job(uid) is None]:
            del self._taken[uid]

    def durations(self, learned: tuple[Learned, ...]) -> Durations:
        """Estimates from what was learned; a little behind where that takes its time."""
        started = time.monotonic()
        due, took = self._estimated
        if self._durations is None or (self._durations[0] is not learned and started >= due):
            self._durations = (learned, durations(learned))
            took = time.monotonic() - started
            self._estimated = (started + max(_ESTIMATES, took / _ESTIMATING), took)
        return self._durations[1]

    def _accounted(self, over: Ended) -> bool:
        """Whether that is known. A write that failed is judged again, with a later end: it ends only once."""
        mine = _attempt(over)
        return any(one.ended or one == mine for one in self._taken.get(over.uid, ()))

    def _account_for_the_past(self, world: World) -> None:
        """What jobs show now has been brought into the memory that we began with."""
        for job in world.all_jobs():
            ran = job.status.ran
            if ran is not None and (over := tags.ended(job, ran)) is not None:
                self._taken[job.uid] = [_attempt(over)]


def _attempt(over: Ended) -> _Attempt:
    return _Attempt(over.replicas, round(over.ended_at - over.seconds, 3), over.completed)


def _refund(promise: _Promise, now: float) -> Ended:
    """A promise that was never written down costs nothing."""
    return Ended(
        uid=promise.uid,
        queue=promise.flow.queue,
        task_type=promise.flow.task_type,
        gpus=0,
        seconds=0.0,
        ended_at=now,
        used=0.0,
        charged=promise.charged,
        completed=False,
    )


def _is_lost(promise: _Promise, world: World) -> bool:
    """Whether the promise was neither written nor is being written."""
    return _is_open(promise, world) and not _shows(promise, world, assumed=True)


def _is_open(promise: _Promise, world: World) -> bool:
    """Whether the API server has not yet shown the promise."""
    return not _shows(promise, world, assumed=False)


def _shows(promise: _Promise, world: World, assumed: bool) -> bool:
    job = world.job(promise.uid) if assumed else world.stored(promise.uid)
    return job is None or any(
        a.replica == promise.replica and a.since == promise.since for a in job.status.assignments
    )
