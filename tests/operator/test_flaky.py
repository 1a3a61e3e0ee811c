"""A tenth of all requests is refused or lost, answers get lost after the write was made, watches break.

Everything is retried, nothing is done twice, nothing is forgotten.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.operator.flaky import FlakyApiServer
from tests.operator.harness import A100, H100, Cluster, OperatorProcess, eventually, running_for
from tests.operator.test_crashes import Watchdog

pytestmark = [pytest.mark.cluster]


def test_requests_fail_and_answers_get_lost(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("DRSE_TEST_SEED", time.time_ns() % 10**6))
    print(f"seed {seed}: repeat with DRSE_TEST_SEED={seed}")
    with FlakyApiServer(cluster.threaded.kubeconfig, share=0.1, seed=seed) as server:
        operator = OperatorProcess(
            server.kubeconfig(tmp_path / "kubeconfig"), tmp_path / "operator.log", "--lease", "flaky"
        )
        operator.start()
        watchdog = Watchdog(cluster)
        watchdog.start()
        try:
            eventually(operator.leads, bool, 60)
            for number in range(30):
                kind = (A100, H100)[number % 2]
                resources = {"gpusPerReplica": 1 + number % 3, "accelerators": [kind]}
                cluster.job(namespace, f"job-{number}", resources=resources, runtime=running_for(1))
            for number in range(30):
                cluster.wait_status(namespace, f"job-{number}", lambda s: s.phase is Phase.SUCCEEDED, 120)
            eventually(lambda: cluster.list(kinds.CLAIM, namespace), lambda claims: not claims, 60)
            statuses = [cluster.status(namespace, f"job-{number}") for number in range(30)]
        finally:
            operator.kill()
            watchdog.stop()
    assert watchdog.found == []
    assert sum(status.failures for status in statuses) == 0, "a retry was taken for a failure of the job"
    assert len(cluster.pods(namespace)) == 30
    assert {"429", "500", "lost request", "lost answer"} <= server.faults.keys(), server.faults
