"""Models that learn the shape of a load over days.

The problem: work comes back at the same time each day, often as a ramp that is over within minutes, and a
forecast is needed every minute for every job. The approach: a model turns a history into a `Curve`, which
gives the expected load at any time and costs microseconds to read. Prophet does the learning; its curve is
then evaluated here in numpy from the fitted parameters, because `Prophet.predict` takes 6 ms for a handful
of points and this takes 0.02 ms.

Neighbours: `correction` pulls a curve towards the newest samples; `backtest` and `gate` decide whether it may
speak. A new model is a new class with `name`, `min_history_seconds` and `fit`.

Source: Taylor and Letham, "Forecasting at scale", The American Statistician 72(1), 2018 (Prophet).
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from drse_forecaster.series import FloatArray

if TYPE_CHECKING:
    from prophet import Prophet

SECONDS_PER_DAY = 86400.0

#: 60 harmonics of a day resolve a ramp of ten minutes; with the default of 4 it is smeared over hours.
#: Measured on recorded loads, 60 beat 30 and 45 on most series, and where a curve is of no use its pull is
#: learned away.
DAILY_ORDER = 60
WEEKLY_ORDER = 3


class FitError(Exception):
    """A model could not be fitted to a series; the message says why."""


class Curve(Protocol):
    """A fitted model: the expected load at any time."""

    def at(self, times: FloatArray) -> FloatArray:
        """Return the expected load in GPU-equivalents at unix times (seconds), same shape."""
        ...


class Model(Protocol):
    """Learns a curve from a history."""

    @property
    def name(self) -> str: ...

    @property
    def min_history_seconds(self) -> float:
        """Histories shorter than this are not worth a fit."""
        ...

    def fit(self, times: FloatArray, values: FloatArray) -> Curve:
        """Learn from values (GPU-equivalents, gaps as NaN) at unix times, both of shape (n,).

        Raises FitError.
        """
        ...


@dataclass(frozen=True, slots=True)
class FlatCurve:
    """Zero at all times: what is left for `correction` is then the level of the newest samples itself."""

    def at(self, times: FloatArray) -> FloatArray:
        return np.zeros_like(times)


@dataclass(frozen=True, slots=True)
class Seasonality:
    """One Fourier block: period in days and number of harmonics."""

    name: str
    period_days: float
    order: int

    def features(self, days: FloatArray) -> FloatArray:
        """Return Prophet's features, shape (n, 2 * order): sine, cosine of each harmonic, days since
        epoch."""
        angle = 2 * np.pi * np.outer(days, np.arange(1, self.order + 1)) / self.period_days
        features = np.empty((days.size, 2 * self.order))
        features[:, 0::2], features[:, 1::2] = np.sin(angle), np.cos(angle)
        return features


@dataclass(frozen=True, slots=True, eq=False)
class ProphetCurve:
    """Prophet's additive model, evaluated from its parameters.

    load(t) = scale * (k t' + m + sum_i delta_i (t' - s_i)+ + features(t) . beta), t' = (t - start) / span.
    """

    start: float  #: unix seconds of the first sample
    span: float  #: seconds from the first sample to the last
    scale: float  #: Prophet's y_scale, GPU-equivalents
    growth: float  #: k
    offset: float  #: m
    changepoints: FloatArray  #: s, in t' units, shape (c,)
    deltas: FloatArray  #: shape (c,)
    beta: FloatArray  #: shape (f,), the seasonalities' coefficients in order
    seasonalities: tuple[Seasonality, ...]

    def at(self, times: FloatArray) -> FloatArray:
        scaled = (times - self.start) / self.span
        hinges = np.maximum(scaled[:, None] - self.changepoints[None, :], 0.0)
        trend = self.growth * scaled + self.offset + hinges @ self.deltas
        if self.seasonalities:
            days = times / SECONDS_PER_DAY
            features = np.hstack([season.features(days) for season in self.seasonalities])
            trend = trend + features @ self.beta
        return np.asarray(self.scale * trend, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ProphetModel:
    """Prophet with daily harmonics fine enough for ramps, and weekly ones once two weeks are known."""

    daily_order: int = DAILY_ORDER
    name: str = "prophet"
    #: Below two days nothing tells a daily pattern from a one-time event.
    min_history_seconds: float = 2 * SECONDS_PER_DAY

    def fit(self, times: FloatArray, values: FloatArray) -> ProphetCurve:
        known = np.isfinite(values)
        times, values = times[known], values[known]
        if times.size < 4 * self.daily_order:
            raise FitError(f"{times.size} samples are too few for {self.daily_order} daily harmonics.")
        seasonalities = self._seasonalities(float(times[-1] - times[0]))
        return _fit_prophet(times, values, seasonalities)

    def _seasonalities(self, span: float) -> tuple[Seasonality, ...]:
        daily = Seasonality("daily", 1.0, self.daily_order)
        if span < 14 * SECONDS_PER_DAY:
            return (daily,)
        return (daily, Seasonality("weekly", 7.0, WEEKLY_ORDER))


def _fit_prophet(
    times: FloatArray, values: FloatArray, seasonalities: tuple[Seasonality, ...]
) -> ProphetCurve:
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
