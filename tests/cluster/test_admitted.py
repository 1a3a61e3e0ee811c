"""What may change in a DeepSeekJob while it holds GPUs, and how its status is written and read.

Level: the real API server. The rules compare the new object with the old one, so nothing else can check them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from drse_local.errors import LocalClusterError
from drse_local.threaded import ThreadedCluster
from drse_operator.api.base import API_VERSION, GROUP, VERSION
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.status import (
    Assignment,
    Condition,
    DeepSeekJobStatus,
    Device,
    Eta,
    QueueStatus,
    ScalingStatus,
)

NOW = "2026-01-02T03:04:05Z"
SPEC: dict[str, Any] = {
    "taskType": "Inference",
    "model": {"name": "deepseek-ai/DeepSeek-R1"},
    "resources": {"gpusPerReplica": 1},
}
ASSIGNMENT = Assignment(
    replica=0,
    worker=0,
    node="node-1",
    device_selection=DeviceSelection.EXACT,
    count=1,
    devices=(Device(uuid="GPU-1", driver="gpu.nvidia.com", pool="node-1", name="gpu-0"),),
    since=NOW,
)
FULL_STATUS = DeepSeekJobStatus(
    observed_generation=3,
    phase=Phase.RUNNING,
    conditions=(Condition(type="Admitted", status="True", reason="GPUsAssigned", last_transition_time=NOW),),
    queue=QueueStatus(position=2, reason="Reserved", since=NOW, eta=Eta(p50=NOW, p90=NOW)),
    assignments=(ASSIGNMENT, ASSIGNMENT.model_copy(update={"worker": 1, "node": "node-2"})),
    gpus=2,
    gpus_per_replica=2,
    replicas=1,
    ready="0/1",
    succeeded_replicas=(0,),
    selector="drse.dev/job=chat",
    scaling=ScalingStatus(desired_replicas=2, load=1.5, forecast_p50=1.0, forecast_p90=2.25, capacity=2),
    queued_at=NOW,
    start_time=NOW,
)


class StoredJob:
    """One DeepSeekJob in the API server, named by chance."""

    def __init__(self, custom_objects: client.CustomObjectsApi) -> None:
        self._api = custom_objects
        self.name = f"job-{uuid.uuid4().hex[:8]}"
        self._where: dict[str, Any] = {
            "group": GROUP, "version": VERSION, "namespace": "default", "plural": "deepseekjobs"
        }  # fmt: skip
        document = {
            "apiVersion": API_VERSION,
            "kind": "DeepSeekJob",
            "metadata": {"name": self.name},
            "spec": SPEC,
        }
        self._api.create_namespaced_custom_object(body=document, **self._where)

    def delete(self) -> None:
        self._api.delete_namespaced_custom_object(name=self.name, **self._where)

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = self._api.get_namespaced_custom_object(name=self.name, **self._where)
        return document

    def change(self, spec: dict[str, Any]) -> str:
        """Merge ``spec`` in; the API server's message when it refuses, else empty."""
        try:
            self._api.patch_namespaced_custom_object(name=self.name, body={"spec": spec}, **self._where)
        except client.ApiException as error:
            return str(json.loads(error.body)["message"])
        return ""

    def write_status(self, status: DeepSeekJobStatus) -> None:
        self._api.replace_namespaced_custom_object_status(
            name=self.name, body={**self.read(), "status": status.to_wire()}, **self._where
        )


@pytest.fixture
def job(custom_objects: client.CustomObjectsApi) -> Iterator[StoredJob]:
    stored = StoredJob(custom_objects)
    yield stored
    stored.delete()


FROZEN: dict[str, dict[str, Any]] = {
    "taskType": {"taskType": "Batch", "runtime": {"image": "x"}},
    "queue": {"queue": "other"},
    "model": {"model": {"name": "deepseek-ai/DeepSeek-V3"}},
    "resources": {"resources": {"gpusPerReplica": 2}},
}


@pytest.mark.parametrize(("field", "change"), FROZEN.items(), ids=FROZEN.keys())
def test_what_sized_and_placed_it_is_fixed_until_the_gpus_are_free(
    job: StoredJob, field: str, change: dict[str, Any]
) -> None:
    job.write_status(DeepSeekJobStatus(assignments=(ASSIGNMENT,)))
    refusal = job.change(change)
    assert f"spec.{field} cannot change while the job holds GPUs" in refusal
    assert "set spec.suspend to true" in refusal
    assert job.change({"suspend": True}) == ""
    assert f"spec.{field} cannot change" in job.change(change), "suspended, but its GPUs are not free yet"
    job.write_status(DeepSeekJobStatus())
    assert job.change(change) == ""


def test_model_cannot_be_taken_away_while_admitted(job: StoredJob) -> None:
    job.write_status(DeepSeekJobStatus(assignments=(ASSIGNMENT,)))
    assert "spec.model cannot change" in job.change({"model": None})


@pytest.mark.parametrize(
    "change",
    [{"replicas": 3}, {"scaling": {"mode": "Auto", "maxReplicas": 4}}, {"runtime": {"args": ["--x"]}}],
    ids=["replicas", "scaling", "runtime"],
)
def test_what_can_be_followed_may_change_while_admitted(job: StoredJob, change: dict[str, Any]) -> None:
    job.write_status(DeepSeekJobStatus(assignments=(ASSIGNMENT,)))
    assert job.change(change) == ""


def test_everything_may_change_while_it_waits(job: StoredJob) -> None:
    for change in FROZEN.values():
        assert job.change(change) == ""


def test_status_comes_back_as_it_was_written(job: StoredJob) -> None:
    job.write_status(FULL_STATUS)
    assert DeepSeekJobStatus.from_wire(job.read()["status"]) == FULL_STATUS


def test_two_promises_for_one_worker_are_refused(job: StoredJob) -> None:
    """The list-map keys of ``status.assignments`` are the last guard against a double promise."""
    twice = DeepSeekJobStatus.model_construct(assignments=(ASSIGNMENT, ASSIGNMENT))
    with pytest.raises(client.ApiException, match="Duplicate value"):
        job.write_status(twice)


def test_kubectl_scales_and_shows_it(job: StoredJob, cluster_with_crds: ThreadedCluster) -> None:
    cluster_with_crds.kubectl("scale", "dsj", job.name, "--replicas=3")
    job.write_status(FULL_STATUS)
    header, row = cluster_with_crds.kubectl("get", "dsj", job.name).stdout.splitlines()
    assert header.split() == ["NAME", "QUEUE", "STATE", "REASON", "POS", "ETA", "GPUS", "READY", "AGE"]
    assert row.split()[:-1] == [job.name, "default", "Running", "Reserved", "2", NOW, "2", "0/1"]
    assert job.read()["spec"]["replicas"] == 3
    with pytest.raises(LocalClusterError, match="replicas"):
        cluster_with_crds.kubectl("scale", "dsj", job.name, "--replicas=1001")
