"""``GPUQueue``: who may wait for GPUs, with what weight and up to what limit."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from drse_operator.api.base import ApiModel, Rule, StatusModel
from drse_operator.api.enums import Ordering, Preemption, TaskType
from drse_operator.api.maps import KeyedBy, Labels, label_key_rule
from drse_operator.api.memory import FlowStatus, KindTime, LearnedRuns, ToldStarts
from drse_operator.api.status import Condition
from drse_operator.api.types import LABEL, Count, Duration, Flag, Label, Number, Time, seconds

_TaskWeight = Annotated[float, Field(strict=True, gt=0, le=1000)]


class NamespaceSelector(ApiModel):
    """Namespaces that may use a queue: those named, and those that carry all the labels."""

    names: tuple[Label, ...] = Field(default=(), max_length=256, description="Namespaces by name.")
    match_labels: Labels | None = Field(
        default=None, max_length=16, description="Labels that a namespace must carry, all of them."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="(has(self.names) && size(self.names) > 0) || has(self.matchLabels)",
            message="namespaces lets nobody in: give names or matchLabels, or leave namespaces out to let "
            "everybody in",
            holds=lambda n: bool(n.names) or n.match_labels is not None,
        ),
        label_key_rule("matchLabels"),
    )


class TaskWeights(ApiModel):
    """Factors by task type; 1 where left out."""

    inference: _TaskWeight | None = Field(default=None, alias="Inference", description="Services.")
    fine_tuning: _TaskWeight | None = Field(default=None, alias="FineTuning", description="Fine-tunes.")
    pre_training: _TaskWeight | None = Field(
        default=None, alias="PreTraining", description="Pre-training runs."
    )
    distillation: _TaskWeight | None = Field(default=None, alias="Distillation", description="Distillations.")
    batch: _TaskWeight | None = Field(default=None, alias="Batch", description="Other work that ends.")

    def by_type(self) -> dict[TaskType, float]:
        """The factors that are given."""
        return {TaskType(task): float(factor) for task, factor in self.to_wire().items()}


class GPUQueueSpec(ApiModel):
    """Weight, limits and members of a queue."""

    weight: Count = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="Share of the GPUs relative to other queues that have work.",
    )
    guaranteed: Count = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="GPUs that the queue can always get back: while its jobs hold fewer, its waiting jobs "
        "take GPUs from queues that hold more than they are guaranteed. Others may use them meanwhile. It "
        "cannot promise more GPUs than there are.",
    )
    limit: Count | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="GPUs that the queue never exceeds; no limit when left out.",
    )
    namespaces: NamespaceSelector | None = Field(
        default=None, description="Namespaces that may use the queue; all when left out."
    )
    cordoned: Flag = Field(
        default=False,
        description="True lets no waiting job of the queue start; those that hold GPUs keep them.",
    )
    ordering: Ordering = Field(
        default=Ordering.FAIR_SOJOURN,
        description="Order of the queue's waiting jobs of one task type, below their priority.",
    )
    task_weights: TaskWeights | None = Field(
        default=None,
        description="How the queue's share is split between task types: weight multiplies with weight. "
        "`{Inference: 2}` gives services twice what each other task type gets.",
    )
    preemption: Preemption = Field(
        default=Preemption.NEVER,
        description="Whether jobs of the queue may take GPUs from running ones of it with a lower priority. "
        "Taking back what is guaranteed, from other queues, does not depend on it.",
    )
    min_runtime: Duration = Field(
        default="0s",
        description="Jobs of the queue keep their GPUs for at least so long after they got them, whoever "
        "has a right to take them. Long enough for a checkpoint is a good value.",
    )

    wait_target: Duration | None = Field(
        default=None,
        description="Longest that a job of the queue is meant to wait for its first GPUs. Nothing is decided "
        "by it: the alert DRSEJobWaitsTooLong goes by it, and dashboards show it.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.limit) || self.guaranteed <= self.limit",
            message="guaranteed must not exceed limit: the queue could never hold what it is promised",
            holds=lambda q: q.limit is None or q.guaranteed <= q.limit,
            field_path=".guaranteed",
        ),
    )

    @property
    def min_runtime_seconds(self) -> float:
        """``minRuntime`` in seconds."""
        return float(seconds(self.min_runtime))

    @property
    def wait_target_seconds(self) -> float | None:
        """``waitTarget`` in seconds; None without one."""
        return None if self.wait_target is None else float(seconds(self.wait_target))


class GPUQueueStatus(StatusModel):
    """What the queue holds and how much waits in it."""

    observed_generation: Count | None = Field(
        default=None, ge=0, description="Generation of the spec acted on."
    )
    term: Count | None = Field(
        default=None,
        ge=0,
        description="Number of the operator's term as leader in which this was written. Where the chart's "
        "policy is installed, the API server refuses what a leader of an earlier term still writes.",
    )
    conditions: Annotated[tuple[Condition, ...], KeyedBy(("type",))] = Field(
        default=(), max_length=16, description="Conditions, by type."
    )
    assigned_gpus: Count = Field(default=0, ge=0, alias="assignedGPUs", description="GPUs its jobs hold.")
    pending_gpus: Count = Field(default=0, ge=0, alias="pendingGPUs", description="GPUs its jobs wait for.")
    pending_jobs: Count = Field(default=0, ge=0, description="Jobs that wait for GPUs.")
    running_jobs: Count = Field(default=0, ge=0, description="Jobs that hold GPUs.")
    clock_at: Time | None = Field(
        default=None,
        description="When flows, virtualTime and learned stood as written here. What happened later is in "
        "the statuses of the jobs.",
    )
    flows: Annotated[tuple[FlowStatus, ...], KeyedBy(("task_type",))] = Field(
        default=(), max_length=16, description="Standing of the queue's flows, by task type."
    )
    virtual_time: Annotated[tuple[KindTime, ...], KeyedBy(("kind",))] = Field(
        default=(),
        max_length=64,
        description="Start tag that each kind of accelerator has come to. The same for all queues; the "
        "highest counts.",
    )
    learned: Annotated[tuple[LearnedRuns, ...], KeyedBy(("task_type", "model", "gpus"))] = Field(
        default=(), max_length=40, description="How long like jobs of the queue took, the latest last."
    )
    told: ToldStarts | None = Field(
        default=None, description="How often jobs of the queue started as they had been told."
    )
    fairness_bound_used: Number | None = Field(
        default=None,
        description="Largest part of the fairness bound that this queue and any other have used since the "
        "operator began to lead; above 1 the bound was broken.",
    )


#: Rules on the whole object: the name must be one that ``spec.queue`` of a DeepSeekJob can hold.
OBJECT_RULES: tuple[Rule, ...] = (
    Rule(
        cel=f"size(self.metadata.name) <= 63 && self.metadata.name.matches('{LABEL.pattern}')",
        message="metadata.name must hold only a-z, 0-9 and -, and be at most 63 characters: it is used as "
        "a label",
    ),
)
