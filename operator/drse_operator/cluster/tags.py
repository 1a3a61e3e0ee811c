"""Between the memory of admission and the statuses that it is kept in: see ``api.memory``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from drse_operator.admission import decisions
from drse_operator.admission.decisions import Memory, Moved, Told
from drse_operator.admission.eta import Calibration
from drse_operator.admission.recall import Written
from drse_operator.admission.snapshot import Ended, FlowState, Learned
from drse_operator.admission.snapshot import Mark as Place
from drse_operator.api import times
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.api.memory import FlowStatus, Ghost, KindTime, LearnedRuns, Mark, Ran, ToldStarts
from drse_operator.api.reasons import MoveReason
from drse_operator.api.status import Eta, FirstEta, MovedEta
from drse_operator.api.types import seconds
from drse_operator.workloads.observed import Job

#: Runs that are remembered of jobs that are alike, and how many such groups a queue may have.
_RUNS = 50
_GROUPS = 40
#: Starts that are remembered of those that were told.
_RATIOS = 100


# -- flows ---------------------------------------------------------------------------------------------


def written(status: GPUQueueStatus) -> Written | None:
    """What a queue's status remembers of its flows; None where nothing was ever written."""
    if status.clock_at is None:
        return None
    flows = {
        flow.task_type: FlowState(
            finish=flow.finish,
            waiting=flow.waiting,
            virtual=flow.virtual,
            ghosts=tuple((ghost.key, ghost.gpus) for ghost in flow.ghosts),
            rate=flow.rate,
        )
        for flow in status.flows
    }
    tags = {one.kind: one.virtual for one in status.virtual_time}
    return Written(times.from_wire(status.clock_at), flows, tags)


def memory_of(memory: Memory, queue: str) -> dict[str, object]:
    """The fields of a queue's status that hold its part of the memory."""
    if memory.clock_at is None:
        return {}
    flows = tuple(
        FlowStatus(
            task_type=key.task_type,
            finish=flow.finish,
            waiting=flow.waiting,
            virtual=flow.virtual,
            rate=flow.rate,
            ghosts=tuple(Ghost(key=key, gpus=gpus) for key, gpus in flow.ghosts),
        )
        for key, flow in sorted(memory.flows.items())
        if key.queue == queue
    )
    tags = tuple(KindTime(kind=kind, virtual=tag) for kind, tag in sorted(memory.virtual_time.items()))
    return {"clock_at": times.to_wire_exact(memory.clock_at), "flows": flows, "virtual_time": tags}


def place(job: Job) -> Place | None:
    """The place in its flow that a job's status remembers."""
    mark = job.status.mark
    return None if mark is None else Place(mark.arrived, mark.key)


def mark(where: Place) -> Mark:
    """As :func:`place`, the other way round."""
    return Mark(arrived=where.arrived, key=where.key)


# -- what has ended --------------------------------------------------------------------------------------


def ended(job: Job, ran: Ran) -> Ended | None:
    """What a job's status tells of the GPUs that it last gave back."""
    spec = job.spec
    if spec is None:
        return None
    stated = spec.estimated_duration
    return Ended(
        uid=job.uid,
        queue=spec.queue,
        task_type=spec.task_type,
        gpus=ran.gpus,
        seconds=ran.seconds,
        ended_at=times.from_wire(ran.until),
        model=spec.model.name or "" if spec.model is not None else "",
        expected=None if stated is None else float(seconds(stated)),
        used=None if spec.task_type.serves else ran.used,
        charged=None if spec.task_type.serves else ran.charged,
        completed=ran.completed,
        mark=place(job),
        replicas=ran.replicas,
    )


def departed(job: Job, now: float) -> Ended | None:
    """A job that was deleted while it held GPUs took them until ``now`` and no longer."""
    spec, held = (
        job.spec,
        [a for a in job.status.assignments if a.share is not None and a.charged is not None],
    )
    if spec is None or spec.task_type.serves or not held:
        return None
    since = {a: times.from_wire(a.since) for a in held}
    return Ended(
        uid=job.uid,
        queue=spec.queue,
        task_type=spec.task_type,
        gpus=0,
        seconds=max(0.0, now - min(since.values())),
        ended_at=now,
        used=sum(max(0.0, now - since[a]) * (a.share or 0.0) for a in held),
        charged=sum(a.charged or 0.0 for a in held),
        completed=False,
    )


