"""One pass over everybody who waits: who starts now, for whom GPUs are reserved, and who is held back.

Flows take turns by start tag. The flow whose turn it is starts its first job. If that job has no room, the
GPUs where it could start earliest are reserved for it, and from then on others start only

* if they surely end before the reservation, or fit into what its nodes can spare beyond it (backfilling), and
* if their flow's start tag is at most the cap beyond the tag of the flow that waits at the head.

The cap bounds how far backfilling can carry one flow ahead of another, and so how unfair the whole can be
(docs/fairness.md). Jobs that could not use any of the kinds that somebody ahead waits for are not held back.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from drse_operator.admission.asks import Ask
from drse_operator.admission.decisions import Assign, Placement
from drse_operator.admission.flows import Flow, Group, Record, Unit
from drse_operator.admission.pools import Pool, kind_id
from drse_operator.admission.reservation import Reservation, reserve, spare
from drse_operator.admission.snapshot import FlowKey, Preemption
from drse_operator.admission.state import State
from drse_operator.sizing.shapes import Shape

_EVER = float("inf")
#: Found places: shape, pool and the nodes of each replica.
_Found = list[tuple[Shape, Pool, list[str]]]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Somebody in order who has no room: the kinds it waits for, its start tag, and who it is."""

    mask: int
    start: float
    record: Record


@dataclass(slots=True)
class Outcome:
    """What a pass did, for carrying out and for explaining."""

    assigns: list[Assign] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    #: The first of each queue that waits for its queue's limit.
    limited: dict[str, Record] = field(default_factory=dict)
    #: Flows that have run ahead by more than the cap, and behind whom.
    capped: dict[FlowKey, Blocked] = field(default_factory=dict)


