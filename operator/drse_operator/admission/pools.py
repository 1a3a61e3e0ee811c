"""Free GPUs of one kind: best fit over nodes, gangs over topology domains, and when holders are due to end.

Nodes are kept sorted by their free GPUs, so the best fit for one worker (the node with the fewest free GPUs
that still suffice, which keeps whole nodes free) is one binary search. While a reservation stands, the pool
can be *capped*: reserved nodes then show only what they can spare beyond the reservation.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sortedcontainers import SortedList

from drse_operator.admission.snapshot import Device, Node
from drse_operator.api.enums import DeviceSelection, TopologyMode, TopologyScope
from drse_operator.sizing.shapes import AcceleratorKind, Shape

#: Names a kind across changes of the cluster: vendor, product, bytes of memory of one GPU.
KindId = tuple[str, str, int]
#: End of a holder that nobody expects to end (a service, a stranger), in seconds since the epoch. Finite, so
#: that work of any finite length counts as ending before it.
FAR = 1e15
#: Scopes tried, in order, when nothing is asked or the asked scope is only preferred.
_NEARNESS = (TopologyScope.NVLINK_DOMAIN, TopologyScope.RACK, TopologyScope.ZONE)


def kind_id(kind: AcceleratorKind) -> KindId:
    """What identifies a kind whatever the cluster has of it now."""
    return str(kind.vendor), kind.product, kind.memory


def kind_name(kind: KindId) -> str:
    """How a kind is called in what is remembered."""
    return "/".join(map(str, kind))


class Slot:
    """The GPUs of the pool's kind on one node."""

    __slots__ = ("cap", "devices", "ends", "free", "held", "name", "node", "shown", "touched")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        self.free = node.free_count
        #: Free GPUs in the pool's index: fewer than ``free`` while the pool is capped.
        self.shown = node.free_count
        #: What may be shown while the pool is capped.
        self.cap: int | None = None
        #: (expected end, serial number, GPUs) of each worker of ours, soonest first.
        self.ends: list[tuple[float, int, int]] = []
        self.held = 0
        #: Something was taken or given back since the node was told.
        self.touched = False
        self.devices = list(_packed(node)) if node.selection is DeviceSelection.EXACT else None

    @property
    def foreign(self) -> int:
        """GPUs held by somebody whose end we do not know."""
        return max(0, self.node.capacity - self.free - self.held)


