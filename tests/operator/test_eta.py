"""Starts that are told on a full cluster, and how they turn out."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.status import DeepSeekJobStatus, Eta
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


def test_whose_arrival_has_moved_a_start_is_said(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    """A node is held for an hour, somebody waits and is told so; then a higher priority comes."""
    queue = f"{namespace}-moved"
    cluster.queue(queue, waitTarget="30m")
    urgent = f"{namespace}-urgent"
    cluster.create(
        kinds.PRIORITY_CLASS,
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": urgent},
            "value": 1000,
        },
    )
    common = {"queue": queue, "resources": FOUR, "runtime": running_for(3600)}
    for name in ("holder", "patient"):
        cluster.job(namespace, name, **common, estimatedDuration="1h")
    told = _eta(cluster, namespace, "patient", lambda eta: eta is not None)
    assert told.first is not None and told.moved is None
    assert (told.first.p50, told.first.p90) == (told.p50, told.p90)
    cluster.job(namespace, "urgent", **common, estimatedDuration="2h", priorityClassName=urgent)
    moved = _eta(cluster, namespace, "patient", lambda eta: eta is not None and eta.moved is not None)
    assert moved.first == told.first, "what was told first stays"
    assert moved.moved is not None and moved.p50 is not None and told.p50 is not None
    assert (moved.moved.p50, moved.moved.p90) == (told.p50, told.p90)
    assert moved.moved.reason == "JobArrivedAhead"
    assert moved.moved.message == f"{namespace}/urgent arrived and goes first (4 GPUs)"
    assert times.from_wire(moved.p50) - times.from_wire(told.p50) == pytest.approx(7200, abs=1200)
    assert operator.metric("drse_eta_slips_total") >= 1
    assert operator.metric("drse_queue_wait_target_seconds") == 1800
    assert operator.metric("drse_reservation_start_timestamp_seconds") > time.time()


def _eta(cluster: Cluster, namespace: str, name: str, check: Callable[[Eta | None], bool]) -> Eta:
    """The start that a job is told, once it passes the check."""

    def told(status: DeepSeekJobStatus) -> Eta | None:
        return None if status.queue is None else status.queue.eta

    found = told(cluster.wait_status(namespace, name, lambda s: check(told(s)), 120))
    assert found is not None
    return found
