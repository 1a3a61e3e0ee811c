"""``status`` of a DeepSeekJob: what DRSE promised, did and knows. Written by the operator only.

The status is DRSE's memory. Everything the operator needs after a crash is here or in the objects it
made, so a restart rebuilds the same picture (invariant P7 of the design).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from drse_operator.api.base import StatusModel
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.maps import KeyedBy
from drse_operator.api.memory import Mark, Ran
from drse_operator.api.types import Count, Flag, Number, Time


class Condition(StatusModel):
    """As metav1.Condition."""

    type: str = Field(max_length=316, description="Type of the condition in CamelCase.")
    status: str = Field(pattern=r"^(True|False|Unknown)$", description="True, False or Unknown.")
    reason: str = Field(max_length=1024, description="One CamelCase word from a closed list.")
    message: str = Field(default="", max_length=32768, description="A sentence with the numbers.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: Count | None = Field(
        default=None, ge=0, description="Generation of the spec that the condition speaks of."
    )


class FirstEta(StatusModel):
    """What the job was told first: later it is judged by this."""

    told_at: Time = Field(description="When it was told.")
    expected: Time = Field(
        description="Start that the plan gave, before it was corrected by how earlier jobs had started."
    )
    p50: Time = Field(description="As likely earlier as later than this.")
    p90: Time = Field(description="Nine in ten start before this.")


class MovedEta(StatusModel):
    """The last move of the expected start by more than a minute and a tenth of the wait."""

    at: Time = Field(description="When the job was told of it.")
    p50: Time = Field(description="p50 as it had been told until then.")
    p90: Time = Field(description="p90 as it had been told until then.")
    reason: str = Field(max_length=64, description="Typed reason, see the API reference.")
    message: str = Field(default="", max_length=1024, description="The cause in words.")


class Eta(StatusModel):
    """When the job is expected to start."""

    p50: Time | None = Field(default=None, description="As likely earlier as later than this.")
    p90: Time | None = Field(default=None, description="Nine in ten start before this.")
    first: FirstEta | None = Field(default=None, description="What was told first.")
    moved: MovedEta | None = Field(default=None, description="Its last move; absent while there was none.")


class QueueStatus(StatusModel):
    """Why the job, or its next replica, waits."""

    position: Count | None = Field(
        default=None, ge=1, description="Place among the waiting jobs of its queue."
    )
    reason: str = Field(max_length=64, description="Typed reason, see the API reference.")
    message: str = Field(
        default="", max_length=4096, description="The reason with its numbers, and what to do."
    )
    since: Time = Field(description="When the wait began.")
    eta: Eta | None = Field(default=None, description="Expected start.")


class Device(StatusModel):
    """One GPU, by the names that the cluster knows it by."""

    uuid: str = Field(max_length=253, description="UUID, as exporters label it.")
    driver: str = Field(default="", max_length=253, description="DRA driver that publishes it.")
    pool: str = Field(default="", max_length=253, description="Pool in the driver's ResourceSlices.")
    name: str = Field(default="", max_length=253, description="Name in the pool.")


class Assignment(StatusModel):
    """The GPUs of one worker. Written before anything is created for it."""

    replica: Count = Field(ge=0, description="Index of the replica.")
    worker: Count = Field(ge=0, description="Index of the worker in its replica.")
    node: str = Field(max_length=253, description="Node of the GPUs.")
    product: str = Field(default="", max_length=253, description="Product of the GPUs.")
    resource: str = Field(
        default="",
        max_length=253,
        description="Extended resource that is counted, for CountOnly assignments.",
    )
    device_selection: DeviceSelection = Field(
        description="Exact: the devices are named. CountOnly: the node's device plugin picks them."
    )
    count: Count = Field(ge=1, description="Number of GPUs.")
    devices: tuple[Device, ...] = Field(default=(), max_length=32, description="The devices, when Exact.")
    since: Time = Field(description="When the GPUs were promised.")
    share: Number | None = Field(
        default=None, description="Share of the cluster that these GPUs are, memory and compute considered."
    )
    charged: Number | None = Field(
        default=None,
        description="What the job's flow was charged for them when they were promised, in seconds of the "
        "whole cluster.",
    )
    bound: Flag = Field(
        default=False, description="The pod has been bound to the node, with DRA on the promised devices."
    )
    started: Flag = Field(
        default=False,
        description="The pod has been ready. Until then its GPUs count neither as capacity nor as load.",
    )


class ScalingStatus(StatusModel):
    """The last scaling decision and its numbers."""

    desired_replicas: Count | None = Field(
        default=None,
        ge=0,
        description="Replicas that DRSE works towards; in mode Recommend what it would do.",
    )
    from_replicas: Count | None = Field(
        default=None, ge=0, description="Value of spec.replicas that was last taken up as a starting point."
    )
    load: Number | None = Field(default=None, description="Load now, in GPU-equivalents.")
    forecast_p50: Number | None = Field(
        default=None, description="Expected load at the horizon, in GPU-equivalents."
    )
    forecast_p90: Number | None = Field(
        default=None, description="Highest P90 up to the horizon, in GPU-equivalents."
    )
    capacity: Count | None = Field(default=None, ge=0, description="GPUs held when the decision was made.")
    lead_seconds: Count | None = Field(
        default=None,
        ge=0,
        description="How far ahead growth looks: spec.scaling.horizon, or the time that replicas of the job "
        "take to start where that is longer.",
    )
    reason: str = Field(default="", max_length=64, description="Typed reason of the decision.")
    message: str = Field(
        default="", max_length=4096, description="The decision in a sentence with its numbers."
    )
    low_since: Time | None = Field(
        default=None, description="Since when load and forecast have been below scaleDownAt without a break."
    )
    decided_at: Time | None = Field(default=None, description="When the number of replicas last changed.")


class DeepSeekJobStatus(StatusModel):
    """What DRSE promised, did and knows about the job."""

    observed_generation: Count | None = Field(
        default=None, ge=0, description="Generation of the spec acted on."
    )
    term: Count | None = Field(
        default=None,
        ge=0,
        description="Number of the operator's term as leader in which this was written. Where the chart's "
        "policy is installed, the API server refuses what a leader of an earlier term still writes.",
    )
    phase: Phase | None = Field(default=None, description="One word for where the job stands.")
    conditions: Annotated[tuple[Condition, ...], KeyedBy(("type",))] = Field(
        default=(), max_length=16, description="Conditions, by type."
    )
    queue: QueueStatus | None = Field(default=None, description="Why the job or its next replica waits.")
    assignments: Annotated[tuple[Assignment, ...], KeyedBy(("replica", "worker"))] = Field(
        default=(), max_length=2048, description="The GPUs promised to the job, by replica and worker."
    )
    gpus: Count = Field(default=0, ge=0, description="GPUs held.")
    gpus_per_replica: Count | None = Field(default=None, ge=0, description="GPUs of one replica, as sized.")
    replicas: Count = Field(default=0, ge=0, description="Replicas that hold GPUs.")
    ready_replicas: Count = Field(default=0, ge=0, description="Replicas whose workers are all ready.")
    ready: str = Field(
        default="0/0", max_length=16, description="Ready replicas of those wanted, for kubectl."
    )
    succeeded_replicas: tuple[Count, ...] = Field(
        default=(), max_length=1000, description="Replicas that have ended well; they are not started again."
    )
    selector: str = Field(
        default="", max_length=512, description="Label selector of the pods, for autoscalers."
    )
    scaling: ScalingStatus | None = Field(default=None, description="The last scaling decision.")
    startups: tuple[Count, ...] = Field(
        default=(),
        max_length=10,
        description="Seconds from pod to ready of the replicas that started last, oldest first.",
    )
    failures: Count = Field(default=0, ge=0, description="Failed attempts so far.")
    preemptions: Count = Field(
        default=0,
        ge=0,
        description="How often GPUs were taken back; a job that this happened to takes none itself.",
    )
    mark: Mark | None = Field(default=None, description="The job's place in its flow.")
    ran: Ran | None = Field(default=None, description="What the job took when it last gave GPUs back.")
    retry_at: Time | None = Field(default=None, description="No attempt before this time.")
    queued_at: Time | None = Field(default=None, description="When the job entered its queue.")
    start_time: Time | None = Field(default=None, description="When all its first workers were first ready.")
    completion_time: Time | None = Field(default=None, description="When it finished.")
