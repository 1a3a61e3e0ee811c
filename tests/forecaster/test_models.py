"""Prophet, and reading its curve without it. The few tests here that fit take about half a second each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cmdstanpy
import numpy as np
import pandas as pd
import pytest

from drse_forecaster.curves import Curve, Seasonality
from drse_forecaster.models import FitError, ProphetModel, build_prophet, curve_of, fit_prophet

# Prophet's use of pandas is not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

DAY = 86400.0
START = 1_700_000_000.0 // DAY * DAY


def _times(days: float, step: float = 300.0) -> np.ndarray:
    return START + np.arange(0.0, days * DAY, step)


def _fit(model: ProphetModel, times: np.ndarray, values: np.ndarray) -> Curve:
    (curve,) = model.fit_many(times, values[None, :])
    assert not isinstance(curve, FitError)
    return curve


def _ramp(times: np.ndarray) -> np.ndarray:
    """Return 2 GPU-equivalents at night and 8 from 09:00 to 17:00, rising and falling within 10 minutes."""
    hour = times % DAY / 3600
    return 2 + 6 * np.clip((hour - 9) * 6, 0, 1) * np.clip((17 - hour) * 6, 0, 1)


def test_curve_equals_prophets_own_prediction() -> None:
    """Trend with changepoints, daily and weekly blocks, gaps: at fitted times, between them and beyond the
    end."""
    random = np.random.default_rng(11)
    times = _times(16.0, 1200.0)
    drift = np.where(times > START + 8 * DAY, (times - START - 8 * DAY) / DAY, 0.0)
    values = _ramp(times) + drift + random.normal(size=times.size) * 0.2
    keep = random.random(times.size) > 0.1
    seasonalities = (Seasonality("daily", 1.0, 20), Seasonality("weekly", 7.0, 3))
    model = build_prophet(seasonalities)
    frame = pd.DataFrame({"ds": pd.to_datetime(times[keep], unit="s"), "y": values[keep]})
    model.fit(frame)
    curve = curve_of(model, float(times[keep][0]), float(times[keep][-1]), seasonalities)
    # Prophet answers in order of time, so ask in order
    asked = np.sort(np.concatenate([times[::7], times[::50] + 77.0, times[-1] + 60.0 * np.arange(1, 90)]))
    expected = model.predict(pd.DataFrame({"ds": pd.to_datetime(asked, unit="s")}))["yhat"].to_numpy()
    assert np.abs(model.params["delta"]).max() > 0.01, "the trend must bend for this test to mean anything"
    np.testing.assert_allclose(curve.at(asked), expected, rtol=0, atol=1e-9)


def test_daily_ramp_is_resolved_to_minutes() -> None:
    times = _times(5.0)
    curve = _fit(ProphetModel(), times, _ramp(times))
    tomorrow = START + 5 * DAY + 9 * 3600
    before, after = curve.at(np.array([tomorrow - 300.0, tomorrow + 900.0]))
    assert before < 3.0
    assert after > 7.0


def test_gaps_are_left_out_not_taken_for_zero() -> None:
    times = _times(4.0)
    values = _ramp(times)
    values[np.random.default_rng(2).random(values.size) < 0.3] = np.nan
    curve = _fit(ProphetModel(daily_order=30), times, values)
    noon, night = curve.at(START + 4 * DAY + np.array([12 * 3600.0, 3 * 3600.0]))
    assert noon == pytest.approx(8.0, abs=0.4)
    assert night == pytest.approx(2.0, abs=0.4)


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_constant_history_gives_a_constant_curve(level: float) -> None:
    times = _times(3.0)
    curve = _fit(ProphetModel(), times, np.full(times.size, level))
    assert np.allclose(curve.at(times[-1] + 60.0 * np.arange(1, 31)), level, atol=1e-6)


def test_too_few_samples_are_an_error_with_a_reason() -> None:
    times = _times(3.0)
    values = np.full(times.size, np.nan)
    values[::10] = 1.0
    times = times[:20]
    (outcome,) = ProphetModel().fit_many(times, values[None, :20])
    assert isinstance(outcome, FitError) and "too few" in str(outcome)


def test_fit_with_stan_leaves_no_files_behind() -> None:
    folders = [Path(tempfile.gettempdir()), Path(cmdstanpy._TMPDIR)]
    times = _times(3.0)
    daily = (Seasonality("daily", 1.0, 10),)
    fit_prophet(times, _ramp(times), daily)  # whatever the first fit of a process creates

    def leftovers() -> list[Path]:
        return [path for path in folders[0].glob("drse-fit-*")] + list(folders[1].rglob("*"))

    before = leftovers()
    fit_prophet(times, _ramp(times), daily)
    assert leftovers() == before
