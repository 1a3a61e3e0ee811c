"""What could be placed, counted without looking for a placement.

All workers of a shape are alike, so a node takes ``free // gpus_per_worker`` of them whatever else goes
there, and counting is exact. This is the yardstick for the planner's search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Job, Node, Snapshot
from drse_operator.api.enums import TopologyMode
from drse_operator.sizing.shapes import AcceleratorKind, Shape

Room = Callable[[Node], int]


def replicas_that_fit(nodes: Iterable[Node], room: Room, job: Job, shape: Shape) -> int:
    """How many replicas find room when ``room`` GPUs of each node may be used."""
    domains: Counter[str] = Counter()
    for node in nodes:
        if node.kind == shape.kind:
            apart = shape.workers > 1 and job.topology is not None
            required = apart and job.topology_mode is TopologyMode.REQUIRED
            domain = node.domain(job.topology) if required and job.topology is not None else ""
            domains[domain] += room(node) // shape.gpus_per_worker
    return sum(workers // shape.workers for workers in domains.values())


def free_after(snapshot: Snapshot, plan: Plan) -> dict[tuple[str, AcceleratorKind], int]:
    """Free GPUs by node and kind when the plan's assignments have been taken."""
    free = {(n.name, n.kind): n.free_count for n in snapshot.nodes}
    for assign in plan.assign:
        for placement in assign.placements:
            free[placement.node, assign.shape.kind] -= placement.count
    return free


def left_in_first_unit(job: Job) -> int:
    """Replicas that still have to be placed together."""
    return min(max(0, job.first_unit - len(job.held_replicas) - len(job.done)), job.lacking)
