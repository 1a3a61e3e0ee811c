"""What would happen if: the operator's planner on a copy of the cluster in which something is otherwise.

Nothing is created. A job that is asked about is planned exactly as the operator would plan it on the same
snapshot: it starts now, on these GPUs; or by taking GPUs from these jobs; or it waits, for this reason,
until about then. What that does to the others is told beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from pydantic import Field

from drse_operator.admission.decisions import Assign, ReleaseReason
from drse_operator.admission.eta import forward
from drse_operator.api.keys import JobKey
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.fork import Change, PutJob, PutQueue, fork
from drse_operator.observe.views.queue import must_act
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.share import share
from drse_operator.workloads.observed import Job

#: Starts that move by less than this are not told (seconds): the forward run is no more exact.
_SAME = 60.0
#: Fair shares that differ by less are not told (GPUs).
_SAME_GPUS = 0.1
#: Waiting jobs whose starts are compared, the first by queue and turn: a forward run to the last of thousands
#: takes long and says little.
_WATCHED = 200
#: Ends of jobs that such a run looks ahead at the most.
_STEPS = 1000


class Outcome(StrEnum):
    """What becomes of a job."""

    STARTS = "Starts"
    #: It starts when the jobs named have given way.
    PREEMPTS = "Preempts"
    WAITS = "Waits"
    #: It would never run as things are: somebody has to act.
    REFUSED = "Refused"


class Place(Row):
    """The GPUs of one worker."""

    replica: int
    worker: int
    node: str
    product: str
    count: int
    uuids: tuple[str, ...] = Field(description="Empty where the node's device plugin picks.")


class Answer(Row):
    """What would become of one of the jobs asked about."""

    namespace: str
    job: str
    queue: str
    outcome: Outcome
    places: tuple[Place, ...] = ()
    preempts: tuple[str, ...] = Field(default=(), description="Jobs that would give way, as namespace/name.")
    position: int | None = None
    reason: str | None = None
    message: str | None = None
    eta_p50: Instant | None = None
    eta_p90: Instant | None = None


class Shift(Row):
    """A waiting or running job that the change touches."""

    namespace: str
    job: str
    start_now: Instant | None = Field(description="Expected start as things are; null beyond the forecast.")
    start_then: Instant | None = Field(description="Expected start with the change.")
    never_now: bool = Field(description="Whether it starts only if somebody acts, as things are.")
    never_then: bool = Field(description="Whether it starts only if somebody acts, with the change.")
    delta_seconds: float | None
    runs_now: bool = Field(description="Whether it holds GPUs as things are.")
    loses_gpus: bool = Field(description="Whether it would lose GPUs that it holds now.")


class ShareShift(Row):
    """A queue whose settings or fair share the change touches. Null where there is no such queue."""

    queue: str
    weight_now: int | None
    weight_then: int | None
    fair_gpus_now: float | None = Field(description="Fair share of the cluster's GPUs as things are.")
    fair_gpus_then: float | None = Field(description="Fair share with the change.")
    held_gpus: int = Field(description="GPUs that its jobs hold now.")


class WhatIfReport(Report):
    """Answers for the jobs asked about, and what changes for others."""

    items: tuple[Answer, ...]
    shares: tuple[ShareShift, ...] = Field(
        default=(), description="Queues whose settings or fair share would be others."
    )
    shifts: tuple[Shift, ...]
    hidden_shifts: int = Field(default=0, description="Jobs touched that may not be named to the reader.")


@dataclass(frozen=True, slots=True)
class _Starts:
    """Expected starts by uid (seconds since the epoch): as things are, and with the change."""

    before: dict[str, float]
    after: dict[str, float]


class IncompleteSceneError(Exception):
    """The reader may not list something that the planner looks at."""


def whatif(scene: Scene, changes: Sequence[Change]) -> WhatIfReport:
    """The answer for all changes together. Raises IncompleteSceneError."""
    then = changed(scene, changes)
    asked = [job for c in changes if isinstance(c, PutJob) and (job := _find(then, c.key)) is not None]
    watched = _watched(scene, then)
    starts = _Starts(
        forward(scene.snapshot, scene.now, list(watched), steps=_STEPS),
        forward(then.snapshot, then.now, [*watched, *(job.uid for job in asked)], steps=_STEPS),
    )
    answers = tuple(answer(then, job, starts.after.get(job.uid)) for job in asked)
    shifts = _shifts(scene, then, watched, starts, {job.key for job in asked})
    named = tuple(s for s in shifts if scene.may_name(JobKey(s.namespace, s.job)))
    return WhatIfReport(
        as_of=instant(scene.now),
        items=answers,
        shares=_share_shifts(scene, then, {c.name for c in changes if isinstance(c, PutQueue)}),
        shifts=named,
        hidden_shifts=len(shifts) - len(named),
    )


def changed(scene: Scene, changes: Sequence[Change]) -> Scene:
    """The scene with the changes made. Raises IncompleteSceneError."""
    if not scene.complete:
        raise IncompleteSceneError(
            f"planning needs to see the whole cluster, and {', '.join(scene.unread)} may not be listed: "
            "ask an administrator for the right to list them"
        )
    return Scene(fork(scene.world, changes, scene.now), scene.now, visible=scene.visible)


def answer(then: Scene, job: Job, start: float | None) -> Answer:
    """What becomes of a job in a scene; ``start`` is its expected start (seconds since the epoch)."""
    queue = "" if job.spec is None else job.spec.queue
    base = Answer(namespace=job.key.namespace, job=job.key.name, queue=queue, outcome=Outcome.STARTS)
    assigns = [assign for assign in then.plan.assign if assign.uid == job.uid]
    if assigns:
        return base.model_copy(update={"places": places(assigns)})
    wait = then.waits.get(job.uid)
    if wait is None:
        held = "holds the GPUs that it asks for" if job.status.assignments else "asks for no GPUs"
        return base.model_copy(update={"message": held, "places": _held(job)})
    victims = victims_of(then, job)
    outcome = Outcome.REFUSED if must_act(wait.reason) else Outcome.WAITS
    eta = None if start is None else then.calibrated(job, start)
    return base.model_copy(
        update={
            "outcome": Outcome.PREEMPTS if victims else outcome,
            "preempts": tuple(str(key) for key in victims if then.may_name(key)),
            "position": wait.position,
            "reason": wait.reason,
            "message": wait.message,
            "eta_p50": None if eta is None or victims else instant(eta.p50),
            "eta_p90": None if eta is None or victims else instant(eta.p90),
        }
    )


def places(assigns: Sequence[Assign]) -> tuple[Place, ...]:
    """The GPUs of assignments, by replica and worker."""
    found = [
        Place(
            replica=p.replica,
            worker=p.worker,
            node=p.node,
            product=assign.shape.kind.product,
            count=p.count,
            uuids=tuple(sorted(d.uuid for d in p.devices)),
        )
        for assign in assigns
        for p in assign.placements
    ]
    return tuple(sorted(found, key=lambda p: (p.replica, p.worker)))


def victims_of(scene: Scene, job: Job) -> tuple[JobKey, ...]:
    """Jobs that the next plan takes GPUs from for this one."""
    return tuple(r.key for r in scene.plan.release if r.taker == job.key)


def _held(job: Job) -> tuple[Place, ...]:
    return tuple(
        Place(
            replica=a.replica,
            worker=a.worker,
            node=a.node,
            product=a.product,
            count=a.count,
            uuids=tuple(sorted(device.uuid for device in a.devices)),
        )
        for a in job.status.assignments
    )


def _find(scene: Scene, key: JobKey) -> Job | None:
    return scene.world.jobs.get(key.namespace, key.name)


def _watched(now: Scene, then: Scene) -> dict[str, Job]:
    """Jobs that wait or start in either scene, by uid: those whose start the change may move."""
    watched: dict[str, Job] = {}
    for scene in (now, then):
        watched |= {w.job.uid: w.job for w in islice(scene.waits.values(), _WATCHED)}
        watched |= {uid: job for uid in scene.starting if (job := scene.world.job(uid)) is not None}
    return watched


def _shifts(
    now: Scene, then: Scene, watched: dict[str, Job], starts: _Starts, asked: set[JobKey]
) -> list[Shift]:
    """Jobs whose start moves, and jobs that would lose GPUs now."""
    lost = _losers(now, then)
    touched = {**{uid: job for uid in lost if (job := now.world.job(uid)) is not None}, **watched}
    shifts = []
    for uid, job in touched.items():
        first, second = starts.before.get(uid), starts.after.get(uid)
        delta = None if first is None or second is None else second - first
        moves = first is not second if delta is None else abs(delta) >= _SAME
        if job.key not in asked and not _endless(now, then, uid) and (moves or uid in lost):
            never = _never(now, uid), _never(then, uid)
            shifts.append(_shift(job, first, second, delta, never, uid in lost))
    return sorted(shifts, key=lambda s: (not s.loses_gpus, -(s.delta_seconds or 0), s.namespace, s.job))


def _endless(now: Scene, then: Scene, uid: str) -> bool:
    """Whether the job can start in neither, for reasons that time does not clear."""
    return _never(now, uid) and _never(then, uid)


def _never(scene: Scene, uid: str) -> bool:
    wait = scene.waits.get(uid)
    return wait is not None and must_act(wait.reason)


def _share_shifts(now: Scene, then: Scene, asked: set[str]) -> tuple[ShareShift, ...]:
    """Queues that were asked about, and those whose fair share moves by a tenth of a GPU or more."""
    before = {row.queue: row for row in share(now).items}
    after = {row.queue: row for row in share(then).items}
    found = []
    for name in sorted({*before, *after}):
        first, second = before.get(name), after.get(name)
        fair_now = None if first is None else first.fair_gpus
        fair_then = None if second is None else second.fair_gpus
        if name in asked or abs((fair_then or 0.0) - (fair_now or 0.0)) >= _SAME_GPUS:
            found.append(
                ShareShift(
                    queue=name,
                    weight_now=None if first is None else first.weight,
                    weight_then=None if second is None else second.weight,
                    fair_gpus_now=fair_now,
                    fair_gpus_then=fair_then,
                    held_gpus=0 if first is None else first.held_gpus,
                )
            )
    return tuple(found)


def _losers(now: Scene, then: Scene) -> set[str]:
    """Uids of jobs that the change costs GPUs: with their node, or by a preemption that it brings about."""
    lost = {
        job.uid
        for job in now.world.all_jobs()
        if (other := then.world.job(job.uid)) is not None
        and len(other.status.assignments) < len(job.status.assignments)
    }
    return lost | (_preempted(then) - _preempted(now))


def _preempted(scene: Scene) -> set[str]:
    return {r.uid for r in scene.plan.release if r.reason is ReleaseReason.PREEMPTED}


def _shift(
    job: Job,
    first: float | None,
    second: float | None,
    delta: float | None,
    never: tuple[bool, bool],
    lost: bool,
) -> Shift:
    return Shift(
        namespace=job.key.namespace,
        job=job.key.name,
        start_now=instant_or_none(first),
        start_then=instant_or_none(second),
        never_now=never[0],
        never_then=never[1],
        delta_seconds=delta,
        runs_now=lost or bool(job.status.assignments),
        loses_gpus=lost,
    )
