"""How many replicas a job should have, from its load now and its forecast.

Everything is in GPU-equivalents: ``g`` GPUs per replica, ``C`` GPUs held, load now, and the forecast's
calibrated P90 by minute. The textbook formula (up to ceil(L/up), down to floor(L/down)) lands every action on
the trigger of its opposite and flaps with noise; here the target of a shrink leaves room (``SHRINK_TO``), a
shrink waits for a whole stabilization window, removes at most half a step, and is never so deep that it would
trigger growth. Growth that is forced anyway adds ``LEAST_GROWTH``, or a large fleet would creep up a replica
at a time behind every rising load.

Replicas that hold GPUs and still start count as growth under way, so that it is not asked for twice, but not
as capacity that lies idle. Replicas asked for and not granted count as asked for: a wish that the load no
longer supports is taken back like a replica that it no longer needs.
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
#: Growth adds at least this share of the replicas: one up to six of them, as the formula alone would.
LEAST_GROWTH = 0.15


@dataclass(frozen=True, slots=True)
class Policy:
    """The user's bounds. ``lead`` is how many minutes ahead growth looks: the user's horizon, or what
    replicas of the job take to start where that is longer. ``window`` is minutes, too."""

    min_replicas: int
    max_replicas: int
    up_at: float
    down_at: float
    lead: float
    window: float
    use_forecast: bool


@dataclass(frozen=True, slots=True)
class Point:
    """Forecast for ``minutes`` from now: median and calibrated 90 % quantile, in GPU-equivalents."""

    minutes: float
    p50: float
    p90: float


def aged(points: Sequence[Point], minutes: float) -> tuple[Point, ...]:
    """The points of a forecast made ``minutes`` ago that are still to come, counted from now."""
    return tuple(Point(p.minutes - minutes, p.p50, p.p90) for p in points if p.minutes > minutes)


@dataclass(frozen=True, slots=True)
class Signal:
    """What is known of a job's load; ``frozen`` says why nothing may be decided (``load`` may be None)."""

    load: float | None
    forecast: tuple[Point, ...] = ()
    frozen: ScalingReason | None = None
    frozen_message: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What the job has. ``desired`` is the standing wish in replicas, ``held`` those that hold GPUs,
    ``ready`` those of them that have started, ``low_since`` when load and forecast sank below the lower
    threshold (seconds), if they did.
    """

    gpus_per_replica: int
    desired: int
    held: int
    ready: int
    low_since: float | None

    @property
    def granted(self) -> int:
        """GPUs held by replicas that are still wanted."""
        return self.gpus_per_replica * min(self.desired, self.held)

    @property
    def starting(self) -> int:
        """GPUs of those replicas that do not serve yet."""
        return self.gpus_per_replica * max(min(self.desired, self.held) - self.ready, 0)


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

    Missing, stale or non-finite data freeze the decision, and a job of which nothing serves yet has no load
    to judge: the standing wish stays as it is.
    """
    if not state.ready and signal.frozen in (None, ScalingReason.LOAD_UNKNOWN):
        message = "no replica serves yet, so there is no load to judge"
        return _kept(state, signal, ScalingReason.STARTING, message)
    if signal.frozen is not None:
        return _kept(state, signal, signal.frozen, signal.frozen_message)
    if not _finite(signal, policy.use_forecast):
        return _kept(state, signal, ScalingReason.LOAD_UNKNOWN, "the load or its forecast is not a number")
    assert signal.load is not None
    ahead = _Ahead.of(policy, signal, signal.load)
    wished = state.gpus_per_replica * state.desired
    if ahead.up > policy.up_at * wished:
        reason, message = _growth(policy, ahead, state.granted)
        return _bounded(policy, state, ahead, _grown(policy, state, ahead.up), reason, message, None)
    if ahead.down >= policy.down_at * (wished - state.starting):
        reason, message = _hold(policy, state, ahead)
        return _bounded(policy, state, ahead, state.desired, reason, message, None)
    low_since = now if state.low_since is None else state.low_since
    quiet = now - low_since
    below = f"load and forecast {ahead.down:.1f} of {wished} GPUs wanted, below {policy.down_at:.0%}"
    if quiet < policy.window * 60:
        message = f"{below}; {policy.window * 60 - quiet:.0f} s to go"
        return _bounded(policy, state, ahead, state.desired, ScalingReason.STABILIZING, message, low_since)
    desired = _shrunk(policy, state, ahead.down)
    # A step down starts a new window: the next one is judged against the smaller capacity.
    since = low_since if desired == state.desired else None
    message = f"{below} for {quiet / 60:.0f} min"
    return _bounded(policy, state, ahead, desired, ScalingReason.BELOW_THRESHOLD, message, since)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Load now, the loads that growth and shrinking are decided on, and what is told of the forecast."""

    load: float
    up: float
    down: float
    p50: float | None
    p90: float | None

    @classmethod
    def of(cls, policy: Policy, signal: Signal, load: float) -> _Ahead:
        points = signal.forecast if policy.use_forecast else ()
        near = _within(points, policy.lead)
        far = _within(points, max(policy.lead, policy.window))
        peak = max((p.p90 for p in near), default=None)
        return cls(
            load=load,
            up=load if peak is None else max(load, peak),
            down=max([load, *(p.p90 for p in far)]),
            p50=near[-1].p50 if near else None,
            p90=peak,
        )


def _bounded(
    policy: Policy,
    state: State,
    ahead: _Ahead,
    desired: int,
    reason: ScalingReason,
    message: str,
    low_since: float | None,
) -> Decision:
    """The decision within the user's minimum and maximum, which are told where they cut it."""
    bounded = min(max(desired, policy.min_replicas), policy.max_replicas)
    if bounded == state.desired != desired:
        reason = ScalingReason.AT_MAXIMUM if desired > bounded else ScalingReason.AT_MINIMUM
        message += f"; kept at {bounded} by {'maxReplicas' if desired > bounded else 'minReplicas'}"
    return Decision(bounded, reason, message, ahead.load, ahead.p50, ahead.p90, state.granted, low_since)


