"""What the cluster shows of a job: plain data that the pure rooms reason about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.keys import JobKey
from drse_operator.api.status import DeepSeekJobStatus


@dataclass(frozen=True, slots=True)
class Job:
    """A DeepSeekJob as last seen. ``spec`` is None when it does not parse; ``invalid`` then says why.

    ``created`` is seconds since the epoch, ``user`` who submitted it, empty when nobody has noted that.
    """

    key: JobKey
    uid: str
    resource_version: str
    generation: int
    created: float
    deleting: bool
    spec: DeepSeekJobSpec | None
    status: DeepSeekJobStatus
    invalid: str = ""
    user: str = ""


class PodPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as last seen. ``owner_uid`` is the uid of the DeepSeekJob that controls it, or empty.

    ``gpus`` counts extended-resource GPUs it asks for by resource name; ``claims`` are the names of its
    ResourceClaims; ``pinned_node`` is the node its affinity requires. ``message`` is the scheduler's or
    kubelet's last word when it has one, ``ready_at`` when the pod last became ready (seconds since the
    epoch). ``disrupted`` is why the cluster, not the pod itself, ends it: its condition DisruptionTarget
    (KEP-3329).
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    replica: int
    worker: int
    node: str
    phase: PodPhase
    ready: bool
    deleting: bool
    created: float
    gpus: tuple[tuple[str, int], ...] = ()
    claims: tuple[str, ...] = ()
    pinned_node: str = ""
    message: str = ""
    ready_at: float | None = None
    disrupted: str = ""

    @property
    def finished(self) -> bool:
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)


@dataclass(frozen=True, slots=True)
class DeviceRef:
    """A device by the name the cluster's ResourceSlices give it."""

    driver: str
    pool: str
    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A ResourceClaim as last seen.

    ``devices`` is its allocation, empty when not allocated. ``pinned`` are the UUIDs that a claim of ours
    may be allocated: they count as held from the moment the claim exists.
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    deleting: bool
    devices: tuple[DeviceRef, ...]
    pinned: tuple[str, ...] = ()
