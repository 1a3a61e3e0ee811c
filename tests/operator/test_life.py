"""The life of a job on the real API server, scheduler and controller manager.

Decisions on their own are tested in tests/admission and tests/lifecycle.
"""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.harness import A100, H100, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def _is(phase: Phase) -> Any:
    return lambda status: status.phase is phase


def test_exact_devices_are_the_ones_promised(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "exact", resources={"gpusPerReplica": 3, "accelerators": [H100]})
    status = cluster.wait_status(namespace, "exact", _is(Phase.RUNNING))
    (assignment,) = status.assignments
    promised = {(d.pool, d.name) for d in assignment.devices}
    claim = cluster.get(kinds.CLAIM, "exact-0-0", namespace)
    assert claim is not None
    results = claim["status"]["allocation"]["devices"]["results"]
    assert {(r["pool"], r["device"]) for r in results} == promised
    assert len(promised) == 3
    pod = cluster.pods(namespace)["exact-0-0"]
    assert pod["spec"]["nodeName"] == assignment.node


def test_a_device_plugin_is_asked_for_a_count(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "count", resources={"gpusPerReplica": 2, "accelerators": [A100]})
    status = cluster.wait_status(namespace, "count", _is(Phase.RUNNING))
    (assignment,) = status.assignments
    assert (assignment.device_selection, assignment.count, assignment.devices) == ("CountOnly", 2, ())
    (container,) = cluster.pods(namespace)["count-0-0"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert cluster.list(kinds.CLAIM, namespace) == []


@pytest.mark.parametrize("vendor", ["amd", "habana"])
def test_other_vendors(cluster: Cluster, namespace: str, vendor: str) -> None:
    cluster.job(namespace, "other", resources={"gpusPerReplica": 8, "accelerators": [{"vendor": vendor}]})
    status = cluster.wait_status(namespace, "other", _is(Phase.RUNNING))
    assert status.gpus == 8


def test_a_gang_spans_two_nodes_of_a_rack(cluster: Cluster, namespace: str) -> None:
    resources = {
        "gpusPerReplica": 16,
        "workersPerReplica": 2,
        "accelerators": [H100],
        "topology": {"scope": "Rack", "mode": "Required"},
    }
    cluster.job(namespace, "gang", taskType="PreTraining", resources=resources)
    status = cluster.wait_status(namespace, "gang", _is(Phase.RUNNING))
    assert len({a.node for a in status.assignments}) == 2
    assert cluster.get(kinds.SERVICE, "gang-workers", namespace) is not None


def test_a_service_gets_a_service(cluster: Cluster, namespace: str) -> None:
    model = {"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"}
    cluster.job(namespace, "chat", taskType="Inference", model=model, resources={}, runtime={})
    status = cluster.wait_status(namespace, "chat", _is(Phase.RUNNING))
    assert status.ready == "1/1"
    assert cluster.get(kinds.SERVICE, "chat", namespace) is not None


def test_success_frees_the_gpus_and_keeps_the_pod(cluster: Cluster, namespace: str) -> None:
    resources = {"gpusPerReplica": 1, "accelerators": [H100]}
    cluster.job(namespace, "eval", resources=resources, runtime=running_for(1))
    status = cluster.wait_status(namespace, "eval", _is(Phase.SUCCEEDED))
    assert status.assignments == () and status.completion_time is not None
    assert {c.type for c in status.conditions if c.status == "True"} == {"Complete"}
    eventually(lambda: cluster.list(kinds.CLAIM, namespace), lambda claims: not claims)
    assert cluster.pods(namespace)["eval-0-0"]["status"]["phase"] == "Succeeded"


def test_failures_are_retried_up_to_the_limit(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "bad", backoffLimit=1, runtime=running_for(fail_after=0.5))
    backing_off = cluster.wait_status(namespace, "bad", lambda s: s.failures == 1)
    assert backing_off.phase is not Phase.FAILED
    status = cluster.wait_status(namespace, "bad", _is(Phase.FAILED))
    assert status.failures == 2
    failed = next(c for c in status.conditions if c.type == "Failed")
    assert failed.reason == "BackoffLimitExceeded" and "backoffLimit is 1" in failed.message
    # Events are posted in the background, after the status.
    eventually(
        lambda: cluster.event_reasons(namespace, "bad"), lambda reasons: {"WorkerFailed", "Failed"} <= reasons
    )


def test_a_deadline_ends_a_job(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "long", activeDeadlineSeconds=2)
    status = cluster.wait_status(namespace, "long", _is(Phase.FAILED))
    assert next(c for c in status.conditions if c.type == "Failed").reason == "DeadlineExceeded"
    eventually(lambda: cluster.pods(namespace), lambda pods: not pods)


def test_a_finished_job_goes_after_its_time_to_live(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "brief", ttlSecondsAfterFinished=1, runtime=running_for(0.5))
    eventually(lambda: cluster.get(kinds.DEEPSEEKJOB, "brief", namespace), lambda found: found is None)


def test_suspend_frees_everything_and_resume_starts_again(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "pausing", resources={"gpusPerReplica": 2, "accelerators": [H100]})
    cluster.wait_status(namespace, "pausing", _is(Phase.RUNNING))
    cluster.patch_job(namespace, "pausing", suspend=True)
    status = cluster.wait_status(namespace, "pausing", _is(Phase.SUSPENDED))
    assert status.assignments == ()
    eventually(lambda: cluster.list(kinds.CLAIM, namespace), lambda claims: not claims)
    assert cluster.pods(namespace) == {}
    cluster.patch_job(namespace, "pausing", suspend=False)
    cluster.wait_status(namespace, "pausing", _is(Phase.RUNNING))


def test_kubectl_scale(cluster: Cluster, namespace: str) -> None:
    resources = {"gpusPerReplica": 1, "accelerators": [A100]}
    runtime = {"engine": "Custom", "image": "registry.example/serve:1"}
    cluster.job(namespace, "web", taskType="Inference", resources=resources, runtime=runtime)
    cluster.wait_status(namespace, "web", lambda s: s.ready_replicas == 1)
    cluster.threaded.kubectl("scale", "dsj", "web", "-n", namespace, "--replicas=3")
    cluster.wait_status(namespace, "web", lambda s: s.ready == "3/3")
    cluster.threaded.kubectl("scale", "dsj", "web", "-n", namespace, "--replicas=1")
    cluster.wait_status(namespace, "web", lambda s: s.ready == "1/1")
    eventually(lambda: set(cluster.pods(namespace)), lambda names: names == {"web-0-0"})


def test_deletion_leaves_nothing(cluster: Cluster, namespace: str) -> None:
    cluster.job(namespace, "gone", resources={"gpusPerReplica": 8, "accelerators": [H100]})
    cluster.wait_status(namespace, "gone", _is(Phase.RUNNING))
    cluster.delete(kinds.DEEPSEEKJOB, "gone", namespace)
    for kind in (kinds.POD, kinds.CLAIM):
        eventually(lambda kind=kind: cluster.list(kind, namespace), lambda items: not items)


def test_a_training_gang_that_loses_a_worker_starts_over_whole(cluster: Cluster, namespace: str) -> None:
    resources = {"gpusPerReplica": 4, "workersPerReplica": 2, "accelerators": [A100]}
    cluster.job(namespace, "train", taskType="PreTraining", resources=resources)
    cluster.wait_status(
        namespace, "train", lambda s: s.ready_replicas == 1 and all(a.bound for a in s.assignments)
    )
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(namespace).items()}
    cluster.delete(kinds.POD, "train-0-1", namespace, grace=0)

    def renewed() -> dict[str, str]:
        found = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(namespace).items()}
        return found if not set(found.values()) & set(before.values()) else {}

    eventually(renewed, lambda after: after.keys() == before.keys())
    status = cluster.wait_status(namespace, "train", lambda s: s.ready_replicas == 1)
    assert status.failures == 0, "who deletes a pod makes no job fail"
    eventually(
        lambda: cluster.event_reasons(namespace, "train"), lambda reasons: "WorkerDisrupted" in reasons
    )


