"""Kinds of values, with what each must look like. Mappings spelt out here refuse keys that they do not
have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, with_config
from typing_extensions import TypedDict

CLOSED = with_config(ConfigDict(extra="forbid"))


def _text(pattern: str, longest: int | None = None) -> Any:
    return Field(pattern=pattern, max_length=longest)


Name = Annotated[str, _text(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 63)]
NameOrEmpty = Annotated[str, _text(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", 253)]
Strings = dict[str, str]
#: Objects that Kubernetes checks itself.
Foreign = dict[str, Any]
Arguments = list[Annotated[str, Field(min_length=1)]]
Port = Annotated[int, Field(ge=1024, le=65535)]
AnyPort = Annotated[int, Field(ge=1, le=65535)]
SecretKey = Annotated[str, _text(r"^[-._A-Za-z0-9]{1,253}$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Duration = Annotated[str, _text(r"^[1-9][0-9]*[smhd]$")]
Interval = Annotated[str, _text(r"^([1-9][0-9]*(ms|s|m|h))+$")]
Metrics = list[Annotated[str, _text(r"^[a-zA-Z_:][a-zA-Z0-9_:.]*$")]]
ImageReference = Annotated[str, _text(r"^[a-z0-9][^\s]*$")]
Url = Annotated[str, _text(r"^https?://[^\s]+$")]
UrlOrEmpty = Annotated[str, _text(r"^(https?://[^\s]+)?$")]
Level = Literal["critical", "warning", "info"]
_AMOUNT = r"^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
Amount = Annotated[str | float, WithJsonSchema({"type": ["string", "number"], "pattern": _AMOUNT})]
_SOME_PODS = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]{1,2}%$|^100%$"}
SomePods = Annotated[int | str, WithJsonSchema(_SOME_PODS)]


@CLOSED
class Variable(TypedDict, total=False):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1)]
    value: str
    valueFrom: Foreign


@CLOSED
class Reference(TypedDict):
    """An object by its name."""

    name: Name


@CLOSED
class Account(TypedDict, total=False):
    """A ServiceAccount."""

    annotations: Strings


@CLOSED
class Resources(TypedDict, total=False):
    """Resources of a container."""

    requests: dict[str, Amount]
    limits: dict[str, Amount]
    claims: list[Foreign]


@CLOSED
class Probe(TypedDict, total=False):
    """Timing of a probe."""

    initialDelaySeconds: Annotated[int, Field(ge=0)]
    periodSeconds: Annotated[int, Field(ge=1)]
    timeoutSeconds: Annotated[int, Field(ge=1)]
    successThreshold: Annotated[int, Field(ge=1)]
    failureThreshold: Annotated[int, Field(ge=1)]


@CLOSED
class Budget(TypedDict, total=False):
    """A PodDisruptionBudget."""

    enabled: bool
    maxUnavailable: SomePods


@CLOSED
class ComponentImage(TypedDict, total=False):
    """The image of one program."""

    repository: Annotated[str, _text(r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$")]
    digest: Annotated[str, _text(r"^(sha256:[0-9a-f]{64})?$")]


@CLOSED
class Component(TypedDict, total=False):
    """What every Deployment of the chart has."""

    image: ComponentImage
    port: Port
    extraArgs: Arguments
    extraEnv: list[Variable]
    serviceAccount: Account
    resources: Resources
    podSecurityContext: Foreign
    securityContext: Foreign
    livenessProbe: Probe
    readinessProbe: Probe
    podDisruptionBudget: Budget
    podAnnotations: Strings
    podLabels: Strings
    priorityClassName: NameOrEmpty
    nodeSelector: Strings
    tolerations: list[Foreign]
    affinity: Foreign
    topologySpreadConstraints: list[Foreign]


@CLOSED
class AlertSettings(TypedDict, total=False):
    """What may be set about an alert."""

    enabled: bool
    # A keyword of Python; the schema calls it by its name.
    for_: Annotated[str, Field(alias="for", pattern=r"^([0-9]+(ms|s|m|h|d))+$")]
    severity: Level


@CLOSED
class AlertWithThreshold(AlertSettings, total=False):
    """One whose number may be set, too."""

    threshold: Annotated[float, Field(gt=0)]
