"""``plan``: one pass over everybody who asks, in order, against what is free.

Order is priority, then age. A job that cannot be placed keeps the kinds of accelerator that it could use
for itself: nobody behind it is given GPUs of those kinds, so that it cannot be overtaken without end.
Jobs that no passing of time would admit (a missing queue, more memory than any GPU has, a gang that no
rack could hold even if it were empty) hold up nobody.
A job's first unit is placed whole or not at all; each further replica is placed on its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from drse_operator.admission import explain
from drse_operator.admission.decisions import Assign, Placement, Plan, Release, ReleaseReason, Wait
from drse_operator.admission.explain import Verdict
from drse_operator.admission.inventory import Inventory
from drse_operator.admission.snapshot import Job, Node, Queue, Snapshot
from drse_operator.api.enums import DeviceSelection, TopologyMode, TopologyScope
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import AcceleratorKind, Shape


def plan(snapshot: Snapshot, now: float) -> Plan:
    """Decide who gets which GPUs at ``now`` (seconds since the epoch), and why the others wait.

    The same snapshot and time always give the same plan. GPUs of released replicas count as held until
    a later snapshot shows them free.
    """
    return _Planner(snapshot, now).run()


def releases(job: Job) -> tuple[Release, ...]:
    """Replicas held beyond what is wanted: those not ready first, then the highest index."""
    surplus = len(job.held_replicas) - (job.wanted - len(job.done))
    if surplus <= 0 or not job.holdings:
        return ()
    ready = {r: all(h.ready for h in job.holdings if h.replica == r) for r in job.held_replicas}
    order = sorted(job.held_replicas, key=lambda r: (ready[r], -r))
    chosen = tuple(sorted(order[:surplus]))
    message = f"{len(job.held_replicas)} replicas held, {job.wanted} wanted"
    return (Release(job.key, job.uid, chosen, ReleaseReason.SCALED_DOWN, message),)


class _Planner:
    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self._snapshot = snapshot
        self._now = now
        self._inventory = Inventory(snapshot.nodes)
        self._held = Counter({name: queue.held for name, queue in snapshot.queues.items()})
        self._granted: Counter[JobKey] = Counter()
        self._assign: list[Assign] = []
        self._wait: list[Wait] = []
        self._position: dict[str, int] = defaultdict(int)
        #: All GPUs as if nobody held any, and what was found to fit then.
        self._empty: Inventory | None = None
        self._fits: dict[tuple[Shape, int, TopologyScope | None, TopologyMode], bool] = {}
        #: First job in order that waits for GPUs of a kind; those behind it may not take that kind.
        self._first_waiting: dict[AcceleratorKind, Job] = {}
        #: First job in order that waits for its queue's limit.
        self._first_limited: dict[str, Job] = {}

    def run(self) -> Plan:
        jobs = self._snapshot.jobs
        holders = sorted((job for job in jobs if job.holdings), key=lambda j: j.order)
        shrink = tuple(release for job in holders for release in releases(job))
        for job in sorted((j for j in jobs if j.lacking), key=lambda j: j.order):
            self._admit(job)
        return Plan(assign=tuple(self._assign), release=shrink, wait=tuple(self._wait))

    def _admit(self, job: Job) -> None:
        """Give the job as many of its lacking replicas as it can have now; the first refusal waits."""
        if job.refusal is not None:
            self._refuse(job, job.lacking, (job.refusal.reason, job.refusal.message))
            return
        if job.not_before > self._now:
            self._refuse(job, job.lacking, explain.backing_off(job, self._now))
            return
        placed = 0
        for replicas in _units(job):
            verdict = self._place(job, replicas)
            if verdict is not None:
                self._refuse(job, job.lacking - placed, verdict)
                return
            placed += len(replicas)
        if placed < job.lacking:
            self._refuse(job, job.lacking - placed, explain.clearing(job))

    def _place(self, job: Job, replicas: Sequence[int]) -> Verdict | None:
        """Take GPUs for the replicas and return None, or return why not."""
        queue = self._snapshot.queues[job.queue]
        gpus = len(replicas) * min(shape.gpus for shape in job.shapes)
        if refused := self._over_limit(job, queue, gpus):
            return refused
        shapes = self._within_limit(job, queue, len(replicas))
        for shape in shapes:
            if shape.kind in self._first_waiting:
                continue
            placements = self._inventory.find(shape, replicas, job.topology, job.topology_mode)
            if placements is not None:
                self._take(job, shape, placements)
                return None
        if _may_mix(job, replicas) and self._place_mixed(job, replicas, queue):
            return None
        return self._blocked(job, shapes, replicas)

    def _place_mixed(self, job: Job, replicas: Sequence[int], queue: Queue) -> bool:
        """Place the replicas of a service on several kinds, since no single one has room for all of them."""
        chosen: list[tuple[Shape, tuple[Placement, ...]]] = []
        room = None if queue.limit is None else queue.limit - self._held[queue.name]
        for replica in replicas:
            found = self._first_fit(job, replica, room)
            if found is None:
                for shape, placements in chosen:
                    self._inventory.give_back(shape.kind, placements)
                return False
            chosen.append(found)
            self._inventory.take(found[0].kind, found[1])
            room = None if room is None else room - found[0].gpus
        for shape, placements in chosen:
            self._inventory.give_back(shape.kind, placements)
            self._take(job, shape, placements)
        return True

    def _first_fit(
        self, job: Job, replica: int, room: int | None
    ) -> tuple[Shape, tuple[Placement, ...]] | None:
        for shape in job.shapes:
            if shape.kind in self._first_waiting or (room is not None and shape.gpus > room):
                continue
            placements = self._inventory.find(shape, (replica,), job.topology, job.topology_mode)
            if placements is not None:
                return shape, placements
        return None

    def _take(self, job: Job, shape: Shape, placements: tuple[Placement, ...]) -> None:
        self._inventory.take(shape.kind, placements)
        gpus = sum(p.count for p in placements)
        self._held[job.queue] += gpus
        self._granted[job.key] += gpus
        self._assign.append(Assign(job.key, job.uid, shape, placements))

    def _over_limit(self, job: Job, queue: Queue, gpus: int) -> Verdict | None:
        """Why the queue's limit forbids even the smallest shape, or None."""
        if queue.limit is None:
            return None
        own = sum(holding.count for holding in job.holdings) + self._granted[job.key]
        if own + gpus > queue.limit:
            return explain.exceeds_limit(queue, own + gpus)
        ahead = self._first_limited.get(queue.name)
        if ahead is not None:
            return explain.behind_limited(queue, ahead)
        if self._held[queue.name] + gpus > queue.limit:
            self._first_limited[queue.name] = job
            return explain.limit_reached(queue, self._held[queue.name], gpus)
        return None

    def _within_limit(self, job: Job, queue: Queue, replicas: int) -> tuple[Shape, ...]:
        """Shapes that the queue's limit leaves room for."""
        if queue.limit is None:
            return job.shapes
        left = queue.limit - self._held[queue.name]
        return tuple(shape for shape in job.shapes if replicas * shape.gpus <= left)

    def _blocked(self, job: Job, shapes: Sequence[Shape], replicas: Sequence[int]) -> Verdict:
        """Why no shape fits, and from now on the kinds that it waits for are kept for it."""
        together = 1 if _may_mix(job, replicas) else len(replicas)
        possible = [shape for shape in shapes if self._fits_when_empty(job, shape, together)]
        if not possible:
            return explain.never(explain.no_room(job, shapes, replicas, self._inventory, {}))
        verdict = explain.no_room(job, shapes, replicas, self._inventory, self._first_waiting)
        for shape in possible:
            self._first_waiting.setdefault(shape.kind, job)
        return verdict

    def _fits_when_empty(self, job: Job, shape: Shape, replicas: int) -> bool:
        """Whether the mere passing of time, the end of every holder, could make room."""
        asked = (shape, replicas, job.topology, job.topology_mode)
        if asked not in self._fits:
            if self._empty is None:
                self._empty = Inventory(_emptied(node) for node in self._snapshot.nodes)
            found = self._empty.find(shape, range(replicas), job.topology, job.topology_mode)
            self._fits[asked] = found is not None
        return self._fits[asked]

    def _refuse(self, job: Job, replicas: int, verdict: Verdict) -> None:
        """``replicas`` of the job wait."""
        reason, message = verdict
        position = None
        if not reason.user_must_act:
            self._position[job.queue] += 1
            position = self._position[job.queue]
        gpus = replicas * min((s.gpus for s in job.shapes), default=0)
        self._wait.append(Wait(job.key, job.uid, reason, message, position, gpus))


def _units(job: Job) -> Iterator[tuple[int, ...]]:
    """Replicas to place together: what is missing of the first unit, then one by one.

    Nothing while a part of the first unit is still being cleared away: the rest alone would be half a unit.
    """
    missing = job.missing
    first = min(max(0, job.first_unit - len(job.held_replicas) - len(job.done)), job.lacking)
    if first > len(missing):
        return
    if first:
        yield missing[:first]
    for replica in missing[first:]:
        yield (replica,)


def _may_mix(job: Job, replicas: Sequence[int]) -> bool:
    """Replicas of a service do not talk to each other, so each may be of another kind."""
    return len(replicas) > 1 and job.task_type.serves


def _emptied(node: Node) -> Node:
    """The node as if nobody held any of its GPUs; which ones they are does not matter."""
    return replace(node, free_count=node.capacity, free=(), selection=DeviceSelection.COUNT_ONLY)


def waiting_by_job(plan_: Plan) -> dict[JobKey, Wait]:
    """The waits of a plan by job."""
    return {wait.key: wait for wait in plan_.wait}
