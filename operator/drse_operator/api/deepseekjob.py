"""``DeepSeekJob``: what a user asks for."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.alias_generators import to_camel

from drse_operator.api.base import ApiModel, Rule
from drse_operator.api.enums import (
    Precision,
    ScalingMode,
    ScalingPolicy,
    TaskType,
    TopologyMode,
    TopologyScope,
    Vendor,
)
from drse_operator.api.runtime import Runtime
from drse_operator.api.types import (
    Count,
    Duration,
    Flag,
    Label,
    Number,
    Parameters,
    Quantity,
    Subdomain,
    parameter_count,
    seconds,
)

Share = Annotated[Number, Field(ge=0.05, le=1.0)]


class ModelShape(ApiModel):
    """A model that is not in the catalogue, described by the numbers that decide its memory."""

    parameters: Parameters = Field(description="Number of parameters, such as 671B or 1.5B.")
    active_parameters: Parameters | None = Field(
        default=None,
        description="Parameters used per token, for mixtures of experts; defaults to parameters.",
    )
    layers: Count = Field(ge=1, le=1000, description="Number of transformer layers.")
    hidden_size: Count = Field(ge=64, le=1_000_000, description="Width of the residual stream.")
    kv_cache_bytes_per_token: Count | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Bytes of key and value cache one token takes over all layers; "
        "defaults to 4 x layers x hiddenSize (16-bit keys and values, one head group per head).",
    )

    rules: ClassVar[tuple[Rule, ...]] = tuple(
        Rule(
            cel=f"!has(self.{to_camel(field)}) || !self.{to_camel(field)}.matches('^[0.]+[MBT]$')",
            message=f"{to_camel(field)} must be more than zero",
            holds=lambda m, field=field: parameter_count(getattr(m, field) or "1M") > 0,  # type: ignore[misc]
            field_path=f".{to_camel(field)}",
        )
        for field in ("parameters", "active_parameters")
    )


class Model(ApiModel):
    """The model a job serves or trains: a catalogue name, or a shape."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Name in the catalogue, such as deepseek-ai/DeepSeek-R1.",
    )
    shape: ModelShape | None = Field(
        default=None, description="The numbers that decide memory, for a model outside the catalogue."
    )
    precision: Precision | None = Field(
        default=None, description="Number format of the weights; defaults to what the model is published in."
    )
    context_length: Count = Field(
        default=8192, ge=1, le=2_000_000, description="Longest context to hold, in tokens."
    )
    concurrency: Count = Field(
        default=1,
        ge=1,
        le=100_000,
        description="Contexts of that length to hold in memory at once, per replica.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.name) || has(self.shape)",
            message="model needs a name from the catalogue or a shape: set model.name or model.shape",
            holds=lambda m: m.name is not None or m.shape is not None,
        ),
    )


class Accelerator(ApiModel):
    """A kind of accelerator that will do."""

    vendor: Vendor = Field(description="Maker of the accelerator.")
    product: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Product to match, such as H100 or MI300X: every word in it must occur in the product "
        "name that the node publishes. Any product of the vendor when left out.",
    )


class Topology(ApiModel):
    """How close the workers of one replica are placed."""

    scope: TopologyScope = Field(description="The domain that all workers of a replica share.")
    mode: TopologyMode = Field(
        default=TopologyMode.PREFERRED,
        description="Required waits for such a place; Preferred tries it first.",
    )


