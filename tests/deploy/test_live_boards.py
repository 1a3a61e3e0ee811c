"""Every expression of every board, asked of a real Prometheus while operator and forecaster run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from deploy.boards.all import BOARDS
from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.monitoring import MonitoringOptions
from drse_local.release import Release
from drse_local.scenario import Scenario, resolve_files
from drse_local.threaded import ThreadedCluster
from tests.deploy.test_boards import filled_in
from tests.helm.chart import REPOSITORY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

RULES = REPOSITORY / "manifests" / "alerts" / "drse.rules.yaml"
EXPORTER = "the stand-in for exporters and engines has no such metric"
RARE = "nothing of the kind happens here"
LATER = "needs more time than a test has"
#: Panels whose expressions may be without data here, and why.
QUIET = {
    "XID errors": EXPORTER,
    "Power": EXPORTER,
    "Latency, p95": EXPORTER,
    "KV cache used": EXPORTER,
    "Scaling frozen": RARE,
    "Started by their p90": LATER,
    "Started by their p90, by queue": LATER,
    "Real start after the p50 told first": LATER,
    "Next to start": LATER,
    "Fairness bound used": LATER,
    "Fairness bound used over time": LATER,
    "Skill as served": LATER,
    "Relative error": LATER,
    "Within the P90": LATER,
    "Within the P90 by job": LATER,
    "What was forecast ten minutes before, and what came": LATER,
    "Scaling actions": RARE,
    "Failed requests to the API server": RARE,
    "Failed reads of Prometheus": RARE,
    "Time of the fits": LATER,
    "Idle over the last hour": RARE,
    "What fires or is about to": LATER,
}
LOAD = {
    "file": "servegen_m_small_clients_10min.csv.gz",
    "column": "client_31",
    "scale": 1 / 1300,
    "recordedAt": "2025-01-13T12:00:00",
}
SCENARIO = {
    "historyDays": 2,
    "jobs": {
        "serving/chat": {"gpusPerReplica": 2, "targetConcurrency": 16, "queue": "serving", "load": LOAD}
    },
}
H100 = {"accelerators": [{"vendor": "nvidia", "product": "H100"}]}


def queue(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "drse.dev/v1alpha1", "kind": "GPUQueue", "metadata": {"name": name}, "spec": spec}


def job(name: str, task: str, gpus: int, queue: str, **spec: Any) -> dict[str, Any]:
    runtime: dict[str, Any] = {
        "podTemplate": {"metadata": {"annotations": {"local.drse.dev/start-seconds": "0"}}}
    }
    if task != "Inference":
        runtime["image"] = "registry.example.com/none:1"
    fields = {
        "taskType": task,
        "queue": queue,
        "resources": {"gpusPerReplica": gpus, **H100},
        "runtime": runtime,
    }
    if task == "Inference":
        fields["model"] = {"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"}
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": "serving"},
        "spec": {**fields, **spec},
    }


OBJECTS = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}},
    queue("serving", weight=3, guaranteed=4, limit=12),
    queue("research", waitTarget="4h"),
    job("chat", "Inference", 2, "serving", scaling={"mode": "Auto", "minReplicas": 1, "maxReplicas": 4}),
    job("tune", "FineTuning", 4, "research"),
    job("next", "FineTuning", 8, "research"),
    job("large", "FineTuning", 8, "research"),
    job("never", "Batch", 1, "no-such-queue"),
]


@pytest.fixture(scope="module")
def prometheus() -> Iterator[str]:
    """Address of a Prometheus with the rules, beside two operators and a forecaster with work to do."""
    scenario = resolve_files(Scenario.model_validate(SCENARIO), REPOSITORY)
    options = MonitoringOptions(scenario, (str(RULES),))
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"), monitoring=options)) as cluster:
        release = Release(
            cluster.cluster, 2, {"operator": {"forecastPeriodSeconds": 2}, "forecaster": {"interval": "5s"}}
        )
        cluster.run(release.start())
        try:
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(OBJECTS))
            cluster.kubectl("taint", "node", "l40s-0", "maintenance=yes:NoSchedule")
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(_out_of_service("l40s-0")))
            yield cluster.cluster.monitoring.prometheus.url
        finally:
            cluster.run(release.stop())


def _out_of_service(node: str) -> dict[str, Any]:
    """A device that an administrator takes out."""
    selector = {"driver": "gpu.nvidia.com", "pool": node, "device": "gpu-0"}
    taint = {"key": "example.com/broken", "effect": "NoSchedule"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "broken"},
        "spec": {"deviceSelector": selector, "taint": taint},
    }


def result(prometheus: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{prometheus}/api/v1/query", params={"query": expression}, trust_env=False, timeout=30
    ).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_every_expression_is_answered_with_data(prometheus: str) -> None:
    asked = {
        # Subqueries look at full minutes, and one at a load of some minutes ago; seconds do here.
        (
            board.uid,
            panel.title,
            filled_in(query.expr).replace(":1m]", ":5s]").replace("offset 5m", "offset 5s"),
        )
        for board in BOARDS
        for panel in board.panels
        for query in panel.queries
    }
    quiet = {each for each in asked if each[1] in QUIET}
    for _, _, expression in quiet:
        result(prometheus, expression)
    missing, deadline = asked - quiet, time.monotonic() + 240
    while missing and time.monotonic() < deadline:
        missing = {each for each in missing if not result(prometheus, each[2])}
        time.sleep(3)
    assert not missing, "\n".join(f"{board}, {panel}: {text}" for board, panel, text in sorted(missing))


def test_only_what_is_wrong_alarms(prometheus: str) -> None:
    """Alerts that are about to fire show as pending at once, so that a wrong rule is seen within seconds.

    One job names a queue that does not exist; the service wants more GPUs than are free. All else is well.
    """
    deadline = time.monotonic() + 120
    while (found := _alarms(prometheus)) != {"DRSENeverSchedulable"} and time.monotonic() < deadline:
        time.sleep(3)
    assert found == {"DRSENeverSchedulable"}


def _alarms(prometheus: str) -> set[str]:
    found = result(prometheus, 'ALERTS{alertname!="DRSEScaleUpDenied"}')
    return {each["metric"]["alertname"] for each in found}


def test_panels_that_may_be_quiet_exist() -> None:
    titles = {panel.title for board in BOARDS for panel in board.panels}
    assert QUIET.keys() <= titles
