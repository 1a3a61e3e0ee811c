"""Pod templates that contradict an assignment, each with its sentence, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.workloads.templates import merge_by, template_conflict


def spec_with(pod_spec: dict[str, Any]) -> DeepSeekJobSpec:
    return DeepSeekJobSpec.model_validate(
        {
            "taskType": "Inference",
            "model": {"name": "DeepSeek-R1"},
            "runtime": {"podTemplate": {"spec": pod_spec}},
        }
    )


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("pod_spec", "says"),
    [
        ({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}}, "nodeAffinity"),
        ({"priorityClassName": "high"}, "spec.priorityClassName"),
        ({"restartPolicy": "OnFailure"}, "restartPolicy must be Always"),
        ({"resourceClaims": [{"name": "gpus", "resourceClaimName": "mine"}]}, "rename it"),
        (
            {"initContainers": [{"name": "a", "resources": {"limits": {"amd.com/gpu.spx": 1}}}]},
            "initContainers",
        ),
        (
            {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu.shared": 1}}}]},
            "gpu.shared",
        ),
        ({"containers": [{"name": "a", "resources": {"requests": {"nvidia.com/mig-1g.10gb": 1}}}]}, "mig-1g"),
        ({"containers": [{"name": "a", "resources": {"limits": {"gpu.intel.com/i915": 1}}}]}, "i915"),
        ({"containers": [{"name": "a", "resources": {"claims": [{"name": "gpus"}]}}]}, "engine alone"),
    ],
)
def test_contradictions_are_told(pod_spec: dict[str, Any], says: str) -> None:
    conflict = template_conflict(spec_with(pod_spec))
    assert conflict is not None
    assert says in conflict
    assert conflict.endswith(".")


@pytest.mark.parametrize(
    "pod_spec",
    [
        {},
        {"schedulerName": "my-scheduler"},
        {"restartPolicy": "Always"},
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
        {"affinity": {"podAntiAffinity": {REQUIRED: []}}},
        {"resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "nic"}]},
        {"containers": [{"name": "engine", "resources": {"limits": {"nvidia.com/hostdev": 1, "cpu": "4"}}}]},
        {"tolerations": [{"operator": "Exists"}], "volumes": [{"name": "x", "emptyDir": {}}]},
    ],
)
def test_what_goes_with_any_assignment_is_let_through(pod_spec: dict[str, Any]) -> None:
    assert template_conflict(spec_with(pod_spec)) is None


def test_a_job_without_a_template_has_no_conflict() -> None:
    spec = DeepSeekJobSpec.model_validate({"taskType": "Inference", "model": {"name": "DeepSeek-R1"}})
    assert template_conflict(spec) is None


def test_lists_merge_by_name_and_keep_what_has_none() -> None:
    under: list[dict[str, Any]] = [{"name": "a", "v": 1}, {"v": 2}, {"v": 3}]
    over: list[dict[str, Any]] = [{"name": "b"}, {"name": "a", "v": 9}]
    assert merge_by("name", under, over) == [{"name": "a", "v": 9}, {"v": 2}, {"v": 3}, {"name": "b"}]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        pytest.param({"resourceClaims": "mine"}, "resourceClaims must be a list of objects", id="claims"),
        pytest.param({"volumes": 5}, "volumes must be a list of objects", id="volumes"),
        pytest.param({"tolerations": {"key": "x"}}, "tolerations must be a list", id="tolerations"),
        pytest.param({"affinity": 3}, "affinity must be an object", id="affinity"),
        pytest.param(
            {"affinity": {"nodeAffinity": []}}, "nodeAffinity must be an object", id="node-affinity"
        ),
        pytest.param({"containers": [{"name": "engine", "env": 5}]}, "env must be a list", id="env"),
        pytest.param(
            {"containers": [{"name": "engine", "env": ["A=1"]}]}, "env must be a list", id="env-words"
        ),
        pytest.param({"containers": [{"name": "engine", "args": "--x"}]}, "args must be a list", id="args"),
    ],
)
def test_fields_of_the_wrong_type_are_told_before_they_are_merged(
    template: dict[str, object], said: str
) -> None:
    conflict = template_conflict(spec_with(dict(template)))
    assert conflict is not None and said in conflict
