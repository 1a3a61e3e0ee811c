"""What should not happen to a live operator, and does: queues that go while their jobs run."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from drse_operator.api.enums import Phase
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster]

TWO = {"gpusPerReplica": 2, "accelerators": [L40S]}


def test_a_queue_is_deleted_while_its_jobs_run_and_comes_back(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    queue = f"{namespace}-going"
    cluster.queue(queue, weight=3, guaranteed=2)
    cluster.job(namespace, "runs", queue=queue, resources=TWO, runtime=running_for(300))
    before = cluster.wait_status(namespace, "runs", lambda s: s.phase is Phase.RUNNING, 60)
    cluster.delete(kinds.GPUQUEUE, queue)
    cluster.job(namespace, "new", queue=queue, resources=TWO)
    assert f"GPUQueue {queue} does not exist" in cluster.wait_reason(namespace, "new", "QueueNotFound", 30)
    cluster.job(namespace, "other", resources=TWO, runtime=running_for(1))
    cluster.wait_status(namespace, "other", lambda s: s.phase is Phase.SUCCEEDED, 60)
    during = cluster.status(namespace, "runs")
    assert (during.phase, during.assignments) == (Phase.RUNNING, before.assignments)
    cluster.queue(queue)
    cluster.wait_status(namespace, "new", lambda s: s.phase is Phase.RUNNING, 60)
    status = eventually(
        lambda: (cluster.get(kinds.GPUQUEUE, queue) or {}).get("status") or {},
        lambda s: s.get("runningJobs") == 2 and s.get("clockAt"),
        30,
    )
    assert status["assignedGPUs"] == 4
    assert cluster.status(namespace, "runs").assignments == before.assignments
    assert operator.metric("drse_pass_failures_total") == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"weight": 0}, "greater than or equal to 1"),
        ({"weight": -1}, "greater than or equal to 1"),
        ({"guaranteed": 8, "limit": 4}, "guaranteed must not exceed limit"),
        ({"guaranteed": -1}, "greater than or equal to 0"),
        ({"taskWeights": {"Batch": 0}}, "greater than 0"),
        ({"taskWeights": {"Batch": -2}}, "greater than 0"),
        ({"minRuntime": "soon"}, "duration of hours, minutes and seconds"),
        ({"ordering": "Random"}, "FairSojourn"),
        ({"preemption": "Always"}, "LowerPriority"),
    ],
)
def test_a_queue_that_makes_no_sense_is_refused_with_a_sentence(
    cluster: Cluster, spec: dict[str, object], said: str
) -> None:
    with pytest.raises(ApiError) as refused:
        cluster.queue("refused", **spec)
    assert said in refused.value.message
    with pytest.raises(ValidationError):
        GPUQueueSpec.from_wire(spec)


def test_everything_that_a_queue_may_say_is_read_back(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-full"
    spec = {
        "weight": 5,
        "guaranteed": 1,
        "limit": 64,
        "ordering": "Fifo",
        "taskWeights": {"Inference": 2, "Batch": 0.5, "PreTraining": 1000},
        "preemption": "LowerPriority",
        "minRuntime": "1h30m",
    }
    cluster.queue(name, **spec)
    stored = cluster.get(kinds.GPUQUEUE, name)
    assert stored is not None
    parsed = GPUQueueSpec.from_wire(stored["spec"])
    assert parsed == GPUQueueSpec.from_wire(spec)
    assert parsed.min_runtime_seconds == 5400
    cluster.delete(kinds.GPUQUEUE, name)
