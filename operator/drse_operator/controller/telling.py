"""What is told of decisions and of what went wrong: the events of a job."""

from __future__ import annotations

from drse_operator.admission.decisions import Assign, Release, ReleaseReason, Wait
from drse_operator.api.reasons import ConditionType, EventReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.workloads.observed import Job
from drse_operator.workloads.outcome import Event


def decisions(
    job: Job, assigns: tuple[Assign, ...], release: Release | None, wait: Wait | None
) -> tuple[Event, ...]:
    events = []
    for assign in assigns:
        gpus = sum(p.count for p in assign.placements)
        nodes = ", ".join(dict.fromkeys(p.node for p in assign.placements))
        who = ", ".join(str(r) for r in sorted({p.replica for p in assign.placements}))
        message = f"{gpus} x {assign.shape.kind.product} on {nodes} for replica {who}"
        events.append(Event(EventReason.ASSIGNED, message))
    if release is not None:
        preempted = release.reason is ReleaseReason.PREEMPTED
        reason = EventReason.PREEMPTED if preempted else EventReason.RELEASED
        message = f"replicas {list(release.replicas)}: {release.message}"
        events.append(Event(reason, message, warning=preempted))
    before = job.status.queue
    if wait is not None and (before is None or before.reason != wait.reason):
        message = f"{wait.reason}: {wait.message}"
        events.append(Event(EventReason.WAITING, message, warning=wait.reason.user_must_act))
    return tuple(events)


#: Conditions whose turn to False is an event.
_TURNS = {
    ConditionType.DEVICES_HEALTHY: EventReason.DEVICE_LOST,
    ConditionType.SCALING_ACTIVE: EventReason.SCALING_FROZEN,
}


def turned(before: DeepSeekJobStatus, after: DeepSeekJobStatus) -> tuple[Event, ...]:
    """What has gone wrong since the last status: GPUs under a running job, or the data for scaling."""
    known = {(c.type, c.reason) for c in before.conditions if c.status == "False"}
    return tuple(
        Event(_TURNS[ConditionType(condition.type)], condition.message, warning=True)
        for condition in after.conditions
        if condition.status == "False"
        and condition.type in _TURNS
        and (condition.type, condition.reason) not in known
    )
