"""Phase, counters and conditions that follow from the rest of a status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.reasons import ConditionType, ScalingReason, StateReason, WaitReason
from drse_operator.api.status import Condition, DeepSeekJobStatus, QueueStatus, ScalingStatus
from drse_operator.workloads import conditions
from drse_operator.workloads.conditions import State
from drse_operator.workloads.observed import PodPhase
from drse_operator.workloads.seen import Problem, Seen
from drse_operator.workloads.summary import summarize
from tests.lifecycle.builders import T0, make_job, pod_of, promise, see, status_with

NOW = T0 + 100


def summary_of(seen: Seen, status: DeepSeekJobStatus | None = None) -> DeepSeekJobStatus:
    return summarize(seen, status or seen.job.status, NOW)


def condition(status: DeepSeekJobStatus, kind: ConditionType) -> tuple[str, str] | None:
    found = [c for c in status.conditions if c.type == kind]
    return (found[0].status, found[0].reason) if found else None


@pytest.mark.parametrize(
    ("seen", "phase", "ready"),
    [
        pytest.param(see(make_job(status_with())), Phase.QUEUED, "0/1", id="waits"),
        pytest.param(
            see(make_job(status_with(promise()))), Phase.STARTING, "0/1", id="holds GPUs, no pod yet"
        ),
        pytest.param(
            see(make_job(status_with(promise())), [pod_of(promise())]), Phase.RUNNING, "1/1", id="runs"
        ),
        pytest.param(see(make_job(status_with(), suspend=True)), Phase.SUSPENDED, "0/1", id="suspended"),
        pytest.param(
            see(
                make_job(status_with(promise(worker=0), promise(worker=1))),
                [pod_of(promise(worker=0)), pod_of(promise(worker=1), ready=False)],
            ),
            Phase.STARTING,
            "0/1",
            id="a gang is ready as a whole",
        ),
        pytest.param(
            see(
                make_job(status_with(promise(1), succeeded_replicas=(0,)), task="Batch", replicas=3),
                [pod_of(promise(1))],
            ),
            Phase.RUNNING,
            "1/2",
            id="ended replicas are no longer wanted",
        ),
        pytest.param(
            see(make_job(status_with(phase=Phase.FAILED), suspend=True)), Phase.FAILED, "0/1", id="ended"
        ),
    ],
)
def test_phase_and_ready(seen: Seen, phase: Phase, ready: str) -> None:
    status = summary_of(seen)
    assert (status.phase, status.ready) == (phase, ready)


def test_counters() -> None:
    a = [promise(0, 0), promise(0, 1), promise(1, 0)]
    seen = see(make_job(status_with(*a), replicas=2), [pod_of(x) for x in a[:2]])
    status = summary_of(seen)
    assert (status.gpus, status.replicas, status.ready_replicas) == (6, 2, 1)
    assert status.observed_generation == 3
    assert "drse.dev/job=job" in status.selector


WAITING = QueueStatus(reason=WaitReason.FRAGMENTED, message="the numbers", since=times.to_wire(T0))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            see(make_job(status_with(promise()))), ("True", StateReason.GPUS_ASSIGNED), id="holds GPUs"
        ),
        pytest.param(
            see(make_job(status_with(queue=WAITING))),
            ("False", WaitReason.FRAGMENTED),
            id="the reason of its wait",
        ),
        pytest.param(
            see(make_job(status_with(), suspend=True)), ("False", WaitReason.SUSPENDED), id="suspended"
        ),
        pytest.param(see(make_job(status_with())), ("Unknown", WaitReason.ASSIGNING), id="not planned yet"),
        pytest.param(see(make_job(status_with(phase=Phase.SUCCEEDED))), ("False", "Succeeded"), id="ended"),
    ],
)
def test_admitted(seen: Seen, expected: tuple[str, str]) -> None:
    assert condition(summary_of(seen), ConditionType.ADMITTED) == expected


def test_ready_says_how_many() -> None:
    starting = summary_of(see(make_job(status_with(promise()))))
    assert condition(starting, ConditionType.READY) == ("False", StateReason.REPLICAS_STARTING)
    ready = summary_of(see(make_job(status_with(promise())), [pod_of(promise())]))
    assert condition(ready, ConditionType.READY) == ("True", StateReason.REPLICAS_READY)
    assert condition(summary_of(see(make_job())), ConditionType.READY) == ("False", StateReason.NOT_ADMITTED)


def test_health_is_told_while_gpus_are_held() -> None:
    job = make_job(status_with(promise()))
    well = summary_of(see(job, [pod_of(promise())]))
    assert condition(well, ConditionType.DEVICES_HEALTHY) == ("True", StateReason.ALL_HEALTHY)
    problems = [
        Problem(StateReason.DEVICE_TAINTED, "node-0", f"GPU-{i}", f"GPU-{i} has the taint xid")
        for i in range(3)
    ]
    ill = summary_of(see(job, [pod_of(promise())], problems=problems))
    assert condition(ill, ConditionType.DEVICES_HEALTHY) == ("False", StateReason.DEVICE_TAINTED)
    message = next(c.message for c in ill.conditions if c.type == ConditionType.DEVICES_HEALTHY)
    assert message == "GPU-0 has the taint xid (and 2 more)"
    freed = summarize(see(job), ill.model_copy(update={"assignments": ()}), NOW)
    assert condition(freed, ConditionType.DEVICES_HEALTHY) is None


def test_scaling_is_told_while_it_is_on() -> None:
    auto = {"mode": "Auto", "maxReplicas": 4}
    frozen = ScalingStatus(reason=ScalingReason.LOAD_STALE, message="12 minutes old", desired_replicas=1)
    status = summary_of(see(make_job(status_with(scaling=frozen), task="Inference", scaling=auto)))
    assert condition(status, ConditionType.SCALING_ACTIVE) == ("False", ScalingReason.LOAD_STALE)
    decides = frozen.model_copy(update={"reason": ScalingReason.WITHIN_THRESHOLDS})
    on = summary_of(
        see(make_job(status.model_copy(update={"scaling": decides}), task="Inference", scaling=auto))
    )
    assert condition(on, ConditionType.SCALING_ACTIVE) == ("True", StateReason.SCALING_ON)
    off = summary_of(see(make_job(on, task="Inference")))
    assert condition(off, ConditionType.SCALING_ACTIVE) is None


@pytest.mark.parametrize(
    ("phase", "reason", "kind"),
    [
        (Phase.SUCCEEDED, StateReason.WORKERS_SUCCEEDED, ConditionType.COMPLETE),
        (Phase.FAILED, StateReason.DEADLINE_EXCEEDED, ConditionType.FAILED),
    ],
)
def test_the_end_is_a_condition_that_stays(phase: Phase, reason: StateReason, kind: ConditionType) -> None:
    seen = see(make_job(status_with(phase=phase)))
    ended = summarize(seen, seen.job.status, NOW, reason, "in words")
    assert condition(ended, kind) == ("True", reason)
    assert condition(summarize(seen, ended, NOW + 60), kind) == ("True", reason)


def test_a_spec_that_does_not_parse_is_told_and_what_runs_is_left_alone() -> None:
    job = replace(make_job(), spec=None, invalid="spec.replicas: must be a number")
    status = summary_of(see(job))
    assert (status.phase, condition(status, ConditionType.ADMITTED)) == (
        Phase.QUEUED,
        ("False", WaitReason.INVALID_SPEC),
    )
    running = status_with(promise(), phase=Phase.RUNNING)
    assert summarize(see(replace(job, status=running)), running, NOW) == running


def test_summarizing_twice_changes_nothing() -> None:
    """Else every pass would write every status."""
    seen = see(make_job(status_with(promise())), [pod_of(promise(), PodPhase.PENDING)])
    once = summary_of(seen)
    assert summarize(seen, once, NOW + 1000) == once


# -- conditions -----------------------------------------------------------------------------------------


def test_the_time_of_a_condition_is_that_of_its_last_change_of_status() -> None:
    first = conditions.update((), {ConditionType.READY: State(False, "A", "one")}, 1, T0)
    reworded = conditions.update(first, {ConditionType.READY: State(False, "B", "two")}, 2, T0 + 10)
    assert reworded == (
        Condition(
            type="Ready",
            status="False",
            reason="B",
            message="two",
            last_transition_time=times.to_wire(T0),
            observed_generation=2,
        ),
    )
    turned = conditions.update(reworded, {ConditionType.READY: State(None, "C")}, 2, T0 + 20)
    assert (turned[0].status, turned[0].last_transition_time) == ("Unknown", times.to_wire(T0 + 20))


def test_conditions_of_other_types_stay_and_each_type_is_there_once() -> None:
    one = conditions.update((), {ConditionType.READY: State(True, "A")}, 1, T0)
    both = conditions.update(one, {ConditionType.ADMITTED: State(True, "B")}, 1, T0)
    assert [c.type for c in both] == ["Admitted", "Ready"]
    assert conditions.without(both, ConditionType.ADMITTED) == one
