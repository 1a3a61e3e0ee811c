"""From spec, status and signal to ``status.scaling``, and what ``wanted_replicas`` makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.reasons import ScalingReason
from drse_operator.api.status import Assignment, DeepSeekJobStatus, ScalingStatus
from drse_operator.scaling.apply import policy_of, ready_replicas, scale
from drse_operator.scaling.policy import Point, Signal

NOW = 1_700_000_000.0


def make_spec(mode: str = "Auto", replicas: int = 2, **scaling: Any) -> DeepSeekJobSpec:
    bounds = {"mode": mode, "minReplicas": 1, "maxReplicas": 10, **scaling}
    return DeepSeekJobSpec.model_validate(
        {
            "taskType": "Inference",
            "replicas": replicas,
            "resources": {"gpusPerReplica": 2},
            "scaling": bounds,
        }
    )


def make_status(replicas: int = 2, scaling: ScalingStatus | None = None) -> DeepSeekJobStatus:
    held = tuple(
        Assignment(
            replica=i,
            worker=0,
            node="node-0",
            device_selection=DeviceSelection.COUNT_ONLY,
            count=2,
            since=times.to_wire(NOW),
            started=True,
        )
        for i in range(replicas)
    )
    return DeepSeekJobStatus(assignments=held, gpus_per_replica=2, scaling=scaling)


def test_a_decision_becomes_status() -> None:
    signal = Signal(3.456, (Point(10, 3.0, 3.111),))
    status = scale(make_spec(), make_status(), signal, 2, NOW)
    assert status == ScalingStatus(
        desired_replicas=3,
        from_replicas=2,
        load=3.46,
        forecast_p50=3.0,
        forecast_p90=3.11,
        capacity=4,
        lead_seconds=600,
        reason=ScalingReason.LOAD_ABOVE_THRESHOLD,
        message="load 3.5 exceeds 80% of 4 GPUs",
        low_since=None,
        decided_at=times.to_wire(NOW),
    )


def test_nothing_is_decided_when_off_or_before_the_job_was_sized() -> None:
    assert scale(make_spec("Off", maxReplicas=1), make_status(), Signal(9.0), 2, NOW) is None
    assert scale(make_spec(), DeepSeekJobStatus(), Signal(9.0), 2, NOW) is None


def test_decided_at_is_when_the_number_last_changed() -> None:
    first = scale(make_spec(), make_status(), Signal(2.5), 2, NOW)
    later = scale(make_spec(), make_status(scaling=first), Signal(2.6), 2, NOW + 60)
    changed = scale(make_spec(), make_status(scaling=later), Signal(9.0), 2, NOW + 120)
    assert first is not None and later is not None and changed is not None
    assert later.decided_at == first.decided_at
    assert changed.decided_at == times.to_wire(NOW + 120)


def test_the_window_is_kept_in_the_status_alone() -> None:
    """A restart of the operator in the middle of a window loses nothing."""
    status = scale(make_spec(replicas=4), make_status(4), Signal(1.0), 4, NOW)
    assert status is not None and status.reason == ScalingReason.STABILIZING
    again = ScalingStatus.model_validate_json(status.model_dump_json(by_alias=True))
    done = scale(make_spec(replicas=4), make_status(4, again), Signal(1.0), 4, NOW + 600)
    assert done is not None
    assert (done.desired_replicas, done.reason) == (2, ScalingReason.BELOW_THRESHOLD)


def test_advice_stands_for_as_long_as_it_holds() -> None:
    """In mode Recommend nobody acts, so the advice must not flip back to 'wait' a poll later."""
    spec = make_spec("Recommend", replicas=4)
    status = None
    advice = []
    for minute in range(16):
        status = scale(spec, make_status(4, status), Signal(1.0), 4, NOW + 60 * minute)
        assert status is not None
        advice.append(status.desired_replicas)
    assert advice == [4] * 10 + [2] * 6


@pytest.mark.parametrize("load", [float("nan"), float("inf"), None])
def test_broken_load_freezes_and_still_makes_a_valid_status(load: float | None) -> None:
    status = scale(make_spec(), make_status(), Signal(load), 2, NOW)
    assert status is not None
    assert (status.desired_replicas, status.load) == (2, None)
    assert ScalingReason(status.reason).frozen


def test_bounds_are_read_from_the_spec() -> None:
    policy = policy_of(
        make_spec(
            minReplicas=2,
            maxReplicas=5,
            scaleUpAt=0.9,
            scaleDownAt=0.4,
            horizon="1h",
            stabilizationWindow="90s",
            policy="Reactive",
        ),
        DeepSeekJobStatus(),
    )
    assert (policy.min_replicas, policy.max_replicas, policy.up_at, policy.down_at) == (2, 5, 0.9, 0.4)
    assert (policy.lead, policy.window, policy.use_forecast) == (60.0, 1.5, False)


@pytest.mark.parametrize(
    ("startups", "minutes"),
    [
        pytest.param((), 10.0, id="none has started yet: the horizon"),
        pytest.param((120, 180), 10.0, id="quicker than the horizon"),
        pytest.param((1200,), 20.0, id="slower than the horizon"),
        pytest.param((900,) * 9 + (7200,), 15.0, id="one slow node in ten does not set it"),
        pytest.param((900,) * 8 + (1500,) * 2, 25.0, id="two in ten do"),
    ],
)
def test_the_lead_time_is_what_replicas_take_to_start(startups: tuple[int, ...], minutes: float) -> None:
    status = make_status().model_copy(update={"startups": startups})
    assert policy_of(make_spec(), status).lead == minutes


def test_a_slow_starter_grows_on_the_farther_forecast() -> None:
    signal = Signal(2.0, (Point(10, 2.0, 2.2), Point(20, 4.0, 6.0)))
    quick, slow = make_status(), make_status().model_copy(update={"startups": (1200,)})
    soon, later = scale(make_spec(), quick, signal, 2, NOW), scale(make_spec(), slow, signal, 2, NOW)
    assert soon is not None and later is not None
    assert (soon.desired_replicas, soon.lead_seconds) == (2, 600)
    assert (later.desired_replicas, later.lead_seconds) == (4, 1200)


def test_a_replica_counts_once_all_its_workers_have_started() -> None:
    status = make_status(3)
    late = status.assignments[2].model_copy(update={"started": False})
    status = status.model_copy(update={"assignments": (*status.assignments[:2], late)})
    assert ready_replicas(status) == 2
