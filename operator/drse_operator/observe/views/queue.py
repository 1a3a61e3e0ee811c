"""Who waits, for what reason, and until when."""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from drse_operator.api import times
from drse_operator.api.reasons import WaitReason
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.scene import EVERYWHERE, Scene, Waiting, Where, queue_of
from drse_operator.workloads.observed import Job

#: What only somebody who acts can clear; asked of thousands of jobs for every look.
_MUST_ACT = frozenset(reason.value for reason in WaitReason if reason.user_must_act)
#: Expected starts are worked out for so many of each queue where the operator has not told them.
_FORETOLD = 20


class EtaMove(Row):
    """An expected start that was told, and what became of it."""

    at: Instant = Field(description="When the new start was told.")
    was_p50: Instant = Field(description="p50 as it was told until then.")
    was_p90: Instant = Field(description="p90 as it was told until then.")
    seconds: float = Field(description="How much later the p50 is now; negative when it is earlier.")
    reason: str = Field(description="Typed reason of the move, see the API reference.")
    says: str = Field(description="The cause in words.")


class QueueRow(Row):
    """A job that waits for GPUs, or for those of a further replica."""

    position: int | None = Field(description="Place in its queue; null where somebody has to act first.")
    namespace: str
    job: str
    queue: str
    task_type: str
    priority_class: str | None = Field(description="PriorityClass that the job names.")
    priority: int | None = Field(description="Its value; null when PriorityClasses may not be read.")
    gpus: int = Field(description="GPUs that the job lacks.")
    reason: str = Field(description="Typed reason of the wait, see the API reference.")
    message: str = Field(description="The reason with its numbers.")
    must_act: bool = Field(description="Whether no passing of time clears the reason.")
    queued_at: Instant = Field(description="When the job entered its queue.")
    waited_seconds: float = Field(description="Time since then.")
    eta_p50: Instant | None = Field(description="As likely earlier as later than this.")
    eta_p90: Instant | None = Field(description="Nine in ten start before this.")
    moved: EtaMove | None = Field(description="Last move of the expected start; null while there was none.")


class QueueReport(Report):
    """The waiting jobs, by queue and in the order of their turns."""

    items: tuple[QueueRow, ...]
    hidden_jobs: int = Field(default=0, description="Waiting jobs that may not be named to the reader.")
    hidden_gpus: int = Field(default=0, description="GPUs that these lack.")


def queue(scene: Scene, where: Where = EVERYWHERE) -> QueueReport:
    """The waiting jobs that ``where`` shows."""
    shown = [wait for wait in scene.waits.values() if where.shows(wait.job)]
    named = [wait for wait in shown if scene.may_name(wait.job.key)]
    etas = scene.etas(_foretold(named))
    rows = []
    for wait in named:
        job, eta = wait.job, etas.get(wait.job.uid)
        queued_at = queued(job)
        asking = scene.asking.get(job.uid) if scene.complete else None
        rows.append(
            QueueRow(
                position=wait.position,
                namespace=job.key.namespace,
                job=job.key.name,
                queue=queue_of(job),
                task_type="" if job.spec is None else job.spec.task_type,
                priority_class=None if job.spec is None else job.spec.priority_class_name,
                priority=None if asking is None else asking.priority,
                gpus=wait.gpus,
                reason=wait.reason,
                message=wait.message,
                must_act=must_act(wait.reason),
                queued_at=instant(queued_at),
                waited_seconds=round(max(0.0, scene.now - queued_at), 1),
                eta_p50=instant_or_none(None if eta is None else eta.p50),
                eta_p90=instant_or_none(None if eta is None else eta.p90),
                moved=moved(job),
            )
        )
    return QueueReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        items=tuple(rows),
        hidden_jobs=len(shown) - len(named),
        hidden_gpus=sum(w.gpus for w in shown) - sum(w.gpus for w in named),
    )


def queued(job: Job) -> float:
    """When the job entered its queue, in seconds since the epoch."""
    return times.from_wire_or(job.status.queued_at, job.created)


def moved(job: Job) -> EtaMove | None:
    """The last move of the start that the operator has told, as it has written it."""
    eta = None if job.status.queue is None else job.status.queue.eta
    if eta is None or eta.p50 is None or eta.moved is None:
        return None
    was = times.from_wire(eta.moved.p50)
    return EtaMove(
        at=instant(times.from_wire(eta.moved.at)),
        was_p50=instant(was),
        was_p90=instant(times.from_wire(eta.moved.p90)),
        seconds=times.from_wire(eta.p50) - was,
        reason=eta.moved.reason,
        says=eta.moved.message,
    )


def must_act(reason: str) -> bool:
    """Whether somebody has to act before the wait can end; False for words of a newer operator."""
    return reason in _MUST_ACT


def _foretold(waits: list[Waiting]) -> list[str]:
    """The first of each queue: further back, expected starts say little and cost much."""
    seen: Counter[str] = Counter()
    uids = []
    for wait in waits:
        seen[queue_of(wait.job)] += 1
        if seen[queue_of(wait.job)] <= _FORETOLD and not must_act(wait.reason):
            uids.append(wait.job.uid)
    return uids
