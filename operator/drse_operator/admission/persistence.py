"""From a snapshot to the engine's state and back: what must survive a restart of the operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from drse_operator.admission import pools
from drse_operator.admission.decisions import Memory
from drse_operator.admission.durations import Durations
from drse_operator.admission.flows import Flow
from drse_operator.admission.pools import kind_id
from drse_operator.admission.snapshot import Ended, FlowKey, FlowState, Learned, Node, Snapshot
from drse_operator.admission.sojourn import Member
from drse_operator.admission.state import State
from drse_operator.admission.sync import sync
from drse_operator.api.enums import DeviceSelection
from drse_operator.sizing.shapes import AcceleratorKind

#: Ghosts that a flow remembers; of more, those that would vanish soonest after each other become one.
_GHOSTS = 32


def kind_name(kind: AcceleratorKind) -> str:
    """How a kind of accelerator is called in what is remembered."""
    return pools.kind_name(kind_id(kind))


def durations(learned: Iterable[Learned]) -> Durations:
    """Estimates from what was learned: the same whoever makes them, since it goes by name and not by time."""
    made = Durations()
    for like in sorted(learned, key=lambda x: (x.queue, x.task_type, x.model, x.gpus)):
        for seconds, stated in like.runs:
            made.learn(Ended("", like.queue, like.task_type, like.gpus, seconds, 0.0, like.model, stated))
    return made


def restore(state: State, snapshot: Snapshot, clock_at: float) -> None:
    """Fill an empty state; virtual clocks run from ``clock_at`` (seconds since the epoch)."""
    state.sharing.now = clock_at
    state.charged_until = state.now if snapshot.clock_at is None else clock_at
    for queue in snapshot.queues.values():
        state.set_queue(queue.name, queue)
    for key, remembered in sorted(snapshot.flows.items()):
        flow = state.flows[key] = Flow(key, state.weight(key), remembered.finish)
        clock = state.sharing.clock(key, flow.weight)
        clock.virtual = remembered.virtual
        for i, (mark, gpus) in enumerate(remembered.ghosts):
            ghost = Member(remembered.virtual, mark, gpus, f"ghost {i}")
            state.sharing.resume(key, flow.weight, ghost)
            state.sharing.haunt(key, ghost)
    state.former_virtual.update(snapshot.virtual_time)
    sync(state, snapshot, [key for key, flow in snapshot.flows.items() if flow.waiting])
    if snapshot.clock_at is None:
        _begin_fairness(state)


def _begin_fairness(state: State) -> None:
    """Nothing is remembered: what a flow holds counts as what it has had."""
    had: dict[FlowKey, float] = defaultdict(float)
    for record in state.records.values():
        had[record.job.flow] += sum(unit.charged for unit in record.units.values())
    for key, flow in state.flows.items():
        flow.finish = had[key] / flow.weight


def memory(state: State, exact: bool = False, ghosts: bool = True) -> Memory:
    """What has to be written down after a plan; with all ghosts if ``exact``, else with few, or with none."""
    flows = {}
    for key, flow in sorted(state.flows.items()):
        clock = state.sharing.clock(key, flow.weight)
        found = state.sharing.ghosts(key) if ghosts else []
        few = tuple(found) if exact else _few(found)
        flows[key] = FlowState(flow.finish, bool(flow.groups), clock.virtual, few, state.sharing.rate(key))
    virtual = state.former_virtual | {pool.name: pool.virtual for pool in state.pools.values()}
    return Memory(flows, virtual, state.sharing.now, dict(state.marked))


def _few(ghosts: list[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """At most ``_GHOSTS`` of the ghosts: those with no wide gap between them become one, which asks for as
    much work in all."""
    if len(ghosts) <= _GHOSTS:
        return tuple(ghosts)
    gaps = sorted(range(1, len(ghosts)), key=lambda i: ghosts[i - 1][0] - ghosts[i][0])[: _GHOSTS - 1]
    cuts = [0, *sorted(gaps), len(ghosts)]
    return tuple(_merged(ghosts[start:end]) for start, end in pairwise(cuts))


def _merged(ghosts: list[tuple[float, int]]) -> tuple[float, int]:
    gpus = sum(each for _, each in ghosts)
    if not gpus:
        return ghosts[0]
    return sum(key * each for key, each in ghosts) / gpus, gpus


def snapshot(state: State) -> Snapshot:
    """The state as a snapshot, memory included."""
    nodes: list[Node] = []
    for pool in state.pools.values():
        for slot in pool.slots.values():
            exact = slot.node.selection is DeviceSelection.EXACT
            free = tuple(slot.devices or ()) if exact else ()
            nodes.append(replace(slot.node, free_count=slot.free, free=free))
    queues = {name: replace(queue, held=state.held[name]) for name, queue in state.queues.items()}
    remembered = memory(state)
    return Snapshot(
        nodes=tuple(nodes),
        queues=queues,
        jobs=tuple(record.job for record in state.records.values()),
        vacating=frozenset(state.vacating),
        flows=remembered.flows,
        virtual_time=remembered.virtual_time,
        clock_at=remembered.clock_at,
        out_of_service=state.out_of_service,
    )
