"""How long replicas take to start, learned from each one that does.

A replica has started once all its workers have been ready. The time from its first pod to its last readiness
(container image, weights, warm-up) goes into the job's history, from which scaling takes its lead time. A
worker whose pod is made anew starts anew.
"""

from __future__ import annotations

from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.workloads.observed import Pod, PodPhase
from drse_operator.workloads.seen import Seen

#: As many of the latest as tell a tenth from an exception.
KEPT = 10


def note_started(status: DeepSeekJobStatus, seen: Seen, workers: tuple[Assignment, ...]) -> DeepSeekJobStatus:
    """The status with what the pods of one replica's ``workers`` show of its start."""
    pods = [seen.pod(a) for a in workers]
    marked = {
        (a.replica, a.worker): _started(a, pod)
        for a, pod in zip(workers, pods, strict=True)
        if _started(a, pod) != a.started
    }
    if not marked:
        return status
    assignments = tuple(
        a if (mark := marked.get((a.replica, a.worker))) is None else a.model_copy(update={"started": mark})
        for a in status.assignments
    )
    startups = status.startups
    new = [pod for a, pod in zip(workers, pods, strict=True) if pod and marked.get((a.replica, a.worker))]
    if new and all(_started(a, pod) for a, pod in zip(workers, pods, strict=True)):
        startups = (*startups, _took(new))[-KEPT:]
    return status.model_copy(update={"assignments": assignments, "startups": startups})


def _started(assignment: Assignment, pod: Pod | None) -> bool:
    """Once ready, a pod that merely fails a probe has still started; a new pod has not."""
    if pod is None or pod.phase is PodPhase.PENDING:
        return False
    return assignment.started or pod.ready


def _took(pods: list[Pod]) -> int:
    """Whole seconds from the first of these pods to the last readiness among them."""
    ready = max(pod.created if pod.ready_at is None else pod.ready_at for pod in pods)
    return max(round(ready - min(pod.created for pod in pods)), 0)
