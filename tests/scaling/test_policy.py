"""The scaling policy by named cases, with the default thresholds 0.8 and 0.5."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from drse_operator.api.reasons import ScalingReason
from drse_operator.scaling.policy import Decision, Point, Policy, Signal, State, decide

R = ScalingReason
NOW = 10_000.0
POLICY = Policy(
    min_replicas=1, max_replicas=10, up_at=0.8, down_at=0.5, lead=10, window=10, use_forecast=True
)


def state(
    desired: int,
    *,
    g: int = 2,
    held: int | None = None,
    ready: int | None = None,
    low_since: float | None = None,
) -> State:
    held = desired if held is None else held
    return State(g, desired, held, held if ready is None else ready, low_since)


def rising(*p90: float, step: int = 5) -> tuple[Point, ...]:
    """A forecast with a P90 every ``step`` minutes, the median a little below."""
    return tuple(Point(step * (i + 1), value * 0.9, value) for i, value in enumerate(p90))


CASES = [
    pytest.param(state(2), Signal(2.5), 2, R.WITHIN_THRESHOLDS, id="between the thresholds: hold"),
    pytest.param(state(2), Signal(3.2), 2, R.WITHIN_THRESHOLDS, id="exactly scaleUpAt is not above it"),
    pytest.param(state(2), Signal(2.0), 2, R.WITHIN_THRESHOLDS, id="exactly scaleDownAt is not below it"),
    pytest.param(state(2), Signal(3.3), 3, R.LOAD_ABOVE_THRESHOLD, id="load above: grow at once"),
    pytest.param(state(2), Signal(9.7), 7, R.LOAD_ABOVE_THRESHOLD, id="as many at once as bring it to 0.8"),
    pytest.param(
        state(2),
        Signal(2.5, rising(3.0, 3.3)),
        3,
        R.FORECAST_ABOVE_THRESHOLD,
        id="forecast above: grow ahead",
    ),
    pytest.param(
        state(2), Signal(2.5, rising(3.3, 2.0)), 3, R.FORECAST_ABOVE_THRESHOLD, id="a peak on the way counts"
    ),
    pytest.param(
        state(2),
        Signal(2.5, rising(3.0, 3.0, 9.0)),
        2,
        R.WITHIN_THRESHOLDS,
        id="beyond the horizon is no matter",
    ),
    pytest.param(state(8), Signal(40.0), 10, R.LOAD_ABOVE_THRESHOLD, id="growth is cut by maxReplicas"),
    pytest.param(state(10), Signal(40.0), 10, R.AT_MAXIMUM, id="nothing left to grow"),
    pytest.param(state(4), Signal(1.0), 4, R.STABILIZING, id="below: the window begins"),
    pytest.param(
        state(4, low_since=NOW - 599), Signal(1.0), 4, R.STABILIZING, id="one second before the window ends"
    ),
    pytest.param(
        state(4, low_since=NOW - 600), Signal(2.6), 2, R.BELOW_THRESHOLD, id="after the window: down to 0.65"
    ),
    pytest.param(
        state(4, low_since=NOW - 600),
        Signal(2.7),
        3,
        R.BELOW_THRESHOLD,
        id="rounded so that it stays below 0.65",
    ),
    pytest.param(
        state(8, low_since=NOW - 600), Signal(0.1), 4, R.BELOW_THRESHOLD, id="at most half in one step"
    ),
    pytest.param(
        state(7, low_since=NOW - 600), Signal(0.0), 4, R.BELOW_THRESHOLD, id="half of seven leaves four"
    ),
    pytest.param(
        state(4, low_since=NOW - 600),
        Signal(1.0, rising(1.0, 3.8)),
        3,
        R.BELOW_THRESHOLD,
        id="a forecast that is low but higher decides the depth",
    ),
    pytest.param(
        state(4, low_since=NOW - 600),
        Signal(1.0, rising(1.0, 5.0)),
        4,
        R.WITHIN_THRESHOLDS,
        id="a rise ahead holds",
    ),
    pytest.param(
        state(3, held=2), Signal(3.3), 3, R.LOAD_ABOVE_THRESHOLD, id="growth under way is not asked for twice"
    ),
    pytest.param(
        state(4, held=2), Signal(6.5), 5, R.LOAD_ABOVE_THRESHOLD, id="growth under way that is not enough"
    ),
    pytest.param(
        state(7),
        Signal(11.3),
        9,
        R.LOAD_ABOVE_THRESHOLD,
        id="a large fleet does not creep: at least 15 % more",
    ),
    pytest.param(state(6), Signal(9.7), 7, R.LOAD_ABOVE_THRESHOLD, id="a small one grows by one as it needs"),
    pytest.param(state(2, held=0), Signal(0.0), 2, R.STARTING, id="nothing held, nothing decided"),
    pytest.param(state(2, ready=0), Signal(9.0), 2, R.STARTING, id="none serves yet: its load means nothing"),
    pytest.param(
        state(2, ready=0),
        Signal(None, frozen=R.LOAD_UNKNOWN),
        2,
        R.STARTING,
        id="none serves, none is measured",
    ),
    pytest.param(
        state(4, ready=2), Signal(3.3), 4, R.STARTING, id="those that start are enough, and it says so"
    ),
    pytest.param(
        state(4, ready=2, low_since=NOW - 600),
        Signal(2.1),
        4,
        R.WITHIN_THRESHOLDS,
        id="those that start are not idle capacity",
    ),
    pytest.param(
        state(4, ready=2, low_since=NOW - 600),
        Signal(1.0),
        2,
        R.BELOW_THRESHOLD,
        id="those that serve are idle: fewer, the starting ones first",
    ),
    pytest.param(
        state(8, held=2, low_since=NOW - 600),
        Signal(2.5),
        4,
        R.BELOW_THRESHOLD,
        id="a wish that nobody granted is taken back when the load is gone",
    ),
    pytest.param(
        state(8, held=1, low_since=NOW - 600),
        Signal(1.9),
        4,
        R.BELOW_THRESHOLD,
        id="even while the load exceeds what little was granted",
    ),
]


@pytest.mark.parametrize(("before", "signal", "desired", "reason"), CASES)
def test_decide(before: State, signal: Signal, desired: int, reason: ScalingReason) -> None:
    decision = decide(POLICY, before, signal, NOW)
    assert (decision.desired, decision.reason) == (desired, reason), decision.message


def test_the_window_begins_runs_and_is_broken_by_load() -> None:
    first = decide(POLICY, state(4), Signal(1.0), NOW)
    assert first.low_since == NOW
    later = decide(POLICY, state(4, low_since=NOW), Signal(1.0), NOW + 300)
    assert (later.low_since, later.reason) == (NOW, R.STABILIZING)
    assert "300 s to go" in later.message
    broken = decide(POLICY, state(4, low_since=NOW), Signal(4.5), NOW + 400)
    assert broken.low_since is None


def test_a_step_down_begins_a_new_window() -> None:
    down = decide(POLICY, state(8, low_since=NOW - 600), Signal(0.1), NOW)
    assert (down.desired, down.low_since) == (4, None)


def test_minimum_keeps_and_says_so() -> None:
    at_least_3 = replace(POLICY, min_replicas=3)
    decision = decide(at_least_3, state(3, low_since=NOW - 600), Signal(0.1), NOW)
    assert (decision.desired, decision.reason) == (3, R.AT_MINIMUM)
    assert "minReplicas" in decision.message


def test_the_shrink_looks_as_far_ahead_as_the_window() -> None:
    """Growth looks at the horizon alone, a shrink also at the time until it could be taken back."""
    patient = replace(POLICY, lead=5, window=20)
    rise_in_15_minutes = Signal(1.0, rising(1.0, 1.0, 5.0))
    decision = decide(patient, state(4, low_since=NOW - 1200), rise_in_15_minutes, NOW)
    assert (decision.desired, decision.reason) == (4, R.WITHIN_THRESHOLDS)


def test_a_longer_lead_sees_further() -> None:
    """The point that reaches the lead time counts, though none lies on it."""
    signal = Signal(1.0, rising(1.0, 1.0, 5.0))
    assert decide(POLICY, state(2), signal, NOW).desired == 2
    decision = decide(replace(POLICY, lead=12.5), state(2), signal, NOW)
    assert (decision.desired, decision.reason) == (4, R.FORECAST_ABOVE_THRESHOLD)


def test_reactive_policy_ignores_the_forecast() -> None:
    reactive = replace(POLICY, use_forecast=False)
    decision = decide(reactive, state(2), Signal(2.5, rising(50.0, math.nan)), NOW)
    assert (decision.desired, decision.reason, decision.p90) == (2, R.WITHIN_THRESHOLDS, None)


def test_numbers_behind_the_decision_are_told() -> None:
    decision = decide(POLICY, state(2), Signal(2.5, rising(3.0, 4.0, 99.0)), NOW)
    assert (decision.load, decision.p50, decision.p90, decision.capacity) == (2.5, 3.6, 4.0, 4)
    assert "forecast 4.0 within 10 min exceeds 80% of 4 GPUs; load now 2.5" in decision.message


BROKEN = [
    pytest.param(Signal(None), id="no load"),
    pytest.param(Signal(math.nan), id="load is NaN"),
    pytest.param(Signal(math.inf), id="load is infinite"),
    pytest.param(Signal(1.0, (Point(5, 1.0, math.nan),)), id="P90 is NaN"),
    pytest.param(Signal(1.0, (Point(5, math.nan, 1.0),)), id="P50 is NaN"),
    pytest.param(Signal(1.0, (Point(60, 1.0, math.inf),)), id="a far point is infinite"),
]


@pytest.mark.parametrize("signal", BROKEN)
def test_broken_numbers_freeze_and_are_not_passed_on(signal: Signal) -> None:
    decision = decide(POLICY, state(4, low_since=NOW - 6000), signal, NOW)
    assert_frozen(decision, 4, R.LOAD_UNKNOWN)


@pytest.mark.parametrize("reason", [r for r in ScalingReason if r.frozen])
def test_a_frozen_signal_keeps_what_stands(reason: ScalingReason) -> None:
    signal = Signal(50.0, rising(99.0), frozen=reason, frozen_message="the reason in words")
    decision = decide(POLICY, state(4, low_since=NOW - 6000), signal, NOW)
    assert_frozen(decision, 4, reason)
    assert decision.message == "the reason in words"


def assert_frozen(decision: Decision, desired: int, reason: ScalingReason) -> None:
    assert (decision.desired, decision.reason) == (desired, reason)
    assert decision.reason.frozen
    assert decision.low_since is None
    numbers = [n for n in (decision.load, decision.p50, decision.p90) if n is not None]
    assert all(math.isfinite(n) for n in numbers)