class Pass:
    """State of one pass. Nothing that fitted nowhere is tried again: free GPUs only become fewer."""

    def __init__(self, state: State, now: float, keep_placements: bool = True) -> None:
        self.outcome = Outcome()
        self._state = state
        self._now = now
        self._cap = state.lead_cap
        #: Tag of the turn, and whether it came by its tag and not by a guarantee.
        self._tag = 0.0
        self._in_order = True
        #: Flows that come after all others, since a higher priority of their queue waits elsewhere; and the
        #: one found to be such a flow in this turn.
        self._last: set[FlowKey] = set()
        self._put_off: FlowKey | None = None
        #: Kinds that somebody waits for who came by its tag; and those that anybody waits for.
        self._in_turn = 0
        self._covered = 0
        self._carried = 0
        self._by_pool: dict[Pool, Reservation] = {}
        #: By ask: version of its pools when tried, and within how many seconds it must end to be let in.
        self._windows: dict[int, tuple[int, float]] = {}
        self._keep = keep_placements

    def run(self) -> Outcome:
        """Let flows take turns until nobody can start."""
        turns = [self._turn(flow) for flow in self._state.flows.values() if flow.groups]
        heapq.heapify(turns)
        while turns:
            borrows, tag, _, key = heapq.heappop(turns)
            flow = self._state.flows[key]
            self._in_order, self._tag = borrows, tag if tag < _EVER else flow.finish
            if (self._serve(flow) and flow.groups) or self._put_off == key:
                heapq.heappush(turns, self._turn(flow))
            self._put_off = None
        for pool in self._by_pool:
            pool.set_caps({})
        for flow in self._state.flows.values():
            if flow.groups and flow.key.queue in self.outcome.limited:
                # Its own limit keeps it from starting, not the others: that earns it nothing either.
                self._state.lift(flow, min(flow.groups.values(), key=lambda g: g.records[0]).ask)
        return self.outcome

    def _turn(self, flow: Flow) -> tuple[bool, float, tuple[float, float, str], FlowKey]:
        """Queues within their guarantee first, then by start tag; among equal tags priority, age, name."""
        head, queue = flow.head, self._state.queues[flow.key.queue]
        assert head.ask is not None
        borrows = self._state.held[queue.name] + head.ask.least > queue.guaranteed
        tag = flow.finish
        if queue.preemption is Preemption.LOWER_PRIORITY:
            # What was taken for the highest priority of the queue must not go to another of its flows.
            rivals = [
                f
                for k, f in self._state.flows.items()
                if k.queue == queue.name and f.groups and f.head_mask & head.ask.mask
            ]
            if all(head.job.priority >= f.head.job.priority for f in rivals):
                tag = min(f.finish for f in rivals)
            else:
                borrows = True
        if flow.key in self._last:
            borrows, tag = True, _EVER
        return borrows, tag, (-head.job.priority, head.job.queued_at, str(head.job.key)), flow.key

    # -- one turn --------------------------------------------------------------------------------------

    def _serve(self, flow: Flow) -> bool:
        """Start the first job of the flow that may start; False when there is none."""
        while True:
            chosen = self._choose(flow)
            if chosen is None:
                return False
            if flow.key not in self._last and self._is_outranked(flow, chosen):
                self._last.add(flow.key)
                self._put_off = flow.key
                return False
            if self._start(flow, chosen):
                return True

    def _is_outranked(self, flow: Flow, record: Record) -> bool:
        """Whether a higher priority waits in another flow of a queue that preempts for it: if the record went
        first it would only be taken back."""
        queue = self._state.queues[flow.key.queue]
        if queue.preemption is Preemption.NEVER or record.ask is None:
            return False
        mask = record.ask.mask
        return any(
            group.first.job.priority > record.job.priority and group.ask.mask & mask
            for key, other in self._state.flows.items()
            if key.queue == queue.name and key != flow.key
            for group in other.groups.values()
        )

    def _choose(self, flow: Flow) -> Record | None:
        """The first in order that has room. Whoever is before it is blocked, and told so."""
        if flow.key.queue in self.outcome.limited:
            return None
        best: Record | None = None
        groups = (
            sorted(flow.groups.values(), key=lambda g: g.records[0])
            if len(flow.groups) > 1
            else list(flow.groups.values())
        )
        for group in groups:
            first = group.first
            if best is not None and best.rank < first.rank:
                break
            if self._over_limit(first, group.ask):
                # Head of line: nobody of the queue behind it may use up what it waits for.
                self.outcome.limited[flow.key.queue] = first
                break
            if self._beyond_cap(flow, group.ask):
                continue
            found = self._first_with_room(group)
            if found is not first and self._block(first, group.ask, self._tag):
                found = self._first_with_room(group)
            if found is not None and (best is None or found.rank < best.rank):
                best = found
        return best

    def _over_limit(self, record: Record, ask: Ask) -> bool:
        limit = self._state.queues[record.job.queue].limit
        return limit is not None and self._state.held[record.job.queue] + ask.least > limit

    def _beyond_cap(self, flow: Flow, ask: Ask) -> bool:
        for blocked in self.outcome.blocked:
            if blocked.mask & ask.mask and flow.finish > blocked.start + self._cap:
                self.outcome.capped.setdefault(flow.key, blocked)
                return True
        return False

    def _block(self, record: Record, ask: Ask, start: float) -> bool:
        """Nobody behind may do a blocked job harm. True when GPUs are now reserved for it."""
        # Whoever came by a guarantee may have any tag: it does not stand for those who come by theirs.
        known = self._in_turn if self._in_order else self._covered
        if ask.mask & ~known:
            self.outcome.blocked.append(Blocked(ask.mask & ~known, start, record))
            self._covered |= ask.mask
            self._in_turn |= ask.mask if self._in_order else 0
        if ask.mask & self._carried:
            return False
        reservation = reserve(record.job.uid, ask, self._now)
        if reservation is None:
            return False
        if self._in_order:
            # The turn is taken although nobody starts yet. Whoever begins to wait later comes after it: else
            # newcomers of other flows would use up what is being kept free, and it would have to wait anew.
            self._come_to(ask, start)
        self._carried |= ask.mask
        self.outcome.reservations[record.job.uid] = reservation
        for pool, holds in reservation.parts:
            self._by_pool[pool] = reservation
            pool.set_caps({n: spare(pool.slots[n], gpus, reservation.start) for n, gpus in holds.items()})
        self._windows.clear()
        return True

    def _come_to(self, ask: Ask, tag: float) -> None:
        """The order has come to this start tag, for all kinds that the ask could use."""
        for _, pool in ask.options:
            pool.virtual = max(pool.virtual, tag)

    # -- room ------------------------------------------------------------------------------------------

    def _first_with_room(self, group: Group) -> Record | None:
        window = self._window(group.ask)
        if window < 0:
            return None
        return group.first if window == _EVER else group.first_within(window)

    def _window(self, ask: Ask) -> float:
        """Seconds within which a job with this ask must end to be let in now; negative without room."""
        version = sum(pool.version for _, pool in ask.options)
        known = self._windows.get(ask.number)
        if known is not None and (known[0] == version or known[1] < 0):
            return known[1]
        window = max(self._window_in(ask, shape, pool) for shape, pool in ask.options)
        if window < 0 and ask.mixes and self._find(ask, _EVER, None) is not None:
            window = _EVER
        self._windows[ask.number] = version, window
        return window

    def _window_in(self, ask: Ask, shape: Shape, pool: Pool) -> float:
        reservation = self._by_pool.get(pool)
        pool.show_capped(reservation is not None)
        if pool.find(shape, ask.replicas, ask.scope, ask.mode) is not None:
            return _EVER
        if reservation is None or reservation.start <= self._now:
            return -1.0
        pool.show_capped(False)
        fits = pool.find(shape, ask.replicas, ask.scope, ask.mode) is not None
        return reservation.start - self._now if fits else -1.0

    def _find(self, ask: Ask, seconds: float, limit: int | None) -> _Found | None:
        """Places for all replicas of an ask by somebody who surely ends within so many seconds."""
        for shape, pool in ask.options:
            if limit is not None and shape.gpus * ask.replicas > limit:
                continue
            self._show(pool, seconds)
            found = pool.find(shape, ask.replicas, ask.scope, ask.mode)
            if found is not None:
                return [(shape, pool, names) for names in found]
        return self._find_mixed(ask, seconds, limit) if ask.mixes else None

    def _find_mixed(self, ask: Ask, seconds: float, limit: int | None) -> _Found | None:
        """Places on several kinds, since no single one has room for all replicas."""
        chosen: _Found = []
        for _ in range(ask.replicas):
            for shape, pool in ask.options:
                if limit is not None and shape.gpus > limit:
                    continue
                self._show(pool, seconds)
                found = pool.find(shape, 1, ask.scope, ask.mode)
                if found is not None:
                    chosen.append((shape, pool, found[0]))
                    for name in found[0]:
                        pool.borrow(name, shape.gpus_per_worker)
                    limit = None if limit is None else limit - shape.gpus
                    break
            else:
                break
        for shape, pool, names in reversed(chosen):
            for name in names:
                pool.borrow(name, -shape.gpus_per_worker)
        return chosen if len(chosen) == ask.replicas else None

    def _show(self, pool: Pool, seconds: float) -> None:
        """Show of a pool what somebody who ends within so many seconds may use."""
        reservation = self._by_pool.get(pool)
        pool.show_capped(reservation is not None and not self._now + seconds <= reservation.start)

    # -- starting --------------------------------------------------------------------------------------

    def _start(self, flow: Flow, record: Record) -> bool:
        """Give the record the GPUs of its ask; False when the limit leaves no shape that has room."""
        ask, job = record.ask, record.job
        assert ask is not None
        queue = self._state.queues[job.queue]
        left = None if queue.limit is None else queue.limit - self._state.held[job.queue]
        seconds = record.estimate.conservative
        found = self._find(ask, seconds, left)
        if found is None:
            # Only a smaller shape would do, and it has no room: as if the whole queue waited for its limit.
            self.outcome.limited[job.queue] = record
            return False
        if self._in_order and not ask.mask & self._in_turn:
            self._come_to(ask, self._tag)
        replicas, length = record.replicas, record.estimate.expected
        length = self._state.rules.quantum if job.task_type.serves else length
        charges = [length * self._state.share(shape) for shape, _, _ in found]
        units = []
        for replica, (shape, pool, names), cost in zip(replicas, found, charges, strict=True):
            units.append(self._state.start(record, shape, replica, names, cost))
            reservation = self._by_pool.get(pool)
            if reservation is not None and self._now + seconds > reservation.start:
                for name in names:
                    pool.lower_cap(name, shape.gpus_per_worker)
        self._state.charge(flow, sum(charges))
        self._state.refile(record)
        if self._keep:
            self.outcome.assigns.extend(self._assigns(record, units))
        return True

    def _assigns(self, record: Record, units: list[Unit]) -> list[Assign]:
        """Replicas in one shape are promised together."""
        by_shape: dict[Shape, list[Unit]] = {}
        for unit in units:
            by_shape.setdefault(unit.shape, []).append(unit)
        return [
            Assign(
                key=record.job.key,
                uid=record.job.uid,
                shape=shape,
                placements=tuple(p for unit in same for p in self._placements(unit)),
                charged=sum(unit.charged for unit in same),
                share=sum(unit.share for unit in same),
            )
            for shape, same in by_shape.items()
        ]

    def _placements(self, unit: Unit) -> list[Placement]:
        pool = self._state.pools[kind_id(unit.shape.kind)]
        placements = []
        for worker, (name, gpus, devices) in enumerate(unit.places):
            node = pool.slots[name].node
            placements.append(
                Placement(unit.replica, worker, name, node.selection, gpus, node.resource, devices)
            )
        return placements
