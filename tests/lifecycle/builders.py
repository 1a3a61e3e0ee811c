"""Jobs with what the cluster shows of them, as the lifecycle functions get it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.status import Assignment, DeepSeekJobStatus, Device
from drse_operator.workloads import names
from drse_operator.workloads.observed import Claim, DeviceRef, Job, Pod, PodPhase
from drse_operator.workloads.seen import Problem, Seen

#: When GPUs were promised in these tests (seconds since the epoch).
T0 = 1_700_000_000.0
DRIVER = "gpu.nvidia.com"


def make_spec(task: str = "FineTuning", **spec: Any) -> DeepSeekJobSpec:
    return DeepSeekJobSpec.model_validate(
        {
            "taskType": task,
            "resources": {"gpusPerReplica": 2},
            "runtime": {"image": "example.com/train:1"},
            **spec,
        }
    )


def make_job(
    status: DeepSeekJobStatus | None = None, task: str = "FineTuning", name: str = "job", **spec: Any
) -> Job:
    return Job(
        key=JobKey("team", name),
        uid=f"uid-{name}",
        resource_version="1",
        generation=3,
        created=T0 - 10,
        deleting=False,
        spec=make_spec(task, **spec),
        status=status or DeepSeekJobStatus(),
    )


def promise(
    replica: int = 0,
    worker: int = 0,
    node: str = "node-0",
    *,
    bound: bool = False,
    exact: bool = True,
    since: float = T0,
) -> Assignment:
    """Two GPUs for one worker."""
    devices = tuple(
        Device(uuid=f"GPU-{node}-{replica}-{worker}-{i}", driver=DRIVER, pool=node, name=f"gpu-{i}")
        for i in range(2)
    )
    return Assignment(
        replica=replica,
        worker=worker,
        node=node,
        product="NVIDIA H100 80GB HBM3",
        resource="" if exact else "nvidia.com/gpu",
        device_selection=DeviceSelection.EXACT if exact else DeviceSelection.COUNT_ONLY,
        count=2,
        devices=devices if exact else (),
        since=times.to_wire(since),
        bound=bound,
    )


def status_with(*assignments: Assignment, **fields: Any) -> DeepSeekJobStatus:
    return DeepSeekJobStatus(assignments=assignments, queued_at=times.to_wire(T0 - 5), **fields)


def pod_of(
    assignment: Assignment,
    phase: PodPhase = PodPhase.RUNNING,
    *,
    node: str | None = None,
    ready: bool | None = None,
    deleting: bool = False,
    message: str = "",
    created: float = T0,
    job: str = "job",
    disrupted: str = "",
) -> Pod:
    """The pod of a promise: on its node unless it is pending."""
    pending = phase is PodPhase.PENDING
    name = names.pod_name(job, assignment.replica, assignment.worker)
    return Pod(
        namespace="team",
        name=name,
        uid=f"uid-{name}",
        owner_uid=f"uid-{job}",
        replica=assignment.replica,
        worker=assignment.worker,
        node=("" if pending else assignment.node) if node is None else node,
        phase=phase,
        ready=phase is PodPhase.RUNNING if ready is None else ready,
        deleting=deleting,
        created=created,
        pinned_node=assignment.node if node is None else node,
        message=message,
        disrupted=disrupted,
    )


def claim_of(assignment: Assignment, *, allocated: bool = True, deleting: bool = False) -> Claim:
    name = names.claim_name("job", assignment.replica, assignment.worker)
    return Claim(
        namespace="team",
        name=name,
        uid=f"uid-claim-{name}",
        owner_uid="uid-job",
        deleting=deleting,
        devices=tuple(DeviceRef(d.driver, d.pool, d.name) for d in assignment.devices) if allocated else (),
        pinned=tuple(d.uuid for d in assignment.devices),
    )


def see(
    job: Job,
    pods: Iterable[Pod] = (),
    claims: Iterable[Claim] = (),
    services: Iterable[str] = (),
    problems: Iterable[Problem] = (),
    closed: Mapping[str, str] | None = None,
) -> Seen:
    return Seen(
        job=job,
        pods={(p.replica, p.worker): p for p in pods},
        claims={c.name: c for c in claims},
        services=frozenset(services),
        problems=tuple(problems),
        closed=closed or {},
    )
