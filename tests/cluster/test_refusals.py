"""What people read when ``kubectl apply`` refuses a DeepSeekJob or GPUQueue: the field, and what to change.

Level: the real API server and the real kubectl. That the models refuse the same is shown in
``test_validation_agreement.py``.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import pytest

from drse_local.errors import LocalClusterError
from drse_local.threaded import ThreadedCluster

JOB: dict[str, Any] = {
    "apiVersion": "drse.dev/v1alpha1",
    "kind": "DeepSeekJob",
    "metadata": {"name": "chat", "namespace": "default"},
    "spec": {"taskType": "Inference", "model": {"name": "deepseek-ai/DeepSeek-R1"}},
}
QUEUE: dict[str, Any] = {
    "apiVersion": "drse.dev/v1alpha1",
    "kind": "GPUQueue",
    "metadata": {"name": "research"},
    "spec": {},
}


@dataclass(frozen=True)
class Refused:
    """A change that is refused, and words that the refusal must hold: the field and the rule."""

    path: str
    value: object
    words: tuple[str, ...]
    base: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        document = copy.deepcopy(self.base or JOB)
        *parents, last = self.path.split("/")
        inner = document
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = self.value
        return document


def pod(**spec: object) -> object:
    return {"spec": spec}


def engine(**resources: object) -> list[object]:
    return [{"name": "engine", "resources": resources}]


LIMITS_REFUSED = ("limits must not name GPUs", "spec.resources.gpusPerReplica")
REFUSALS = {
    "unknown field": Refused("spec/gpus", 8, ('unknown field "spec.gpus"',)),
    "unknown nested field": Refused("spec/scaling/min", 1, ('unknown field "spec.scaling.min"',)),
    "field in snake case": Refused("spec/task_type", "Batch", ('unknown field "spec.task_type"',)),
    "wrong enum": Refused("spec/taskType", "Chat", ("spec.taskType", '"Chat"', "Inference", "Batch")),
    "bare Off in YAML": Refused("spec/scaling/mode", False, ("spec.scaling.mode", "type string")),
    "missing task type": Refused("spec", {"model": {"name": "x"}}, ("spec.taskType", "Required value")),
    "negative replicas": Refused("spec/replicas", -1, ("spec.replicas", "greater than or equal to 0")),
    "negative GPUs": Refused(
        "spec/resources/gpusPerReplica", -8, ("spec.resources.gpusPerReplica", "greater than or equal to 1")
    ),
    "replicas as text": Refused("spec/replicas", "2", ("spec.replicas", "type integer")),
    "half a replica": Refused("spec/replicas", 1.5, ("spec.replicas", "type integer")),
    "min above max": Refused(
        "spec/scaling", {"minReplicas": 3, "maxReplicas": 2}, ("spec.scaling.minReplicas", "not exceed")
    ),
    "down above up": Refused(
        "spec/scaling", {"scaleDownAt": 0.9, "scaleUpAt": 0.8}, ("spec.scaling.scaleDownAt", "below")
    ),
    "down equal to up": Refused(
        "spec/scaling", {"scaleDownAt": 0.8, "scaleUpAt": 0.8}, ("spec.scaling.scaleDownAt", "below")
    ),
    "bad quantity": Refused(
        "spec/resources/memoryPerGPU", "80 GB", ("spec.resources.memoryPerGPU", "such as 80Gi")
    ),
    "bad duration": Refused("spec/estimatedDuration", "2 hours", ("spec.estimatedDuration", "such as 1h30m")),
    "duration of zero": Refused(
        "spec/estimatedDuration", "0s", ("spec.estimatedDuration", "longer than zero")
    ),
    "bad queue name": Refused("spec/queue", "Research", ("spec.queue", "only lower-case")),
    "no way to size": Refused(
        "spec",
        {"taskType": "Inference"},
        ("spec.resources.gpusPerReplica", "cannot be derived", "spec.model"),
    ),
    "model without name or shape": Refused("spec/model", {"contextLength": 1}, ("spec.model", "model.shape")),
    "no parameters": Refused(
        "spec/model",
        {"shape": {"parameters": "0B", "layers": 1, "hiddenSize": 64}},
        ("spec.model.shape.parameters", "more than zero"),
    ),
    "uneven workers": Refused(
        "spec/resources",
        {"gpusPerReplica": 8, "workersPerReplica": 3},
        ("spec.resources.workersPerReplica", "must divide gpusPerReplica"),
    ),
    "too many GPUs for one worker": Refused(
        "spec/resources",
        {"gpusPerReplica": 64, "workersPerReplica": 1},
        ("spec.resources.workersPerReplica", "at most 32 GPUs"),
    ),
    "scaling of a batch job": Refused(
        "spec",
        {"taskType": "Batch", "resources": {"gpusPerReplica": 1}, "scaling": {"mode": "Auto"}},
        ("spec.scaling.mode", "needs taskType Inference"),
    ),
    "no image": Refused("spec/runtime", {"engine": "Custom"}, ("spec.runtime.image", "is needed")),
    "variable twice": Refused(
        "spec/runtime/env", [{"name": "A", "value": "1"}, {"name": "A"}], ("spec.runtime.env[1]", "Duplicate")
    ),
    "variable with two sources": Refused(
        "spec/runtime/env",
        [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        ("spec.runtime.env[0]", "not both"),
    ),
    "own node": Refused(
        "spec/runtime/podTemplate",
        pod(nodeName="node-1"),
        ("podTemplate.spec.nodeName", "DRSE chooses the node"),
    ),
    "own node selector": Refused(
        "spec/runtime/podTemplate",
        pod(nodeSelector={"rack": "r1"}),
        ("podTemplate.spec.nodeSelector", "could exclude the assigned node"),
    ),
    "own NVIDIA GPUs": Refused(
        "spec/runtime/podTemplate", pod(containers=engine(limits={"nvidia.com/gpu": 1})), LIMITS_REFUSED
    ),
    "own AMD GPUs": Refused(
        "spec/runtime/podTemplate", pod(containers=engine(limits={"amd.com/gpu": "1"})), LIMITS_REFUSED
    ),
    "own Gaudi cards": Refused(
        "spec/runtime/podTemplate", pod(containers=engine(limits={"habana.ai/gaudi": 1})), LIMITS_REFUSED
    ),
    "GPUs for an init container": Refused(
        "spec/runtime/podTemplate", pod(initContainers=engine(limits={"nvidia.com/gpu": 1})), LIMITS_REFUSED
    ),
    "label of DRSE": Refused(
        "spec/runtime/podTemplate",
        {"metadata": {"labels": {"drse.dev/job": "other"}}},
        ("podTemplate.metadata.labels", "set by DRSE"),
    ),
    "bad label name": Refused(
        "spec/runtime/podTemplate",
        {"metadata": {"labels": {"a b": "c"}}},
        ("podTemplate.metadata.labels", "each name in labels"),
    ),
    "name too long": Refused("metadata/name", "a" * 53, ("metadata.name", "at most 52 characters")),
    "name with a dot": Refused("metadata/name", "a.b", ("metadata.name", "must start with a letter")),
    "name of digits": Refused("metadata/name", "42", ("metadata.name", "must start with a letter")),
    "queue: guaranteed above limit": Refused(
        "spec", {"guaranteed": 9, "limit": 8}, ("spec.guaranteed", "must not exceed limit"), QUEUE
    ),
    "queue: nobody let in": Refused("spec/namespaces", {}, ("spec.namespaces", "lets nobody in"), QUEUE),
    "queue: weight of zero": Refused("spec/weight", 0, ("spec.weight", "greater than or equal to 1"), QUEUE),
    "queue: bad label name": Refused(
        "spec/namespaces/matchLabels", {"a b": "c"}, ("spec.namespaces.matchLabels", "each name in"), QUEUE
    ),
    "queue: name with a dot": Refused("metadata/name", "a.b", ("metadata.name", "used as a label"), QUEUE),
}


@pytest.mark.parametrize("refused", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal_names_field_and_rule(cluster_with_crds: ThreadedCluster, refused: Refused) -> None:
    with pytest.raises(LocalClusterError) as failure:
        cluster_with_crds.kubectl(
            "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(refused.document())
        )
    missing = [word for word in refused.words if word not in str(failure.value)]
    assert not missing, f"{missing} not in: {failure.value}"


@pytest.mark.parametrize("document", [JOB, QUEUE], ids=["job", "queue"])
def test_base_of_the_table_is_accepted(cluster_with_crds: ThreadedCluster, document: dict[str, Any]) -> None:
    """Without the one change, each of the above would pass: the refusals are due to nothing else."""
    cluster_with_crds.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
