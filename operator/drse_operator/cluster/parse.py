"""From API documents to the plain types of the pure rooms. Each reads only what is used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec, GPUQueueStatus
from drse_operator.api.keys import JobKey
from drse_operator.api.runtime import GPU_RESOURCES
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.api.times import from_wire
from drse_operator.workloads import names
from drse_operator.workloads.observed import Claim, DeviceRef, Job, Pod, PodPhase

Document = dict[str, Any]

_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, slots=True)
class QueueObject:
    """A GPUQueue as last seen; ``spec`` is None when it does not parse."""

    name: str
    uid: str
    resource_version: str
    generation: int
    spec: GPUQueueSpec | None
    status: GPUQueueStatus


@dataclass(frozen=True, slots=True)
class NamespaceObject:
    name: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class PriorityClassObject:
    name: str
    value: int
    is_default: bool


@dataclass(frozen=True, slots=True)
class ServiceObject:
    namespace: str
    name: str
    owner_uid: str


def job(document: Document) -> Job:
    """A DeepSeekJob; a spec or status that does not parse is kept as such, never raised."""
    metadata = document["metadata"]
    spec, invalid = None, ""
    try:
        spec = DeepSeekJobSpec.from_wire(document.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        invalid = f"spec.{place}: {first['msg']}" if place else first["msg"]
    try:
        status = DeepSeekJobStatus.from_wire(document.get("status") or {})
    except ValidationError as error:
        # Not ours to guess what was promised: treat as invalid, so that nothing is assigned or created.
        spec, invalid = None, f"status does not parse: {error.errors()[0]['msg']}"
        status = DeepSeekJobStatus()
    return Job(
        key=JobKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        created=from_wire(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        spec=spec,
        status=status,
        invalid=invalid,
        user=(metadata.get("annotations") or {}).get(names.SUBMITTER_ANNOTATION, ""),
    )


def queue(document: Document) -> QueueObject:
    metadata = document["metadata"]
    try:
        spec: GPUQueueSpec | None = GPUQueueSpec.from_wire(document.get("spec") or {})
    except ValidationError:
        spec = None
    try:
        status = GPUQueueStatus.from_wire(document.get("status") or {})
    except ValidationError:
        status = GPUQueueStatus()
    return QueueObject(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        spec=spec,
        status=status,
    )


def pod(document: Document) -> Pod | None:
    """A pod, or None for one that neither is ours nor asks for GPUs or claims."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    owner = _owner(metadata, "DeepSeekJob")
    gpus = _gpus(spec)
    claims = _claims(spec, status)
    if not owner and not gpus and not claims:
        return None
    labels = metadata.get("labels") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    ready_since = ready.get("lastTransitionTime") if ready.get("status") == "True" else None
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner,
        replica=_index(labels.get(names.REPLICA_LABEL)),
        worker=_index(labels.get(names.WORKER_LABEL)),
        node=spec.get("nodeName", ""),
        phase=PodPhase(status.get("phase", "Unknown")),
        ready=ready.get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        created=from_wire(metadata["creationTimestamp"]),
        gpus=gpus,
        claims=claims,
        pinned_node=_pinned_node(spec),
        message=_last_word(status, conditions),
        ready_at=None if ready_since is None else from_wire(ready_since),
        disrupted=_disrupted(conditions),
    )


def claim(document: Document) -> Claim:
    metadata = document["metadata"]
    allocation = (document.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    owner = _owner(metadata, "DeepSeekJob")
    return Claim(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner,
        deleting="deletionTimestamp" in metadata,
        devices=tuple(
            DeviceRef(r["driver"], r["pool"], r["device"]) for r in results if not r.get("adminAccess")
        ),
        pinned=_pinned_uuids(document["spec"]) if owner else (),
    )


def namespace(document: Document) -> NamespaceObject:
    metadata = document["metadata"]
    return NamespaceObject(metadata["name"], dict(metadata.get("labels") or {}))


def priority_class(document: Document) -> PriorityClassObject:
    return PriorityClassObject(
        document["metadata"]["name"], int(document["value"]), bool(document.get("globalDefault"))
    )


def service(document: Document) -> ServiceObject:
    metadata = document["metadata"]
    return ServiceObject(metadata["namespace"], metadata["name"], _owner(metadata, "DeepSeekJob"))


# -- parts ---------------------------------------------------------------------------------------------


def _owner(metadata: Document, kind: str) -> str:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == kind:
            return str(reference["uid"])
    return ""


def _index(label: str | None) -> int:
    return int(label) if label is not None and label.isdigit() else -1


def _gpus(spec: Document) -> tuple[tuple[str, int], ...]:
    """GPUs a pod takes from device plugins: sum over containers, or the largest init container."""
    totals: dict[str, int] = {}
    for resource in GPU_RESOURCES:
        running = sum(_limit(container, resource) for container in spec.get("containers") or ())
        starting = max((_limit(c, resource) for c in spec.get("initContainers") or ()), default=0)
        if most := max(running, starting):
            totals[resource] = most
    return tuple(sorted(totals.items()))


def _limit(container: Document, resource: str) -> int:
    limits = (container.get("resources") or {}).get("limits") or {}
    return int(limits.get(resource, 0))


def _claims(spec: Document, status: Document) -> tuple[str, ...]:
    direct = [c["resourceClaimName"] for c in spec.get("resourceClaims") or () if "resourceClaimName" in c]
    made = [
        c["resourceClaimName"] for c in status.get("resourceClaimStatuses") or () if "resourceClaimName" in c
    ]
    return tuple(dict.fromkeys((*direct, *made)))


def _pinned_node(spec: Document) -> str:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and len(field.get("values") or ()) == 1:
                return str(field["values"][0])
    return ""


def _pinned_uuids(spec: Document) -> tuple[str, ...]:
    """UUIDs in the selector that ``workloads.claims`` writes."""
    for request in (spec.get("devices") or {}).get("requests") or ():
        for selector in (request.get("exactly") or {}).get("selectors") or ():
            expression = (selector.get("cel") or {}).get("expression", "")
            if ".uuid in [" in expression:
                return tuple(_QUOTED.findall(expression.partition(".uuid in [")[2]))
    return ()


def _disrupted(conditions: dict[str, Document]) -> str:
    """Why the cluster ends a pod, as whoever does it has noted on the pod."""
    target = conditions.get("DisruptionTarget", {})
    if target.get("status") != "True":
        return ""
    return str(target.get("message") or target.get("reason") or "disrupted")


def _last_word(status: Document, conditions: dict[str, Document]) -> str:
    """Why a pod does not run: the scheduler's message, or how its container ended."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return str(scheduled.get("message", ""))
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            said = ended.get("message") or ended.get("reason") or ""
            return f"{container['name']} exited with {ended['exitCode']}" + (f", {said}" if said else "")
    return str(status.get("message") or status.get("reason") or "")
