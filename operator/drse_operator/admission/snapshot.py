"""The picture that a plan is made from: nodes with their free devices, queues, jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from drse_operator.api.enums import DeviceSelection, TaskType, TopologyMode, TopologyScope
from drse_operator.api.enums import Ordering as Ordering
from drse_operator.api.enums import Preemption as Preemption
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
class Closed:
    """``gpus`` of one kind on a node that are out of service: ``why``, e.g. ``is cordoned``, and the command
    that is the ``remedy``, if there is one. ``whole``: it is the node that is, not some of its devices."""

    node: str
    kind: AcceleratorKind
    gpus: int
    why: str
    remedy: str
    whole: bool


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
    #: Since when it has waited without a break, None before it has been told that it waits. Only told, never
    #: decided by.
    waiting_since: float | None = field(default=None, compare=False)

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
    work waiting, ``virtual`` its virtual clock at the snapshot's ``clock_at`` and ``rate`` how fast that ran,
    ``ghosts`` the (key, GPUs) of jobs that have ended although equal sharing would still run them.
    """

    finish: float = 0.0
    waiting: bool = False
    virtual: float = 0.0
    ghosts: tuple[tuple[float, int], ...] = ()
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Replicas that gave their GPUs back: their flow's charge is made exact, and durations are learned.

    ``seconds`` is how long they held their GPUs; ``gpus`` what their job asks for in all; ``used`` what they
    really took and ``charged`` what their flow was charged for them, both in seconds of the whole cluster
    (None where unknown: then nothing is corrected). ``expected`` is the duration that the user stated.
    ``completed``: the job ran to its end; ``mark`` is its place, which equal sharing may still hold for it.
    """

    uid: str
    queue: str
    task_type: TaskType
    gpus: int
    seconds: float
    ended_at: float
    model: str = ""
    expected: float | None = None
    used: float | None = None
    charged: float | None = None
    completed: bool = True
    mark: Mark | None = None
    replicas: tuple[int, ...] = ()

    @property
    def flow(self) -> FlowKey:
        """The flow that the job belonged to."""
        return FlowKey(self.queue, self.task_type)


@dataclass(frozen=True, slots=True)
class Learned:
    """How long the latest jobs of a queue took that were alike: (seconds, stated seconds or None) each."""

    queue: str
    task_type: TaskType
    model: str
    gpus: int
    runs: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan may look at.

    ``vacating`` are the (uid, replica) of work that has given up its GPUs although they are not free yet.
    ``learned`` is what durations are estimated from, the same object as long as nothing has changed.
    ``out_of_service`` only explains: nothing is decided by it.
    The four before it are memory that earlier plans left (``Plan.memory``); a snapshot without them plans as
    if fairness began now. ``ended`` is what has ended since that memory was made; ``virtual_time`` is the
    start tag that each kind of accelerator has come to; ``clock_at`` when flows' clocks were read (seconds
    since the epoch).
    """

    nodes: tuple[Node, ...]
    queues: Mapping[str, Queue]
    jobs: tuple[Job, ...]
    vacating: frozenset[tuple[str, int]] = frozenset()
    learned: tuple[Learned, ...] = ()
    ended: tuple[Ended, ...] = ()
    flows: Mapping[FlowKey, FlowState] = field(default_factory=dict)
    virtual_time: Mapping[str, float] = field(default_factory=dict)
    clock_at: float | None = None
    out_of_service: tuple[Closed, ...] = ()
    _by_uid: dict[str, Job] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def by_uid(self) -> Mapping[str, Job]:
        """The jobs by uid."""
        if len(self._by_uid) != len(self.jobs):
            self._by_uid.update((job.uid, job) for job in self.jobs)
        return self._by_uid
