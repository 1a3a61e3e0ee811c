"""What is closed while jobs wait for it: nodes and devices out of service, queues that are cordoned.

A closed node explains no single wait: a job that waits for its turn is told whose turn it is. It is told here
once, with how many GPUs it is and how many waiting jobs could use them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from drse_operator.admission.snapshot import Closed
from drse_operator.api.reasons import WaitReason
from drse_operator.api.words import count
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.gpus import GpuReport, GpuState
from drse_operator.observe.views.queue import must_act
from drse_operator.observe.views.scene import Scene, Waiting, queue_of
from drse_operator.observe.views.suggestions import uncordon_queue

#: Waits that further GPUs would not end.
_NOT_FOR_GPUS = frozenset({WaitReason.LIMIT_REACHED, WaitReason.QUEUE_CORDONED, WaitReason.BACKING_OFF})


class ClosedRow(Row):
    """A node, some devices of it, or a queue, that takes nothing while jobs wait."""

    what: str = Field(description="Node or Queue.")
    name: str
    gpus: int = Field(description="GPUs that nobody can be given; of a queue, those that its jobs lack.")
    waiting_jobs: int = Field(description="Waiting jobs that could use them, or that wait in the queue.")
    says: str = Field(description="What is closed, and for whom, in a sentence.")
    remedy: str = Field(description="The command that opens it again; empty where there is none.")


def closed(scene: Scene, found: GpuReport) -> tuple[ClosedRow, ...]:
    """Nodes by name, then queues; ``found`` are the scene's GPUs. What nobody waits for is left out."""
    return (*_nodes(scene, found), *_queues(scene))


def _nodes(scene: Scene, found: GpuReport) -> Iterator[ClosedRow]:
    if not scene.complete or not scene.snapshot.out_of_service:
        return
    idle: Counter[tuple[str, str]] = Counter()
    for row in found.items:
        if row.state is GpuState.OUT_OF_SERVICE:
            idle[row.node, row.product] += row.count
    waiting = _wanted(scene)
    for piece in sorted(scene.snapshot.out_of_service, key=lambda c: (c.node, c.kind.product)):
        gpus, jobs = idle[piece.node, piece.kind.product], waiting[piece.kind.product]
        if gpus and jobs:
            yield _node(piece, gpus, jobs)


def _node(piece: Closed, gpus: int, jobs: int) -> ClosedRow:
    what = f"{piece.node} {piece.why}" if piece.whole else f"devices of {piece.node} are out of service"
    why = "" if piece.whole else f" ({piece.why})"
    return ClosedRow(
        what="Node",
        name=piece.node,
        gpus=gpus,
        waiting_jobs=jobs,
        says=f"{what}{why}: {count(gpus, 'GPU')} that {count(jobs, 'waiting job')} could use",
        remedy=piece.remedy,
    )


def _wanted(scene: Scene) -> Counter[str]:
    """Waiting jobs by each product that they could use."""
    counts: Counter[str] = Counter()
    for uid, wait in scene.waits.items():
        asking = scene.asking.get(uid)
        if asking is not None and _for_gpus(wait):
            counts.update({shape.kind.product for shape in asking.shapes})
    return counts


def _for_gpus(wait: Waiting) -> bool:
    """Whether further GPUs could end the wait."""
    if wait.reason == WaitReason.TOO_LARGE_FOR_CLUSTER:
        return True
    return wait.reason not in _NOT_FOR_GPUS and not must_act(wait.reason)


def _queues(scene: Scene) -> Iterator[ClosedRow]:
    names = sorted(q.name for q in scene.world.queues.values() if q.spec is not None and q.spec.cordoned)
    for name in names:
        waits = [
            wait
            for wait in scene.waits.values()
            if wait.reason == WaitReason.QUEUE_CORDONED and queue_of(wait.job) == name
        ]
        if waits:
            yield ClosedRow(
                what="Queue",
                name=name,
                gpus=sum(wait.gpus for wait in waits),
                waiting_jobs=len(waits),
                says=f"queue {name} is cordoned: {count(len(waits), 'waiting job')} of it cannot start",
                remedy=uncordon_queue(name),
            )
