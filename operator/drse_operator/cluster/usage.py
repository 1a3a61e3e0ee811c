"""Who holds which GPUs: the union of what is promised, what pods ask for and what claims were allocated.

A GPU is free only when no live assignment names it, no claim of ours could still be allocated it, no claim
of anybody has been allocated it, and no pod of anybody counts it. Until then it is held, by whomever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.workloads.observed import Claim, DeviceRef, Job, Pod

#: Holder of devices in claims and pods that DRSE did not make.
FOREIGN = JobKey("", "")


@dataclass(frozen=True, slots=True)
class Conflict:
    """A device that two live assignments name. The later one has to give way."""

    uuid: str
    first: JobKey
    second: JobKey
    second_uid: str
    second_replica: int


@dataclass(slots=True)
class Usage:
    """``devices``: holder by UUID. ``counts``: GPUs held by (node, resource), for CountOnly nodes."""

    devices: dict[str, JobKey] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    conflicts: list[Conflict] = field(default_factory=list)
    #: GPUs promised to jobs, by queue.
    by_queue: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def measure(
    jobs: Iterable[Job], pods: Iterable[Pod], claims: Iterable[Claim], uuids: Mapping[DeviceRef, str]
) -> Usage:
    """Add up all holdings. ``uuids`` translates allocated devices to UUIDs."""
    holders = [job for job in jobs if job.status.assignments]
    usage, promised = _add_up(holders)
    if usage.conflicts:
        # Earlier promises first, so that the later one is named second.
        holders.sort(key=lambda job: (job.status.assignments[0].since, job.key))
        usage, promised = _add_up(holders)
    for claim in claims:
        for uuid in (*claim.pinned, *(uuids.get(ref, "") for ref in claim.devices)):
            if uuid:
                usage.devices.setdefault(uuid, FOREIGN)
    for pod in pods:
        _add_pod(usage, pod, promised)
    return usage


def _add_up(holders: Iterable[Job]) -> tuple[Usage, dict[tuple[str, int, int], str]]:
    """What is promised, and the node of each worker."""
    usage = Usage()
    promised: dict[tuple[str, int, int], str] = {}
    for job in holders:
        _add_promises(usage, job, promised)
    return usage, promised


def _add_promises(usage: Usage, job: Job, promised: dict[tuple[str, int, int], str]) -> None:
    queue = job.spec.queue if job.spec is not None else ""
    for a in job.status.assignments:
        usage.by_queue[queue] += a.count
        promised[job.uid, a.replica, a.worker] = a.node
        if a.device_selection is DeviceSelection.COUNT_ONLY:
            usage.counts[a.node, a.resource] += a.count
        for device in a.devices:
            first = usage.devices.setdefault(device.uuid, job.key)
            if first != job.key:
                usage.conflicts.append(Conflict(device.uuid, first, job.key, job.uid, a.replica))


def _add_pod(usage: Usage, pod: Pod, promised: Mapping[tuple[str, int, int], str]) -> None:
    node = pod.node or (pod.pinned_node if pod.owner_uid else "")
    if pod.finished or not node or not pod.gpus:
        return
    if pod.owner_uid and promised.get((pod.owner_uid, pod.replica, pod.worker)) == node:
        return
    for resource, count in pod.gpus:
        usage.counts[node, resource] += count