class Resources(ApiModel):
    """What each replica needs. Everything left out is derived from the model."""

    gpus_per_replica: Count | None = Field(
        default=None, ge=1, le=4096, description="Whole GPUs of one replica, all its workers together."
    )
    workers_per_replica: Count | None = Field(
        default=None,
        ge=1,
        le=512,
        description="Pods that one replica spans, started all or none; each gets gpusPerReplica / "
        "workersPerReplica GPUs. Defaults to as few as the nodes allow.",
    )
    memory_per_gpu: Quantity | None = Field(
        default=None, alias="memoryPerGPU", description="Memory each GPU must have, such as 80Gi."
    )
    compute_per_gpu: Count | None = Field(
        default=None,
        alias="computePerGPU",
        ge=1,
        le=1_000_000,
        description="Dense BF16 TFLOPS each GPU must offer by its data sheet.",
    )
    accelerators: tuple[Accelerator, ...] = Field(
        default=(),
        max_length=16,
        description="Kinds of accelerator that will do, best first; any kind that fits when empty.",
    )
    topology: Topology | None = Field(default=None, description="Closeness of a replica's workers.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.workersPerReplica) || (has(self.gpusPerReplica) && self.gpusPerReplica % "
            "self.workersPerReplica == 0)",
            message="workersPerReplica must divide gpusPerReplica: state both, so that every worker gets "
            "the same number of GPUs",
            holds=lambda r: (
                r.workers_per_replica is None
                or (r.gpus_per_replica is not None and r.gpus_per_replica % r.workers_per_replica == 0)
            ),
            field_path=".workersPerReplica",
        ),
        Rule(
            cel="!has(self.workersPerReplica) || !has(self.gpusPerReplica) || self.gpusPerReplica / "
            "self.workersPerReplica <= 32",
            message="one worker gets at most 32 GPUs (the limit of a ResourceClaim): raise workersPerReplica",
            holds=lambda r: (
                r.workers_per_replica is None
                or r.gpus_per_replica is None
                or r.gpus_per_replica // r.workers_per_replica <= 32
            ),
            field_path=".workersPerReplica",
        ),
    )


class Scaling(ApiModel):
    """How the number of replicas follows the load. Load and capacity are in GPU-equivalents."""

    mode: ScalingMode = Field(
        default=ScalingMode.OFF,
        description="Auto: DRSE changes the number of replicas. Recommend: it only writes what it would do "
        "into status.scaling. Off: spec.replicas is the number (and may be driven by your own HPA); write it "
        "in quotes, as YAML reads the bare word as false.",
    )
    policy: ScalingPolicy = Field(
        default=ScalingPolicy.FORECAST,
        description="Forecast looks at load and forecast, Reactive at load alone.",
    )
    min_replicas: Count = Field(default=1, ge=1, le=1000, description="Never fewer replicas than this.")
    max_replicas: Count = Field(default=1, ge=1, le=1000, description="Never more replicas than this.")
    scale_up_at: Share = Field(
        default=0.8, description="Grow when load or forecast exceeds this share of the capacity held."
    )
    scale_down_at: Share = Field(
        default=0.5,
        description="Shrink when load and forecast stay below this share of the capacity held for the whole "
        "stabilization window.",
    )
    horizon: Duration = Field(default="10m", description="How far ahead the forecast is looked at.")
    stabilization_window: Duration = Field(
        default="10m", description="How long load and forecast must be low before replicas are removed."
    )
    target_concurrency: Count = Field(
        default=32,
        ge=1,
        le=100_000,
        description="Requests in flight that one replica serves at full capacity; turns running and "
        "waiting requests into GPU-equivalents.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="scaling.minReplicas must not exceed scaling.maxReplicas",
            holds=lambda s: s.min_replicas <= s.max_replicas,
            field_path=".minReplicas",
        ),
        Rule(
            cel="self.scaleDownAt < self.scaleUpAt",
            message="scaling.scaleDownAt must be below scaling.scaleUpAt, or replicas would come and go "
            "without end",
            holds=lambda s: s.scale_down_at < s.scale_up_at,
            field_path=".scaleDownAt",
        ),
        Rule(
            cel="self.horizon.matches('[1-9]')",
            message="scaling.horizon must be longer than zero",
            holds=lambda s: seconds(s.horizon) > 0,
            field_path=".horizon",
        ),
    )


