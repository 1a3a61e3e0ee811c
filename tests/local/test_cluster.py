"""The embedded cluster itself: real API server, scheduler and controller manager, simulated kubelets."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from drse_local.annotations import FAIL_AFTER_SECONDS, RUN_SECONDS, START_SECONDS
from drse_local.errors import LocalClusterError
from drse_local.threaded import ThreadedCluster

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def namespace(local_cluster: ThreadedCluster) -> Iterator[str]:
    name = f"local-{uuid.uuid4().hex[:8]}"
    local_cluster.kubectl("create", "namespace", name)
    yield name
    local_cluster.kubectl("delete", "namespace", name, "--wait=false")


def pod(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "none", "resources": spec.pop("resources", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"containers": [container], "restartPolicy": "Never", **spec},
    }


def apply(cluster: ThreadedCluster, namespace: str, *manifests: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(manifests))


def read(cluster: ThreadedCluster, namespace: str, kind: str, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json").stdout
    )
    return document


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert value, "did not come true in time"
    return value


def phase(cluster: ThreadedCluster, namespace: str, name: str) -> str:
    return str(read(cluster, namespace, "pod", name)["status"].get("phase"))


def test_all_nodes_are_ready_and_carry_their_capacity(local_cluster: ThreadedCluster) -> None:
    nodes = json.loads(local_cluster.kubectl("get", "nodes", "-o", "json").stdout)["items"]
    allocatable = {node["metadata"]["name"]: node["status"]["allocatable"] for node in nodes}
    assert allocatable.keys() == {node.name for node in local_cluster.cluster.fleet.nodes}
    assert allocatable["a100-0"]["nvidia.com/gpu"] == "8"
    assert allocatable["mi300x-0"]["amd.com/gpu"] == "8"
    assert allocatable["gaudi3-0"]["habana.ai/gaudi"] == "8"
    assert "nvidia.com/gpu" not in allocatable["h100-0"], "DRA devices must not be offered twice"


def test_the_server_reports_its_version(local_cluster: ThreadedCluster) -> None:
    version = json.loads(local_cluster.kubectl("version", "-o", "json").stdout)["serverVersion"]["gitVersion"]
    assert version.startswith("v1.37.")


def test_a_claim_that_pins_uuids_gets_those_devices(local_cluster: ThreadedCluster, namespace: str) -> None:
    node = next(node for node in local_cluster.cluster.fleet.nodes if node.name == "h100-1")
    pinned = [node.gpus[2], node.gpus[5]]
    uuids = ", ".join(f"'{gpu.uuid}'" for gpu in pinned)
    expression = f"device.attributes['gpu.nvidia.com'].uuid in [{uuids}]"
    exactly = {
        "deviceClassName": "gpu.nvidia.com",
        "count": len(pinned),
        "selectors": [{"cel": {"expression": expression}}],
    }
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "pinned"},
        "spec": {"devices": {"requests": [{"name": "gpus", "exactly": exactly}]}},
    }
    consumer = pod(
        "consumer",
        {START_SECONDS: "0"},
        resourceClaims=[{"name": "gpus", "resourceClaimName": "pinned"}],
        resources={"claims": [{"name": "gpus"}]},
    )
    apply(local_cluster, namespace, claim, consumer)
    eventually(lambda: phase(local_cluster, namespace, "consumer") == "Running")
    results = read(local_cluster, namespace, "resourceclaim", "pinned")["status"]["allocation"]["devices"][
        "results"
    ]
    assert {(each["pool"], each["device"]) for each in results} == {(gpu.node, gpu.device) for gpu in pinned}
    assert read(local_cluster, namespace, "pod", "consumer")["spec"]["nodeName"] == "h100-1"


def test_an_extended_resource_limit_binds_to_a_device_plugin_node(
    local_cluster: ThreadedCluster, namespace: str
) -> None:
    apply(local_cluster, namespace, pod("counted", resources={"limits": {"nvidia.com/gpu": "3"}}))
    eventually(lambda: phase(local_cluster, namespace, "counted") == "Running")
    assert read(local_cluster, namespace, "pod", "counted")["spec"]["nodeName"] == "a100-0"


def test_a_pod_is_ready_only_after_its_start_time(local_cluster: ThreadedCluster, namespace: str) -> None:
    apply(local_cluster, namespace, pod("slow", {START_SECONDS: "3"}))
    eventually(lambda: read(local_cluster, namespace, "pod", "slow")["spec"].get("nodeName"))
    bound = time.monotonic()
    assert phase(local_cluster, namespace, "slow") == "Pending"
    eventually(lambda: phase(local_cluster, namespace, "slow") == "Running")
    assert time.monotonic() - bound > 2
    conditions = read(local_cluster, namespace, "pod", "slow")["status"]["conditions"]
    assert {"type": "Ready", "status": "True"}.items() <= next(
        c for c in conditions if c["type"] == "Ready"
    ).items()


@pytest.mark.parametrize(
    ("annotation", "end", "exit_code"), [(RUN_SECONDS, "Succeeded", 0), (FAIL_AFTER_SECONDS, "Failed", 1)]
)
def test_a_pod_ends_as_its_annotations_say(
    local_cluster: ThreadedCluster, namespace: str, annotation: str, end: str, exit_code: int
) -> None:
    name = end.lower()
    apply(local_cluster, namespace, pod(name, {START_SECONDS: "0", annotation: "1.5"}))
    eventually(lambda: phase(local_cluster, namespace, name) == "Running")
    eventually(lambda: phase(local_cluster, namespace, name) == end)
    status = read(local_cluster, namespace, "pod", name)["status"]["containerStatuses"][0]
    assert status["state"]["terminated"]["exitCode"] == exit_code


def test_a_deleted_pod_goes(local_cluster: ThreadedCluster, namespace: str) -> None:
    apply(local_cluster, namespace, pod("doomed", {START_SECONDS: "0"}))
    eventually(lambda: phase(local_cluster, namespace, "doomed") == "Running")
    local_cluster.kubectl("delete", "pod", "doomed", "-n", namespace, "--timeout=15s")


def test_a_service_account_kubeconfig_has_only_that_accounts_rights(
    local_cluster: ThreadedCluster, namespace: str
) -> None:
    local_cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    kubeconfig = str(local_cluster.service_account_kubeconfig(namespace, "reader"))
    with pytest.raises(LocalClusterError, match=f"system:serviceaccount:{namespace}:reader.*cannot list"):
        local_cluster.kubectl("get", "nodes", "--kubeconfig", kubeconfig)


def test_helm_reaches_the_cluster(local_cluster: ThreadedCluster) -> None:
    assert "NAMESPACE" in local_cluster.helm("list", "--all-namespaces").stdout


def test_objects_outlive_a_restart_of_the_api_server(local_cluster: ThreadedCluster, namespace: str) -> None:
    local_cluster.kubectl("create", "configmap", "kept", "-n", namespace)
    local_cluster.run(local_cluster.cluster.restart_apiserver())
    assert read(local_cluster, namespace, "configmap", "kept")