def _grown(policy: Policy, state: State, load: float) -> int:
    """Replicas that bring the load to the upper threshold, and not just a few more than there are."""
    needed = math.ceil(load / (policy.up_at * state.gpus_per_replica) - 1e-9)
    return max(needed, math.ceil(state.desired * (1 + LEAST_GROWTH) - 1e-9))


def _shrunk(policy: Policy, state: State, load: float) -> int:
    """Replicas after one step down: leaves room, removes at most half, never triggers growth."""
    g = state.gpus_per_replica
    target = math.ceil(load / (min(SHRINK_TO, policy.up_at) * g) - 1e-9)
    floor = math.ceil(state.desired * (1 - MOST_REMOVED))
    return min(state.desired, max(target, floor, 1))


def _growth(policy: Policy, ahead: _Ahead, granted: int) -> tuple[ScalingReason, str]:
    threshold = f"{policy.up_at:.0%} of {granted} GPUs"
    if ahead.load > policy.up_at * granted:
        return ScalingReason.LOAD_ABOVE_THRESHOLD, f"load {ahead.load:.1f} exceeds {threshold}"
    return (
        ScalingReason.FORECAST_ABOVE_THRESHOLD,
        f"forecast {ahead.up:.1f} within {policy.lead:.0f} min exceeds {threshold}; "
        f"load now {ahead.load:.1f}",
    )


def _hold(policy: Policy, state: State, ahead: _Ahead) -> tuple[ScalingReason, str]:
    """Why nothing changes: growth under way is enough, or there is nothing to do."""
    if ahead.up > policy.up_at * state.granted:
        return _growth(policy, ahead, state.granted)
    ready = state.granted - state.starting
    if state.starting and ahead.up > policy.up_at * ready:
        return (
            ScalingReason.STARTING,
            f"load and forecast {ahead.up:.1f} exceed {policy.up_at:.0%} of {ready} GPUs that serve; "
            f"{state.starting} more are starting",
        )
    low, high = f"{min(ahead.down, ahead.up):.1f}", f"{max(ahead.down, ahead.up):.1f}"
    seen = high if low == high else f"between {low} and {high}"
    message = (
        f"load and forecast {seen} of {state.granted} GPUs: "
        f"not above {policy.up_at:.0%}, not below {policy.down_at:.0%}"
    )
    return ScalingReason.WITHIN_THRESHOLDS, message


def _kept(state: State, signal: Signal, reason: ScalingReason, message: str) -> Decision:
    load = signal.load if signal.load is not None and math.isfinite(signal.load) else None
    return Decision(state.desired, reason, message, load, None, None, state.granted, None)


def _finite(signal: Signal, use_forecast: bool) -> bool:
    points = signal.forecast if use_forecast else ()
    numbers = [signal.load, *(n for p in points for n in (p.p50, p.p90))]
    return all(n is not None and math.isfinite(n) for n in numbers)


def _within(points: Sequence[Point], minutes: float) -> tuple[Point, ...]:
    """The points up to ``minutes`` and the one that reaches it, by rising time: the forecast is a line, and
    its end must not be missed between two of its points."""
    ordered = sorted(points, key=lambda p: p.minutes)
    before = sum(p.minutes < minutes - 1e-9 for p in ordered)
    return tuple(ordered[: before + 1])
