"""The readable part of a status: phase, counters and conditions, derived from the rest."""

from __future__ import annotations

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import Phase, ScalingMode
from drse_operator.api.reasons import ConditionType, ScalingReason, StateReason, WaitReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.api.words import count
from drse_operator.workloads import conditions, names
from drse_operator.workloads.conditions import State
from drse_operator.workloads.seen import Seen, by_replica
from drse_operator.workloads.wanted import wanted_replicas


def summarize(
    seen: Seen,
    status: DeepSeekJobStatus,
    now: float,
    ended: StateReason | None = None,
    ended_message: str = "",
) -> DeepSeekJobStatus:
    """Fill in everything that follows from assignments, pods, wait and scaling at ``now``."""
    spec = seen.job.spec
    if spec is None:
        return _invalid(seen, status, now)
    groups = by_replica(status.assignments)
    ready = sum(
        all((pod := seen.pod(a)) is not None and pod.ready for a in group) for group in groups.values()
    )
    wanted = wanted_replicas(spec, status) - len(status.succeeded_replicas)
    status = status.model_copy(
        update={
            "observed_generation": seen.job.generation,
            "phase": _phase(spec, status, ready),
            "gpus": sum(a.count for a in status.assignments),
            "replicas": len(groups),
            "ready_replicas": ready,
            "ready": f"{ready}/{max(wanted, 0)}",
            "selector": names.selector(seen.job.key.name),
        }
    )
    states = _states(seen, spec, status, ready, wanted)
    if ended is not None:
        kind = ConditionType.COMPLETE if status.phase is Phase.SUCCEEDED else ConditionType.FAILED
        states[kind] = State(True, ended, ended_message)
    kept = status.conditions
    if not status.assignments:
        kept = conditions.without(kept, ConditionType.DEVICES_HEALTHY)
    if spec.scaling.mode is ScalingMode.OFF:
        kept = conditions.without(kept, ConditionType.SCALING_ACTIVE)
    return status.model_copy(update={"conditions": conditions.update(kept, states, seen.job.generation, now)})


def _phase(spec: DeepSeekJobSpec, status: DeepSeekJobStatus, ready: int) -> Phase:
    if status.phase is not None and status.phase.finished:
        return status.phase
    if spec.suspend:
        return Phase.SUSPENDED
    if ready:
        return Phase.RUNNING
    return Phase.STARTING if status.assignments else Phase.QUEUED


def _states(
    seen: Seen, spec: DeepSeekJobSpec, status: DeepSeekJobStatus, ready: int, wanted: int
) -> dict[ConditionType, State]:
    states = {
        ConditionType.ADMITTED: _admitted(spec, status),
        ConditionType.READY: _ready(status, ready, wanted),
    }
    if status.assignments:
        states[ConditionType.DEVICES_HEALTHY] = _healthy(seen)
    scaling = status.scaling
    if spec.scaling.mode is not ScalingMode.OFF and scaling is not None and scaling.reason:
        frozen = ScalingReason(scaling.reason).frozen
        reason = scaling.reason if frozen else StateReason.SCALING_ON
        states[ConditionType.SCALING_ACTIVE] = State(not frozen, reason, scaling.message if frozen else "")
    return states


def _admitted(spec: DeepSeekJobSpec, status: DeepSeekJobStatus) -> State:
    if status.assignments:
        nodes = sorted({a.node for a in status.assignments})
        where = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
        return State(True, StateReason.GPUS_ASSIGNED, f"{count(status.gpus, 'GPU')} on {where}")
    if status.phase is not None and status.phase.finished:
        return State(False, status.phase, "the job has finished and holds no GPUs")
    if spec.suspend:
        return State(
            False, WaitReason.SUSPENDED, "spec.suspend is true: set it to false to let the job queue"
        )
    if status.queue is not None:
        return State(False, status.queue.reason, status.queue.message)
    return State(None, WaitReason.ASSIGNING, "not planned yet")


def _ready(status: DeepSeekJobStatus, ready: int, wanted: int) -> State:
    message = f"{ready} of {max(wanted, 0)} replicas are ready"
    if not status.assignments:
        return State(False, StateReason.NOT_ADMITTED, message)
    if 0 < wanted <= ready:
        return State(True, StateReason.REPLICAS_READY, message)
    return State(False, StateReason.REPLICAS_STARTING, message)


def _healthy(seen: Seen) -> State:
    if not seen.problems:
        return State(True, StateReason.ALL_HEALTHY, "every device held is present and healthy")
    first = seen.problems[0]
    more = f" (and {len(seen.problems) - 1} more)" if len(seen.problems) > 1 else ""
    return State(False, first.reason, first.message + more)


def _invalid(seen: Seen, status: DeepSeekJobStatus, now: float) -> DeepSeekJobStatus:
    """The stored object does not parse: say so, and leave what runs alone."""
    if status.assignments:
        return status
    state = State(False, WaitReason.INVALID_SPEC, seen.job.invalid)
    return status.model_copy(
        update={
            "observed_generation": seen.job.generation,
            "phase": status.phase or Phase.QUEUED,
            "conditions": conditions.update(
                status.conditions, {ConditionType.ADMITTED: state}, seen.job.generation, now
            ),
        }
    )
