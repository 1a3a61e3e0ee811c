"""The decisions, with the numbers behind them: a bounded list, newest last.

Statuses say how things stand and events are gone after an hour; who got what, why, and at whose expense is
asked days later. The journal keeps the latest decisions, whole, in the order they were made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from drse_operator.admission.decisions import Assign, Plan, Release, ReleaseReason, Wait
from drse_operator.admission.moves import is_off
from drse_operator.admission.snapshot import Job as Asking
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.base import StatusModel
from drse_operator.api.reasons import WaitReason
from drse_operator.api.status import ScalingStatus
from drse_operator.api.types import Time
from drse_operator.api.words import Word
from drse_operator.workloads.observed import Job

#: Decisions that are kept.
KEPT = 2000


class DecisionKind(Word):
    """What was decided."""

    ADMIT = ("Admit", "GPUs were promised.")
    RESERVE = ("Reserve", "The job is first in order and GPUs are being kept for it.")
    PREEMPT = ("Preempt", "GPUs were taken back for somebody else.")
    SHRINK = ("Shrink", "Replicas beyond those wanted were given up.")
    SCALE = ("Scale", "The wanted number of replicas changed.")
    DENY = ("Deny", "The job cannot start as it is; its owner must act.")


class Decision(StatusModel):
    """One decision. ``numbers`` are those it was made by; their units are in the names."""

    at: Time = Field(description="When it was made.")
    kind: str = Field(description="Admit, Reserve, Preempt, Shrink, Scale or Deny.")
    namespace: str = Field(description="Namespace of the job.")
    job: str = Field(description="Name of the job.")
    queue: str = Field(description="Queue of the job.")
    gpus: int = Field(description="GPUs that it is about.")
    reason: str = Field(description="Typed reason.")
    by: str = Field(default="", description="Who it was made for, when that is another job.")
    effect: str = Field(default="", description="What follows, in a sentence.")
    numbers: dict[str, float] = Field(default_factory=dict, description="The numbers behind it.")


@dataclass(frozen=True, slots=True)
class _Record:
    """What a decision says besides when, what kind and in which queue."""

    namespace: str
    job: str
    gpus: int
    reason: str
    by: str = ""
    effect: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


class Journal:
    """Turns what passes decide into records."""

    def __init__(self, kept: Iterable[Decision] = ()) -> None:
        self._latest: deque[Decision] = deque(kept, maxlen=KEPT)
        #: Records made so far: grows with each, so that a writer sees whether there is news.
        self.made = 0
        #: Why somebody could not start when it was last recorded, and for when GPUs were kept last, by uid.
        self._denied: dict[str, str] = {}
        self._reserved: dict[str, float] = {}

    @property
    def latest(self) -> tuple[Decision, ...]:
        """The decisions that are kept, oldest first."""
        return tuple(self._latest)

    def take(self, snapshot: Snapshot, plan: Plan, now: float) -> None:
        """Record what a plan decides."""
        if not plan.assign and not plan.release and not plan.wait:
            return
        jobs = snapshot.by_uid
        for assign in plan.assign:
            job = jobs[assign.uid]
            self._denied.pop(assign.uid, None)
            self._reserved.pop(assign.uid, None)
            self._add(now, DecisionKind.ADMIT, job.queue, _admitted(assign, now - _asked_at(job, now)))
        for release in plan.release:
            job = jobs[release.uid]
            gpus = sum(h.count for h in job.holdings if h.replica in release.replicas)
            self._add(now, _kind(release), job.queue, _released(release, gpus))
        starts = {reserved.uid: reserved.start for reserved in plan.reserved}
        for wait in plan.wait:
            kind = self._news(wait, starts.get(wait.uid), now)
            if kind is not None:
                self._add(now, kind, jobs[wait.uid].queue, _waits(wait))
        for known in (self._denied, self._reserved):
            if len(known) > 2 * len(jobs):
                for uid in known.keys() - jobs.keys():
                    del known[uid]

    def _news(self, wait: Wait, start: float | None, now: float) -> DecisionKind | None:
        """What a wait decides that has not been recorded: GPUs that are kept are told once, whoever goes
        first meanwhile, and again when the time for which they are kept has moved."""
        if wait.reason.user_must_act:
            same = self._denied.get(wait.uid) == wait.reason
            self._denied[wait.uid] = wait.reason
            return None if same else DecisionKind.DENY
        self._denied.pop(wait.uid, None)
        if wait.reason is not WaitReason.RESERVED or start is None:
            return None
        before = self._reserved.get(wait.uid)
        if before is not None and not is_off(before, start, now):
            return None
        self._reserved[wait.uid] = start
        return DecisionKind.RESERVE

    def scaled(self, job: Job, before: int, after: int, scaling: ScalingStatus, now: float) -> None:
        """Record a change of the wanted number of replicas."""
        per_replica = job.status.gpus_per_replica or 0
        numbers = {
            "replicas_before": float(before),
            "replicas_after": float(after),
            "load_gpus": scaling.load,
            "forecast_p50_gpus": scaling.forecast_p50,
            "forecast_p90_gpus": scaling.forecast_p90,
            "capacity_gpus": scaling.capacity,
        }
        record = _Record(
            job.key.namespace,
            job.key.name,
            abs(after - before) * per_replica,
            scaling.reason,
            effect=scaling.message,
            numbers={name: float(value) for name, value in numbers.items() if value is not None},
        )
        self._add(now, DecisionKind.SCALE, job.spec.queue if job.spec is not None else "", record)

    def _add(self, now: float, kind: DecisionKind, queue: str, record: _Record) -> None:
        self.made += 1
        self._latest.append(
            Decision(
                at=times.to_wire(now),
                kind=kind,
                namespace=record.namespace,
                job=record.job,
                queue=queue,
                gpus=record.gpus,
                reason=record.reason,
                by=record.by,
                effect=record.effect,
                numbers=record.numbers,
            )
        )


def _admitted(assign: Assign, waited: float) -> _Record:
    nodes = ", ".join(dict.fromkeys(p.node for p in assign.placements))
    gpus = sum(p.count for p in assign.placements)
    numbers = {
        "waited_seconds": max(0.0, round(waited, 1)),
        "charged_cluster_seconds": round(assign.charged, 3),
        "dominant_share": round(assign.share, 6),
    }
    effect = f"{gpus} x {assign.shape.kind.product} on {nodes}"
    return _Record(assign.key.namespace, assign.key.name, gpus, "Assigned", effect=effect, numbers=numbers)


def _released(release: Release, gpus: int) -> _Record:
    taker = "" if release.taker is None else str(release.taker)
    key = release.key
    return _Record(key.namespace, key.name, gpus, release.reason, taker, release.message)


def _asked_at(job: Asking, now: float) -> float:
    """Since when the GPUs that a job gets at ``now`` have been asked for: since it waits, not since it came;
    one that holds some and was not told to wait has asked just now."""
    if job.waiting_since is not None:
        return job.waiting_since
    return now if job.holdings else job.queued_at


def _kind(release: Release) -> DecisionKind:
    preempted = release.reason is ReleaseReason.PREEMPTED
    return DecisionKind.PREEMPT if preempted else DecisionKind.SHRINK


def _waits(wait: Wait) -> _Record:
    return _Record(wait.key.namespace, wait.key.name, wait.gpus, wait.reason, effect=wait.message)
