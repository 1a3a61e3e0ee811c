"""The console before a big cluster: 2,000 GPUs and 5,000 jobs on the real API server, never at rest.

    python -m tests.benchmarks.console [--jobs 5000] [--gpus 2000] [--report docs/console.md]

Jobs and statuses are those of a planned cluster, written as an operator would have written them; then ten
statuses a second are written anew. Measured are answers over HTTP (one reader, gzip as browsers ask for it),
the first paint in a headless browser, and the memory of the console.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from drse_local.cluster import LocalCluster
from drse_local.ports import PortReservation
from drse_local.processes import ProcessSpec
from drse_operator.cluster import kinds
from drse_operator.cluster.client import KubeApi, load_configuration
from tests.benchmarks.stage import pooled, rss, until
from tests.console.stagehand import QUEUES, Cluster, large_fleet

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]
PATHS = (
    *("/", "/jobs", "/jobs?view=waiting&sort=-waited", "/jobs?q=serve&queue=production", "/queues"),
    *("/queues/research", "/gpus", "/forecast", "/decisions", "/reports", "/health"),
    *("/jobs.json?page=1&queue=students", "/gpus.csv?state=Free"),
    *("/jobs.json?view=all", "/jobs.csv?view=all", "/gpus.json", "/queues.json", "/queues/research.csv"),
)
_TYPED = {"apiVersion": "drse.dev/v1alpha1"}
_MARK = "<!-- measured -->"


async def measure(jobs: int, gpus: int, rounds: int) -> dict[str, Any]:
    """Fill a cluster, start the console, ask."""
    filled = Cluster.large(jobs, gpus)
    async with LocalCluster(fleet=large_fleet(gpus)) as cluster:
        await cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        for name in ("drse-system", *sorted({j.key.namespace for j in filled.world.all_jobs()})):
            await cluster.kubectl("create", "namespace", name)
        async with KubeApi(await load_configuration(str(cluster.kubeconfig)), "bench") as api:
            await _fill(api, filled)
            port = PortReservation(["console"])["console"]
            argv = (sys.executable, "-m", "drse_operator.observe.console", "--auth", "none-on-loopback")
            where = ("--kubeconfig", str(cluster.kubeconfig), "--listen", f"127.0.0.1:{port}")
            process = await cluster.run(ProcessSpec(name="console", argv=(*argv, *where)))
            url = f"http://127.0.0.1:{port}"
            began = time.monotonic()
            await until(lambda: _ready(url), 300)
            ready = time.monotonic() - began
            churning = asyncio.create_task(_churn(api, filled))
            seen = [rss(process.pid)]
            memory = asyncio.create_task(_watch_memory(process.pid, seen))
            try:
                await asyncio.sleep(5)
                answers = await _ask(url, (*PATHS, *_of_jobs(filled)), rounds)
                paint = await asyncio.to_thread(_paint, f"{url}/jobs")
                most, last = max(seen), seen[-1]
            finally:
                for task in (churning, memory):
                    task.cancel()
                await asyncio.gather(churning, memory, return_exceptions=True)
    every = [ms for found in answers.values() for ms in found]
    return {
        "jobs": jobs,
        "gpus": gpus,
        "seconds_until_ready": round(ready, 1),
        "answer_p50_ms": round(statistics.median(every), 1),
        "answer_p95_ms": round(_quantile(every, 0.95), 1),
        "pages": {
            path: {"p50_ms": round(statistics.median(found), 1), "p95_ms": round(_quantile(found, 0.95), 1)}
            for path, found in answers.items()
        },
        "first_paint_ms": paint,
        "rss_mib": round(most),
        "rss_at_the_end_mib": round(last),
    }


async def _fill(api: KubeApi, filled: Cluster) -> None:
    """Queues, priority classes and jobs with the statuses that they have in the planned cluster."""
    for name, spec in QUEUES.items():
        await api.create(
            kinds.GPUQUEUE, {**_TYPED, "kind": "GPUQueue", "metadata": {"name": name}, "spec": spec}
        )
    jobs = list(filled.world.all_jobs())

    async def write(number: int) -> None:
        job = jobs[number]
        assert job.spec is not None
        metadata = {"namespace": job.key.namespace, "name": job.key.name}
        document = {**_TYPED, "kind": "DeepSeekJob", "metadata": metadata, "spec": job.spec.to_wire()}
        await api.create(kinds.DEEPSEEKJOB, document)
        status = {"status": job.status.to_wire()}
        await api.merge(kinds.DEEPSEEKJOB, job.key.name, job.key.namespace, status, "status")

    await pooled(len(jobs), write)


async def _churn(api: KubeApi, filled: Cluster) -> None:
    """Ten statuses a second."""
    waiting = [job for job in filled.world.all_jobs() if job.status.queue is not None]
    number = 0
    while True:
        job = waiting[number % len(waiting)]
        number += 1
        change = {"status": {"queue": {"position": number % 500 + 1}}}
        await api.merge(kinds.DEEPSEEKJOB, job.key.name, job.key.namespace, change, "status")
        await asyncio.sleep(0.1)


async def _ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        with contextlib.suppress(httpx.HTTPError):
            return (await client.get(f"{url}/readyz")).status_code == 200
    return False


def _of_jobs(filled: Cluster) -> tuple[str, str]:
    """Pages of two jobs: one that waits behind others, and one that runs and scales."""
    jobs = list(filled.world.all_jobs())
    waits = next(job for job in jobs if job.status.queue and job.status.queue.reason == "WaitingForTurn")
    runs = next(job for job in jobs if job.status.assignments and job.status.scaling)
    return f"/jobs/{waits.key}", f"/jobs/{runs.key}"


async def _ask(url: str, paths: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each answer, pages in turn."""
    found: dict[str, list[float]] = {path: [] for path in paths}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for _ in range(rounds):
            for path in paths:
                began = time.perf_counter()
                response = await client.get(f"{url}{path}")
                found[path].append(1000 * (time.perf_counter() - began))
                response.raise_for_status()
                await asyncio.sleep(0.05)
    return found


