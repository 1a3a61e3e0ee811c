"""Brings an engine's state to what a snapshot says, by differences.

A snapshot that was made from the last one keeps the same objects for what has not changed, so finding the
differences is a matter of comparing identities, and each of them costs what it would cost as an event. The
state may be new and empty, or one that has planned before: what it decided then and the snapshot does not
confirm (a write that was refused, say) is undone. Either way the result is the same (a property test).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from operator import attrgetter

from drse_operator.admission.durations import Durations
from drse_operator.admission.flows import Flow, Record
from drse_operator.admission.pools import kind_id
from drse_operator.admission.snapshot import Ended, FlowKey, Job, Node, Queue, Snapshot
from drse_operator.admission.sojourn import Member
from drse_operator.admission.state import State


def sync(
    state: State, snapshot: Snapshot, waiting: Collection[FlowKey], durations: Durations | None = None
) -> None:
    """Make the state what the snapshot says; ``waiting`` are the flows that had work waiting before.

    Tags and clocks are the state's own: the memory in the snapshot is not looked at. ``durations`` replaces
    what durations were estimated from.
    """
    state.still_waiting = frozenset(waiting)
    anew = durations is not None
    if durations is not None:
        state.durations = durations
    to_file = _Filing()
    to_file.add(_queues(state, snapshot.queues.values()))
    rebuilt = _nodes(state, snapshot.nodes)
    to_file.add(state.recount())
    over = _ended(state, snapshot.ended)
    arrived: list[Job] = []
    to_file.add(_jobs(state, snapshot.jobs, over, arrived))
    if rebuilt or anew:
        to_file.add(_reconsider(state, anew))
    to_file.add(_arrivals(state, arrived))
    to_file.new.update(job.uid for job in arrived if job.mark is None)
    to_file.add(state.woken())
    state.vacating = set(snapshot.vacating)
    state.out_of_service = snapshot.out_of_service
    state.held = Counter({queue.name: queue.held for queue in snapshot.queues.values()})
    state.refile_all((r for uid, r in to_file.records.items() if state.records.get(uid) is r), to_file.new)
    state.still_waiting = frozenset()


class _Filing:
    """Whom to file anew in the end, all in one order, and who of them has come only now."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.new: set[str] = set()

    def add(self, records: Iterable[Record]) -> None:
        self.records.update((record.job.uid, record) for record in records)


def _queues(state: State, queues: Collection[Queue]) -> list[Record]:
    """What a queue holds is not compared: it is taken over in any case."""
    moved = []
    for queue in queues:
        known = state.queues.get(queue.name)
        if known is not queue and (known is None or _terms(known) != _terms(queue)):
            moved += state.set_queue(queue.name, queue)
        elif known is not queue:
            state.queues[queue.name] = queue
    if len(state.queues) > len(queues):
        there = {queue.name for queue in queues}
        for name in [name for name in state.queues if name not in there]:
            moved += state.set_queue(name, None)
    return moved


def _terms(queue: Queue) -> tuple[object, ...]:
    return (
        queue.weight,
        queue.guaranteed,
        queue.limit,
        queue.ordering,
        queue.task_weights,
        queue.preemption,
        queue.min_runtime,
    )


def _nodes(state: State, nodes: Collection[Node]) -> bool:
    """Take nodes over; True when more has changed than who holds their GPUs."""
    rebuilt = False
    kind, pool = None, None
    for node in nodes:
        if node.kind is not kind:
            kind, pool = node.kind, state.pools.get(kind_id(node.kind))
        slot = None if pool is None else pool.slots.get(node.name)
        if slot is not None and slot.node is node and not slot.touched:
            continue
        if pool is None or slot is None or _frame(slot.node) != _frame(node):
            pool = state.put_node(node)
            rebuilt = True
        else:
            pool.refresh(slot, node)
    if sum(len(pool.slots) for pool in state.pools.values()) > len(nodes):
        there = {(kind_id(node.kind), node.name) for node in nodes}
        gone = [(p.kind, name) for p in state.pools.values() for name in p.slots if (p.id, name) not in there]
        for kind, name in gone:
            state.drop_node(kind, name)
        state.drop_empty_pools()
        rebuilt = True
    return rebuilt


def _frame(node: Node) -> tuple[object, ...]:
    """What of a node does not change when its GPUs are given and freed."""
    return node.kind, node.selection, node.capacity, node.resource, node.domains


def _ended(state: State, ended: Iterable[Ended]) -> dict[str, float]:
    """Charge flows what work that has ended really took; returns how long jobs ran that are over."""
    over: dict[str, float] = {}
    for one in sorted(ended, key=lambda e: (e.ended_at, e.uid)):
        flow = state.flows.get(one.flow)
        if flow is None:
            continue
        if one.used is not None and one.charged is not None:
            state.charge(flow, one.used - one.charged)
        if one.completed and one.uid in state.records:
            over[one.uid] = one.seconds
        elif one.completed and one.mark is not None:
            _haunt(state, flow, one)
    return over


def _haunt(state: State, flow: Flow, ended: Ended) -> None:
    """Equal sharing goes on with a job that has ended and was never known here."""
    assert ended.mark is not None
    key = min(ended.mark.key, ended.mark.arrived + ended.seconds)
    ghost = Member(ended.mark.arrived, key, ended.gpus, ended.uid)
    state.sharing.resume(flow.key, flow.weight, ghost)
    state.sharing.haunt(flow.key, ghost)


def _jobs(state: State, jobs: Collection[Job], over: dict[str, float], arrived: list[Job]) -> list[Record]:
    """Take over what known jobs are now; returns whom to file, and adds to ``arrived`` the unknown ones."""
    records = state.records
    news = [job for job in jobs if (record := records.get(job.uid)) is None or record.job is not job]
    changed = [(record, job) for job in news if (record := records.get(job.uid)) is not None]
    arrived += [job for job in news if job.uid not in records]
    if len(jobs) - len(arrived) < len(records):
        for uid in sorted(records.keys() - set(map(attrgetter("uid"), jobs))):
            state.erase(records[uid], over.get(uid))
    moved = []
    for record, job in changed:
        if job.flow != record.job.flow or job.mark not in (None, record.job.mark):
            state.erase(record)
            arrived.append(job)
        else:
            state.resync(record, job)
            moved.append(record)
    return moved


def _arrivals(state: State, jobs: Iterable[Job]) -> list[Record]:
    """Those with a place first: what services of them hold, the clocks that place the others go without."""
    records = []
    placed, fresh = [j for j in jobs if j.mark is not None], [j for j in jobs if j.mark is None]
    records += [state.enroll(job) for job in sorted(placed, key=lambda j: (j.queued_at, j.key))]
    state.share_gpus()
    records += [state.enroll(job) for job in sorted(fresh, key=lambda j: (j.queued_at, j.key))]
    return records


def _reconsider(state: State, anew: bool) -> list[Record]:
    """Nodes or estimates have changed: see what everybody holds, and how long it may take, anew."""
    moved = []
    for record in state.records.values():
        changed = anew and state.estimate_anew(record)
        if record.job.holdings and state.take_over(record):
            changed = True
        if changed:
            moved.append(record)
    return moved
