"""From a snapshot to the engine's state and back: what must survive a restart of the operator."""

from __future__ import annotations

from dataclasses import replace

from drse_operator.admission.decisions import Memory
from drse_operator.admission.flows import Flow
from drse_operator.admission.snapshot import FlowState, Node, Snapshot
from drse_operator.admission.sojourn import Member
from drse_operator.admission.state import State
from drse_operator.api.enums import DeviceSelection


def restore(state: State, snapshot: Snapshot, clock_at: float) -> None:
    """Fill an empty state; virtual clocks run from ``clock_at`` (seconds since the epoch)."""
    state.sharing.now = clock_at
    state.charged_until = state.now if snapshot.clock_at is None else clock_at
    for queue in sorted(snapshot.queues.values(), key=lambda q: q.name):
        state.put_queue(queue)
    for node in sorted(snapshot.nodes, key=lambda n: n.name):
        state.put_node(node)
    for pool in state.pools.values():
        pool.virtual = snapshot.virtual_time.get("/".join(map(str, pool.id)), 0.0)
    state.count_cluster()
    for ended in sorted(snapshot.ended, key=lambda e: (e.ended_at, e.uid)):
        state.durations.learn(ended)
    _restore_flows(state, snapshot)
    _reconcile(state, snapshot)
    _restore_jobs(state, snapshot)


def _restore_flows(state: State, snapshot: Snapshot) -> None:
    for key, remembered in sorted(snapshot.flows.items()):
        flow = state.flows[key] = Flow(key, state.weight(key), remembered.finish)
        clock = state.sharing.clock(key, flow.weight)
        clock.virtual = remembered.virtual
        for i, (mark, gpus) in enumerate(remembered.ghosts):
            state.sharing.resume(key, flow.weight, Member(remembered.virtual, mark, gpus, f"ghost {i}"))


def _restore_jobs(state: State, snapshot: Snapshot) -> None:
    waited = {key: state.flows[key].finish for key, flow in snapshot.flows.items() if flow.waiting}
    for job in sorted(snapshot.jobs, key=lambda j: (j.mark is None, j.queued_at, j.key)):
        state.put_job(job)
    for key, flow in state.flows.items():
        if key in waited:
            # It has been waiting all along, so it is not lifted as one that begins to wait.
            flow.finish = waited[key]
        elif key not in snapshot.flows:
            # Nothing is remembered: what a flow holds counts as what it has had.
            mine = [u for r in state.records.values() if r.job.flow == key for u in r.units.values()]
            flow.finish = sum(u.charged for u in mine) / flow.weight


def _reconcile(state: State, snapshot: Snapshot) -> None:
    """Charge flows what jobs that ended since the last plan really took."""
    for ended in snapshot.ended:
        flow = state.flows.get(ended.flow)
        if flow is None or ended.share is None or ended.charged is None or snapshot.clock_at is None:
            continue
        if ended.ended_at > snapshot.clock_at:
            flow.finish += (ended.seconds * ended.share - ended.charged) / flow.weight


def memory(state: State) -> Memory:
    """What has to be written down after a plan."""
    names = {id(r.member) for r in state.records.values()}
    flows = {}
    for key, flow in sorted(state.flows.items()):
        clock = state.sharing.clock(key, flow.weight)
        ghosts = sorted(
            (member.key, member.gpus)
            for _, _, member in clock.heap
            if not member.gone and id(member) not in names
        )
        flows[key] = FlowState(flow.finish, bool(flow.groups), clock.virtual, tuple(ghosts))
    virtual = {"/".join(map(str, pool.id)): pool.virtual for pool in state.pools.values()}
    return Memory(flows, virtual, state.sharing.now, dict(state.marked))


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
        flows=remembered.flows,
        virtual_time=remembered.virtual_time,
        clock_at=remembered.clock_at,
    )
