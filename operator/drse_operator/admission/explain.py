"""The sentences of a wait: one dominant reason, its numbers, and what would clear it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from drse_operator.admission.asks import Ask
from drse_operator.admission.decisions import Mention
from drse_operator.admission.pools import FAR, KindId, Pool, kind_id
from drse_operator.admission.reservation import Reservation
from drse_operator.admission.snapshot import Closed, FlowKey, Job, Queue
from drse_operator.api.enums import TopologyMode, TopologyScope
from drse_operator.api.reasons import WaitReason
from drse_operator.api.words import count
from drse_operator.sizing.shapes import Shape


class Verdict(NamedTuple):
    """A typed reason and its sentence, with the other jobs that are named there."""

    reason: WaitReason
    message: str
    mentions: tuple[Mention, ...] = ()


#: Nodes out of service that are named.
_NAMED = 3
_SCOPE_WORDS = {
    TopologyScope.NODE: "node",
    TopologyScope.NVLINK_DOMAIN: "NVLink domain",
    TopologyScope.RACK: "rack",
    TopologyScope.ZONE: "zone",
}


def backing_off(job: Job, now: float) -> Verdict:
    return Verdict(
        WaitReason.BACKING_OFF,
        f"the last attempt failed; the next one starts at {clock(job.not_before, now, seconds=True)}",
    )


def clearing(job: Job) -> Verdict:
    replicas = ", ".join(map(str, sorted(job.clearing)))
    return Verdict(
        WaitReason.BACKING_OFF,
        f"pods of its last attempt (replica {replicas}) are still going away; it goes on when they are gone",
    )


def exceeds_limit(queue: Queue, gpus: int) -> Verdict:
    """``gpus`` counts what the job itself holds and what it asks for now."""
    return Verdict(
        WaitReason.EXCEEDS_QUEUE_LIMIT,
        f"needs {count(gpus, 'GPU')}, but queue {queue.name} never holds more than {queue.limit}: "
        "ask for fewer, or have the limit raised",
    )


def limit_reached(queue: Queue, held: int, gpus: int) -> Verdict:
    return Verdict(
        WaitReason.LIMIT_REACHED,
        f"queue {queue.name} holds {held} of at most {queue.limit} GPUs, {gpus} more are asked for",
    )


def behind_limited(queue: Queue, ahead: Job) -> Verdict:
    return Verdict(
        WaitReason.LIMIT_REACHED,
        f"queue {queue.name} is at its limit of {count(queue.limit or 0, 'GPU')}, and {ahead.key} goes first",
        _names(ahead),
    )


def no_room(job: Job, ask: Ask, closed: Iterable[Closed]) -> Verdict:
    """Why none of the kinds has room for the ask: split up, too far apart, or all held; and what of them is
    out of service."""
    verdicts = (_no_room_for(shape, job, ask.replicas, pool) for shape, pool in ask.options)
    reason, message, _ = min(verdicts, key=_nearness)
    return Verdict(reason, "; ".join((message, *_out_of_service(ask.shapes, closed))))


def reserved(job: Job, ask: Ask, reservation: Reservation, closed: Iterable[Closed], now: float) -> Verdict:
    """The job is next; GPUs are kept for it as soon as their holders are expected to end."""
    reason, lacks, _ = no_room(job, ask, closed)
    if reservation.start >= FAR:
        return Verdict(reason, lacks)
    nodes = sorted({name for _, holds in reservation.parts for name in holds})
    where = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    return Verdict(
        WaitReason.RESERVED,
        f"{lacks}; first in order, GPUs on {where} are reserved for it, expected at "
        f"{clock(reservation.start, now)}",
    )


def waiting_for_turn(ahead: Job, ask: Ask) -> Verdict:
    message = f"{ahead.key} goes first for {_kinds(ask.shapes)}"
    return Verdict(WaitReason.WAITING_FOR_TURN, message, _names(ahead))


def _names(ahead: Job) -> tuple[Mention, ...]:
    return (Mention(ahead.key, ahead.queue),)


def lead_cap(flow: FlowKey, ahead: Job, lead: float) -> Verdict:
    return Verdict(
        WaitReason.LEAD_CAP_REACHED,
        f"{flow.task_type} jobs of queue {flow.queue} have run {duration(lead)} of the cluster ahead of "
        f"{ahead.key}, which goes first now",
        _names(ahead),
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


def clock(at: float, now: float, *, seconds: bool = False) -> str:
    """A time for people who may read it later, e.g. ``17:35 UTC``; with its date unless that is today's."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    date = "" if moment.date() == today.date() else f"{moment:%Y-%m-%d} "
    return f"{date}{moment:{'%H:%M:%S' if seconds else '%H:%M'}} UTC"


