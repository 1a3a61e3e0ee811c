"""Why a start has moved: each cause in a scene of its own, and, over random scenes, none that is not so."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from drse_operator.admission.moves import UNKNOWN, Cause, cause, changes, is_off
from drse_operator.admission.outlook import Outlook, Turn, look_ahead
from drse_operator.admission.planner import plan
from drse_operator.admission.pools import kind_id
from drse_operator.admission.snapshot import Holding, Job, Node, Queue, Snapshot
from drse_operator.api.enums import TaskType
from drse_operator.api.reasons import MoveReason
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, shape

NOW = 1_700_000_000.0
HOUR = 3600.0
LATER = NOW + 30
#: Scenes use some of the nodes; the kinds stay the same whichever are there.
NODES = make_nodes([*(NodePlan("H100", 8) for _ in range(4)), NodePlan("L40S", 8)])
H100, L40S = kind_of(NODES), kind_of(NODES, "L40S")


@dataclass(frozen=True)
class Scene:
    """Nodes of eight GPUs, jobs that hold whole nodes until a time, and jobs that wait for whole nodes."""

    nodes: tuple[str, ...] = ("node-0",)
    queues: tuple[Queue, ...] = (Queue("a", 1, 0, None, 0), Queue("b", 1, 0, None, 0))
    holders: tuple[Job, ...] = ()
    waiting: tuple[Job, ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        return (*self.holders, *self.waiting)

    @property
    def snapshot(self) -> Snapshot:
        held = {h.node for job in self.holders for h in job.holdings}
        nodes = [_held(n) if n.name in held else n for n in NODES if n.name in self.nodes]
        queues = {
            q.name: replace(q, held=8 * sum(j.queue == q.name for j in self.holders)) for q in self.queues
        }
        return Snapshot(tuple(nodes), queues, self.jobs)

    def outlook(self, at: float) -> Outlook:
        return look_ahead(self.snapshot, at, [job.uid for job in self.waiting])


def _held(node: Node) -> Node:
    return replace(node, free_count=0, free=())


def holder(name: str, node: int = 0, hours: float = 1.0, since: float = NOW, queue: str = "a") -> Job:
    held = [Holding(0, 0, f"node-{node}", 8, True, since, 0.0)]
    job = make_job(name, [shape(H100, 8)], holdings=held, queue=queue, at=since - 60)
    return replace(job, expected_duration=hours * HOUR)


def waiter(name: str, at: float = NOW - 600, hours: float = 1.0, priority: int = 0, queue: str = "a") -> Job:
    job = make_job(name, [shape(H100, 8)], queue=queue, at=at, priority=priority)
    return replace(job, expected_duration=hours * HOUR)


FULL = Scene(holders=(holder("h"),), waiting=(waiter("x"), waiter("mine", NOW - 300)))


def why(before: Scene, after: Scene, job: str = "mine", at: float = LATER) -> tuple[MoveReason, str]:
    found = changes(before.outlook(NOW), after.outlook(at), {j.uid for j in after.jobs})
    told = cause(f"uid-{job}", found)
    return told.reason, told.message


# -- each cause --------------------------------------------------------------------------------------------


def test_a_job_that_arrived_and_goes_first_is_named() -> None:
    urgent = waiter("urgent", NOW + 10, priority=10)
    after = replace(FULL, waiting=(*FULL.waiting, urgent))
    told = MoveReason.JOB_ARRIVED_AHEAD, "team/urgent arrived and goes first (8 GPUs)"
    assert why(FULL, after) == told
    two = replace(after, waiting=(*after.waiting, waiter("more", NOW + 11, priority=10)))
    assert why(FULL, two)[1] == "team/urgent and 1 more arrived and go first (16 GPUs)"


def test_a_job_that_arrived_and_was_let_in_is_named() -> None:
    after = replace(FULL, holders=(holder("quick", since=NOW + 20, hours=3),))
    after = replace(after, holders=(replace(after.holders[0], queued_at=NOW + 10),))
    assert why(FULL, after) == (MoveReason.JOB_ARRIVED_AHEAD, "team/quick arrived and goes first (8 GPUs)")


def test_a_job_that_arrived_behind_is_not_the_cause() -> None:
    last = waiter("last", NOW + 10)
    after = replace(FULL, waiting=(*FULL.waiting, last), nodes=("node-0",))
    assert why(FULL, after) == (UNKNOWN.reason, UNKNOWN.message), "nothing has moved"


def test_what_happens_on_another_kind_of_gpu_is_not_the_cause() -> None:
    """All goes wrong with the other kind; the holder of the kind waited for takes an hour more."""
    two = ("node-0", "node-4")
    other = replace(holder("other", 4), shapes=(shape(L40S, 8),))
    before = replace(FULL, nodes=two, holders=(holder("h"), other))
    urgent = replace(waiter("urgent", NOW + 5, 30, 10), shapes=(shape(L40S, 8),))
    late = replace(other, expected_duration=90 * HOUR)
    after = replace(before, holders=(holder("h", hours=2), late), waiting=(*before.waiting, urgent))
    assert why(before, after) == (
        MoveReason.RUNS_LONGER,
        "team/h is expected to hold 8 GPUs for 1 h 0 min longer",
    )
    lost = replace(before, nodes=("node-0",), holders=(holder("h", hours=2),))
    assert why(before, lost)[0] is MoveReason.RUNS_LONGER


def test_a_job_that_comes_back_is_named() -> None:
    back = replace(waiter("h", NOW - 60, priority=10), preempted=1)
    after = replace(FULL, holders=(), waiting=(back, *FULL.waiting))
    reason, message = why(FULL, after)
    assert (reason, message) == (MoveReason.JOB_ARRIVED_AHEAD, "team/h asks for 8 more GPUs and goes first")


def test_a_holder_that_is_overdue_is_named() -> None:
    assert why(FULL, FULL, at=NOW + HOUR + 120) == (
        MoveReason.RUNS_LONGER,
        "team/h still holds 8 GPUs, 2 min longer than expected",
    )


def test_a_job_that_waits_for_a_further_replica_is_not_its_own_cause() -> None:
    grows = replace(holder("h"), wanted=2)
    before = replace(FULL, holders=(grows,), waiting=())
    then, now = (look_ahead(before.snapshot, at, ["uid-h"]) for at in (NOW, NOW + HOUR + 120))
    turn = Turn(grows.key, "a", NOW - 60, 0, NOW + HOUR, 8, HOUR, frozenset({kind_id(H100)}))
    then = replace(then, turns={"uid-h": turn})
    now = replace(now, turns={"uid-h": replace(turn, start=NOW + 3 * HOUR)})
    assert then.stays["uid-h"].end < now.stays["uid-h"].end
    assert cause("uid-h", changes(then, now, {"uid-h"})) == UNKNOWN


def test_a_holder_that_is_expected_to_take_longer_is_named() -> None:
    after = replace(FULL, holders=(holder("h", hours=3),))
    told = MoveReason.RUNS_LONGER, "team/h is expected to hold 8 GPUs for 2 h 0 min longer"
    assert why(FULL, after) == told


def test_a_holder_that_was_not_waited_for_is_not_the_cause() -> None:
    """The second node is held until long after: that it now is for longer moves nothing."""
    before = replace(FULL, nodes=("node-0", "node-1"), holders=(holder("h"), holder("g", 1, 50)))
    longer = replace(before, holders=(holder("h", hours=2), holder("g", 1, 90)))
    assert why(before, longer) == (
        MoveReason.RUNS_LONGER,
        "team/h is expected to hold 8 GPUs for 1 h 0 min longer",
    )


def test_a_node_that_is_lost_or_won_is_named_with_its_numbers() -> None:
    two = replace(FULL, nodes=("node-0", "node-1"), holders=(holder("h"), holder("g", 1)))
    one = replace(two, nodes=("node-0",), holders=(holder("h"),))
    assert why(two, one) == (MoveReason.CAPACITY_LOST, "node node-1 has 0 GPUs for jobs, 8 before")
    free = replace(FULL, nodes=("node-0", "node-1"))
    reason, message = why(replace(FULL, waiting=(waiter("x"), waiter("mine"))), free, "x")
    assert (reason, message) == (MoveReason.CAPACITY_GAINED, "node node-1 has 8 GPUs for jobs, 0 before")


def test_new_weights_are_named() -> None:
    """Of two queues that are even, the other is given so much weight that its jobs go first."""
    others = tuple(waiter(f"b-{i}", NOW - 200 + i, queue="b") for i in range(4))
    before = replace(FULL, waiting=(waiter("x", queue="a"), waiter("mine", NOW - 300), *others))
    heavy = replace(before, queues=(before.queues[0], replace(before.queues[1], weight=100)))
    assert why(before, heavy) == (MoveReason.SHARE_CHANGED, "queue b has weight 100 (before: 1)")


def test_jobs_that_change_places_are_named() -> None:
    jumps = replace(FULL, waiting=(FULL.waiting[0], replace(FULL.waiting[1], priority=10)))
    assert why(FULL, jumps) == (MoveReason.ORDER_CHANGED, "team/x no longer goes before it")
    assert why(FULL, jumps, "x") == (MoveReason.ORDER_CHANGED, "team/mine now goes before it")


def test_a_job_that_is_gone_is_named() -> None:
    after = replace(FULL, waiting=FULL.waiting[1:])
    assert why(FULL, after) == (MoveReason.JOB_LEFT_AHEAD, "team/x, which went first, is gone")


def test_a_job_that_is_gone_because_it_has_run_is_not_the_cause() -> None:
    """It started and ended when it was to; that the one after it takes less is not seen to be its doing."""
    y = waiter("y", NOW - 400, hours=3)
    mine = waiter("mine", NOW - 300, hours=9)
    before = replace(FULL, waiting=(FULL.waiting[0], y, mine))
    y_runs = replace(holder("y", hours=1, since=NOW + 2 * HOUR), queued_at=y.queued_at)
    after = replace(before, holders=(y_runs,), waiting=(mine,))
    assert before.outlook(NOW).turns["uid-mine"].start == NOW + 5 * HOUR
    assert why(before, after, at=NOW + 2 * HOUR + 120)[0] is MoveReason.PLAN_CHANGED


def test_replicas_end_one_by_one_and_reservation_and_start_agree() -> None:
    """A holder of two nodes gives the one back an hour before the other."""
    held = [Holding(r, 0, f"node-{r}", 8, True, NOW - r * HOUR, 0.0) for r in (0, 1)]
    both = replace(holder("h", hours=3), holdings=tuple(held), wanted=2, task_type=TaskType.BATCH)
    scene = replace(FULL, nodes=("node-0", "node-1"), holders=(both,))
    pair = make_job("pair", [shape(H100, 8, workers=2)], at=NOW, queue="b")
    scene = replace(scene, waiting=(pair,))
    start = scene.outlook(NOW).turns["uid-pair"].start
    (reserved,) = plan(scene.snapshot, NOW).reserved
    assert start == reserved.start == NOW + 3 * HOUR
    one = replace(scene, waiting=(make_job("one", [shape(H100, 8)], at=NOW, queue="b"),))
    start = one.outlook(NOW).turns["uid-one"].start
    (reserved,) = plan(one.snapshot, NOW).reserved
    assert start == reserved.start == NOW + 2 * HOUR


def test_a_holder_that_ended_early_is_named() -> None:
    after = replace(FULL, holders=())
    told = MoveReason.ENDS_EARLIER, "team/h gave back its 8 GPUs sooner than expected"
    assert why(FULL, after) == told
    sooner = replace(FULL, holders=(holder("h", hours=0.5),))
    assert why(FULL, sooner) == (MoveReason.ENDS_EARLIER, "team/h is expected to end 30 min sooner")


def test_a_correction_is_told_apart_from_a_change_of_plan() -> None:
    before = replace(FULL.outlook(NOW), corrections={"a": 1.0})
    after = replace(FULL.outlook(LATER), corrections={"a": 1.5})
    told = cause("uid-mine", changes(before, after, {j.uid for j in FULL.jobs}))
    message = "the order is as before, but jobs of queue a have lately started later than expected"
    assert told == Cause(MoveReason.CORRECTED, message)


def test_of_several_causes_the_one_with_most_gpu_time_is_named() -> None:
    short, long = (waiter("new", NOW + 10, hours, 10) for hours in (0.5, 30.0))
    for arrival, reason in ((short, MoveReason.RUNS_LONGER), (long, MoveReason.JOB_ARRIVED_AHEAD)):
        after = replace(FULL, holders=(holder("h", hours=3),), waiting=(*FULL.waiting, arrival))
        assert why(FULL, after)[0] is reason


def test_a_job_that_one_outlook_does_not_reach_has_no_cause() -> None:
    found = changes(FULL.outlook(NOW), Outlook(LATER), set())
    assert cause("uid-mine", found) == UNKNOWN


@pytest.mark.parametrize(
    ("told", "expected", "off"),
    [(600, 650, False), (600, 670, True), (7200, 7800, False), (7200, 8100, True), (7200, 6300, True)],
)
def test_a_minute_and_a_tenth_of_the_wait(told: float, expected: float, off: bool) -> None:
    assert is_off(NOW + told, NOW + expected, NOW) is off


# -- no cause that is not so -------------------------------------------------------------------------------


@dataclass
class Draft:
    """A scene to which things happen."""

    scene: Scene
    number: int = 0

    def happen(self, what: str, which: int, amount: int) -> None:
        self._to_jobs(what, which, amount)
        self._to_cluster(what, which, amount)

    def _to_jobs(self, what: str, which: int, amount: int) -> None:
        scene = self.scene
        holders, waiting = list(scene.holders), list(scene.waiting)
        match what:
            case "arrives":
                self.number += 1
                queue = "ab"[which % 2]
                waiting.append(waiter(f"new-{self.number}", NOW + 5, amount / 2, 10 * (which % 3), queue))
            case "leaves" if waiting:
                waiting.pop(which % len(waiting))
            case "ends" if holders:
                holders.pop(which % len(holders))
            case "comes back" if holders:
                back = holders.pop(which % len(holders))
                waiting.append(replace(back, holdings=(), preempted=1))
            case "is let in" if waiting and len(holders) < len(scene.nodes):
                used = {h.node for job in holders for h in job.holdings}
                node = next(n for n in scene.nodes if n not in used)
                job = waiting.pop(which % len(waiting))
                holders.append(replace(job, holdings=(Holding(0, 0, node, 8, True, NOW + 10, 0.0),)))
            case "is re-estimated" if holders:
                i = which % len(holders)
                holders[i] = replace(holders[i], expected_duration=amount * HOUR)
            case "is promoted" if waiting:
                i = which % len(waiting)
                waiting[i] = replace(waiting[i], priority=amount)
        self.scene = replace(scene, holders=tuple(holders), waiting=tuple(waiting))

    def _to_cluster(self, what: str, which: int, amount: int) -> None:
        scene = self.scene
        queues, nodes = list(scene.queues), scene.nodes
        match what:
            case "is weighed":
                queues[which % 2] = replace(queues[which % 2], weight=amount)
            case "node is lost" if len(nodes) > 1:
                nodes = tuple(n for n in nodes if n != nodes[which % len(nodes)])
            case "node is won":
                nodes = tuple(n.name for n in NODES)[: len(nodes) + 1]
        holders = tuple(h for h in scene.holders if h.holdings[0].node in nodes)
        self.scene = replace(scene, nodes=nodes, queues=tuple(queues), holders=holders)


WHAT = (
    "arrives", "leaves", "ends", "comes back", "is let in", "is re-estimated", "is promoted", "is weighed",
    "node is lost", "node is won",
)  # fmt: skip
HAPPENINGS = st.tuples(st.sampled_from(WHAT), st.integers(0, 5), st.integers(1, 12))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    size = draw(st.integers(1, 3))
    hours = draw(st.lists(st.integers(1, 8), max_size=size))
    waits = draw(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab")), min_size=1, max_size=5))
    return Scene(
        tuple(n.name for n in NODES[:size]),
        holders=tuple(holder(f"h-{i}", i, each, queue="ab"[i % 2]) for i, each in enumerate(hours)),
        waiting=tuple(waiter(f"w-{i}", NOW - 900 + i, h, queue=q) for i, (h, q) in enumerate(waits)),
    )


@settings(max_examples=300, deadline=None)
@given(scenes(), st.lists(HAPPENINGS, min_size=1, max_size=4), st.floats(20, 4 * HOUR))
def test_what_is_named_is_so(before: Scene, happenings: list[tuple[str, int, int]], passed: float) -> None:
    draft = Draft(before)
    for happening in happenings:
        draft.happen(*happening)
    after, at = draft.scene, NOW + passed
    then, now = before.outlook(NOW), after.outlook(at)
    found = changes(then, now, {job.uid for job in after.jobs})
    for uid in then.turns.keys() & now.turns.keys():
        told = cause(uid, found)
        event(told.reason)
        assert _is_so(told, uid, then, now, after), (told, then.turns[uid], now.turns[uid])


def test_where_nothing_differs_nothing_is_named() -> None:
    found = changes(FULL.outlook(NOW), FULL.outlook(LATER), {job.uid for job in FULL.jobs})
    assert cause("uid-mine", found) == cause("uid-x", found) == UNKNOWN


def _is_so(told: Cause, uid: str, then: Outlook, now: Outlook, after: Scene) -> bool:
    """Whether the two pictures bear out a cause, going by what its sentence names."""
    mine, was = now.turns[uid], then.turns[uid]
    named = re.search(r"team/([a-z0-9-]+)", told.message)
    who = "" if named is None else f"uid-{named[1]}"
    held, holds = then.stays.get(who), now.stays.get(who)
    waited, waits_ = then.turns.get(who), now.turns.get(who)
    later = mine.start > was.start
    match told.reason:
        case MoveReason.JOB_ARRIVED_AHEAD:
            came = waited is None and (held is None or waits_ is not None)
            return (
                later and came and (holds is not None or (waits_ is not None and waits_.place < mine.place))
            )
        case MoveReason.RUNS_LONGER:
            assert held is not None and holds is not None
            return later and holds.end > held.end and held.end <= was.start + 60
        case MoveReason.JOB_LEFT_AHEAD:
            gone = all(job.uid != who for job in after.jobs)
            return not later and gone and waited is not None and waited.place < was.place
        case MoveReason.ENDS_EARLIER:
            assert held is not None
            return not later and (holds is None or holds.end < held.end)
        case MoveReason.CAPACITY_LOST | MoveReason.CAPACITY_GAINED:
            numbers = re.match(r"node (\S+) has (\d+) GPUs for jobs, (\d+) before", told.message)
            assert numbers is not None
            place = numbers[1], kind_id(H100)
            told_gpus = int(numbers[3]), int(numbers[2])
            real = then.gpus.get(place, 0), now.gpus.get(place, 0)
            return (
                told_gpus == real
                and (real[1] < real[0]) == (told.reason is MoveReason.CAPACITY_LOST) == later
            )
        case MoveReason.SHARE_CHANGED:
            weight = re.match(r"queue (\w) has weight (\d+) \(before: (\d+)\)", told.message)
            assert weight is not None
            old, new = then.queues[weight[1]].weight, now.queues[weight[1]].weight
            return (old, new) == (int(weight[3]), int(weight[2])) and old != new
        case MoveReason.ORDER_CHANGED:
            assert waited is not None
            if not later:
                return waited.place < was.place and waits_ is not None and waits_.place > mine.place
            passes = holds is not None or (waits_ is not None and waits_.place < mine.place)
            return waited.place > was.place and passes
        case _:
            return told == UNKNOWN
