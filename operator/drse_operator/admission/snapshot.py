"""The picture that a plan is made from: nodes with their free devices, queues, jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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


class Ordering(StrEnum):
    """Order of the jobs of one flow, below their priority."""

    FAIR_SOJOURN = "FairSojourn"
    FIFO = "Fifo"


class Preemption(StrEnum):
    """Whether jobs of a queue with a higher priority may take GPUs from those with a lower one."""

    NEVER = "Never"
    LOWER_PRIORITY = "LowerPriority"


@dataclass(frozen=True, slots=True, order=True)
class FlowKey:
    """What fairness is kept between: a queue's jobs of one task type."""

    queue: str
    task_type: TaskType


@dataclass(frozen=True, slots=True)
class Queue:
    """A GPUQueue with what its jobs hold now, in GPUs.

    ``task_weights`` multiplies the weight for flows of a task type (1 where left out). A queue whose
    waiting jobs stay within ``guaranteed`` may take GPUs back from queues that hold more than theirs.
    ``min_runtime`` seconds is how long a job of the queue runs before it can be preempted.
    """

    name: str
    weight: int
    guaranteed: int
    limit: int | None
    held: int
    ordering: Ordering = Ordering.FAIR_SOJOURN
    task_weights: Mapping[TaskType, float] = field(default_factory=dict)
    preemption: Preemption = Preemption.NEVER
    min_runtime: float = 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """GPUs that one worker of a job already holds.

    ``since`` is when they were assigned (seconds since the epoch); ``charged`` this worker's part of what
    its flow was charged for them (seconds of the whole cluster).
    """

    replica: int
    worker: int
    node: str
    count: int
    ready: bool = False
    since: float | None = None
    charged: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A job's place in the virtual system of its flow, fixed at arrival: the flow's clock then, and the
    clock at which equal sharing would end the job."""

    arrived: float
    key: float


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
    model: str = ""
    mark: Mark | None = None
    #: How often the job has been preempted; one that has been preempts nobody itself.
    preempted: int = 0

    @property
    def flow(self) -> FlowKey:
        """The flow that the job belongs to."""
        return FlowKey(self.queue, self.task_type)

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
class FlowState:
    """What is remembered of a flow, from plan to plan.

    ``finish`` is its finish tag (seconds of the whole cluster per unit of weight), ``waiting`` whether it had
    work waiting, ``virtual`` its virtual clock at the snapshot's ``clock_at``, ``ghosts`` the (key, GPUs) of
    jobs that have ended although equal sharing would still run them.
    """

    finish: float = 0.0
    waiting: bool = False
    virtual: float = 0.0
    ghosts: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ran to its end: durations are learned from it, and its flow's charge is made exact.

    ``seconds`` is how long it held its GPUs; ``share`` the dominant share of the cluster that it held and
    ``charged`` what its flow was charged for it (None where unknown: then nothing is corrected).
    """

    uid: str
    queue: str
    task_type: TaskType
    gpus: int
    seconds: float
    ended_at: float
    model: str = ""
    expected: float | None = None
    share: float | None = None
    charged: float | None = None

    @property
    def flow(self) -> FlowKey:
        """The flow that the job belonged to."""
        return FlowKey(self.queue, self.task_type)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan may look at.

    The last four fields are memory that earlier plans left (``Plan.memory``); a snapshot without them plans
    as if fairness began now. ``virtual_time`` is the start tag that each kind of accelerator has come to;
    ``clock_at`` when flows' clocks were read (seconds since the epoch).
    """

    nodes: tuple[Node, ...]
    queues: Mapping[str, Queue]
    jobs: tuple[Job, ...]
    ended: tuple[Ended, ...] = ()
    flows: Mapping[FlowKey, FlowState] = field(default_factory=dict)
    virtual_time: Mapping[str, float] = field(default_factory=dict)
    clock_at: float | None = None
