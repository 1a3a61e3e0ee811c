"""The sentences of a wait: one dominant reason, its numbers, and what would clear it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drse_operator.admission.inventory import Inventory
from drse_operator.admission.snapshot import Job, Queue
from drse_operator.api.enums import TopologyMode, TopologyScope
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import AcceleratorKind, Shape

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


def no_room(
    job: Job,
    shapes: Sequence[Shape],
    replicas: Sequence[int],
    inventory: Inventory,
    first_waiting: Mapping[AcceleratorKind, Job],
) -> Verdict:
    """Why none of the shapes can be placed: behind others, split up, too far apart, or all held."""
    open_shapes = [shape for shape in shapes if shape.kind not in first_waiting]
    if not open_shapes:
        ahead = first_waiting[shapes[0].kind]
        return (
            WaitReason.WAITING_FOR_TURN,
            f"{ahead.key} goes first for {_kinds(shapes)}: higher priority or earlier",
        )
    verdicts = [_no_room_for(shape, job, replicas, inventory) for shape in open_shapes]
    # The reason nearest to a start: topology, then fragmentation, then sheer lack of GPUs.
    nearest = (WaitReason.TOPOLOGY_UNAVAILABLE, WaitReason.FRAGMENTED, WaitReason.INSUFFICIENT_FREE_GPUS)
    return min(verdicts, key=lambda verdict: nearest.index(verdict[0]))


def never(verdict: Verdict) -> Verdict:
    """The same for a job that could not be placed even if all GPUs were free, so that nobody waits for it."""
    reason, message = verdict
    return reason, f"{message}; even empty, the nodes in service have no room for it"


def _no_room_for(shape: Shape, job: Job, replicas: Sequence[int], inventory: Inventory) -> Verdict:
    needed = len(replicas) * shape.gpus
    asked = f"needs {_ask(shape, len(replicas))}"
    free = inventory.free(shape.kind)
    if free < needed:
        return (
            WaitReason.INSUFFICIENT_FREE_GPUS,
            f"{asked}; {free} of {shape.kind.total} are free",
        )
    block, node = inventory.largest_block(shape.kind)
    topology_blocks = job.topology is not None and job.topology_mode is TopologyMode.REQUIRED
    if topology_blocks and inventory.workers_that_fit(shape) >= len(replicas) * shape.workers:
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
