"""The batched fit finds the maximum: not below Stan's, not improvable, and the same alone as in company."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from drse_forecaster import posterior, seasonal
from drse_forecaster.curves import Seasonality
from drse_forecaster.models import build_prophet
from drse_forecaster.series import FloatArray
from drse_forecaster.stan import MapBackend, Solver
from tests.benchmarks.forecast_solver import log_posterior

# Prophet's use of pandas is not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

DAY = 86400.0
START = 1_700_000_000.0 // DAY * DAY
DAILY = (Seasonality("daily", 1.0, 20),)


def _times(days: float) -> FloatArray:
    return START + np.arange(0.0, days * DAY, 600.0)


def _loads(times: FloatArray, series: int, seed: int = 1) -> FloatArray:
    """Return loads with a daily shape, a trend that bends twice, and noise of several sizes."""
    random = np.random.default_rng(seed)
    day = (times - times[0]) / DAY
    bends = 0.6 * np.maximum(day - 1.5, 0) - 1.1 * np.maximum(day - 3, 0)
    noise = random.normal(size=(series, times.size)) * random.uniform(0.02, 1.0, (series, 1))
    return np.maximum(4 + np.sin(2 * np.pi * day) + random.uniform(-1, 1, (series, 1)) * bends + noise, 0)


def _frame(times: FloatArray, values: FloatArray) -> pd.DataFrame:
    known = np.isfinite(values)
    return pd.DataFrame({"ds": pd.to_datetime(times[known], unit="s"), "y": values[known]})


class _Watched(MapBackend):
    def fit(self, stan_init: dict, stan_data: dict, **kwargs: object) -> object:  # type: ignore[type-arg]
        self.data = stan_data
        return super().fit(stan_init, stan_data, **kwargs)


@pytest.mark.parametrize("gaps", [0.0, 0.2], ids=["whole", "gaps"])
def test_posterior_is_not_below_stans(gaps: float) -> None:
    times = _times(5)
    values = _loads(times, 3)
    values[np.random.default_rng(3).random(values.shape) < gaps] = np.nan
    for row in values:
        mine, stan, backend = build_prophet(DAILY), build_prophet(DAILY), _Watched()
        mine.stan_backend = backend
        mine.fit(_frame(times, row))
        stan.fit(_frame(times, row))
        assert backend.solved_by is Solver.BATCHED
        ours, theirs = (log_posterior(backend.data, one.params) for one in (mine, stan))
        assert ours >= theirs - 1e-6
        assert ours == pytest.approx(theirs, rel=0.02), "another maximum would be another model"


def test_many_at_once_equal_prophet_with_the_backend_one_by_one() -> None:
    """The same grid for some, gaps and a later start for others."""
    times = _times(4)
    values = _loads(times, 4)
    values[2, 100:130] = np.nan
    values[3, :200] = np.nan
    ahead = times[-1] + 600.0 * np.arange(1, 20)
    for row, curve in zip(values, seasonal.fit_many(times, values, DAILY), strict=True):
        model = build_prophet(DAILY)
        model.stan_backend = MapBackend()
        model.fit(_frame(times, row))
        asked = pd.DataFrame({"ds": pd.to_datetime(ahead, unit="s")})
        assert curve is not None
        np.testing.assert_allclose(curve.at(ahead), model.predict(asked)["yhat"], rtol=1e-4, atol=1e-4)


def test_no_step_in_any_direction_improves_it() -> None:
    random = np.random.default_rng(9)
    features, hinges = random.normal(size=(300, 6)), np.maximum(random.normal(size=(300, 5)), 0)
    y = features @ np.array([1, 0, 2, 0, 0.5, 0]) + 0.3 * hinges[:, 0] + random.normal(size=300) * 0.1
    design = posterior.Design(
        gg=(features.T @ features)[None],
        gd=(features.T @ hinges)[None],
        dd=(hinges.T @ hinges)[None],
        scales=np.full(6, 2.0),
        laplace=0.05,
        samples=np.array([300.0]),
    )
    targets = posterior.Targets((y @ features)[None], (y @ hinges)[None], np.array([y @ y]))
    fit = posterior.maximise(design, targets)

    def density(gaussian: FloatArray, deltas: FloatArray, sigma: float) -> float:
        residual = y - features @ gaussian - hinges @ deltas
        priors = (gaussian**2).sum() / 8 + np.abs(deltas).sum() / 0.05 + 2 * sigma**2
        return float(-300 * np.log(sigma) - residual @ residual / (2 * sigma**2) - priors)

    best = density(fit.gaussian[0], fit.deltas[0], float(fit.sigma[0]))
    assert bool(fit.converged[0])
    assert best == pytest.approx(float(fit.log_posterior[0]))
    for size in (1e-2, 1e-3, 1e-4):
        for _ in range(100):
            gaussian = fit.gaussian[0] + size * random.normal(size=6)
            deltas = fit.deltas[0] + size * random.normal(size=5)
            assert density(gaussian, deltas, float(fit.sigma[0]) * np.exp(size * random.normal())) < best


def test_laplace_prior_leaves_changepoints_at_exactly_zero() -> None:
    times = _times(4)
    flat = 5 + np.random.default_rng(2).normal(size=(1, times.size))
    (curve,) = seasonal.fit_many(times, flat, DAILY)
    assert curve is not None and (curve.deltas == 0).sum() >= 20


def test_what_the_solver_does_not_cover_goes_to_stan() -> None:
    times = _times(3)
    model = Prophet(growth="flat", daily_seasonality=3, weekly_seasonality=False, yearly_seasonality=False)
    backend = MapBackend()
    model.stan_backend = backend
    model.fit(_frame(times, _loads(times, 1)[0]))
    assert backend.solved_by is Solver.STAN
    assert np.isfinite(model.params["beta"]).all()
