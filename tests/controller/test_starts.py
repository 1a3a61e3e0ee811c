"""Starts that are told: rounded, kept while they are near enough, and compared with the real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.admission.decisions import Assign, Memory, Plan
from drse_operator.admission.eta import forward
from drse_operator.admission.planner import Planner, plan
from drse_operator.admission.snapshot import Holding, Snapshot
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import tags
from drse_operator.controller.starts import Starts
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


def told(starts: Starts, seen: Snapshot, now: float) -> dict[str, tuple[float, float]]:
    made = passed(seen, now)
    starts.take(seen, made)
    found = forward(seen, now, [job.uid for job in seen.jobs if not job.holdings])
    starts.take_starts(found, dict.fromkeys(found, "default"), now)
    waits = {w.key.name: w.eta for w in starts.tell(made.wait)}
    return {name: (eta.p50 - NOW, eta.p90 - NOW) for name, eta in waits.items() if eta is not None}


def test_starts_follow_each_other_as_the_planner_runs_forward() -> None:
    found = told(Starts({}, Planner()), crowd(), NOW)
    p50s = [found[name][0] for name in ("job-0", "job-1", "job-2")]
    assert p50s == pytest.approx([600, 1800, 3000], abs=150), "rounded on grains of up to five minutes"
    for p50, p90 in found.values():
        assert p90 > p50
        assert (NOW + p50) % 60 == 0, "so that seconds do not cause writes"


def test_what_was_told_stays_while_it_is_near_enough() -> None:
    starts, seen = Starts({}, Planner()), crowd()
    first = told(starts, seen, NOW)
    assert told(starts, seen, NOW + 20) == first
    late = told(starts, seen, NOW + 700)
    assert late["job-0"][0] > first["job-0"][0], "the time told has passed"


def test_who_starts_is_judged_by_what_was_told_first() -> None:
    starts, seen = Starts({}, Planner()), crowd()
    told(starts, seen, NOW)
    told(starts, seen, NOW + 590)
    job = next(j for j in seen.jobs if j.key.name == "job-0")
    start = Assign(job.key, job.uid, job.shapes[0], ())
    starts.take(seen, Plan(assign=(start,), memory=Memory(clock_at=NOW + 900)))
    assert (starts.judged, starts.coverage) == (1, 1.0)
    assert starts.calibrations["default"].latest == (1.5,), "told were 600 s, it took 900"
    assert all(wait.eta is None for wait in starts.tell(passed(seen, NOW).wait) if wait.uid == job.uid)


def test_a_job_that_is_gone_is_not_judged() -> None:
    starts, seen = Starts({}, Planner()), crowd()
    told(starts, seen, NOW)
    left = replace(seen, jobs=seen.jobs[:1])
    starts.take(left, passed(left, NOW + 30))
    starts.take_starts({}, {}, NOW + 30)
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
