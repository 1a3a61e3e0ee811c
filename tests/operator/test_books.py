"""GPU-hours and decisions are written down, and outlive the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from drse_operator.observe import books
from drse_operator.observe.accounts import Periods
from drse_operator.observe.journal import Decision
from tests.operator.harness import Cluster, OperatorProcess, eventually

pytestmark = pytest.mark.cluster

HOME = "drse-system"


def months(cluster: Cluster) -> list[books.UsageBook]:
    maps = cluster.list(kinds.CONFIG_MAP, HOME)
    return [books.read_usage(m) for m in maps if m["metadata"]["name"].startswith("drse-usage-")]


def held(periods: Periods, namespace: str) -> float:
    """GPU-seconds of a namespace's accounts, by days."""
    days = [tallies for period, tallies in periods.items() if "T" not in period]
    return sum(t.held for tallies in days for account, t in tallies.items() if account.namespace == namespace)


def decisions(cluster: Cluster, namespace: str) -> list[Decision]:
    found = cluster.get(kinds.CONFIG_MAP, books.DECISIONS_NAME, HOME)
    latest = () if found is None else books.read_decisions(found).decisions
    return [decision for decision in latest if decision.namespace == namespace]


def test_hours_go_on_through_a_crash_and_a_stop(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    process = OperatorProcess(cluster.threaded.kubeconfig, tmp_path / "operator.log")
    process.start()
    eventually(process.leads, bool, 30)
    cluster.job(namespace, "long")
    cluster.job(namespace, "lost", queue="nowhere")
    cluster.wait_status(namespace, "long", lambda s: s.phase is Phase.RUNNING)
    cluster.wait_reason(namespace, "lost", "QueueNotFound")
    since = times.from_wire(cluster.status(namespace, "long").assignments[0].since)

    assert process.terminate() == 0
    assert held(books.merge(months(cluster)), namespace) > 0
    kept = decisions(cluster, namespace)
    assert [(d.kind, d.job) for d in kept] == [("Admit", "long"), ("Deny", "lost")]
    assert kept[0].numbers["dominant_share"] > 0

    process.start()
    eventually(process.leads, bool, 30)
    process.kill()
    process.start()
    eventually(process.leads, bool, 60)
    assert process.terminate() == 0
    book = months(cluster)[-1]
    (stay,) = [s for s in book.open if s.namespace == namespace]
    assert held(books.merge(months(cluster)), namespace) == pytest.approx(
        (stay.counted - since) * stay.gpus, abs=0.1
    )
    assert decisions(cluster, namespace)[: len(kept)] == kept
