"""``GPUQueue``: who may wait for GPUs, with what weight and up to what limit."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from drse_operator.api.base import ApiModel, Rule, StatusModel
from drse_operator.api.maps import KeyedBy, Labels, label_key_rule
from drse_operator.api.status import Condition
from drse_operator.api.types import LABEL, Count, Label


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
        description="GPUs that the queue is promised. Borrowers do not give them back yet: it informs only.",
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

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.limit) || self.guaranteed <= self.limit",
            message="guaranteed must not exceed limit: the queue could never hold what it is promised",
            holds=lambda q: q.limit is None or q.guaranteed <= q.limit,
            field_path=".guaranteed",
        ),
    )


class GPUQueueStatus(StatusModel):
    """What the queue holds and how much waits in it."""

    observed_generation: Count | None = Field(
        default=None, ge=0, description="Generation of the spec acted on."
    )
    conditions: Annotated[tuple[Condition, ...], KeyedBy(("type",))] = Field(
        default=(), max_length=16, description="Conditions, by type."
    )
    assigned_gpus: Count = Field(default=0, ge=0, alias="assignedGPUs", description="GPUs its jobs hold.")
    pending_gpus: Count = Field(default=0, ge=0, alias="pendingGPUs", description="GPUs its jobs wait for.")
    pending_jobs: Count = Field(default=0, ge=0, description="Jobs that wait for GPUs.")
    running_jobs: Count = Field(default=0, ge=0, description="Jobs that hold GPUs.")


#: Rules on the whole object: the name must be one that ``spec.queue`` of a DeepSeekJob can hold.
OBJECT_RULES: tuple[Rule, ...] = (
    Rule(
        cel=f"size(self.metadata.name) <= 63 && self.metadata.name.matches('{LABEL.pattern}')",
        message="metadata.name must hold only a-z, 0-9 and -, and be at most 63 characters: it is used as "
        "a label",
    ),
)
