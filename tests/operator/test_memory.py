"""What admission remembers outlives the operator: a new leader goes on as the old one would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase, TaskType
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster]

ONE = {"gpusPerReplica": 1, "accelerators": [L40S]}
ALL = {"gpusPerReplica": 4, "accelerators": [L40S]}
LONG = 16
SMALL = 40


def test_killed_in_the_middle_of_a_debt(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """One flow has had all GPUs for a while, so the other goes first until it has had as much, whoever
    leads. A leader that began anew would let them take turns."""
    rich, poor = f"{namespace}-rich", f"{namespace}-poor"
    for name in (rich, poor):
        cluster.queue(name)
    operator = OperatorProcess(
        cluster.threaded.kubeconfig, tmp_path / "operator.log", "--lease", "debt", "--identity", "only"
    )
    operator.start()
    try:
        cluster.job(
            namespace,
            "long",
            queue=rich,
            resources=ALL,
            runtime=running_for(LONG),
            estimatedDuration=f"{LONG}s",
        )
        cluster.wait_status(namespace, "long", lambda s: s.phase is Phase.RUNNING, 40)
        for number in range(SMALL):
            for name in (rich, poor):
                small = {"resources": ONE, "runtime": running_for(1), "estimatedDuration": "1s"}
                cluster.job(namespace, f"{name}-{number}", queue=name, **small)
        cluster.wait_status(namespace, "long", lambda s: s.phase is Phase.SUCCEEDED, 60)
        eventually(lambda: _started(cluster, namespace, poor), lambda n: n >= 4, 40)
        eventually(lambda: queue_status(cluster, rich).flows, lambda flows: flows and flows[0].finish > 0, 20)
        operator.kill()
        before = queue_status(cluster, rich)
        operator.start()
        eventually(lambda: _started(cluster, namespace, poor), lambda n: n >= 30, 120)
        order = _order(cluster, namespace)
        after = queue_status(cluster, rich)
    finally:
        operator.kill()
    # 16 s of four GPUs are worth 64 small jobs that really run for 1 s, about 2 s with start and end.
    assert [name for name in order[:20] if name.startswith(rich)] == [], order
    assert after.flows[0].finish >= before.flows[0].finish > 0
    _within_the_bound(cluster, namespace, order)


def test_durations_outlive_jobs_and_operator(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Jobs are deleted as soon as they have ended; how long they took is known all the same."""
    name = f"{namespace}-learns"
    cluster.queue(name)
    operator = OperatorProcess(
        cluster.threaded.kubeconfig, tmp_path / "operator.log", "--lease", "learns", "--identity", "only"
    )
    operator.start()
    try:
        for number in range(6):
            cluster.job(
                namespace,
                f"brief-{number}",
                queue=name,
                runtime=running_for(2),
                ttlSecondsAfterFinished=0,
                estimatedDuration="1h" if number % 2 else "1m",
            )
        eventually(lambda: cluster.list(kinds.DEEPSEEKJOB, namespace), lambda jobs: not jobs, 60)
        status = eventually(
            lambda: queue_status(cluster, name), lambda s: s.learned and len(s.learned[0].seconds) == 6, 30
        )
        operator.kill()
        operator.start()
        cluster.job(namespace, "last", queue=name, runtime=running_for(2))
        again = eventually(
            lambda: queue_status(cluster, name), lambda s: s.learned and len(s.learned[0].seconds) == 7, 60
        )
    finally:
        operator.kill()
    (like,) = again.learned
    assert (like.task_type, like.model, like.gpus) == (TaskType.BATCH, "", 1)
    assert like.seconds[:6] == status.learned[0].seconds
    assert all(2 <= seconds < 30 for seconds in like.seconds), like
    assert sorted(like.stated) == [0, 60, 60, 60, 3600, 3600, 3600]


def test_killed_between_release_and_assignment(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """The GPUs have been taken and not yet given: the next leader gives them to whom they were taken for."""
    process = OperatorProcess(
        cluster.threaded.kubeconfig, tmp_path / "operator.log", "--lease", "between", "--identity", "only"
    )
    owner, borrower = f"{namespace}-owner", f"{namespace}-borrower"
    cluster.queue(owner, guaranteed=4)
    cluster.queue(borrower)
    process.start()
    try:
        cluster.job(namespace, "victim", queue=borrower, resources=ALL, runtime=running_for(300))
        cluster.wait_status(namespace, "victim", lambda s: s.phase is Phase.RUNNING, 60)
        cluster.job(namespace, "taker", queue=owner, resources=ALL, runtime=running_for(3))
        cluster.wait_status(namespace, "victim", lambda s: s.preemptions == 1, 60)
        process.kill()
        victim = cluster.status(namespace, "victim")
        assert victim.assignments == () and victim.preemptions == 1
        process.start()
        cluster.wait_status(namespace, "taker", lambda s: s.phase is Phase.SUCCEEDED, 90)
        status = cluster.wait_status(namespace, "victim", lambda s: s.phase is Phase.RUNNING, 60)
        assert status.preemptions == 1
        assert cluster.status(namespace, "taker").preemptions == 0
        assert cluster.doubly_held() == []
    finally:
        process.kill()


def queue_status(cluster: Cluster, name: str) -> GPUQueueStatus:
    document = cluster.get(kinds.GPUQUEUE, name)
    return GPUQueueStatus.from_wire((document or {}).get("status") or {})


def _started(cluster: Cluster, namespace: str, queue: str) -> int:
    return sum(name.startswith(queue) for name in _order(cluster, namespace))


def _order(cluster: Cluster, namespace: str) -> list[str]:
    """Small jobs that were given GPUs, in the order of the promises."""
    found = []
    for document in cluster.list(kinds.DEEPSEEKJOB, namespace):
        status = DeepSeekJobStatus.from_wire(document.get("status") or {})
        name = document["metadata"]["name"]
        if name != "long" and (status.assignments or status.ran):
            found.append((_since(status), name))
    return [name for _, name in sorted(found)]


def _since(status: DeepSeekJobStatus) -> float:
    if status.assignments:
        return times.from_wire(status.assignments[0].since)
    assert status.ran is not None
    return times.from_wire(status.ran.until) - status.ran.seconds


def _within_the_bound(cluster: Cluster, namespace: str, order: list[str]) -> None:
    """P1 over what was really taken, with no lead by backfilling: all small jobs ask for the same."""
    taken: dict[str, float] = {}
    for document in cluster.list(kinds.DEEPSEEKJOB, namespace):
        status = DeepSeekJobStatus.from_wire(document.get("status") or {})
        if status.ran is not None:
            taken[document["metadata"]["name"]] = status.ran.used
    lead, worst = taken["long"], max(taken.values())
    bound = worst + max(used for name, used in taken.items() if name != "long") * 9
    for name in order:
        lead += taken.get(name, 0.0) * (1 if "-rich-" in name else -1)
        assert abs(lead) <= bound
