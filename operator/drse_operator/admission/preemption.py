"""Who gives way: the cheapest set of running work that makes room for somebody who has a right to it.

Two rights exist. A queue whose waiting job stays within ``guaranteed`` takes GPUs back from queues that
hold more than theirs, and only what exceeds it. In a queue with ``preemption: LowerPriority`` a job takes
GPUs from jobs of the same queue with a lower priority. Neither can go in circles: whoever is taken from has
no such right against the taker, and a job that has been preempted preempts nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from drse_operator.admission.asks import Ask
from drse_operator.admission.decisions import Mention, Release, ReleaseReason
from drse_operator.admission.dispatch import Outcome, Pass
from drse_operator.admission.flows import Record, Unit
from drse_operator.admission.persistence import restore, snapshot
from drse_operator.admission.pools import Pool, kind_id
from drse_operator.admission.snapshot import Preemption
from drse_operator.admission.state import State
from drse_operator.sizing.shapes import Shape


@dataclass(frozen=True, slots=True)
class Victim:
    """Replicas that can only be taken together, and the GPU-seconds of work that would be lost."""

    record: Record
    units: tuple[Unit, ...]
    lost: float

    @property
    def gpus(self) -> int:
        """GPUs that come free."""
        return sum(unit.gpus for unit in self.units)


def preempt(state: State, outcome: Outcome, now: float) -> tuple[Release, ...]:
    """Releases that make room for one waiting job; none while earlier ones are still being cleared away."""
    if state.vacating or state.clearing:
        return ()
    for record in _heads(state, outcome):
        chosen = _choose(state, record, now)
        if chosen and _pays_off(state, chosen, record, now):
            state.vacating.update((v.record.job.uid, u.replica) for v in chosen for u in v.units)
            return tuple(_release(v, record) for v in chosen)
    return ()


def _pays_off(state: State, victims: list[Victim], taker: Record, now: float) -> bool:
    """Whether the taker really starts when the victims are gone. GPUs that would go to somebody else, or back
    to the victims, are not taken: this is what keeps preemption from going in circles."""
    trial = State(state.rules, now)
    trial.durations = state.durations
    restore(trial, snapshot(state), now)
    for victim in victims:
        for unit in victim.units:
            trial.replica_vacated(victim.record.job.uid, unit.replica)
    trial.advance(now)
    started = Pass(trial, now).run().assigns
    return any(assign.uid == taker.job.uid for assign in started)


def _heads(state: State, outcome: Outcome) -> Iterator[Record]:
    """The first of each flow that has a right to take, by start tag."""
    for flow in sorted((f for f in state.flows.values() if f.groups), key=lambda f: (f.finish, f.key)):
        head, queue = flow.head, state.queues[flow.key.queue]
        may = queue.guaranteed > 0 or queue.preemption is not Preemption.NEVER
        # Only who is first in order takes: what comes free would go to whoever is before the others.
        if may and not head.job.preempted and head.job.uid in outcome.reservations:
            yield head


def _choose(state: State, record: Record, now: float) -> list[Victim]:
    """The cheapest sufficient set for one of the record's shapes: lower priority first, then least lost."""
    ask = record.ask
    assert ask is not None
    best: list[Victim] = []
    for shape, pool in ask.options:
        victims = _sufficient(state, record, ask, shape, pool, now)
        if victims and (not best or sum(v.lost for v in victims) < sum(v.lost for v in best)):
            best = victims
    return best


def _sufficient(state: State, record: Record, ask: Ask, shape: Shape, pool: Pool, now: float) -> list[Victim]:
    candidates = sorted(
        (v for v in _victims(state, record, now) if all(kind_id(u.shape.kind) == pool.id for u in v.units)),
        key=lambda v: (v.record.job.priority, v.lost, v.record.job.key, -v.units[0].replica),
    )
    spare = Counter({q.name: state.held[q.name] - q.guaranteed for q in state.queues.values()})
    taken: list[Victim] = []
    for victim in candidates:
        if victim.record.job.queue != record.job.queue:
            if spare[victim.record.job.queue] < victim.gpus:
                continue
            spare[victim.record.job.queue] -= victim.gpus
        taken.append(victim)
        if _fits_without(taken, ask, shape, pool):
            break
    else:
        return []
    for victim in list(taken):
        rest = [v for v in taken if v is not victim]
        if _fits_without(rest, ask, shape, pool):
            taken = rest
    return taken


def _fits_without(victims: list[Victim], ask: Ask, shape: Shape, pool: Pool) -> bool:
    units = [unit for victim in victims for unit in victim.units]
    places = [(name, gpus) for unit in units for name, gpus, _ in unit.places if name in pool.slots]
    for name, gpus in places:
        pool.borrow(name, -gpus)
    fits = pool.find(shape, ask.replicas, ask.scope, ask.mode) is not None
    for name, gpus in places:
        pool.borrow(name, gpus)
    return fits


def _victims(state: State, record: Record, now: float) -> Iterator[Victim]:
    """Everything that the record has a right to take."""
    job, queue, ask = record.job, state.queues[record.job.queue], record.ask
    assert ask is not None
    reclaims = state.held[queue.name] + ask.least <= queue.guaranteed
    outranks = queue.preemption is Preemption.LOWER_PRIORITY
    for other in state.records.values():
        theirs = state.queues.get(other.job.queue)
        if not other.units or theirs is None:
            continue
        same = other.job.queue == queue.name
        if (same and outranks and other.job.priority < job.priority) or (not same and reclaims):
            yield from _parts(other, theirs.min_runtime, now)


def _parts(record: Record, min_runtime: float, now: float) -> Iterator[Victim]:
    """A service's replicas beyond its first unit one by one, everything else of a job together."""
    units = [record.units[replica] for replica in sorted(record.units)]
    alone = units[max(1, record.job.first_unit) :] if record.job.task_type.serves else []
    together = units[: len(units) - len(alone)]
    for part in (*((unit,) for unit in reversed(alone)), *((tuple(together),) if not alone else ())):
        if all(now - unit.since >= min_runtime for unit in part):
            yield Victim(record, part, sum((now - unit.since) * unit.gpus for unit in part))


def _release(victim: Victim, taker: Record) -> Release:
    job = victim.record.job
    replicas = tuple(sorted(unit.replica for unit in victim.units))
    right = "its queue's guarantee" if job.queue != taker.job.queue else "a higher priority"
    go = "GPU goes" if victim.gpus == 1 else "GPUs go"
    message = f"{victim.gpus} {go} to {taker.job.key}, which has {right}"
    named = (Mention(taker.job.key, taker.job.queue),)
    return Release(job.key, job.uid, replicas, ReleaseReason.PREEMPTED, message, taker.job.key, named)
