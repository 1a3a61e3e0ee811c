"""Why a job stands where it stands: the terms of its order, and its neighbours'."""

from __future__ import annotations

from pydantic import Field

from drse_operator.admission.explain import duration
from drse_operator.admission.flows import Flow, Record
from drse_operator.admission.snapshot import Ordering
from drse_operator.admission.sojourn import SETBACK
from drse_operator.api.keys import JobKey
from drse_operator.observe.views.base import Report, Row, instant
from drse_operator.observe.views.scene import Scene, queue_of


class Term(Row):
    """One number of the order, and what it does."""

    term: str
    value: float | None
    unit: str
    note: str


class Neighbour(Row):
    """A job of the same flow that stands just before or behind."""

    namespace: str | None
    job: str | None = Field(description="Null when it may not be named to the reader.")
    ahead: bool
    priority: int
    turn: float = Field(description="What orders the jobs of a flow; the smallest goes first.")
    note: str


class PrioReport(Report):
    """The order of one job. Empty where the reader may not see the whole cluster."""

    namespace: str
    job: str
    queue: str
    position: int | None
    items: tuple[Term, ...]
    neighbours: tuple[Neighbour, ...]


def prio(scene: Scene, key: JobKey) -> PrioReport:
    """The terms by which a job is ordered. Raises UnknownJobError."""
    job = scene.job(key)
    wait = scene.waits.get(job.uid)
    record = None
    if scene.complete:
        record = scene.settled.engine.state.records.get(job.uid)
    return PrioReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        namespace=key.namespace,
        job=key.name,
        queue=queue_of(job),
        position=None if wait is None else wait.position,
        items=() if record is None else _terms(scene, record),
        neighbours=() if record is None else _neighbours(scene, record),
    )


def _terms(scene: Scene, record: Record) -> tuple[Term, ...]:
    flow = scene.settled.engine.state.flows[record.job.flow]
    return (
        _term("priority", record.job.priority, "", "of its PriorityClass; higher goes first"),
        *_between_flows(scene, record, flow),
        *_within_the_flow(scene, record, flow),
    )


def _between_flows(scene: Scene, record: Record, flow: Flow) -> tuple[Term, ...]:
    state, job, estimate = scene.settled.engine.state, record.job, record.estimate
    share = max((state.share(shape) for shape in job.shapes), default=0.0)
    ends = estimate.expected < float("inf")
    seconds = estimate.expected if ends else state.rules.quantum
    cost = share * max(1, len(record.replicas)) * seconds
    length = duration(seconds) if ends else f"each {duration(seconds)}"
    tags = "cluster-s/weight"
    return (
        _term("flow weight", flow.weight, "", f"queue {job.queue} x task type {job.task_type}"),
        _term("start tag", flow.finish, tags, _turn(scene, flow)),
        _term("cost", cost, "cluster-s", f"{share:.2%} of the cluster for {length}"),
        _term(
            "finish tag",
            flow.finish + cost / flow.weight,
            tags,
            "start tag of the flow's next job once this one has started",
        ),
    )


def _within_the_flow(scene: Scene, record: Record, flow: Flow) -> tuple[Term, ...]:
    state, member = scene.settled.engine.state, record.member
    queue = state.queues.get(record.job.queue)
    fifo = queue is not None and queue.ordering is Ordering.FIFO
    order = "not used, the queue is in order of arrival" if fifo else "the smallest goes first"
    clock = state.sharing.clock(record.job.flow, flow.weight)
    return (
        _term(
            "virtual clock",
            clock.virtual,
            "s",
            "of the flow: runs as fast as equal sharing would let its jobs run",
        ),
        _term(
            "key",
            member.key,
            "s",
            f"clock at arrival {member.arrived:.1f} + expected duration: its end if all shared",
        ),
        _term(
            "turn",
            member.turn,
            "s",
            f"key, later by as much again for each further GPU, {duration(SETBACK)} at most; {order}",
        ),
    )


def _term(term: str, value: float, unit: str, note: str) -> Term:
    return Term(term=term, value=round(value, 3), unit=unit, note=note)


def _turn(scene: Scene, flow: Flow) -> str:
    """Which place the flow has among those with work waiting."""
    waiting = sorted((f.finish, f.key) for f in scene.settled.engine.state.flows.values() if f.groups)
    before = sum(tag < flow.finish for tag, _ in waiting)
    if not flow.groups:
        return "the flow has nothing waiting"
    return f"flow is number {before + 1} of {len(waiting)} with work waiting; the smallest goes first"


def _neighbours(scene: Scene, record: Record, around: int = 3) -> tuple[Neighbour, ...]:
    flow = scene.settled.engine.state.flows[record.job.flow]
    line = sorted((rank, other) for group in flow.groups.values() for rank, other in group.records)
    places = [i for i, (_, other) in enumerate(line) if other is record]
    if not places:
        return ()
    at = places[0]
    return tuple(
        _neighbour(scene, record, line[i][1], i < at)
        for i in range(max(0, at - around), min(len(line), at + around + 1))
        if i != at
    )


def _neighbour(scene: Scene, record: Record, other: Record, ahead: bool) -> Neighbour:
    named = scene.may_name(other.job.key)
    mine, theirs = record.job, other.job
    if mine.priority != theirs.priority:
        note = "higher priority" if theirs.priority > mine.priority else "lower priority"
    elif record.rank[1] != other.rank[1]:
        note = "smaller turn" if ahead else "larger turn"
    else:
        note = "came " + ("earlier" if ahead else "later")
    return Neighbour(
        namespace=theirs.key.namespace if named else None,
        job=theirs.key.name if named else None,
        ahead=ahead,
        priority=theirs.priority,
        turn=round(other.member.turn, 1),
        note=note,
    )
