"""What a forward run of the engine expects: who starts when, who ends when, on what GPUs and by what rights.

The forward run assumes that holders end as expected and that nobody else arrives. Two outlooks of different
times tell what has come otherwise (``admission.moves``), so an outlook keeps all that a start depends on, and
nothing that grows with the number of jobs that wait: only those that the run has reached.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from drse_operator.admission.decisions import Assign
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES, Engine
from drse_operator.admission.flows import Record
from drse_operator.admission.ledger import Rules
from drse_operator.admission.pools import FAR, KindId, kind_id
from drse_operator.admission.snapshot import Queue, Snapshot
from drse_operator.admission.state import State
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import Shape

#: Events that a forward run looks at.
STEPS = 2000


@dataclass(frozen=True, slots=True)
class Turn:
    """A job that waits: it is the ``place``-th to start, at ``start``, and holds ``gpus`` for ``seconds``
    (infinite for services). ``kinds`` are those that it could use."""

    key: JobKey
    queue: str
    queued_at: float
    place: int
    start: float
    gpus: int
    seconds: float
    kinds: frozenset[KindId]


@dataclass(frozen=True, slots=True)
class Stay:
    """A job that holds ``gpus`` of ``kinds`` since ``since``, the last of them until ``end``."""

    key: JobKey
    queue: str
    queued_at: float
    since: float
    end: float
    gpus: int
    kinds: frozenset[KindId]


@dataclass(frozen=True, slots=True)
class Outlook:
    """The future as of ``at``. All times are seconds since the epoch.

    ``turns`` and ``stays`` are by uid. ``gpus`` counts, by node and kind, those in service that no stranger
    holds. ``queues`` hold nothing: only their rights matter here. ``corrections`` says by queue what factor
    an expected wait was told with.
    """

    at: float
    turns: Mapping[str, Turn] = field(default_factory=dict)
    stays: Mapping[str, Stay] = field(default_factory=dict)
    gpus: Mapping[tuple[str, KindId], int] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    corrections: Mapping[str, float] = field(default_factory=dict)


def look_ahead(
    snapshot: Snapshot,
    now: float,
    asked: Collection[str],
    rules: Rules = DEFAULT_RULES,
    durations: Durations | None = None,
    steps: int = STEPS,
) -> Outlook:
    """What is expected at ``now``, as far as ``steps`` events reach or until all jobs ``asked`` have
    started."""
    engine = Engine.of(snapshot, now, rules, durations)
    kinds = _Kinds()
    stays = {uid: _stay(record, now, kinds) for uid, record in engine.state.records.items() if record.units}
    gpus = {
        (slot.name, pool.id): slot.node.capacity - slot.foreign
        for pool in engine.state.pools.values()
        for slot in pool.slots.values()
    }
    turns: dict[str, Turn] = {}
    for start, assign in starts(engine, now, asked, steps):
        if assign.uid not in turns:
            record = engine.state.records[assign.uid]
            turns[assign.uid] = _turn(assign, record, start, len(turns), kinds)
    return Outlook(
        now,
        turns,
        stays,
        gpus,
        {name: replace(queue, held=0) for name, queue in snapshot.queues.items()},
    )


def starts(
    engine: Engine, now: float, asked: Collection[str], steps: int = STEPS
) -> Iterator[tuple[float, Assign]]:
    """Run the engine forward: each start with its time, until all that are asked have started."""
    ends: list[tuple[float, str, int]] = []
    for uid, record in engine.state.records.items():
        for replica, unit in record.units.items():
            heapq.heappush(ends, (_end(unit.since, unit.end, now), uid, replica))
    missing = set(asked)
    for _ in range(steps):
        for assign in engine.decide(now).assigns:
            missing.discard(assign.uid)
            record = engine.state.records[assign.uid]
            end = FAR if record.job.task_type.serves else now + max(1.0, record.estimate.expected)
            for replica in {placement.replica for placement in assign.placements}:
                heapq.heappush(ends, (end, assign.uid, replica))
            yield now, assign
        if not missing or not ends or ends[0][0] >= FAR:
            return
        now = ends[0][0]
        engine.state.advance(now)
        while ends and ends[0][0] <= now:
            _, uid, replica = heapq.heappop(ends)
            _replica_over(engine.state, uid, replica)


def _replica_over(state: State, uid: str, replica: int) -> None:
    """A replica ends, and with the last one that the job wants the job: as reservations have it, too."""
    record = state.records[uid]
    if len(record.units) > 1 or record.lacking:
        state.replica_ended(uid, replica)
    else:
        state.drop_job(uid)


def _end(since: float, end: float, now: float) -> float:
    """When a holder ends; one that should have ended by now takes twice as long as it has."""
    return end if end > now else now + (now - since)


class _Kinds:
    """Kinds of shapes; many jobs have the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[Shape, ...], frozenset[KindId]] = {}

    def of(self, shapes: tuple[Shape, ...]) -> frozenset[KindId]:
        found = self._known.get(shapes)
        if found is None:
            found = self._known[shapes] = frozenset(kind_id(shape.kind) for shape in shapes)
        return found


def _stay(record: Record, now: float, kinds: _Kinds) -> Stay:
    units = record.units.values()
    return Stay(
        record.job.key,
        record.job.queue,
        record.job.queued_at,
        min(unit.since for unit in units),
        max(_end(unit.since, unit.end, now) for unit in units),
        sum(unit.gpus for unit in units),
        kinds.of(tuple(unit.shape for unit in units)),
    )


def _turn(assign: Assign, record: Record, start: float, place: int, kinds: _Kinds) -> Turn:
    job = record.job
    gpus = sum(placement.count for placement in assign.placements)
    seconds = record.estimate.expected
    return Turn(job.key, job.queue, job.queued_at, place, start, gpus, seconds, kinds.of(job.shapes))
