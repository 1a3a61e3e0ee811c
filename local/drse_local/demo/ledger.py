"""What the API server has shown so far: who holds what, what must never happen, and who decided what when.

Each `take_*` is handed one state of one collection. Exclusivity is judged inside one collection at a time
(a device in two claims; a device promised twice; a node whose pods count more devices than it has), as the
order of changes is only known there. Whether pods are where they were promised is judged against everything
that was ever promised, so the order in which the collections' changes arrive cannot matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drse_local.demo.documents import (
    DeviceName,
    EventSeen,
    JobSeen,
    QueueSeen,
    allocated_devices,
    counted_devices,
)
from drse_local.demo.watching import Objects
from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import ScalingReason
from drse_operator.api.status import Assignment

_GROWTH = (ScalingReason.LOAD_ABOVE_THRESHOLD, ScalingReason.FORECAST_ABOVE_THRESHOLD)
_MANAGED_BY, _DRSE = "app.kubernetes.io/managed-by", "drse"

#: Devices that a node's device plugin counts, by (node, extended resource).
PluginCapacity = Mapping[tuple[str, str], int]
_PodName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ScaleUp:
    """A decision to grow. at: seconds since the epoch; capacity: GPUs held when it was made; threshold:
    GPU-equivalents above which it had to be made."""

    job: JobKey
    at: float
    before: int
    after: int
    capacity: int
    threshold: float
    reason: str


@dataclass(frozen=True, slots=True)
class CapacityStep:
    """From `at` (seconds since the epoch) on the job held `gpus`."""

    at: float
    gpus: int


class Ledger:
    """Takes in states, remembers what matters.

    plugin: what device plugins count, by node and resource.
    """

    def __init__(self, plugin: PluginCapacity) -> None:
        self.jobs: dict[JobKey, JobSeen] = {}
        self.queues: tuple[QueueSeen, ...] = ()
        self.events: tuple[EventSeen, ...] = ()
        self.scale_ups: list[ScaleUp] = []
        self.capacity: defaultdict[JobKey, list[CapacityStep]] = defaultdict(list)
        #: What was doubly held at some instant: the device, or the node that counted too many.
        self.doubly_held: set[str] = set()
        self._plugin = plugin
        self._resources = frozenset(resource for _, resource in plugin)
        self._promised_nodes: defaultdict[_PodName, set[str]] = defaultdict(set)
        self._promised_devices: defaultdict[_PodName, set[frozenset[DeviceName]]] = defaultdict(set)
        self._bound: set[tuple[_PodName, str]] = set()
        self._allocated: set[tuple[_PodName, frozenset[DeviceName]]] = set()

    # -- one state of one collection -----------------------------------------------------------------------

    def take_jobs(self, objects: Objects, now: float) -> None:
        """DeepSeekJobs. `now`: seconds since the epoch."""
        jobs = [JobSeen.of(document) for document in objects.values()]
        for job in jobs:
            self._take_scaling(self.jobs.get(job.key), job)
            self._take_capacity(job, now)
            for assignment in job.status.assignments:
                self._take_promise(job.key, assignment)
        self.jobs = {job.key: job for job in sorted(jobs, key=lambda each: each.key)}
        self.doubly_held.update(_promised_twice(jobs), self._promised_beyond(jobs))

    def take_claims(self, objects: Objects) -> None:
        """ResourceClaims, DRSE's and others'."""
        holders: Counter[DeviceName] = Counter()
        for name, claim in objects.items():
            devices = allocated_devices(claim)
            holders.update(devices)
            if devices and _is_drse(claim):
                self._allocated.add((name, devices))
        self.doubly_held.update("/".join(device) for device, count in holders.items() if count > 1)

    def take_pods(self, objects: Objects) -> None:
        """Pods, DRSE's and others'."""
        used: Counter[tuple[str, str]] = Counter()
        for name, pod in objects.items():
            node = pod["spec"].get("nodeName")
            if node and _is_drse(pod):
                self._bound.add((name, node))
            for resource, count in counted_devices(pod, self._resources).items():
                used[node, resource] += count
        self.doubly_held.update(self._beyond(used))

    def take_queues(self, objects: Objects) -> None:
        """GPUQueues."""
        self.queues = tuple(QueueSeen.of(objects[key]) for key in sorted(objects))

    def take_events(self, objects: Objects) -> None:
        """Events of events.k8s.io."""
        seen = (EventSeen.of(document) for document in objects.values())
        self.events = tuple(sorted((each for each in seen if each is not None), key=lambda each: each.at))

    # -- what follows ----------------------------------------------------------------------------------------

    @property
    def bound_elsewhere(self) -> list[str]:
        """Pods on a node, or with devices, that were never promised to them."""
        wrong = [name for name, node in self._bound if node not in self._promised_nodes[name]]
        wrong += [name for name, devices in self._allocated if devices not in self._promised_devices[name]]
        return sorted({"/".join(name) for name in wrong})

    @property
    def devices_assigned(self) -> int:
        """Devices that jobs hold now."""
        return sum(a.count for job in self.jobs.values() for a in job.status.assignments)

    def _take_scaling(self, before: JobSeen | None, job: JobSeen) -> None:
        scaling = job.status.scaling
        if not job.scales or scaling is None or scaling.decided_at is None:
            return
        had = job.spec.replicas if before is None else before.wanted_replicas
        if job.wanted_replicas <= had or scaling.reason not in _GROWTH:
            return
        capacity = scaling.capacity or 0
        decided = times.from_wire(scaling.decided_at)
        self.scale_ups.append(
            ScaleUp(
                job.key,
                decided,
                had,
                job.wanted_replicas,
                capacity,
                job.spec.scaling.scale_up_at * capacity,
                scaling.reason,
            )
        )

    def _take_capacity(self, job: JobSeen, now: float) -> None:
        steps = self.capacity[job.key]
        if not steps or steps[-1].gpus != job.status.gpus:
            steps.append(CapacityStep(now, job.status.gpus))

    def _take_promise(self, key: JobKey, assignment: Assignment) -> None:
        pod = key.namespace, f"{key.name}-{assignment.replica}-{assignment.worker}"
        self._promised_nodes[pod].add(assignment.node)
        if assignment.device_selection is DeviceSelection.EXACT:
            devices = frozenset((d.driver, d.pool, d.name) for d in assignment.devices)
            self._promised_devices[pod].add(devices)

    def _promised_beyond(self, jobs: Iterable[JobSeen]) -> Iterator[str]:
        promised: Counter[tuple[str, str]] = Counter()
        for assignment in _assignments(jobs):
            if assignment.device_selection is DeviceSelection.COUNT_ONLY:
                promised[assignment.node, assignment.resource] += assignment.count
        return self._beyond(promised)

    def _beyond(self, used: Counter[tuple[str, str]]) -> Iterator[str]:
        return (f"{node}/{what}" for (node, what), n in used.items() if n > self._plugin.get((node, what), 0))


def _assignments(jobs: Iterable[JobSeen]) -> Iterator[Assignment]:
    return (assignment for job in jobs for assignment in job.status.assignments)


def _promised_twice(jobs: Iterable[JobSeen]) -> Iterator[str]:
    promised = Counter(device.uuid for each in _assignments(jobs) for device in each.devices)
    return (uuid for uuid, count in promised.items() if count > 1)


def _is_drse(document: Mapping[str, object]) -> bool:
    metadata = document["metadata"]
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return isinstance(labels, dict) and labels.get(_MANAGED_BY) == _DRSE
