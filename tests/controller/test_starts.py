"""Starts that are told: rounded, kept while they are near enough, and compared with the real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.admission.decisions import Assign, Memory, Moved, Plan, Told, Wait
from drse_operator.admission.outlook import look_ahead
from drse_operator.admission.planner import Planner, plan
from drse_operator.admission.snapshot import Holding, Snapshot
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.api.reasons import MoveReason, WaitReason
from drse_operator.cluster import tags
from drse_operator.controller.starts import Starts, causes_of
from drse_operator.observe.metrics import Metrics
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, make_queue, shape, snapshot

NOW = 1_700_000_000.0
(FULL,) = make_nodes([NodePlan("H100", 8, held=8)])
H100 = kind_of([FULL])


def crowd() -> Snapshot:
    """One job holds everything and has ten minutes to go; three wait, each for all GPUs and 20 minutes."""
    held = Holding(0, 0, "node-0", 8, True, NOW - 600)
    holder = replace(make_job("holder", [shape(H100, 8)], holdings=[held]), expected_duration=1200.0)
    waiting = [
        replace(make_job(f"job-{i}", [shape(H100, 8)], at=NOW - 60 + i), expected_duration=1200.0)
        for i in range(3)
    ]
    return snapshot([FULL], [holder, *waiting], make_queue(held=8))


def passed(seen: Snapshot, now: float) -> Plan:
    return plan(seen, now)


def made() -> Starts:
    return Starts({}, Planner(), Metrics("1"))


def look(starts: Starts, seen: Snapshot, now: float) -> dict[str, Told]:
    """A pass and a look ahead; what is told after them, by job."""
    plan_ = passed(seen, now)
    starts.take(seen, plan_)
    asked = [job.uid for job in seen.jobs if not job.holdings]
    outlook = starts.corrected(look_ahead(seen, now, asked))
    queues = {job.uid: job.queue for job in seen.jobs}
    news = starts.news(outlook, asked, queues)
    starts.take_news(news, causes_of(news, outlook, queues), outlook, asked, queues)
    return {w.key.name: w.told for w in starts.tell(plan_.wait) if w.told is not None}


def told(starts: Starts, seen: Snapshot, now: float) -> dict[str, tuple[float, float]]:
    found = {name: one.eta for name, one in look(starts, seen, now).items()}
    return {name: (eta.p50 - NOW, eta.p90 - NOW) for name, eta in found.items()}


def test_starts_follow_each_other_as_the_planner_runs_forward() -> None:
    found = told(made(), crowd(), NOW)
    p50s = [found[name][0] for name in ("job-0", "job-1", "job-2")]
    assert p50s == pytest.approx([600, 1800, 3000], abs=150), "rounded on grains of up to five minutes"
    for p50, p90 in found.values():
        assert p90 > p50
        assert (NOW + p50) % 60 == 0, "so that seconds do not cause writes"


def test_what_was_told_stays_while_it_is_near_enough() -> None:
    starts, seen = made(), crowd()
    first = told(starts, seen, NOW)
    assert told(starts, seen, NOW + 20) == first
    late = told(starts, seen, NOW + 700)
    assert late["job-0"][0] > first["job-0"][0], "the time told has passed"


def test_who_starts_is_judged_by_what_was_told_first() -> None:
    starts, seen = made(), crowd()
    told(starts, seen, NOW)
    told(starts, seen, NOW + 590)
    job = next(j for j in seen.jobs if j.key.name == "job-0")
    start = Assign(job.key, job.uid, job.shapes[0], ())
    starts.take(seen, Plan(assign=(start,), memory=Memory(clock_at=NOW + 900)))
    assert (starts.judged, starts.coverage) == (1, 1.0)
    assert starts.calibrations["default"].latest == (1.5,), "told were 600 s, it took 900"
    assert all(wait.told is None for wait in starts.tell(passed(seen, NOW).wait) if wait.uid == job.uid)


def test_a_job_that_is_gone_is_not_judged() -> None:
    starts, seen = made(), crowd()
    told(starts, seen, NOW)
    left = replace(seen, jobs=seen.jobs[:1])
    starts.take(left, passed(left, NOW + 30))
    look(starts, left, NOW + 30)
    job = seen.jobs[1]
    start = Assign(job.key, job.uid, job.shapes[0], ())
    starts.take(seen, Plan(assign=(start,), memory=Memory(clock_at=NOW + 900)))
    assert starts.judged == 0 and starts.coverage is None


@given(st.lists(st.floats(0.01, 100), max_size=150), st.integers(0, 200))
def test_what_was_learned_survives_the_api(ratios: list[float], kept: int) -> None:
    known = tags.calibration(GPUQueueStatus())
    known.told, known.kept = 200, kept
    for ratio in ratios:
        known = type(known).resume(known.told, known.kept, (*known.latest, ratio))
    status = GPUQueueStatus(told=tags.told(known))
    again = tags.calibration(GPUQueueStatus.from_wire(status.to_wire()))
    assert (again.told, again.kept) == (200, kept)
    assert again.latest == tuple(round(ratio, 3) for ratio in known.latest[-100:])
    assert tags.told(again) == status.told


# -- moves -------------------------------------------------------------------------------------------------


def with_urgent(seen: Snapshot, at: float) -> Snapshot:
    """A job of an hour and a half has come that goes before all others."""
    job = make_job("urgent", [shape(H100, 8)], at=at, priority=10)
    return replace(seen, jobs=(*seen.jobs, replace(job, expected_duration=5400.0)))


def counted(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name, {"queue": "default"}) or 0.0


def test_a_start_that_moves_says_what_it_was_and_why() -> None:
    starts, seen = made(), crowd()
    first = look(starts, seen, NOW)["job-0"]
    assert (first.first.at, first.first.eta, first.moved) == (NOW, first.eta, None)
    later = look(starts, with_urgent(seen, NOW + 5), NOW + 20)["job-0"]
    assert later.first == first.first, "what was told first stays"
    assert later.eta.p50 - first.eta.p50 == pytest.approx(5400, abs=600)
    assert later.moved == Moved(
        NOW + 20, first.eta, MoveReason.JOB_ARRIVED_AHEAD, "team/urgent arrived and goes first (8 GPUs)"
    )
    again = look(starts, with_urgent(seen, NOW + 5), NOW + 40)["job-0"]
    assert again == later, "nothing new, nothing to write"
    back = look(starts, seen, NOW + 60)["job-0"]
    assert back.moved is not None
    assert (back.moved.was, back.moved.reason) == (later.eta, MoveReason.JOB_LEFT_AHEAD)


def test_only_a_p90_that_moves_later_is_a_slip() -> None:
    metrics = Metrics("1")
    starts, seen = Starts({}, Planner(), metrics), crowd()
    look(starts, seen, NOW)
    look(starts, seen, NOW + 20)
    assert counted(metrics, "drse_eta_slips_total") == 0, "nothing moved"
    look(starts, with_urgent(seen, NOW + 25), NOW + 40)
    assert counted(metrics, "drse_eta_slips_total") == 3, "the three that wait behind it"
    look(starts, seen, NOW + 60)
    assert counted(metrics, "drse_eta_slips_total") == 3, "they move earlier"


def test_how_wrong_what_was_told_first_was_keeps_its_sign() -> None:
    for early in (False, True):
        metrics = Metrics("1")
        starts, seen = Starts({}, Planner(), metrics), crowd()
        told_ = look(starts, seen, NOW)["job-0"]
        job = next(j for j in seen.jobs if j.key.name == "job-0")
        start = Assign(job.key, job.uid, job.shapes[0], ())
        at = told_.eta.p50 + (-400 if early else 400)
        starts.take(seen, Plan(assign=(start,), memory=Memory(clock_at=at)))
        below = metrics.registry.get_sample_value(
            "drse_eta_error_seconds_bucket", {"queue": "default", "le": "-300.0"}
        )
        assert counted(metrics, "drse_eta_error_seconds_count") == 1
        assert below == (1 if early else 0)


def test_a_new_leader_goes_on_with_what_was_told() -> None:
    """What is written is read back as it was, and the next move starts from there."""
    starts, seen = made(), crowd()
    look(starts, seen, NOW)
    before = look(starts, with_urgent(seen, NOW + 5), NOW + 20)
    written = {name: tags.eta(one) for name, one in before.items()}
    read = {
        f"uid-{name}": again for name, eta in written.items() if (again := tags.told_start(eta)) is not None
    }
    assert {f"uid-{name}": one for name, one in before.items()} == read
    successor = Starts({}, Planner(), Metrics("1"), told=read)
    after = look(successor, with_urgent(seen, NOW + 5), NOW + 40)
    assert after == before, "the same is told, and nothing is written anew"
    gone = look(successor, seen, NOW + 60)["job-0"]
    assert gone.first == before["job-0"].first
    assert gone.moved is not None and gone.moved.reason is MoveReason.JOB_LEFT_AHEAD
    hurried = Starts({}, Planner(), Metrics("1"), told=read)
    (reason,) = {one.moved.reason for one in look(hurried, seen, NOW + 60).values() if one.moved is not None}
    assert reason is MoveReason.PLAN_CHANGED, "it does not know from what the former leader told it"


def test_of_many_outlooks_few_are_kept() -> None:
    starts, seen = made(), crowd()
    for turn in range(40):
        # Each look somebody else arrives at the end and is told from an outlook of its own.
        job = replace(make_job(f"late-{turn:02}", [shape(H100, 8)], at=NOW + turn), expected_duration=86400.0)
        seen = replace(seen, jobs=(*seen.jobs, job))
        look(starts, seen, NOW + turn)
        assert starts.outlooks <= 9
    moved = look(starts, with_urgent(seen, NOW + 50), NOW + 60)["job-0"].moved
    assert moved is not None and moved.reason is MoveReason.JOB_ARRIVED_AHEAD


def test_who_started_while_the_look_was_taken_is_not_told() -> None:
    starts, seen = made(), crowd()
    starts.take(seen, passed(seen, NOW))
    asked, queues = ("uid-job-0",), {job.uid: job.queue for job in seen.jobs}
    outlook = starts.corrected(look_ahead(seen, NOW, asked))
    news = starts.news(outlook, asked, queues)
    job = seen.jobs[1]
    start = Assign(job.key, job.uid, job.shapes[0], ())
    starts.take(seen, Plan(assign=(start,), memory=Memory(clock_at=NOW + 1)))
    assert not starts.take_news(news, {}, outlook, asked, queues)
    assert all(wait.told is None for wait in starts.tell(passed(seen, NOW).wait))


@pytest.mark.parametrize("reason", [WaitReason.QUEUE_CORDONED, WaitReason.NO_SUCH_ACCELERATOR])
def test_what_was_told_does_not_stand_beside_a_reason_that_somebody_must_mend(reason: WaitReason) -> None:
    starts, seen = made(), crowd()
    assert "job-0" in look(starts, seen, NOW)
    job = next(job for job in seen.jobs if job.key.name == "job-0")
    wait = Wait(job.key, job.uid, WaitReason.WAITING_FOR_TURN, "")
    assert starts.tell([wait])[0].told is not None
    assert starts.tell([replace(wait, reason=reason)])[0].told is None
