"""Why a job waits: the reason with its numbers, what is in its way, until when, and what would help."""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from drse_operator.admission.pools import FAR, Pool, kind_id
from drse_operator.admission.snapshot import Job as Asking
from drse_operator.api.keys import JobKey
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.gpus import free_at
from drse_operator.observe.views.nodes import reserved
from drse_operator.observe.views.queue import EtaMove, moved, must_act, queued
from drse_operator.observe.views.scene import Scene, Waiting, queue_of
from drse_operator.observe.views.suggestions import Suggestion, suggestions
from drse_operator.observe.views.whatif import victims_of
from drse_operator.workloads.observed import Job

#: Holders and jobs ahead that are named.
_NAMED = 8


class Room(Row):
    """GPUs of a kind that the job could use."""

    product: str
    needed_gpus: int = Field(description="What the job asks for at once, on this kind.")
    free_gpus: int
    capacity_gpus: int
    largest_block_gpus: int = Field(
        description="Most GPUs on one node that it could be given now: free, and not reserved by another job."
    )
    largest_block_node: str


class Holder(Row):
    """A job that holds GPUs of such a kind."""

    namespace: str | None
    job: str | None = Field(description="Null when it may not be named to the reader.")
    queue: str | None
    gpus: int
    nodes: tuple[str, ...]
    free_at: Instant | None = Field(description="Expected end; null for services.")


class Ahead(Row):
    """A job of the same queue that goes first."""

    namespace: str | None
    job: str | None
    gpus: int
    reason: str


class Reservation(Row):
    """GPUs that are kept for the job."""

    start: Instant | None = Field(
        description="When its GPUs are expected to be free; null when not in sight."
    )
    nodes: dict[str, int] = Field(description="GPUs by node.")


class WhyReport(Report):
    """One job, and why it does or does not hold the GPUs that it asks for."""

    namespace: str
    job: str
    queue: str
    state: str
    held_gpus: int
    held_on: tuple[str, ...]
    reason: str | None = Field(description="Typed reason of the wait; null when it does not wait.")
    says: str = Field(description="The reason with its numbers, or where the job runs.")
    must_act: bool
    position: int | None
    lacking_gpus: int
    queued_at: Instant
    waited_seconds: float
    eta_p50: Instant | None
    eta_p90: Instant | None
    moved: EtaMove | None = Field(description="Last move of the expected start; null while there was none.")
    eta_judged: int = Field(description="Jobs of the queue that were told a start and have started.")
    eta_kept_ratio: float | None = Field(description="Share of them that started within the range told.")
    room: tuple[Room, ...]
    holders: tuple[Holder, ...] = Field(description="Who holds what it could use, soonest end first.")
    ahead: tuple[Ahead, ...]
    ahead_jobs: int
    ahead_gpus: int
    reservation: Reservation | None
    preempts: tuple[str, ...] = Field(description="Jobs that give way to it in the next plan.")
    suggestions: tuple[Suggestion, ...] = Field(description="What would let it start now, tried out.")


def why(scene: Scene, key: JobKey, suggest: bool = True) -> WhyReport:
    """All about the wait of one job. Raises UnknownJobError."""
    job = scene.job(key)
    wait = scene.waits.get(job.uid)
    asking = scene.asking.get(job.uid) if scene.complete else None
    eta = scene.etas([job.uid]).get(job.uid) if wait is not None and not must_act(wait.reason) else None
    before = _before(scene, job, wait)
    queued_at = queued(job)
    judged, kept = _hit_rate(scene, job)
    waits = wait is not None and asking is not None
    return WhyReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        namespace=key.namespace,
        job=key.name,
        queue=queue_of(job),
        state=job.status.phase or "Queued",
        held_gpus=sum(a.count for a in job.status.assignments),
        held_on=tuple(dict.fromkeys(a.node for a in job.status.assignments)),
        reason=None if wait is None else wait.reason,
        says=_runs(scene, job) if wait is None else wait.message,
        must_act=wait is not None and must_act(wait.reason),
        position=None if wait is None else wait.position,
        lacking_gpus=0 if wait is None else wait.gpus,
        queued_at=instant(queued_at),
        waited_seconds=0.0 if wait is None else round(max(0.0, scene.now - queued_at), 1),
        eta_p50=instant_or_none(None if eta is None else eta.p50),
        eta_p90=instant_or_none(None if eta is None else eta.p90),
        moved=None if eta is None else moved(job),
        eta_judged=judged,
        eta_kept_ratio=kept,
        room=_room(scene, asking) if waits and asking is not None else (),
        holders=_holders(scene, asking) if waits and asking is not None else (),
        ahead=tuple(_ahead(scene, other) for other in before[:_NAMED]),
        ahead_jobs=len(before),
        ahead_gpus=sum(other.gpus for other in before),
        reservation=_reservation(scene, job) if waits else None,
        preempts=tuple(str(victim) for victim in victims_of(scene, job) if scene.may_name(victim)),
        suggestions=suggestions(scene, job) if suggest else (),
    )


