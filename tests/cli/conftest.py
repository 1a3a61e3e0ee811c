"""A cluster of its own with an operator, and ``drse`` as a function that returns what it printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.monitoring import MonitoringOptions
from drse_local.scenario import Scenario
from drse_local.threaded import ThreadedCluster
from drse_operator.cli.main import cli
from drse_operator.cluster import kinds
from tests.operator.conftest import CRDS, namespace, operator
from tests.operator.harness import Cluster

__all__ = ["namespace", "operator"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """As the operator's tests have it, with Prometheus and the exporters' stand-in."""
    measured = MonitoringOptions(Scenario(history_days=0))
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"), monitoring=measured)) as threaded:
        threaded.kubectl("apply", "--server-side", "-f", str(CRDS))
        names = ["crd/deepseekjobs.drse.dev", "crd/gpuqueues.drse.dev"]
        threaded.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
        found = Cluster(threaded)
        metadata = {"name": "drse-system"}
        found.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        found.queue("tests")
        yield found
        found.close()


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The document on stdout."""
        assert self.code in (0, 3), self.err
        document: dict[str, Any] = json.loads(self.out)
        return document


class Drse:
    """``drse`` with a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._environment = {"KUBECONFIG": str(kubeconfig), "TZ": "UTC", "DRSE_PROMETHEUS": None}

    def __call__(self, *words: str, stdin: str | None = None) -> Said:
        result = CliRunner(env=self._environment).invoke(cli, words, input=stdin, prog_name="drse")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def drse(cluster: Cluster) -> Drse:
    """The command line as the cluster's administrator."""
    return Drse(cluster.threaded.kubeconfig)
