"""The sentences of a wait: one dominant reason, its numbers, and what would clear it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drse_operator.admission.asks import Ask
from drse_operator.admission.pools import FAR, KindId, Pool, kind_id
from drse_operator.admission.reservation import Reservation
from drse_operator.admission.snapshot import FlowKey, Job, Queue
from drse_operator.api.enums import TopologyMode, TopologyScope
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import Shape

Verdict = tuple[WaitReason, str]

_SCOPE_WORDS = {
    TopologyScope.NODE: "node",
    TopologyScope.NVLINK_DOMAIN: "NVLink domain",
    TopologyScope.RACK: "rack",
    TopologyScope.ZONE: "zone",
}


def backing_off(job: Job, now: float) -> Verdict:
    return (
        WaitReason.BACKING_OFF,
        f"the last attempt failed; the next one starts in {job.not_before - now:.0f} s",
    )


def clearing(job: Job) -> Verdict:
    replicas = ", ".join(map(str, sorted(job.clearing)))
    return (
        WaitReason.BACKING_OFF,
        f"pods of its last attempt (replica {replicas}) are still going away; it goes on when they are gone",
    )


def exceeds_limit(queue: Queue, gpus: int) -> Verdict:
    """``gpus`` counts what the job itself holds and what it asks for now."""
    return (
        WaitReason.EXCEEDS_QUEUE_LIMIT,
        f"needs {gpus} GPUs, but queue {queue.name} never holds more than {queue.limit}: "
        "ask for fewer, or have the limit raised",
    )


def limit_reached(queue: Queue, held: int, gpus: int) -> Verdict:
    return (
        WaitReason.LIMIT_REACHED,
        f"queue {queue.name} holds {held} of at most {queue.limit} GPUs, {gpus} more are asked for",
    )


def behind_limited(queue: Queue, ahead: Job) -> Verdict:
    return (
        WaitReason.LIMIT_REACHED,
        f"queue {queue.name} is at its limit of {queue.limit} GPUs, and {ahead.key} goes first",
    )


def no_room(job: Job, ask: Ask) -> Verdict:
    """Why none of the kinds has room for the ask: split up, too far apart, or all held."""
    verdicts = (_no_room_for(shape, job, ask.replicas, pool) for shape, pool in ask.options)
    return min(verdicts, key=_nearness)


def reserved(job: Job, ask: Ask, reservation: Reservation, now: float) -> Verdict:
    """The job is next; GPUs are kept for it as soon as their holders are expected to end."""
    reason, lacks = no_room(job, ask)
    if reservation.start >= FAR:
        return reason, lacks
    nodes = sorted({name for _, holds in reservation.parts for name in holds})
    where = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    return (
        WaitReason.RESERVED,
        f"{lacks}; first in order, GPUs on {where} are reserved for it, expected "
        f"{duration(reservation.start - now)} from now",
    )


def waiting_for_turn(ahead: Job, ask: Ask) -> Verdict:
    return WaitReason.WAITING_FOR_TURN, f"{ahead.key} goes first for {_kinds(ask.shapes)}"


def lead_cap(flow: FlowKey, ahead: Job, lead: float) -> Verdict:
    return (
        WaitReason.LEAD_CAP_REACHED,
        f"{flow.task_type} jobs of queue {flow.queue} have run {duration(lead)} of the cluster ahead of "
        f"{ahead.key}, which goes first now",
    )


def duration(seconds: float) -> str:
    """Seconds for people, e.g. ``2 h 5 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(0.0, seconds):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def never_fits(job: Job, ask: Ask, pools: Mapping[KindId, Pool]) -> Verdict:
    """The job could not be placed even if all GPUs were free, so nobody waits for it."""
    there = [(shape, pool) for shape in ask.shapes if (pool := pools.get(kind_id(shape.kind))) is not None]
    if there:
        reason, message = min(
            (_no_room_for(shape, job, ask.replicas, pool) for shape, pool in there), key=_nearness
        )
    else:
        reason, message = WaitReason.INSUFFICIENT_FREE_GPUS, f"needs {_ask(ask.shapes[0], ask.replicas)}"
    return reason, f"{message}; even empty, the nodes in service have no room for it"


def _nearness(verdict: Verdict) -> int:
    """The reason nearest to a start: topology, then fragmentation, then sheer lack of GPUs."""
    order = (WaitReason.TOPOLOGY_UNAVAILABLE, WaitReason.FRAGMENTED, WaitReason.INSUFFICIENT_FREE_GPUS)
    return order.index(verdict[0])


def _no_room_for(shape: Shape, job: Job, replicas: int, pool: Pool) -> Verdict:
    needed = replicas * shape.gpus
    asked = f"needs {_ask(shape, replicas)}"
    free = pool.free
    if free < needed:
        return (
            WaitReason.INSUFFICIENT_FREE_GPUS,
            f"{asked}; {free} of {shape.kind.total} are free",
        )
    block, node = pool.largest_block()
    topology_blocks = job.topology is not None and job.topology_mode is TopologyMode.REQUIRED
    if topology_blocks and pool.workers_that_fit(shape) >= replicas * shape.workers:
        assert job.topology is not None
        word = _SCOPE_WORDS[job.topology]
        return (
            WaitReason.TOPOLOGY_UNAVAILABLE,
            f"{asked} within one {word}; {free} are free, but no {word} has room for all workers: "
            "topology mode Preferred would start it now",
        )
    return (
        WaitReason.FRAGMENTED,
        f"{asked}; {free} are free, but the largest block on one node is {block}"
        + (f" ({node})" if node else ""),
    )


def _ask(shape: Shape, replicas: int) -> str:
    per_worker = f"{shape.gpus_per_worker} x {shape.kind.product} on one node"
    workers = replicas * shape.workers
    return per_worker if workers == 1 else f"{workers} times {per_worker}"


def _kinds(shapes: Sequence[Shape]) -> str:
    return " or ".join(dict.fromkeys(shape.kind.product for shape in shapes))
