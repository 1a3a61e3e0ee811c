"""When and where a job that cannot start now could start at the earliest, if holders end as expected.

The first job in order that has no room gets those GPUs reserved (EASY backfilling: Lifka, "The ANL/IBM SP
scheduling system", 1995). Others may use them until then, or what its nodes can spare beyond it.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drse_operator.admission.asks import Ask
from drse_operator.admission.pools import FAR, Pool, Slot
from drse_operator.api.enums import TopologyMode
from drse_operator.sizing.shapes import Shape


@dataclass(frozen=True, slots=True)
class Reservation:
    """``uid`` starts at ``start`` (seconds since the epoch; FAR when no end is in sight) on GPUs of
    ``parts``: of each pool, how many GPUs on which nodes."""

    uid: str
    start: float
    parts: tuple[tuple[Pool, dict[str, int]], ...]
    mask: int


def reserve(uid: str, ask: Ask, now: float) -> Reservation | None:
    """The earliest start of an ask, or None when even the end of all holders would not make room."""
    best: tuple[float, int, Pool, dict[str, int]] | None = None
    for i, (shape, pool) in enumerate(ask.options):
        found = earliest(pool, shape, ask.replicas, ask, now)
        if found is not None and (best is None or (found[0], i) < best[:2]):
            best = (found[0], i, pool, found[1])
    if best is not None:
        return Reservation(uid, best[0], ((best[2], best[3]),), ask.mask)
    return _reserve_mixed(uid, ask, now) if ask.mixes else None


def _reserve_mixed(uid: str, ask: Ask, now: float) -> Reservation | None:
    """Replicas on several kinds, since no single one could ever hold all of them."""
    left, start, parts = ask.replicas, now, []
    for shape, pool in ask.options:
        for replicas in range(left, 0, -1):
            found = earliest(pool, shape, replicas, ask, now)
            if found is not None:
                start, left = max(start, found[0]), left - replicas
                parts.append((pool, found[1]))
                break
        if left == 0:
            return Reservation(uid, start, tuple(parts), ask.mask)
    return None


def earliest(
    pool: Pool, shape: Shape, replicas: int, ask: Ask, now: float
) -> tuple[float, dict[str, int]] | None:
    """Earliest time at which the replicas fit in a pool, and the GPUs of each node that they take then."""
    together = ask.scope is not None and ask.mode is TopologyMode.REQUIRED and shape.workers > 1
    if not together:
        chosen = _first_rooms(pool.slots.values(), shape, replicas * shape.workers, now)
        return None if chosen is None else _sum(chosen, shape)
    assert ask.scope is not None
    domains: dict[str, list[Slot]] = defaultdict(list)
    for slot in pool.slots.values():
        domains[slot.node.domain(ask.scope)].append(slot)
    whole: list[tuple[float, str, list[tuple[float, int, str]]]] = []
    for name, slots in domains.items():
        rooms = sorted(room for slot in slots for room in _rooms(slot, shape, replicas * shape.workers, now))
        for i in range(shape.workers, len(rooms) + 1, shape.workers):
            gang = rooms[i - shape.workers : i]
            whole.append((gang[-1][0], name, gang))
    if len(whole) < replicas:
        return None
    return _sum([room for _, _, gang in heapq.nsmallest(replicas, whole) for room in gang], shape)


def _first_rooms(
    slots: Iterable[Slot], shape: Shape, workers: int, now: float
) -> list[tuple[float, int, str]] | None:
    rooms = heapq.nsmallest(workers, (room for slot in slots for room in _rooms(slot, shape, workers, now)))
    return rooms if len(rooms) == workers else None


def _rooms(slot: Slot, shape: Shape, most: int, now: float) -> Iterator[tuple[float, int, str]]:
    """(when, GPUs lacking until then, node) of each further worker that finds room on a node."""
    each, free = shape.gpus_per_worker, slot.free
    if slot.node.capacity < each:
        return
    found = min(most, free // each)
    for _ in range(found):
        yield now, 0, slot.name
    for end, _, gpus in slot.ends:
        if found >= most:
            return
        free += gpus
        while found < most and free // each > found:
            found += 1
            yield max(end, now), found * each - slot.free, slot.name
    free += slot.foreign
    for _ in range(found, min(most, free // each)):
        yield FAR, max(0, each - slot.free), slot.name


def _sum(rooms: list[tuple[float, int, str]], shape: Shape) -> tuple[float, dict[str, int]]:
    gpus: Counter[str] = Counter()
    for _, _, name in rooms:
        gpus[name] += shape.gpus_per_worker
    return max(room[0] for room in rooms), dict(gpus)


def spare(slot: Slot, held: int, start: float) -> int:
    """GPUs of a node that are free at ``start`` beyond the ``held`` reserved ones."""
    free = slot.free
    for end, _, gpus in slot.ends:
        if end > start:
            break
        free += gpus
    if start >= FAR:
        free += slot.foreign
    return free - held
