"""Which status changes are written at once, and which wait for company."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from drse_operator.admission.decisions import Eta, FirstTold, Told, Wait
from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.api.status import (
    Assignment,
    Condition,
    DeepSeekJobStatus,
    QueueStatus,
    ScalingStatus,
)
from drse_operator.controller import pace as delays
from drse_operator.controller.pace import Pace

NOW = 1_000_000.0
SINCE = times.to_wire(NOW)


def waiting(position: int | None, reason: str = "WaitingForTurn", message: str = "") -> QueueStatus:
    return QueueStatus(position=position, reason=reason, message=message, since=SINCE)


def told(start: float) -> Told:
    eta = Eta(start, start)
    return Told(eta, FirstTold(NOW, start, eta))


def holding(*, bound: bool = False, node: str = "node-0") -> Assignment:
    return Assignment(
        replica=0,
        worker=0,
        node=node,
        device_selection=DeviceSelection.COUNT_ONLY,
        count=1,
        since=SINCE,
        bound=bound,
    )


def scaled(**fields: Any) -> ScalingStatus:
    return ScalingStatus(
        **{"desired_replicas": 2, "from_replicas": 1, "reason": "WithinThresholds", **fields}
    )


def condition(status: str, message: str = "") -> Condition:
    return Condition(type="Ready", status=status, reason="X", message=message, last_transition_time=SINCE)


Fields = dict[str, Any]
AT_ONCE = 0.0

CASES = [
    pytest.param({}, {"phase": Phase.RUNNING}, AT_ONCE, id="phase"),
    pytest.param({}, {"assignments": (holding(),)}, AT_ONCE, id="a promise"),
    pytest.param(
        {"assignments": (holding(),)},
        {"assignments": (holding(node="node-1"),)},
        AT_ONCE,
        id="a promise of another place",
    ),
    pytest.param({"failures": 1}, {"failures": 2}, AT_ONCE, id="a failure"),
    pytest.param({}, {"retry_at": SINCE}, AT_ONCE, id="a back-off"),
    pytest.param({}, {"succeeded_replicas": (0,)}, AT_ONCE, id="a replica that has ended"),
    pytest.param({}, {"queue": waiting(30)}, AT_ONCE, id="a wait begins"),
    pytest.param({"queue": waiting(30)}, {"queue": None}, AT_ONCE, id="a wait ends"),
    pytest.param(
        {"conditions": (condition("False"),)},
        {"conditions": (condition("True"),)},
        AT_ONCE,
        id="a condition turns",
    ),
    pytest.param({}, {"scaling": scaled()}, AT_ONCE, id="the first scaling decision"),
    pytest.param(
        {"scaling": scaled()},
        {"scaling": scaled(desired_replicas=3)},
        AT_ONCE,
        id="another number of replicas",
    ),
    pytest.param({"scaling": scaled()}, {"scaling": scaled(low_since=SINCE)}, AT_ONCE, id="a window begins"),
    pytest.param(
        {"scaling": scaled(load=1.0)},
        {"scaling": scaled(load=1.1)},
        delays._SCALING_DELAY,
        id="only the load moved",
    ),
    pytest.param(
        {"assignments": (holding(),)},
        {"assignments": (holding(bound=True),)},
        delays._BOUND_DELAY,
        id="a worker has been bound",
    ),
    pytest.param(
        {"conditions": (condition("True", "1"),)},
        {"conditions": (condition("True", "2"),)},
        delays._BOUND_DELAY,
        id="a condition is worded anew",
    ),
    pytest.param(
        {"queue": waiting(2)},
        {"queue": waiting(2, reason="Fragmented")},
        delays._REASON_DELAY,
        id="another reason to wait",
    ),
    pytest.param(
        {"queue": waiting(3)}, {"queue": waiting(2)}, delays._NEAR_DELAY, id="moved up near the front"
    ),
    pytest.param({"queue": waiting(300)}, {"queue": waiting(299)}, math.inf, id="moved up far behind"),
    pytest.param(
        {"queue": waiting(300), "scaling": scaled(load=1.0)},
        {"queue": waiting(299), "scaling": scaled(load=1.1)},
        delays._SCALING_DELAY,
        id="the more urgent of two changes decides",
    ),
]


@pytest.mark.parametrize(("before", "after", "delay"), CASES)
def test_due(before: Fields, after: Fields, delay: float) -> None:
    pace = Pace()
    pace.written("uid", NOW)
    old, new = DeepSeekJobStatus(**before), DeepSeekJobStatus(**after)
    assert pace.due(old, new, "uid", NOW + 1) == (NOW + 1 if delay == AT_ONCE else NOW + delay)


def test_what_was_not_written_for_long_is_due() -> None:
    pace = Pace()
    old, new = DeepSeekJobStatus(queue=waiting(3)), DeepSeekJobStatus(queue=waiting(2))
    assert pace.due(old, new, "uid", NOW) <= NOW
    pace.written("uid", NOW)
    assert pace.due(old, new, "uid", NOW + delays._NEAR_DELAY - 1) > NOW + delays._NEAR_DELAY - 1
    assert pace.due(old, new, "uid", NOW + delays._NEAR_DELAY) <= NOW + delays._NEAR_DELAY


def test_a_job_that_is_gone_is_forgotten() -> None:
    pace = Pace()
    pace.written("uid", NOW)
    pace.forget("uid")
    old, new = DeepSeekJobStatus(queue=waiting(3)), DeepSeekJobStatus(queue=waiting(2))
    assert pace.due(old, new, "uid", NOW + 1) <= NOW + 1


def wait(position: int | None, reason: WaitReason = WaitReason.WAITING_FOR_TURN, message: str = "") -> Wait:
    return Wait(JobKey("team", "job"), "uid", reason, message, position)


@pytest.mark.parametrize(
    ("before", "after", "delay"),
    [
        pytest.param(waiting(300), wait(300), math.inf, id="nothing"),
        pytest.param(waiting(300), wait(290), math.inf, id="a little nearer, far behind"),
        pytest.param(waiting(300), wait(200), delays._FAR_DELAY, id="much nearer, far behind"),
        pytest.param(waiting(9), wait(8), delays._NEAR_DELAY, id="near the front"),
        pytest.param(waiting(30), wait(20), delays._NEAR_DELAY, id="now near the front"),
        pytest.param(waiting(300), wait(300, WaitReason.FRAGMENTED), delays._REASON_DELAY, id="a reason"),
        pytest.param(waiting(300), wait(300, message="other words"), delays._FAR_DELAY, id="only words"),
        pytest.param(waiting(300), replace(wait(300), told=told(NOW)), delays._NEAR_DELAY, id="a start"),
    ],
)
def test_how_a_wait_goes_on_is_told_at_its_time(before: QueueStatus, after: Wait, delay: float) -> None:
    pace = Pace()
    pace.written("uid", NOW)
    assert pace.told_from("uid", before, after, NOW) == NOW + delay


def test_however_many_have_moved_writes_come_at_a_bounded_rate() -> None:
    pace = Pace()
    told = 0
    for second in range(60):
        told += sum(pace.may_tell(NOW + second) for _ in range(1000))
    assert told == delays._TOLD_BURST + 59 * delays._TOLD_RATE


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    pace = Pace()
    pace.written("uid", NOW + 86400)
    assert pace.told_from("uid", waiting(9), wait(8), NOW) <= NOW
    old, new = DeepSeekJobStatus(queue=waiting(3)), DeepSeekJobStatus(queue=waiting(2))
    assert pace.due(old, new, "uid", NOW) <= NOW