def never_fits(job: Job, ask: Ask, pools: Mapping[KindId, Pool], closed: Iterable[Closed]) -> Verdict:
    """The job could not be placed even if all GPUs were free, so nobody waits for it."""
    there = [(shape, pool) for shape in ask.shapes if (pool := pools.get(kind_id(shape.kind))) is not None]
    if there:
        reason, message, _ = min(
            (_no_room_for(shape, job, ask.replicas, pool) for shape, pool in there), key=_nearness
        )
    else:
        reason, message = WaitReason.INSUFFICIENT_FREE_GPUS, f"needs {_ask(ask.shapes[0], ask.replicas)}"
    message = f"{message}; even empty, the nodes in service have no room for it"
    return Verdict(reason, "; ".join((message, *_out_of_service(ask.shapes, closed))))


def _out_of_service(shapes: Sequence[Shape], closed: Iterable[Closed]) -> Iterator[str]:
    """The nodes that the job could use, were they in service, and what to do about them."""
    usable = {kind_id(shape.kind): shape for shape in reversed(shapes)}
    found = [
        one
        for one in closed
        if (shape := usable.get(kind_id(one.kind))) is not None
        and (not one.whole or one.gpus >= shape.gpus_per_worker)
    ]
    found.sort(key=lambda one: (-one.gpus, one.node))
    for one in found[:_NAMED]:
        if one.whole:
            told = f"{one.node} ({count(one.gpus, 'GPU')}) {one.why}"
        else:
            told = f"{count(one.gpus, 'GPU')} of {one.node} {_is(one.gpus)} out of service ({one.why})"
        yield told + (f": {one.remedy}" if one.remedy else "")
    if (more := len(found) - _NAMED) > 0:
        yield f"{count(more, 'more node')} {_is(more)} out of service"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _nearness(verdict: Verdict) -> int:
    """The reason nearest to a start: topology, then fragmentation, then sheer lack of GPUs."""
    order = (WaitReason.TOPOLOGY_UNAVAILABLE, WaitReason.FRAGMENTED, WaitReason.INSUFFICIENT_FREE_GPUS)
    return order.index(verdict[0])


def _no_room_for(shape: Shape, job: Job, replicas: int, pool: Pool) -> Verdict:
    needed = replicas * shape.gpus
    asked = f"needs {_ask(shape, replicas)}"
    free = pool.free
    if free < needed:
        return Verdict(
            WaitReason.INSUFFICIENT_FREE_GPUS,
            f"{asked}; {free} of {pool.capacity} are free",
        )
    block, node = pool.largest_block()
    topology_blocks = job.topology is not None and job.topology_mode is TopologyMode.REQUIRED
    if topology_blocks and pool.workers_that_fit(shape) >= replicas * shape.workers:
        assert job.topology is not None
        word = _SCOPE_WORDS[job.topology]
        return Verdict(
            WaitReason.TOPOLOGY_UNAVAILABLE,
            f"{asked} within one {word}; {free} are free, but no {word} has room for all workers: "
            "topology mode Preferred would start it now",
        )
    return Verdict(
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
