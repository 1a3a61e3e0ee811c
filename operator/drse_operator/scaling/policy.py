"""How many replicas a job should have, from its load now and its forecast.

Everything is in GPU-equivalents: ``g`` GPUs per replica, ``C`` GPUs held or granted, load now, and the
forecast's calibrated P90 by minute. The textbook formula (up to ceil(L/up), down to floor(L/down)) lands
every action on the trigger of its opposite and flaps with noise; here the target of a shrink leaves room
(``SHRINK_TO``), a shrink waits for a whole stabilization window, removes at most half a step, and is never
so deep that it would trigger growth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drse_operator.api.reasons import ScalingReason

#: A shrink aims at this share of the capacity left, midway between the default thresholds 0.5 and 0.8.
SHRINK_TO = 0.65
#: At most this share of the replicas is removed in one step.
MOST_REMOVED = 0.5


@dataclass(frozen=True, slots=True)
class Policy:
    """The user's bounds. ``horizon`` and ``window`` are minutes."""

    min_replicas: int
    max_replicas: int
    up_at: float
    down_at: float
    horizon: float
    window: float
    use_forecast: bool


@dataclass(frozen=True, slots=True)
class Point:
    """Forecast for ``minutes`` from now: median and calibrated 90 % quantile, in GPU-equivalents."""

    minutes: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Signal:
    """What is known of a job's load; ``frozen`` says why nothing may be decided (``load`` may be None)."""

    load: float | None
    forecast: tuple[Point, ...] = ()
    frozen: ScalingReason | None = None
    frozen_message: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What the job has. ``desired`` is the standing wish in replicas, ``held`` those that hold GPUs (ready
    or starting), ``low_since`` when load and forecast sank below the lower threshold (seconds), if they did.
    """

    gpus_per_replica: int
    desired: int
    held: int
    low_since: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """``desired`` replicas with the reason and the numbers behind it."""

    desired: int
    reason: ScalingReason
    message: str
    load: float | None
    p50: float | None
    p90: float | None
    capacity: int
    low_since: float | None


def decide(policy: Policy, state: State, signal: Signal, now: float) -> Decision:
    """The policy. ``now`` is in seconds; see the module for the formula.

    Missing, stale or non-finite data freeze the decision: the standing wish stays as it is.
    """
    capacity = state.gpus_per_replica * min(state.desired, state.held)
    if signal.frozen is not None:
        return _frozen(state, signal, capacity, signal.frozen, signal.frozen_message)
    if not _finite(signal, policy.use_forecast):
        return _frozen(
            state, signal, capacity, ScalingReason.LOAD_UNKNOWN, "the load or its forecast is not a number"
        )
    assert signal.load is not None
    g = state.gpus_per_replica
    up_points = _within(signal.forecast, policy.horizon) if policy.use_forecast else ()
    down_points = _within(signal.forecast, max(policy.horizon, policy.window)) if policy.use_forecast else ()
    peak = max((p.p90 for p in up_points), default=signal.load)
    load_up = max(signal.load, peak)
    load_down = max([signal.load, *(p.p90 for p in down_points)])
    p50 = up_points[-1].p50 if up_points else None
    p90 = peak if up_points else None

    def decided(desired: int, reason: ScalingReason, message: str, low_since: float | None) -> Decision:
        bounded = min(max(desired, policy.min_replicas), policy.max_replicas)
        if bounded == state.desired != desired:
            reason = ScalingReason.AT_MAXIMUM if desired > bounded else ScalingReason.AT_MINIMUM
            message += f"; kept at {bounded} by {'maxReplicas' if desired > bounded else 'minReplicas'}"
        return Decision(bounded, reason, message, signal.load, p50, p90, capacity, low_since)

    if load_up > policy.up_at * capacity:
        desired = max(state.desired, math.ceil(load_up / (policy.up_at * g) - 1e-9))
        return decided(desired, *_growth(policy, signal.load, load_up, capacity), None)
    if load_down >= policy.down_at * capacity:
        return decided(
            state.desired,
            ScalingReason.WITHIN_THRESHOLDS,
            _between(policy, load_up, load_down, capacity),
            None,
        )
    low_since = now if state.low_since is None else state.low_since
    quiet = now - low_since
    below = f"load and forecast {load_down:.1f} of {capacity} GPUs, below {policy.down_at:.0%}"
    if quiet < policy.window * 60:
        left = policy.window * 60 - quiet
        return decided(state.desired, ScalingReason.STABILIZING, f"{below}; {left:.0f} s to go", low_since)
    desired = _shrunk(policy, state, load_down)
    # A step down starts a new window: the next one is judged against the smaller capacity.
    since = low_since if desired == state.desired else None
    return decided(desired, ScalingReason.BELOW_THRESHOLD, f"{below} for {quiet / 60:.0f} min", since)


def _shrunk(policy: Policy, state: State, load: float) -> int:
    """Replicas after one step down: leaves room, removes at most half, never triggers growth."""
    g = state.gpus_per_replica
    target = math.ceil(load / (min(SHRINK_TO, policy.up_at) * g) - 1e-9)
    floor = math.ceil(state.desired * (1 - MOST_REMOVED))
    return min(state.desired, max(target, floor, 1))


def _growth(policy: Policy, load: float, load_up: float, capacity: int) -> tuple[ScalingReason, str]:
    threshold = f"{policy.up_at:.0%} of {capacity} GPUs"
    if load > policy.up_at * capacity:
        return ScalingReason.LOAD_ABOVE_THRESHOLD, f"load {load:.1f} exceeds {threshold}"
    return (
        ScalingReason.FORECAST_ABOVE_THRESHOLD,
        f"forecast {load_up:.1f} within {policy.horizon:.0f} min exceeds {threshold}; load now {load:.1f}",
    )


def _between(policy: Policy, load_up: float, load_down: float, capacity: int) -> str:
    low, high = f"{min(load_down, load_up):.1f}", f"{max(load_down, load_up):.1f}"
    seen = high if low == high else f"between {low} and {high}"
    return (
        f"load and forecast {seen} of {capacity} GPUs: "
        f"not above {policy.up_at:.0%}, not below {policy.down_at:.0%}"
    )


def _frozen(state: State, signal: Signal, capacity: int, reason: ScalingReason, message: str) -> Decision:
    load = signal.load if signal.load is not None and math.isfinite(signal.load) else None
    return Decision(state.desired, reason, message, load, None, None, capacity, None)


def _finite(signal: Signal, use_forecast: bool) -> bool:
    points = signal.forecast if use_forecast else ()
    numbers = [signal.load, *(n for p in points for n in (p.p50, p.p90))]
    return all(n is not None and math.isfinite(n) for n in numbers)


def _within(points: Sequence[Point], minutes: float) -> tuple[Point, ...]:
    return tuple(sorted((p for p in points if p.minutes <= minutes + 1e-9), key=lambda p: p.minutes))
