"""The decisions of a plan, written into the status of the jobs they are about."""

from __future__ import annotations

from drse_operator.admission.decisions import Assign, Placement, Release, ReleaseReason, Wait
from drse_operator.admission.snapshot import Mark
from drse_operator.api import times
from drse_operator.api.memory import Ran
from drse_operator.api.reasons import ConditionType, StateReason
from drse_operator.api.status import Assignment, DeepSeekJobStatus, Device, QueueStatus
from drse_operator.cluster import tags
from drse_operator.workloads import conditions
from drse_operator.workloads.conditions import State
from drse_operator.workloads.observed import Job


def with_assign(status: DeepSeekJobStatus, assign: Assign, now: float) -> DeepSeekJobStatus:
    """The GPUs are promised: this is what is written before anything is created."""
    added = tuple(_assignment(p, assign, now) for p in assign.placements)
    if any(c.type == ConditionType.PREEMPTED and c.status == "True" for c in status.conditions):
        state = State(False, StateReason.GPUS_ASSIGNED, "the job holds GPUs again")
        status = _preempted(status, state, status.observed_generation or 0, now)
    assignments = sorted((*status.assignments, *added), key=lambda a: (a.replica, a.worker))
    return status.model_copy(
        update={
            "assignments": tuple(assignments),
            "gpus_per_replica": assign.shape.gpus,
            "queue": None,
        }
    )


def with_release(
    status: DeepSeekJobStatus, release: Release, job: Job, taker: Job | None, now: float
) -> DeepSeekJobStatus:
    """The replicas are no longer promised; their objects go next. Who was preempted is told for whom."""
    kept = tuple(a for a in status.assignments if a.replica not in release.replicas)
    # The plan that decides this has closed its accounts: it belongs to the next one.
    status = with_ran(status.model_copy(update={"assignments": kept}), job, False, now + 1e-6)
    if release.reason is not ReleaseReason.PREEMPTED:
        return status
    same = taker is None or taker.spec is None or job.spec is None or taker.spec.queue == job.spec.queue
    why = StateReason.HIGHER_PRIORITY if same else StateReason.GUARANTEE_RECLAIMED
    return _preempted(status, State(True, why, release.message), job.generation, now).model_copy(
        update={"preemptions": status.preemptions + 1}
    )


def _preempted(status: DeepSeekJobStatus, state: State, generation: int, now: float) -> DeepSeekJobStatus:
    told = conditions.update(status.conditions, {ConditionType.PREEMPTED: state}, generation, now)
    return status.model_copy(update={"conditions": told})


def with_wait(status: DeepSeekJobStatus, wait: Wait | None, now: float) -> DeepSeekJobStatus:
    """Why the job waits; ``since`` is kept while it waits without a break."""
    if wait is None:
        return status if status.queue is None else status.model_copy(update={"queue": None})
    since = status.queue.since if status.queue is not None else times.to_wire(now)
    queue = QueueStatus(
        position=wait.position,
        reason=wait.reason,
        message=wait.message,
        since=since,
        eta=tags.eta(wait.told),
    )
    return status.model_copy(update={"queue": queue})


def with_ran(status: DeepSeekJobStatus, job: Job, completed: bool, at: float) -> DeepSeekJobStatus:
    """What replicas took that no longer hold the GPUs they had, for their flow's account.

    ``at`` is when they gave them back, ``completed`` that the job has run to its end. A job that is suspended
    loses its place: it comes back as a new one.
    """
    if job.spec is not None and job.spec.suspend and status.mark is not None:
        status = status.model_copy(update={"mark": None})
    kept = {(a.replica, a.worker, a.since) for a in status.assignments}
    lost = [a for a in job.status.assignments if (a.replica, a.worker, a.since) not in kept]
    if not lost or job.spec is None:
        return status
    held = [max(0.0, at - times.from_wire(a.since)) for a in lost]
    ran = Ran(
        until=times.to_wire_exact(at),
        seconds=max(held),
        replicas=tuple(sorted({a.replica for a in lost})),
        gpus=job.spec.replicas * (job.status.gpus_per_replica or 0),
        used=sum(seconds * (a.share or 0.0) for seconds, a in zip(held, lost, strict=True)),
        charged=sum(a.charged or 0.0 for a in lost if a.share is not None),
        completed=completed,
    )
    return status.model_copy(update={"ran": ran})


def with_place(status: DeepSeekJobStatus, where: Mark | None) -> DeepSeekJobStatus:
    """The job's place in its flow, unless it has one."""
    if where is None or status.mark is not None:
        return status
    return status.model_copy(update={"mark": tags.mark(where)})


def _assignment(placement: Placement, assign: Assign, now: float) -> Assignment:
    workers = len(assign.placements)
    return Assignment(
        replica=placement.replica,
        worker=placement.worker,
        node=placement.node,
        product=assign.shape.kind.product,
        resource=placement.resource,
        device_selection=placement.selection,
        count=placement.count,
        devices=tuple(
            Device(uuid=d.uuid, driver=d.driver, pool=d.pool, name=d.name) for d in placement.devices
        ),
        since=times.to_wire_exact(now),
        share=assign.share / workers,
        charged=assign.charged / workers,
    )
