"""What a job asks for at a time, and whether the cluster could hold it at all."""

from __future__ import annotations

from collections import Counter

from drse_operator.admission.asks import Ask
from drse_operator.admission.decisions import Release, ReleaseReason
from drse_operator.admission.pools import Pool
from drse_operator.admission.snapshot import Job
from drse_operator.api.enums import TopologyMode
from drse_operator.sizing.shapes import Shape


def next_unit(job: Job) -> tuple[int, ...]:
    """Replicas to place together next: what is missing of the first unit, else the first that is missing.

    Nothing while a part of the first unit is still being cleared away: the rest alone would be half a unit.
    """
    missing = job.missing
    first = min(max(0, job.first_unit - len(job.held_replicas) - len(job.done)), job.lacking)
    if first > len(missing):
        return ()
    return missing[: first or 1]


def gpus_asked(job: Job) -> int:
    """GPUs of all replicas that a job wants, in its smallest shape."""
    return max(1, job.wanted * min((s.gpus for s in job.shapes), default=1))


def could_hold(pool: Pool, shape: Shape, replicas: int, ask: Ask) -> bool:
    """Whether the nodes of a pool would have room if nobody held any of their GPUs.

    All workers are alike, so counting is exact: a node takes ``capacity // gpus_per_worker`` of them.
    """
    together = ask.mode is TopologyMode.REQUIRED and shape.workers > 1
    workers: Counter[str] = Counter()
    for slot in pool.slots.values():
        domain = slot.node.domain(ask.scope) if together and ask.scope is not None else ""
        workers[domain] += slot.node.capacity // shape.gpus_per_worker
    return sum(n // shape.workers for n in workers.values()) >= replicas


def scale_down(job: Job) -> tuple[Release, ...]:
    """Replicas held beyond what is wanted: those not ready first, then the highest index."""
    surplus = len(job.held_replicas) - (job.wanted - len(job.done))
    if surplus <= 0 or not job.holdings:
        return ()
    ready = {r: all(h.ready for h in job.holdings if h.replica == r) for r in job.held_replicas}
    order = sorted(job.held_replicas, key=lambda r: (ready[r], -r))
    chosen = tuple(sorted(order[:surplus]))
    message = f"{len(job.held_replicas)} replicas held, {job.wanted} wanted"
    return (Release(job.key, job.uid, chosen, ReleaseReason.SCALED_DOWN, message),)
