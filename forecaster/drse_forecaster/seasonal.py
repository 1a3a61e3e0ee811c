"""Prophet's model for many histories at once, from samples to curves.

The problem: thousands of jobs want a week of minutes each turned into a daily pattern, every few hours, on
one core. The approach: features and scaling as Prophet defines them, but cross products (`posterior.Design`)
formed by the phase of the seasons: all samples at the same time of day share their seasonal features, so
they are added up first. Histories known at the same times share everything but X'y, and are solved together;
one with gaps or a later start is a group of its own.

What this does not do: anything but a linear trend with Prophet's default changepoints and additive Fourier
seasonalities. `models.ProphetModel` falls back to Prophet with Stan for a fit that does not converge here.

Neighbours: `posterior` solves, `models` holds the curve.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from drse_forecaster import posterior
from drse_forecaster.curves import SECONDS_PER_DAY, ProphetCurve, Seasonality
from drse_forecaster.perseries import join
from drse_forecaster.posterior import BoolArray
from drse_forecaster.series import FloatArray

#: Prophet's defaults.
CHANGEPOINTS = 25
CHANGEPOINT_RANGE = 0.8
CHANGEPOINT_SCALE = 0.05
SEASONALITY_SCALE = 10.0

#: Fewer samples than this place fewer changepoints in Prophet, and are left to it.
MIN_SAMPLES = 40

_SHARED_BATCH = 512
_LONE_BATCH = 64


def fit_many(
    times: FloatArray, values: FloatArray, seasonalities: tuple[Seasonality, ...]
) -> list[ProphetCurve | None]:
    """Return the curve of each history, None where it did not converge or holds too few samples.

    `times`: unix seconds on a regular grid, shape (n,); `values`: GPU-equivalents, NaN for gaps, shape (S,
    n).
    """
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    known = np.isfinite(values)
    for place in map(int, np.flatnonzero(known.sum(axis=1) >= MIN_SAMPLES)):
        groups[known[place].tobytes()].append(place)
    found: list[ProphetCurve | None] = [None] * values.shape[0]
    phases = _Phases.of(times, seasonalities)
    for batch in _batches(list(groups.values())):
        grids = [_Grid.of(times, known[rows[0]]) for rows in batch]
        rows = [row for group in batch for row in group]
        for place, curve in zip(rows, _fit(values, batch, grids, phases, seasonalities), strict=True):
            found[place] = curve
    return found


def _batches(groups: list[list[int]]) -> Iterator[list[list[int]]]:
    """Yield what is solved at once: a group of several series by itself, loners together.

    Both are bounded, because the cross products of a loner are its own.
    """
    for group in groups:
        if len(group) > 1:
            for first in range(0, len(group), _SHARED_BATCH):
                yield [group[first : first + _SHARED_BATCH]]
    loners = [group for group in groups if len(group) == 1]
    for first in range(0, len(loners), _LONE_BATCH):
        yield loners[first : first + _LONE_BATCH]


@dataclass(frozen=True, slots=True, eq=False)
class _Phases:
    """The grid seen as repetitions of the longest season."""

    features: FloatArray  #: seasonal features by phase, shape (P, f)
    pad: int  #: empty grid times to append so that whole periods result

    @classmethod
    def of(cls, times: FloatArray, seasonalities: tuple[Seasonality, ...]) -> _Phases:
        step = float(times[1] - times[0]) if times.size > 1 else 60.0
        period_days = math.lcm(*(int(season.period_days) for season in seasonalities))
        period = round(period_days * SECONDS_PER_DAY / step)
        days = (times[0] + step * np.arange(period)) / SECONDS_PER_DAY
        features = np.hstack([season.features(days) for season in seasonalities])
        return cls(features, -times.size % period)

    def add_up(self, rows: FloatArray) -> FloatArray:
        """Return the sums of (m, n) rows by phase, shape (m, P)."""
        whole = np.pad(rows, ((0, 0), (0, self.pad)))
        return np.asarray(whole.reshape(rows.shape[0], -1, self.features.shape[0]).sum(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """What histories known at the same times share."""

    start: float  #: unix seconds of the first sample
    span: float  #: seconds to the last
    mask: BoolArray  #: where samples are, (n,)
    changepoints: FloatArray  #: in spans, (c,)
    trend: FloatArray  #: time, one, hinges; zero where there is no sample, (2 + c, n)

    @classmethod
    def of(cls, times: FloatArray, mask: BoolArray) -> _Grid:
        at = times[mask]
        start, span = float(at[0]), float(at[-1] - at[0])
        scaled = (times - start) / span
        changepoints = _changepoints(scaled[mask])
        hinges = np.maximum(scaled[None, :] - changepoints[:, None], 0.0)
        return cls(start, span, mask, changepoints, np.vstack([scaled, np.ones_like(scaled), hinges]) * mask)


def _changepoints(scaled: FloatArray) -> FloatArray:
    """Return Prophet's default changepoints: evenly over the first 80 % of the samples."""
    reach = math.floor(scaled.size * CHANGEPOINT_RANGE)
    return np.asarray(scaled[np.linspace(0, reach - 1, CHANGEPOINTS + 1).round().astype(int)][1:])


