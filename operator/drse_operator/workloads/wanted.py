"""How many replicas a job should have now, and how many of them only make sense together."""

from __future__ import annotations

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import ScalingMode, TaskType
from drse_operator.api.status import DeepSeekJobStatus


def wanted_replicas(spec: DeepSeekJobSpec, status: DeepSeekJobStatus) -> int:
    """``spec.replicas``, or with scaling mode Auto the standing decision within its bounds."""
    if spec.scaling.mode is not ScalingMode.AUTO:
        return spec.replicas
    scaling = status.scaling
    desired = spec.replicas
    if (
        scaling is not None
        and scaling.desired_replicas is not None
        and scaling.from_replicas == spec.replicas
    ):
        desired = scaling.desired_replicas
    return min(max(desired, spec.scaling.min_replicas), spec.scaling.max_replicas)


def first_unit(spec: DeepSeekJobSpec) -> int:
    """Replicas that start all or none.

    A service starts with its minimum and then grows one by one; independent batch replicas each start as
    they can; the replicas of a training job train together.
    """
    if spec.task_type is TaskType.INFERENCE:
        return spec.scaling.min_replicas if spec.scaling.mode is ScalingMode.AUTO else min(1, spec.replicas)
    return 1 if spec.task_type is TaskType.BATCH else spec.replicas
