"""``assess``: what happened to a job since its status was written, and what that makes of the status.

Steps of a life, judged replica by replica: a worker binds, becomes ready, ends, fails or is lost; a gang
that does not bind in time is given back whole; the job completes, fails for good, is suspended, expires.
Nothing is created or deleted here: ``converge`` makes the objects follow the status.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.reasons import EventReason, StateReason
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.api.words import count
from drse_operator.workloads.observed import Pod, PodPhase
from drse_operator.workloads.outcome import Event
from drse_operator.workloads.seen import Seen, by_replica, misplaced, pins
from drse_operator.workloads.startups import note_started


@dataclass(frozen=True, slots=True)
class Limits:
    """Patience of the operator, in seconds."""

    bind_timeout: float = 120.0
    backoff_base: float = 10.0
    backoff_cap: float = 360.0

    def backoff(self, failures: int) -> float:
        """Delay before the next attempt: doubled with each failure, capped (as Kubernetes Jobs do)."""
        return float(min(self.backoff_base * 2 ** max(0, failures - 1), self.backoff_cap))


@dataclass(slots=True)
class Assessment:
    """The status as it has become, what to tell, and when time alone changes it (seconds)."""

    status: DeepSeekJobStatus
    events: list[Event] = field(default_factory=list)
    wake_at: float | None = None
    #: Why the job ended, set once when it does.
    ended: StateReason | None = None
    ended_message: str = ""

    def wake(self, at: float) -> None:
        """Look again at ``at``, or earlier."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def set(self, **changes: object) -> None:
        """Replace fields of the status."""
        self.status = self.status.model_copy(update=changes)


def assess(seen: Seen, now: float, limits: Limits) -> Assessment:
    """Judge one job at ``now`` (seconds since the epoch)."""
    result = Assessment(seen.job.status)
    spec = seen.job.spec
    if seen.job.deleting or spec is None or result.status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return result
    if result.status.queued_at is None:
        result.set(queued_at=times.to_wire(now))
    if spec.suspend:
        _suspend(result)
        return result
    for replica, workers in by_replica(result.status.assignments).items():
        _judge_replica(result, seen, spec, replica, workers, now, limits)
        if result.ended is not None:
            break
    _judge_job(result, seen, spec, now)
    if result.status.retry_at is not None:
        _clear_retry(result, now)
    return result


def _suspend(result: Assessment) -> None:
    if result.status.assignments:
        result.events.append(
            Event(EventReason.RELEASED, f"{count(result.status.gpus, 'GPU')} freed: the job is suspended")
        )
    result.set(assignments=(), queue=None, queued_at=None, start_time=None, failures=0, retry_at=None)


# -- one replica --------------------------------------------------------------------------------------


def _judge_replica(
    result: Assessment,
    seen: Seen,
    spec: DeepSeekJobSpec,
    replica: int,
    workers: tuple[Assignment, ...],
    now: float,
    limits: Limits,
) -> None:
    pods = [seen.pod(a) for a in workers]
    ends = not spec.task_type.serves
    if ends and all(p is not None and p.phase is PodPhase.SUCCEEDED for p in pods):
        _drop(result, replica)
        result.set(succeeded_replicas=(*result.status.succeeded_replicas, replica))
        return
    if disruption := _disruption(seen, workers, pods, ends):
        _drop(result, replica)
        message = f"{disruption}; replica {replica} is planned again" + (
            ", backoffLimit does not count it" if ends else ""
        )
        result.events.append(Event(EventReason.WORKER_DISRUPTED, message, warning=True))
        return
    if ends and (failure := _failure(workers, pods)):
        _attempt_failed(result, spec, replica, failure, now, limits)
        return
    _note_bound(result, seen, workers)
    result.status = note_started(result.status, seen, workers)
    _judge_binding(result, replica, workers, pods, now, limits)


def _disruption(seen: Seen, workers: tuple[Assignment, ...], pods: list[Pod | None], ends: bool) -> str:
    """What has taken a worker from outside, or nothing; looked for before failures, since the others of a
    gang fail when one is taken.

    As with Kubernetes Jobs that ignore DisruptionTarget (KEP-3329), it is not the job's failure. A worker is
    taken with its node, or if somebody else deletes its pod; of a service (``ends`` is False) such a pod is
    made again where it was, unless the node is closed.
    """
    for assignment, pod in zip(workers, pods, strict=True):
        if pod is not None and (misplaced(assignment, pod) or pod.phase is PodPhase.SUCCEEDED):
            continue
        why = []
        failed = pod is not None and pod.phase is PodPhase.FAILED
        if pod is not None and pod.disrupted and (failed or pod.deleting):
            why.append(f"was disrupted ({pod.disrupted})")
        elif assignment.bound and (pod is None or pod.deleting):
            why.append("was deleted by somebody else")
        closed = seen.closed.get(assignment.node)
        if closed and (failed or pod is None or pod.deleting or not pod.node):
            why.append(f"node {assignment.node} {closed}")
        elif not ends:
            continue
        if why:
            return f"{_who(assignment)}: {', '.join(why)}"
    return ""


def _failure(workers: tuple[Assignment, ...], pods: list[Pod | None]) -> str:
    """How a worker of a replica has failed, or nothing. One ends the whole gang."""
    for assignment, pod in zip(workers, pods, strict=True):
        if pod is not None and pod.phase is PodPhase.FAILED and not misplaced(assignment, pod):
            return f"{_who(assignment)} failed" + (f": {pod.message}" if pod.message else "")
    return ""


