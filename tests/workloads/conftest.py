"""Jobs and assignments as the builders get them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.status import Assignment, DeepSeekJobStatus, Device
from drse_operator.workloads.observed import Job

MakeJob = Callable[..., Job]
MakeAssignment = Callable[..., Assignment]


@pytest.fixture(scope="session")
def make_job() -> MakeJob:
    def make(name: str = "chat", namespace: str = "serving", **spec: Any) -> Job:
        return Job(
            key=JobKey(namespace, name),
            uid="0b0c1d2e-0000-4000-8000-000000000001",
            resource_version="7",
            generation=1,
            created=0.0,
            deleting=False,
            spec=DeepSeekJobSpec.model_validate({"taskType": "Inference", **spec}),
            status=DeepSeekJobStatus(),
        )

    return make


@pytest.fixture(scope="session")
def exact() -> MakeAssignment:
    """GPUs of a node that DRA publishes, named."""

    def make(replica: int = 0, worker: int = 0, count: int = 2, node: str = "node-7") -> Assignment:
        devices = tuple(
            Device(uuid=f"GPU-{node}-{i}", driver="gpu.nvidia.com", pool=node, name=f"gpu-{i}")
            for i in range(count)
        )
        return Assignment(
            replica=replica,
            worker=worker,
            node=node,
            product="NVIDIA H100 80GB HBM3",
            device_selection=DeviceSelection.EXACT,
            count=count,
            devices=devices,
            since="2026-01-01T00:00:00Z",
        )

    return make


@pytest.fixture(scope="session")
def counted() -> MakeAssignment:
    """GPUs of a node with a device plugin, of which only the number is known."""

    def make(
        replica: int = 0,
        worker: int = 0,
        count: int = 8,
        resource: str = "amd.com/gpu",
        product: str = "AMD_Instinct_MI300X_OAM",
    ) -> Assignment:
        return Assignment(
            replica=replica,
            worker=worker,
            node="node-9",
            product=product,
            resource=resource,
            device_selection=DeviceSelection.COUNT_ONLY,
            count=count,
            since="2026-01-01T00:00:00Z",
        )

    return make
