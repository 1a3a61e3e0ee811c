"""Timers: against a plain dictionary of the earliest time of each job."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from drse_operator.controller.timers import Timers

uids = st.sampled_from(("a", "b", "c"))
times_ = st.integers(0, 20).map(float)
steps = st.one_of(st.tuples(st.just("set"), uids, times_), st.tuples(st.just("due"), times_))


@given(st.lists(steps, max_size=30))
def test_each_job_comes_due_once_at_its_earliest_time(history: list[tuple[object, ...]]) -> None:
    timers, model, now = Timers(), dict[str, float](), 0.0
    for step in history:
        if step[0] == "set":
            _, uid, at = step
            assert isinstance(uid, str) and isinstance(at, float)
            timers.set(uid, at)
            model[uid] = min(at, model.get(uid, math.inf))
            continue
        assert isinstance(step[1], float)
        now = max(now, step[1])
        expected = sorted(uid for uid, at in model.items() if at <= now)
        assert sorted(timers.due(now)) == expected
        model = {uid: at for uid, at in model.items() if at > now}
    # It may wake too early, for a time that has been replaced by an earlier one, but never too late.
    next_ = min(model.values(), default=math.inf)
    assert timers.wait(now) <= max(0.0, next_ - now)


def test_nothing_to_wait_for() -> None:
    assert Timers().wait(5.0) == math.inf
    assert Timers().due(5.0) == []


def test_waits_until_the_next() -> None:
    timers = Timers()
    timers.set("a", 10.0)
    assert (timers.wait(4.0), timers.wait(12.0)) == (6.0, 0.0)
