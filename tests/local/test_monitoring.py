"""Prometheus, the recorded past and the exporters' stand-in on a running cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from drse_local.annotations import START_SECONDS
from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.history import GPU_SCRAPE
from drse_local.monitoring import MonitoringOptions
from drse_local.scenario import Scenario, resolve_files
from drse_local.threaded import ThreadedCluster

pytestmark = pytest.mark.timeout(180)

DAYS = 7
LOAD = {
    "file": "servegen_m_small_clients_10min.csv.gz",
    "column": "client_31",
    "scale": 1 / 1300,
    "recordedAt": "2025-01-13T12:00:00",
}
JOB = {"gpusPerReplica": 4, "targetConcurrency": 16, "load": LOAD}
RULES = """
groups:
  - name: test
    rules: [{record: test:requests, expr: 'sum(vllm:num_requests_running)'}]
"""
UTIL_BY_JOB = (
    "sum by (deepseekjob) (DCGM_FI_DEV_GPU_UTIL / 100 * on (UUID) group_left (deepseekjob) drse_gpu_assigned)"
)
REQUESTS = "sum(vllm:num_requests_running + vllm:num_requests_waiting) / 16 * 4"


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedCluster]:
    folder = tmp_path_factory.mktemp("monitored")
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    document = {"historyDays": DAYS, "jobs": {"default/chat": JOB}}
    scenario = resolve_files(Scenario.model_validate(document), folder)
    options = MonitoringOptions(scenario, (str(folder / "rules.yaml"),))
    cluster = LocalCluster(folder / "cluster", load_fleet("small"), options)
    with ThreadedCluster(cluster) as running:
        yield running


def query(cluster: ThreadedCluster, expression: str, **params: str | float) -> list[dict[str, Any]]:
    kind = "query_range" if "step" in params else "query"
    url = f"{cluster.cluster.monitoring.prometheus.url}/api/v1/{kind}"
    answer = httpx.get(url, params={"query": expression, **params}, trust_env=False, timeout=30).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def value(cluster: ThreadedCluster, expression: str) -> float | None:
    result = query(cluster, expression)
    return float(result[0]["value"][1]) if result else None


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer, "did not come true in time"
    return answer


def gpu_pod(name: str, job: str, resources: dict[str, Any], **spec: Any) -> dict[str, Any]:
    labels = {"drse.dev/job": job, "drse.dev/replica": "0", "drse.dev/worker": "0"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": {START_SECONDS: "0"}},
        "spec": {"containers": [{"name": "main", "image": "none", "resources": resources}], **spec},
    }


def claim(name: str, uuids: list[str]) -> dict[str, Any]:
    listed = ", ".join(f"'{uuid}'" for uuid in uuids)
    expression = f"device.attributes['gpu.nvidia.com'].uuid in [{listed}]"
    exactly = {
        "deviceClassName": "gpu.nvidia.com",
        "count": len(uuids),
        "selectors": [{"cel": {"expression": expression}}],
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [{"name": "gpus", "exactly": exactly}]}},
    }


def apply(cluster: ThreadedCluster, *manifests: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))


def busy(cluster: ThreadedCluster) -> dict[str, float]:
    text = httpx.get(f"{cluster.cluster.monitoring.exporter_url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_GPU_UTIL{")]
    values = {line.split('UUID="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    return {uuid: util for uuid, util in values.items() if util > 0}


def test_the_recorded_week_is_unbroken_up_to_now(monitored: ThreadedCluster) -> None:
    now = time.time()
    step = 300
    for expression in (UTIL_BY_JOB, REQUESTS, "drse_job_target_concurrency", "drse_job_gpus_per_replica"):
        (series,) = query(monitored, expression, start=now - DAYS * 86400 + step, end=now, step=step)
        assert len(series["values"]) == DAYS * 86400 // step, expression
    eventually(lambda: value(monitored, f"up{{job='{GPU_SCRAPE}'}}") == 1)
    (series,) = query(monitored, UTIL_BY_JOB, start=time.time() - 600, end=time.time(), step=5)
    values = [float(point[1]) for point in series["values"]]
    assert max(values) < 1.5 * min(values), (
        "neither a gap nor a double count where the past meets the present"
    )


def test_utilisation_and_requests_tell_the_same_load(monitored: ThreadedCluster) -> None:
    utilisation, requests = value(monitored, UTIL_BY_JOB), value(monitored, REQUESTS)
    assert utilisation is not None
    assert requests == pytest.approx(utilisation, abs=0.5)


def test_rules_are_evaluated(monitored: ThreadedCluster) -> None:
    eventually(lambda: value(monitored, "test:requests"), seconds=45)


def test_load_follows_the_gpus_that_the_job_holds(monitored: ThreadedCluster) -> None:
    nodes = {node.name: node for node in monitored.cluster.fleet.nodes}
    pinned = [gpu.uuid for gpu in nodes["h100-0"].gpus[4:8]]
    resources = {"claims": [{"name": "gpus"}]}
    references = [{"name": "gpus", "resourceClaimName": "chat-0-0"}]
    apply(
        monitored,
        claim("chat-0-0", pinned),
        gpu_pod("chat-0-0", "chat", resources, resourceClaims=references),
    )
    eventually(lambda: set(busy(monitored)) == set(pinned))
    assert set(busy(monitored).values()) == {100.0}, "midday load exceeds one replica"
    eventually(lambda: query(monitored, "vllm:num_requests_waiting{pod='chat-0-0'} > 0"))
    eventually(lambda: not query(monitored, "vllm:num_requests_running{pod='chat-past'}"))
    apply(monitored, gpu_pod("tune-0-0", "tune", {"limits": {"nvidia.com/gpu": "2"}}))
    eventually(lambda: len(busy(monitored)) == 6)
    plugged = set(busy(monitored)) - set(pinned)
    assert plugged == {gpu.uuid for gpu in nodes["a100-0"].gpus[:2]}
    monitored.kubectl("delete", "pod", "chat-0-0", "tune-0-0")
    eventually(lambda: not busy(monitored))


def test_the_exporter_recovers_from_a_restart_of_the_api_server(monitored: ThreadedCluster) -> None:
    monitored.run(monitored.cluster.restart_apiserver())
    apply(monitored, gpu_pod("later-0-0", "later", {"limits": {"nvidia.com/gpu": "1"}}))
    eventually(lambda: len(busy(monitored)) == 1)
    monitored.kubectl("delete", "pod", "later-0-0")


def test_targets_can_be_added_while_it_runs(monitored: ThreadedCluster) -> None:
    own = monitored.cluster.monitoring.prometheus.url.removeprefix("http://")
    monitored.cluster.monitoring.set_targets("itself", [own])
    eventually(lambda: value(monitored, "up{job='itself', instance='itself'}") == 1)


def test_the_past_is_made_once(monitored: ThreadedCluster) -> None:
    def blocks() -> set[str]:
        return {each.parent.name for each in monitored.cluster.monitoring.prometheus.tsdb.glob("*/meta.json")}

    before = blocks()
    assert before
    monitored.run(monitored.cluster.supervisor.stop("prometheus"))
    supervisor, binaries = monitored.cluster.supervisor, monitored.cluster.binaries
    monitored.run(monitored.cluster.monitoring.start_prometheus(supervisor, binaries))
    assert blocks() == before
    assert query(monitored, UTIL_BY_JOB, start=time.time() - 3600, end=time.time() - 60, step=60)
