"""The decisions of a plan, written into the status of the jobs they are about."""

from __future__ import annotations

from drse_operator.admission.decisions import Assign, Placement, Release, ReleaseReason, Wait
from drse_operator.api import times
from drse_operator.api.status import Assignment, DeepSeekJobStatus, Device, Eta, QueueStatus


def with_assign(status: DeepSeekJobStatus, assign: Assign, now: float) -> DeepSeekJobStatus:
    """The GPUs are promised: this is what is written before anything is created."""
    added = tuple(_assignment(p, assign.shape.kind.product, now) for p in assign.placements)
    assignments = sorted((*status.assignments, *added), key=lambda a: (a.replica, a.worker))
    return status.model_copy(
        update={
            "assignments": tuple(assignments),
            "gpus_per_replica": assign.shape.gpus,
            "queue": None,
        }
    )


def with_release(status: DeepSeekJobStatus, release: Release) -> DeepSeekJobStatus:
    """The replicas are no longer promised; their objects go next."""
    kept = tuple(a for a in status.assignments if a.replica not in release.replicas)
    preempted = release.reason is ReleaseReason.PREEMPTED
    return status.model_copy(update={"assignments": kept, "preemptions": status.preemptions + int(preempted)})


def with_wait(status: DeepSeekJobStatus, wait: Wait | None, now: float) -> DeepSeekJobStatus:
    """Why the job waits; ``since`` is kept while it waits without a break."""
    if wait is None:
        return status if status.queue is None else status.model_copy(update={"queue": None})
    since = status.queue.since if status.queue is not None else times.to_wire(now)
    eta = None
    if wait.eta is not None:
        eta = Eta(p50=times.to_wire(wait.eta.p50), p90=times.to_wire(wait.eta.p90))
    queue = QueueStatus(
        position=wait.position, reason=wait.reason, message=wait.message, since=since, eta=eta
    )
    return status.model_copy(update={"queue": queue})


def _assignment(placement: Placement, product: str, now: float) -> Assignment:
    return Assignment(
        replica=placement.replica,
        worker=placement.worker,
        node=placement.node,
        product=product,
        resource=placement.resource,
        device_selection=placement.selection,
        count=placement.count,
        devices=tuple(
            Device(uuid=d.uuid, driver=d.driver, pool=d.pool, name=d.name) for d in placement.devices
        ),
        since=times.to_wire(now),
    )
