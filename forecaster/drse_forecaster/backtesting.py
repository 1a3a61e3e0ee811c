"""The backtest command: from a file to a report."""

from __future__ import annotations

import math
import time
from pathlib import Path

from drse_forecaster import report
from drse_forecaster.backtest import roll, score
from drse_forecaster.experts import Grid
from drse_forecaster.models import ProphetModel
from drse_forecaster.recorded import SeriesError, read
from drse_forecaster.report import BacktestReport
from drse_forecaster.rounds import LEARNED_MINUTES


def run_backtest(
    path: Path, column: str | None, horizon: int, step: int, refit_every: int, plot: Path | None
) -> BacktestReport:
    """Backtest one column and return the report; draw it to `plot` if given. Raises SeriesError.

    `horizon`, `step`, `refit_every` in seconds.
    """
    if step % 60 or step > 86400 // 2:
        raise SeriesError(f"The step is {step} s, but must be a whole number of minutes, half a day at most.")
    began = time.perf_counter()
    recorded = read(path, column, step)
    grid = grid_with(recorded.step_seconds, horizon)
    place = grid.horizons.index(steps_of(recorded.step_seconds, horizon))
    if recorded.values.size <= 2 * grid.horizons[-1]:
        raise SeriesError(f"{recorded.name} has {recorded.values.size} points, too few for a forecast.")
    rolled = roll(grid, recorded.first, recorded.values[None], place, ProphetModel(), refit_every)
    scores = score(grid, rolled, 0)
    if scores is None:
        raise SeriesError(f"{recorded.name} spans less than the 90 minutes that a first forecast takes.")
    if plot is not None:
        report.plot(plot, recorded, rolled, grid.horizons[place])
    return BacktestReport.of(
        recorded, grid.horizons[place] * recorded.step_seconds, scores, time.perf_counter() - began
    )


def steps_of(step_seconds: int, horizon_seconds: int) -> int:
    """Return the horizon in whole steps, at least one."""
    return max(math.ceil(horizon_seconds / step_seconds), 1)


def grid_with(step_seconds: int, horizon_seconds: int) -> Grid:
    """Return the grid of the service with the horizon that is to be judged among its own."""
    minutes = {steps_of(step_seconds, 60 * one) for one in LEARNED_MINUTES}
    return Grid(step_seconds, tuple(sorted(minutes | {steps_of(step_seconds, horizon_seconds)})))
