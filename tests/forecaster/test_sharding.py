"""Each job is served by exactly one replica, whatever their number, and few move when it changes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_forecaster.series import JobKey
from drse_forecaster.sharding import Shard, owner

NAMES = st.text("abcdefghij-0123456789", min_size=1, max_size=20)
JOBS = [JobKey(f"team-{number % 7}", f"job-{number}") for number in range(2000)]


@given(NAMES, NAMES, st.integers(1, 9))
def test_every_job_is_served_once(namespace: str, name: str, count: int) -> None:
    key = JobKey(namespace, name)
    assert sum(Shard(index, count).owns(key) for index in range(count)) == 1


@given(NAMES, NAMES, st.integers(1, 9))
def test_a_new_replica_only_takes_and_a_lost_one_only_gives(namespace: str, name: str, count: int) -> None:
    key = JobKey(namespace, name)
    before, after = owner(key, count), owner(key, count + 1)
    assert after in (before, count)


def test_shares_are_even_and_few_jobs_move() -> None:
    shares = Counter(owner(key, 4) for key in JOBS)
    assert all(420 < shares[index] < 580 for index in range(4))
    moved = sum(owner(key, 4) != owner(key, 5) for key in JOBS)
    assert 320 < moved < 480, "one in five"


@pytest.mark.parametrize(("text", "shard"), [("0/1", Shard()), ("drse-forecaster-2/3", Shard(2, 3))])
def test_shard_is_read(text: str, shard: Shard) -> None:
    assert Shard.parse(text) == shard


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "0/0", "-1/2x"])
def test_shard_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)shard"):
        Shard.parse(text)
