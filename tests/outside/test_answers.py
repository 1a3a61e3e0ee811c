"""One answer of what several replicas of the forecaster say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drse_forecaster.contract import ForecastList, ForecastPoint, ForecastState, JobForecast
from drse_operator.outside.forecaster import Answer, Reply

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def forecast(name: str, age: int = 0, ready: bool = False, samples: int = 1) -> JobForecast:
    return JobForecast(
        namespace="team",
        name=name,
        state=ForecastState.READY if ready else ForecastState.TOO_SHORT,
        reason="as it is",
        as_of=NOON - timedelta(seconds=age),
        load=1.0,
        points=(ForecastPoint(minutes=10, p50=1.0, p90=2.0),) if ready else (),
        samples=samples,
    )


def reply(*forecasts: JobForecast, shard: int = 0, shards: int = 1, age: int = 0) -> Reply:
    said = ForecastList(
        generated_at=NOON - timedelta(seconds=age), shard=shard, shards=shards, forecasts=forecasts
    )
    return Reply(f"replica-{shard}", said)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (forecast("a"), forecast("a", age=60, ready=True, samples=9)),
        (forecast("a", ready=True), forecast("a", samples=9)),
        (forecast("a", samples=9), forecast("a")),
    ],
    ids=["fresher", "sounder", "better founded"],
)
def test_of_two_forecasts_of_a_job_the_better_one_counts(better: JobForecast, worse: JobForecast) -> None:
    for pair in ((better, worse), (worse, better)):
        merged = Answer(tuple(reply(one) for one in pair)).merged()
        assert merged is not None and merged.forecasts == (better,)


def test_the_whole_is_as_old_as_its_oldest_part() -> None:
    merged = Answer((reply(shard=0, shards=2, age=5), reply(shard=1, shards=2, age=50))).merged()
    assert merged is not None and merged.generated_at == NOON - timedelta(seconds=50)


def test_nobody_has_answered() -> None:
    answer = Answer((Reply("a", trouble="it is gone"),))
    assert answer.merged() is None and answer.troubles == ("it is gone",)


def test_a_shard_that_is_gone_is_named_unless_something_else_says_so() -> None:
    gone = Answer((reply(shard=1, shards=3),))
    assert gone.missing == (0, 2)
    assert "0, 2 did not answer" in gone.troubles[0]
    told = Answer((reply(shard=0, shards=2), Reply("b", trouble="b is gone")))
    assert told.troubles == ("b is gone",)


def test_while_the_number_of_shards_changes_none_is_missed() -> None:
    assert not Answer((reply(shard=0, shards=1), reply(shard=1, shards=2))).troubles
