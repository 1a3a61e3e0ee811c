"""The promises of admission, each on random workloads: docs/fairness.md lists them by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from drse_operator.admission.decisions import Plan
from drse_operator.admission.dispatch import Outcome, Pass
from drse_operator.admission.engine import Engine
from drse_operator.admission.fairness import FairnessMeter
from drse_operator.admission.flows import Record
from drse_operator.admission.ledger import Rules
from drse_operator.admission.reservation import reserve
from drse_operator.admission.snapshot import Job, Queue
from drse_operator.admission.state import State
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import Shape
from tests.admission import oracle
from tests.admission.builders import GIB, NodePlan, kind_of, make_nodes, shape
from tests.admission.workloads import THOROUGH, Arrival, Replay, Workload, run_all, workloads

# -- P1: the bound ------------------------------------------------------------------------------------


def bound_used(workload: Workload) -> float:
    """Most that was used of the fairness bound between flows that compete and have no guarantee."""
    largest = max(q.weight for q in workload.queues)
    weight = {q.name: float(q.weight) for q in workload.queues if not q.guaranteed}
    meter: FairnessMeter[str] = FairnessMeter(workload.cap / largest)
    total = sum(n.capacity for n in workload.nodes)
    for replay, outcome in run_all(workload):
        records = replay.engine.state.records
        waiting = Counter(r.job.queue for r in records.values() if r.group is not None)
        waiting.update(records[assign.uid].job.queue for assign in outcome.assigns)
        for name in weight:
            meter.backlogged(name, waiting[name] > 0, weight[name])
        for assign in outcome.assigns:
            queue = records[assign.uid].job.queue
            if queue not in weight:
                continue
            gpus = sum(p.count for p in assign.placements)
            meter.dispatched(queue, replay.runs[assign.uid] * gpus / total, weight[queue])
            waiting[queue] -= 1
            meter.backlogged(queue, waiting[queue] > 0, weight[queue])
    return meter.used


def one_kind(workload: Workload) -> Workload:
    """The same with one task type a queue and one kind of GPU, so that all flows compete."""
    kind = workload.nodes[0].kind
    nodes = tuple(n for n in workload.nodes if n.kind == kind)
    arrivals = []
    for arrival in workload.arrivals:
        shapes = tuple(s for s in arrival.job.shapes if s.kind == kind)
        if shapes:
            job = replace(arrival.job, shapes=shapes, task_type=TaskType.BATCH, priority=0)
            arrivals.append(type(arrival)(arrival.at, arrival.runs, job))
    return Workload(nodes, workload.queues, tuple(arrivals), workload.cap)


@THOROUGH
@given(workloads().map(one_kind))
def test_p1_no_flow_gets_ahead_of_another_beyond_the_bound(workload: Workload) -> None:
    assert bound_used(workload) <= 1 + 1e-9


@THOROUGH
@given(workloads().map(one_kind), st.integers(1, 16))
def test_p1_holds_between_the_others_when_a_queue_has_a_guarantee(workload: Workload, gpus: int) -> None:
    first, *others = workload.queues
    assert bound_used(replace(workload, queues=(replace(first, guaranteed=gpus), *others))) <= 1 + 1e-9


def flood() -> Workload:
    """Flow a waits with a job that needs every GPU; flow b floods with small short ones."""
    rows = [("long", "b", 0.0, 1, 2000.0)]
    rows += [(f"large-{i}", "a", 1.0, 8, 10.0) for i in range(3)]
    rows += [(f"small-{i:03}", "b", 2 + i * 0.1, 1, 40.0) for i in range(300)]
    return eight_gpus(rows, 100.0)


def flood_past_a_guarantee() -> Workload:
    """The same while a queue with a guarantee, which has had much before, waits for every GPU as well."""
    rows = [("long", "d", 0.0, 1, 2000.0), ("had", "g", 0.5, 7, 900.0), ("more", "g", 0.5, 8, 10.0)]
    rows += [(f"large-{i}", "a", 1.0, 8, 10.0) for i in range(3)]
    rows += [(f"small-{i:03}", "b", 2 + i * 0.1, 1, 40.0) for i in range(300)]
    return eight_gpus(rows, 100.0, guaranteed={"g": 8})


def eight_gpus(
    rows: Sequence[tuple[str, str, float, int, float]],
    cap: float,
    guaranteed: Mapping[str, int] | None = None,
) -> Workload:
    """Jobs (name, queue, arrival, GPUs, seconds) on one node, with queues of equal weight."""
    nodes = make_nodes([NodePlan("H100", 8)])
    kind = kind_of(nodes)
    arrivals = []
    for name, queue, at, gpus, runs in rows:
        job = Job(JobKey("team", name), name, queue, TaskType.BATCH, 0, at, 1, 1, (shape(kind, gpus),))
        arrivals.append(Arrival(at, runs, replace(job, expected_duration=runs)))
    names = sorted({queue for _, queue, _, _, _ in rows})
    queues = tuple(Queue(name, 1, (guaranteed or {}).get(name, 0), None, 0) for name in names)
    return Workload(nodes, queues, tuple(arrivals), cap)


def test_p1_holds_under_a_flood_of_backfilling_jobs() -> None:
    assert bound_used(flood()) <= 1


def test_p1_holds_under_a_flood_while_a_guaranteed_queue_waits() -> None:
    assert bound_used(flood_past_a_guarantee()) <= 1


def test_p1_mutation_without_the_cap_the_flood_breaks_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pass, "_beyond_cap", lambda *_: False)
    assert bound_used(flood()) > 1


# -- P2: the reservation --------------------------------------------------------------------------------


def crowd() -> Workload:
    """A job that needs every GPU waits for one that ends at 20; others that last longer come after it."""
    rows = [("holder", "a", 0.0, 1, 20.0), ("head", "a", 1.0, 8, 10.0)]
    return eight_gpus(rows + [(f"later-{i}", "a", 2.0, 1, 400.0) for i in range(4)], 1000.0)


def delay_of_reserved(workload: Workload) -> float:
    """Most seconds by which what was started after a reservation was made puts its start off."""
    worst = 0.0
    for replay, outcome in run_all(workload):
        for uid, reservation in outcome.reservations.items():
            record = replay.engine.state.records[uid]
            assert record.ask is not None
            again = reserve(uid, record.ask, replay.now)
            assert again is not None
            worst = max(worst, again.start - reservation.start)
    return worst


@THOROUGH
@given(workloads())
def test_p2_nobody_who_is_let_in_delays_the_reserved(workload: Workload) -> None:
    assert delay_of_reserved(workload) == 0


def test_p2_mutation_without_the_reservation_the_crowd_delays_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert delay_of_reserved(crowd()) == 0
    monkeypatch.setattr("drse_operator.admission.dispatch.spare", lambda *_: 10**6)
    assert delay_of_reserved(crowd()) > 0


# -- P4: idle flows save nothing ------------------------------------------------------------------------


@THOROUGH
@given(workloads().map(one_kind))
def test_p4_a_flow_that_begins_to_wait_starts_no_earlier_than_those_in_order(workload: Workload) -> None:
    replay = Replay(workload)
    while not replay.over:
        state = replay.engine.state
        waited = {key for key, flow in state.flows.items() if flow.groups}
        level = max((pool.virtual for pool in state.pools.values()), default=0.0)
        replay.next_events()
        for key, flow in state.flows.items():
            if flow.groups and key not in waited:
                assert flow.finish >= level - 1e-9
        replay.decide()


# -- P5: free GPUs are used -----------------------------------------------------------------------------


@THOROUGH
@given(workloads(limits=True))
def test_p5_who_waits_for_room_has_none_beside_what_is_reserved(workload: Workload) -> None:
    for replay, outcome in run_all(workload):
        for record in replay.engine.state.records.values():
            if record.group is not None:
                _has_no_room(replay, outcome, record)


def _has_no_room(replay: Replay, outcome: Outcome, record: Record) -> None:
    job, ask = record.job, record.ask
    assert ask is not None
    if job.queue in outcome.limited or job.flow in outcome.capped:
        return
    for asked, pool in ask.options:
        room = {}
        for name, slot in pool.slots.items():
            room[name] = slot.free
            for reservation in outcome.reservations.values():
                held = {n: g for p, holds in reservation.parts if p is pool for n, g in holds.items()}
                if name in held and replay.now + record.estimate.conservative > reservation.start:
                    later = slot.free + sum(g for end, _, g in slot.ends if end <= reservation.start)
                    room[name] = max(0, min(slot.free, later - held[name]))
        nodes = [slot.node for slot in pool.slots.values()]
        fitting = oracle.replicas_that_fit(nodes, lambda n, room=room: room[n.name], job, asked)  # type: ignore[misc]
        note(f"at {replay.now}: {job.uid} waits, {asked} would fit {fitting} times in {room}")
        assert fitting < ask.replicas


# -- P7: from memory or from status ---------------------------------------------------------------------


@settings(deadline=None)
@given(workloads(limits=True), st.integers(0, 12))
def test_p7_an_engine_rebuilt_from_its_snapshot_goes_on_alike(workload: Workload, steps: int) -> None:
    replay = Replay(workload)
    for _ in range(steps):
        if replay.over:
            return
        replay.next_events()
        replay.decide()
    if replay.over:
        return
    rebuilt = Engine.of(replay.engine.snapshot(), replay.now, Rules(lead_cap=workload.cap))
    assert _tags(rebuilt.state) == _tags(replay.engine.state)
    twin = Replay(workload)
    twin.engine, twin.now, twin._at, twin._ends = rebuilt, replay.now, replay._at, list(replay._ends)
    while not replay.over:
        for one in (replay, twin):
            one.next_events()
        mine, others = (_by_count(one.engine.plan(one.now)) for one in (replay, twin))
        assert (mine.assign, mine.wait) == (others.assign, others.wait)
        for one in (replay, twin):
            one.started(a.uid for a in mine.assign)


def _by_count(made: Plan) -> Plan:
    """A snapshot does not say which devices a job holds, so plans are compared by node and count."""
    return replace(
        made,
        assign=tuple(
            replace(a, placements=tuple(replace(p, devices=()) for p in a.placements)) for a in made.assign
        ),
    )


def _tags(state: State) -> dict[str, tuple[float, float]]:
    return {
        f"{key.queue}/{key.task_type}": (flow.finish, state.sharing.clock(key, flow.weight).virtual)
        for key, flow in state.flows.items()
    }


# -- the whole GPU is charged ---------------------------------------------------------------------------


def thin_and_thick() -> Workload:
    """Two flows of single-GPU jobs; those of one need an eighth of the memory of the GPU that they hold."""
    nodes = make_nodes([NodePlan("H100", 8)])
    kind = kind_of(nodes)
    arrivals = []
    for i in range(400):
        queue, needed = ("thin", kind.memory // 8) if i % 2 else ("thick", kind.memory)
        asked = Job(
            JobKey("team", f"job-{i:03}"),
            f"job-{i:03}",
            queue,
            TaskType.BATCH,
            0,
            0.0,
            1,
            1,
            (Shape(kind, 1, 1, 1, 1, needed),),
            expected_duration=10.0,
        )
        arrivals.append(Arrival(0.0, 10.0, asked))
    return Workload(nodes, tuple(Queue(n, 1, 0, None, 0) for n in ("thick", "thin")), tuple(arrivals), 20.0)


def test_a_job_is_charged_the_whole_of_each_gpu_however_little_it_needs() -> None:
    assert bound_used(thin_and_thick()) <= 1


def test_p1_mutation_charging_only_the_memory_needed_breaks_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        State, "share", lambda _, s: s.gpus * s.memory_needed / (s.kind.memory * s.kind.total)
    )
    assert bound_used(thin_and_thick()) > 1


def test_the_dominant_share_is_what_counts() -> None:
    """Four of sixteen GPUs that have most of the memory count as that much."""
    nodes = make_nodes([NodePlan("H100", 4), NodePlan("T4", 12)])
    nodes = (nodes[0], replace(nodes[1], kind=replace(nodes[1].kind, memory=8 * GIB, tflops=65)))
    state = State(Rules(), 0.0)
    for node in nodes:
        state.put_node(node)
    state.count_cluster()
    memory, compute = 320 / (320 + 96), 4 * 989 / (4 * 989 + 12 * 65)
    assert state.share(shape(nodes[0].kind, 4)) == pytest.approx(max(memory, compute))
    assert state.share(shape(nodes[1].kind, 12)) == pytest.approx(12 / 16)
