"""Who gives way to whom, and that it comes to an end (P8)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from drse_operator.admission.aside import Park
from drse_operator.admission.decisions import ReleaseReason
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Holding, Job, Preemption, Queue
from drse_operator.api.enums import TaskType
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, make_queue, shape, snapshot
from tests.admission.workloads import Replay, Workload, workloads

NOW = 1000.0
(FULL,) = make_nodes([NodePlan("H100", 8, held=8)])
H100 = kind_of([FULL])


def holder(name: str, gpus: int, since: float, queue: str = "default", priority: int = 0) -> Job:
    """A job of one replica that has held GPUs since some time."""
    held = Holding(0, 0, "node-0", gpus, True, since)
    return make_job(name, [shape(H100, gpus)], queue=queue, priority=priority, at=0, holdings=[held])


def released(*jobs: Job, queues: tuple[Queue, ...]) -> dict[str, str]:
    made = plan(snapshot([FULL], jobs, *queues), NOW)
    assert all(r.reason is ReleaseReason.PREEMPTED and r.message for r in made.release)
    return {r.key.name: r.message for r in made.release}


PRIORITY = replace(make_queue(), held=8, preemption=Preemption.LOWER_PRIORITY)
URGENT = make_job("urgent", [shape(H100, 4)], at=1, priority=5)
HOLDERS = (holder("old", 4, 0.0), holder("young", 4, 900.0))


def test_a_higher_priority_takes_from_the_lower_where_least_is_lost() -> None:
    found = released(*HOLDERS, URGENT, queues=(PRIORITY,))
    assert set(found) == {"young"}
    assert "4 GPUs go to team/urgent" in found["young"] and "priority" in found["young"]


def test_nobody_is_preempted_unless_the_queue_says_so() -> None:
    assert not released(*HOLDERS, URGENT, queues=(replace(PRIORITY, preemption=Preemption.NEVER),))


def test_equal_priority_takes_nothing() -> None:
    assert not released(*HOLDERS, replace(URGENT, priority=0), queues=(PRIORITY,))


def test_nobody_gives_way_within_the_minimum_runtime() -> None:
    found = released(*HOLDERS, URGENT, queues=(replace(PRIORITY, min_runtime=500.0),))
    assert set(found) == {"old"}


def test_a_set_that_would_not_be_enough_is_not_taken() -> None:
    jobs = (holder("low", 4, 0.0), holder("high", 4, 0.0, priority=9))
    assert not released(*jobs, replace(URGENT, shapes=(shape(H100, 8),)), queues=(PRIORITY,))


def test_no_more_is_taken_than_needed() -> None:
    jobs = (holder("tiny", 1, 990.0), holder("right", 4, 900.0), holder("rest", 3, 0.0))
    assert set(released(*jobs, URGENT, queues=(PRIORITY,))) == {"right"}


def test_a_guarantee_is_taken_back_from_who_holds_beyond_theirs() -> None:
    mine, theirs = Queue("mine", 1, 4, None, 0), Queue("theirs", 1, 4, None, 8)
    jobs = (holder("a", 4, 0.0, "theirs"), holder("b", 4, 900.0, "theirs"))
    waiting = make_job("waiting", [shape(H100, 4)], at=1, queue="mine")
    found = released(*jobs, waiting, queues=(mine, theirs))
    assert set(found) == {"b"} and "guarantee" in found["b"]
    assert not released(*jobs, waiting, queues=(replace(mine, guaranteed=3), theirs))
    assert not released(*jobs, waiting, queues=(mine, replace(theirs, guaranteed=6)))


def test_p8_who_has_been_preempted_preempts_nobody() -> None:
    assert not released(*HOLDERS, replace(URGENT, preempted=1), queues=(PRIORITY,))


def test_nothing_more_is_taken_while_earlier_victims_are_cleared_away() -> None:
    going = make_job("going", [shape(H100, 4)], at=0, clearing=[0])
    assert not released(HOLDERS[0], going, URGENT, queues=(PRIORITY,))


@given(workloads(), st.integers(0, 6))
def test_p8_preemption_comes_to_an_end(workload: Workload, guaranteed: int) -> None:
    """Every job ends although each queue preempts and reclaims, and no taker was ever a victim."""
    queues = tuple(
        replace(q, guaranteed=guaranteed, preemption=Preemption.LOWER_PRIORITY) for q in workload.queues
    )
    replay = Replay(replace(workload, queues=queues))
    victims = 0
    while not replay.over:
        replay.next_events()
        for _ in range(100):
            made = replay.engine.plan(replay.now)
            replay.started(a.uid for a in made.assign)
            if not made.release:
                break
            for release in made.release:
                victims += 1
                replay.stop(release.uid)
                for replica in release.replicas:
                    replay.engine.state.replica_vacated(release.uid, replica)
        else:
            raise AssertionError("preemption goes in circles")
    assert all(r.parked == Park.NEVER_FITS for r in replay.engine.state.records.values())
    assert victims <= len(workload.arrivals) ** 2


def test_services_give_up_single_replicas_beyond_their_first_unit() -> None:
    held = [Holding(i, 0, "node-0", 2, True, 0.0) for i in range(4)]
    chat = make_job("chat", [shape(H100, 2)], wanted=4, task=TaskType.INFERENCE, holdings=held)
    made = plan(snapshot([FULL], [chat, replace(URGENT, shapes=(shape(H100, 2),))], PRIORITY), NOW)
    assert [(r.key.name, r.replicas) for r in made.release] == [("chat", (3,))]
