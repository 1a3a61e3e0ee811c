"""The chart as the tests see it: rendered by the real helm, as documents."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

from drse_local.binaries import ensure_binaries
from drse_local.tools import CLIENT_TOOLS, PROMETHEUS_TOOLS

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "helm" / "drse"
FULL_VALUES = CHART / "ci" / "full-values.yaml"
NAMESPACE = "drse-system"
#: Kinds of the Prometheus Operator and of the Gateway API, which the embedded cluster does not serve.
OTHERS_KINDS = frozenset({"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"})

Document = dict[str, Any]


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    """Run helm without a cluster."""
    return _run(("helm", *args))


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return _run(("promtool", *args))


def render(*args: str, release: str = "drse") -> list[Document]:
    """All documents of the chart with these arguments of `helm template`; fails with helm's words."""
    result = helm("template", release, str(CHART), "--namespace", NAMESPACE, *args)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def identity(document: Document) -> str:
    """`Kind namespace/name`, or `Kind name` where there is no namespace."""
    metadata = document["metadata"]
    place = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{document['kind']} {place}{metadata['name']}"


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """The documents of one kind."""
    return [document for document in documents if document["kind"] == kind]


@functools.cache
def _program(name: str) -> str:
    return ensure_binaries((*CLIENT_TOOLS, *PROMETHEUS_TOOLS))[name]


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    argv = (_program(command[0]), *command[1:])
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240)
