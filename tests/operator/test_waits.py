"""Every wait says why, and ends by itself when its cause is mended."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.harness import A100, H100, L40S, Cluster, eventually, running_for

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def test_a_missing_queue_is_named_and_mended(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "lost", queue=f"{namespace}-queue")
    message = cluster.wait_reason(namespace, "lost", "QueueNotFound", seconds=2)
    assert f"{namespace}-queue does not exist" in message and "(there are: " in message
    eventually(lambda: cluster.event_reasons(namespace, "lost"), lambda reasons: "Waiting" in reasons)
    cluster.queue(f"{namespace}-queue")
    cluster.wait_status(namespace, "lost", lambda s: s.phase is Phase.RUNNING)


def test_a_namespace_is_let_in_later(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-closed"
    cluster.queue(name, namespaces={"matchLabels": {"team": namespace}})
    cluster.job(namespace, "outside", queue=name)
    cluster.wait_reason(namespace, "outside", "NamespaceNotAllowed")
    cluster.merge(kinds.NAMESPACE, namespace, None, {"metadata": {"labels": {"team": namespace}}})
    cluster.wait_status(namespace, "outside", lambda s: s.phase is Phase.RUNNING)


def test_a_cordoned_queue_tells_no_start_and_hides_no_mistake(cluster: Cluster, namespace: str) -> None:
    """The start that was told goes with the reason; what its user must mend keeps its own reason."""
    name = f"{namespace}-drained"
    cluster.queue(name)
    runtime = running_for(600)
    four = {"gpusPerReplica": 4, "accelerators": [L40S]}
    for job in ("runs", "waits"):
        cluster.job(namespace, job, queue=name, resources=four, runtime=runtime, estimatedDuration="10m")
        cluster.wait_status(namespace, job, lambda s: s.phase is Phase.RUNNING or s.queue is not None)
    cluster.wait_status(namespace, "waits", lambda s: s.queue is not None and s.queue.eta is not None, 60)
    cluster.merge(kinds.GPUQUEUE, name, None, {"spec": {"cordoned": True}})
    assert f"not while queue {name} is cordoned" in cluster.wait_reason(namespace, "waits", "QueueCordoned")
    status = cluster.status(namespace, "waits")
    assert status.queue is not None and status.queue.eta is None
    unknown = {"gpusPerReplica": 1, "accelerators": [{"vendor": "nvidia", "product": "none-such"}]}
    cluster.job(namespace, "wrong", queue=name, resources=unknown)
    cluster.wait_reason(namespace, "wrong", "NoSuchAccelerator")


def test_nobody_reads_names_of_other_namespaces(cluster: Cluster, namespace: str) -> None:
    """Status and events say that a job of the queue goes first, not which."""
    other = f"{namespace}-other"
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    spec = {
        "resources": {"gpusPerReplica": 4, "accelerators": [L40S]},
        "runtime": running_for(600),
        "estimatedDuration": "10m",
    }
    cluster.job(namespace, "runs", **spec)
    cluster.wait_status(namespace, "runs", lambda s: s.phase is Phase.RUNNING)
    cluster.job(namespace, "first", **spec)
    cluster.wait_reason(namespace, "first", "Reserved")
    cluster.job(other, "second", **spec)
    try:
        message = cluster.wait_reason(other, "second", "WaitingForTurn")
        assert "a job of queue tests goes first" in message
        events = eventually(lambda: cluster.list(kinds.EVENT, other), len)
        assert not [e["note"] for e in events if f"{namespace}/" in e["note"]]
    finally:
        cluster.delete(kinds.DEEPSEEKJOB, "second", other)


def test_a_missing_priority_class(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-high"
    cluster.job(namespace, "important", priorityClassName=name)
    assert name in cluster.wait_reason(namespace, "important", "PriorityClassNotFound")
    document = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
    }
    cluster.create(kinds.PRIORITY_CLASS, document)
    cluster.wait_status(namespace, "important", lambda s: s.phase is Phase.RUNNING)


@pytest.mark.parametrize(
    ("spec", "reason", "numbers"),
    [
        pytest.param(
            {"resources": {"gpusPerReplica": 1, "memoryPerGPU": "500Gi"}},
            "InsufficientMemoryPerGPU",
            ["500 GiB"],
            id="more-memory-than-any-gpu-has",
        ),
        pytest.param(
            {"resources": {"gpusPerReplica": 64, "accelerators": [H100]}},
            "TooLargeForCluster",
            ["64", "16"],
            id="more-gpus-than-the-cluster-has",
        ),
        pytest.param(
            {"resources": {"gpusPerReplica": 16, "workersPerReplica": 1, "accelerators": [H100]}},
            "TooManyGPUsPerNode",
            ["16", "8"],
            id="more-gpus-than-a-node-has",
        ),
        pytest.param(
            {"resources": {"gpusPerReplica": 1, "accelerators": [{"vendor": "nvidia", "product": "B200"}]}},
            "NoSuchAccelerator",
            ["B200"],
            id="no-such-accelerator",
        ),
        pytest.param(
            {"model": {"name": "deepseek-ai/DeepSeek-R9"}, "resources": {}},
            "ModelUnknown",
            ["DeepSeek-R9"],
            id="unknown-model",
        ),
        pytest.param(
            {
                "runtime": {
                    "engine": "Custom",
                    "image": "registry.example/job:1",
                    "podTemplate": {"spec": {"resourceClaims": [{"name": "gpus", "resourceClaimName": "x"}]}},
                }
            },
            "PodTemplateConflict",
            ["gpus"],
            id="template-with-the-claim-that-drse-adds",
        ),
    ],
)
def test_what_can_never_run_says_so_at_once(
    cluster: Cluster, namespace: str, spec: dict[str, Any], reason: str, numbers: list[str]
) -> None:
    cluster.job(namespace, "never", **spec)
    message = cluster.wait_reason(namespace, "never", reason, seconds=2)
    for number in numbers:
        assert number in message
    assert cluster.pods(namespace) == {}


def test_a_pod_template_of_the_wrong_types_stops_nobody_else(cluster: Cluster, namespace: str) -> None:
    """The schema lets the rest of a pod spec pass unread; what cannot be merged concerns this job alone."""
    template = {"spec": {"volumes": 5, "tolerations": {"not": "a list"}}}
    runtime = {"engine": "Custom", "image": "registry.example/job:1", "podTemplate": template}
    cluster.job(namespace, "odd", runtime=runtime)
    cluster.job(namespace, "even")
    cluster.wait_status(namespace, "even", lambda s: s.phase is Phase.RUNNING)
    status = cluster.wait_status(namespace, "odd", lambda s: s.queue is not None)
    assert status.queue is not None
    assert status.queue.reason in ("InvalidSpec", "PodTemplateConflict"), status.queue
    assert status.assignments == ()
    cluster.patch_job(namespace, "odd", runtime={"podTemplate": None})
    cluster.wait_status(namespace, "odd", lambda s: s.phase is Phase.RUNNING)


def test_a_full_cluster_is_explained_with_numbers_and_order(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "holder", resources={"gpusPerReplica": 4, "accelerators": [L40S]})
    cluster.wait_status(namespace, "holder", lambda s: s.phase is Phase.RUNNING)
    cluster.job(namespace, "first", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    message = cluster.wait_reason(namespace, "first", "Reserved", seconds=2)
    assert "needs 2 x NVIDIA L40S" in message and "0 of 4 are free" in message
    cluster.job(namespace, "second", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    assert f"{namespace}/first goes first" in cluster.wait_reason(namespace, "second", "WaitingForTurn")
    assert cluster.status(namespace, "second").queue.position == 2  # type: ignore[union-attr]
    cluster.delete(kinds.DEEPSEEKJOB, "holder", namespace)
    for name in ("first", "second"):
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.RUNNING)


def test_a_queue_limit_holds(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-small"
    cluster.queue(name, limit=2)
    cluster.job(namespace, "big", queue=name, resources={"gpusPerReplica": 3, "accelerators": [A100]})
    assert "never holds more than 2" in cluster.wait_reason(namespace, "big", "ExceedsQueueLimit")
    cluster.job(namespace, "one", queue=name, resources={"gpusPerReplica": 2, "accelerators": [A100]})
    cluster.wait_status(namespace, "one", lambda s: s.phase is Phase.RUNNING)
    cluster.job(namespace, "two", queue=name, resources={"gpusPerReplica": 1, "accelerators": [A100]})
    assert "holds 2 of at most 2 GPUs" in cluster.wait_reason(namespace, "two", "LimitReached")
    cluster.delete(kinds.DEEPSEEKJOB, "one", namespace)
    cluster.wait_status(namespace, "two", lambda s: s.phase is Phase.RUNNING)


def test_fragmentation_names_the_largest_block(cluster: Cluster, namespace: str) -> None:
    """Two nodes of eight H100: with six held on each, four are free but no node has four."""
    for name in ("left", "right"):
        cluster.job(namespace, name, resources={"gpusPerReplica": 6, "accelerators": [H100]})
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.RUNNING)
    cluster.job(namespace, "wide", resources={"gpusPerReplica": 4, "accelerators": [H100]})
    message = cluster.wait_reason(namespace, "wide", "Reserved")
    assert "4 are free, but the largest block on one node is 2" in message


def test_higher_priority_goes_first(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-urgent"
    document = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
    }
    cluster.create(kinds.PRIORITY_CLASS, document)
    four = {"gpusPerReplica": 4, "accelerators": [L40S]}
    cluster.job(namespace, "holder", resources=four, runtime=running_for(4))
    cluster.wait_status(namespace, "holder", lambda s: s.phase is Phase.RUNNING)
    cluster.job(namespace, "early", resources=four)
    cluster.wait_reason(namespace, "early", "Reserved")
    cluster.job(namespace, "urgent", resources=four, priorityClassName=name)
    cluster.wait_status(namespace, "urgent", lambda s: s.phase is Phase.RUNNING)
    assert cluster.status(namespace, "early").assignments == ()


def test_kubectl_get_gpuqueue_shows_what_is_held_and_waited_for(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-shown"
    cluster.queue(name, limit=4)
    for number in range(3):
        resources = {"gpusPerReplica": 2, "accelerators": [A100]}
        cluster.job(namespace, f"job-{number}", queue=name, resources=resources)
    status = eventually(
        lambda: (cluster.get(kinds.GPUQUEUE, name) or {}).get("status") or {},
        lambda s: s.get("assignedGPUs") == 4 and s.get("pendingJobs") == 1,
    )
    assert (status["runningJobs"], status["pendingGPUs"]) == (2, 2)
    columns = cluster.threaded.kubectl("get", "gq", name, "--no-headers").stdout.split()
    assert columns[0] == name and "4" in columns
