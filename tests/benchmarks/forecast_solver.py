"""What fitting costs, and whether the batched solver finds what Stan finds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from drse_forecaster import seasonal
from drse_forecaster.curves import Seasonality
from drse_forecaster.models import DAILY_ORDER, build_prophet
from drse_forecaster.recorded import SeriesError, read
from drse_forecaster.series import FloatArray
from drse_forecaster.stan import MapBackend, Solver

DAILY = (Seasonality("daily", 1.0, DAILY_ORDER),)


@dataclass(frozen=True, slots=True)
class Cost:
    """One timing of fit and predict for many series."""

    case: str
    series: int
    points: int
    fit_seconds: float
    predict_seconds: float
    converged: int


def measure() -> list[Cost]:
    """Time a week of minutes and of five minutes, on a shared grid and with gaps of each series' own."""
    return [
        _cost("7 d x 1 min, shared grid", 1000, 60, gaps=False),
        _cost("7 d x 5 min, shared grid", 1000, 300, gaps=False),
        _cost("7 d x 5 min, gaps of its own each", 1000, 300, gaps=True),
    ]


def _cost(case: str, series: int, step: int, gaps: bool) -> Cost:
    times = 1.7e9 // 86400 * 86400 + step * np.arange(7 * 86400 // step, dtype=np.float64)
    values = _constructed(times, series, gaps)
    began = time.perf_counter()
    curves = seasonal.fit_many(times, values, DAILY)
    fitted = time.perf_counter()
    ahead = times[-1] + 60.0 * np.arange(1, 31)
    for curve in curves:
        if curve is not None:
            curve.at(ahead)
    done = time.perf_counter()
    converged = sum(curve is not None for curve in curves)
    return Cost(case, series, times.size, fitted - began, done - fitted, converged)


def _constructed(times: FloatArray, series: int, gaps: bool) -> FloatArray:
    random = np.random.default_rng(5)
    day = 2 * np.pi * times / 86400 + random.uniform(0, 2 * np.pi, (series, 1))
    wander = np.cumsum(random.normal(size=(series, times.size)) * 0.02, axis=1)
    noise = random.normal(size=(series, times.size)) * 0.5
    values = np.maximum(5 + 3 * np.sin(day) + 2 * (np.sin(3 * day) > 0.5) + wander + noise, 0.0)
    if gaps:
        for row in values:
            row[random.integers(0, times.size, 20)] = np.nan
    return values


@dataclass(frozen=True, slots=True)
class AgainstStan:
    """Log-posteriors of the same fits, by the batched solver and by Prophet with Stan's L-BFGS."""

    fits: int
    batched: int  #: solved without falling back
    worst: float  #: smallest (batched - Stan); zero or more means never worse
    median: float
    batched_seconds: float  #: one by one through Prophet, in all
    stan_seconds: float


def against_stan(folder: Path, fits: int) -> AgainstStan:
    """Fit windows of recorded series both ways."""
    differences, seconds, batched = [], [0.0, 0.0], 0
    for frame in _windows(folder, fits):
        mine, stan = build_prophet(DAILY), build_prophet(DAILY)
        backend = _Watched()
        mine.stan_backend = backend
        for place, model in enumerate((mine, stan)):
            began = time.perf_counter()
            model.fit(frame)
            seconds[place] += time.perf_counter() - began
        batched += backend.solved_by is Solver.BATCHED
        differences.append(
            log_posterior(backend.data, mine.params) - log_posterior(backend.data, stan.params)
        )
    return AgainstStan(
        len(differences), batched, min(differences), float(np.median(differences)), seconds[0], seconds[1]
    )


class _Watched(MapBackend):
    """Keeps the data that Prophet prepared."""

    def fit(self, stan_init: dict[str, Any], stan_data: dict[str, Any], **kwargs: Any) -> Any:
        self.data = stan_data
        return super().fit(stan_init, stan_data, **kwargs)


def _windows(folder: Path, fits: int) -> list[pd.DataFrame]:
    """Return windows of three to seven days, some with gaps, spread over all files."""
    random = np.random.default_rng(23)
    recorded = []
    for path in sorted(folder.glob("*.csv.gz")):
        for column in pd.read_csv(path, nrows=1).columns:
            try:
                one = read(path, str(column), 300)
            except SeriesError:
                continue
            if one.step_seconds <= 600 and one.values.size * one.step_seconds > 4 * 86400:
                recorded.append(one)
    frames: list[pd.DataFrame] = []
    while recorded and len(frames) < fits:
        one = recorded[int(random.integers(len(recorded)))]
        day = 86400 // one.step_seconds
        length = min(int(random.integers(3, 8)) * day, one.values.size)
        begin = int(random.integers(0, one.values.size - length + 1))
        values = one.values[begin : begin + length].copy()
        if len(frames) % 3 == 0:
            values[random.random(length) < 0.1] = np.nan
        known = np.isfinite(values)
        if known.sum() > day and np.ptp(values[known]) > 0:
            times = pd.to_datetime(one.times[begin : begin + length][known], unit="s")
            frames.append(pd.DataFrame({"ds": times, "y": values[known]}))
    return frames


def log_posterior(data: dict[str, Any], params: dict[str, Any]) -> float:
    """Return Prophet's log-posterior (prophet.stan), up to constants, of fitted parameters."""
    k, m, sigma = (float(np.ravel(params[name])[0]) for name in ("k", "m", "sigma_obs"))
    delta, beta = np.ravel(params["delta"]), np.ravel(params["beta"])
    t, y = np.asarray(data["t"]), np.asarray(data["y"])
    hinges = np.maximum(t[:, None] - np.asarray(data["t_change"])[None, :], 0.0)
    residual = y - k * t - m - hinges @ delta - np.asarray(data["X"]) @ beta
    likelihood = -y.size * np.log(sigma) - float(residual @ residual) / (2 * sigma**2)
    priors = 2 * sigma**2 + (k**2 + m**2) / 50 + np.abs(delta).sum() / float(data["tau"])
    return float(likelihood - priors - (beta**2 / (2 * np.asarray(data["sigmas"]) ** 2)).sum())