def learned(queue: str, status: GPUQueueStatus) -> tuple[Learned, ...]:
    """The durations that a queue's status remembers."""
    return tuple(
        Learned(
            queue,
            like.task_type,
            like.model,
            like.gpus,
            tuple((ran, stated or None) for ran, stated in zip(like.seconds, like.stated, strict=False)),
        )
        for like in status.learned
    )


def learned_status(everything: Iterable[Learned], queue: str) -> tuple[LearnedRuns, ...]:
    """As :func:`learned`, the other way round."""
    return tuple(
        LearnedRuns(
            task_type=like.task_type,
            model=like.model,
            gpus=like.gpus,
            seconds=tuple(ran for ran, _ in like.runs),
            stated=tuple(stated or 0.0 for _, stated in like.runs),
        )
        for like in everything
        if like.queue == queue
    )


def learn(known: tuple[Learned, ...], news: Iterable[Ended]) -> tuple[Learned, ...]:
    """The durations with those of jobs that have run to their end; the very same object without news.

    Of a queue, the groups that learned last are kept, last of all the latest.
    """
    fresh = [over for over in news if over.completed and not over.task_type.serves and over.seconds > 0]
    if not fresh:
        return known
    groups = {(like.queue, like.task_type, like.model, like.gpus): like for like in known}
    for over in sorted(fresh, key=lambda e: (e.ended_at, e.uid)):
        key = (over.queue, over.task_type, over.model, over.gpus)
        like = groups.pop(key, None) or Learned(*key, runs=())
        runs = (*like.runs, (round(over.seconds, 1), over.expected))[-_RUNS:]
        groups[key] = replace(like, runs=runs)
    return tuple(_latest(groups.values()))


def _latest(groups: Iterable[Learned]) -> list[Learned]:
    by_queue: dict[str, list[Learned]] = {}
    for like in groups:
        by_queue.setdefault(like.queue, []).append(like)
    return [like for mine in by_queue.values() for like in mine[-_GROUPS:]]


# -- starts that were told -------------------------------------------------------------------------------


def calibration(status: GPUQueueStatus) -> Calibration:
    """How the starts that jobs of a queue were told have turned out."""
    told = status.told
    return Calibration() if told is None else Calibration.resume(told.judged, told.kept, told.ratios)


def told(known: Calibration) -> ToldStarts:
    """As :func:`calibration`, the other way round."""
    ratios = tuple(round(ratio, 3) for ratio in known.latest[-_RATIOS:])
    return ToldStarts(judged=known.told, kept=known.kept, ratios=ratios)


def eta(known: Told | None) -> Eta | None:
    """What a job is told of its start, as it is written."""
    if known is None:
        return None
    first, moved = known.first, known.moved
    return Eta(
        p50=times.to_wire(known.eta.p50),
        p90=times.to_wire(known.eta.p90),
        first=FirstEta(
            told_at=times.to_wire(first.at),
            expected=times.to_wire(first.expected),
            p50=times.to_wire(first.eta.p50),
            p90=times.to_wire(first.eta.p90),
        ),
        moved=None
        if moved is None
        else MovedEta(
            at=times.to_wire(moved.at),
            p50=times.to_wire(moved.was.p50),
            p90=times.to_wire(moved.was.p90),
            reason=moved.reason,
            message=moved.message,
        ),
    )


def told_start(written: Eta | None) -> Told | None:
    """As :func:`eta`, the other way round."""
    if written is None or written.p50 is None or written.p90 is None or written.first is None:
        return None
    first, moved = written.first, written.moved
    return Told(
        _range(written.p50, written.p90),
        decisions.FirstTold(
            times.from_wire(first.told_at), times.from_wire(first.expected), _range(first.p50, first.p90)
        ),
        None
        if moved is None or moved.reason not in _MOVES
        else Moved(
            times.from_wire(moved.at),
            _range(moved.p50, moved.p90),
            MoveReason(moved.reason),
            moved.message,
        ),
    )


#: Words that this operator knows; one of a newer one is forgotten.
_MOVES = frozenset(reason.value for reason in MoveReason)


def _range(p50: str, p90: str) -> decisions.Eta:
    return decisions.Eta(times.from_wire(p50), times.from_wire(p90))


def read_all(statuses: Mapping[str, GPUQueueStatus]) -> tuple[dict[str, Written], tuple[Learned, ...]]:
    """What the queues' statuses remember, by queue."""
    found = {name: one for name, status in statuses.items() if (one := written(status)) is not None}
    runs = tuple(like for name, status in statuses.items() for like in learned(name, status))
    return found, runs