def test_a_service_replaces_a_lost_pod_in_place(cluster: Cluster, namespace: str) -> None:
    resources = {"gpusPerReplica": 1, "accelerators": [A100]}
    runtime = {"engine": "Custom", "image": "registry.example/serve:1"}
    cluster.job(namespace, "web", taskType="Inference", resources=resources, runtime=runtime)
    before = cluster.wait_status(namespace, "web", lambda s: s.ready_replicas == 1)
    uid = cluster.pods(namespace)["web-0-0"]["metadata"]["uid"]
    cluster.delete(kinds.POD, "web-0-0", namespace, grace=0)
    eventually(
        lambda: cluster.pods(namespace).get("web-0-0"),
        lambda pod: pod is not None and pod["metadata"]["uid"] != uid,
    )
    after = cluster.wait_status(namespace, "web", lambda s: s.ready_replicas == 1)
    assert [a.node for a in after.assignments] == [a.node for a in before.assignments]


def test_health_and_metrics(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    cluster.job(namespace, "seen", resources={"gpusPerReplica": 2, "accelerators": [H100]})
    cluster.wait_status(namespace, "seen", _is(Phase.RUNNING))
    assert (operator.get("/healthz"), operator.get("/readyz")) == (200, 200)
    assert eventually(lambda: operator.metric("drse_gpu_assigned"), lambda n: n >= 2) >= 2
    assert operator.metric("drse_double_assignments") == 0
