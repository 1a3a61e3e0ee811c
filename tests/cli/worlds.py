"""Small clusters made of documents, as the API server would list them, and without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from drse_operator.api import times
from drse_operator.cluster import kinds
from drse_operator.cluster.client import Kind
from drse_operator.cluster.world import World

Document = dict[str, Any]

#: The moment of all these clusters: 2026-11-24T12:00:00Z.
NOW = 1795521600.0
H100 = "NVIDIA H100 80GB HBM3"
L40S = "NVIDIA L40S"


@dataclass
class Documents:
    """What a cluster holds, by kind; ``world`` makes a world of it."""

    listed: dict[Kind, list[Document]] = field(default_factory=dict)
    version: int = 0

    def add(self, kind: Kind, document: Document) -> Document:
        """Put an object with the next version."""
        self.version += 1
        document["metadata"].setdefault("uid", f"uid-{self.version}")
        document["metadata"]["resourceVersion"] = str(self.version)
        self.listed.setdefault(kind, []).append(document)
        return document

    def world(self) -> World:
        """A world that knows all of it."""
        world = World(touched=lambda uid: None, stirred=lambda: None)
        for kind, documents in self.listed.items():
            world.store(kind).reset(documents, str(self.version))
        return world

    # -- objects ---------------------------------------------------------------------------------------

    def node(self, name: str, gpus: int = 8, product: str = H100, **labels: str) -> None:
        """A ready node whose GPUs are published by a DRA driver, GPU-NAME-0 and so on."""
        conditions = [{"type": "Ready", "status": "True"}]
        self.add(
            kinds.NODE, {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions}}
        )
        devices = [
            {
                "name": f"gpu-{i}",
                "attributes": {
                    "type": {"string": "gpu"},
                    "uuid": {"string": f"GPU-{name}-{i}"},
                    "productName": {"string": product},
                },
                "capacity": {"memory": {"value": "81559Mi" if product == H100 else "46068Mi"}},
            }
            for i in range(gpus)
        ]
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": "gpu.nvidia.com", "nodeName": name, "pool": pool, "devices": devices}
        self.add(kinds.SLICE, {"metadata": {"name": f"slice-{name}"}, "spec": spec})

    def queue(self, name: str, status: Document | None = None, **spec: Any) -> None:
        """A GPUQueue."""
        self.add(
            kinds.GPUQUEUE,
            {"metadata": {"name": name, "generation": 1}, "spec": spec, "status": status or {}},
        )

    def priority(self, name: str, value: int) -> None:
        """A PriorityClass."""
        self.add(kinds.PRIORITY_CLASS, {"metadata": {"name": name}, "value": value})

    def job(
        self,
        name: str,
        namespace: str = "team-a",
        *,
        on: Iterable[tuple[str, Iterable[int]]] = (),
        age: float = 600.0,
        status: Document | None = None,
        **spec: Any,
    ) -> Document:
        """A DeepSeekJob, created ``age`` seconds ago. ``on``: nodes and GPUs that its replicas hold."""
        held = [
            assignment(replica, node, list(gpus), NOW - age + 5) for replica, (node, gpus) in enumerate(on)
        ]
        created = times.to_wire(NOW - age)
        base: Document = {"queuedAt": created, "phase": "Running" if held else "Queued"}
        if held:
            gpus = sum(a["count"] for a in held)
            base |= {
                "assignments": held,
                "gpus": gpus,
                "replicas": len(held),
                "readyReplicas": len(held),
                "gpusPerReplica": held[0]["count"],
                "startTime": times.to_wire(NOW - age + 10),
            }
        metadata = {
            "name": name,
            "namespace": namespace,
            "generation": 1,
            "creationTimestamp": created,
        }
        document = {"metadata": metadata, "spec": job_spec(**spec), "status": base | (status or {})}
        return self.add(kinds.DEEPSEEKJOB, document)


def job_spec(gpus: int = 8, product: str = "H100", **spec: Any) -> Document:
    """The spec of a batch job of some GPUs."""
    resources = {"gpusPerReplica": gpus, "accelerators": [{"vendor": "nvidia", "product": product}]}
    resources |= spec.pop("resources", {})
    return {
        "taskType": "Batch",
        "queue": "research",
        "resources": resources,
        "runtime": {"engine": "Custom", "image": "registry.example/job:1"},
        **spec,
    }


def assignment(replica: int, node: str, gpus: list[int], since: float, product: str = H100) -> Document:
    """One worker's GPUs."""
    return {
        "replica": replica,
        "worker": 0,
        "node": node,
        "product": product,
        "deviceSelection": "Exact",
        "count": len(gpus),
        "devices": [
            {"uuid": f"GPU-{node}-{i}", "driver": "gpu.nvidia.com", "pool": node, "name": f"gpu-{i}"}
            for i in gpus
        ],
        "since": times.to_wire(since),
        "bound": True,
    }


def busy() -> Documents:
    """Two H100 nodes, nearly full, and an L40S node; a gang that waits, and a job that nobody can run."""
    made = Documents()
    for name in ("team-a", "team-b"):
        made.add(kinds.NAMESPACE, {"metadata": {"name": name}})
    rack = {"topology.kubernetes.io/rack": "rack-1"}
    made.node("h100-0", **rack)
    made.node("h100-1", **rack)
    made.node("l40s-0", 4, L40S)
    made.queue("research", weight=2, guaranteed=4)
    made.queue("product", limit=20)
    made.priority("urgent", 1000)
    made.job("chat", on=[("h100-0", range(6))], gpus=6, taskType="Inference")
    made.job(
        "tune",
        "team-b",
        on=[("h100-1", range(6))],
        gpus=6,
        queue="product",
        taskType="FineTuning",
        estimatedDuration="2h",
    )
    made.job(
        "pretrain",
        age=300,
        estimatedDuration="8h",
        taskType="PreTraining",
        resources={"workersPerReplica": 1},
    )
    made.job("small", "team-b", age=200, gpus=2, queue="product")
    made.job("lost", age=100, gpus=2, product="B200")
    return made
