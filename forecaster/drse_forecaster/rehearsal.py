"""What the service would have said about recorded loads, minute by minute.

The problem: whoever simulates scaling needs the forecasts that would have been there at each moment, neither
better nor worse. The approach: feed a recording, sample by sample, to the very `Forecaster` that serves, run
the fits and replays when they are due, and keep each answer. Demand does not depend on who serves it, so that
one rehearsal does for any number of simulations.

Neighbours: `recorded` reads files; `drse simulate scaling` and its benchmark are the users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drse_forecaster.contract import ForecastPoint
from drse_forecaster.models import FitError, Model, ProphetModel
from drse_forecaster.recorded import Recorded
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.series import FloatArray, JobKey, JobSamples, SeriesShape

#: A round begins this long after its minute's sample, as the service's does.
AFTER_SAMPLE_SECONDS = 2.0

#: Prophet's own default for a daily pattern, and how often the textbook's autoscaler fits it.
TEXTBOOK_DAILY_ORDER = 4
TEXTBOOK_REFIT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said from one sample on; no points while the history is too short."""

    as_of: float  #: unix seconds of the newest sample
    points: tuple[ForecastPoint, ...]


def rehearse(series: Sequence[Recorded], model: Model | None = None) -> list[list[Answer]]:
    """Return the service's answers for each series, oldest first, one a sample.

    The series must have one step. Recordings with a step of a minute are learned on the service's grid of 5
    minutes; coarser ones on their own, as by the backtest.
    """
    step = series[0].step_seconds
    grid = 300 if 300 % step == 0 else step
    settings = ForecasterSettings(
        shape=SeriesShape(step_seconds=grid),
        model=model or ProphetModel(),
        stale_after_seconds=max(300.0, 1.5 * step),
    )
    forecaster = Forecaster(settings)
    keys = {JobKey("rehearsal", f"{row:06d}"): row for row in range(len(series))}
    found: list[list[Answer]] = [[] for _ in series]
    first = min(one.first for one in series)
    end = max(one.first + one.values.size for one in series)
    for index in range(first, end):
        at = float(index * step)
        batch = [_sample(key, at, series[row], index) for key, row in keys.items()]
        forecaster.ingest([one for one in batch if one is not None], at + AFTER_SAMPLE_SECONDS)
        _work(forecaster, at + AFTER_SAMPLE_SECONDS)
        for said in forecaster.answer(at + AFTER_SAMPLE_SECONDS):
            if said.as_of is not None and said.as_of.timestamp() == at:
                found[keys[JobKey(said.namespace, said.name)]].append(Answer(at, said.points))
    return found


def _sample(key: JobKey, at: float, series: Recorded, index: int) -> JobSamples | None:
    place = index - series.first
    if not 0 <= place < series.values.size or not np.isfinite(series.values[place]):
        return None
    return JobSamples(key, np.array([at]), series.values[place : place + 1])


def _work(forecaster: Forecaster, now: float) -> None:
    while tasks := forecaster.due_work(now):
        forecaster.learn([task.run() for task in tasks])


def textbook_prophet(series: Recorded, horizon_seconds: int) -> FloatArray:
    """Return what Prophet with its defaults, fitted anew each hour to the week before, expects
    `horizon_seconds` after each sample; the sample itself for the first two days. Shape as `series.values`.
    """
    model = ProphetModel(daily_order=TEXTBOOK_DAILY_ORDER)
    step = series.step_seconds
    times, values = series.times, series.values
    thin = max(300 // step, 1)  # fitted at 5 minutes, as all others are
    every, week = TEXTBOOK_REFIT_SECONDS // step, int(7 * 86400 // step)
    young = int(model.min_history_seconds // step)
    said = np.array(values, dtype=np.float64)
    for cut in range(young, values.size, every):
        since = max(cut - week, 0)
        curve = model.fit_many(times[since:cut:thin], values[None, since:cut:thin])[0]
        if not isinstance(curve, FitError):
            ahead = times[cut : cut + every] + horizon_seconds
            said[cut : cut + every] = np.maximum(curve.at(ahead), 0.0)
    return said
