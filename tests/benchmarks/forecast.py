"""How good the forecaster is on recorded loads, next to its competitors, and what it costs.

    python -m tests.benchmarks.forecast [--traces FOLDER] [--stan 100] [--markdown FILE]

Prints one JSON object, then the Markdown tables. Every forecast is made at a rolling origin by the code that
serves, from what had come by then; every origin from the first 90 minutes on counts; competitors see the same
origins. Ratios are to the last value on the same series. No parameter knows which series it is on.
"""

from __future__ import annotations

import drse_forecaster  # noqa: F401  it limits BLAS threads, which works only before numpy is loaded

# isort: split

import json
import logging
import math
import os
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from drse_forecaster.backtest import Scores, roll, score
from drse_forecaster.backtesting import grid_with, steps_of
from drse_forecaster.models import ProphetModel
from drse_forecaster.recorded import Recorded, SeriesError, read
from tests.benchmarks import forecast_ramps, forecast_solver, forecast_tables

HORIZON_SECONDS = 600
STEP_SECONDS = 300

#: Kind, file, columns (None: all that hold numbers).
SOURCES: tuple[tuple[str, str, tuple[str, ...] | None], ...] = (
    ("requests, one client", "servegen_m_small_clients_10min", None),
    ("requests, one client", "servegen_m_large_clients_10min", None),
    ("requests, pool", "servegen_m_small_10min", ("requests",)),
    ("requests, pool", "servegen_m_large_10min", ("requests",)),
    ("requests, pool", "servegen_deepseek_r1_10min", ("requests",)),
    ("tokens", "burstgpt_week1_total_tokens_1min", ("total_tokens",)),
    ("image requests", "gentd26_image_requests_1min", ("requests", "in_service_mean")),
    ("GPU utilisation, a day", "gentd26_fleet_gpu_util_1min", ("gpu_util_mean_pct", "gpu_util_p90_pct")),
    ("GPU utilisation, a day", "gentd26_pod_gpu_util_1min", None),
    ("instances of a service", "alibaba2025_dlrm_instances_1min", None),
)

#: Not inference load: reported, not counted.
ALLOCATION: tuple[tuple[str, str, tuple[str, ...] | None], ...] = (
    *(
        ("GPUs allocated", f"helios2020_earth_{name}_1min", ("gpus_running",))
        for name in ("vc6YE", "vcvlY", "vchbv", "vcLJZ", "vcpDC", "vcTJs", "vccaA", "vcSoL", "vcJLV", "vcgkz")
    ),
    ("GPUs allocated", "philly2017_active_nodes_1min", ("nodes_active",)),
    ("GPUs allocated", "alibaba2023_openb_allocation_1min", ("gpus_allocated",)),
)

#: Those that were known to have structure.
STRUCTURED = (
    "servegen_m_small_clients_10min:client_5",
    "servegen_m_large_clients_10min:client_143",
    "burstgpt_week1_total_tokens_1min:total_tokens",
)

_NOT_LOADS = {"ts", "t_s", "sample", "suspect"}


@dataclass(frozen=True, slots=True)
class Row:
    """One series of the table."""

    series: str
    kind: str
    counted: bool
    scores: Scores


@click.command()
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("DRSE_TRACES", "local/drse_local/series"),
    help="Folder of recorded series; by default $DRSE_TRACES, else those that ship.",
)
@click.option("--only", default="", help="Only files whose name holds this.")
@click.option("--stan", default=0, help="Fits to compare with Stan, half a second each.")
@click.option("--solver/--no-solver", default=True, help="Time the batched solver.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables here.")
def main(traces: Path, only: str, stan: int, solver: bool, markdown: Path | None) -> None:
    """Measure accuracy, bounds and cost of the forecaster."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    rows: list[Row] = []
    for counted, sources in ((True, SOURCES), (False, ALLOCATION)):
        for kind, name, columns in sources:
            path = traces / f"{name}.csv.gz"
            if only in name and path.exists():
                rows += measure(kind, path, columns, counted)
    seconds = time.perf_counter() - began
    ramps = forecast_ramps.measure()
    cost = forecast_solver.measure() if solver else None
    against = forecast_solver.against_stan(traces, stan) if stan else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    document = {
        "series": [{"series": row.series, "kind": row.kind, **asdict(row.scores)} for row in rows],
        "summary": forecast_tables.summary(rows, STRUCTURED),
        "ramps": asdict(ramps),
        "solver": None if cost is None else [asdict(one) for one in cost],
        "stan": None if against is None else asdict(against),
        "seconds": seconds,
        "peak_mib": peak,
    }
    click.echo(json.dumps(_plain(document)))
    tables = forecast_tables.markdown(rows, STRUCTURED, ramps, cost, against, seconds)
    click.echo(tables)
    if markdown is not None:
        markdown.write_text(tables, encoding="utf-8")


def measure(kind: str, path: Path, columns: tuple[str, ...] | None, counted: bool) -> list[Row]:
    """Return a row for each column of a file that moves at all."""
    recorded = [one for name in columns or columns_of(path) if (one := _read(path, name)) is not None]
    rows: list[Row] = []
    for step in sorted({one.step_seconds for one in recorded}):
        group = [one for one in recorded if one.step_seconds == step]
        first = min(one.first for one in group)
        end = max(one.first + one.values.size for one in group)
        values = np.full((len(group), end - first), np.nan)
        for row, one in enumerate(group):
            values[row, one.first - first : one.first - first + one.values.size] = one.values
        grid = grid_with(step, HORIZON_SECONDS)
        place = grid.horizons.index(steps_of(step, HORIZON_SECONDS))
        rolled = roll(grid, first, values, place, ProphetModel())
        for row, one in enumerate(group):
            scores = score(grid, rolled, row)
            if scores is not None and scores.mae_last_value > 0:
                rows.append(Row(one.name, kind, counted, scores))
    return rows


def columns_of(path: Path) -> tuple[str, ...]:
    """Columns of a recording that are loads."""
    import pandas as pd

    names = pd.read_csv(path, nrows=1).columns
    chosen = [str(name) for name in names if name not in _NOT_LOADS and not str(name).startswith("cpu_")]
    return tuple(name for name in chosen if not name.endswith(("_waiting", "_created")))


def _read(path: Path, column: str) -> Recorded | None:
    try:
        return read(path, column, STEP_SECONDS)
    except SeriesError:
        return None


def _plain(value: object) -> object:
    """Replace NaN, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
