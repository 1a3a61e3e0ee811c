"""How the models read documents, and what they write.

Level: data only; the server's side of the same is in ``tests/cluster/test_validation_agreement.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from drse_operator.api.deepseekjob import DeepSeekJobSpec, Scaling
from drse_operator.api.enums import ScalingMode, TaskType
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.status import Condition, DeepSeekJobStatus, ScalingStatus

MINIMAL: dict[str, Any] = {"taskType": "Inference", "model": {"name": "deepseek-ai/DeepSeek-R1"}}


def test_null_is_as_good_as_left_out() -> None:
    nulls = {"queue": None, "scaling": None, "priorityClassName": None, "runtime": {"port": None}}
    assert DeepSeekJobSpec.from_wire(MINIMAL | nulls) == DeepSeekJobSpec.from_wire(MINIMAL)


def test_null_of_an_unknown_field_is_still_unknown() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DeepSeekJobSpec.from_wire(MINIMAL | {"unknown": None})


def test_null_in_a_free_part_is_kept_until_it_is_written() -> None:
    job = MINIMAL | {"runtime": {"podTemplate": {"spec": {"hostname": None, "dnsPolicy": "Default"}}}}
    template = DeepSeekJobSpec.from_wire(job).runtime.pod_template
    assert template is not None
    assert template.spec is not None
    assert template.spec.to_wire() == {"dnsPolicy": "Default"}


def test_documents_are_camel_case_and_code_is_snake_case() -> None:
    with pytest.raises(ValidationError):
        DeepSeekJobSpec.from_wire({"task_type": "Inference", "model": MINIMAL["model"]})
    assert Scaling(mode=ScalingMode.AUTO, max_replicas=4).max_replicas == 4


@pytest.mark.parametrize("replicas", ["2", 2.5, True], ids=repr)
def test_numbers_are_not_guessed(replicas: object) -> None:
    with pytest.raises(ValidationError, match="replicas"):
        DeepSeekJobSpec.from_wire(MINIMAL | {"replicas": replicas})


def test_whole_float_is_an_integer() -> None:
    replicas = DeepSeekJobSpec.from_wire(MINIMAL | {"replicas": 2.0}).replicas
    assert replicas == 2
    assert isinstance(replicas, int)


def test_models_cannot_be_changed() -> None:
    spec = DeepSeekJobSpec.from_wire(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.replicas = 3  # type: ignore[misc]


def test_what_is_written_reads_the_same() -> None:
    spec = DeepSeekJobSpec.from_wire(MINIMAL)
    assert DeepSeekJobSpec.from_wire(spec.to_wire()) == spec
    assert spec.to_wire()["taskType"] == TaskType.INFERENCE.value


def test_repeated_keys_are_refused_with_their_name() -> None:
    twice = {"env": [{"name": "A", "value": "1"}, {"name": "A"}]}
    with pytest.raises(ValidationError, match="name A occurs more than once"):
        DeepSeekJobSpec.from_wire(MINIMAL | {"runtime": twice})


def test_status_of_a_newer_operator_is_read_as_far_as_it_is_known() -> None:
    status = DeepSeekJobStatus.from_wire({"gpus": 3, "unheardOf": {"a": 1}})
    assert status == DeepSeekJobStatus(gpus=3)


def test_status_takes_no_number_that_json_lacks() -> None:
    with pytest.raises(ValidationError, match="finite"):
        ScalingStatus(load=float("nan"))


def test_condition_takes_no_time_without_a_zone() -> None:
    with pytest.raises(ValidationError, match="last_transition_time"):
        Condition(type="Ready", status="True", reason="X", last_transition_time="2026-01-02T03:04:05")


def test_replicas_follow_the_mode() -> None:
    fixed = DeepSeekJobSpec.from_wire(MINIMAL | {"replicas": 3})
    assert fixed.wanted_range == (3, 3)
    scaling = {"mode": "Auto", "minReplicas": 2, "maxReplicas": 5}
    assert DeepSeekJobSpec.from_wire(MINIMAL | {"scaling": scaling}).wanted_range == (2, 5)


def test_queue_needs_nothing() -> None:
    assert GPUQueueSpec.from_wire({}) == GPUQueueSpec(weight=1, guaranteed=0)
