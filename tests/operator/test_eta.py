"""Starts that are told on a full cluster, and how they turn out."""

from __future__ import annotations

import time

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, running_for
from tests.operator.test_memory import queue_status

pytestmark = [pytest.mark.cluster]

JOBS = 7
FOUR = {"gpusPerReplica": 4, "accelerators": [L40S]}


def test_jobs_start_within_the_ranges_that_they_were_told(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    queue = f"{namespace}-told"
    cluster.queue(queue, ordering="Fifo")
    names = [f"job-{number}" for number in range(JOBS)]
    for name in names:
        six = {"runtime": running_for(6), "estimatedDuration": "8s"}
        cluster.job(namespace, name, queue=queue, resources=FOUR, **six)
    told: dict[str, tuple[float, float]] = {}
    started: dict[str, float] = {}
    deadline = time.monotonic() + 180
    while len(started) < JOBS:
        assert time.monotonic() < deadline, (told, started)
        for document in cluster.list(kinds.DEEPSEEKJOB, namespace):
            name, status = (
                document["metadata"]["name"],
                DeepSeekJobStatus.from_wire(document.get("status") or {}),
            )
            eta = None if status.queue is None else status.queue.eta
            if eta is not None and eta.p50 is not None and eta.p90 is not None:
                told.setdefault(name, (times.from_wire(eta.p50), times.from_wire(eta.p90)))
            if status.assignments:
                started.setdefault(name, times.from_wire(status.assignments[0].since))
        time.sleep(0.3)
    assert len(told) >= JOBS // 2, "those that waited for long were told when they would start"
    for name, (p50, p90) in told.items():
        assert started[name] <= p90, f"{name} started later than nine in ten should"
        assert abs(started[name] - p50) < 120, f"{name}: told {p50}, started {started[name]}"
    last = [told[name][0] for name in names if name in told]
    assert last == sorted(last), "who comes first is told an earlier start"
    judged = eventually(
        lambda: queue_status(cluster, queue).told, lambda t: t is not None and t.judged >= len(told), 30
    )
    assert judged is not None and judged.kept == judged.judged == len(judged.ratios)
    for name in names:
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.SUCCEEDED, 60)
    assert operator.metric("drse_fairness_bound_used_ratio") <= 1
