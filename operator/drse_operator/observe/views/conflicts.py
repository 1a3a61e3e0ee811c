"""GPUs that two live assignments name. There must be none; when there is one, both jobs are told apart."""

from __future__ import annotations

from collections.abc import Iterator

from drse_operator.api import times
from drse_operator.api.status import Assignment, Device
from drse_operator.observe.views.base import instant
from drse_operator.observe.views.gpus import GpuReport, GpuRow, GpuState, free_at
from drse_operator.observe.views.scene import Scene, queue_of
from drse_operator.workloads.observed import Job


def conflicts(scene: Scene) -> GpuReport:
    """A row for each promise of such a GPU, by UUID; ``detail`` says which of the jobs keeps it."""
    found = sorted(_promises(scene), key=lambda row: (row.uuid, row.since, row.namespace, row.job))
    return GpuReport(as_of=instant(scene.now), unread=scene.unread, items=tuple(found))


def _promises(scene: Scene) -> Iterator[GpuRow]:
    twice = {conflict.uuid for conflict in scene.usage.conflicts}
    later = {(conflict.uuid, conflict.second) for conflict in scene.usage.conflicts}
    for job in scene.world.all_jobs() if twice else ():
        for assignment in job.status.assignments:
            for device in assignment.devices:
                if device.uuid in twice:
                    gives_way = (device.uuid, job.key) in later
                    yield _row(scene, job, assignment, device, gives_way)


def _row(scene: Scene, job: Job, a: Assignment, device: Device, gives_way: bool) -> GpuRow:
    named = scene.may_name(job.key)
    return GpuRow(
        node=a.node,
        gpu=device.name,
        uuid=device.uuid,
        count=1,
        product=a.product,
        memory_bytes=0,
        utilisation_ratio=None,
        state=GpuState.HELD,
        detail="promised later: gives it back" if gives_way else "promised first: keeps it",
        namespace=job.key.namespace if named else None,
        job=job.key.name if named else None,
        replica=a.replica,
        worker=a.worker,
        queue=queue_of(job) if named else None,
        since=instant(times.from_wire(a.since)),
        free_at=free_at(scene, job, a.replica),
    )
