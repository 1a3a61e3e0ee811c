"""A release from its first installation to its end: what must survive does, and what must go goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drse_local.cluster import LocalCluster
from drse_local.errors import LocalClusterError
from drse_local.fleet import load_fleet
from drse_local.release import Release
from drse_local.threaded import ThreadedCluster
from tests.helm.chart import CHART, NAMESPACE, REPOSITORY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

JOB = {
    "apiVersion": "drse.dev/v1alpha1",
    "kind": "DeepSeekJob",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {
        "taskType": "Batch",
        "queue": "default",
        "resources": {"gpusPerReplica": 1},
        "runtime": {"image": "registry.example.com/none:1"},
    },
}


@pytest.fixture
def fresh() -> Iterator[ThreadedCluster]:
    """A cluster that has never seen DRSE."""
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as cluster:
        yield cluster


def install(cluster: ThreadedCluster, *args: str) -> str:
    command = ("upgrade", "--install", "drse", str(CHART), "--namespace", NAMESPACE, "--create-namespace")
    notes = cluster.helm(*command, *args).stdout
    _wait_until_jobs_can_be_created(cluster)
    return notes


def _wait_until_jobs_can_be_created(cluster: ThreadedCluster) -> None:
    """For a moment after a definition is Established, objects of it are still refused."""
    deadline = time.monotonic() + 60
    while True:
        try:
            cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(JOB))
            return
        except LocalClusterError as error:
            if "There can be a delay" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def uninstall(cluster: ThreadedCluster) -> None:
    cluster.helm("uninstall", "drse", "--namespace", NAMESPACE)


def read(cluster: ThreadedCluster, *what: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cluster.kubectl("get", *what, "-o", "json").stdout)
    return document


def crds(cluster: ThreadedCluster) -> list[str]:
    found = read(cluster, "crd")["items"]
    return [crd["metadata"]["name"] for crd in found if crd["spec"]["group"] == "drse.dev"]


def test_jobs_and_queues_survive_upgrades_and_uninstallation(fresh: ThreadedCluster) -> None:
    notes = install(fresh)
    for command in ("rollout status deployment/drse-operator", "apply -f -", "get deepseekjobs"):
        assert command in notes
    fresh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(JOB))
    fresh.kubectl("patch", "gpuqueue", "default", "--type=merge", "-p", '{"spec":{"weight":7}}')
    uid = read(fresh, "dsj", "kept")["metadata"]["uid"]

    install(fresh, "--set=operator.replicas=3", "--set=defaultQueue.spec.weight=2")
    assert read(fresh, "deployment", "drse-operator", "-n", NAMESPACE)["spec"]["replicas"] == 3
    assert read(fresh, "gpuqueue", "default")["spec"]["weight"] == 7, "the queue is the administrator's"

    uninstall(fresh)
    left = read(fresh, "all,sa,role,rolebinding,pdb", "-n", NAMESPACE, "-l", "app.kubernetes.io/part-of=drse")
    owned_later = [i for i in left["items"] if not i["metadata"].get("ownerReferences")]
    assert not [f"{item['kind']} {item['metadata']['name']}" for item in owned_later]
    assert read(fresh, "dsj", "kept")["metadata"]["uid"] == uid

    install(fresh)
    assert read(fresh, "dsj", "kept")["metadata"]["uid"] == uid, "a new release takes the kept CRDs over"
    assert read(fresh, "gpuqueue", "default")["spec"]["weight"] == 7

    install(fresh, "--set=crds.keep=false")
    uninstall(fresh)
    fresh.kubectl("wait", "--for=delete", "--timeout=30s", "crd/deepseekjobs.drse.dev")
    assert crds(fresh) == []


def test_the_local_release_takes_over_crds_that_were_applied_by_hand(fresh: ThreadedCluster) -> None:
    fresh.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    local = Release(fresh.cluster)
    for _ in range(2):
        fresh.run(local.install())
    labels = read(fresh, "crd", "gpuqueues.drse.dev")["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"


async def test_a_missing_chart_is_named(tmp_path: Path) -> None:
    cluster = LocalCluster(folder=tmp_path, fleet=load_fleet("small"))
    with pytest.raises(LocalClusterError, match=r"There is no chart in .*nowhere"):
        await Release(cluster, chart=tmp_path / "nowhere").install()


def test_definitions_can_be_a_release_of_their_own(fresh: ThreadedCluster) -> None:
    """As with GitOps: definitions come first and apart; the other release neither brings nor takes them."""
    crds_chart = REPOSITORY / "helm" / "drse-crds"
    fresh.helm("install", "drse-crds", str(crds_chart), "--namespace", NAMESPACE, "--create-namespace")
    _wait_until_jobs_can_be_created(fresh)
    install(fresh, "--set=crds.enabled=false")
    fresh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(JOB))
    labels = read(fresh, "crd", "deepseekjobs.drse.dev")["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "drse-crds"
    uninstall(fresh)
    assert read(fresh, "dsj", "kept")
    fresh.helm("uninstall", "drse-crds", "--namespace", NAMESPACE)
    assert read(fresh, "dsj", "kept"), "definitions are kept, and every job with them"