def _fit(
    values: FloatArray,
    batch: list[list[int]],
    grids: list[_Grid],
    phases: _Phases,
    seasonalities: tuple[Seasonality, ...],
) -> Iterator[ProphetCurve | None]:
    """Yield the curves of a batch, in its order."""
    scales, targets = [], []
    for group, grid in zip(batch, grids, strict=True):
        filled = np.where(grid.mask, values[group], 0.0)
        scale = np.abs(filled).max(axis=1)
        scales.append(np.where(scale > 0, scale, 1.0))
        targets.append(_targets(grid.trend, filled / scales[-1][:, None], phases))
    fit = posterior.maximise(_design(grids, phases), join(targets))
    shared = [grid for group, grid in zip(batch, grids, strict=True) for _ in group]
    for row, (grid, scale) in enumerate(zip(shared, np.concatenate(scales), strict=True)):
        if not (fit.converged[row] and np.isfinite(fit.log_posterior[row])):
            yield None
            continue
        yield ProphetCurve(
            start=grid.start,
            span=grid.span,
            scale=float(scale),
            growth=float(fit.gaussian[row, 0]),
            offset=float(fit.gaussian[row, 1]),
            changepoints=grid.changepoints,
            deltas=fit.deltas[row],
            beta=fit.gaussian[row, 2:],
            seasonalities=seasonalities,
        )


def _design(grids: list[_Grid], phases: _Phases) -> posterior.Design:
    gg, gd, dd = [], [], []
    for grid in grids:
        counts = phases.add_up(grid.mask[None, :].astype(np.float64))[0]
        seasonal = phases.features.T @ (counts[:, None] * phases.features)
        cross = phases.add_up(grid.trend) @ phases.features
        moments = grid.trend @ grid.trend.T
        gg.append(np.block([[moments[:2, :2], cross[:2]], [cross[:2].T, seasonal]]))
        gd.append(np.vstack([moments[:2, 2:], cross[2:].T]))
        dd.append(moments[2:, 2:])
    scales = np.full(2 + phases.features.shape[1], SEASONALITY_SCALE)
    scales[:2] = posterior.TREND_SCALE
    return posterior.Design(
        gg=np.stack(gg),
        gd=np.stack(gd),
        dd=np.stack(dd),
        scales=scales,
        laplace=CHANGEPOINT_SCALE,
        samples=np.array([float(grid.mask.sum()) for grid in grids]),
    )


def _targets(trend: FloatArray, filled: FloatArray, phases: _Phases) -> posterior.Targets:
    with_trend = filled @ trend.T
    with_seasons = phases.add_up(filled) @ phases.features
    return posterior.Targets(
        gy=np.hstack([with_trend[:, :2], with_seasons]),
        dy=with_trend[:, 2:],
        yy=np.einsum("ij,ij->i", filled, filled),
    )
