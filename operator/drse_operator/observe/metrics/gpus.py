"""Series of the GPUs: who they are, their states, how the free ones lie, and idle ones nothing explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from drse_operator.admission.decisions import Plan
from drse_operator.admission.persistence import kind_name
from drse_operator.admission.snapshot import FlowKey, Job, Node, Snapshot
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.reasons import WaitReason
from drse_operator.cluster.devices import Gpus
from drse_operator.cluster.usage import FOREIGN, Usage
from drse_operator.observe.metrics import catalogue
from drse_operator.observe.metrics.exposition import Exposition
from drse_operator.observe.metrics.last import JobsNow, LastPass
from drse_operator.sizing.shapes import AcceleratorKind, Shape

FREE, HELD, FOREIGN_HELD, CLOSED, UNHEALTHY = "Free", "Held", "Foreign", "Closed", "Unhealthy"
#: Waits that say that nothing fits, or that others come first for the same GPUs.
_FOR_LACK_OF_ROOM = frozenset(
    {WaitReason.INSUFFICIENT_FREE_GPUS, WaitReason.FRAGMENTED, WaitReason.WAITING_FOR_TURN}
)


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """GPUs of one kind on one node.

    ``broken``: the node is not ready. ``closed``: it is cordoned or tainted, so nothing new is placed there.
    """

    gpus: Gpus
    broken: bool
    closed: bool


def gpu_series(out: Exposition, fleet: list[NodeGpus], jobs: JobsNow, last: LastPass) -> None:
    """Everything about GPUs."""
    _info(out, fleet)
    out.set(catalogue.GPU_STATE, states(fleet, jobs, last.usage))
    _free_blocks(out, last.snapshot.nodes)
    out.new(catalogue.UNEXPLAINED_IDLE)((), unexplained_idle(last.snapshot, last.plan, last.now))


def _info(out: Exposition, fleet: list[NodeGpus]) -> None:
    info, unhealthy = out.new(catalogue.GPU_INFO), out.new(catalogue.GPU_UNHEALTHY)
    for each in fleet:
        for device in each.gpus.devices:
            labels = (device.device.uuid, each.gpus.node, each.gpus.product)
            info(labels, 1)
            if device.taint or each.broken:
                unhealthy(labels, 1)


def states(fleet: list[NodeGpus], jobs: JobsNow, usage: Usage) -> Counter[tuple[str, ...]]:
    """GPUs by (model, state). Each GPU is in one state."""
    held = {d.uuid for _, a in jobs.assignments() for d in a.devices}
    counted: Counter[tuple[str, str]] = Counter()
    for _, a in jobs.assignments():
        if a.device_selection is DeviceSelection.COUNT_ONLY:
            counted[a.node, a.resource] += a.count
    found: Counter[tuple[str, ...]] = Counter()
    for each in fleet:
        for state, number in _states_on(each, held, counted, usage):
            found[each.gpus.product, state] += number
    return found


def _states_on(
    each: NodeGpus, held: set[str], counted: Counter[tuple[str, str]], usage: Usage
) -> Iterator[tuple[str, int]]:
    gpus, unheld = each.gpus, CLOSED if each.closed else FREE
    if each.broken:
        yield UNHEALTHY, gpus.count
    elif gpus.selection is DeviceSelection.COUNT_ONLY:
        ours = min(gpus.count, counted[gpus.node, gpus.resource])
        all_held = min(gpus.count, usage.counts.get((gpus.node, gpus.resource), 0))
        foreign = max(0, all_held - ours)
        yield HELD, ours
        yield FOREIGN_HELD, foreign
        yield unheld, gpus.count - ours - foreign
    else:
        for device in gpus.devices:
            uuid = device.device.uuid
            if device.taint:
                yield UNHEALTHY, 1
            elif uuid in held:
                yield HELD, 1
            else:
                yield (FOREIGN_HELD if usage.devices.get(uuid) == FOREIGN else unheld), 1


def _free_blocks(out: Exposition, nodes: tuple[Node, ...]) -> None:
    free: Counter[str] = Counter()
    on_whole_nodes: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for node in nodes:
        model = node.kind.product
        free[model] += node.free_count
        largest[model] = max(largest[model], node.free_count)
        if node.free_count == node.capacity:
            on_whole_nodes[model] += node.free_count
    block, fragmented = out.new(catalogue.LARGEST_FREE_BLOCK), out.new(catalogue.FRAGMENTATION)
    for model, number in free.items():
        block((model,), largest[model])
        fragmented((model,), 1 - on_whole_nodes[model] / number if number else 0.0)


def unexplained_idle(snapshot: Snapshot, plan: Plan, now: float) -> int:
    """GPUs of the largest replica that waits for lack of room although there is room for it.

    What reservations, limits and the lead cap hold back is explained by them, and so is everything of a kind
    that a job which waits under such a reason could use. Jobs that state a topology are left out.
    """
    lacking: set[tuple[FlowKey, str]] = set()
    explained: set[str] = set()
    for pending in plan.pending:
        if pending.reason in _FOR_LACK_OF_ROOM:
            lacking |= {(pending.flow, kind) for kind in pending.kinds}
        elif not pending.reason.user_must_act:
            explained |= pending.kinds
    room = _Room(snapshot.nodes, plan)
    lacking = {(flow, kind) for flow, kind in lacking if kind in room.kinds - explained}
    if not lacking:
        return 0
    asked = {
        shape
        for job in snapshot.jobs
        for shape in _askable(job, snapshot, now)
        if (job.flow, kind_name(shape.kind)) in lacking
    }
    return max((shape.gpus for shape in asked if room.fits(shape)), default=0)


def _askable(job: Job, snapshot: Snapshot, now: float) -> tuple[Shape, ...]:
    """Shapes that one more replica of a waiting job could take by itself, within its queue's limit."""
    together = job.first_unit if not job.holdings else 1
    if together != 1 or job.topology is not None or job.refusal is not None or job.not_before > now:
        return ()
    queue = snapshot.queues.get(job.queue)
    if queue is None or not job.missing:
        return ()
    if queue.limit is None:
        return job.shapes
    return tuple(shape for shape in job.shapes if queue.held + shape.gpus <= queue.limit)


class _Room:
    """What is free after the plan."""

    def __init__(self, nodes: tuple[Node, ...], plan: Plan) -> None:
        taken = Counter[tuple[str, AcceleratorKind]]()
        for assign in plan.assign:
            for placement in assign.placements:
                taken[placement.node, assign.shape.kind] += placement.count
        self._free: dict[AcceleratorKind, list[int]] = {}
        for node in nodes:
            self._free.setdefault(node.kind, []).append(node.free_count - taken[node.name, node.kind])
        self._known: dict[Shape, bool] = {}
        #: Names of the kinds of which any GPU is free.
        self.kinds = {kind_name(kind) for kind, free in self._free.items() if max(free) > 0}

    def fits(self, shape: Shape) -> bool:
        """Whether one replica of this shape could start now."""
        if shape not in self._known:
            free = self._free.get(shape.kind, ())
            workers = sum(max(0, number) // shape.gpus_per_worker for number in free)
            self._known[shape] = workers >= shape.workers
        return self._known[shape]
