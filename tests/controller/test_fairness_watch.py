"""The live meter of the fairness bound, fed with passes as the loop feeds it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from drse_operator.admission.decisions import Plan
from drse_operator.admission.dispatch import Pass
from drse_operator.admission.snapshot import Ended, Preemption, Snapshot
from drse_operator.controller.fairness import FairnessWatch
from tests.admission.test_fairness import flood, one_kind
from tests.admission.workloads import Replay, Workload, workloads


def watched(workload: Workload) -> FairnessWatch:
    watch = FairnessWatch(workload.cap)
    replay = Replay(workload)
    while not replay.over:
        replay.next_events()
        made = replay.engine.plan(replay.now)
        replay.started(assign.uid for assign in made.assign)
        watch.take(replay.engine.snapshot(), made)
    return watch


@settings(deadline=None, max_examples=40)
@given(workloads().map(one_kind))
def test_the_bound_holds_as_seen_from_the_loop(workload: Workload) -> None:
    watch = watched(workload)
    assert 0 <= watch.used <= 1 + 1e-9
    assert watch.used == max(watch.used_by.values(), default=0.0)


def test_a_flood_stays_within_it_and_without_the_cap_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = watched(flood())
    assert 0 < watch.used <= 1
    assert set(watch.used_by) >= {"a", "b"}
    monkeypatch.setattr(Pass, "_beyond_cap", lambda *_: False)
    assert watched(flood()).used > 1


def test_queues_with_rights_beyond_their_turn_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pass, "_beyond_cap", lambda *_: False)
    workload = flood()
    for right in ({"guaranteed": 1}, {"preemption": Preemption.LOWER_PRIORITY}):
        queues = (replace(workload.queues[0], **right), workload.queues[1])  # type: ignore[arg-type]
        assert watched(replace(workload, queues=queues)).used == 0


def test_what_was_charged_wrongly_is_allowed_for_once_it_is_known() -> None:
    """A flow whose job took a thousand times longer than thought has had that much more."""
    replay = Replay(flood())
    for _ in range(8):
        replay.next_events()
        made = replay.engine.plan(replay.now)
        replay.started(assign.uid for assign in made.assign)
    seen, watch = replay.engine.snapshot(), FairnessWatch(100.0)
    watch.take(seen, made)
    before = watch.used
    job = next(j for j in seen.jobs if j.queue == "b")
    over = Ended(job.uid, "b", job.task_type, 1, 5000.0, replay.now, used=1000.0, charged=1.0)
    watch.take(replace(seen, ended=(over,)), _quiet(made))
    assert before < watch.used <= 1
    assert _idle(seen).used == 0


def _quiet(made: Plan) -> Plan:
    return replace(made, assign=())


def _idle(seen: Snapshot) -> FairnessWatch:
    watch = FairnessWatch(100.0)
    watch.take(seen, Plan())
    return watch
