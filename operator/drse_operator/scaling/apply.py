"""From a job and its signal to ``status.scaling``."""

from __future__ import annotations

import math

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import ScalingMode, ScalingPolicy
from drse_operator.api.reasons import ScalingReason
from drse_operator.api.status import DeepSeekJobStatus, ScalingStatus
from drse_operator.api.types import seconds
from drse_operator.scaling.policy import Policy, Signal, State, decide

#: The lead time is this quantile of the latest start-ups: one slow node in ten must not set it.
STARTUP_QUANTILE = 0.9


def scale(
    spec: DeepSeekJobSpec, status: DeepSeekJobStatus, signal: Signal, standing: int, now: float
) -> ScalingStatus | None:
    """The decision for one job at ``now`` (seconds), as it goes into the status.

    ``standing`` is the number of replicas wanted so far. None when there is nothing to decide: scaling is
    off, or the job has never been sized and holds nothing.
    """
    if spec.scaling.mode is ScalingMode.OFF or not status.gpus_per_replica:
        return None
    before = status.scaling
    low_since = None if before is None or before.low_since is None else times.from_wire(before.low_since)
    state = State(
        gpus_per_replica=status.gpus_per_replica,
        desired=standing,
        held=len({a.replica for a in status.assignments}),
        ready=ready_replicas(status),
        low_since=low_since,
    )
    policy = policy_of(spec, status)
    decision = decide(policy, state, signal, now)
    changed = before is None or decision.desired != before.desired_replicas
    decided_at = times.to_wire(now) if changed or before is None else before.decided_at
    since = decision.low_since
    if spec.scaling.mode is ScalingMode.RECOMMEND and decision.reason is ScalingReason.BELOW_THRESHOLD:
        # Nobody acts on it, so no new window begins: the advice stands for as long as it holds.
        since = low_since
    return ScalingStatus(
        desired_replicas=decision.desired,
        from_replicas=spec.replicas,
        load=_rounded(decision.load),
        forecast_p50=_rounded(decision.p50),
        forecast_p90=_rounded(decision.p90),
        capacity=decision.capacity,
        lead_seconds=round(policy.lead * 60),
        reason=decision.reason,
        message=decision.message,
        low_since=None if since is None else times.to_wire(since),
        decided_at=decided_at,
    )


def policy_of(spec: DeepSeekJobSpec, status: DeepSeekJobStatus) -> Policy:
    """The user's bounds, and the job's own lead time, as the policy reads them."""
    scaling = spec.scaling
    return Policy(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        up_at=scaling.scale_up_at,
        down_at=scaling.scale_down_at,
        lead=max(seconds(scaling.horizon), startup_seconds(status)) / 60,
        window=seconds(scaling.stabilization_window) / 60,
        use_forecast=scaling.policy is ScalingPolicy.FORECAST,
    )


def startup_seconds(status: DeepSeekJobStatus) -> int:
    """How long nine in ten of the job's latest replicas took at most to start; 0 before any has."""
    known = sorted(status.startups)
    return known[math.ceil(STARTUP_QUANTILE * len(known)) - 1] if known else 0


def ready_replicas(status: DeepSeekJobStatus) -> int:
    """Replicas that have started: each of their workers has been ready since its pod was made."""
    held = {a.replica for a in status.assignments}
    return len(held - {a.replica for a in status.assignments if not a.started})


def _rounded(value: float | None) -> float | None:
    """Two decimals: enough to read, few enough that noise does not rewrite the status."""
    return None if value is None else round(value, 2)
