"""One round's query against a real Prometheus that holds the metrics of a thousand jobs.

    python -m tests.benchmarks.forecast_query [--jobs 1000] [--gpus-per-job 4]

Prints JSON: the median seconds of reading the newest three minutes of all jobs, as every round does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx

from drse_forecaster.queries import build_load_query
from drse_forecaster.series import SeriesShape
from drse_forecaster.source import PrometheusSettings, PrometheusSource
from drse_local.binaries import ensure_binaries

MINUTES = 30


@click.command()
@click.option("--jobs", default=1000)
@click.option("--gpus-per-job", default=4)
@click.option("--rounds", default=7)
def main(jobs: int, gpus_per_job: int, rounds: int) -> None:
    """Time the query of a round."""
    now = int(time.time()) // 60 * 60
    with (
        tempfile.TemporaryDirectory() as folder,
        prometheus(Path(folder), samples(jobs, gpus_per_job, now)) as url,
    ):
        source = PrometheusSource(PrometheusSettings(url=url, query=build_load_query()), SeriesShape())
        seconds, found = [], 0
        for _ in range(rounds):
            began = time.perf_counter()
            found = len(asyncio.run(source.recent(now - 180.0, float(now))))
            seconds.append(time.perf_counter() - began)
        source.close()
    click.echo(
        json.dumps(
            {
                "jobs": found,
                "gpus": jobs * gpus_per_job,
                "round_query_seconds": statistics.median(seconds),
                "slowest_seconds": max(seconds),
            }
        )
    )


def samples(jobs: int, gpus_per_job: int, now: int) -> str:
    """Return OpenMetrics text: utilisation and holder of every GPU, and requests of every job."""
    util = ["# TYPE DCGM_FI_DEV_GPU_UTIL gauge"]
    held = ["# TYPE drse_gpu_assigned gauge"]
    running = ["# TYPE vllm:num_requests_running gauge"]
    target = ["# TYPE drse_job_target_concurrency gauge"]
    gpus = ["# TYPE drse_job_gpus_per_replica gauge"]
    times = range(now - 60 * MINUTES, now + 1, 60)
    for job in range(jobs):
        labels = f'deepseekjob="job-{job}",deepseekjob_namespace="team-{job % 20}"'
        for gpu in range(gpus_per_job):
            uuid = f'UUID="GPU-{job}-{gpu}"'
            util += [
                f'DCGM_FI_DEV_GPU_UTIL{{{uuid},Hostname="node-{job}"}} {(job + at) % 100} {at}'
                for at in times
            ]
            held += [f"drse_gpu_assigned{{{uuid},{labels}}} 1 {at}" for at in times]
        running += [f"vllm:num_requests_running{{{labels}}} {job % 9} {at}" for at in times]
        target += [f"drse_job_target_concurrency{{{labels}}} 8 {at}" for at in times]
        gpus += [f"drse_job_gpus_per_replica{{{labels}}} {gpus_per_job} {at}" for at in times]
    return "\n".join([*util, *held, *running, *target, *gpus, "# EOF", ""])


@contextmanager
def prometheus(folder: Path, openmetrics: str) -> Iterator[str]:
    """Run Prometheus on these samples and yield its address."""
    binaries = ensure_binaries(["prometheus", "promtool"])
    (folder / "samples.om").write_text(openmetrics, encoding="utf-8")
    (folder / "prometheus.yml").write_text("{}", encoding="utf-8")
    create = [binaries["promtool"], "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run(
        [*create, str(folder / "samples.om"), str(folder / "data")], check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(binaries["prometheus"]),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            process.terminate()


def _wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/-/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("Prometheus did not become ready within a minute.")


if __name__ == "__main__":
    main()
