"""``spec.runtime``: the program of a job and what the user may say about its pod."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from drse_operator.api.base import ApiModel, Rule
from drse_operator.api.enums import Engine
from drse_operator.api.maps import Annotations, KeyedBy, Labels, ResourceAmounts, label_key_rule
from drse_operator.api.types import Count, Label, Variable

#: Resources that DRSE hands out; a pod template must not ask for them itself.
GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi")


class FreeModel(ApiModel):
    """Part of a Kubernetes type: the named fields are checked, all others pass through unread."""

    model_config = ConfigDict(extra="allow")


class EnvVar(ApiModel):
    """One environment variable, as in a container."""

    name: Variable = Field(description="Name of the variable.")
    value: str | None = Field(default=None, max_length=32768, description="Its value.")
    value_from: dict[str, Any] | None = Field(
        default=None,
        description="Source of the value, as valueFrom in a container (secretKeyRef, fieldRef, ...).",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!(has(self.value) && has(self.valueFrom))",
            message="an environment variable has a value or a valueFrom, not both",
            holds=lambda e: e.value is None or e.value_from is None,
        ),
    )


class ContainerResources(FreeModel):
    """Requests and limits of a container; GPUs are DRSE's to add."""

    limits: ResourceAmounts | None = Field(
        default=None, max_length=32, description="Limits such as cpu and memory; never GPUs."
    )
    requests: ResourceAmounts | None = Field(
        default=None, max_length=32, description="Requests such as cpu and memory; never GPUs."
    )

    rules: ClassVar[tuple[Rule, ...]] = tuple(
        Rule(
            cel=f"!has(self.{field}) || "
            + " && ".join(f"!('{resource}' in self.{field})" for resource in GPU_RESOURCES),
            message=f"{field} must not name GPUs: DRSE adds them; say how many in "
            "spec.resources.gpusPerReplica",
            holds=lambda r, field=field: not set(getattr(r, field) or ()) & set(GPU_RESOURCES),  # type: ignore[misc]
            field_path=f".{field}",
        )
        for field in ("limits", "requests")
    )


class Container(FreeModel):
    """A container of the pod template. The one named ``engine`` is merged over the container DRSE builds."""

    name: Label = Field(description="Name; engine is the container that gets the GPUs.")
    resources: ContainerResources | None = Field(
        default=None, description="Requests and limits, without GPUs."
    )


class PodSpec(FreeModel):
    """A pod spec. Only what would contradict an assignment is checked."""

    node_name: str | None = Field(
        default=None, max_length=253, description="Not allowed: DRSE chooses the node."
    )
    node_selector: Labels | None = Field(
        default=None, max_length=64, description="Not allowed: DRSE chooses the node."
    )
    containers: Annotated[tuple[Container, ...], KeyedBy(("name",))] | None = Field(
        default=None, max_length=16, description="Sidecars, and changes to the container named engine."
    )
    init_containers: Annotated[tuple[Container, ...], KeyedBy(("name",))] | None = Field(
        default=None, max_length=16, description="Containers that run before the engine, without GPUs."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.nodeName)",
            message="podTemplate.spec.nodeName contradicts the assignment: DRSE chooses the node; "
            "narrow the choice with spec.resources.accelerators",
            holds=lambda p: p.node_name is None,
            field_path=".nodeName",
        ),
        Rule(
            cel="!has(self.nodeSelector) || size(self.nodeSelector) == 0",
            message="podTemplate.spec.nodeSelector could exclude the assigned node: "
            "narrow the choice with spec.resources.accelerators",
            holds=lambda p: not p.node_selector,
            field_path=".nodeSelector",
        ),
    )


class PodMetadata(ApiModel):
    """Labels and annotations added to every pod of the job."""

    labels: Labels | None = Field(default=None, max_length=64, description="Labels of the pods.")
    annotations: Annotations | None = Field(
        default=None, max_length=64, description="Annotations of the pods."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.labels) || self.labels.all(k, !k.startsWith('drse.dev/') "
            "&& k != 'app.kubernetes.io/managed-by')",
            message="labels drse.dev/* and app.kubernetes.io/managed-by are set by DRSE: use other names",
            holds=lambda m: (
                not any(
                    key.startswith("drse.dev/") or key == "app.kubernetes.io/managed-by"
                    for key in m.labels or ()
                )
            ),
            field_path=".labels",
        ),
        label_key_rule("labels"),
    )


class PodTemplate(ApiModel):
    """What the pods of the job get beyond what DRSE builds."""

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations of the pods.")
    spec: PodSpec | None = Field(
        default=None,
        description="A pod spec merged under what DRSE builds: volumes, tolerations, service account, "
        "sidecars, and the container named engine.",
    )


class Runtime(ApiModel):
    """The program, its image and its pod."""

    engine: Engine = Field(
        default=Engine.VLLM,
        description="Serving engine; decides image, arguments and probes when they are left out.",
    )
    image: str | None = Field(
        default=None, min_length=1, max_length=500, description="Image; the engine's default when left out."
    )
    command: tuple[str, ...] = Field(
        default=(), max_length=64, description="Entry point instead of the image's."
    )
    args: tuple[str, ...] = Field(
        default=(), max_length=256, description="Arguments, after those that DRSE derives for the engine."
    )
    env: Annotated[tuple[EnvVar, ...], KeyedBy(("name",))] = Field(
        default=(), max_length=128, description="Environment variables of the engine's container."
    )
    port: Count = Field(
        default=8000, ge=1, le=65535, description="Port on which the engine serves HTTP and metrics."
    )
    pod_template: PodTemplate | None = Field(default=None, description="For everything else about the pods.")