def _hit_rate(scene: Scene, job: Job) -> tuple[int, float | None]:
    """Starts of the queue's jobs that were judged, and the share that came within the range told."""
    queue = scene.world.queues.get("", queue_of(job))
    told = None if queue is None else queue.status.told
    if told is None or not told.judged:
        return 0, None
    return told.judged, told.kept / told.judged


def _runs(scene: Scene, job: Job) -> str:
    """What a job that does not wait is doing."""
    if job.invalid:
        return job.invalid
    if job.uid in scene.starting:
        return "it is given its GPUs just now"
    if job.spec is not None and job.spec.suspend:
        return "it is held: spec.suspend is true; drse release lets it queue again"
    if job.status.phase is not None and job.status.phase.finished:
        ended = next((c.message for c in job.status.conditions if c.type in ("Complete", "Failed")), "")
        return f"it has finished: {ended}" if ended else "it has finished"
    if job.status.assignments:
        nodes = dict.fromkeys(a.node for a in job.status.assignments)
        return f"it holds the {job.status.gpus} GPUs that it asks for, on {', '.join(nodes)}"
    return "it asks for no GPUs, or the operator has not seen it yet"


def _before(scene: Scene, job: Job, wait: Waiting | None) -> list[Waiting]:
    """Waiting jobs of the same queue that go first."""
    if wait is None or wait.position is None:
        return []
    queue = queue_of(job)
    return [
        other
        for other in scene.waits.values()
        if other.position is not None and other.position < wait.position and queue_of(other.job) == queue
    ]


def _ahead(scene: Scene, other: Waiting) -> Ahead:
    named = scene.may_name(other.job.key)
    return Ahead(
        namespace=other.job.key.namespace if named else None,
        job=other.job.key.name if named else None,
        gpus=other.gpus,
        reason=other.reason,
    )


def _room(scene: Scene, asking: Asking) -> tuple[Room, ...]:
    """What is left of the kinds after the next plan, for which the reason counts too."""
    rooms = []
    at_once = max(1, min(asking.lacking, asking.first_unit))
    kept = reserved(scene, besides=asking.uid)
    for shape in asking.shapes:
        pool = scene.settled.engine.state.pools.get(kind_id(shape.kind))
        block, node = (0, "") if pool is None else _largest_block(pool, kept)
        rooms.append(
            Room(
                product=shape.kind.product,
                needed_gpus=shape.gpus * at_once,
                free_gpus=0 if pool is None else pool.free,
                capacity_gpus=0 if pool is None else sum(s.node.capacity for s in pool.slots.values()),
                largest_block_gpus=block,
                largest_block_node=node if block else "",
            )
        )
    return tuple(rooms)


def _largest_block(pool: Pool, kept: Counter[tuple[str, str]]) -> tuple[int, str]:
    """Most GPUs that one worker could be given on a node, where others keep some, and the node's name."""
    product = pool.kind.product
    blocks = ((max(0, slot.shown - kept[name, product]), name) for name, slot in pool.slots.items())
    return min(blocks, key=lambda block: (-block[0], block[1]), default=(0, ""))


def _holders(scene: Scene, asking: Asking) -> tuple[Holder, ...]:
    """Who holds GPUs of the kinds that the job could use; the job itself left out."""
    usable = {shape.kind.product for shape in asking.shapes}
    found = []
    for job in scene.world.all_jobs():
        held = [a for a in job.status.assignments if a.product in usable]
        if not held or job.uid == asking.uid:
            continue
        ends = [free_at(scene, job, a.replica) for a in held]
        known = [end for end in ends if end is not None]
        named = scene.may_name(job.key)
        found.append(
            Holder(
                namespace=job.key.namespace if named else None,
                job=job.key.name if named else None,
                queue=queue_of(job) if named else None,
                gpus=sum(a.count for a in held),
                nodes=tuple(dict.fromkeys(a.node for a in held)),
                free_at=max(known) if len(known) == len(ends) else None,
            )
        )
    found.sort(key=lambda h: (h.free_at is None, h.free_at and h.free_at.timestamp(), h.namespace or ""))
    return tuple(found[:_NAMED])


def _reservation(scene: Scene, job: Job) -> Reservation | None:
    found = scene.settled.outcome.reservations.get(job.uid)
    if found is None:
        return None
    nodes = {name: gpus for _, holds in found.parts for name, gpus in holds.items()}
    return Reservation(start=None if found.start >= FAR else instant(found.start), nodes=nodes)
