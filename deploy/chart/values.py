"""The values of the chart. Their defaults and what they are for stand in helm/drse/values.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from deploy.chart.types import (
    CLOSED,
    AlertSettings,
    AlertWithThreshold,
    AnyPort,
    Component,
    Duration,
    Foreign,
    ImageReference,
    Interval,
    Metrics,
    Name,
    NameOrEmpty,
    Reference,
    Seconds,
    SecretKey,
    Strings,
    Url,
    UrlOrEmpty,
)


@CLOSED
class Images(TypedDict, total=False):
    """Where all images come from."""

    registry: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9.:/_-]*)?$")]
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")]
    pullPolicy: Literal["Always", "IfNotPresent", "Never"]


@CLOSED
class Crds(TypedDict, total=False):
    """The CustomResourceDefinitions."""

    enabled: bool
    keep: bool


@CLOSED
class Rbac(TypedDict, total=False):
    """Roles for users."""

    aggregateToUserRoles: bool


@CLOSED
class Log(TypedDict, total=False):
    """How programs log."""

    format: Literal["json", "text"]
    level: Literal["debug", "info", "warning", "error"]


@CLOSED
class Namespaces(TypedDict, total=False):
    """As in GPUQueue.spec."""

    names: list[Name]
    matchLabels: Strings


@CLOSED
class QueueSpec(TypedDict, total=False):
    """The part of GPUQueue.spec that a default queue needs."""

    weight: Annotated[int, Field(ge=1, le=1_000_000)]
    guaranteed: Annotated[int, Field(ge=0, le=1_000_000)]
    limit: Annotated[int, Field(ge=1, le=1_000_000)]
    namespaces: Namespaces


@CLOSED
class DefaultQueue(TypedDict, total=False):
    """The queue that is created when there is none of its name."""

    enabled: bool
    name: Name
    spec: QueueSpec


@CLOSED
class Accounting(TypedDict, total=False):
    """GPU-hours."""

    stampSubmitter: bool


@CLOSED
class TokenSecret(TypedDict, total=False):
    """A Secret with a bearer token."""

    name: NameOrEmpty
    key: SecretKey


@CLOSED
class Certificates(TypedDict, total=False):
    """A ConfigMap with certificates."""

    configMap: NameOrEmpty
    key: SecretKey


@CLOSED
class Prometheus(TypedDict, total=False):
    """Where loads are read."""

    url: Url
    tokenSecret: TokenSecret
    ca: Certificates
    insecureSkipTLSVerify: bool


@CLOSED
class EngineImages(TypedDict, total=False):
    """Images of engines instead of the built-in ones."""

    vllm_nvidia: ImageReference
    vllm_amd: ImageReference
    vllm_habana: ImageReference
    sglang_nvidia: ImageReference
    sglang_amd: ImageReference


@CLOSED
class Operator(Component, total=False):
    """The operator."""

    replicas: Annotated[int, Field(ge=0, le=9)]
    bindTimeoutSeconds: Seconds
    backoffBaseSeconds: Seconds
    forecastPeriodSeconds: Seconds
    forecastMaxAgeSeconds: Seconds
    engineImages: EngineImages


@CLOSED
class Forecaster(Component, total=False):
    """The forecaster."""

    enabled: bool
    replicas: Annotated[int, Field(ge=1, le=64)]
    history: Duration
    step: Duration
    interval: Duration
    refitEvery: Duration
    staleAfter: Duration
    fitWorkers: Annotated[int, Field(ge=1, le=64)]
    utilizationMetrics: Metrics
    requestMetrics: Metrics


@CLOSED
class ProxySecret(TypedDict, total=False):
    """What a proxy in front of the console proves itself by."""

    name: NameOrEmpty
    key: SecretKey


@CLOSED
class Ingress(TypedDict, total=False):
    """How the console is reached from outside."""

    enabled: bool
    className: NameOrEmpty
    host: NameOrEmpty
    tlsSecret: NameOrEmpty
    annotations: Strings


@CLOSED
class ParentRef(TypedDict, total=False):
    """A Gateway, or one of its listeners; as gateway.networking.k8s.io/v1 ParentReference."""

    group: str
    kind: str
    name: Required[NameOrEmpty]
    namespace: NameOrEmpty
    sectionName: NameOrEmpty
    port: AnyPort


@CLOSED
class HTTPRoute(TypedDict, total=False):
    """How the console is reached from outside by a Gateway."""

    enabled: bool
    parentRefs: list[ParentRef]
    hostnames: list[NameOrEmpty]
    annotations: Strings


@CLOSED
class Console(Component, total=False):
    """The console."""

    enabled: bool
    auth: Literal["token", "proxy"]
    proxySecret: ProxySecret
    secureCookie: bool
    clusterName: Annotated[str, Field(max_length=63)]
    ingress: Ingress
    httpRoute: HTTPRoute


@CLOSED
class Monitor(TypedDict, total=False):
    """A ServiceMonitor or PodMonitor."""

    enabled: bool
    interval: Interval
    labels: Strings


@CLOSED
class Objectives(TypedDict, total=False):
    """Numbers of single jobs that go over an alert's threshold."""

    latencySeconds: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9]*/[a-z][-a-z0-9]*$")], Annotated[float, Field(gt=0)]
    ]
    #: Removed in 0.2.0; the chart says what to do instead.
    waitSeconds: Foreign


@CLOSED
class Rules(TypedDict, total=False):
    """The PrometheusRule. ``alerts`` is by name: the schema lists the alerts that there are."""

    enabled: bool
    labels: Strings
    runbookUrl: UrlOrEmpty
    alerts: dict[str, AlertSettings | AlertWithThreshold]
    objectives: Objectives


@CLOSED
class Dashboards(TypedDict, total=False):
    """The boards, as ConfigMaps."""

    enabled: bool
    namespace: NameOrEmpty
    labels: Strings
    annotations: Strings
    uidPrefix: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?)?$")]
    grafanaUrl: UrlOrEmpty


@CLOSED
class NetworkPolicies(TypedDict, total=False):
    """Who may talk to whom."""

    enabled: bool
    metricsFrom: list[Foreign]
    consoleFrom: list[Foreign]
    apiServerPorts: list[AnyPort]
    prometheusPorts: list[AnyPort]


@CLOSED
class ReleaseTest(TypedDict, total=False):
    """``helm test``."""

    enabled: bool


@CLOSED
class Values(TypedDict, total=False):
    """Everything that may stand in the values. ``enabled`` and ``global`` are for umbrella charts."""

    enabled: bool
    # A keyword of Python; the schema calls it by its name.
    global_: Annotated[Foreign, Field(alias="global")]
    nameOverride: NameOrEmpty
    fullnameOverride: NameOrEmpty
    commonLabels: Strings
    image: Images
    imagePullSecrets: list[Reference]
    crds: Crds
    rbac: Rbac
    log: Log
    defaultQueue: DefaultQueue
    accounting: Accounting
    prometheus: Prometheus
    operator: Operator
    forecaster: Forecaster
    console: Console
    serviceMonitor: Monitor
    podMonitor: Monitor
    prometheusRule: Rules
    dashboards: Dashboards
    networkPolicy: NetworkPolicies
    tests: ReleaseTest
    extraObjects: list[Foreign]
