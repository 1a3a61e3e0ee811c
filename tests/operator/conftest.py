"""A cluster with CRDs and a queue, an operator that runs throughout the session, a namespace a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from drse_local.threaded import ThreadedCluster
from drse_operator.cluster import kinds
from tests.operator.harness import Cluster, OperatorProcess, eventually

CRDS = Path(__file__).parents[2] / "crds"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(local_cluster: ThreadedCluster) -> Iterator[Cluster]:
    local_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    names = ["crd/deepseekjobs.drse.dev", "crd/gpuqueues.drse.dev"]
    local_cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    found = Cluster(local_cluster)
    for namespace in ("drse-system",):
        if found.get(kinds.NAMESPACE, namespace) is None:
            found.create(kinds.NAMESPACE, _namespace(namespace))
    if found.get(kinds.GPUQUEUE, "tests") is None:
        found.queue("tests")
    yield found
    found.close()


@pytest.fixture(scope="package")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for all tests that do not kill it."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    process = OperatorProcess(cluster.threaded.kubeconfig, log)
    process.start()
    try:
        eventually(process.leads, bool, 30)
        yield process
    finally:
        status = process.terminate()
    assert status == 0, log.read_text()[-3000:]
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; its jobs and pods are gone afterwards, so that GPUs are free again."""
    name = f"t{next(_numbers)}"
    cluster.create(kinds.NAMESPACE, _namespace(name))
    yield name
    for job in cluster.list(kinds.DEEPSEEKJOB, name):
        cluster.delete(kinds.DEEPSEEKJOB, job["metadata"]["name"], name)
    for kind in (kinds.POD, kinds.CLAIM):
        for item in cluster.list(kind, name):
            cluster.delete(kind, item["metadata"]["name"], name)
        eventually(lambda kind=kind: cluster.list(kind, name), lambda items: not items, 30)


def _namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
