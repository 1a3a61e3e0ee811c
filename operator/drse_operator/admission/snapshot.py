"""The picture that a plan is made from: nodes with their free devices, queues, jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from drse_operator.api.enums import DeviceSelection, TaskType, TopologyMode, TopologyScope
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU that DRSE can name. ``group`` is its PCIe root (or empty): devices of a group are packed."""

    uuid: str
    driver: str = ""
    pool: str = ""
    name: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """The GPUs of one kind on one node, and how many of them nobody holds.

    A node with two kinds appears twice. ``capacity`` counts its healthy GPUs. With ``selection`` Exact,
    ``free`` names the free devices; with CountOnly the device plugin will pick, and only ``free_count``
    is known. ``domains`` gives the topology domain by scope; a missing scope means that the node shares
    that domain with nobody.
    """

    name: str
    kind: AcceleratorKind
    selection: DeviceSelection
    capacity: int
    free_count: int
    free: tuple[Device, ...] = ()
    resource: str = ""
    domains: Mapping[TopologyScope, str] = field(default_factory=dict)

    def domain(self, scope: TopologyScope) -> str:
        """Name of the node's domain; the node itself where nothing is published."""
        if scope is TopologyScope.NODE:
            return f"node:{self.name}"
        return self.domains.get(scope) or f"node:{self.name}"


@dataclass(frozen=True, slots=True)
class Queue:
    """A GPUQueue with what its jobs hold now, in GPUs."""

    name: str
    weight: int
    guaranteed: int
    limit: int | None
    held: int


@dataclass(frozen=True, slots=True)
class Holding:
    """GPUs that one worker of a job already holds."""

    replica: int
    worker: int
    node: str
    count: int
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What a job asks for and holds. Times are seconds since the epoch.

    ``wanted`` is the number of replicas it should have now, ``first_unit`` how many of them only make
    sense together at the start; each further replica is asked for on its own. ``shapes`` are the ways to
    place one replica, best first; ``refusal`` says why there is none. ``done`` are replicas that ended,
    ``clearing`` those whose last attempt is still being cleared away.
    """

    key: JobKey
    uid: str
    queue: str
    task_type: TaskType
    priority: int
    queued_at: float
    wanted: int
    first_unit: int
    shapes: tuple[Shape, ...] = ()
    refusal: Refusal | None = None
    holdings: tuple[Holding, ...] = ()
    done: frozenset[int] = frozenset()
    clearing: frozenset[int] = frozenset()
    not_before: float = 0.0
    topology: TopologyScope | None = None
    topology_mode: TopologyMode = TopologyMode.PREFERRED
    expected_duration: float | None = None
    started_at: float | None = None

    @property
    def held_replicas(self) -> tuple[int, ...]:
        """Indices of the replicas that hold GPUs, ascending."""
        return tuple(sorted({h.replica for h in self.holdings}))

    @property
    def lacking(self) -> int:
        """How many replicas are wanted beyond those that hold GPUs or have ended."""
        return max(0, self.wanted - len(self.held_replicas) - len(self.done))

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the lacking replicas that may be placed now, ascending.

        Numbers count, not indices: a job that wants one replica and holds number 1 lacks nothing. Replicas
        that are still being cleared away are left out, so there may be fewer than are lacking.
        """
        out = {*self.held_replicas, *self.done, *self.clearing}
        return tuple(islice((i for i in range(self.wanted) if i not in out), self.lacking))

    @property
    def order(self) -> tuple[int, float, JobKey]:
        """Sort key: higher priority first, then who came first; the name makes it total."""
        return -self.priority, self.queued_at, self.key


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan may look at."""

    nodes: tuple[Node, ...]
    queues: Mapping[str, Queue]
    jobs: tuple[Job, ...]
