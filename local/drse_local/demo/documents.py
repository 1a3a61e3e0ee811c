"""What the demo reads out of the API server's documents, as types."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from drse_local.apiclient import Manifest
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import Phase, ScalingMode
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.keys import JobKey
from drse_operator.api.status import DeepSeekJobStatus

#: An example that cannot run as it is says here with which reason it waits.
WAITS_WITH = "local.drse.dev/waits-with"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A DeepSeekJob as the API server has it. waits_with: reason with which it is known to wait, if any."""

    key: JobKey
    spec: DeepSeekJobSpec
    status: DeepSeekJobStatus
    waits_with: str | None = None

    @classmethod
    def of(cls, document: Manifest) -> JobSeen:
        """Read a document; raises pydantic.ValidationError for one that the API server would refuse."""
        metadata = document["metadata"]
        return cls(
            JobKey(metadata.get("namespace", "default"), metadata["name"]),
            DeepSeekJobSpec.from_wire(document["spec"]),
            DeepSeekJobStatus.from_wire(document.get("status") or {}),
            metadata.get("annotations", {}).get(WAITS_WITH),
        )

    @property
    def finished(self) -> bool:
        return self.status.phase is not None and self.status.phase.finished

    @property
    def runs(self) -> bool:
        """It runs, or has run to its good end."""
        return self.status.phase in (Phase.RUNNING, Phase.SUCCEEDED)

    @property
    def waits(self) -> bool:
        """It holds no GPUs and says why, in a word and in a sentence."""
        queue = self.status.queue
        return not self.status.assignments and queue is not None and bool(queue.reason and queue.message)

    @property
    def scales(self) -> bool:
        """DRSE itself changes its number of replicas."""
        return self.spec.scaling.mode is ScalingMode.AUTO

    @property
    def wanted_replicas(self) -> int:
        """Replicas that it should have now: the last scaling decision, else what it started from."""
        scaling = self.status.scaling
        if self.scales and scaling is not None and scaling.desired_replicas is not None:
            return scaling.desired_replicas
        return self.spec.replicas


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A GPUQueue."""

    name: str
    spec: GPUQueueSpec

    @classmethod
    def of(cls, document: Manifest) -> QueueSeen:
        return cls(document["metadata"]["name"], GPUQueueSpec.from_wire(document.get("spec") or {}))


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event about a DeepSeekJob. at: seconds since the epoch."""

    at: float
    job: str
    reason: str
    note: str
    warning: bool

    @classmethod
    def of(cls, document: Manifest) -> EventSeen | None:
        """None for events about other things."""
        about = document.get("regarding") or {}
        if about.get("kind") != "DeepSeekJob":
            return None
        stamp = document.get("eventTime") or document["metadata"]["creationTimestamp"]
        return cls(
            datetime.fromisoformat(stamp).timestamp(),
            about["name"],
            document.get("reason", ""),
            document.get("note", ""),
            document.get("type") == "Warning",
        )


#: A device by the names of its ResourceSlice: driver, pool, name.
DeviceName = tuple[str, str, str]


def allocated_devices(claim: Manifest) -> frozenset[DeviceName]:
    """The devices that a ResourceClaim holds."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return frozenset((each["driver"], each["pool"], each["device"]) for each in results)


def counted_devices(pod: Manifest, resources: frozenset[str]) -> Counter[str]:
    """How many devices of each extended resource a bound pod that is not over takes on its node."""
    counts: Counter[str] = Counter()
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return counts
    for container in pod["spec"]["containers"]:
        for resource, amount in (container.get("resources", {}).get("limits") or {}).items():
            if resource in resources:
                counts[resource] += int(amount)
    return counts
