"""What commands take from elsewhere: Prometheus, the forecaster, the books of GPU-hours; and ``--watch``."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue

import pytest

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from drse_operator.observe import books
from drse_operator.observe.accounts import Account, Accounts, Tally, day_of
from tests.cli.conftest import Drse
from tests.forecaster.forecaster import ForecasterProcess
from tests.operator.harness import L40S, Cluster, eventually, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def test_use_comes_from_prometheus_by_uuid(cluster: Cluster, drse: Drse, namespace: str) -> None:
    url = cluster.threaded.cluster.monitoring.prometheus.url
    cluster.job(namespace, "busy", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    cluster.wait_status(namespace, "busy", lambda s: s.phase is Phase.RUNNING, 60)

    def measured() -> list[float | None]:
        rows = drse("gpus", "-n", namespace, "--prometheus", url, "-o", "json").json["items"]
        return [row["utilisationRatio"] for row in rows]

    use = eventually(measured, lambda found: len(found) == 2 and None not in found, 60)
    assert all(ratio is not None and 0 <= ratio <= 1 for ratio in use)
    assert "UTIL" in drse("gpus", "--prometheus", url).out.splitlines()[0]
    doctor = drse("doctor", "--prometheus", url, "-o", "json").json["items"]
    assert {item["check"]: item["state"] for item in doctor}["exporters"] == "ok", doctor
    lost = drse("gpus", "--prometheus", f"http://127.0.0.1:{free_port()}")
    assert lost.code == 1 and "check its address, or leave --prometheus out" in lost.err


def test_the_forecaster_is_asked_at_its_address(
    cluster: Cluster, drse: Drse, namespace: str, tmp_path: Path
) -> None:
    scaling = {"mode": "Auto", "minReplicas": 1, "maxReplicas": 3}
    cluster.job(namespace, "service", taskType="Inference", scaling=scaling)
    url = cluster.threaded.cluster.monitoring.prometheus.url
    service = ForecasterProcess(url, tmp_path / "forecaster.log", port=free_port())
    service.start()
    try:
        said = eventually(
            lambda: drse("forecast", "-n", namespace, "--forecaster", service.url, "-o", "json"),
            lambda said: said.json["forecaster"] == "Answered",
            60,
        )
    finally:
        service.kill()
    (row,) = said.json["items"]
    assert row["state"] in ("Unknown", "TooShort", "Stale") and said.err == ""


def test_gpu_hours_come_from_the_books(cluster: Cluster, drse: Drse, namespace: str) -> None:
    """A book as the operator writes it, in a namespace that no operator keeps its own in."""
    accounts = Accounts(lambda key: None)
    now = time.time()
    day, account = day_of(now), Account("research", "team-a", "alice", "r1", "Batch", "H100")
    other = account._replace(queue="product", user="bob")
    accounts.periods = {day: {account: Tally(held=7200, used=3600, jobs=3), other: Tally(held=3600)}}
    book = books.usage_book(accounts, day[:7], now)
    cluster.create(kinds.CONFIG_MAP, books.config_map(f"drse-usage-{day[:7]}", namespace, book))
    said = drse("report", "usage", "--drse-namespace", namespace, "--by", "queue,user", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(r["queue"], r["user"], float(r["heldGpuHours"]), float(r["usedGpuHours"])) for r in rows] == [
        ("research", "alice", 2, 1),
        ("product", "bob", 1, 0),
    ]
    table = drse("report", "usage", "--drse-namespace", namespace, "--from", "-7d")
    assert "3.0 GPU-hours held in all" in table.out


def test_watching_shows_a_job_that_comes(cluster: Cluster, namespace: str) -> None:
    program = "from drse_operator.cli.main import cli; cli(prog_name='drse')"
    environment = {**os.environ, "KUBECONFIG": str(cluster.threaded.kubeconfig)}
    with subprocess.Popen(
        [sys.executable, "-c", program, "queue", "-n", namespace, "-w", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as watching:
        lines: Queue[str] = Queue()
        assert watching.stdout is not None
        stdout = watching.stdout
        threading.Thread(target=lambda: [lines.put(line) for line in stdout], daemon=True).start()
        try:
            assert json.loads(lines.get(timeout=30))["items"] == []
            cluster.job(namespace, "comes", queue="nowhere")
            items = eventually(lambda: json.loads(lines.get(timeout=30))["items"], bool, 30)
            assert items[0]["job"] == "comes"
        finally:
            watching.terminate()
