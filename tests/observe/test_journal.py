"""The journal: each decision once, with its numbers, and who it was made for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drse_operator.admission.decisions import Plan, Release, ReleaseReason
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Holding, Snapshot
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.api.status import ScalingStatus
from drse_operator.observe import books
from drse_operator.observe.journal import KEPT, DecisionKind, Journal
from drse_operator.sizing.shapes import Refusal
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, shape, snapshot
from tests.lifecycle.builders import make_job as make_object
from tests.lifecycle.builders import promise, status_with

NODES = make_nodes([NodePlan("H100", 4)])
NOW = 1_700_000_000.0


def cluster() -> Snapshot:
    kind = kind_of(NODES)
    return snapshot(
        NODES,
        [
            make_job("first", [shape(kind, 3)], at=NOW - 90),
            make_job("second", [shape(kind, 4)], at=NOW - 60),
            make_job("typo", refusal=Refusal(WaitReason.QUEUE_NOT_FOUND, "there is no queue"), at=NOW - 30),
        ],
    )


def test_what_a_plan_decides_is_recorded_with_its_numbers() -> None:
    journal, now = Journal(), cluster()
    journal.take(now, plan(now, NOW), NOW)
    first, *others = journal.latest
    assert (first.kind, first.job, first.gpus, first.effect) == ("Admit", "first", 3, "3 x H100 on node-0")
    assert first.at == "2023-11-14T22:13:20Z"
    assert first.numbers["waited_seconds"] == 90
    assert first.numbers["dominant_share"] == 0.75
    assert {(d.kind, d.job, d.reason) for d in others} == {
        ("Reserve", "second", "Reserved"),
        ("Deny", "typo", "QueueNotFound"),
    }


def test_a_wait_that_goes_on_is_no_new_decision() -> None:
    journal, now = Journal(), cluster()
    decided = plan(now, NOW)
    journal.take(now, decided, NOW)
    made = journal.made
    journal.take(now, replace(decided, assign=()), NOW + 1)
    assert journal.made == made
    journal.take(now, Plan(), NOW + 2)
    journal.take(now, replace(decided, assign=()), NOW + 3)
    assert journal.made == made, "a plan tells only of some waits: who is left out may wait on"
    other = tuple(replace(wait, reason=WaitReason.NAMESPACE_NOT_ALLOWED) for wait in decided.wait)
    journal.take(now, Plan(wait=other), NOW + 4)
    assert journal.made == made + 2


def test_gpus_that_are_kept_are_recorded_again_only_when_their_time_has_moved() -> None:
    """Whoever goes first in between, and by whatever few seconds the expected start moves."""
    journal, now = Journal(), cluster()
    decided = plan(now, NOW)
    journal.take(now, decided, NOW)
    (kept,) = decided.reserved
    (wait,) = (wait for wait in decided.wait if wait.uid == kept.uid)
    others = replace(wait, reason=WaitReason.WAITING_FOR_TURN)

    def reserves(after: float, at: float) -> int:
        journal.take(now, Plan(wait=(others,)), at)
        later = replace(kept, start=kept.start + after)
        journal.take(now, Plan(wait=(wait,), reserved=(later,)), at + 1)
        return sum(decision.kind == DecisionKind.RESERVE for decision in journal.latest)

    assert reserves(0, NOW + 60) == 1
    assert reserves(30, NOW + 120) == 1
    assert reserves(7200, NOW + 180) == 2
    assert reserves(7230, NOW + 240) == 2


@pytest.mark.parametrize(
    ("since", "holds", "waited"),
    [
        pytest.param(NOW - 20, True, 20, id="a further replica that had to wait"),
        pytest.param(None, True, 0, id="a further replica that is given at once"),
        pytest.param(NOW - 20, False, 20, id="a job that is back in the queue"),
        pytest.param(None, False, 800, id="a job that waits since it came"),
    ],
)
def test_what_was_waited_counts_from_when_it_was_asked_for(
    since: float | None, holds: bool, waited: float
) -> None:
    nodes = make_nodes([NodePlan("H100", 4, held=1 if holds else 0)])
    holdings = [Holding(0, 0, "node-0", 1, True)] if holds else []
    job = make_job(
        "serve", [shape(kind_of(nodes))], task=TaskType.INFERENCE, wanted=2, holdings=holdings, at=NOW - 800
    )
    seen = snapshot(nodes, [replace(job, waiting_since=since)])
    journal = Journal()
    journal.take(seen, plan(seen, NOW), NOW)
    assert {decision.numbers["waited_seconds"] for decision in journal.latest} == {waited}


def test_a_preemption_names_both_sides() -> None:
    journal = Journal()
    job = make_job("victim", holdings=[Holding(0, 0, "node-0", 4, True), Holding(1, 0, "node-1", 4, True)])
    message = "4 GPUs go to team/taker, which has a higher priority"
    release = Release(job.key, job.uid, (1,), ReleaseReason.PREEMPTED, message, JobKey("team", "taker"))
    journal.take(snapshot(NODES, [job]), Plan(release=(release,)), NOW)
    (decision,) = journal.latest
    assert (decision.kind, decision.job, decision.by, decision.gpus) == (
        DecisionKind.PREEMPT,
        "victim",
        "team/taker",
        4,
    )


def test_scaling_is_recorded_with_load_and_forecast() -> None:
    journal = Journal()
    job = make_object(status_with(promise()), "Inference")
    job = replace(job, status=job.status.model_copy(update={"gpus_per_replica": 2}))
    scaling = ScalingStatus(load=1.5, forecast_p90=3.5, capacity=2, reason="ForecastAboveThreshold")
    journal.scaled(job, 1, 3, scaling, NOW)
    (decision,) = journal.latest
    assert (decision.kind, decision.gpus, decision.reason) == ("Scale", 4, "ForecastAboveThreshold")
    assert decision.numbers == {
        "replicas_before": 1,
        "replicas_after": 3,
        "load_gpus": 1.5,
        "forecast_p90_gpus": 3.5,
        "capacity_gpus": 2,
    }


def test_the_journal_is_bounded_and_survives_being_written_down() -> None:
    journal, now = Journal(), cluster()
    decided = replace(plan(now, NOW), wait=())
    for i in range(KEPT + 5):
        journal.take(now, decided, NOW + i)
    assert len(journal.latest) == KEPT
    book = books.DecisionBook(decisions=journal.latest)
    document = books.config_map(books.DECISIONS_NAME, "ns", book)
    assert len(books.pack(book)) < books.LARGEST
    assert Journal(books.read_decisions(document).decisions).latest == journal.latest
