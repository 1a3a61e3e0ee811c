"""Free GPUs while a plan is being made: best fit over nodes, gangs over topology domains.

Nodes of a kind are kept in buckets by the number of free GPUs, so that the best fit for one worker (the
node with the fewest free GPUs that still suffice, which keeps whole nodes free) is found in time
proportional to the GPUs of a node, not to the number of nodes. A placement is computed on a trial basis
and taken only as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from drse_operator.admission.decisions import Placement
from drse_operator.admission.snapshot import Device, Node
from drse_operator.api.enums import DeviceSelection, TopologyMode, TopologyScope
from drse_operator.sizing.shapes import AcceleratorKind, Shape

#: Scopes tried, in order, when nothing is asked or the asked scope is only preferred.
_NEARNESS = (TopologyScope.NVLINK_DOMAIN, TopologyScope.RACK, TopologyScope.ZONE)


class Inventory:
    """Mutable count of free GPUs by kind and node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes: dict[AcceleratorKind, dict[str, Node]] = defaultdict(dict)
        self._free: dict[AcceleratorKind, dict[str, int]] = defaultdict(dict)
        self._buckets: dict[AcceleratorKind, dict[int, dict[str, None]]] = {}
        self._taken: dict[tuple[AcceleratorKind, str], int] = defaultdict(int)
        # By name, so that among equal nodes the choice does not hang on the order they came in.
        for node in sorted(nodes, key=lambda n: n.name):
            self._nodes[node.kind][node.name] = node
            self._free[node.kind][node.name] = node.free_count
            buckets = self._buckets.setdefault(node.kind, defaultdict(dict))
            buckets[node.free_count][node.name] = None

    def free(self, kind: AcceleratorKind) -> int:
        """Free GPUs of a kind."""
        return sum(n * len(names) for n, names in self._buckets.get(kind, {}).items())

    def largest_block(self, kind: AcceleratorKind) -> tuple[int, str]:
        """Most free GPUs of a kind on one node, and that node's name."""
        best = max((n for n, names in self._buckets.get(kind, {}).items() if names), default=0)
        return best, next(iter(self._buckets.get(kind, {}).get(best, {})), "")

    def workers_that_fit(self, shape: Shape) -> int:
        """How many workers of a shape would fit now, wherever they land."""
        buckets = self._buckets.get(shape.kind, {})
        return sum(n // shape.gpus_per_worker * len(names) for n, names in buckets.items())

    def find(
        self, shape: Shape, replicas: Sequence[int], scope: TopologyScope | None, mode: TopologyMode
    ) -> tuple[Placement, ...] | None:
        """Place all the replicas, or nothing.

        Each replica's workers share one domain of ``scope`` when it is required; else the nearest
        domain that holds them is preferred. The GPUs stay free until :meth:`take`.
        """
        undo: list[tuple[str, int]] = []
        placements: list[Placement] = []
        for replica in replicas:
            found = self._find_replica(shape, scope, mode)
            if found is None:
                self._restore(shape.kind, undo)
                return None
            for worker, name in enumerate(found):
                placements.append(self._placement(shape, replica, worker, name))
                self._move(shape.kind, name, -shape.gpus_per_worker)
                undo.append((name, shape.gpus_per_worker))
        self._restore(shape.kind, undo)
        return tuple(placements)

    def take(self, kind: AcceleratorKind, placements: Iterable[Placement]) -> None:
        """Make the GPUs of placements found by :meth:`find` not free."""
        for placement in placements:
            self._move(kind, placement.node, -placement.count)

    def give_back(self, kind: AcceleratorKind, placements: Iterable[Placement]) -> None:
        """Undo :meth:`take`; the last taken goes back first."""
        for placement in reversed(tuple(placements)):
            self._move(kind, placement.node, placement.count)

    # -- one replica ----------------------------------------------------------------------------------

    def _find_replica(
        self, shape: Shape, scope: TopologyScope | None, mode: TopologyMode
    ) -> list[str] | None:
        if shape.workers == 1:
            name = self._best_fit(shape.kind, shape.gpus_per_worker)
            return None if name is None else [name]
        if scope is not None:
            found = self._find_in_domain(shape, scope)
            if found is not None or mode is TopologyMode.REQUIRED:
                return found
        for nearness in _NEARNESS:
            found = self._find_in_domain(shape, nearness)
            if found is not None:
                return found
        return self._fill(shape, self._free[shape.kind])

    def _find_in_domain(self, shape: Shape, scope: TopologyScope) -> list[str] | None:
        """Nodes in the domain that has the least room to spare for the shape."""
        rooms: dict[str, dict[str, int]] = defaultdict(dict)
        for name, free in self._free[shape.kind].items():
            if free >= shape.gpus_per_worker:
                rooms[self._nodes[shape.kind][name].domain(scope)][name] = free
        fitting = [
            (sum(free // shape.gpus_per_worker for free in room.values()), domain)
            for domain, room in rooms.items()
        ]
        fitting = [entry for entry in fitting if entry[0] >= shape.workers]
        return self._fill(shape, rooms[min(fitting)[1]]) if fitting else None

    def _fill(self, shape: Shape, room: dict[str, int]) -> list[str] | None:
        """Fill nodes of a domain: those with most room first, so that a gang spans few nodes; the last
        workers go where they leave the least behind."""
        chosen: list[str] = []
        left = dict(room)
        while len(chosen) < shape.workers:
            need = (shape.workers - len(chosen)) * shape.gpus_per_worker
            candidates = [(free, name) for name, free in left.items() if free >= shape.gpus_per_worker]
            if not candidates:
                return None
            enough = [c for c in candidates if c[0] >= need]
            free, name = min(enough) if enough else max(candidates, key=lambda c: (c[0], c[1]))
            take = min(free // shape.gpus_per_worker, shape.workers - len(chosen))
            chosen.extend([name] * take)
            left[name] = free - take * shape.gpus_per_worker
        return chosen

    def _best_fit(self, kind: AcceleratorKind, gpus: int) -> str | None:
        buckets = self._buckets.get(kind, {})
        for free in range(gpus, kind.max_per_node + 1):
            if names := buckets.get(free):
                return next(iter(names))
        return None

    # -- counting -------------------------------------------------------------------------------------

    def _placement(self, shape: Shape, replica: int, worker: int, name: str) -> Placement:
        node = self._nodes[shape.kind][name]
        devices: tuple[Device, ...] = ()
        if node.selection is DeviceSelection.EXACT:
            start = node.free_count - self._free[shape.kind][name]
            devices = _packed(node)[start : start + shape.gpus_per_worker]
        return Placement(
            replica=replica,
            worker=worker,
            node=name,
            selection=node.selection,
            count=shape.gpus_per_worker,
            resource=node.resource,
            devices=devices,
        )

    def _move(self, kind: AcceleratorKind, name: str, delta: int) -> None:
        free = self._free[kind][name]
        buckets = self._buckets[kind]
        buckets[free].pop(name, None)
        if not buckets[free]:
            del buckets[free]
        self._free[kind][name] = free + delta
        buckets.setdefault(free + delta, {})[name] = None

    def _restore(self, kind: AcceleratorKind, undo: Iterable[tuple[str, int]]) -> None:
        for name, gpus in undo:
            self._move(kind, name, gpus)


def _packed(node: Node) -> tuple[Device, ...]:
    """Free devices of a node, those whose PCIe group is most used first, so that whole groups stay free."""
    return tuple(_by_group(node.free))


def _by_group(devices: Iterable[Device]) -> Iterator[Device]:
    groups: dict[str, list[Device]] = defaultdict(list)
    for device in devices:
        groups[device.group].append(device)
    for _, members in sorted(groups.items(), key=lambda item: (len(item[1]), item[0])):
        yield from sorted(members, key=lambda d: (d.name, d.uuid))
