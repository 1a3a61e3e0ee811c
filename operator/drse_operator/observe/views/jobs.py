"""All jobs with where they stand."""

from __future__ import annotations

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


def jobs(scene: Scene, where: Where = EVERYWHERE, holding_only: bool = False) -> JobReport:
    """The jobs that ``where`` shows; with ``holding_only`` those that hold GPUs."""
    shown = [
        job
        for job in scene.world.all_jobs()
        if where.shows(job) and (job.status.assignments or not holding_only)
    ]
    named = sorted((job for job in shown if scene.may_name(job.key)), key=lambda job: job.key)
    rows = tuple(_row(scene, job) for job in named)
    held = sum(a.count for job in shown for a in job.status.assignments)
    return JobReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        items=rows,
        hidden_jobs=len(shown) - len(named),
        hidden_gpus=held - sum(row.gpus for row in rows),
    )


def _row(scene: Scene, job: Job) -> JobRow:
    spec, status, wait = job.spec, job.status, scene.waits.get(job.uid)
    ends = [free_at(scene, job, replica) for replica in {a.replica for a in status.assignments}]
    known = [end for end in ends if end is not None]
    told = None if wait is None else scene.told(job.uid)
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
        free_at=max(known) if known else None,
        finished_at=_moment(status.completion_time),
        created=instant(job.created),
        waited_seconds=None if wait is None else max(0.0, scene.now - queued(job)),
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
