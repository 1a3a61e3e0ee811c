"""Memory rebuilt from what was written of each queue, now and then, and from what its jobs show since.

Each queue is written at a time of its own. What its flows were given after that is told by the jobs
themselves: assignments promised since are charged, services for the quanta that have begun, and work that has
ended is charged what it really took. So nothing is lost between two writes, and whoever reads the API server
(a new leader, the command line) plans as the leader does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drse_operator.admission.decisions import Memory
from drse_operator.admission.persistence import kind_name
from drse_operator.admission.snapshot import Ended, FlowKey, FlowState, Job, Queue
from drse_operator.api.enums import TaskType

#: Work that began within so many seconds of a writing, by its end and length, began before it.
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of one queue at ``clock_at`` (seconds since the epoch)."""

    clock_at: float
    flows: Mapping[TaskType, FlowState]
    virtual_time: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Charge:
    at: float
    cost: float
    #: Where a flow that begins to wait comes in at the earliest.
    virtual: float


def recall(
    written: Mapping[str, Written],
    queues: Mapping[str, Queue],
    jobs: Iterable[Job],
    ended: Iterable[Ended],
    quantum: float,
) -> Memory:
    """The memory as of the newest writing, with everything in it that has happened to date.

    ``ended`` may hold work that was accounted for in what was written: it is known by its time.
    """
    if not written:
        return Memory()
    clock_at = max(w.clock_at for w in written.values())
    virtual: dict[str, float] = {}
    for one in written.values():
        for kind, tag in one.virtual_time.items():
            virtual[kind] = max(virtual.get(kind, 0.0), tag)
    jobs = tuple(jobs)
    charges = _charges(written, jobs, virtual, clock_at, quantum)
    overs: dict[FlowKey, list[Ended]] = defaultdict(list)
    for over in ended:
        if over.queue in written and over.ended_at > written[over.queue].clock_at:
            overs[over.flow].append(over)
    last = _last_keys(jobs)
    flows = {}
    for key in {*charges, *overs, *(FlowKey(name, t) for name, one in written.items() for t in one.flows)}:
        one, weight = written[key.queue], _weight(queues.get(key.queue), key.task_type)
        state = one.flows.get(key.task_type, FlowState())
        ran = _run_on(state, clock_at - one.clock_at, last.get(key, 0.0))
        ran = _charged(ran, sorted(charges.get(key, ()), key=lambda c: c.at), weight)
        flows[key] = _corrected(ran, overs.get(key, ()), one.clock_at, weight)
    return Memory(flows, virtual, clock_at)


def _last_keys(jobs: Iterable[Job]) -> dict[FlowKey, float]:
    """Virtual clock at which the last job of each flow would end."""
    last: dict[FlowKey, float] = {}
    for job in jobs:
        if job.mark is not None:
            last[job.flow] = max(last.get(job.flow, 0.0), job.mark.key)
    return last


def _run_on(flow: FlowState, seconds: float, last_key: float) -> FlowState:
    """The flow after its clock has run on at its pace, which it does for as long as there are jobs."""
    last = max((key for key, _ in flow.ghosts), default=flow.virtual)
    reached = min(flow.virtual + flow.rate * seconds, max(last, last_key))
    return replace(flow, virtual=max(flow.virtual, reached))


def _weight(queue: Queue | None, task: TaskType) -> float:
    return 1.0 if queue is None else queue.weight * queue.task_weights.get(task, 1.0)


def _charges(
    written: Mapping[str, Written],
    jobs: Iterable[Job],
    virtual: Mapping[str, float],
    clock_at: float,
    quantum: float,
) -> dict[FlowKey, list[_Charge]]:
    """What flows were charged after they were written."""
    found: dict[FlowKey, list[_Charge]] = defaultdict(list)
    for job in jobs:
        one = written.get(job.queue)
        if one is None:
            continue
        tags = [virtual.get(kind_name(s.kind), 0.0) for s in job.shapes]
        for holding in job.holdings:
            if holding.since is None or holding.charged is None:
                continue
            times = int(holding.since > one.clock_at)
            if job.task_type.serves:
                # The first quantum is what the promise was charged.
                times += _begun(holding.since, clock_at, quantum) - _begun(
                    holding.since, one.clock_at, quantum
                )
            if times > 0:
                cost = times * holding.charged
                found[job.flow].append(_Charge(holding.since, cost, min(tags, default=0.0)))
    return found


def _begun(since: float, until: float, quantum: float) -> int:
    """Quanta after the first that have begun."""
    return max(0, math.floor((until - since) / quantum))


def _charged(flow: FlowState, charges: Iterable[_Charge], weight: float) -> FlowState:
    finish, waiting = flow.finish, flow.waiting
    for charge in charges:
        if not waiting:
            finish, waiting = max(finish, charge.virtual), True
        finish += charge.cost / weight
    return replace(flow, finish=finish)


def _corrected(flow: FlowState, ended: Iterable[Ended], clock_at: float, weight: float) -> FlowState:
    """Charge what has ended what it really took; equal sharing may still run it."""
    finish, ghosts = flow.finish, list(flow.ghosts)
    for over in ended:
        if over.used is not None and over.charged is not None:
            began_after = over.ended_at - over.seconds > clock_at + _ROUNDING
            finish += (over.used - (0.0 if began_after else over.charged)) / weight
        if over.completed and over.mark is not None:
            key = min(over.mark.key, over.mark.arrived + over.seconds)
            if key > flow.virtual:
                ghosts.append((key, over.gpus))
    return replace(flow, finish=finish, ghosts=tuple(sorted(ghosts)))
