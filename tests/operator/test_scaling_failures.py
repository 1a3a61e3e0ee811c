"""Scaling when its data fail: operator, forecaster, Prometheus and exporter are the real programs.

Each failure must freeze scaling with its own condition, keep what is there, and end by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from tests.forecaster.forecaster import ForecasterProcess
from tests.forecaster.prometheus import PrometheusProcess
from tests.operator.harness import A100, Cluster, OperatorProcess, eventually, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAMESPACE = "failures"
JOBS = ("chat", "search")
DAY = 86400
#: Samples come a minute apart: any less than this would call a healthy load stale.
STALE_AFTER = 75
#: Until the newest sample is too old, a round has seen it, and the operator has written it; generously.
SECONDS = STALE_AFTER + 90


class Exporter:
    """Serves one load a job; tests set them."""

    def __init__(self) -> None:
        self.loads = {job: "1.0" for job in JOBS}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                lines = [f"load{{{labels(job)}}} {value}" for job, value in outer.loads.items()]
                self.wfile.write("\n".join([*lines, ""]).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def labels(job: str) -> str:
    return f'deepseekjob="{job}",deepseekjob_namespace="{NAMESPACE}"'


def recorded(days: float) -> str:
    """A load of one GPU for both jobs until now."""
    now = int(time.time()) // 60 * 60
    times = range((now - int(days * DAY)) // 300 * 300, now, 60)
    lines = [f"load{{{labels(job)}}} 1.0 {at}" for job in JOBS for at in times]
    return "\n".join(["# TYPE load gauge", *lines, "# EOF", ""])


@dataclass(frozen=True)
class World:
    """Everything that takes part."""

    cluster: Cluster
    exporter: Exporter
    prometheus: PrometheusProcess
    forecaster: ForecasterProcess

    def wait(self, job: str, check: Callable[[DeepSeekJobStatus], object]) -> DeepSeekJobStatus:
        return self.cluster.wait_status(NAMESPACE, job, check, SECONDS)


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("failures")
    exporter = Exporter()
    target = f"127.0.0.1:{exporter.server.server_port}"
    prometheus = PrometheusProcess(folder, free_port(), [target])
    prometheus.backfill(recorded(days=3))
    # What was recorded stands until scrapes begin, and must not outlive that for Prometheus' five minutes.
    query = 'max by (deepseekjob, deepseekjob_namespace) (load{job="test"} or on (deepseekjob) load)'
    arguments = ("--query", query, "--stale-after", f"{STALE_AFTER}s")
    forecaster = ForecasterProcess(prometheus.url, folder / "forecaster.log", *arguments, port=free_port())
    polling = ("--forecaster-url", forecaster.url, "--forecast-period", "1", "--forecast-max-age", "5")
    operator = OperatorProcess(
        cluster.threaded.kubeconfig, folder / "operator.log", "--lease", "failures", *polling
    )
    with ExitStack() as stack:
        stack.callback(exporter.server.shutdown)
        stack.callback(prometheus.stop)
        prometheus.start()
        stack.callback(forecaster.kill)
        forecaster.start()
        stack.callback(operator.terminate)
        operator.start()
        eventually(operator.leads, bool, 60)
        stack.callback(clear, cluster)
        cluster.create(
            kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        found = World(cluster, exporter, prometheus, forecaster)
        for job in JOBS:
            service(cluster, job)
        for job in JOBS:
            found.wait(job, active)
        yield found
    assert "Traceback" not in operator.log.read_text(), operator.log.read_text()[-3000:]


def service(cluster: Cluster, job: str) -> None:
    cluster.job(
        NAMESPACE,
        job,
        taskType="Inference",
        resources={"gpusPerReplica": 2, "accelerators": [A100]},
        runtime={"engine": "Custom", "image": "registry.example/serve:1"},
        scaling={"mode": "Auto", "minReplicas": 1, "maxReplicas": 2, "stabilizationWindow": "0s"},
    )


def clear(cluster: Cluster) -> None:
    """Give the GPUs back to other files' tests."""
    for job in JOBS:
        cluster.delete(kinds.DEEPSEEKJOB, job, NAMESPACE)
    eventually(lambda: cluster.pods(NAMESPACE), lambda pods: not pods, 60)


def active(status: DeepSeekJobStatus) -> bool:
    return any(c.type == "ScalingActive" and c.status == "True" for c in status.conditions)


def frozen(reason: str) -> Callable[[DeepSeekJobStatus], bool]:
    def check(status: DeepSeekJobStatus) -> bool:
        condition = next((c for c in status.conditions if c.type == "ScalingActive"), None)
        return condition is not None and (condition.status, condition.reason) == ("False", reason)

    return check


def test_the_forecaster_is_killed_while_it_learns(world: World) -> None:
    world.forecaster.kill()
    for job in JOBS:
        status = world.wait(job, frozen("ForecasterUnreachable"))
        assert status.replicas == 1
    for _ in range(10):
        # Three days are fitted and replayed after the first round: it dies in the midst of that.
        said = world.forecaster.log.read_text().count('"learned"')
        world.forecaster.start()
        world.forecaster.kill()
        if world.forecaster.log.read_text().count('"learned"') == said:
            break
    else:
        pytest.fail("it was never caught while it learned")
    world.forecaster.start()
    for job in JOBS:
        world.wait(job, active)


def test_a_load_that_is_no_number_and_then_no_prometheus(world: World) -> None:
    """One after the other, for each takes as long as samples may be old."""
    world.exporter.loads["chat"] = "NaN"
    status = world.wait("chat", frozen("ForecastUnavailable"))
    assert status.replicas == 1
    assert "not finite" in next(c.message for c in status.conditions if c.type == "ScalingActive")
    assert active(world.cluster.status(NAMESPACE, "search")), "only the job concerned is frozen"

    world.prometheus.stop()
    for job in JOBS:
        status = world.wait(job, frozen("LoadStale"))
        assert status.replicas == 1, "nothing is taken and nothing is given"
    eventually(
        lambda: world.cluster.event_reasons(NAMESPACE, "search"), lambda reasons: "ScalingFrozen" in reasons
    )

    world.exporter.loads["chat"] = "3.0"
    world.prometheus.start()
    for job in JOBS:
        world.wait(job, active)
    world.wait("chat", lambda s: s.ready == "2/2")
