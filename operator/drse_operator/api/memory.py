"""What admission has to remember, as it stands in the statuses of GPUQueues and DeepSeekJobs.

Tags and clocks are in seconds of the whole cluster per unit of weight, and of virtual time; docs/fairness.md
says what they mean. Nothing else is kept anywhere: whoever reads these statuses plans as the operator does.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from drse_operator.api.base import StatusModel
from drse_operator.api.enums import TaskType
from drse_operator.api.types import Count, Flag, Number, Time


class Ghost(StatusModel):
    """A job that has ended although equal sharing would still run it."""

    key: Number = Field(description="Virtual clock at which equal sharing would end it.")
    gpus: Count = Field(ge=0, description="GPUs that it would hold until then.")


class FlowStatus(StatusModel):
    """Where a flow, the queue's jobs of one task type, stands among all flows."""

    task_type: TaskType = Field(description="Task type of the flow.")
    finish: Number = Field(
        description="Finish tag: the flow with the lowest goes next. Grows by what the flow is given, "
        "divided by its weight."
    )
    waiting: Flag = Field(default=False, description="It had work waiting.")
    virtual: Number = Field(default=0.0, description="Its virtual clock, which orders its jobs.")
    rate: Number = Field(default=0.0, description="How fast that clock ran; 1 is real time.")
    ghosts: tuple[Ghost, ...] = Field(
        default=(), max_length=64, description="Jobs that have ended before equal sharing would end them."
    )


class KindTime(StatusModel):
    """What the dispatches of one kind of accelerator have come to."""

    kind: str = Field(max_length=512, description="Vendor, product and bytes of memory.")
    virtual: Number = Field(description="Start tag of the last dispatch in order.")


class LearnedRuns(StatusModel):
    """Durations of the latest jobs that were alike, in seconds."""

    task_type: TaskType = Field(description="Task type of the jobs.")
    model: str = Field(max_length=253, description="Their model, by its name in the catalogue.")
    gpus: Count = Field(ge=0, description="GPUs that they asked for in all.")
    seconds: tuple[Annotated[float, Field(strict=True, ge=0)], ...] = Field(
        default=(), max_length=50, description="How long each held its GPUs."
    )
    stated: tuple[Annotated[float, Field(strict=True, ge=0)], ...] = Field(
        default=(), max_length=50, description="estimatedDuration of each in seconds; 0 where none was given."
    )


class ToldStarts(StatusModel):
    """How starts that were told (status.queue.eta) compare with the real ones."""

    judged: Count = Field(default=0, ge=0, description="Jobs that were told and have started.")
    kept: Count = Field(default=0, ge=0, description="Those that started by their p90.")
    ratios: tuple[Annotated[float, Field(strict=True, ge=0)], ...] = Field(
        default=(),
        max_length=100,
        description="Real wait / expected wait of the latest of them; later times are corrected by these.",
    )


class Mark(StatusModel):
    """The job's place in its flow, fixed when it arrives."""

    arrived: Number = Field(description="Virtual clock of the flow when the job arrived.")
    key: Number = Field(
        description="Virtual clock at which equal sharing would end the job; lower goes first."
    )


class Ran(StatusModel):
    """The last time that replicas of the job gave their GPUs back; the flow's charge is corrected by it."""

    until: Time = Field(description="When they gave them back.")
    seconds: Number = Field(description="How long they had held them; the longest, if they were several.")
    gpus: Count = Field(default=0, ge=0, description="GPUs of all replicas of the job.")
    replicas: tuple[Count, ...] = Field(default=(), max_length=1000, description="Which replicas they were.")
    used: Number = Field(default=0.0, description="What they really took, in seconds of the whole cluster.")
    charged: Number = Field(default=0.0, description="What the flow had been charged for them.")
    completed: Flag = Field(
        default=False, description="The job ran to its end, so that its duration is worth learning."
    )
