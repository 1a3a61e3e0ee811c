"""The operator is killed without warning, again and again, while jobs come, grow, end and go.

At no moment may a device be in two claims or promised twice, or a node be overbooked; at the end every job
is where it should be. The kill times are random from a printed seed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.harness import A100, H100, L40S, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("DRSE_TEST_KILLS", "20"))


class Watchdog(threading.Thread):
    """Looks for doubly held devices all the time."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.found: list[str] = []
        self.looks = 0
        self._cluster = cluster
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            self.found += self._cluster.doubly_held() + self._cluster.overbooked()
            self.looks += 1
            time.sleep(0.1)

    def stop(self) -> None:
        self._over.set()
        self.join()


def test_killed_at_random_again_and_again(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("DRSE_TEST_SEED", time.time_ns() % 10**6))
    print(f"seed {seed}: repeat with DRSE_TEST_SEED={seed}")
    chance = random.Random(seed)
    operator = OperatorProcess(
        cluster.threaded.kubeconfig,
        tmp_path / "operator.log",
        "--lease",
        "crashes",
        "--identity",
        "the-only-one",
    )
    operator.start()
    watchdog = Watchdog(cluster)
    watchdog.start()
    try:
        for number in range(KILLS):
            _stir(cluster, namespace, number)
            time.sleep(chance.uniform(0.2, 2.5))
            operator.kill()
            operator.start()
        _settle(cluster, namespace, KILLS)
    finally:
        operator.kill()
        watchdog.stop()
    assert watchdog.found == []
    assert watchdog.looks > KILLS


def _stir(cluster: Cluster, namespace: str, number: int) -> None:
    """Each round adds two jobs and disturbs one of an earlier round."""
    kind = (A100, H100, L40S)[number % 3]
    brief = {"gpusPerReplica": 1 + number % 2, "accelerators": [kind]}
    cluster.job(namespace, f"brief-{number}", resources=brief, runtime=running_for(1 + number % 3))
    if number % 4 == 0:
        gang = {"gpusPerReplica": 4, "workersPerReplica": 2, "accelerators": [H100]}
        runtime = running_for(2)
        cluster.job(namespace, f"gang-{number}", taskType="PreTraining", resources=gang, runtime=runtime)
    else:
        serve = {"engine": "Custom", "image": "registry.example/serve:1"}
        resources = {"gpusPerReplica": 1, "accelerators": [A100 if number % 2 else L40S]}
        cluster.job(
            namespace, f"web-{number}", taskType="Inference", resources=resources, runtime=serve, replicas=1
        )
    earlier = f"web-{number - 3}"
    if cluster.get(kinds.DEEPSEEKJOB, earlier, namespace) is not None:
        match number % 3:
            case 0:
                cluster.patch_job(namespace, earlier, replicas=2)
            case 1:
                cluster.patch_job(namespace, earlier, suspend=True)
            case _:
                cluster.delete(kinds.DEEPSEEKJOB, earlier, namespace)


def _settle(cluster: Cluster, namespace: str, rounds: int) -> None:
    """Everything that ends has ended; services beyond the cluster's GPUs are taken away one by one."""
    for number in range(rounds):
        for name in (f"brief-{number}", f"gang-{number}"):
            if cluster.get(kinds.DEEPSEEKJOB, name, namespace) is not None:
                _make_room_until_over(cluster, namespace, name)
    for job in cluster.list(kinds.DEEPSEEKJOB, namespace):
        name, spec = job["metadata"]["name"], job["spec"]
        if not name.startswith("web-"):
            continue
        if spec.get("suspend"):
            cluster.wait_status(namespace, name, lambda s: s.phase is Phase.SUSPENDED and not s.assignments)
        else:
            wanted = f"{spec['replicas']}/{spec['replicas']}"
            cluster.wait_status(
                namespace, name, lambda s, wanted=wanted: s.ready == wanted or s.queue is not None, 60
            )
    _objects_follow_statuses(cluster, namespace)


def _make_room_until_over(cluster: Cluster, namespace: str, name: str) -> None:
    """Wait for a job to end; services that hold the GPUs it waits for give way."""
    deadline = time.monotonic() + 120
    while not ((phase := cluster.status(namespace, name).phase) and phase.finished):
        assert time.monotonic() < deadline, f"{name}: {cluster.status(namespace, name)}"
        if cluster.status(namespace, name).queue is not None:
            services = [
                job["metadata"]["name"]
                for job in cluster.list(kinds.DEEPSEEKJOB, namespace)
                if job["metadata"]["name"].startswith("web-") and (job.get("status") or {}).get("assignments")
            ]
            if services:
                cluster.delete(kinds.DEEPSEEKJOB, services[0], namespace)
        time.sleep(0.5)
    assert cluster.status(namespace, name).phase is Phase.SUCCEEDED


def _objects_follow_statuses(cluster: Cluster, namespace: str) -> None:
    """One pod for each worker promised, one claim for each with named devices, and nothing else alive."""

    def promised() -> tuple[set[str], set[str]]:
        pods, claims = set(), set()
        for job in cluster.list(kinds.DEEPSEEKJOB, namespace):
            for a in (job.get("status") or {}).get("assignments") or ():
                name = f"{job['metadata']['name']}-{a['replica']}-{a['worker']}"
                pods.add(name)
                if a["deviceSelection"] == "Exact":
                    claims.add(name)
        return pods, claims

    def existing() -> tuple[set[str], set[str]]:
        pods = {
            name
            for name, pod in cluster.pods(namespace).items()
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        }
        return pods, {claim["metadata"]["name"] for claim in cluster.list(kinds.CLAIM, namespace)}

    eventually(lambda: (promised(), existing()), lambda pair: pair[0] == pair[1], 60)
