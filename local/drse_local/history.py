"""The recorded past: a week of metrics, as if the scenario's jobs had run all along, put into Prometheus as
blocks.

The samples come from the same functions of time as the live ones and carry the same names and labels (target
labels included), so a query sees one unbroken series across the start of the cluster. Blocks are made by
`promtool tsdb create-blocks-from openmetrics` before Prometheus starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from drse_local.errors import LocalClusterError
from drse_local.samples import (
    ASSIGNED,
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
    UTILIZATION,
    assigned_labels,
    dcgm_labels,
    engine_labels,
    job_labels,
    past_gpus,
    past_pod,
)
from drse_local.scenario import Scenario, ServingJob
from drse_local.series import FloatArray
from drse_local.serving import serve

GPU_SCRAPE = "gpu-exporter"
OPERATOR_SCRAPE = "drse-operator"
TARGET_CONCURRENCY = "drse_job_target_concurrency"
GPUS_PER_REPLICA = "drse_job_gpus_per_replica"

_STEP_SECONDS = 60
_DAY_SECONDS = 86_400
# Two-hour blocks would make promtool read the whole input once for each of 84; the flag is hidden but stable.
_BLOCK_DURATION = "162h"


@dataclass(frozen=True, slots=True)
class PastSeries:
    """One time series: metric name, labels, values of the time grid's shape."""

    name: str
    labels: dict[str, str]
    values: FloatArray


def past_grid(end: float, days: float) -> FloatArray:
    """Instants of the past, seconds since the epoch, one a minute, the last one at `end`."""
    count = int(days * _DAY_SECONDS) // _STEP_SECONDS
    return end - _STEP_SECONDS * np.arange(count, -1, -1, dtype=np.float64)


def past_series(scenario: Scenario, anchor: float, grid: FloatArray) -> list[PastSeries]:
    """All series of the past, those of one metric side by side (as OpenMetrics wants them)."""
    series = [each for key, job in scenario.jobs.items() for each in _job_series(key, job, anchor, grid)]
    return sorted(series, key=lambda each: each.name)


def _job_series(key: str, job: ServingJob, anchor: float, grid: FloatArray) -> Iterator[PastSeries]:
    gpus = past_gpus(key, job)
    state = serve(job.load.at(grid, anchor), len(gpus), job.gpus_per_replica, job.target_concurrency)
    ones = np.ones_like(grid)
    exporter = {"job": GPU_SCRAPE, "instance": GPU_SCRAPE}
    operator = job_labels(key) | {"job": OPERATOR_SCRAPE, "instance": OPERATOR_SCRAPE}
    engine = engine_labels(key, job, past_pod(key)) | exporter
    percent = np.round(state.utilization * 100, 2)
    for gpu in gpus:
        yield PastSeries(UTILIZATION, dcgm_labels(gpu) | exporter, percent)
        yield PastSeries(ASSIGNED, assigned_labels(key, job, gpu) | exporter, ones)
    yield PastSeries(REQUESTS_RUNNING, engine, state.running)
    yield PastSeries(REQUESTS_WAITING, engine, state.waiting)
    yield PastSeries(TARGET_CONCURRENCY, operator, ones * job.target_concurrency)
    yield PastSeries(GPUS_PER_REPLICA, operator, ones * job.gpus_per_replica)


def write_openmetrics(series: list[PastSeries], grid: FloatArray, out: TextIO) -> None:
    """Write OpenMetrics text with timestamps in seconds. `series` must be grouped by name."""
    stamps = [f" {stamp:.0f}\n" for stamp in grid]
    name = ""
    for each in series:
        if each.name != name:
            name = each.name
            out.write(f"# TYPE {name} gauge\n")
        labels = ",".join(f'{label}="{_escape(value)}"' for label, value in each.labels.items())
        prefix = f"{name}{{{labels}}} "
        out.writelines(
            f"{prefix}{value:.10g}{stamp}" for value, stamp in zip(each.values.tolist(), stamps, strict=True)
        )
    out.write("# EOF\n")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def backfill(
    promtool: str, scenario: Scenario, anchor: float, end: float, tsdb: Path, scratch: Path
) -> None:
    """Write the past up to `end` as blocks into a data folder whose Prometheus is not running.

    Does nothing for a scenario without jobs or days. Raises LocalClusterError with promtool's words when it
    fails.
    """
    if not scenario.jobs or scenario.history_days <= 0:
        return
    source = scratch / "past.openmetrics"
    await asyncio.to_thread(_write_file, scenario, anchor, end, source)
    try:
        process = await asyncio.create_subprocess_exec(
            promtool,
            *("tsdb", "create-blocks-from", "openmetrics", f"--max-block-duration={_BLOCK_DURATION}"),
            *("--quiet", str(source), str(tsdb)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    finally:
        source.unlink(missing_ok=True)
    if process.returncode != 0:
        raise LocalClusterError(
            f"promtool could not make the recorded past: {output.decode(errors='replace')}"
        )


def _write_file(scenario: Scenario, anchor: float, end: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = past_grid(end, scenario.history_days)
    with path.open("w", encoding="utf-8", buffering=1 << 20) as out:
        write_openmetrics(past_series(scenario, anchor, grid), grid, out)
