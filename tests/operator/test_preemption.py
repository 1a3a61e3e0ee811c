"""Who gives way to whom on a real cluster, that both sides read why, and that it comes to an end (P8)."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import Phase
from drse_operator.api.status import Condition, DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster]

TWO = {"gpusPerReplica": 2, "accelerators": [L40S]}
FOUR = {"gpusPerReplica": 4, "accelerators": [L40S]}


def priority_class(cluster: Cluster, name: str, value: int) -> str:
    document = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
    }
    cluster.create(kinds.PRIORITY_CLASS, document)
    return name


def running(cluster: Cluster, namespace: str, name: str) -> DeepSeekJobStatus:
    return cluster.wait_status(namespace, name, lambda s: s.phase is Phase.RUNNING, 60)


def preempted(status: DeepSeekJobStatus) -> Condition | None:
    return next((c for c in status.conditions if c.type == "Preempted"), None)


def wait_preempted(cluster: Cluster, namespace: str, name: str) -> Condition:
    status = cluster.wait_status(
        namespace, name, lambda s: (c := preempted(s)) is not None and c.status == "True", 60
    )
    condition = preempted(status)
    assert condition is not None
    return condition


def notes(cluster: Cluster, namespace: str, job: str, reason: str) -> list[str]:
    """What the events of one reason on a job say."""

    def said() -> list[str]:
        events: list[dict[str, Any]] = cluster.list(kinds.EVENT, namespace)
        return [e["note"] for e in events if e["regarding"]["name"] == job and e["reason"] == reason]

    return eventually(said, bool, 30)


def test_what_is_guaranteed_is_taken_back_and_the_borrower_comes_back(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    owner, borrower = f"{namespace}-owner", f"{namespace}-borrower"
    cluster.queue(owner, guaranteed=2)
    cluster.queue(borrower)
    for name in ("old", "young"):
        cluster.job(namespace, name, queue=borrower, resources=TWO, runtime=running_for(25))
        running(cluster, namespace, name)
    cluster.job(namespace, "mine", queue=owner, resources=TWO, runtime=running_for(3))
    running(cluster, namespace, "mine")
    condition = wait_preempted(cluster, namespace, "young")
    assert condition.reason == "GuaranteeReclaimed"
    assert condition.message == f"2 GPUs go to {namespace}/mine, which has its queue's guarantee"
    assert f"{namespace}/mine" in notes(cluster, namespace, "young", "Preempted")[0]
    assert f"{namespace}/young give way" in notes(cluster, namespace, "mine", "Preempting")[0]
    young = cluster.status(namespace, "young")
    assert young.failures == 0, "being preempted is no failure of the job"
    assert young.queue is not None and young.ran is not None and not young.ran.completed
    assert len(cluster.status(namespace, "old").assignments) == 1, "no more is taken than needed"
    for name in ("mine", "old", "young"):
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.SUCCEEDED, 90)
    condition = preempted(cluster.status(namespace, "young"))  # type: ignore[assignment]
    assert condition.status == "False"
    counts = {name: cluster.status(namespace, name).preemptions for name in ("mine", "old", "young")}
    assert counts == {"mine": 0, "old": 0, "young": 1}


def test_a_higher_priority_takes_but_not_before_the_minimum_runtime(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    queue = f"{namespace}-priorities"
    cluster.queue(queue, preemption="LowerPriority", minRuntime="9s")
    urgent = priority_class(cluster, f"{namespace}-urgent", 1000)
    cluster.job(namespace, "low", queue=queue, resources=FOUR, runtime=running_for(300))
    running(cluster, namespace, "low")
    cluster.job(
        namespace, "high", queue=queue, resources=FOUR, priorityClassName=urgent, runtime=running_for(2)
    )
    condition = wait_preempted(cluster, namespace, "low")
    assert (condition.reason, condition.status) == ("HigherPriority", "True")
    ran = cluster.status(namespace, "low").ran
    assert ran is not None and ran.seconds >= 9
    running(cluster, namespace, "high")
    cluster.wait_status(namespace, "high", lambda s: s.phase is Phase.SUCCEEDED, 60)
    status = running(cluster, namespace, "low")
    assert status.preemptions == 1
    assert cluster.status(namespace, "high").preemptions == 0


def test_nobody_is_preempted_in_a_queue_that_does_not_say_so(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    queue = f"{namespace}-patient"
    cluster.queue(queue)
    urgent = priority_class(cluster, f"{namespace}-urgent", 1000)
    cluster.job(namespace, "low", queue=queue, resources=FOUR, runtime=running_for(8))
    running(cluster, namespace, "low")
    cluster.job(namespace, "high", queue=queue, resources=FOUR, priorityClassName=urgent)
    cluster.wait_status(namespace, "low", lambda s: s.phase is Phase.SUCCEEDED, 60)
    running(cluster, namespace, "high")
    assert cluster.status(namespace, "low").preemptions == 0


def test_p8_queues_that_all_may_take_come_to_an_end(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    urgent = priority_class(cluster, f"{namespace}-urgent", 1000)
    queues = [f"{namespace}-{name}" for name in ("a", "b")]
    for queue in queues:
        cluster.queue(queue, guaranteed=2, preemption="LowerPriority")
    names = []
    for number in range(6):
        for queue in queues:
            names.append(f"{queue}-{number}")
            high = {"priorityClassName": urgent} if number % 3 == 2 else {}
            resources = FOUR if number % 2 else TWO
            runtime = running_for(2 + number % 3)
            cluster.job(namespace, names[-1], queue=queue, resources=resources, runtime=runtime, **high)
    for name in names:
        cluster.wait_status(namespace, name, lambda s: s.phase is Phase.SUCCEEDED, 240)
    statuses = [cluster.status(namespace, name) for name in names]
    assert sum(status.failures for status in statuses) == 0
    assert max(status.preemptions for status in statuses) <= len(names)
