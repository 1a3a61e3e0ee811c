"""What holds of every plan, on random clusters. Scenarios with names are in ``test_plan.py``."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

from hypothesis import given, note
from hypothesis import strategies as st

from drse_operator.admission.decisions import Plan, Wait
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Job, Snapshot
from drse_operator.api.enums import DeviceSelection, TopologyMode
from drse_operator.api.reasons import WaitReason
from tests.admission import oracle
from tests.admission.builders import State, carry_out, placed
from tests.admission.strategies import NOW, situations

NO_ROOM = (WaitReason.INSUFFICIENT_FREE_GPUS, WaitReason.FRAGMENTED, WaitReason.TOPOLOGY_UNAVAILABLE)


def names(job: Job) -> str:
    return job.key.name


def wait_of(made: Plan, job: Job) -> Wait | None:
    found = [wait for wait in made.wait if wait.uid == job.uid]
    assert len(found) <= 1
    return found[0] if found else None


def unit_that_waits(job: Job, made: Plan) -> int:
    """Replicas that the first refused request asked for."""
    return (oracle.left_in_first_unit(job) or 1) if not placed(made, names(job)) else 1


@given(situations())
def test_each_device_is_free_and_given_once(state: State) -> None:
    made = plan(state.snapshot, NOW)
    free = {(n.name, d.uuid) for n in state.snapshot.nodes for d in n.free}
    promised = Counter((p.node, d.uuid) for a in made.assign for p in a.placements for d in p.devices)
    assert not set(promised) - free
    assert not [device for device, times in promised.items() if times > 1]


@given(situations())
def test_no_node_gives_more_than_it_has(state: State) -> None:
    made = plan(state.snapshot, NOW)
    assert all(left >= 0 for left in oracle.free_after(state.snapshot, made).values())


@given(situations())
def test_placements_say_what_they_take(state: State) -> None:
    made = plan(state.snapshot, NOW)
    nodes = {(n.name, n.kind): n for n in state.snapshot.nodes}
    for assign in made.assign:
        for p in assign.placements:
            node = nodes[p.node, assign.shape.kind]
            assert p.count == assign.shape.gpus_per_worker
            assert (p.selection, p.resource) == (node.selection, node.resource)
            assert len(p.devices) == (p.count if p.selection is DeviceSelection.EXACT else 0)


@given(situations())
def test_no_queue_exceeds_its_limit(state: State) -> None:
    made = plan(state.snapshot, NOW)
    queue_of = {job.uid: job.queue for job in state.snapshot.jobs}
    given_: Counter[str] = Counter()
    for assign in made.assign:
        given_[queue_of[assign.uid]] += sum(p.count for p in assign.placements)
    for queue in state.snapshot.queues.values():
        if queue.limit is not None and given_[queue.name]:
            assert queue.held + given_[queue.name] <= queue.limit


@given(situations())
def test_replicas_are_whole_and_wanted(state: State) -> None:
    made = plan(state.snapshot, NOW)
    for job in state.snapshot.jobs:
        replicas: dict[int, list[int]] = defaultdict(list)
        for assign in (a for a in made.assign if a.uid == job.uid):
            assert assign.shape in job.shapes
            for p in assign.placements:
                replicas[p.replica].append(p.worker)
            for replica in {p.replica for p in assign.placements}:
                assert sorted(replicas[replica]) == list(range(assign.shape.workers))
        assert set(replicas) <= set(job.missing)
        # One by one from the lowest: which replicas exist never depends on what was free.
        assert sorted(replicas) == list(job.missing[: len(replicas)])


@given(situations())
def test_the_first_unit_starts_whole_or_not_at_all(state: State) -> None:
    made = plan(state.snapshot, NOW)
    for job in state.snapshot.jobs:
        given_ = {p.replica for p in placed(made, names(job))}
        assert not given_ or len(given_) >= oracle.left_in_first_unit(job)


@given(situations())
def test_a_required_domain_holds_all_workers_of_a_replica(state: State) -> None:
    made = plan(state.snapshot, NOW)
    nodes = {n.name: n for n in state.snapshot.nodes}
    for job in state.snapshot.jobs:
        if job.topology is None or job.topology_mode is not TopologyMode.REQUIRED:
            continue
        domains: dict[int, set[str]] = defaultdict(set)
        for p in placed(made, names(job)):
            domains[p.replica].add(nodes[p.node].domain(job.topology))
        assert all(len(where) == 1 for where in domains.values())


@given(situations())
def test_who_lacks_replicas_gets_them_or_one_reason(state: State) -> None:
    made = plan(state.snapshot, NOW)
    for job in state.snapshot.jobs:
        wait = wait_of(made, job)
        open_ = job.lacking - len({p.replica for p in placed(made, names(job))})
        assert open_ >= 0
        assert (wait is not None) == (open_ > 0)
        if wait is not None:
            assert wait.message
            assert wait.gpus == open_ * min((s.gpus for s in job.shapes), default=0)


@given(situations())
def test_positions_count_those_who_wait_for_others(state: State) -> None:
    made = plan(state.snapshot, NOW)
    by_uid = {job.uid: job for job in state.snapshot.jobs}
    for queue in state.snapshot.queues:
        mine = [w for w in made.wait if by_uid[w.uid].queue == queue]
        ranked = [w for w in mine if w.position is not None]
        assert [w.position for w in ranked] == list(range(1, len(ranked) + 1))
        assert all(w.reason.user_must_act == (w.position is None) for w in mine)


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_listed_does_not_matter(state: State, chance: Random) -> None:
    nodes, jobs, queues = (
        list(state.snapshot.nodes),
        list(state.snapshot.jobs),
        list(state.snapshot.queues.items()),
    )
    for items in (nodes, jobs, queues):
        chance.shuffle(items)
    shuffled = replace(state.snapshot, nodes=tuple(nodes), jobs=tuple(jobs), queues=dict(queues))
    assert plan(shuffled, NOW) == plan(state.snapshot, NOW)


def held_when_asked(snapshot: Snapshot, made: Plan, job: Job) -> int:
    """GPUs that the job's queue held when its first refusal was spoken."""
    ahead = {j.uid for j in snapshot.jobs if j.queue == job.queue and j.order <= job.order}
    given_ = sum(p.count for a in made.assign if a.uid in ahead for p in a.placements)
    return snapshot.queues[job.queue].held + given_


