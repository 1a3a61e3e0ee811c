"""GPUs that somebody else holds, without DRSE, are never assigned."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.harness import A100, L40S, Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def _pod(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "registry.example/notebook:1"}], **spec},
    }


def _claim(namespace: str, name: str, pool: str, count: int) -> dict[str, Any]:
    expression = f"device.attributes['gpu.nvidia.com'].productName == '{pool}'"
    exactly = {
        "deviceClassName": "gpu.nvidia.com",
        "count": count,
        "selectors": [{"cel": {"expression": expression}}],
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"devices": {"requests": [{"name": "mine", "exactly": exactly}]}},
    }


def test_a_claim_of_somebody_else(cluster: Cluster, namespace: str) -> None:
    cluster.create(kinds.CLAIM, _claim(namespace, "notebook", "NVIDIA L40S", 3))
    claims = [{"name": "mine", "resourceClaimName": "notebook"}]
    cluster.create(kinds.POD, _pod(namespace, "notebook", resourceClaims=claims))
    eventually(
        lambda: cluster.get(kinds.CLAIM, "notebook", namespace),
        lambda c: c is not None and (c.get("status") or {}).get("allocation"),
    )
    cluster.job(namespace, "two", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    assert "1 of 4 are free" in cluster.wait_reason(namespace, "two", "InsufficientFreeGPUs")
    cluster.job(namespace, "other", resources={"gpusPerReplica": 1, "accelerators": [A100]})
    cluster.wait_status(namespace, "other", lambda s: s.phase is Phase.RUNNING)
    cluster.delete(kinds.POD, "notebook", namespace, grace=0)
    cluster.delete(kinds.CLAIM, "notebook", namespace)
    cluster.wait_status(namespace, "two", lambda s: s.phase is Phase.RUNNING)
    assert cluster.doubly_held() == []


def test_a_pod_of_somebody_else_counts_on_its_node(cluster: Cluster, namespace: str) -> None:
    limits = {"limits": {"nvidia.com/gpu": "5"}}
    container = {"name": "main", "image": "registry.example/notebook:1", "resources": limits}
    cluster.create(kinds.POD, _pod(namespace, "notebook", containers=[container]))
    eventually(lambda: cluster.pods(namespace)["notebook"], lambda pod: pod["spec"].get("nodeName"))
    cluster.job(namespace, "four", resources={"gpusPerReplica": 4, "accelerators": [A100]})
    assert "3 of 8 are free" in cluster.wait_reason(namespace, "four", "InsufficientFreeGPUs")
    cluster.delete(kinds.POD, "notebook", namespace, grace=0)
    cluster.wait_status(namespace, "four", lambda s: s.phase is Phase.RUNNING)
    assert cluster.overbooked() == []
