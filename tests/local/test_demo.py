"""The demo: what it concludes from the API server's states and Prometheus' samples, and one short, real run.

A whole run takes five minutes (`drse-local demo --once`); the run here is ended early, so that it has seen
all but the load's arrival, and must say just that.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from drse_forecaster.contract import ForecastPoint, ForecastState, JobForecast
from drse_local.demo import verdict
from drse_local.demo.documents import WAITS_WITH, JobSeen
from drse_local.demo.ledger import Ledger, ScaleUp
from drse_local.demo.load import LoadSample, crossed_at, expected_crossing
from drse_local.demo.progress import Progress
from drse_local.demo.scene import Scene, Service
from drse_local.demo.screen import save_picture
from drse_local.demo.session import EXAMPLES, SCENARIO, example_jobs
from drse_local.demo.verdict import FirstScaleUp
from drse_local.demo.view import view
from drse_local.demo.watching import Objects
from drse_local.scenario import load_scenario
from drse_operator.api.keys import JobKey

GPU, PLUGIN = "nvidia.com/gpu", {("a100-0", "nvidia.com/gpu"): 8}
CHAT = JobKey("serving", "chat")
NOON = datetime(2025, 1, 13, 12, tzinfo=UTC).timestamp()
NOON_TEXT = "2025-01-13T12:00:00Z"

# -- documents as the API server has them ----------------------------------------------------------------


def objects(*documents: dict[str, Any]) -> Objects:
    return {(d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in documents}


def exact(node: str, *devices: str, replica: int = 0) -> dict[str, Any]:
    named = [{"uuid": f"GPU-{d}", "driver": "gpu.nvidia.com", "pool": node, "name": d} for d in devices]
    common = {"replica": replica, "worker": 0, "node": node, "since": NOON_TEXT, "count": len(devices)}
    return {**common, "deviceSelection": "Exact", "devices": named}


def counted(node: str, count: int, replica: int = 0) -> dict[str, Any]:
    common = {"replica": replica, "worker": 0, "node": node, "since": NOON_TEXT, "count": count}
    return {**common, "deviceSelection": "CountOnly", "resource": GPU}


def job(name: str, *assignments: dict[str, Any], waits_with: str = "", **status: Any) -> dict[str, Any]:
    gpus = sum(each["count"] for each in assignments)
    return {
        "metadata": {
            "name": name,
            "namespace": "serving",
            "annotations": {WAITS_WITH: waits_with} if waits_with else {},
        },
        "spec": {
            "taskType": "Inference",
            "queue": "serving",
            "resources": {"gpusPerReplica": 2},
            "replicas": 2,
            "scaling": {"mode": "Auto", "minReplicas": 2, "maxReplicas": 8},
        },
        "status": {"assignments": list(assignments), "gpus": gpus, **status},
    }


def scaling(desired: int, reason: str = "ForecastAboveThreshold", capacity: int = 4) -> dict[str, Any]:
    return {
        "desiredReplicas": desired,
        "fromReplicas": 2,
        "capacity": capacity,
        "reason": reason,
        "message": "forecast 5.8 within 10 min exceeds 80% of 4 GPUs; load now 2.1",
        "decidedAt": NOON_TEXT,
    }


def claim(name: str, node: str, *devices: str, ours: bool = True) -> dict[str, Any]:
    results = [{"driver": "gpu.nvidia.com", "pool": node, "device": d, "request": "gpus"} for d in devices]
    return {"metadata": meta(name, ours), "status": {"allocation": {"devices": {"results": results}}}}


def pod(name: str, node: str, gpus: int = 0, ours: bool = True, phase: str = "Running") -> dict[str, Any]:
    limits = {"limits": {GPU: str(gpus)}} if gpus else {}
    spec = {"nodeName": node, "containers": [{"name": "main", "resources": limits}]}
    return {"metadata": meta(name, ours), "spec": spec, "status": {"phase": phase}}


def meta(name: str, ours: bool) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "drse"} if ours else {}
    return {"name": name, "namespace": "serving", "labels": labels}


# -- exclusivity -----------------------------------------------------------------------------------------


def test_a_device_in_two_claims_is_found_whosever_they_are() -> None:
    ledger = Ledger(PLUGIN)
    ledger.take_claims(
        objects(claim("chat-0-0", "h100-0", "gpu-0"), claim("x", "h100-0", "gpu-1", ours=False))
    )
    assert not ledger.doubly_held
    ledger.take_claims(
        objects(claim("chat-0-0", "h100-0", "gpu-0"), claim("x", "h100-0", "gpu-0", ours=False))
    )
    ledger.take_claims(objects())
    assert ledger.doubly_held == {"gpu.nvidia.com/h100-0/gpu-0"}, "an instant is enough, and is remembered"


def test_the_same_device_name_on_another_node_is_another_device() -> None:
    ledger = Ledger(PLUGIN)
    ledger.take_claims(objects(claim("a-0-0", "h100-0", "gpu-0"), claim("b-0-0", "h100-1", "gpu-0")))
    ledger.take_jobs(objects(job("a", exact("h100-0", "x")), job("b", exact("h100-0", "y"))), NOON)
    assert not ledger.doubly_held


def test_a_device_promised_twice_is_found_and_a_hand_over_is_not() -> None:
    ledger = Ledger(PLUGIN)
    ledger.take_jobs(objects(job("a", exact("h100-0", "x")), job("b")), NOON)
    ledger.take_jobs(objects(job("a"), job("b")), NOON)
    ledger.take_jobs(objects(job("a"), job("b", exact("h100-0", "x"))), NOON)
    assert not ledger.doubly_held
    ledger.take_jobs(objects(job("a", exact("h100-0", "x")), job("b", exact("h100-0", "x"))), NOON)
    assert ledger.doubly_held == {"GPU-x"}


def test_a_node_whose_pods_count_more_than_it_has_is_found() -> None:
    ledger = Ledger(PLUGIN)
    over = pod("old-0-0", "a100-0", 8, phase="Succeeded")
    ledger.take_pods(objects(pod("a-0-0", "a100-0", 4), pod("other", "a100-0", 4, ours=False), over))
    assert not ledger.doubly_held
    ledger.take_pods(objects(pod("a-0-0", "a100-0", 5), pod("other", "a100-0", 4, ours=False)))
    assert ledger.doubly_held == {"a100-0/nvidia.com/gpu"}


def test_promises_beyond_what_a_node_has_are_found() -> None:
    ledger = Ledger(PLUGIN)
    ledger.take_jobs(objects(job("a", counted("a100-0", 4)), job("b", counted("a100-0", 5))), NOON)
    assert ledger.doubly_held == {"a100-0/nvidia.com/gpu"}


def test_pods_and_devices_elsewhere_are_found_in_whatever_order_the_news_come() -> None:
    ledger = Ledger(PLUGIN)
    ledger.take_pods(objects(pod("chat-0-0", "h100-0"), pod("other", "h100-1", ours=False)))
    ledger.take_claims(objects(claim("chat-0-0", "h100-0", "x")))
    assert ledger.bound_elsewhere == ["serving/chat-0-0"]
    ledger.take_jobs(objects(job("chat", exact("h100-0", "x"))), NOON)
    assert ledger.bound_elsewhere == []
    ledger.take_claims(objects(claim("chat-0-0", "h100-0", "y")))
    assert ledger.bound_elsewhere == ["serving/chat-0-0"], "the right node, another device"


# -- growth ----------------------------------------------------------------------------------------------


def grown(*desired: int, reason: str = "ForecastAboveThreshold") -> Ledger:
    ledger = Ledger(PLUGIN)
    held = exact("h100-0", "a", "b"), exact("h100-0", "c", "d", replica=1)
    ledger.take_jobs(objects(job("chat", *held, phase="Running", readyReplicas=2)), NOON - 10)
    for number in desired:
        status = {"phase": "Running", "readyReplicas": 2, "ready": "2/2", "scaling": scaling(number, reason)}
        ledger.take_jobs(objects(job("chat", *held, **status)), NOON)
    return ledger


def test_each_decision_to_grow_counts_once() -> None:
    ledger = grown(2, 4, 4, 5, 3)
    assert [(each.before, each.after) for each in ledger.scale_ups] == [(2, 4), (4, 5)]
    first = ledger.scale_ups[0]
    assert (first.at, first.capacity, first.threshold) == (NOON, 4, pytest.approx(3.2))


def test_a_number_that_a_person_has_raised_is_no_decision() -> None:
    assert grown(4, reason="WithinThresholds").scale_ups == []


def samples(*loads: float) -> tuple[LoadSample, ...]:
    return tuple(LoadSample(NOON + 5 * index, load) for index, load in enumerate(loads))


def test_the_crossing_is_the_first_of_two_samples_above() -> None:
    loads = samples(2.0, 3.4, 3.1, 3.3, 3.4, 3.0)
    assert crossed_at(loads, 3.2, NOON) == NOON + 15
    assert crossed_at(loads, 3.2, NOON + 20) is None
    assert crossed_at(samples(2.0, 3.1), 3.2, NOON) is None


def test_the_expected_crossing_lies_on_the_median() -> None:
    assert expected_crossing(forecast(), 3.2) == NOON + 60 * (2 + 8 * 0.7 / 2.5)
    assert expected_crossing(forecast(), 9.0) is None
    assert expected_crossing(forecast(), 1.0) is None, "it lies behind"


def forecast() -> JobForecast:
    points = (ForecastPoint(minutes=2, p50=2.5, p90=2.9), ForecastPoint(minutes=10, p50=5.0, p90=6.0))
    return JobForecast(
        namespace="serving",
        name="chat",
        state=ForecastState.READY,
        reason="prophet+ar speaks",
        as_of=datetime.fromtimestamp(NOON, UTC),
        load=2.0,
        points=points,
        model="prophet+ar",
        skill=0.9,
        coverage=0.93,
    )


# -- the verdict -----------------------------------------------------------------------------------------


def first(load: float | None, crossing: float | None) -> FirstScaleUp:
    decision = ScaleUp(CHAT, NOON, 2, 4, 4, 3.2, "ForecastAboveThreshold")
    return FirstScaleUp(decision, load, crossing)


def test_all_is_well_when_the_service_grew_ahead_of_its_load() -> None:
    ledger, seen = grown(4), first(2.1, NOON + 223)
    assert verdict.failures(ledger, [CHAT], seen) == []
    result = verdict.result(ledger, [CHAT], seen, 270.04)
    assert result.model_dump() == {
        "jobs_applied": 1,
        "jobs_running": 1,
        "jobs_waiting_with_reason": 0,
        "devices_assigned": 4,
        "double_assignments": 0,
        "pods_bound_elsewhere": 0,
        "scale_ups": 1,
        "scale_up_load_ratio_at_decision": 0.525,
        "seconds_decision_before_load_crossed_threshold": 223.0,
        "seconds_total": 270.0,
    }


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (None, "No service has been scaled up"),
        (first(None, None), "Prometheus does not tell"),
        (first(3.3, NOON + 5), "only when its load was 3.30"),
        (first(2.1, None), "has not risen above 3.2"),
    ],
)
def test_growth_that_was_not_ahead_of_the_load_fails(seen: FirstScaleUp | None, words: str) -> None:
    (failure,) = verdict.failures(grown(4), [CHAT], seen)
    assert words in failure.message


def waiting(reason: str) -> dict[str, Any]:
    return {"phase": "Queued", "queue": {"reason": reason, "message": "so it is", "since": NOON_TEXT}}


@pytest.mark.parametrize(
    ("document", "fails"),
    [
        (job("a", phase="Succeeded"), False),
        (job("a", **waiting("InsufficientFreeGPUs")), True),
        (job("a", phase="Failed"), True),
        (job("a"), True),
        (job("a", waits_with="QueueNotFound", **waiting("QueueNotFound")), False),
        (job("a", waits_with="QueueNotFound", **waiting("Fragmented")), True),
        (job("a", waits_with="QueueNotFound"), True),
        (job("a", waits_with="QueueNotFound", phase="Running"), True),
    ],
)
def test_what_fits_runs_and_the_rest_says_why(document: dict[str, Any], fails: bool) -> None:
    ledger = grown(4)
    ledger.take_jobs(objects(document), NOON)
    found = verdict.failures(ledger, [JobKey("serving", "a")], first(2.1, NOON + 223))
    assert bool(found) is fails


def test_a_job_that_is_gone_and_a_device_in_two_hands_fail() -> None:
    ledger = grown(4)
    ledger.doubly_held.add("GPU-x")
    missing = JobKey("serving", "gone")
    messages = [each.message for each in verdict.failures(ledger, [missing], first(2.1, NOON + 223))]
    assert messages == ["Held twice at some instant: GPU-x.", "serving/gone is not in the API server."]


# -- what is shown ---------------------------------------------------------------------------------------


def scene(seen: FirstScaleUp | None = None) -> Scene:
    ledger = grown(4)
    (chat,) = ledger.jobs.values()
    service = Service(chat, samples(*[2.0] * 60), forecast(), tuple(ledger.capacity[CHAT]), seen)
    waits = JobSeen.of(job("too-large", **waiting("TooLargeForCluster")))
    jobs = (chat, waits)
    return Scene(NOON + 300, 60, 15, 104, "/somewhere/kubeconfig", jobs, service=service)


def drawn(content: Scene, width: int, height: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(view(content, width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("height", [20, 24, 35, 60])
def test_the_view_fits_and_says_what_matters(width: int, height: int) -> None:
    lines = drawn(scene(first(2.1, NOON + 223)), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for words in (
        "serving/chat",
        "TooLargeForCluster",
        "0 held twice",
        "3:43 before it passed" if height > 20 else "",
    ):
        assert words in text
    assert ("█ load" in text) == (height >= 35)


def test_the_view_counts_down_to_the_load() -> None:
    text = "\n".join(drawn(scene(first(2.1, None)), 132, 60))
    assert "P50 5.0  P90 6.0   says prophet+ar" in text
    assert "with load 2.1 of 4 GPUs; it passes 3.2 in about" in text
    assert "replicas wanted 4, granted 2, ready 2" in text


def test_a_picture_is_svg(tmp_path: Path) -> None:
    path = tmp_path / "images" / "demo.svg"
    save_picture(scene(), path)
    assert path.read_text(encoding="utf-8").startswith("<svg")


def test_progress_tells_an_event_once() -> None:
    ledger, out = grown(4), io.StringIO()
    event = {
        "metadata": {"name": "e", "namespace": "serving"},
        "regarding": {"kind": "DeepSeekJob", "name": "chat"},
        "eventTime": NOON_TEXT,
        "reason": "ScaledUp",
        "note": "from 2 to 4 replicas",
    }
    ledger.take_events(objects(event))
    progress = Progress(out)
    for _ in range(2):
        progress.follow(Scene(NOON, 60, 15, 104, "", events=ledger.events))
    assert out.getvalue().count("chat: ScaledUp, from 2 to 4 replicas") == 1


# -- scenario and examples -------------------------------------------------------------------------------


def test_the_scenario_is_that_of_the_example() -> None:
    ((key, script),) = load_scenario(SCENARIO).jobs.items()
    (spec,) = [d["spec"] for d in documents() if "/".join(names(d)) == key]
    assert script.gpus_per_replica == spec["resources"]["gpusPerReplica"]
    assert script.target_concurrency == spec["scaling"]["targetConcurrency"]
    assert script.model_name == spec["model"]["name"]
    assert script.queue == spec["queue"]


def test_the_load_crosses_the_first_threshold_well_within_an_unattended_run() -> None:
    (script,) = load_scenario(SCENARIO).jobs.values()
    seconds = np.arange(0.0, 346.0, 5.0)
    loads = script.load.at(NOON + seconds, NOON)
    above = seconds[loads > 0.8 * 4]
    assert 200 < above[0] < 300, "after the decision, and early enough to be measured"
    assert (loads[seconds < 120] < 0.6 * 4).all()


def documents() -> list[dict[str, Any]]:
    paths = sorted(EXAMPLES.glob("*.yaml"))
    loaded = [d for path in paths for d in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return [d for d in loaded if d["kind"] == "DeepSeekJob"]


def names(document: dict[str, Any]) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]


def test_all_examples_are_applied_and_two_of_them_are_meant_to_wait() -> None:
    assert example_jobs() == {JobKey(*names(d)) for d in documents()}
    wait = {d["metadata"]["name"] for d in documents() if WAITS_WITH in d["metadata"].get("annotations", {})}
    assert wait == {"pretrain-v3", "distill-7b"}


# -- a real run ------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_run_that_is_ended_early_says_what_it_has_not_seen() -> None:
    command = [sys.executable, "-m", "drse_local", "demo", "--once", "--output", "json", "--timeout", "90"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    result = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 1, run.stderr
    failed = [line for line in run.stderr.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 1, run.stderr
    assert "has not risen above 3.2 GPUs since" in failed[0]
    assert "The end of the log of drse-operator-0:" in run.stderr
    assert set(result) == set(verdict.Result.model_fields)
    assert (result["jobs_applied"], result["jobs_running"], result["jobs_waiting_with_reason"]) == (6, 4, 2)
    assert result["double_assignments"] == result["pods_bound_elsewhere"] == 0
    assert result["scale_ups"] >= 1
    assert 0.3 < result["scale_up_load_ratio_at_decision"] < 0.8
    assert result["seconds_decision_before_load_crossed_threshold"] is None