def within_limit(snapshot: Snapshot, made: Plan, job: Job, gpus: int) -> bool:
    limit = snapshot.queues[job.queue].limit
    return limit is None or held_when_asked(snapshot, made, job) + gpus <= limit


@given(situations())
def test_reasons_of_no_room_agree_with_a_count_of_what_is_free(state: State) -> None:
    snapshot, made = state.snapshot, plan(state.snapshot, NOW)
    free = oracle.free_after(snapshot, made)
    for job in snapshot.jobs:
        wait = wait_of(made, job)
        if wait is None or wait.reason not in NO_ROOM or "even empty" in wait.message:
            continue
        unit = unit_that_waits(job, made)
        note(f"{wait}, unit of {unit}")
        shapes = [s for s in job.shapes if within_limit(snapshot, made, job, unit * s.gpus)]
        total = {s.kind: sum(n for (_, k), n in free.items() if k == s.kind) for s in shapes}
        # The kinds it waits for are kept for it, so what is free at the end was free when it asked.
        if wait.reason is WaitReason.INSUFFICIENT_FREE_GPUS:
            assert any(total[s.kind] < unit * s.gpus for s in shapes)
        else:
            assert any(total[s.kind] >= unit * s.gpus for s in shapes)
        if wait.reason is WaitReason.TOPOLOGY_UNAVAILABLE:
            assert job.topology_mode is TopologyMode.REQUIRED and job.topology is not None
            anywhere = replace(job, topology=None)
            fits = [
                oracle.replicas_that_fit(snapshot.nodes, lambda n: free[n.name, n.kind], anywhere, s)
                for s in shapes
            ]
            assert any(workers >= 1 for workers in fits)


@given(situations())
def test_limit_reasons_agree_with_the_queue(state: State) -> None:
    snapshot, made = state.snapshot, plan(state.snapshot, NOW)
    for job in snapshot.jobs:
        wait = wait_of(made, job)
        if wait is None or wait.reason not in (WaitReason.EXCEEDS_QUEUE_LIMIT, WaitReason.LIMIT_REACHED):
            continue
        limit = snapshot.queues[job.queue].limit
        assert limit is not None
        own = sum(h.count for h in job.holdings) + sum(p.count for p in placed(made, names(job)))
        least = unit_that_waits(job, made) * min(s.gpus for s in job.shapes)
        assert (own + least > limit) == (wait.reason is WaitReason.EXCEEDS_QUEUE_LIMIT)


@given(situations())
def test_releases_take_the_surplus_and_never_a_ready_replica_before_a_starting_one(state: State) -> None:
    made = plan(state.snapshot, NOW)
    released = {release.uid: release for release in made.release}
    for job in state.snapshot.jobs:
        held = job.held_replicas
        surplus = max(0, len(held) - max(0, job.wanted - len(job.done)))
        gone = released[job.uid].replicas if job.uid in released else ()
        assert len(gone) == surplus and set(gone) <= set(held)
        ready = {r for r in held if all(h.ready for h in job.holdings if h.replica == r)}
        if set(gone) & ready:
            assert not (set(held) - ready) - set(gone)


@given(situations())
def test_planning_again_settles(state: State) -> None:
    """What a plan gives or takes, the next one leaves: only freed GPUs may lead to one more round."""
    state = carry_out(state, plan(state.snapshot, NOW))
    state = carry_out(state, plan(state.snapshot, NOW))
    again = plan(state.snapshot, NOW)
    assert (again.assign, again.release) == ((), ())
