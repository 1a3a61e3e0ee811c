"""What each node has, what is free on it, and whether it takes work."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pydantic import Field

from drse_operator.api.enums import TopologyScope
from drse_operator.cluster.devices import domains
from drse_operator.observe.views.base import Report, Row, instant
from drse_operator.observe.views.gpus import GpuReport, GpuRow, GpuState, count_by_state, gpus
from drse_operator.observe.views.scene import EVERYWHERE, Scene

#: A held GPU that is used less than this counts as idle.
IDLE_BELOW = 0.05


class NodeRow(Row):
    """The GPUs of one kind on one node."""

    node: str
    product: str
    gpus: int
    free: int
    reserved: int = Field(description="Free GPUs that are kept for waiting jobs.")
    held: int
    foreign: int = Field(description="Held by pods or claims that DRSE did not make.")
    out_of_service: int
    largest_block_gpus: int = Field(
        description="GPUs that one worker could be given there now: free, and not reserved by a waiting job."
    )
    held_idle: int | None = Field(description="Held GPUs used less than 5 %; null when not measured.")
    jobs: int = Field(description="Jobs that hold GPUs of the node.")
    nvlink_domain: str | None
    rack: str | None
    zone: str | None
    state: str = Field(description="Ready, or why the node takes nothing.")


class NodeReport(Report):
    """Nodes with GPUs; a node with two kinds appears twice."""

    items: tuple[NodeRow, ...]


def nodes(scene: Scene, use: Mapping[str, float] | None = None, found: GpuReport | None = None) -> NodeReport:
    """All nodes with GPUs. ``use`` is utilisation (0..1) by UUID; ``found`` are the scene's GPUs, where they
    have been worked out already."""
    holders = Counter(
        node for job in scene.world.all_jobs() for node in {a.node for a in job.status.assignments}
    )
    kept = reserved(scene)
    groups: dict[tuple[str, str], list[GpuRow]] = defaultdict(list)
    for row in (gpus(scene, EVERYWHERE, use=use) if found is None else found).items:
        groups[row.node, row.product].append(row)
    rows = tuple(_row(scene, rows, holders, kept[key], use is not None) for key, rows in groups.items())
    return NodeReport(as_of=instant(scene.now), unread=scene.unread, items=rows)


def reserved(scene: Scene, besides: str | None = None) -> Counter[tuple[str, str]]:
    """GPUs that waiting jobs have reserved, by node and product, those of the job with uid ``besides`` left
    out; none where the planner cannot be asked."""
    found: Counter[tuple[str, str]] = Counter()
    if scene.complete:
        for uid, reservation in scene.settled.outcome.reservations.items():
            for pool, holds in reservation.parts if uid != besides else ():
                for node, count in holds.items():
                    found[node, pool.kind.product] += count
    return found


def _row(scene: Scene, rows: list[GpuRow], holders: Counter[str], kept: int, measured: bool) -> NodeRow:
    first = rows[0]
    node = scene.world.nodes.get("", first.node)
    places = {} if node is None else domains(node)
    states = count_by_state(tuple(rows))
    return NodeRow(
        node=first.node,
        product=first.product,
        gpus=sum(row.count for row in rows),
        free=states[GpuState.FREE],
        held=states[GpuState.HELD],
        foreign=states[GpuState.FOREIGN],
        out_of_service=states[GpuState.OUT_OF_SERVICE],
        reserved=min(kept, states[GpuState.FREE]),
        largest_block_gpus=max(0, states[GpuState.FREE] - kept),
        held_idle=held_idle(rows) if measured else None,
        jobs=holders[first.node],
        nvlink_domain=places.get(TopologyScope.NVLINK_DOMAIN),
        rack=places.get(TopologyScope.RACK),
        zone=places.get(TopologyScope.ZONE),
        state=_state(scene, first.node),
    )


def _state(scene: Scene, name: str) -> str:
    node = scene.world.nodes.get("", name)
    if node is not None:
        return node.unready or "Ready"
    return "not known" if "nodes" in scene.unread else "is gone"


def held_idle(rows: Sequence[GpuRow]) -> int:
    """Held GPUs whose use is measured and below the mark."""
    return sum(
        row.count
        for row in rows
        if row.state is GpuState.HELD
        and row.utilisation_ratio is not None
        and row.utilisation_ratio < IDLE_BELOW
    )
