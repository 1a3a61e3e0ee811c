"""All jobs with where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.gpus import free_at
from drse_operator.observe.views.queue import must_act, queued
from drse_operator.observe.views.scene import EVERYWHERE, Scene, Waiting, Where, queue_of
from drse_operator.workloads.observed import Job
from drse_operator.workloads.wanted import wanted_replicas


class JobRow(Row):
    """One job."""

    namespace: str
    job: str
    queue: str
    task_type: str
    model: str = Field(description="Name in the catalogue; empty for others.")
    priority_class: str | None
    user: str = Field(description="Who submitted it; empty when nobody has noted that.")
    state: str
    reason: str | None = Field(description="Why it, or its next replica, waits.")
    message: str | None
    position: int | None
    gpus: int = Field(description="GPUs held.")
    lacking_gpus: int
    ready: str = Field(description="Ready replicas of those wanted.")
    nodes: tuple[str, ...]
    load: float | None = Field(description="Load at the last scaling decision, in GPU-equivalents.")
    queued_at: Instant
    started_at: Instant | None
    free_at: Instant | None = Field(description="Expected end; null for services.")
    finished_at: Instant | None
    created: Instant
    waited_seconds: float | None = Field(description="Since it was queued; null when it does not wait.")
    eta_p50: Instant | None = Field(description="As likely earlier as later than this, as last written.")
    eta_p90: Instant | None = Field(description="Nine in ten start before this.")
    must_act: bool = Field(description="Whether it goes on only when somebody acts.")
    products: tuple[str, ...] = Field(description="Products of the GPUs held.")
    ready_replicas: int
    wanted_replicas: int
    preemptions: int
    failures: int


class JobReport(Report):
    """Jobs by namespace and name."""

    items: tuple[JobRow, ...]
    hidden_jobs: int = Field(default=0, description="Jobs that may not be named to the reader.")
    hidden_gpus: int = Field(default=0, description="GPUs that these hold.")


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A row and all that it was made from, but for the time."""

    job: Job
    wait: Waiting | None
    free_at: datetime | None
    row: JobRow


#: Rows by uid, kept by whoever looks again and again.
Known = dict[str, KnownRow]


def jobs(
    scene: Scene, where: Where = EVERYWHERE, holding_only: bool = False, known: Known | None = None
) -> JobReport:
    """The jobs that ``where`` shows; with ``holding_only`` those that hold GPUs.

    ``known`` are the rows of an earlier look, and afterwards those of this one: of thousands of jobs few
    change between two looks.
    """
    shown = [
        job
        for job in scene.world.all_jobs()
        if where.shows(job) and (job.status.assignments or not holding_only)
    ]
    named = sorted(
        (job for job in shown if scene.may_name(job.key)), key=lambda job: (job.key.namespace, job.key.name)
    )
    made = {job.uid: _known_row(scene, job, (known or {}).get(job.uid)) for job in named}
    rows = tuple(made[job.uid].row for job in named)
    if known is not None:
        known.clear()
        known.update(made)
    held = sum(a.count for job in shown for a in job.status.assignments)
    return JobReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        items=rows,
        hidden_jobs=len(shown) - len(named),
        hidden_gpus=held - sum(row.gpus for row in rows),
    )


def seen_by(report: JobReport, namespaces: frozenset[str]) -> JobReport:
    """The report for a reader to whom only jobs of these namespaces may be named."""
    rows = tuple(row for row in report.items if row.namespace in namespaces)
    held = sum(row.gpus for row in report.items)
    hidden = {
        "items": rows,
        "hidden_jobs": len(report.items) - len(rows),
        "hidden_gpus": held - sum(row.gpus for row in rows),
    }
    return report.model_copy(update=hidden)


def _known_row(scene: Scene, job: Job, before: KnownRow | None) -> KnownRow:
    """The row of a job; only its wait has gone on where nothing else is otherwise."""
    wait = scene.waits.get(job.uid)
    ends = [free_at(scene, job, replica) for replica in {a.replica for a in job.status.assignments}]
    end = max((end for end in ends if end is not None), default=None)
    if before is None or before.job is not job or before.wait != wait or before.free_at != end:
        return KnownRow(job, wait, end, _row(scene, job, wait, end))
    if wait is None:
        return before
    row = before.row.model_copy(update={"waited_seconds": _waited(scene, job)})
    return KnownRow(job, wait, end, row)


def _waited(scene: Scene, job: Job) -> float:
    return max(0.0, scene.now - queued(job))


def _row(scene: Scene, job: Job, wait: Waiting | None, end: datetime | None) -> JobRow:
    spec, status = job.spec, job.status
    told = None if wait is None else scene.told(job.uid)
    if wait is not None:
        # Rows are kept for readers of all kinds: they name what the job's own namespace may know.
        wait = wait.told_to(lambda key: key.namespace == job.key.namespace)
    return JobRow(
        namespace=job.key.namespace,
        job=job.key.name,
        queue=queue_of(job),
        task_type="" if spec is None else spec.task_type,
        model="" if spec is None or spec.model is None else spec.model.name or "",
        priority_class=None if spec is None else spec.priority_class_name,
        user=job.user,
        state=status.phase or Phase.QUEUED,
        reason=None if wait is None else wait.reason,
        message=_ended(job) if wait is None else wait.message,
        position=None if wait is None else wait.position,
        gpus=sum(a.count for a in status.assignments),
        lacking_gpus=0 if wait is None else wait.gpus,
        ready=status.ready,
        nodes=tuple(dict.fromkeys(a.node for a in status.assignments)),
        load=None if status.scaling is None else status.scaling.load,
        queued_at=instant(queued(job)),
        started_at=_moment(status.start_time),
        free_at=end,
        finished_at=_moment(status.completion_time),
        created=instant(job.created),
        waited_seconds=None if wait is None else _waited(scene, job),
        eta_p50=instant_or_none(None if told is None else told.p50),
        eta_p90=instant_or_none(None if told is None else told.p90),
        must_act=_must_act(job, wait),
        products=tuple(dict.fromkeys(a.product for a in status.assignments)),
        ready_replicas=status.ready_replicas,
        wanted_replicas=0 if spec is None else wanted_replicas(spec, status),
        preemptions=status.preemptions,
        failures=status.failures,
    )


def _ended(job: Job) -> str | None:
    """Why it does not parse, or how it failed."""
    failed = (c.message for c in job.status.conditions if c.type == "Failed" and c.status == "True")
    return job.invalid or next(failed, None)


def _must_act(job: Job, wait: Waiting | None) -> bool:
    failed = job.status.phase is Phase.FAILED
    return failed or bool(job.invalid) or (wait is not None and must_act(wait.reason))


def _moment(wire: str | None) -> datetime | None:
    return None if wire is None else instant(times.from_wire(wire))