class DeepSeekJobSpec(ApiModel):
    """What to run, on what, for whom, and how it may grow."""

    task_type: TaskType = Field(description="Kind of work. Inference runs until deleted; all others end.")
    queue: Label = Field(default="default", description="Name of the GPUQueue that the job waits in.")
    priority_class_name: Subdomain | None = Field(
        default=None, description="PriorityClass; its value orders jobs. The cluster's default when left out."
    )
    suspend: Flag = Field(
        default=False, description="True frees all GPUs and keeps the job; false lets it queue again."
    )
    model: Model | None = Field(
        default=None,
        description="The model, from which GPUs and memory are derived; may be left out when "
        "resources.gpusPerReplica is given.",
    )
    resources: Resources = Field(default=Resources(), description="Wins over what is derived from the model.")
    replicas: Count = Field(
        default=1,
        ge=0,
        le=1000,
        description="Number of replicas; the scale subresource writes it. With scaling mode Auto it is the "
        "number to start from, and a change of it is taken up at once.",
    )
    scaling: Scaling = Field(default=Scaling(), description="How the number of replicas follows the load.")
    runtime: Runtime = Field(default=Runtime(), description="The program, its image and its pod.")
    estimated_duration: Duration | None = Field(
        default=None, description="How long the job is expected to hold its GPUs, such as 4h."
    )
    active_deadline_seconds: Count | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="The job fails when it has run for longer than this.",
    )
    backoff_limit: Count = Field(
        default=3,
        ge=0,
        le=100,
        description="Failed attempts after which the job has failed. What is evicted or deleted, or loses "
        "its node, has not failed: it is planned again and not counted.",
    )
    ttl_seconds_after_finished: Count | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="The job is deleted so long after it finished; kept when left out.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.estimatedDuration) || self.estimatedDuration.matches('[1-9]')",
            message="estimatedDuration must be longer than zero; leave it out if you do not know it",
            holds=lambda s: s.estimated_duration is None or seconds(s.estimated_duration) > 0,
            field_path=".estimatedDuration",
        ),
        Rule(
            cel="self.scaling.mode == 'Off' || self.taskType == 'Inference'",
            message="scaling needs taskType Inference: other tasks run near full load whatever their size; "
            "set scaling.mode to Off",
            holds=lambda s: s.scaling.mode is ScalingMode.OFF or s.task_type is TaskType.INFERENCE,
            field_path=".scaling.mode",
        ),
        Rule(
            cel="has(self.runtime.image) || (self.runtime.engine != 'Custom' && self.taskType == "
            "'Inference')",
            message="runtime.image is needed: only Inference with engine vLLM or SGLang has a default image",
            holds=lambda s: (
                s.runtime.image is not None
                or (s.runtime.engine.value != "Custom" and s.task_type is TaskType.INFERENCE)
            ),
            field_path=".runtime.image",
        ),
        Rule(
            cel="has(self.model) || has(self.resources.gpusPerReplica)",
            message="the number of GPUs cannot be derived: set spec.model or spec.resources.gpusPerReplica",
            holds=lambda s: s.model is not None or s.resources.gpus_per_replica is not None,
            field_path=".resources.gpusPerReplica",
        ),
    )

    @property
    def wanted_range(self) -> tuple[int, int]:
        """Fewest and most replicas that the job may hold."""
        if self.scaling.mode is ScalingMode.AUTO:
            return self.scaling.min_replicas, self.scaling.max_replicas
        return self.replicas, self.replicas


def _unchanged_while_admitted(field: str, optional: bool) -> Rule:
    held = "has(oldSelf.status) && has(oldSelf.status.assignments) && size(oldSelf.status.assignments) > 0"
    same = f"self.spec.{field} == oldSelf.spec.{field}"
    if optional:
        same = f"has(self.spec.{field}) == has(oldSelf.spec.{field}) && (!has(self.spec.{field}) || {same})"
    return Rule(
        cel=f"!({held}) || ({same})",
        message=f"spec.{field} cannot change while the job holds GPUs: set spec.suspend to true, change "
        "it, then resume",
        field_path=f".spec.{field}",
    )


#: Rules on the whole object, see ``crd.py``. The name rule keeps pod, claim and service names valid.
OBJECT_RULES: tuple[Rule, ...] = (
    Rule(
        cel="size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        message="metadata.name must start with a letter, hold only a-z, 0-9 and -, and be at most 52 "
        "characters: the names of its pods and Service are made from it",
    ),
    _unchanged_while_admitted("taskType", optional=False),
    _unchanged_while_admitted("queue", optional=False),
    _unchanged_while_admitted("model", optional=True),
    _unchanged_while_admitted("resources", optional=False),
)


def active_or_all(shape: ModelShape) -> int:
    """Parameters that take part in one token."""
    return parameter_count(shape.active_parameters or shape.parameters)
