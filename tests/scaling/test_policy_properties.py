"""What holds of every scaling decision, and of decisions that follow each other."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, note
from hypothesis import strategies as st

from drse_operator.api.reasons import ScalingReason
from drse_operator.scaling.policy import LEAST_GROWTH, Decision, Point, Policy, Signal, State, decide

NOW = 1_000_000.0
loads = st.floats(0, 200, allow_nan=False)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least = draw(st.integers(1, 8))
    down = draw(st.floats(0.05, 0.9))
    return Policy(
        min_replicas=least,
        max_replicas=draw(st.integers(least, 20)),
        up_at=draw(st.floats(down + 0.01, 1.0)),
        down_at=down,
        lead=draw(st.sampled_from((5.0, 10.0, 30.0))),
        window=draw(st.sampled_from((0.0, 5.0, 10.0, 60.0))),
        use_forecast=draw(st.booleans()),
    )


@st.composite
def states(draw: st.DrawFn, policy: Policy) -> State:
    desired = draw(st.integers(policy.min_replicas, policy.max_replicas))
    since = draw(st.one_of(st.none(), st.floats(0, 7200)))
    held = draw(st.one_of(st.just(desired), st.integers(1, policy.max_replicas)))
    return State(
        gpus_per_replica=draw(st.sampled_from((1, 2, 4, 8, 16))),
        desired=desired,
        held=held,
        ready=draw(st.one_of(st.just(held), st.integers(1, held))),
        low_since=None if since is None else NOW - since,
    )


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    minutes = draw(st.lists(st.sampled_from((1, 5, 10, 15, 30)), unique=True))
    points = []
    for at in sorted(minutes):
        p90 = draw(loads)
        points.append(Point(at, p90 * draw(st.floats(0, 1)), p90))
    return Signal(draw(loads), tuple(points))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Policy, State, Signal]:
    policy = draw(policies())
    return policy, draw(states(policy)), draw(signals())


def peak(policy: Policy, signal: Signal, minutes: float) -> float:
    assert signal.load is not None
    points = signal.forecast if policy.use_forecast else ()
    reaching = min((p.minutes for p in points if p.minutes >= minutes), default=minutes)
    return max([signal.load, *(p.p90 for p in points if p.minutes <= reaching)])


@given(situations())
def test_within_bounds(situation: tuple[Policy, State, Signal]) -> None:
    policy, _, _ = situation
    assert policy.min_replicas <= decide(*situation, NOW).desired <= policy.max_replicas


@given(situations())
def test_growth_is_immediate_and_enough(situation: tuple[Policy, State, Signal]) -> None:
    policy, state, signal = situation
    needed = peak(policy, signal, policy.lead)
    decision = decide(*situation, NOW)
    if needed > policy.up_at * state.gpus_per_replica * state.desired:
        room = policy.up_at * state.gpus_per_replica * decision.desired
        assert decision.desired == policy.max_replicas or needed <= room * (1 + 1e-6)
        assert decision.desired >= state.desired
        assert decision.low_since is None


@given(situations())
def test_growth_is_no_larger_than_needed_or_a_step(situation: tuple[Policy, State, Signal]) -> None:
    policy, state, signal = situation
    decision = decide(*situation, NOW)
    if decision.desired > state.desired:
        needed = peak(policy, signal, policy.lead) / (policy.up_at * state.gpus_per_replica)
        assert needed > state.desired * (1 - 1e-6)
        assert decision.desired < max(needed, state.desired * (1 + LEAST_GROWTH)) + 1


@given(situations())
def test_a_shrink_has_waited_is_gentle_and_never_triggers_growth(
    situation: tuple[Policy, State, Signal],
) -> None:
    policy, state, signal = situation
    decision = decide(*situation, NOW)
    if decision.desired >= state.desired:
        return
    assert policy.window == 0 or state.low_since is not None
    assert NOW - (NOW if state.low_since is None else state.low_since) >= policy.window * 60
    assert decision.desired >= math.ceil(state.desired / 2)
    left = state.gpus_per_replica * decision.desired
    shrunk = replace(state, desired=decision.desired, held=decision.desired, ready=decision.desired)
    after = decide(policy, shrunk, signal, NOW)
    note(f"{left} GPUs left, then {after}")
    assert peak(policy, signal, policy.lead) <= policy.up_at * left * (1 + 1e-6)
    assert after.desired <= decision.desired


@given(situations())
def test_between_the_thresholds_nothing_moves(situation: tuple[Policy, State, Signal]) -> None:
    policy, state, signal = situation
    held = state.gpus_per_replica * min(state.held, state.desired)
    up = peak(policy, signal, policy.lead) > policy.up_at * held
    idle = state.gpus_per_replica * state.desired - state.starting
    low = peak(policy, signal, max(policy.lead, policy.window)) < policy.down_at * idle
    decision = decide(*situation, NOW)
    if not up and not low:
        assert (decision.desired, decision.low_since) == (state.desired, None)


@given(situations(), st.floats(0, 100), st.floats(0, 100))
def test_more_load_never_means_fewer_replicas(
    situation: tuple[Policy, State, Signal], more_now: float, more_ahead: float
) -> None:
    policy, state, signal = situation
    assert signal.load is not None
    forecast = tuple(Point(p.minutes, p.p50, p.p90 + more_ahead) for p in signal.forecast)
    heavier = Signal(signal.load + more_now, forecast)
    assert decide(policy, state, heavier, NOW).desired >= decide(*situation, NOW).desired


@given(situations(), st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_what_is_no_number_freezes(situation: tuple[Policy, State, Signal], load: float | None) -> None:
    policy, state, signal = situation
    decision = decide(policy, state, replace(signal, load=load), NOW)
    assert (decision.desired, decision.reason) == (state.desired, ScalingReason.LOAD_UNKNOWN)
    assert (decision.load, decision.low_since) == (None, None)


def run(policy: Policy, state: State, loads_by_minute: list[float], delay: int) -> list[Decision]:
    """One decision a minute, each taken up; new replicas hold GPUs ``delay`` minutes later."""
    decisions = []
    wishes = [state.desired] * (delay + 1)
    for minute, load in enumerate(loads_by_minute):
        held = min(wishes[-delay - 1 :])
        now = NOW + 60 * minute
        decision = decide(policy, replace(state, held=held, ready=held), Signal(load), now)
        state = replace(state, desired=decision.desired, low_since=decision.low_since)
        wishes.append(decision.desired)
        decisions.append(decision)
    return decisions


@given(policies(), st.data(), loads, st.integers(0, 3))
def test_a_constant_load_moves_one_way_and_comes_to_rest(
    policy: Policy, data: st.DataObject, load: float, delay: int
) -> None:
    policy = replace(policy, window=min(policy.window, 10.0))
    state = replace(data.draw(states(policy)), low_since=None)
    state = replace(state, held=state.desired, ready=state.desired)
    wishes = [state.desired, *(d.desired for d in run(policy, state, [load] * 80, delay))]
    steps = [b - a for a, b in pairwise(wishes) if a != b]
    note(f"wishes {wishes}")
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    # Up in one step; down in as many as it takes when each removes at most half.
    assert len(steps) <= (1 if steps and steps[0] > 0 else math.ceil(math.log2(20)))
    assert len(set(wishes[-15:])) == 1


@given(st.data(), st.floats(1, 100), st.lists(st.floats(-0.05, 0.05), min_size=60, max_size=60))
def test_a_little_noise_does_not_flap(data: st.DataObject, load: float, noise: list[float]) -> None:
    """With the default thresholds, 5 % up and down around any load never gives and takes in turn."""
    policy = Policy(1, 500, up_at=0.8, down_at=0.5, lead=10, window=10, use_forecast=False)
    g = data.draw(st.sampled_from((1, 2, 8)))
    fitting = max(1, math.ceil(load / (0.65 * g)))
    start = State(g, fitting, fitting, fitting, None)
    wishes = [fitting, *(d.desired for d in run(policy, start, [load * (1 + n) for n in noise], 1))]
    steps = [b - a for a, b in pairwise(wishes) if a != b]
    note(f"wishes {wishes}")
    assert not (any(s > 0 for s in steps) and any(s < 0 for s in steps))
