"""Scaling through the live operator, fed by a forecaster whose answers the test sets.

The real forecaster with real Prometheus is in tests/forecaster and in the demo; here the operator meets
answers that a healthy one would not give.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drse_local.annotations import START_SECONDS
from drse_operator.api.enums import Phase
from drse_operator.api.status import DeepSeekJobStatus
from tests.operator.harness import A100, H100, Cluster, OperatorProcess, eventually

pytestmark = [pytest.mark.cluster]

GPUS_PER_REPLICA = 2


class Forecaster:
    """Answers with whatever ``body`` is; ``fail`` makes it answer 500."""

    def __init__(self) -> None:
        self.body: bytes = b'{"generatedAt": "2026-01-01T00:00:00Z", "forecasts": []}'
        self.fail = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(500 if outer.fail else 200)
                self.end_headers()
                self.wfile.write(b"" if outer.fail else outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def say(self, namespace: str, name: str, load: float, p90: float, state: str = "Ready") -> None:
        """Set the answer for one job: the same P90 for every minute."""
        points = [{"minutes": m, "p50": min(load, p90), "p90": p90} for m in (*range(1, 11), 15, 20, 30)]
        forecast = {
            "namespace": namespace,
            "name": name,
            "state": state,
            "reason": "as the test says",
            "asOf": datetime.now(UTC).isoformat(),
            "load": load,
            "points": points if state == "Ready" else [],
        }
        self.body = json.dumps(
            {"generatedAt": datetime.now(UTC).isoformat(), "forecasts": [forecast]}
        ).encode()


@pytest.fixture
def forecaster() -> Iterator[Forecaster]:
    found = Forecaster()
    yield found
    found.server.shutdown()


@pytest.fixture
def scaling(cluster: Cluster, forecaster: Forecaster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator of the test's own that polls the forecaster twice a second."""
    arguments = ("--forecaster-url", forecaster.url, "--forecast-period", "0.5", "--forecast-max-age", "2")
    process = OperatorProcess(
        cluster.threaded.kubeconfig, tmp_path / "operator.log", "--lease", "scaling", *arguments
    )
    process.start()
    eventually(process.leads, bool, 40)
    yield process
    assert process.terminate() == 0
    assert "Traceback" not in process.log.read_text()


def _service(
    cluster: Cluster,
    namespace: str,
    mode: str = "Auto",
    start_seconds: int = 1,
    product: str = A100,
    **scaling: Any,
) -> None:
    annotations = {START_SECONDS: str(start_seconds)}
    cluster.job(
        namespace,
        "chat",
        taskType="Inference",
        resources={"gpusPerReplica": GPUS_PER_REPLICA, "accelerators": [product]},
        runtime={
            "engine": "Custom",
            "image": "registry.example/serve:1",
            "podTemplate": {"metadata": {"annotations": annotations}},
        },
        scaling={"mode": mode, "minReplicas": 1, "maxReplicas": 3, "stabilizationWindow": "2s", **scaling},
    )
    cluster.wait_status(namespace, "chat", lambda s: s.ready == "1/1")


def _frozen(reason: str) -> Any:
    def check(status: DeepSeekJobStatus) -> bool:
        condition = next((c for c in status.conditions if c.type == "ScalingActive"), None)
        return condition is not None and (condition.status, condition.reason) == ("False", reason)

    return check


def _active(status: DeepSeekJobStatus) -> bool:
    return any(c.type == "ScalingActive" and c.status == "True" for c in status.conditions)


def test_grows_on_the_forecast_before_the_load_and_shrinks_after_its_window(
    cluster: Cluster, namespace: str, forecaster: Forecaster, scaling: OperatorProcess
) -> None:
    _service(cluster, namespace)
    forecaster.say(namespace, "chat", load=1.0, p90=3.0)
    status = cluster.wait_status(namespace, "chat", lambda s: s.ready == "2/2")
    assert status.scaling is not None and status.scaling.reason in (
        "ForecastAboveThreshold",
        "Starting",
        "WithinThresholds",
    )
    assert status.scaling.load == 1.0 and status.scaling.load < 0.8 * GPUS_PER_REPLICA
    eventually(lambda: cluster.event_reasons(namespace, "chat"), lambda reasons: "ScaledUp" in reasons)
    forecaster.say(namespace, "chat", load=0.5, p90=0.9)
    cluster.wait_status(namespace, "chat", lambda s: s.ready == "1/1" and s.replicas == 1, 30)
    eventually(lambda: set(cluster.pods(namespace)), lambda names: len(names) == 1)


