"""An engine that is kept from pass to pass plans as one that is made anew from each snapshot."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from drse_operator.admission.decisions import Memory, Tell
from drse_operator.admission.engine import Engine
from drse_operator.admission.persistence import durations
from drse_operator.admission.planner import Planner, plan
from drse_operator.admission.snapshot import FlowKey, Job, Learned, Snapshot
from drse_operator.api.reasons import WaitReason
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, shape, snapshot
from tests.admission.histories import Cluster, with_memory


@given(st.integers(0, 2**32), st.integers(1, 25))
def test_p7_a_kept_engine_plans_as_one_made_anew(seed: int, steps: int) -> None:
    cluster = Cluster.begin(seed)
    memory, kept = Memory(), None
    learned: tuple[Learned, ...] = ()
    for step in range(steps):
        cluster.happen()
        seen, now = cluster.snapshot(), cluster.now
        note(f"step {step} at {now}: {[(j.uid, j.holdings, j.clearing) for j in seen.jobs]}")
        fresh = plan(with_memory(seen, memory), now)
        if kept is None:
            kept = Engine.of(seen, now)
        else:
            kept.sync(seen, now, None if seen.learned is learned else durations(seen.learned))
        learned = seen.learned
        made = kept.plan(now)
        assert made.assign == fresh.assign
        assert made.release == fresh.release
        assert made.memory == fresh.memory
        assert (made.wait, made.pending) == (fresh.wait, fresh.pending)
        memory = fresh.memory
        cluster.carry_out(made)


@given(st.integers(0, 2**32), st.integers(1, 15), st.randoms(use_true_random=False))
def test_who_is_asked_about_hears_the_same_as_when_all_are_told(
    seed: int, steps: int, chance: Random
) -> None:
    cluster = Cluster.begin(seed)
    memory = Memory()
    for _ in range(steps):
        cluster.happen()
        seen, now = with_memory(cluster.snapshot(), memory), cluster.now
        full = plan(seen, now)
        uids = [wait.uid for wait in full.wait if chance.random() < 0.5]
        queues = {job.queue for job in seen.jobs if chance.random() < 0.1}
        asked = Engine.of(seen, now).plan(now, Tell(uids, queues))
        queue_of = {job.uid: job.queue for job in seen.jobs}
        wanted = {w.uid for w in full.wait if w.uid in uids or queue_of[w.uid] in queues}
        assert wanted <= {w.uid for w in asked.wait} and len({w.uid for w in asked.wait}) == len(asked.wait)
        assert set(asked.wait) <= set(full.wait)
        assert asked.pending == full.pending
        memory = full.memory
        cluster.carry_out(full)


@given(st.integers(0, 2**32), st.integers(1, 15))
def test_those_who_wait_are_counted_and_the_first_of_them_found(seed: int, steps: int) -> None:
    cluster = Cluster.begin(seed)
    memory = Memory()
    for _ in range(steps):
        cluster.happen()
        seen, now = with_memory(cluster.snapshot(), memory), cluster.now
        engine = Engine.of(seen, now)
        full = engine.plan(now)
        flow_of = {job.uid: job.flow for job in seen.jobs}
        counted: Counter[tuple[FlowKey, WaitReason]] = Counter()
        gpus: Counter[tuple[FlowKey, WaitReason]] = Counter()
        for pending in full.pending:
            counted[pending.flow, pending.reason] += pending.jobs
            gpus[pending.flow, pending.reason] += pending.gpus
        told = Counter((flow_of[wait.uid], wait.reason) for wait in full.wait)
        assert counted == told
        for wait in full.wait:
            gpus[flow_of[wait.uid], wait.reason] -= wait.gpus
        assert not any(gpus.values())
        near = [wait for wait in full.wait if wait.position is not None and wait.position <= 2]
        assert list(engine.first(2)) == near
        memory = full.memory
        cluster.carry_out(full)


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_an_audit_finds_no_drift(seed: int, steps: int) -> None:
    cluster, planner = Cluster.begin(seed), Planner(audit_every=0.0)
    for _ in range(steps):
        cluster.happen()
        cluster.carry_out(planner.plan(cluster.snapshot(), cluster.now))
    assert (planner.audits, planner.drifts) == (steps - 1, 0)


def _one_node() -> tuple[Snapshot, Job]:
    nodes = make_nodes([NodePlan("H100", 4, exact=False)])
    ask = make_job("late", [shape(kind_of(nodes), 2)], at=1000.0)
    return snapshot(nodes, [ask]), ask


def test_an_engine_that_has_drifted_is_found_and_replaced() -> None:
    seen, late = _one_node()
    planner = Planner(audit_every=60.0)
    planner.plan(replace(seen, jobs=()), 1000.0)
    engine = planner._engine
    assert engine is not None
    # A fault: the engine believes that nothing is free, and the node has not changed since.
    for pool in engine.state.pools.values():
        for slot in pool.slots.values():
            pool.take(slot.name, 4)
            slot.touched = False
    assert not planner.plan(seen, 1030.0).assign
    assert (planner.audits, planner.drifts) == (0, 0)
    found = planner.plan(seen, 1061.0)
    assert [assign.uid for assign in found.assign] == [late.uid]
    assert (planner.audits, planner.drifts) == (1, 1)


def test_a_clock_that_is_set_back_holds_nobody_back() -> None:
    seen, late = _one_node()
    planner = Planner()
    planner.plan(replace(seen, jobs=()), 1000.0 + 86400)
    waits = replace(late, not_before=1100.0)
    made = planner.plan(replace(seen, jobs=(waits,)), 1000.0)
    assert not made.assign and [wait.reason for wait in made.wait] == [WaitReason.BACKING_OFF]
    assert planner.plan(replace(seen, jobs=(waits,)), 1101.0).assign


def test_a_plan_that_failed_is_made_anew_from_the_snapshot() -> None:
    seen, late = _one_node()
    planner = Planner()
    planner.plan(seen, 1000.0)
    broken = replace(late, uid="broken", shapes=(None,))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        planner.plan(replace(seen, jobs=(late, broken)), 1001.0)
    assert planner.plan(seen, 1002.0) == plan(seen, 1002.0)
