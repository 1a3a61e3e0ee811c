"""What a plan says: orders to carry out, and a reason for everybody who waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drse_operator.admission.snapshot import Device, FlowKey, FlowState, Mark
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import MoveReason, WaitReason
from drse_operator.sizing.shapes import Shape


@dataclass(frozen=True, slots=True)
class Placement:
    """The GPUs of one worker: ``count`` on ``node``, by name in ``devices`` when the selection is Exact."""

    replica: int
    worker: int
    node: str
    selection: DeviceSelection
    count: int
    resource: str
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a job the GPUs of one or more whole replicas, all of them at once."""

    key: JobKey
    uid: str
    shape: Shape
    placements: tuple[Placement, ...]
    #: What the job's flow is charged for it, in seconds of the whole cluster, and the share of it taken.
    charged: float = 0.0
    share: float = 0.0


class ReleaseReason(StrEnum):
    """Why replicas are taken away."""

    SCALED_DOWN = "ScaledDown"
    PREEMPTED = "Preempted"


@dataclass(frozen=True, slots=True)
class Mention:
    """A job that a sentence names, with its queue: see :mod:`drse_operator.admission.discretion`."""

    key: JobKey
    queue: str


@dataclass(frozen=True, slots=True)
class Release:
    """Take replicas away from a job; its GPUs are free when their pods and claims are gone.

    ``taker`` is the job they are taken back for; ``mentions`` are the jobs that the message names.
    """

    key: JobKey
    uid: str
    replicas: tuple[int, ...]
    reason: ReleaseReason
    message: str
    taker: JobKey | None = None
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True, slots=True)
class Eta:
    """Expected start, seconds since the epoch."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class FirstTold:
    """What a job was told first, at ``at``; ``expected`` is the start that the plan gave."""

    at: float
    expected: float
    eta: Eta


@dataclass(frozen=True, slots=True)
class Moved:
    """Until ``at`` a job had been told ``was``; why that has changed. ``mentions`` are the jobs that the
    message names; a message read back from a status names none but its reader's own."""

    at: float
    was: Eta
    reason: MoveReason
    message: str
    mentions: tuple[Mention, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Told:
    """What a job is told of its start, and what it was told before."""

    eta: Eta
    first: FirstTold
    moved: Moved | None = None


@dataclass(frozen=True, slots=True)
class Reserved:
    """A job for which GPUs are kept, expected to be free at ``start`` (seconds since the epoch)."""

    key: JobKey
    uid: str
    start: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job, or its next replica, does not get GPUs now. ``position`` counts from 1 in its queue;
    ``mentions`` are the other jobs that the message names."""

    key: JobKey
    uid: str
    reason: WaitReason
    message: str
    position: int | None = None
    gpus: int = 0
    told: Told | None = None
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """How many jobs of a flow wait for one reason, and for how many GPUs.

    ``kinds`` are the kinds of accelerator that would do; none for jobs that take no part: they wait for their
    user, for time to pass, or for what the cluster could not give even if it were empty.
    """

    flow: FlowKey
    reason: WaitReason
    kinds: frozenset[str]
    jobs: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Whose waits a plan is to explain: these jobs, and everybody who waits in these queues."""

    uids: Collection[str] = ()
    queues: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next snapshot has to bring back: see :class:`~drse_operator.admission.snapshot.Snapshot`.

    ``marks`` holds the places of jobs that had none when the plan was made, by uid.
    """

    flows: Mapping[FlowKey, FlowState] = field(default_factory=dict)
    virtual_time: Mapping[str, float] = field(default_factory=dict)
    clock_at: float | None = None
    marks: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions made from one snapshot, assignments in the order they were promised.

    ``wait`` explains everybody who waits, or whom the plan was asked about; ``pending`` counts them all, by
    queue and reason. ``reserved`` are those whose GPUs are kept for them, if their end is in sight.
    """

    assign: tuple[Assign, ...] = ()
    release: tuple[Release, ...] = ()
    wait: tuple[Wait, ...] = ()
    pending: tuple[Pending, ...] = ()
    reserved: tuple[Reserved, ...] = ()
    memory: Memory = Memory()
