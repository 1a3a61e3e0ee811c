"""Does the live forecaster reach what its backtest promises? On the embedded cluster, on loads not tuned to.

    DRSE_TRACES=FOLDER python -m tests.benchmarks.forecast_live [--minutes 25]

A week of each load is recorded into a real Prometheus and goes on live, minute by minute, from there; the
real forecaster reads it. After the live minutes, skill and coverage as the forecaster exports them are
compared with a backtest of exactly the samples that Prometheus then holds, and the forecasts served live with
what came. The columns are none of those that the forecaster's design was chosen on.
"""

from __future__ import annotations

import drse_forecaster  # noqa: F401  it limits BLAS threads, which works only before numpy is loaded

# isort: split

import asyncio
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from drse_forecaster.backtest import Rolled, roll
from drse_forecaster.contract import ForecastList
from drse_forecaster.learner import JUDGED_HALF_LIFE_SECONDS
from drse_forecaster.learning import LEARNED_SECONDS
from drse_forecaster.models import ProphetModel
from drse_forecaster.queries import build_load_query
from drse_forecaster.rounds import grid_of, judged_place
from drse_forecaster.series import FloatArray, JobKey, SeriesShape, SeriesStore
from drse_forecaster.source import PrometheusSettings, PrometheusSource
from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.monitoring import MonitoringOptions
from drse_local.scenario import Scenario, resolve_files
from drse_local.series import read_series
from drse_local.threaded import ThreadedCluster
from tests.forecaster.forecaster import ForecasterProcess
from tests.operator.harness import free_port

#: File, column, and the recorded instant that is now.
LOADS = (
    ("servegen_m_large_10min", "prompt_tokens_covered", "2025-01-13T09:30:00"),
    ("servegen_m_large_10min", "output_tokens_covered", "2025-01-13T14:00:00"),
    ("servegen_m_large_10min", "clients_active", "2025-01-13T19:15:00"),
    ("servegen_m_small_10min", "prompt_tokens_covered", "2025-01-13T09:30:00"),
    ("servegen_m_small_10min", "output_tokens_covered", "2025-01-13T11:00:00"),
    ("servegen_m_small_10min", "clients_active", "2025-01-13T21:00:00"),
)
MEAN_GPUS = 6.0
CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One load: as exported by the forecaster, as backtested; then what was served live in those minutes."""

    series: str
    skill: float | None
    skill_backtest: float | None
    coverage: float | None
    coverage_backtest: float | None
    live_scored: int
    live_covered: int
    live_error: float
    live_last_value_error: float


@click.command()
@click.option("--minutes", type=click.FloatRange(12), default=25.0, show_default=True)
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("DRSE_TRACES", "local/drse_local/series"),
)
def main(minutes: float, traces: Path) -> None:
    """Compare live and backtest; prints JSON."""
    rows = measure(traces, minutes)
    differences = [
        abs(a - b)
        for row in rows
        for a, b in ((row.skill, row.skill_backtest), (row.coverage, row.coverage_backtest))
        if a is not None and b is not None
    ]
    scored = sum(row.live_scored for row in rows)
    document = {
        "minutes": minutes,
        "series": [asdict(row) for row in rows],
        "largest_difference": max(differences),
        "live_scored": scored,
        "live_coverage": sum(row.live_covered for row in rows) / max(scored, 1),
    }
    click.echo(json.dumps(document))


def measure(traces: Path, minutes: float) -> list[Row]:
    """Run the cluster's monitoring and the forecaster for so long, then compare."""
    found = [one for one in LOADS if (traces / f"{one[0]}.csv.gz").exists()]
    jobs = {f"live/job-{number}": _job(traces, *one) for number, one in enumerate(found)}
    scenario = resolve_files(Scenario.model_validate({"historyDays": 7, "jobs": jobs}), traces)
    with tempfile.TemporaryDirectory(prefix="drse-live-") as folder:
        cluster = LocalCluster(Path(folder) / "cluster", load_fleet("small"), MonitoringOptions(scenario))
        with ThreadedCluster(cluster) as running:
            url = running.cluster.monitoring.prometheus.url
            forecaster = ForecasterProcess(url, Path(folder) / "log", port=free_port())
            forecaster.start(120)
            try:
                time.sleep(minutes * 60)
                metrics = httpx.get(f"{forecaster.url}/metrics", trust_env=False, timeout=10).text
                names = [f"{file}:{column}" for file, column, _ in found]
                return asyncio.run(_compare(url, forecaster.answer(), metrics, names))
            finally:
                forecaster.kill()


def _job(traces: Path, file: str, column: str, recorded_at: str) -> dict[str, object]:
    path = traces / f"{file}.csv.gz"
    series = read_series(path, column)
    load = {
        "file": str(path),
        "column": column,
        "scale": MEAN_GPUS / float(series.values.mean()),
        "recordedAt": recorded_at,
    }
    return {"gpusPerReplica": 1, "targetConcurrency": CONCURRENCY, "load": load}


async def _compare(prometheus: str, answer: ForecastList, metrics: str, names: list[str]) -> list[Row]:
    shape = SeriesShape()
    source = PrometheusSource(PrometheusSettings(url=prometheus, query=build_load_query()), shape)
    store = SeriesStore(shape)
    store.ingest(await source.history(time.time()))
    rows = []
    for number, name in enumerate(names):
        said = answer.find("live", f"job-{number}")
        series = store.get(JobKey("live", f"job-{number}"))
        assert said is not None and series is not None
        skill, coverage = _backtest(*series.coarse.window())
        total = _totals(metrics, f"job-{number}")
        rows.append(
            Row(
                name,
                said.skill,
                skill,
                said.coverage,
                coverage,
                int(total["drse_forecast_scored"]),
                int(total["drse_forecast_covered"]),
                total["drse_forecast_abs_error_sum"],
                total["drse_forecast_last_value_abs_error_sum"],
            )
        )
    source.close()
    return rows


def _backtest(times: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Skill and coverage of a backtest, weighted by age as the live ones are."""
    grid = grid_of(SeriesShape().step_seconds)
    rolled: Rolled = roll(
        grid, round(times[0] / grid.step_seconds), values[None], judged_place(grid), ProphetModel()
    )
    actual, p50, p90, start = (one[0] for one in (rolled.actual, rolled.p50, rolled.p90, rolled.start))
    known = np.isfinite(actual) & (times > times[-1] - LEARNED_SECONDS)
    weight = 0.5 ** ((times[-1] - times[known]) / JUDGED_HALF_LIFE_SECONDS)
    error, plain = np.abs(actual - p50)[known], np.abs(actual - start)[known]
    covered = (actual <= p90)[known]
    return float(weight @ error / (weight @ plain)), float(weight @ covered / weight.sum())


def _totals(metrics: str, job: str) -> dict[str, float]:
    """What the forecaster counts of one job."""
    return {
        sample.name.removesuffix("_total"): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.labels.get("deepseekjob") == job
    }


if __name__ == "__main__":
    main()
