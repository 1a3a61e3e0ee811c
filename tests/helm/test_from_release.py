"""An upgrade from the version released before this one, and the way back, while jobs run and wait.

The old version is what was released (``tests/helm/released``): its chart, definitions and programs. As in
a rolling update both versions run for a while, the old one leading.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drse_local.cluster import LocalCluster
from drse_local.errors import LocalClusterError
from drse_local.fleet import load_fleet
from drse_local.release import Release
from drse_local.threaded import ThreadedCluster
from drse_operator.api.enums import Phase
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.operator.harness import H100, L40S, Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

RELEASED = Path(__file__).parent / "released"
NAMESPACE = "default"
WHOLE_NODE = {"gpusPerReplica": 8, "accelerators": [H100]}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released version, unpacked."""
    (archive,) = RELEASED.glob("drse-*.tar.xz")
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as threaded:
        found = Cluster(threaded)
        yield found
        found.close()


def test_jobs_run_and_wait_on_through_an_upgrade_and_back(cluster: Cluster, old: Path) -> None:
    threaded = cluster.threaded
    code = (old / "operator", old / "forecaster")
    assert _operator_from(code).is_relative_to(old), "the old programs are the new ones"
    before = Release(threaded.cluster, 2, chart=old / "helm" / "drse", code=code)
    after = Release(threaded.cluster, 2)
    threaded.run(before.start())
    try:
        cluster.merge(kinds.GPUQUEUE, "default", None, {"spec": {"weight": 3}})
        held, waiting = _three_jobs(cluster)
        with pytest.raises(LocalClusterError, match="unknown field"):
            threaded.kubectl("apply", "-f", "-", stdin=_WITH_A_NEW_FIELD)

        threaded.run(after.start())
        threaded.run(before.stop())
        _leader_is_one_of(cluster, after)
        assert _seen(cluster) == held, "nothing that runs is touched"
        now = cluster.status(NAMESPACE, "gang")
        assert now.queue and waiting.queue and now.queue.since == waiting.queue.since, "its wait goes on"
        assert cluster.get(kinds.GPUQUEUE, "default")["spec"]["weight"] == 3  # type: ignore[index]
        threaded.kubectl("apply", "-f", "-", stdin=_WITH_A_NEW_FIELD)

        cluster.delete(kinds.DEEPSEEKJOB, "second", NAMESPACE)
        cluster.wait_status(NAMESPACE, "gang", lambda s: s.queue and s.queue.position == 1, 30)
        cluster.delete(kinds.DEEPSEEKJOB, "first", NAMESPACE)
        gang = cluster.wait_status(NAMESPACE, "gang", lambda s: s.phase is Phase.RUNNING, 30)
        assert sum(len(a.devices) for a in gang.assignments) == 16
        assert not cluster.doubly_held()

        held = _seen(cluster)
        back = Release(threaded.cluster, 1, chart=old / "helm" / "drse", code=code)
        threaded.run(back.start())
        threaded.run(after.stop())
        try:
            _leader_is_one_of(cluster, back)
            assert _seen(cluster) == held
            _job(cluster, "later", resources={"gpusPerReplica": 1, "accelerators": [L40S]})
            cluster.wait_status(NAMESPACE, "later", lambda s: s.phase is Phase.RUNNING, 30)
            assert not cluster.doubly_held()
        finally:
            threaded.run(back.stop())
    finally:
        threaded.run(after.stop())
        threaded.run(before.stop())


#: ``waitTarget`` came after the released version.
_WITH_A_NEW_FIELD = """
apiVersion: drse.dev/v1alpha1
kind: GPUQueue
metadata: {name: targeted}
spec: {waitTarget: 30m}
"""


def _three_jobs(cluster: Cluster) -> tuple[dict[str, Any], DeepSeekJobStatus]:
    """Two jobs that fill both nodes, and a gang that waits for both; what is seen of the first two, and the
    gang's status."""
    for name in ("first", "second"):
        _job(cluster, name, resources=WHOLE_NODE)
        cluster.wait_status(NAMESPACE, name, lambda s: s.phase is Phase.RUNNING, 30)
    _job(cluster, "gang", resources=WHOLE_NODE | {"gpusPerReplica": 16, "workersPerReplica": 2})
    waiting = cluster.wait_status(NAMESPACE, "gang", lambda s: s.queue and s.queue.reason, 30)
    return _seen(cluster), waiting


def _job(cluster: Cluster, name: str, **spec: Any) -> None:
    cluster.job(NAMESPACE, name, **{"queue": "default", **spec})


def _seen(cluster: Cluster) -> dict[str, Any]:
    """All pods by name with their identity, and all devices promised, by job."""
    pods = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(NAMESPACE).items()}
    promised = {
        job["metadata"]["name"]: sorted(
            device["uuid"]
            for assignment in job.get("status", {}).get("assignments", ())
            for device in assignment["devices"]
        )
        for job in cluster.list(kinds.DEEPSEEKJOB)
    }
    return {"pods": pods, "promised": promised}


def _leader_is_one_of(cluster: Cluster, release: Release) -> None:
    names = {replica.name for replica in release.operators}

    def holder() -> str:
        lease = cluster.get(kinds.LEASE, "drse-operator", release.namespace)
        return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""

    eventually(holder, lambda name: any(name.startswith(each) for each in names), 40)


def _operator_from(code: tuple[Path, ...]) -> Path:
    """Where an operator's process takes its modules from."""
    result = subprocess.run(
        (sys.executable, "-c", "import drse_operator; print(drse_operator.__file__)"),
        env={"PYTHONPATH": os.pathsep.join(map(str, code))},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(result.stdout.strip())
