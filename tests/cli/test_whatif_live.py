"""P6 on a real cluster: what ``drse whatif`` answers is what the operator does when the job is applied."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.cli.conftest import Drse
from tests.operator.harness import A100, H100, L40S, Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

#: Applied one after the other: each answer is asked for on the cluster that the ones before have left.
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("starts-by-name", {"resources": {"gpusPerReplica": 5, "accelerators": [H100]}}),
    ("starts-beside", {"resources": {"gpusPerReplica": 4, "accelerators": [H100]}, "taskType": "FineTuning"}),
    ("counted", {"resources": {"gpusPerReplica": 3, "accelerators": [A100]}}),
    (
        "reserved",
        {
            "resources": {"gpusPerReplica": 8, "workersPerReplica": 1, "accelerators": [H100]},
            "taskType": "PreTraining",
        },
    ),
    ("passes", {"resources": {"gpusPerReplica": 2, "accelerators": [H100]}, "estimatedDuration": "1m"}),
    ("behind", {"resources": {"gpusPerReplica": 8, "workersPerReplica": 1, "accelerators": [H100]}}),
    ("limited", {"resources": {"gpusPerReplica": 4, "accelerators": [L40S]}, "queue": "narrow"}),
    ("never", {"resources": {"gpusPerReplica": 1, "memoryPerGPU": "500Gi"}}),
    ("queueless", {"queue": "nowhere"}),
    ("gang", {"resources": {"gpusPerReplica": 8, "workersPerReplica": 4, "accelerators": [L40S, H100]}}),
    (
        "service",
        {
            "taskType": "Inference",
            "scaling": {"mode": "Auto", "minReplicas": 2, "maxReplicas": 4},
            "resources": {"gpusPerReplica": 1, "accelerators": [A100]},
        },
    ),
]


@pytest.fixture(scope="module")
def narrow(cluster: Cluster) -> None:
    cluster.queue("narrow", limit=4)
    cluster.queue("wide", weight=3)


@pytest.mark.usefixtures("narrow")
def test_the_answer_is_what_happens(cluster: Cluster, drse: Drse, namespace: str) -> None:
    outcomes = set()
    cluster.job(namespace, "holder", queue="narrow", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    cluster.wait_status(namespace, "holder", lambda s: s.assignments, 60)
    for name, spec in ASKED:
        document = _document(namespace, name, spec)
        said = drse("whatif", "-f", "-", "-o", "json", stdin=yaml.safe_dump(document))
        assert cluster.get(kinds.DEEPSEEKJOB, name, namespace) is None, "nothing is created"
        (answer,) = said.json["items"]
        outcomes.add(answer["outcome"])
        cluster.job(namespace, name, **spec)
        status = cluster.wait_status(namespace, name, lambda s: s.queue is not None or s.assignments, 60)
        assert _told(answer) == _happened(status), (name, answer, status)
        assert said.code == (3 if answer["outcome"] == "Refused" else 0)
        _settle(cluster, namespace)
    assert outcomes == {"Starts", "Waits", "Refused"}


@pytest.mark.usefixtures("narrow")
def test_whoever_gives_way_was_told_before(cluster: Cluster, drse: Drse, namespace: str) -> None:
    """A guarantee takes GPUs back: whatif names the job that loses them, and asking took nothing yet."""
    cluster.queue("promised", guaranteed=4)
    four = {"gpusPerReplica": 4, "accelerators": [L40S]}
    cluster.job(namespace, "borrower", resources=four)
    cluster.wait_status(namespace, "borrower", lambda s: s.start_time is not None, 60)
    _settle(cluster, namespace)
    spec = {"resources": four, "queue": "promised"}
    said = drse("whatif", "-f", "-", "-o", "json", stdin=yaml.safe_dump(_document(namespace, "owner", spec)))
    (answer,) = said.json["items"]
    assert (answer["outcome"], answer["preempts"]) == ("Preempts", [f"{namespace}/borrower"])
    assert cluster.status(namespace, "borrower").preemptions == 0
    cluster.job(namespace, "owner", **spec)
    cluster.wait_status(namespace, "owner", lambda s: s.assignments, 60)
    assert cluster.status(namespace, "borrower").preemptions == 1
    told = drse("decisions", "--job", "owner", "-n", namespace, "-o", "json").json
    assert told["source"] in ("journal", "events")


def _document(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """As ``Cluster.job`` makes it."""
    defaults: dict[str, Any] = {
        "taskType": "Batch",
        "queue": "tests",
        "resources": {"gpusPerReplica": 1, "accelerators": [A100]},
        "runtime": {"engine": "Custom", "image": "registry.example/job:1"},
    }
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": metadata,
        "spec": defaults | spec,
    }


def _told(answer: dict[str, Any]) -> object:
    if answer["outcome"] == "Starts":
        return sorted(
            (p["replica"], p["worker"], p["node"], p["count"], *p["uuids"]) for p in answer["places"]
        )
    return answer["reason"], answer["position"]


def _happened(status: DeepSeekJobStatus) -> object:
    if status.assignments:
        return sorted(
            (a.replica, a.worker, a.node, a.count, *sorted(d.uuid for d in a.devices))
            for a in status.assignments
        )
    assert status.queue is not None
    return status.queue.reason, status.queue.position


def _settle(cluster: Cluster, namespace: str) -> None:
    """Until everything promised is bound, so that the next answer and the next plan see one cluster."""
    for job in cluster.list(kinds.DEEPSEEKJOB, namespace):
        name = job["metadata"]["name"]
        cluster.wait_status(namespace, name, lambda s: all(a.bound for a in s.assignments), 60)
