"""Two operators: one leads, the other takes over, at once when asked and soon when not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drse_operator.api.enums import Phase
from tests.operator.harness import Cluster, OperatorProcess, eventually

pytestmark = [pytest.mark.cluster]


def test_hand_over(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    lease = ("--lease", "hand-over")
    first = OperatorProcess(cluster.threaded.kubeconfig, tmp_path / "first.log", *lease)
    second = OperatorProcess(cluster.threaded.kubeconfig, tmp_path / "second.log", *lease)
    first.start()
    try:
        eventually(first.leads, bool, 30)
        second.start()
        eventually(lambda: second.get("/readyz") if _up(second) else 0, lambda status: status == 200, 30)
        assert not second.leads(), "two leaders"
        started = time.monotonic()
        assert first.terminate() == 0
        eventually(second.leads, bool, 10)
        assert time.monotonic() - started < 10, "a leader that is told to stop hands over"
        cluster.job(namespace, "served")
        cluster.wait_status(namespace, "served", lambda s: s.phase is Phase.RUNNING)
        first.start()
        eventually(lambda: first.get("/readyz") if _up(first) else 0, lambda status: status == 200, 30)
        second.kill()
        eventually(first.leads, bool, 30)
    finally:
        for process in (first, second):
            if process.process.poll() is None:
                process.kill()


def _up(process: OperatorProcess) -> bool:
    try:
        return process.get("/healthz") == 200
    except Exception:
        return False
