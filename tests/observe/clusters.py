"""Clusters as documents, read by the operator's own caches: what its metrics are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drse_operator.admission.planner import plan
from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.reasons import ScalingReason
from drse_operator.api.status import (
    Assignment,
    Condition,
    DeepSeekJobStatus,
    Device,
    Eta,
    QueueStatus,
    ScalingStatus,
)
from drse_operator.cluster import kinds
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.observe.accounts import Accounts
from drse_operator.observe.metrics import Metrics
from tests.lifecycle.model import dra_node, job, plugin_node

Document = dict[str, Any]
NOW = 1_700_000_000.0
H100 = "NVIDIA H100 80GB HBM3"


@dataclass(slots=True)
class Scene:
    """A cluster: documents by kind. ``metrics`` has seen one pass at NOW."""

    nodes: list[Document] = field(default_factory=list)
    slices: list[Document] = field(default_factory=list)
    queues: list[Document] = field(default_factory=list)
    jobs: list[Document] = field(default_factory=list)
    pods: list[Document] = field(default_factory=list)

    def dra(self, *names: str) -> Scene:
        """Nodes of four named H100."""
        for name in names:
            node, piece = dra_node(name)
            self.nodes.append(node)
            self.slices.append(piece)
        return self

    def unready(self, name: str) -> Scene:
        """The same, on a node that is not ready."""
        self.dra(name)
        self.nodes[-1]["status"]["conditions"][0]["status"] = "False"
        return self

    def cordoned(self, name: str) -> Scene:
        """A node that takes nothing new."""
        next(node for node in self.nodes if node["metadata"]["name"] == name)["spec"]["unschedulable"] = True
        return self

    def plugin(self, *names: str) -> Scene:
        """Nodes of four counted H100."""
        self.nodes += [plugin_node(name) for name in names]
        return self

    def queue(self, name: str, **spec: Any) -> Scene:
        self.queues.append({"metadata": {"name": name}, "spec": spec})
        return self

    def job(
        self,
        name: str,
        task: str = "FineTuning",
        gpus: int = 2,
        status: DeepSeekJobStatus | None = None,
        namespace: str = "team",
        age: float = 60.0,
        **spec: Any,
    ) -> Scene:
        document = job(name, task, gpus, **spec)
        queued = status or DeepSeekJobStatus()
        queued = queued.model_copy(update={"queued_at": times.to_wire(NOW - age)})
        document["metadata"] |= {"namespace": namespace, "uid": f"uid-{namespace}-{name}"}
        document["metadata"]["creationTimestamp"] = times.to_wire(NOW - age)
        self.jobs.append({**document, "status": queued.to_wire()})
        return self

    def world(self) -> World:
        world = World(touched=lambda uid: None, stirred=lambda: None)
        content = {
            kinds.NODE: self.nodes,
            kinds.SLICE: self.slices,
            kinds.GPUQUEUE: self.queues,
            kinds.DEEPSEEKJOB: self.jobs,
            kinds.POD: self.pods,
        }
        for kind, documents in content.items():
            world.store(kind).reset([_stored(document) for document in documents], "9")
        return world

    def metrics(self) -> Metrics:
        """The metrics of a leader that has made one pass."""
        metrics, world = Metrics("1.2.3", clock=lambda: NOW + 5), self.world()
        picture = Picture(world)
        metrics.lead(world, picture, accounts_of(world))
        look(metrics, picture)
        return metrics


def accounts_of(world: World) -> Accounts:
    """The accounts of somebody who has watched all jobs from their start."""
    accounts = Accounts(lambda _: None)
    for each in world.all_jobs():
        accounts.see(each.uid, each, NOW)
    return accounts


def look(metrics: Metrics, picture: Picture, now: float = NOW) -> None:
    """One pass: look, plan, tell."""
    usage = picture.usage()
    snapshot = picture.snapshot(usage)
    metrics.take_plan(snapshot, plan(snapshot, now), usage, now)


def _stored(document: Document) -> Document:
    metadata = {"uid": f"uid-{document['metadata']['name']}", "resourceVersion": "1", "generation": 1}
    return {**document, "metadata": {**metadata, **document["metadata"]}}


def holds(node: str, *indices: int, count: int = 0, replica: int = 0, since: float = 100.0) -> Assignment:
    """GPUs of one worker: named ones of a node, or a number of counted ones."""
    devices = tuple(
        Device(uuid=f"GPU-{node}-{i}", driver="gpu.nvidia.com", pool=node, name=f"gpu-{i}") for i in indices
    )
    return Assignment(
        replica=replica,
        worker=0,
        node=node,
        product=H100,
        resource="" if indices else "nvidia.com/gpu",
        device_selection=DeviceSelection.EXACT if indices else DeviceSelection.COUNT_ONLY,
        count=count or len(indices),
        devices=devices,
        since=times.to_wire(NOW - since),
    )


def running(*assignments: Assignment, **fields: Any) -> DeepSeekJobStatus:
    """A job that runs on these."""
    gpus = sum(a.count for a in assignments)
    replicas = len({a.replica for a in assignments})
    common: dict[str, Any] = {
        "phase": Phase.RUNNING,
        "assignments": assignments,
        "gpus": gpus,
        "replicas": replicas,
        "ready_replicas": replicas,
        "gpus_per_replica": gpus // replicas,
    }
    return DeepSeekJobStatus(**(common | fields))


def scaled(desired: int, load: float, frozen: ScalingReason | None = None) -> dict[str, Any]:
    """Fields of a status with a scaling decision."""
    reason = frozen or ScalingReason.WITHIN_THRESHOLDS
    scaling = ScalingStatus(
        desired_replicas=desired, from_replicas=1, load=load, lead_seconds=600, reason=reason
    )
    condition = Condition(
        type="ScalingActive",
        status="False" if frozen else "True",
        reason=reason,
        last_transition_time=times.to_wire(NOW),
    )
    return {"scaling": scaling, "conditions": (condition,)}


def waits(position: int, p50: float, p90: float) -> DeepSeekJobStatus:
    """A job that was told when it starts: seconds from NOW."""
    eta = Eta(p50=times.to_wire(NOW + p50), p90=times.to_wire(NOW + p90))
    queue = QueueStatus(position=position, reason="WaitingForTurn", since=times.to_wire(NOW - 60), eta=eta)
    return DeepSeekJobStatus(phase=Phase.QUEUED, queue=queue)


def foreign_pod(node: str, gpus: int) -> Document:
    """A pod that DRSE did not make, with counted GPUs."""
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {
        "metadata": {"name": "theirs", "namespace": "else", "creationTimestamp": times.to_wire(NOW - 9)},
        "spec": {"nodeName": node, "containers": [{"name": "main", "resources": limits}]},
        "status": {"phase": "Running"},
    }
