"""DRSE's scaling on the forecaster's forecasts, in a closed loop: what must never come back.

Five days of load each, made so that one thing can go wrong; judged on the last two, when the forecaster has
seen a daily pattern three times. Everything runs as in a cluster but for clock and containers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import drse_forecaster  # noqa: F401  it limits BLAS threads, which works only before numpy is loaded

# isort: split

import numpy as np
import pytest
from numpy.typing import NDArray

from drse_forecaster.recorded import Recorded
from drse_forecaster.rehearsal import rehearse
from drse_operator.simulator.scaling import Moment, Service
from drse_operator.simulator.scaling_command import prepare
from drse_operator.simulator.scaling_contest import DRSE, HPA_EQUAL, Contest

STEP = 300
DAYS = 5
FIRST = 1_700_006_400 // STEP  # midnight, UTC
Hours = NDArray[np.float64]


def noise(size: int, seed: int, share: float) -> Hours:
    return np.asarray(np.exp(share * np.random.default_rng(seed).standard_normal(size)))


def steady(hours: Hours) -> Hours:
    """Ten GPUs and a tenth of noise: nothing that scaling should answer."""
    return 10 * noise(hours.size, 1, 0.1)


def ramp(hours: Hours) -> Hours:
    """Three times the load within five minutes at nine, until three in the afternoon."""
    busy = (hours % 24 >= 9) & (hours % 24 < 15)
    return np.where(busy, 15.0, 5.0) * noise(hours.size, 2, 0.03)


def nights(hours: Hours) -> Hours:
    """Nothing from ten in the evening to six in the morning, else a hump of ten GPUs."""
    day = np.sin(np.pi * (hours % 24 - 6) / 16)
    return np.where((hours % 24 >= 6) & (hours % 24 < 22), 10 * np.maximum(day, 0), 0.0) * noise(
        hours.size, 3, 0.03
    )


def outage(hours: Hours) -> Hours:
    """Ten GPUs; for half an hour on the last day the exporter reads zero, and then it is all back."""
    gone = (hours >= 102) & (hours < 102.5)
    return np.where(gone, 0.0, 10 * noise(hours.size, 4, 0.03))


LOADS: dict[str, Callable[[Hours], Hours]] = {one.__name__: one for one in (steady, ramp, nights, outage)}


@pytest.fixture(scope="module")
def contests() -> dict[str, Contest]:
    hours = np.arange(DAYS * 24 * 3600 // STEP) * STEP / 3600
    recorded = [Recorded(name, FIRST, STEP, load(hours)) for name, load in LOADS.items()]
    found = {}
    for one, answers in zip(recorded, rehearse(recorded), strict=True):
        contest = Contest(prepare(one, answers, one.values, Service(), 1.0), keep_moments=True)
        contest.run((DRSE, HPA_EQUAL))
        found[one.name] = contest
    return found


def late(
    contest: Contest, policy: str = DRSE, since_hours: float = 72, until_hours: float = 120
) -> list[Moment]:
    start = FIRST * STEP
    return [m for m in contest.moments[policy] if since_hours <= (m.time - start) / 3600 < until_hours]


def changes(moments: list[Moment]) -> list[float]:
    return [b.held - a.held for a, b in pairwise(moments) if a.held != b.held]


def under(moments: list[Moment]) -> float:
    return sum(m.demand > m.capacity for m in moments) / len(moments)


def test_noise_around_a_steady_load_is_left_alone(contests: dict[str, Contest]) -> None:
    moments = late(contests["steady"])
    assert under(moments) == 0
    assert len(changes(moments)) <= 4, "in two days"
    assert max(m.held for m in moments) <= 20


def test_a_ramp_that_comes_every_day_is_served_from_its_first_minute(contests: dict[str, Contest]) -> None:
    contest = contests["ramp"]
    for day in (3, 4):
        hour = late(contest, DRSE, 24 * day + 8.75, 24 * day + 9.75)
        assert under(hour) == 0, f"day {day}"
    assert under(late(contest, HPA_EQUAL, 96 + 8.75, 96 + 9.75)) > 0.03, "or the test is too easy"


def test_a_ramp_is_answered_by_few_changes(contests: dict[str, Contest]) -> None:
    assert len(changes(late(contests["ramp"]))) <= 12, "a day has a rise and a fall"


def test_replicas_sleep_at_night_and_are_back_in_the_morning(contests: dict[str, Contest]) -> None:
    contest = contests["nights"]
    for day in (3, 4):
        assert min(m.held for m in late(contest, DRSE, 24 * day, 24 * day + 5)) == 1
        assert under(late(contest, DRSE, 24 * day + 6, 24 * day + 22)) <= 0.005


def test_an_outage_that_reads_zero_does_not_leave_the_service_short(contests: dict[str, Contest]) -> None:
    contest = contests["outage"]
    (before,) = {m.held for m in late(contest, DRSE, 101.9, 102)}
    back = late(contest, DRSE, 102.5, 104)
    assert under(back) <= 0.1, "as long as replicas take to start, at most twice"
    assert max(m.held for m in late(contest, DRSE, 103, 120)) <= 2 * before, "nor does it overshoot"
