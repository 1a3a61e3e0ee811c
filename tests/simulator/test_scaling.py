"""The closed loop's own arithmetic, and the autoscalers that DRSE is compared with, by named cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from drse_operator.simulator.scaling import TICK, Between, Demand, Fleet, Moment, Seen, Service, simulate
from drse_operator.simulator.scaling_policies import Foresight, Hpa, Keda, Textbook

DAY = 86400.0


@dataclass
class Fixed:
    """Asks for so many replicas from a time on."""

    replicas: int
    since: float = 0.0

    def decide(self, seen: Seen) -> int:
        return self.replicas if seen.now >= self.since else seen.replicas


def demand(*values: float, step: float = 600.0, between: Between = Between.STEP) -> Demand:
    return Demand("made", 0.0, step, values, between)


def seen(
    load: float, replicas: int, ready: int | None = None, now: float = 0.0, waiting: float = 0.0
) -> Seen:
    return Seen(now, load - waiting, waiting, replicas, replicas if ready is None else ready)


# -- demand and fleet ------------------------------------------------------------------------------


def test_demand_stands_or_moves_between_two_samples() -> None:
    stands = demand(2.0, 4.0, math.nan, 8.0)
    assert [stands.at(t) for t in (0, 599, 600, 1800, 2399)] == [2.0, 2.0, 4.0, 8.0, 8.0]
    assert math.isnan(stands.at(1200)) and math.isnan(stands.at(2400)) and math.isnan(stands.at(-1))
    moves = replace(stands, between=Between.LINE)
    assert [moves.at(t) for t in (0, 300, 600)] == [2.0, 3.0, 4.0]
    assert math.isnan(moves.at(900)), "beside an unknown sample"


def test_replicas_serve_once_they_have_started_and_the_newest_go_first() -> None:
    fleet = Fleet(startup=180.0, ready=2)
    fleet.scale(5, now=0.0)
    fleet.advance(179.0)
    assert (fleet.replicas, fleet.ready) == (5, 2)
    fleet.scale(3, now=179.0)
    fleet.advance(180.0)
    assert (fleet.replicas, fleet.ready) == (3, 3)
    fleet.scale(1, now=180.0)
    assert (fleet.replicas, fleet.ready) == (1, 1)


# -- what is measured ------------------------------------------------------------------------------


def test_enough_capacity_costs_what_it_costs_and_delays_nothing() -> None:
    outcome = simulate(demand(*[6.5] * 6), Service(), Fixed(10), "fixed")
    assert outcome.hours == pytest.approx(1.0)
    assert outcome.gpu_hours == pytest.approx(10.0)
    assert outcome.demand_gpu_hours == pytest.approx(6.5)
    assert (outcome.under_capacity_share, outcome.queued_share, outcome.lost_share) == (0, 0, 0)
    assert (outcome.queueing_delay_p95_seconds, outcome.actions) == (0, 0)


def test_work_that_finds_no_room_waits_then_gives_up() -> None:
    """12 GPUs of work on 10: the queue is as long as anybody waits after 5 minutes, and from then on a sixth
    of the work is lost."""
    service = Service(min_replicas=10, max_replicas=10)
    moments: list[Moment] = []
    outcome = simulate(demand(*[12.0] * 6), service, Fixed(10), "fixed", moments)
    assert outcome.under_capacity_share == 1.0
    assert moments[0].delay == pytest.approx(2 * TICK / 10)
    assert moments[-1].delay == pytest.approx(service.patience)
    served = outcome.demand_gpu_hours * (1 - outcome.lost_share)
    left = 10 * service.patience / 3600
    assert served == pytest.approx(10.0 + left), "nothing is lost that was not served, waiting or given up"


def test_replicas_are_paid_for_while_they_start() -> None:
    service = Service(startup=600.0)
    outcome = simulate(demand(*[6.5] * 6), service, Fixed(20, since=1800.0), "fixed")
    assert outcome.gpu_hours == pytest.approx(0.5 * 10 + 0.5 * 20)
    assert outcome.actions == 1


def test_unknown_demand_is_not_simulated() -> None:
    outcome = simulate(demand(5.0, math.nan, math.nan, 5.0), Service(), Fixed(8), "fixed")
    assert outcome.hours == pytest.approx(1200 / 3600)


# -- the autoscalers -------------------------------------------------------------------------------

HPA = [
    pytest.param(seen(6.5, 10), 10, id="at the target"),
    pytest.param(seen(7.1, 10), 10, id="within 10 % above"),
    pytest.param(seen(5.9, 10), 10, id="within 10 % below"),
    pytest.param(seen(8.0, 10), 13, id="above: ceil(8 / 0.65)"),
    pytest.param(seen(8.0, 13, ready=10), 13, id="those that start count as idle: nothing more is asked for"),
    pytest.param(seen(9.0, 13, ready=10), 13, id="above on the ready ones, within 10 % on all"),
    pytest.param(seen(12.0, 13, ready=10), 19, id="above on all"),
    pytest.param(seen(100.0, 10), 20, id="growth by 100 % at most"),
    pytest.param(seen(100.0, 2), 6, id="or by four"),
    pytest.param(seen(3.0, 10, ready=0), 10, id="no metrics: nothing"),
]


@pytest.mark.parametrize(("shown", "wanted"), HPA)
def test_horizontal_pod_autoscaler(shown: Seen, wanted: int) -> None:
    assert Hpa(0.65, 1).decide(shown) == wanted


def test_horizontal_pod_autoscaler_shrinks_to_the_highest_advice_of_five_minutes() -> None:
    hpa = Hpa(0.65, 1)
    assert hpa.decide(seen(6.5, 10, now=0.0)) == 10
    assert [hpa.decide(seen(3.25, 10, now=15.0 * n)) for n in range(1, 21)] == [10] * 20
    assert hpa.decide(seen(3.25, 10, now=315.0)) == 5


def test_horizontal_pod_autoscaler_grows_by_no_more_within_its_period() -> None:
    hpa = Hpa(0.65, 1)
    assert hpa.decide(seen(1000.0, 10, now=0.0)) == 20
    assert hpa.decide(seen(1000.0, 20, now=10.0)) == 20
    assert hpa.decide(seen(1000.0, 20, now=15.0)) == 40


def test_keda_follows_the_queue_whatever_is_ready() -> None:
    keda = Keda(threshold=0.5)
    assert keda.decide(seen(12.0, 4, ready=1, waiting=2.0)) == 4
    assert keda.decide(seen(12.0, 4, ready=1, waiting=3.0)) == 6


def test_the_textbook_lands_on_the_opposite_threshold() -> None:
    """Why it flaps: a little less load than it has grown to, and it shrinks to where a little more makes it
    grow."""
    textbook = Textbook(1, expected=[(0.0, 9.0), (60.0, 4.0), (120.0, 7.0)])
    assert textbook.decide(seen(9.0, 10, now=0.0)) == 12
    assert textbook.decide(seen(9.0, 12, now=15.0)) == 12, "once a minute"
    assert textbook.decide(seen(9.0, 12, now=60.0)) == 8
    assert textbook.decide(seen(9.0, 8, now=120.0)) == 9


def test_foresight_is_never_short_and_cheapest() -> None:
    rises = demand(4.0, 4.0, 16.0, 16.0, 2.0, 2.0)
    service = Service()
    outcome = simulate(rises, service, Foresight(rises, service), "foresight")
    assert outcome.under_capacity_share == 0
    assert outcome.gpu_hours < simulate(rises, service, Hpa(0.5, 1), "hpa").gpu_hours
