"""The built documents on a real API server and scheduler: taken as they are, and bound where promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drse_local.threaded import ThreadedCluster
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.status import Assignment, Device
from drse_operator.workloads.claims import build_claim
from drse_operator.workloads.pods import build_pod

REPOSITORY = Path(__file__).parents[2]
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
NAMESPACE = "builders"
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def cluster(local_cluster: ThreadedCluster) -> ThreadedCluster:
    for namespace in (NAMESPACE, "serving", "research"):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        local_cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "production"},
        "value": 1000,
    }
    local_cluster.kubectl("apply", "-f", "-", stdin=json.dumps(priority))
    return local_cluster


def read(cluster: ThreadedCluster, *args: str) -> Any:
    return json.loads(cluster.kubectl("get", "-o", "json", *args).stdout)


def apply(cluster: ThreadedCluster, document: dict[str, Any], *args: str) -> None:
    """Without the owner: its uid names no job here, and the garbage collector would delete the object."""
    owned = {key: value for key, value in document["metadata"].items() if key != "ownerReferences"}
    text = json.dumps({**document, "metadata": owned})
    cluster.kubectl("apply", "--server-side", "--validate=strict", *args, "-f", "-", stdin=text)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_api_server_takes_every_golden_document(cluster: ThreadedCluster, path: Path) -> None:
    cluster.kubectl("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", str(path))


def test_the_api_server_takes_the_examples(cluster: ThreadedCluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(REPOSITORY / "crds"))
    examples = REPOSITORY / "manifests" / "examples"
    cluster.kubectl("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", str(examples))


def test_the_scheduler_gives_exactly_the_promised_devices(cluster: ThreadedCluster, make_job: Make) -> None:
    """Not the first ones of the node, which it would take by itself."""
    slices = read(cluster, "resourceslices")["items"]
    published = next(s["spec"] for s in slices if len(s["spec"].get("devices") or ()) == 8)
    chosen = [published["devices"][i] for i in (3, 6)]
    assignment = Assignment(
        replica=0,
        worker=0,
        node=published["nodeName"],
        product="NVIDIA H100 80GB HBM3",
        device_selection=DeviceSelection.EXACT,
        count=2,
        devices=tuple(
            Device(
                uuid=device["attributes"]["uuid"]["string"],
                driver=published["driver"],
                pool=published["pool"]["name"],
                name=device["name"],
            )
            for device in chosen
        ),
        since="2026-01-01T00:00:00Z",
    )
    job = make_job("exact", NAMESPACE, model={"name": "DeepSeek-R1-Distill-Qwen-32B"})
    apply(cluster, build_claim(job, assignment))
    apply(cluster, build_pod(job, assignment, None))
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "pod/exact-0-0")
    assert read(cluster, "pod", "-n", NAMESPACE, "exact-0-0")["spec"]["nodeName"] == assignment.node
    claim = read(cluster, "resourceclaim", "-n", NAMESPACE, "exact-0-0")
    allocated = {result["device"] for result in claim["status"]["allocation"]["devices"]["results"]}
    assert allocated == {device["name"] for device in chosen}


def test_counted_gpus_are_bound_on_the_assigned_node(
    cluster: ThreadedCluster, make_job: Make, counted: Make
) -> None:
    nodes = read(cluster, "nodes")["items"]
    amd = next(n["metadata"]["name"] for n in nodes if "amd.com/gpu" in n["status"]["allocatable"])
    assignment = counted(count=4).model_copy(update={"node": amd})
    job = make_job(
        "counted", NAMESPACE, taskType="Batch", model={"name": "DeepSeek-V3"}, runtime={"image": "x"}
    )
    apply(cluster, build_pod(job, assignment, None))
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "pod/counted-0-0")
    assert read(cluster, "pod", "-n", NAMESPACE, "counted-0-0")["spec"]["nodeName"] == amd
