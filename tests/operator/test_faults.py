"""Nodes, devices and the API server fail under running jobs."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.harness import A100, L40S, Cluster, OperatorProcess, eventually, tainted

pytestmark = [pytest.mark.cluster]

FOUR_L40S = {"gpusPerReplica": 4, "accelerators": [L40S]}


def _condition(status: Any, kind: str) -> Any:
    return next((c for c in status.conditions if c.type == kind), None)


def test_a_device_out_of_service(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    """A running job is told; the device is not assigned again until it is back."""
    cluster.job(namespace, "holder", resources={"gpusPerReplica": 1, "accelerators": [L40S]})
    status = cluster.wait_status(namespace, "holder", lambda s: s.phase is Phase.RUNNING)
    device = status.assignments[0].devices[0]
    slice_ = next(s for s in cluster.list(kinds.SLICE) if s["spec"]["pool"]["name"] == device.pool)
    devices = slice_["spec"]["devices"]
    taint = {"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}
    sick = [{**d, "taints": [taint]} if d["name"] == device.name else d for d in devices]
    cluster.merge(kinds.SLICE, slice_["metadata"]["name"], None, {"spec": {"devices": sick}})
    try:
        status = cluster.wait_status(
            namespace, "holder", lambda s: (c := _condition(s, "DevicesHealthy")) and c.status == "False"
        )
        condition = _condition(status, "DevicesHealthy")
        assert condition.reason == "DeviceTainted" and device.uuid in condition.message
        assert status.phase is Phase.RUNNING
        eventually(lambda: cluster.event_reasons(namespace, "holder"), lambda r: "DeviceLost" in r)
        cluster.job(namespace, "next", resources=FOUR_L40S)
        cluster.delete(kinds.DEEPSEEKJOB, "holder", namespace)
        cluster.wait_reason(namespace, "next", "InsufficientFreeGPUs")
    finally:
        cluster.merge(kinds.SLICE, slice_["metadata"]["name"], None, {"spec": {"devices": devices}})
    cluster.wait_status(namespace, "next", lambda s: s.phase is Phase.RUNNING)


def test_a_slice_that_vanishes(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    cluster.job(namespace, "holder", resources=FOUR_L40S)
    status = cluster.wait_status(namespace, "holder", lambda s: s.phase is Phase.RUNNING)
    pool = status.assignments[0].devices[0].pool
    slice_ = next(s for s in cluster.list(kinds.SLICE) if s["spec"]["pool"]["name"] == pool)
    cluster.delete(kinds.SLICE, slice_["metadata"]["name"])
    try:
        status = cluster.wait_status(
            namespace, "holder", lambda s: (c := _condition(s, "DevicesHealthy")) and c.status == "False"
        )
        assert _condition(status, "DevicesHealthy").reason == "DeviceVanished"
    finally:
        kept = {k: v for k, v in slice_["metadata"].items() if k in ("name", "ownerReferences", "labels")}
        cluster.create(kinds.SLICE, {**slice_, "metadata": kept})
    cluster.wait_status(
        namespace, "holder", lambda s: (c := _condition(s, "DevicesHealthy")) and c.status == "True"
    )


def test_a_cordoned_or_tainted_node_gets_nothing_new(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    node = next(n for n in cluster.list(kinds.NODE) if n["metadata"]["name"].startswith("l40s"))
    with tainted(cluster, node["metadata"]["name"], "maintenance"):
        cluster.job(namespace, "patient", resources=FOUR_L40S)
        message = cluster.wait_reason(namespace, "patient", "InsufficientFreeGPUs")
        assert "needs 4 x NVIDIA L40S" in message and "nodes in service have no room" in message
        remedy = f"kubectl taint node {node['metadata']['name']} maintenance-"
        assert "has the taint maintenance" in message and remedy in message
    cluster.wait_status(namespace, "patient", lambda s: s.phase is Phase.RUNNING)


def test_a_drain_is_not_the_jobs_failure(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    """``kubectl drain``: cordon, then the eviction subresource. With backoffLimit 0 a failure would be the
    end; and a service is not made again on the node that is being emptied."""
    cluster.job(namespace, "train", resources={"gpusPerReplica": 1}, backoffLimit=0)
    serve = {"engine": "Custom", "image": "registry.example/serve:1"}
    trains = cluster.wait_status(namespace, "train", lambda s: s.phase is Phase.RUNNING)
    node, product = trains.assignments[0].node, trains.assignments[0].product
    beside = {"gpusPerReplica": 1, "accelerators": [{"vendor": "nvidia", "product": product}]}
    cluster.job(namespace, "serve", taskType="Inference", runtime=serve, resources=beside)
    cluster.wait_status(namespace, "serve", lambda s: s.phase is Phase.RUNNING)
    for name in ("train", "serve"):
        node = cluster.status(namespace, name).assignments[0].node
        try:
            cluster.threaded.kubectl(
                "drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"
            )
            reasons = eventually(
                lambda name=name: cluster.event_reasons(namespace, name), lambda r: "WorkerDisrupted" in r
            )
            assert "WorkerFailed" not in reasons
            status = cluster.wait_status(
                namespace,
                name,
                lambda s, node=node: not any(a.node == node for a in s.assignments),
            )
            assert status.failures == 0 and status.phase is not Phase.FAILED
        finally:
            cluster.threaded.kubectl("uncordon", node)
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.RUNNING, seconds=60)


def test_the_api_server_restarts(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    """Watches break, requests fail, and afterwards everything goes on."""
    cluster.job(namespace, "before", resources={"gpusPerReplica": 1, "accelerators": [A100]})
    cluster.wait_status(namespace, "before", lambda s: s.phase is Phase.RUNNING)
    pid = operator.process.pid
    cluster.call(cluster.threaded.cluster.restart_apiserver())
    eventually(lambda: _try_job(cluster, namespace), bool, 30)
    cluster.wait_status(namespace, "after", lambda s: s.phase is Phase.RUNNING, seconds=60)
    assert cluster.status(namespace, "before").phase is Phase.RUNNING
    assert operator.process.pid == pid and operator.process.poll() is None
    assert cluster.doubly_held() == [] and cluster.overbooked() == []


def _try_job(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.job(namespace, "after", resources={"gpusPerReplica": 1, "accelerators": [A100]})
    except Exception as error:
        return "409" in str(error)
    return True


def test_a_name_that_is_taken(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    """Somebody else's Service of the job's name: the job runs all the same, and is told."""
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"ports": [{"port": 80}]},
    }
    cluster.create(kinds.SERVICE, document)
    runtime = {"engine": "Custom", "image": "registry.example/serve:1"}
    cluster.job(namespace, "web", taskType="Inference", runtime=runtime)
    cluster.wait_status(namespace, "web", lambda s: s.ready == "1/1")
    eventually(lambda: cluster.event_reasons(namespace, "web"), lambda reasons: "NameTaken" in reasons)
    service = cluster.get(kinds.SERVICE, "web", namespace)
    assert service is not None and "ownerReferences" not in service["metadata"]
    cluster.delete(kinds.SERVICE, "web", namespace)


def test_a_device_taint_rule_takes_devices_out_of_service(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    pool = next(
        n["metadata"]["name"] for n in cluster.list(kinds.NODE) if n["metadata"]["name"].startswith("l40s")
    )
    rule = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": namespace},
        "spec": {
            "deviceSelector": {"driver": "gpu.nvidia.com", "pool": pool, "device": "gpu-0"},
            "taint": {"key": "example.com/repair", "effect": "NoSchedule"},
        },
    }
    cluster.create(kinds.TAINT_RULE, rule)
    try:
        cluster.job(namespace, "four", resources=FOUR_L40S)
        message = cluster.wait_reason(namespace, "four", "InsufficientFreeGPUs")
        assert "3 of 3 are free" in message
        assert f"1 GPU of {pool} is out of service (has the taint example.com/repair" in message
    finally:
        cluster.delete(kinds.TAINT_RULE, namespace)
    cluster.wait_status(namespace, "four", lambda s: s.phase is Phase.RUNNING)
