"""The CustomResourceDefinitions of DeepSeekJob and GPUQueue, which `make crds` writes to ``crds/*.yaml``.

The files are committed, so that a cluster can be set up without Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from drse_operator.api import deepseekjob, gpuqueue
from drse_operator.api.base import GROUP, VERSION, ApiModel, Rule, StatusModel
from drse_operator.api.schema import structural_schema, validations
from drse_operator.api.status import DeepSeekJobStatus

_HEADER = "# Generated from drse_operator/api by `make crds`. Change the models, not this file.\n"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``; ``wide`` ones are shown with ``-o wide`` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def to_wire(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "jsonPath": self.path,
            "priority": int(self.wide),
        }


@dataclass(frozen=True, slots=True)
class Resource:
    """All that a CustomResourceDefinition says about one kind."""

    kind: str
    description: str
    plural: str
    short_name: str
    namespaced: bool
    spec: type[ApiModel]
    status: type[StatusModel]
    rules: tuple[Rule, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: bool = False

    @property
    def file_name(self) -> str:
        return f"{GROUP}_{self.plural}.yaml"


AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation.", type="date")

DEEPSEEKJOB = Resource(
    kind="DeepSeekJob",
    description="DeepSeekJob asks for whole GPUs to serve, train or evaluate a model. DRSE queues it "
    "fairly, gives it GPUs that nobody else holds, runs it, and scales it with its load.",
    plural="deepseekjobs",
    short_name="dsj",
    namespaced=True,
    spec=deepseekjob.DeepSeekJobSpec,
    status=DeepSeekJobStatus,
    rules=deepseekjob.OBJECT_RULES,
    columns=(
        Column("Queue", ".spec.queue", "GPUQueue of the job."),
        Column("State", ".status.phase", "Where the job stands."),
        Column("Reason", ".status.queue.reason", "Why the job, or its next replica, waits."),
        Column("Pos", ".status.queue.position", "Place among the waiting jobs of its queue.", type="integer"),
        # The column type date shows how long ago a time was, and nothing for a time to come.
        Column("ETA", ".status.queue.eta.p50", "Expected start, as likely earlier as later."),
        Column("GPUs", ".status.gpus", "GPUs held.", type="integer"),
        Column("Ready", ".status.ready", "Ready replicas of those wanted."),
        AGE,
        Column("Type", ".spec.taskType", "Kind of work.", wide=True),
        Column("Model", ".spec.model.name", "Model, by its name in the catalogue.", wide=True),
        Column("Priority", ".spec.priorityClassName", "PriorityClass.", wide=True),
        Column("Load", ".status.scaling.load", "Load in GPU-equivalents.", type="number", wide=True),
        Column(
            "P90",
            ".status.scaling.forecastP90",
            "Forecast load in GPU-equivalents.",
            type="number",
            wide=True,
        ),
        Column("Wait", ".status.queue.message", "The wait in a sentence.", wide=True),
    ),
    selectable=(".spec.queue", ".spec.taskType", ".status.phase"),
    scale=True,
)

GPUQUEUE = Resource(
    kind="GPUQueue",
    description="GPUQueue is a line that DeepSeekJobs wait in: who may use it, its weight against other "
    "queues, what it is guaranteed and what it may never exceed.",
    plural="gpuqueues",
    short_name="gq",
    namespaced=False,
    spec=gpuqueue.GPUQueueSpec,
    status=gpuqueue.GPUQueueStatus,
    rules=gpuqueue.OBJECT_RULES,
    columns=(
        Column("Weight", ".spec.weight", "Share relative to other queues.", type="integer"),
        Column("Guaranteed", ".spec.guaranteed", "GPUs it can always get back.", type="integer"),
        Column("Limit", ".spec.limit", "GPUs it never exceeds.", type="integer"),
        Column("Cordoned", ".spec.cordoned", "Whether no waiting job of it may start.", type="boolean"),
        Column("Assigned", ".status.assignedGPUs", "GPUs its jobs hold.", type="integer"),
        Column("Pending", ".status.pendingGPUs", "GPUs its jobs wait for.", type="integer"),
        Column("Jobs", ".status.runningJobs", "Jobs that hold GPUs.", type="integer"),
        AGE,
        Column("Waiting", ".status.pendingJobs", "Jobs that wait for GPUs.", type="integer", wide=True),
    ),
)

RESOURCES = (DEEPSEEKJOB, GPUQUEUE)


def custom_resource_definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) of ``resource``."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["drse"],
            },
            "versions": [_version(resource)],
        },
    }


def _version(resource: Resource) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if resource.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_wire() for column in resource.columns],
        "subresources": subresources,
        "schema": {"openAPIV3Schema": object_schema(resource)},
    }
    if resource.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in resource.selectable]
    return version


def object_schema(resource: Resource) -> dict[str, Any]:
    """Schema of the whole object; of metadata the API server allows no more than a few words."""
    return {
        "description": resource.description,
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": validations(resource.rules),
        "properties": {
            "apiVersion": {
                "description": "Group and version of the API that the object is written in.",
                "type": "string",
            },
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(resource.spec),
            "status": structural_schema(resource.status),
        },
    }


def documents() -> Iterator[tuple[str, str]]:
    """File name and text of each CustomResourceDefinition."""
    for resource in RESOURCES:
        yield (
            resource.file_name,
            _HEADER
            + yaml.dump(
                custom_resource_definition(resource),
                Dumper=_IndentedDumper,
                sort_keys=False,
                width=120,
                allow_unicode=True,
            ),
        )


class _IndentedDumper(yaml.SafeDumper):
    """Indents lists below their key and repeats text rather than anchoring it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True
