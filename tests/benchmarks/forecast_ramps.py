"""Scheduled ramps: a load that triples within five minutes at the same time each day.

What is measured: the share of time in the half hour from each ramp's start in which the load is above the
capacity that a forecast ten minutes earlier would have asked for, P90 / 0.8. The first week is history; the
second is judged. Competitors get the same headroom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drse_forecaster.backtest import HEADROOM, roll
from drse_forecaster.backtesting import grid_with
from drse_forecaster.models import ProphetModel
from drse_forecaster.series import FloatArray

STEP_SECONDS = 300
DAYS = 14
SERIES = 24
_FIRST_INDEX = 20_000 * 288  # a UTC midnight


@dataclass(frozen=True, slots=True)
class Ramps:
    """Shares of time under capacity on ramps."""

    forecast: float
    forecast_without_headroom: float  #: above the P90 itself: 10 % is what a P90 promises
    last_value: float
    prophet: float
    seasonal_naive: float


def measure() -> Ramps:
    """Roll over constructed series with ramps at several times of day, sizes of noise and weekends."""
    values, starts = construct(np.random.default_rng(17))
    grid = grid_with(STEP_SECONDS, 600)
    rolled = roll(grid, _FIRST_INDEX, values, grid.horizons.index(2), ProphetModel())
    judged = np.zeros(values.shape, dtype=bool)
    for row, start in enumerate(starts):
        for day in range(7, DAYS):
            begin = day * 288 + start - 2  # origins whose target lies on the ramp
            judged[row, begin : begin + 6] = True
    judged &= np.isfinite(rolled.actual)
    came = rolled.actual[judged]

    def under(bound: FloatArray, headroom: float = HEADROOM) -> float:
        return float((came > bound[judged] / headroom).mean())

    return Ramps(
        forecast=under(rolled.p90),
        forecast_without_headroom=under(rolled.p90, 1.0),
        last_value=under(rolled.baseline_p90),
        prophet=under(np.maximum(rolled.prophet, 0.0)),
        seasonal_naive=under(rolled.seasonal_naive),
    )


def construct(random: np.random.Generator) -> tuple[FloatArray, list[int]]:
    """Return (SERIES, n) loads and the step of the day at which each rises."""
    steps = np.arange(DAYS * 288)
    rows, starts = [], []
    for number in range(SERIES):
        start = int(random.integers(60, 200))
        length = int(random.integers(40, 100))
        of_day = steps % 288
        busy = (of_day >= start) & (of_day < start + length)
        shape = 1 + 0.2 * np.sin(2 * np.pi * (of_day / 288 + random.random()))
        noise = 1 + (0.02, 0.05, 0.1)[number % 3] * random.normal(size=steps.size)
        rows.append(np.maximum(3 * shape * np.where(busy, 3.0, 1.0) * noise, 0.0))
        starts.append(start)
    return np.stack(rows), starts
