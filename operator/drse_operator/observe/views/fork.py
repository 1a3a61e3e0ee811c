"""A copy of the world in which something is otherwise: the ground of every what-if answer.

Parsed objects are shared with the original and only what changes is parsed, so a copy of a cluster with
thousands of jobs costs next to nothing, and the picture of it is drawn by the operator's own code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drse_operator.api import times
from drse_operator.api.base import API_VERSION
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.keys import JobKey
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from drse_operator.cluster.client import Kind
from drse_operator.cluster.devices import CORDONED
from drse_operator.cluster.world import World
from drse_operator.workloads.observed import Job

#: The kinds that a picture is drawn from. GPUs come before jobs: a change of them looks at all jobs.
PICTURED: tuple[Kind, ...] = (
    kinds.NODE,
    kinds.SLICE,
    kinds.TAINT_RULE,
    kinds.GPUQUEUE,
    kinds.NAMESPACE,
    kinds.PRIORITY_CLASS,
    kinds.DEEPSEEKJOB,
    kinds.POD,
    kinds.CLAIM,
)
#: Newer than any version that an API server has given out; grows with the generation of what is changed.
_NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class PutJob:
    """A job is created, or its spec replaced. A new job arrives at the scene's time."""

    key: JobKey
    spec: DeepSeekJobSpec

    @property
    def uid(self) -> str:
        """Uid of the job, when the change creates it."""
        return f"what-if:{self.key}"


@dataclass(frozen=True, slots=True)
class PutQueue:
    """A queue is created, or its spec replaced."""

    name: str
    spec: GPUQueueSpec


@dataclass(frozen=True, slots=True)
class WithoutNode:
    """A node is gone, with everything that ran on it."""

    name: str


@dataclass(frozen=True, slots=True)
class UncordonNode:
    """A node that is cordoned takes work again."""

    name: str


Change = PutJob | PutQueue | WithoutNode | UncordonNode


def fork(world: World, changes: Iterable[Change], now: float) -> World:
    """The world as it would be at ``now`` with all changes made; the original stays as it is."""
    copy = World(touched=lambda uid: None, stirred=lambda: None)
    for kind in PICTURED:
        world.store(kind).copy_to(copy.store(kind))
    for change in changes:
        match change:
            case PutJob():
                put_job(copy, change, now)
            case PutQueue():
                _put_queue(copy, change)
            case WithoutNode():
                _drop_node(copy, change.name)
            case UncordonNode():
                _uncordon(copy, change.name)
    return copy


def put_job(world: World, change: PutJob, now: float) -> None:
    """Make the change in a copy of the world."""
    old = world.jobs.get(change.key.namespace, change.key.name)
    if old is not None:
        _rewrite(world, old, change.spec, old.status)
        return
    world.jobs.put(_document(change.key, change.uid, now, 1, change.spec, DeepSeekJobStatus()))


def _rewrite(world: World, job: Job, spec: DeepSeekJobSpec, status: DeepSeekJobStatus) -> None:
    world.jobs.put(_document(job.key, job.uid, job.created, job.generation + 1, spec, status))


def _document(
    key: JobKey, uid: str, created: float, generation: int, spec: DeepSeekJobSpec, status: DeepSeekJobStatus
) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "DeepSeekJob",
        "metadata": {
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
            "resourceVersion": str(_NEWEST + generation),
            "generation": generation,
            "creationTimestamp": times.to_wire(created),
        },
        "spec": spec.to_wire(),
        "status": status.to_wire(),
    }


def _put_queue(world: World, change: PutQueue) -> None:
    old = world.queues.get("", change.name)
    generation = 1 if old is None else old.generation + 1
    world.queues.put(
        {
            "metadata": {
                "name": change.name,
                "uid": f"what-if:{change.name}" if old is None else old.uid,
                "resourceVersion": str(_NEWEST + generation),
                "generation": generation,
            },
            "spec": change.spec.to_wire(),
            "status": {} if old is None else old.status.to_wire(),
        }
    )


def _uncordon(world: World, name: str) -> None:
    node = world.nodes.get("", name)
    if node is None or node.unready != CORDONED:
        return
    world.nodes.put(
        {
            "metadata": {"name": name, "labels": dict(node.labels), "resourceVersion": str(_NEWEST)},
            "status": {
                "allocatable": dict(node.allocatable),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )


def _drop_node(world: World, name: str) -> None:
    """Replicas with a worker on the node are lost whole, as the operator gives them back."""
    world.nodes.forget("", name, "")
    for job in list(world.all_jobs()):
        lost = {a.replica for a in job.status.assignments if a.node == name}
        if lost and job.spec is not None:
            kept = tuple(a for a in job.status.assignments if a.replica not in lost)
            _rewrite(world, job, job.spec, job.status.model_copy(update={"assignments": kept}))
        for pod in [p for p in world.pods_of(job.uid).values() if p.replica in lost]:
            world.pods.forget(pod.namespace, pod.name, "")
    # Claims of lost replicas hold nothing any more, wherever their devices are.
    held = {
        (job.key.namespace, device.uuid)
        for job in world.all_jobs()
        for a in job.status.assignments
        for device in a.devices
    }
    for claim in [c for c in world.claims.values() if c.owner_uid]:
        if not any((claim.namespace, uuid) in held for uuid in claim.pinned):
            world.claims.forget(claim.namespace, claim.name, "")
