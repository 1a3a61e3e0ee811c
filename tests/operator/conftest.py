"""A cluster with CRDs and a queue, an operator for each file that wants one, a namespace a test.

The cluster is not the one that other tests use: an operator acts on every job it sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.threaded import ThreadedCluster
from drse_operator.cluster import kinds
from tests.operator.harness import Cluster, OperatorProcess, eventually

CRDS = Path(__file__).parents[2] / "crds"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as threaded:
        threaded.kubectl("apply", "--server-side", "-f", str(CRDS))
        names = ["crd/deepseekjobs.drse.dev", "crd/gpuqueues.drse.dev"]
        threaded.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
        found = Cluster(threaded)
        found.create(kinds.NAMESPACE, _namespace("drse-system"))
        found.queue("tests")
        yield found
        found.close()


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for all tests of a file, which must not start others beside it."""
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