async def _watch_memory(pid: int, seen: list[float]) -> None:
    """Note the memory (MiB) of a process until cancelled."""
    while True:
        seen.append(rss(pid))
        await asyncio.sleep(0.5)


def _paint(url: str) -> float | None:
    """Milliseconds until the browser has painted something of the page; the median of five."""
    chromium = os.environ.get("DRSE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(5):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.goto(url)
            page.wait_for_timeout(300)
            entries = "performance.getEntriesByName('first-contentful-paint')"
            found.append(float(page.evaluate(f"{entries}[0].startTime")))
        browser.close()
    return round(statistics.median(found))


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    paint = "not measured" if result["first_paint_ms"] is None else f"{result['first_paint_ms']} ms"
    lines = [
        f"Written by `python -m tests.benchmarks.console` on {datetime.now(UTC):%Y-%m-%d}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; all programs share them.",
        "",
        f"| {result['jobs']:,} jobs, {result['gpus']:,} GPUs, ten changes a second | measured | target |",
        "|---|---|---|",
        f"| answer, p50 / p95 over all pages | {result['answer_p50_ms']} / {result['answer_p95_ms']} ms "
        "| p95 < 200 ms |",
        f"| first paint of Jobs | {paint} | < 1 s |",
        f"| memory of the console, most | {result['rss_mib']} MiB | < 300 MiB |",
        f"| from its start to the first page | {result['seconds_until_ready']} s | |",
        "",
        "| page | p50 ms | p95 ms |",
        "|---|---|---|",
    ]
    lines += [f"| `{path}` | {row['p50_ms']} | {row['p95_ms']} |" for path, row in result["pages"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and put the table where the report has its mark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--gpus", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    result = asyncio.run(measure(options.jobs, options.gpus, options.rounds))
    print(json.dumps(result))
    if options.report is not None:
        head, _, rest = options.report.read_text("utf-8").partition(_MARK)
        tail = rest.partition(_MARK)[2]
        options.report.write_text(f"{head}{_MARK}\n{table(result)}\n{_MARK}{tail}", "utf-8")


if __name__ == "__main__":
    main()
