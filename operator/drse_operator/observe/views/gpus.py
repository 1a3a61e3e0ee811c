"""Which job holds which GPU, since when and until when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from drse_operator.admission.pools import FAR
from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection, Vendor
from drse_operator.api.status import Assignment
from drse_operator.cluster import devices
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.scene import EVERYWHERE, Scene, Where, queue_of
from drse_operator.sizing import accelerators
from drse_operator.workloads.observed import Job


class GpuState(StrEnum):
    """What a GPU is doing, as far as admission is concerned."""

    FREE = "Free"
    HELD = "Held"
    #: Held by a pod or claim that DRSE did not make.
    FOREIGN = "Foreign"
    #: Free, but tainted or on a node that takes nothing.
    OUT_OF_SERVICE = "OutOfService"


class GpuRow(Row):
    """One GPU; or, where a device plugin picks, several GPUs of a node that share holder and state."""

    node: str
    gpu: str = Field(description="Name of the device; empty where a device plugin picks among count GPUs.")
    uuid: str | None
    count: int = Field(description="1 for a named device.")
    product: str
    memory_bytes: int
    utilisation_ratio: float | None = Field(description="0 to 1, by its exporter; null when not measured.")
    state: GpuState
    detail: str = Field(description="Why it is out of service, where it is.")
    namespace: str | None = Field(description="Of the job that holds it; null when nobody or not named.")
    job: str | None
    replica: int | None
    worker: int | None
    queue: str | None
    since: Instant | None = Field(description="When it was promised to the job.")
    free_at: Instant | None = Field(description="Expected end of the job; null for services and strangers.")


class GpuReport(Report):
    """GPUs by node and device."""

    items: tuple[GpuRow, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    job: Job
    assignment: Assignment


def gpus(
    scene: Scene,
    where: Where = EVERYWHERE,
    node: str | None = None,
    free_only: bool = False,
    use: Mapping[str, float] | None = None,
) -> GpuReport:
    """GPUs of the cluster. ``where`` keeps those that some jobs hold; ``use`` is use (0..1) by UUID."""
    rows = list(_Rows(scene, use or {}).all(node))
    if where != EVERYWHERE:
        shown = {job.key for job in scene.world.all_jobs() if where.shows(job)}
        names = {(key.namespace, key.name) for key in shown}
        rows = [row for row in rows if (row.namespace, row.job) in names]
    if free_only:
        rows = [row for row in rows if row.state is GpuState.FREE]
    return GpuReport(as_of=instant(scene.now), unread=scene.unread, items=tuple(rows))


class _Rows:
    """Makes the rows of one scene."""

    def __init__(self, scene: Scene, use: Mapping[str, float]) -> None:
        self._scene = scene
        self._use = use
        self._by_uuid: dict[str, _Held] = {}
        self._by_count: dict[tuple[str, str], list[_Held]] = {}
        for job in scene.world.all_jobs():
            for a in job.status.assignments:
                held = _Held(job, a)
                self._by_uuid.update((device.uuid, held) for device in a.devices)
                if a.device_selection is DeviceSelection.COUNT_ONLY:
                    self._by_count.setdefault((a.node, a.resource), []).append(held)

    def all(self, node: str | None) -> Iterator[GpuRow]:
        """Rows by node and device; of one node when named. A reader who may not see nodes gets what jobs
        have been promised."""
        if not self._scene.picture.fleet.gpus:
            yield from self._promised(node)
        for found in self._scene.picture.fleet.gpus:
            if node is None or found.node == node:
                exact = found.selection is DeviceSelection.EXACT
                yield from self._named(found) if exact else self._counted(found)

    def _named(self, found: devices.Gpus) -> Iterator[GpuRow]:
        node = self._scene.world.nodes.get("", found.node)
        for item in found.devices:
            uuid = item.device.uuid
            held = self._by_uuid.get(uuid)
            broken = item.taint or (node.unready and f"node {node.unready}" if node is not None else "")
            if held is not None:
                state = GpuState.HELD
            elif uuid in self._scene.usage.devices:
                state = GpuState.FOREIGN
            else:
                state = GpuState.OUT_OF_SERVICE if broken else GpuState.FREE
            yield self._row(found, item.device.name, uuid, 1, state, broken, held)

    def _counted(self, found: devices.Gpus) -> Iterator[GpuRow]:
        node = self._scene.world.nodes.get("", found.node)
        broken = f"node {node.unready}" if node is not None and node.unready else ""
        ours = self._by_count.get((found.node, found.resource), [])
        for held in sorted(ours, key=lambda h: (h.job.key, h.assignment.replica, h.assignment.worker)):
            yield self._row(found, "", None, held.assignment.count, GpuState.HELD, broken, held)
        taken = self._scene.usage.counts.get((found.node, found.resource), 0)
        foreign = taken - sum(held.assignment.count for held in ours)
        if foreign > 0:
            yield self._row(found, "", None, foreign, GpuState.FOREIGN, broken, None)
        if found.count > taken:
            state = GpuState.OUT_OF_SERVICE if broken else GpuState.FREE
            yield self._row(found, "", None, found.count - taken, state, broken, None)

    def _promised(self, node: str | None) -> Iterator[GpuRow]:
        for uuid, held in sorted(self._by_uuid.items(), key=lambda item: (item[1].assignment.node, item[0])):
            if node is None or held.assignment.node == node:
                name = next(d.name for d in held.assignment.devices if d.uuid == uuid)
                yield self._row(_unseen(held.assignment), name, uuid, 1, GpuState.HELD, "", held)
        for (where, _), ours in sorted(self._by_count.items()):
            for held in ours if node is None or where == node else ():
                count = held.assignment.count
                yield self._row(_unseen(held.assignment), "", None, count, GpuState.HELD, "", held)

    def _row(
        self,
        found: devices.Gpus,
        gpu: str,
        uuid: str | None,
        count: int,
        state: GpuState,
        detail: str,
        held: _Held | None,
    ) -> GpuRow:
        named = held if held is not None and self._scene.may_name(held.job.key) else None
        return GpuRow(
            node=found.node,
            gpu=gpu,
            uuid=uuid,
            count=count,
            product=found.product,
            memory_bytes=found.memory,
            utilisation_ratio=None if uuid is None else self._use.get(uuid),
            state=state,
            detail=detail,
            namespace=None if named is None else named.job.key.namespace,
            job=None if named is None else named.job.key.name,
            replica=None if named is None else named.assignment.replica,
            worker=None if named is None else named.assignment.worker,
            queue=None if named is None else queue_of(named.job),
            since=instant_or_none(None if held is None else times.from_wire(held.assignment.since)),
            free_at=None if held is None else free_at(self._scene, held.job, held.assignment.replica),
        )


def _unseen(a: Assignment) -> devices.Gpus:
    """GPUs that are only known from a promise."""
    facts = accelerators.lookup(a.product)
    return devices.Gpus(
        node=a.node,
        vendor=Vendor.NVIDIA if facts is None else facts.vendor,
        product=a.product,
        memory=0 if facts is None else facts.memory,
        selection=a.device_selection,
        resource=a.resource,
        count=a.count,
    )


def free_at(scene: Scene, job: Job, replica: int) -> Instant | None:
    """When a replica is expected to end; None for services, and when it cannot be told."""
    if not scene.complete:
        return None
    record = scene.settled.engine.state.records.get(job.uid)
    unit = None if record is None else record.units.get(replica)
    return None if unit is None or unit.end >= FAR else instant(unit.end)


def count_by_state(rows: tuple[GpuRow, ...]) -> Counter[GpuState]:
    """GPUs in each state."""
    counts: Counter[GpuState] = Counter()
    for row in rows:
        counts[row.state] += row.count
    return counts
