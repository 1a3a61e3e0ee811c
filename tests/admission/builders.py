"""Small clusters, queues and jobs, and what becomes of them when a plan is carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from drse_operator.admission.decisions import Placement, Plan
from drse_operator.admission.snapshot import Device, Holding, Job, Node, Queue, Snapshot
from drse_operator.api.enums import DeviceSelection, TaskType, TopologyMode, TopologyScope, Vendor
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape

GIB = 2**30


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to be built: ``held`` of its ``gpus`` belong to somebody else."""

    product: str
    gpus: int
    held: int = 0
    rack: str = ""
    exact: bool = True
    pcie_roots: int = 1


def make_nodes(plans: Iterable[NodePlan]) -> tuple[Node, ...]:
    """Nodes node-0, node-1, ... with kinds that count what is there."""
    plans = tuple(plans)
    kinds = {
        product: AcceleratorKind(
            vendor=Vendor.NVIDIA,
            product=product,
            memory=80 * GIB,
            tflops=989,
            max_per_node=max(p.gpus for p in plans if p.product == product),
            total=sum(p.gpus for p in plans if p.product == product),
        )
        for product in {p.product for p in plans}
    }
    return tuple(_node(i, p, kinds[p.product]) for i, p in enumerate(plans))


def _node(index: int, plan: NodePlan, kind: AcceleratorKind) -> Node:
    name = f"node-{index}"
    devices = tuple(
        Device(f"GPU-{index}-{i}", "gpu.nvidia.com", name, f"gpu-{i}", f"pci{i % plan.pcie_roots}")
        for i in range(plan.held, plan.gpus)
    )
    return Node(
        name=name,
        kind=kind,
        selection=DeviceSelection.EXACT if plan.exact else DeviceSelection.COUNT_ONLY,
        capacity=plan.gpus,
        free_count=plan.gpus - plan.held,
        free=devices if plan.exact else (),
        resource="" if plan.exact else "nvidia.com/gpu",
        domains={TopologyScope.RACK: plan.rack} if plan.rack else {},
    )


def kind_of(nodes: Iterable[Node], product: str = "H100") -> AcceleratorKind:
    """The kind of a product among the nodes."""
    return next(n.kind for n in nodes if n.kind.product == product)


def shape(kind: AcceleratorKind, gpus: int = 1, workers: int = 1) -> Shape:
    """A replica of ``workers`` workers with ``gpus`` GPUs each."""
    return Shape(kind, workers, gpus, gpus, workers, 0)


def make_queue(name: str = "default", limit: int | None = None, held: int = 0) -> Queue:
    return Queue(name, 1, 0, limit, held)


def make_job(
    name: str,
    shapes: Iterable[Shape] = (),
    *,
    queue: str = "default",
    priority: int = 0,
    at: float = 0.0,
    wanted: int = 1,
    first_unit: int = 1,
    task: TaskType = TaskType.FINE_TUNING,
    refusal: Refusal | None = None,
    holdings: Iterable[Holding] = (),
    done: Iterable[int] = (),
    clearing: Iterable[int] = (),
    not_before: float = 0.0,
    topology: TopologyScope | None = None,
    mode: TopologyMode = TopologyMode.PREFERRED,
) -> Job:
    return Job(
        key=JobKey("team", name),
        uid=f"uid-{name}",
        queue=queue,
        task_type=task,
        priority=priority,
        queued_at=at,
        wanted=wanted,
        first_unit=first_unit,
        shapes=tuple(shapes),
        refusal=refusal,
        holdings=tuple(holdings),
        done=frozenset(done),
        clearing=frozenset(clearing),
        not_before=not_before,
        topology=topology,
        topology_mode=mode,
    )


def snapshot(nodes: Iterable[Node], jobs: Iterable[Job], *queues: Queue) -> Snapshot:
    """A snapshot; a queue ``default`` without limit when none is given."""
    named = {q.name: q for q in queues or (make_queue(),)}
    return Snapshot(tuple(nodes), named, tuple(jobs))


# -- carrying out a plan ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot together with what each worker was given, so that it can be taken back."""

    snapshot: Snapshot
    given: Mapping[tuple[str, int, int], Placement] = field(default_factory=dict)


def carry_out(state: State, plan: Plan) -> State:
    """The state when everything that the plan says has happened, releases included."""
    gone = {(r.uid, replica) for r in plan.release for replica in r.replicas}
    given = {place: p for place, p in state.given.items() if place[:2] not in gone}
    back = [p for place, p in state.given.items() if place[:2] in gone]
    taken = [p for assign in plan.assign for p in assign.placements]
    given |= {(a.uid, p.replica, p.worker): p for a in plan.assign for p in a.placements}
    old = state.snapshot
    jobs = tuple(replace(job, holdings=_holdings(job, given)) for job in old.jobs)
    held = {name: sum(h.count for j in jobs if j.queue == name for h in j.holdings) for name in old.queues}
    queues = {name: replace(queue, held=held[name]) for name, queue in old.queues.items()}
    nodes = tuple(_after(node, taken, back) for node in old.nodes)
    return State(Snapshot(nodes, queues, jobs), given)


def _holdings(job: Job, given: Mapping[tuple[str, int, int], Placement]) -> tuple[Holding, ...]:
    ready = {(h.replica, h.worker): h.ready for h in job.holdings}
    return tuple(
        Holding(p.replica, p.worker, p.node, p.count, ready.get((p.replica, p.worker), False))
        for (uid, _, _), p in sorted(given.items())
        if uid == job.uid
    )


def _after(node: Node, taken: Iterable[Placement], back: Iterable[Placement]) -> Node:
    lost = [p for p in taken if p.node == node.name]
    won = [p for p in back if p.node == node.name]
    away = {d.uuid for p in lost for d in p.devices}
    free = (*(d for d in node.free if d.uuid not in away), *(d for p in won for d in p.devices))
    count = node.free_count - sum(p.count for p in lost) + sum(p.count for p in won)
    return replace(node, free_count=count, free=free)


def placed(plan: Plan, name: str) -> list[Placement]:
    """Everything that a plan gives to a job, by replica and worker."""
    mine = [p for a in plan.assign if a.key.name == name for p in a.placements]
    return sorted(mine, key=lambda p: (p.replica, p.worker))