class Pool:
    """Mutable free GPUs of one kind."""

    def __init__(self, kind: AcceleratorKind) -> None:
        self.kind = kind
        self.id = kind_id(kind)
        self.name = kind_name(self.id)
        self.slots: dict[str, Slot] = {}
        #: Start tag of the last dispatch in order that could have used this kind.
        self.virtual = 0.0
        self.capped = False
        #: Grows whenever anything is taken, given back or capped.
        self.version = 0
        self._index: SortedList[tuple[int, str]] = SortedList()
        self._caps: dict[str, int] = {}

    def put(self, node: Node) -> Slot:
        """Add a node, or replace it; what ours hold there must be told again by :meth:`hold`."""
        self.drop(node.name)
        slot = Slot(node)
        self.slots[node.name] = slot
        self._index.add((slot.shown, slot.name))
        self.version += 1
        return slot

    def refresh(self, slot: Slot, node: Node) -> None:
        """The node is as it was but for who holds its GPUs; what ours hold there stands."""
        slot.node = node
        slot.touched = False
        slot.devices = list(_packed(node)) if node.selection is DeviceSelection.EXACT else None
        if slot.free != node.free_count:
            self._set_free(slot, node.free_count)

    def drop(self, name: str) -> None:
        """Forget a node."""
        slot = self.slots.pop(name, None)
        if slot is not None:
            self._index.remove((slot.shown, name))
            self.version += 1

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Free GPUs."""
        return sum(free for free, _ in self._index.irange((1, "")))

    @property
    def capacity(self) -> int:
        """GPUs of the nodes in service, whoever holds them."""
        return sum(slot.node.capacity for slot in self.slots.values())

    @property
    def largest(self) -> int:
        """Most free GPUs on one node."""
        return self._index[-1][0] if self._index else 0

    def largest_block(self) -> tuple[int, str]:
        """Most free GPUs on one node, and that node's name."""
        best = self.largest
        return next(iter(self._index.irange((best, ""))), (0, ""))

    def workers_that_fit(self, shape: Shape) -> int:
        """How many workers of a shape would fit now, wherever they land."""
        each = shape.gpus_per_worker
        return sum(free // each for free, _ in self._index.irange((each, "")))

    def find(
        self, shape: Shape, replicas: int, scope: TopologyScope | None, mode: TopologyMode
    ) -> list[list[str]] | None:
        """Nodes for the workers of each replica, or None; nothing is taken.

        Each replica's workers share one domain of ``scope`` when it is required; else the nearest domain
        that holds them is preferred.
        """
        each = shape.gpus_per_worker
        if self.largest < each:
            return None
        if replicas == 1 and shape.workers == 1:
            return [[self._index[self._index.bisect_left((each, ""))][1]]]
        if self.workers_that_fit(shape) < replicas * shape.workers:
            return None
        found: list[list[str]] = []
        for _ in range(replicas):
            names = self._find_replica(shape, scope, mode)
            if names is None:
                break
            found.append(names)
            for name in names:
                self._show(self.slots[name], self.slots[name].shown - each)
        for names in reversed(found):
            for name in names:
                self._show(self.slots[name], self.slots[name].shown + each)
        return found if len(found) == replicas else None

    def _find_replica(
        self, shape: Shape, scope: TopologyScope | None, mode: TopologyMode
    ) -> list[str] | None:
        if shape.workers == 1:
            at = self._index.bisect_left((shape.gpus_per_worker, ""))
            return [self._index[at][1]] if at < len(self._index) else None
        room = {name: free for free, name in self._index.irange((shape.gpus_per_worker, ""))}
        if scope is not None:
            found = self._find_in_domain(shape, scope, room)
            if found is not None or mode is TopologyMode.REQUIRED:
                return found
        for nearness in _NEARNESS:
            found = self._find_in_domain(shape, nearness, room)
            if found is not None:
                return found
        return _fill(shape, room)

    def _find_in_domain(
        self, shape: Shape, scope: TopologyScope, room: Mapping[str, int]
    ) -> list[str] | None:
        """Nodes in the domain that has the least room to spare for the shape."""
        rooms: dict[str, dict[str, int]] = defaultdict(dict)
        for name, free in room.items():
            rooms[self.slots[name].node.domain(scope)][name] = free
        fitting = [
            (workers, domain)
            for domain, inside in rooms.items()
            if (workers := sum(free // shape.gpus_per_worker for free in inside.values())) >= shape.workers
        ]
        return _fill(shape, rooms[min(fitting)[1]]) if fitting else None

    # -- taking and giving back ------------------------------------------------------------------------

    def take(self, name: str, gpus: int) -> tuple[Device, ...]:
        """Take free GPUs of a node; names them where devices can be named."""
        slot = self.slots[name]
        slot.touched = True
        self._set_free(slot, slot.free - gpus)
        if slot.devices is None:
            return ()
        taken, slot.devices = slot.devices[:gpus], slot.devices[gpus:]
        return tuple(taken)

    def give(self, name: str, gpus: int, devices: Iterable[Device] = ()) -> None:
        """Undo :meth:`take`; a node that is gone takes nothing back."""
        slot = self.slots.get(name)
        if slot is None:
            return
        slot.touched = True
        self._set_free(slot, min(slot.node.capacity, slot.free + gpus))
        if slot.devices is not None:
            slot.devices = list(_by_group((*slot.devices, *devices)))

    def borrow(self, name: str, gpus: int) -> None:
        """Show so many fewer GPUs of a node, while a larger search goes on; undone by the negative."""
        self._show(self.slots[name], self.slots[name].shown - gpus)

    def hold(self, name: str, end: float, serial: int, gpus: int) -> None:
        """Note that a worker of ours holds GPUs of a node until about ``end``."""
        slot = self.slots.get(name)
        if slot is not None:
            insort(slot.ends, (end, serial, gpus))
            slot.held += gpus

    def unhold(self, name: str, end: float, serial: int, gpus: int) -> None:
        """Undo :meth:`hold`."""
        slot = self.slots.get(name)
        if slot is not None and (end, serial, gpus) in slot.ends:
            slot.ends.remove((end, serial, gpus))
            slot.held -= gpus

    # -- capping ---------------------------------------------------------------------------------------

    def set_caps(self, caps: Mapping[str, int]) -> None:
        """What nodes may show while the pool is capped; other nodes show all they have."""
        self.show_capped(False)
        for name in self._caps:
            if name in self.slots:
                self.slots[name].cap = None
        self._caps = dict(caps)
        for name, cap in caps.items():
            self.slots[name].cap = cap

    def lower_cap(self, name: str, gpus: int) -> None:
        """A holder that stays beyond the reservation uses up what its node could spare."""
        slot = self.slots[name]
        if slot.cap is not None:
            slot.cap -= gpus
            self._set_free(slot, slot.free)

    def show_capped(self, capped: bool) -> None:
        """Switch between all free GPUs and those beyond the reservation."""
        if capped == self.capped:
            return
        self.capped = capped
        for name in self._caps:
            if name in self.slots:
                self._show(self.slots[name], self._visible(self.slots[name]))

    def _visible(self, slot: Slot) -> int:
        return slot.free if slot.cap is None or not self.capped else max(0, min(slot.free, slot.cap))

    def _set_free(self, slot: Slot, free: int) -> None:
        slot.free = free
        self.version += 1
        self._show(slot, self._visible(slot))

    def _show(self, slot: Slot, shown: int) -> None:
        if shown != slot.shown:
            self._index.remove((slot.shown, slot.name))
            slot.shown = shown
            self._index.add((shown, slot.name))


def _fill(shape: Shape, room: Mapping[str, int]) -> list[str] | None:
    """Fill nodes: those with most room first, so that a gang spans few of them; the last workers go where
    they leave the least behind."""
    chosen: list[str] = []
    left = dict(room)
    while len(chosen) < shape.workers:
        need = (shape.workers - len(chosen)) * shape.gpus_per_worker
        candidates = [(free, name) for name, free in left.items() if free >= shape.gpus_per_worker]
        if not candidates:
            return None
        enough = [c for c in candidates if c[0] >= need]
        free, name = min(enough) if enough else max(candidates)
        take = min(free // shape.gpus_per_worker, shape.workers - len(chosen))
        chosen.extend([name] * take)
        left[name] = free - take * shape.gpus_per_worker
    return chosen


def _packed(node: Node) -> Sequence[Device]:
    return _by_group(node.free)


def _by_group(devices: Iterable[Device]) -> Sequence[Device]:
    """Devices whose PCIe group is most used first, so that whole groups stay free."""
    groups: dict[str, list[Device]] = defaultdict(list)
    for device in devices:
        groups[device.group].append(device)
    ordered = sorted(groups.items(), key=lambda item: (len(item[1]), item[0]))
    return [d for _, members in ordered for d in sorted(members, key=lambda d: (d.name, d.uuid))]
