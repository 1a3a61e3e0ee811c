"""Models that learn the shape of a load over days.

The problem: work comes back at the same time each day, often as a ramp that is over within minutes, and
thousands of jobs want that learned. The approach: a model turns many histories at once into curves. Prophet's
model is fitted by `seasonal`, a thousand weeks of minutes in a second; what does not converge there goes to
Prophet itself, with Stan, one by one.

Neighbours: `experts` follow a curve from the newest samples; `blending` decides whether it is believed. A new
model is a new class with `name`, `min_history_seconds` and `fit_many`.

Source: Taylor and Letham, "Forecasting at scale", The American Statistician 72(1), 2018 (Prophet).
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from drse_forecaster import seasonal
from drse_forecaster.curves import SECONDS_PER_DAY, Curve, ProphetCurve, Seasonality
from drse_forecaster.series import FloatArray

if TYPE_CHECKING:
    from prophet import Prophet

#: 60 harmonics of a day resolve a ramp of ten minutes; with the default of 4 it is smeared over hours.
DAILY_ORDER = 60
WEEKLY_ORDER = 3


class FitError(Exception):
    """A model could not be fitted to a series; the message says why."""


class Model(Protocol):
    """Learns curves from histories."""

    @property
    def name(self) -> str: ...

    @property
    def min_history_seconds(self) -> float:
        """Histories shorter than this are not worth a fit."""
        ...

    def fit_many(self, times: FloatArray, values: FloatArray) -> list[Curve | FitError]:
        """Learn from (S, n) values (GPU-equivalents, gaps as NaN) at (n,) unix times on a grid."""
        ...


@dataclass(frozen=True, slots=True)
class ProphetModel:
    """Prophet with daily harmonics fine enough for ramps, and weekly ones once two weeks are known."""

    daily_order: int = DAILY_ORDER
    name: str = "prophet"
    #: Below two days nothing tells a daily pattern from a one-time event.
    min_history_seconds: float = 2 * SECONDS_PER_DAY

    def fit_many(self, times: FloatArray, values: FloatArray) -> list[Curve | FitError]:
        seasonalities = self._seasonalities(float(times[-1] - times[0]))
        found: list[Curve | FitError] = []
        for row, curve in enumerate(seasonal.fit_many(times, values, seasonalities)):
            found.append(curve if curve is not None else self._fit_alone(times, values[row], seasonalities))
        return found

    def _fit_alone(
        self, times: FloatArray, values: FloatArray, seasonalities: tuple[Seasonality, ...]
    ) -> Curve | FitError:
        """Fit with Stan what the batch could not; failing is an outcome."""
        known = np.isfinite(values)
        if int(known.sum()) < 4 * self.daily_order:
            return FitError(f"{int(known.sum())} samples are too few for {self.daily_order} daily harmonics.")
        try:
            return fit_prophet(times[known], values[known], seasonalities)
        except FitError as error:
            return error

    def _seasonalities(self, span: float) -> tuple[Seasonality, ...]:
        daily = Seasonality("daily", 1.0, self.daily_order)
        if span < 14 * SECONDS_PER_DAY:
            return (daily,)
        return (daily, Seasonality("weekly", 7.0, WEEKLY_ORDER))


def fit_prophet(
    times: FloatArray, values: FloatArray, seasonalities: tuple[Seasonality, ...]
) -> ProphetCurve:
    """Fit one history (no NaN) with Prophet and Stan. Raises FitError."""
    import pandas as pd  # this and Prophet take seconds to import, and only a process that fits needs them

    model = build_prophet(seasonalities)
    frame = pd.DataFrame({"ds": pd.to_datetime(times, unit="s"), "y": values})  # naive: Prophet refuses zones
    # cmdstan leaves a folder behind for each fit unless it is given one that goes away.
    with tempfile.TemporaryDirectory(prefix="drse-fit-") as folder:
        try:
            model.fit(frame, output_dir=folder)
        except (RuntimeError, ValueError) as error:
            raise FitError(f"Prophet could not be fitted: {error}") from error
    curve = curve_of(model, float(times[0]), float(times[-1]), seasonalities)
    if not np.isfinite(curve.at(times[-1:])).all():
        raise FitError("Prophet's fitted parameters are not finite.")
    return curve


def build_prophet(seasonalities: tuple[Seasonality, ...]) -> Prophet:
    """Return an unfitted Prophet: linear trend with its default changepoints, these seasonalities only.

    It samples no uncertainty: `intervals` measures it instead.
    """
    from prophet import Prophet

    model = Prophet(
        daily_seasonality=False, weekly_seasonality=False, yearly_seasonality=False, uncertainty_samples=0
    )
    # Two lines a fit otherwise, past the process's own format; failures arrive as exceptions. Only now,
    # because constructing the first Prophet imports cmdstanpy, which sets its own level.
    logging.getLogger("cmdstanpy").setLevel(logging.CRITICAL)
    for season in seasonalities:
        model.add_seasonality(season.name, season.period_days, season.order)
    return model


def curve_of(
    model: Prophet, first: float, last: float, seasonalities: tuple[Seasonality, ...]
) -> ProphetCurve:
    """Return the curve of a Prophet fitted on samples from `first` to `last` (unix seconds)."""

    def parameter(name: str) -> FloatArray:
        # (1, n) from Stan, (1,) where a constant history made a fit unnecessary
        return np.asarray(model.params[name], dtype=np.float64).ravel()

    assert model.y_scale is not None  # set by fit
    return ProphetCurve(
        start=first,
        span=last - first,
        scale=float(model.y_scale),
        growth=float(parameter("k")[0]),
        offset=float(parameter("m")[0]),
        changepoints=np.asarray(model.changepoints_t, dtype=np.float64),
        deltas=parameter("delta"),
        beta=parameter("beta"),
        seasonalities=seasonalities,
    )
