"""The documents that reach the API server, whole, as files under ``golden/``.

``DRSE_RENEW_GOLDEN=1 uv run pytest tests/workloads/test_golden.py`` writes them anew; review the difference.
That the API server takes such documents is shown by the tests under ``tests/cluster``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drse_operator.api.status import Assignment
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind, Shape
from drse_operator.workloads.claims import build_claim
from drse_operator.workloads.observed import Job
from drse_operator.workloads.pods import build_pod
from drse_operator.workloads.services import build_services

GOLDEN = Path(__file__).parent / "golden"
Documents = list[dict[str, Any]]
Make = Callable[..., Any]


def shape_of(assignment: Assignment, workers: int) -> Shape:
    vendor = accelerators.vendor_of(assignment.product, assignment.resource)
    gpus = workers * assignment.count
    kind = AcceleratorKind(vendor, assignment.product, 0, 0, assignment.count, gpus)
    return Shape(kind, workers, assignment.count, assignment.count, workers, 0)


def chat_service(make_job: Make, exact: Make, counted: Make) -> Documents:
    """One replica of a scaled service on two named GPUs, with the user's own words on the pod."""
    job: Job = make_job(
        queue="serving",
        priorityClassName="production",
        model={"name": "deepseek-r1-distill-qwen-32b", "concurrency": 16},
        resources={"gpusPerReplica": 2},
        scaling={"mode": "Auto", "minReplicas": 2, "maxReplicas": 8, "targetConcurrency": 64},
        runtime={
            "args": ["--enable-prefix-caching"],
            "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}],
            "podTemplate": {
                "metadata": {
                    "labels": {"team": "chat"},
                    "annotations": {"local.drse.dev/start-seconds": "20"},
                },
                "spec": {
                    "terminationGracePeriodSeconds": 120,
                    "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
                    "containers": [
                        {
                            "name": "engine",
                            "imagePullPolicy": "IfNotPresent",
                            "resources": {"requests": {"cpu": "8", "memory": "64Gi"}},
                            "volumeMounts": [{"name": "weights", "mountPath": "/root/.cache/huggingface"}],
                        },
                        {"name": "log-shipper", "image": "docker.io/fluent/fluent-bit:4.1.0"},
                    ],
                },
            },
        },
    )
    assignment = exact()
    return [
        build_claim(job, assignment),
        build_pod(job, assignment, shape_of(assignment, workers=1)),
        *build_services(job, gang=False),
    ]


def two_node_service(make_job: Make, exact: Make, counted: Make) -> Documents:
    """Both workers of a replica of DeepSeek-R1 on two nodes of eight GPUs."""
    job = make_job("r1", model={"name": "deepseek-ai/DeepSeek-R1", "concurrency": 8})
    workers = [exact(worker=i, count=8, node=f"node-{i}") for i in range(2)]
    pods = [build_pod(job, worker, shape_of(worker, workers=2)) for worker in workers]
    return [*pods, *build_services(job, gang=True)]


def pre_training_gang(make_job: Make, exact: Make, counted: Make) -> Documents:
    """The second worker of a training gang on counted GPUs."""
    job = make_job(
        "pretrain",
        "research",
        taskType="PreTraining",
        resources={"gpusPerReplica": 16, "workersPerReplica": 2},
        runtime={"image": "example.org/pretrain:1", "command": ["torchrun", "train.py"]},
    )
    worker = counted(worker=1)
    return [build_pod(job, worker, shape_of(worker, workers=2)), *build_services(job, gang=True)]


def sglang_on_amd(make_job: Make, exact: Make, counted: Make) -> Documents:
    """Another engine on another vendor's GPUs."""
    job = make_job("coder", model={"name": "DeepSeek-V3.1"}, runtime={"engine": "SGLang", "port": 30000})
    worker = counted()
    return [build_pod(job, worker, shape_of(worker, workers=1))]


@pytest.mark.parametrize("case", [chat_service, two_node_service, pre_training_gang, sglang_on_amd])
def test_documents_are_as_committed(
    case: Callable[[Make, Make, Make], Documents], make_job: Make, exact: Make, counted: Make
) -> None:
    documents = case(make_job, exact, counted)
    path = GOLDEN / f"{case.__name__}.yaml"
    if os.environ.get("DRSE_RENEW_GOLDEN"):
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False, width=110), encoding="utf-8")
    assert documents == list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
