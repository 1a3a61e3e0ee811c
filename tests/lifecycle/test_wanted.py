"""How many replicas are wanted, and how many only make sense together."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.status import DeepSeekJobStatus, ScalingStatus
from drse_operator.workloads.wanted import first_unit, wanted_replicas
from tests.lifecycle.builders import make_spec

AUTO = {"mode": "Auto", "minReplicas": 2, "maxReplicas": 6}


def decided(desired: int, taken_up: int) -> DeepSeekJobStatus:
    return DeepSeekJobStatus(scaling=ScalingStatus(desired_replicas=desired, from_replicas=taken_up))


@pytest.mark.parametrize(
    ("spec", "status", "wanted"),
    [
        pytest.param({"replicas": 3}, decided(5, 3), 3, id="off: the number that is written"),
        pytest.param({"replicas": 0}, DeepSeekJobStatus(), 0, id="none is a number too"),
        pytest.param(
            {"replicas": 3, "scaling": {**AUTO, "mode": "Recommend"}},
            decided(5, 3),
            3,
            id="advice is only advice",
        ),
        pytest.param(
            {"replicas": 3, "scaling": AUTO}, DeepSeekJobStatus(), 3, id="auto: the number to start from"
        ),
        pytest.param({"replicas": 1, "scaling": AUTO}, DeepSeekJobStatus(), 2, id="raised to the minimum"),
        pytest.param({"replicas": 9, "scaling": AUTO}, DeepSeekJobStatus(), 6, id="cut to the maximum"),
        pytest.param({"replicas": 3, "scaling": AUTO}, decided(5, 3), 5, id="the standing decision"),
        pytest.param(
            {"replicas": 4, "scaling": AUTO}, decided(6, 3), 4, id="kubectl scale is taken up at once"
        ),
        pytest.param({"replicas": 3, "scaling": AUTO}, decided(9, 3), 6, id="a maximum lowered since then"),
    ],
)
def test_wanted_replicas(spec: dict[str, Any], status: DeepSeekJobStatus, wanted: int) -> None:
    assert wanted_replicas(make_spec("Inference", **spec), status) == wanted


@pytest.mark.parametrize(
    ("task", "spec", "unit"),
    [
        pytest.param("Inference", {"replicas": 4}, 1, id="a service starts with one"),
        pytest.param("Inference", {"replicas": 0}, 0, id="or none"),
        pytest.param("Inference", {"replicas": 4, "scaling": AUTO}, 2, id="or with its minimum"),
        pytest.param("Batch", {"replicas": 4}, 1, id="batch replicas are independent"),
        pytest.param("PreTraining", {"replicas": 4}, 4, id="training replicas train together"),
        pytest.param("FineTuning", {"replicas": 2}, 2, id="so do those of a fine-tune"),
    ],
)
def test_first_unit(task: str, spec: dict[str, Any], unit: int) -> None:
    assert first_unit(make_spec(task, **spec)) == unit
