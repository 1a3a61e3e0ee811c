"""Queues are looked through in turns, and all of them, however long they are."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from drse_operator.admission.decisions import Pending
from drse_operator.admission.snapshot import FlowKey
from drse_operator.api.enums import TaskType
from drse_operator.api.reasons import WaitReason
from drse_operator.controller import sweep as limits
from drse_operator.controller.sweep import Sweep

NOW = 1_000_000.0


def pending(sizes: dict[str, int]) -> list[Pending]:
    return [
        Pending(FlowKey(name, TaskType.BATCH), WaitReason.WAITING_FOR_TURN, frozenset("k"), size, size)
        for name, size in sizes.items()
    ]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 3000), min_size=1))
def test_each_queue_has_its_turn_and_no_pass_looks_at_too_many(sizes: dict[str, int]) -> None:
    sweep = Sweep()
    sweep.take(pending(sizes), True)
    turns: Counter[str] = Counter()
    now = NOW
    for _ in range(400):
        chosen = sweep.next(now)
        turns.update(chosen)
        assert len(chosen) <= 1 or sum(sizes[name] for name in chosen) <= limits._A_PASS
        sweep.take(pending(sizes), True)
        now += 0.1
    period = max(limits._PERIOD, sum(sizes.values()) * limits._PER_JOB)
    assert set(turns) == set(sizes)
    assert all(number <= 40 / period + 2 for number in turns.values())


def test_it_asks_to_be_woken_only_while_there_may_be_something_to_tell() -> None:
    sweep = Sweep()
    assert (sweep.next(NOW), sweep.wait(NOW)) == ((), math.inf)
    sweep.take(pending({"a": 3}), True)
    assert sweep.wait(NOW) == 0
    assert sweep.next(NOW) == ("a",)
    sweep.take(pending({"a": 3}), False)
    assert sweep.wait(NOW) == math.inf
    sweep.take(pending({"a": 2}), True)
    assert 0 < sweep.wait(NOW + 0.5) <= limits._PERIOD
    sweep.take(pending({}), True)
    assert sweep.wait(NOW + 1) == math.inf


def test_what_may_not_be_told_yet_is_looked_at_again_when_it_may() -> None:
    sweep = Sweep()
    sweep.take(pending({"a": 3, "b": 1}), True)
    assert sweep.next(NOW) == ("a", "b")
    sweep.again("a", NOW + 10)
    sweep.again("a", NOW + 12)
    sweep.take(pending({"a": 3, "b": 1}), False)
    assert sweep.wait(NOW) == 10, "the first of both counts"
    assert "a" in sweep.next(NOW + 5)
    assert sweep.wait(NOW + 5) == 5, "a look that came too early does not count"
    assert "a" in sweep.next(NOW + 10)
    assert sweep.wait(NOW + 10) == math.inf
    sweep.again("b", NOW + 20)
    sweep.take(pending({"a": 3}), False)
    assert sweep.wait(NOW + 11) == math.inf, "nobody waits in it any more"


def test_new_starts_are_told_when_each_queue_has_its_turn() -> None:
    """Not only when something else happens: nothing may, for long."""
    sweep = Sweep()
    sweep.take(pending({"a": 3}), True)
    assert sweep.next(NOW) == ("a",)
    sweep.take(pending({"a": 3}), False)
    sweep.touch()
    assert sweep.next(NOW + 0.5) == ()
    sweep.take(pending({"a": 3}), False)
    assert sweep.wait(NOW + 0.5) == limits._PERIOD - 0.5
    assert sweep.next(NOW + limits._PERIOD) == ("a",)


def test_a_clock_that_is_set_back_makes_nobody_wait() -> None:
    sweep = Sweep()
    sweep.take(pending({"a": 3}), True)
    assert sweep.next(NOW) == ("a",)
    assert sweep.next(NOW + 0.1) == ()
    assert sweep.next(NOW - 3600) == ("a",)