def _who(assignment: Assignment) -> str:
    return f"worker {assignment.worker} of replica {assignment.replica} on {assignment.node}"


def _attempt_failed(
    result: Assessment, spec: DeepSeekJobSpec, replica: int, why: str, now: float, limits: Limits
) -> None:
    failures = result.status.failures + 1
    _drop(result, replica)
    result.set(failures=failures)
    if failures > spec.backoff_limit:
        result.ended = StateReason.BACKOFF_LIMIT_EXCEEDED
        result.ended_message = f"{why}; {failures} attempts failed, backoffLimit is {spec.backoff_limit}"
        return
    delay = limits.backoff(failures)
    result.set(retry_at=times.to_wire(now + delay))
    result.wake(now + delay + 1)
    message = f"{why}; attempt {failures + 1} of {spec.backoff_limit + 1} in {delay:.0f} s"
    result.events.append(Event(EventReason.WORKER_FAILED, message, warning=True))


def _note_bound(result: Assessment, seen: Seen, workers: tuple[Assignment, ...]) -> None:
    """Mark workers whose pod sits on its node, with DRA once its claim has been allocated."""
    newly: dict[tuple[int, int], Assignment] = {}
    for assignment in workers:
        pod = seen.pod(assignment)
        if assignment.bound or pod is None or pod.node != assignment.node or pod.deleting:
            continue
        if assignment.device_selection is DeviceSelection.EXACT:
            claim = seen.claims.get(pod.name)
            if claim is None or not claim.devices or not pins(claim, assignment):
                continue
        newly[assignment.replica, assignment.worker] = assignment.model_copy(update={"bound": True})
    if newly:
        result.set(assignments=tuple(newly.get((a.replica, a.worker), a) for a in result.status.assignments))


def _judge_binding(
    result: Assessment,
    replica: int,
    workers: tuple[Assignment, ...],
    pods: list[Pod | None],
    now: float,
    limits: Limits,
) -> None:
    """Give a replica back whole when one of its workers has no node long after it was promised.

    A pod that had to be made again (a service's, evicted or deleted) has as long from its own beginning.
    """
    waiting = [
        (a, p)
        for a, p in zip(workers, pods, strict=True)
        if (not a.bound if p is None else not p.node and not p.deleting)
    ]
    if not waiting:
        return
    began = [times.from_wire(a.since) for a in workers] + [p.created for _, p in waiting if p is not None]
    deadline = max(began) + limits.bind_timeout
    if now < deadline:
        result.wake(deadline)
        return
    assignment, pod = waiting[0]
    said = pod.message if pod is not None and pod.message else "its pod was never created"
    _drop(result, replica)
    result.set(retry_at=times.to_wire(now + limits.backoff_base))
    result.wake(now + limits.backoff_base + 1)
    message = (
        f"replica {replica} was given back: worker {assignment.worker} did not bind to {assignment.node} "
        f"within {limits.bind_timeout:.0f} s ({said})"
    )
    result.events.append(Event(EventReason.BIND_TIMEOUT, message, warning=True))


def _drop(result: Assessment, replica: int) -> None:
    result.set(assignments=tuple(a for a in result.status.assignments if a.replica != replica))


# -- the whole job -------------------------------------------------------------------------------------


def _judge_job(result: Assessment, seen: Seen, spec: DeepSeekJobSpec, now: float) -> None:
    status = result.status
    if (
        result.ended is None
        and not spec.task_type.serves
        and 0 < spec.replicas <= len(status.succeeded_replicas)
    ):
        result.ended = StateReason.WORKERS_SUCCEEDED
        result.ended_message = f"all {spec.replicas} replicas ended well"
    if status.start_time is None and _started(seen, status):
        status = status.model_copy(update={"start_time": times.to_wire(now)})
    if status.start_time is not None and spec.active_deadline_seconds is not None and result.ended is None:
        deadline = times.from_wire(status.start_time) + spec.active_deadline_seconds
        if now >= deadline:
            result.ended = StateReason.DEADLINE_EXCEEDED
            result.ended_message = (
                f"ran for longer than activeDeadlineSeconds ({spec.active_deadline_seconds})"
            )
        else:
            result.wake(deadline)
    result.status = status
    if result.ended is not None:
        _end(result, now)


def _end(result: Assessment, now: float) -> None:
    well = result.ended is StateReason.WORKERS_SUCCEEDED
    result.set(
        phase=Phase.SUCCEEDED if well else Phase.FAILED,
        assignments=(),
        queue=None,
        retry_at=None,
        completion_time=times.to_wire(now),
    )
    reason = EventReason.SUCCEEDED if well else EventReason.FAILED
    result.events.append(Event(reason, result.ended_message, warning=not well))


def _started(seen: Seen, status: DeepSeekJobStatus) -> bool:
    """True once all workers of some replica are up (or have already ended well)."""
    if status.succeeded_replicas:
        return True
    return any(
        all(
            (pod := seen.pod(a)) is not None and (pod.ready or pod.phase is PodPhase.SUCCEEDED)
            for a in workers
        )
        for workers in by_replica(status.assignments).values()
    )


def _clear_retry(result: Assessment, now: float) -> None:
    assert result.status.retry_at is not None
    at = times.from_wire(result.status.retry_at)
    if now >= at:
        result.set(retry_at=None)
    else:
        result.wake(at)
