"""Decisions of a plan, written into statuses."""

from __future__ import annotations

import pytest

from drse_operator.admission.decisions import Assign, Eta, FirstTold, Release, ReleaseReason, Told, Wait
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Mark, Snapshot
from drse_operator.api import times
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.controller import planned
from tests.admission import builders
from tests.admission.builders import NodePlan, kind_of, make_nodes, shape, snapshot
from tests.lifecycle.builders import make_job

NOW = 1_700_000_000.0
KEY = JobKey("team", "job")
FREE = DeepSeekJobStatus()


def an_assign(first_replica: int = 0) -> Assign:
    nodes = make_nodes([NodePlan("H100", 8), NodePlan("H100", 8)])
    replicas = range(first_replica)
    job = builders.make_job(
        "job", [shape(kind_of(nodes), 8, workers=2)], wanted=first_replica + 1, done=replicas
    )
    made: Snapshot = snapshot(nodes, [job])
    (assign,) = plan(made, NOW).assign
    return assign


def waits(reason: WaitReason = WaitReason.FRAGMENTED, position: int = 3) -> Wait:
    eta = Eta(NOW + 60, NOW + 600)
    return Wait(KEY, "uid", reason, "in words", position, 8, Told(eta, FirstTold(NOW, NOW + 60, eta)))


def test_a_promise_names_every_gpu() -> None:
    assign = an_assign()
    waiting = planned.with_wait(FREE, waits(), NOW - 5)
    status = planned.with_assign(waiting, assign, NOW)
    assert status.queue is None
    assert status.gpus_per_replica == 16
    assert [(a.replica, a.worker, a.count, a.bound) for a in status.assignments] == [
        (0, 0, 8, False),
        (0, 1, 8, False),
    ]
    for written, placement in zip(status.assignments, assign.placements, strict=True):
        assert (written.node, written.product) == (placement.node, "H100")
        assert [d.uuid for d in written.devices] == [d.uuid for d in placement.devices]
        assert {(d.driver, d.pool) for d in written.devices} == {("gpu.nvidia.com", placement.node)}
        assert times.from_wire(written.since) == NOW


def test_promises_stay_in_order_whatever_came_first() -> None:
    status = planned.with_assign(planned.with_assign(FREE, an_assign(1), NOW), an_assign(0), NOW + 1)
    assert [(a.replica, a.worker) for a in status.assignments] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_promise_survives_the_api() -> None:
    status = planned.with_assign(FREE, an_assign(), NOW)
    assert DeepSeekJobStatus.from_wire(status.to_wire()) == status


def test_a_release_takes_whole_replicas_and_closes_their_account() -> None:
    both = planned.with_assign(planned.with_assign(FREE, an_assign(1), NOW), an_assign(0), NOW)
    release = Release(KEY, "uid", (1,), ReleaseReason.SCALED_DOWN, "1 wanted")
    status = planned.with_release(both, release, make_job(both), None, NOW + 60)
    assert {a.replica for a in status.assignments} == {0}
    assert status.preemptions == 0 and status.ran is not None
    assert status.ran.seconds == pytest.approx(60, abs=0.001)
    share = sum(a.share or 0 for a in both.assignments if a.replica == 1)
    assert share == 1, "both nodes, that is the whole cluster"
    assert status.ran.used == pytest.approx(60, abs=0.001) and not status.ran.completed
    assert status.ran.charged == sum(a.charged or 0 for a in both.assignments if a.replica == 1) > 0


def test_who_is_preempted_reads_for_whom_and_that_it_is_over() -> None:
    held = planned.with_assign(FREE, an_assign(), NOW)
    message = "8 GPUs go to team/urgent, which has a higher priority"
    release = Release(KEY, "uid", (0,), ReleaseReason.PREEMPTED, message, JobKey("team", "urgent"))
    status = planned.with_release(held, release, make_job(held), make_job(name="urgent"), NOW)
    (condition,) = status.conditions
    assert (condition.type, condition.status, condition.reason) == ("Preempted", "True", "HigherPriority")
    assert condition.message == message and status.preemptions == 1
    other = make_job(name="urgent", queue="other")
    (condition,) = planned.with_release(held, release, make_job(held), other, NOW).conditions
    assert condition.reason == "GuaranteeReclaimed"
    (condition,) = planned.with_assign(status, an_assign(), NOW + 9).conditions
    assert (condition.type, condition.status) == ("Preempted", "False")


def test_a_job_that_is_suspended_loses_its_place_in_the_flow() -> None:
    placed = planned.with_place(FREE, Mark(3.0, 60.0))
    assert planned.with_place(placed, Mark(4.0, 5.0)) == placed, "the first place counts"
    assert planned.with_ran(placed, make_job(placed), False, NOW) == placed
    assert planned.with_ran(placed, make_job(placed, suspend=True), False, NOW).mark is None


def test_the_beginning_of_a_wait_is_kept_while_its_reason_changes() -> None:
    first = planned.with_wait(FREE, waits(), NOW)
    later = planned.with_wait(first, waits(WaitReason.WAITING_FOR_TURN, 2), NOW + 60)
    assert later.queue is not None
    assert (later.queue.reason, later.queue.position) == ("WaitingForTurn", 2)
    assert later.queue.since == times.to_wire(NOW)
    assert later.queue.eta is not None and later.queue.eta.p90 == times.to_wire(NOW + 600)


def test_no_wait_clears_the_wait_and_nothing_else() -> None:
    waiting = planned.with_wait(FREE, waits(), NOW)
    assert planned.with_wait(waiting, None, NOW) == FREE
    assert planned.with_wait(FREE, None, NOW) is FREE