def test_growth_stops_at_the_maximum_and_says_so(
    cluster: Cluster, namespace: str, forecaster: Forecaster, scaling: OperatorProcess
) -> None:
    _service(cluster, namespace)
    forecaster.say(namespace, "chat", load=20.0, p90=40.0)
    cluster.wait_status(namespace, "chat", lambda s: s.ready == "3/3")
    cluster.wait_status(
        namespace, "chat", lambda s: s.scaling is not None and s.scaling.reason == "AtMaximum"
    )


def test_recommend_only_writes(
    cluster: Cluster, namespace: str, forecaster: Forecaster, scaling: OperatorProcess
) -> None:
    _service(cluster, namespace, mode="Recommend")
    forecaster.say(namespace, "chat", load=1.0, p90=3.0)
    status = cluster.wait_status(
        namespace, "chat", lambda s: s.scaling is not None and s.scaling.desired_replicas == 2
    )
    assert (status.replicas, status.ready) == (1, "1/1")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        pytest.param("down", "ForecasterUnreachable", id="forecaster-down"),
        pytest.param("nan", "ForecasterUnreachable", id="not-a-number"),
        pytest.param("stale", "LoadStale", id="stale-samples"),
        pytest.param("broken", "ForecastUnavailable", id="broken-series"),
        pytest.param("unknown", "LoadUnknown", id="job-not-known"),
    ],
)
def test_trouble_freezes_scaling_and_only_scaling(
    cluster: Cluster,
    namespace: str,
    forecaster: Forecaster,
    scaling: OperatorProcess,
    trouble: str,
    reason: str,
) -> None:
    _service(cluster, namespace)
    forecaster.say(namespace, "chat", load=1.0, p90=3.0)
    cluster.wait_status(namespace, "chat", lambda s: s.ready == "2/2" and _active(s))
    match trouble:
        case "down":
            forecaster.fail = True
        case "nan":
            forecaster.body = forecaster.body.replace(b'"load": 1.0', b'"load": NaN')
        case "stale":
            forecaster.say(namespace, "chat", 0.1, 0.1, state="Stale")
        case "broken":
            forecaster.say(namespace, "chat", 0.1, 0.1, state="Broken")
        case _:
            forecaster.say("elsewhere", "other", 0.1, 0.1)
    status = cluster.wait_status(namespace, "chat", _frozen(reason), 15)
    assert status.ready == "2/2", "frozen means that nothing is taken away"
    cluster.job(namespace, "meanwhile")
    cluster.wait_status(namespace, "meanwhile", lambda s: s.phase is Phase.RUNNING)
    forecaster.fail = False
    forecaster.say(namespace, "chat", load=1.5, p90=3.0)
    cluster.wait_status(namespace, "chat", _active, 15)


def test_replicas_count_once_they_have_started_and_how_long_that_took_is_kept(
    cluster: Cluster, namespace: str, forecaster: Forecaster, scaling: OperatorProcess
) -> None:
    # Longer than whole seconds of timestamps can blur, so that the lead time becomes the start-up time.
    _service(cluster, namespace, start_seconds=10, product=H100, horizon="1s")
    first = cluster.status(namespace, "chat")
    assert [a.started for a in first.assignments] == [True]
    forecaster.say(namespace, "chat", load=1.7, p90=3.0)
    starting = cluster.wait_status(
        namespace,
        "chat",
        lambda s: s.scaling is not None and s.scaling.reason == "Starting" and s.replicas == 2,
    )
    assert [a.started for a in starting.assignments] == [True, False]
    assert scaling.metric("drse_gpu_starting") == GPUS_PER_REPLICA
    status = cluster.wait_status(namespace, "chat", lambda s: s.ready == "2/2" and len(s.startups) == 2, 60)
    eventually(lambda: scaling.metric("drse_gpu_starting"), lambda gpus: gpus == 0)
    assert all(9 <= took <= 60 for took in status.startups)
    longest = max(status.startups)
    cluster.wait_status(
        namespace, "chat", lambda s: s.scaling is not None and s.scaling.lead_seconds == longest
    )


def test_kubectl_scale_is_taken_up_in_mode_auto(
    cluster: Cluster, namespace: str, forecaster: Forecaster, scaling: OperatorProcess
) -> None:
    _service(cluster, namespace)
    forecaster.say(namespace, "chat", load=1.2, p90=1.4)
    cluster.wait_status(namespace, "chat", _active)
    cluster.threaded.kubectl("scale", "dsj", "chat", "-n", namespace, "--replicas=2")
    cluster.wait_status(namespace, "chat", lambda s: s.ready == "2/2")
