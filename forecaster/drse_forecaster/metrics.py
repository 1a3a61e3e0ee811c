"""What the forecaster tells Prometheus about its forecasts and itself.

Per job, from what is being served right now (so nothing is left over from jobs that are gone): the forecast,
the load it started from, skill, coverage, and running totals of what the served forecasts turned out to be.
Rates of the totals give accuracy over any window, for example the live P90 coverage of a day:
`increase(drse_forecast_covered_total[1d]) / increase(drse_forecast_scored_total[1d])`.

Job labels are `deepseekjob` and `deepseekjob_namespace`: no scrape configuration touches those.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from drse_forecaster.accuracy import Score
from drse_forecaster.contract import ForecastState, JobForecast
from drse_forecaster.learner import LAST_VALUE
from drse_forecaster.queries import JOB_LABEL, NAMESPACE_LABEL
from drse_forecaster.series import JobKey
from drse_forecaster.source import SourceErrorKind

#: Three horizons show the shape; all of them are in the HTTP answer.
SHOWN_HORIZONS = (5, 10, 30)

_JOB = (NAMESPACE_LABEL, JOB_LABEL)
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the per-job metrics are made of."""

    now: float  #: unix seconds
    forecasts: tuple[JobForecast, ...] = ()
    scores: tuple[tuple[JobKey, Score], ...] = ()


class Metrics:
    """The process's own counters, and the registry that everything is in."""

    def __init__(self, show: Callable[[], Shown]) -> None:
        self.registry = CollectorRegistry()
        self.source_errors = Counter(
            "drse_forecast_source_errors_total",
            "Reads of Prometheus that failed, by what has to be mended.",
            ["reason"],
            registry=self.registry,
        )
        for kind in SourceErrorKind:
            self.source_errors.labels(kind)  # a counter that is absent until it counts hides its first count
        self.fit_errors = Counter(
            "drse_forecast_fit_errors_total", "Fits that failed.", ["model"], registry=self.registry
        )
        self.fit_seconds = Histogram(
            "drse_forecast_fit_seconds",
            "Time of the fits of all series at one cut.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.replay_seconds = Histogram(
            "drse_forecast_replay_seconds",
            "Time of learning from the histories of jobs that are new here.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.round_seconds = Histogram(
            "drse_forecast_round_seconds",
            "Time of one round over all jobs: query, judgement, forecasts.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.last_round = Gauge(
            "drse_forecast_last_round_timestamp_seconds",
            "When the newest round with fresh samples ended.",
            registry=self.registry,
        )
        self.registry.register(_JobCollector(show))


class _JobCollector(Collector):
    def __init__(self, show: Callable[[], Shown]) -> None:
        self._show = show

    def describe(self) -> list[Metric]:
        return []  # without this, registering would collect before there is anything to show

    def collect(self) -> Iterator[Metric]:
        shown = self._show()
        yield from _served(shown.forecasts)
        yield from _quality(shown)
        yield from _totals(shown.scores)


def _labels(forecast: JobForecast) -> list[str]:
    return [forecast.namespace, forecast.name]


def _served(forecasts: tuple[JobForecast, ...]) -> Iterator[Metric]:
    load = GaugeMetricFamily(
        "drse_forecast_load",
        "Forecast load in GPU-equivalents by quantile and minutes ahead; absent unless it is Ready.",
        labels=[*_JOB, "quantile", "horizon"],
    )
    actual = GaugeMetricFamily(
        "drse_forecast_actual_load", "Newest measured load in GPU-equivalents.", labels=_JOB
    )
    for forecast in forecasts:
        if forecast.load is not None:
            actual.add_metric(_labels(forecast), forecast.load)
        for point in forecast.points:
            if point.minutes in SHOWN_HORIZONS:
                horizon = f"{point.minutes}m"
                load.add_metric([*_labels(forecast), "0.5", horizon], point.p50)
                load.add_metric([*_labels(forecast), "0.9", horizon], point.p90)
    yield load
    yield actual


def _quality(shown: Shown) -> Iterator[Metric]:
    skill = GaugeMetricFamily(
        "drse_forecast_skill_ratio",
        "Backtest error of who speaks / error of the last value, 10 minutes ahead; below 1 is better.",
        labels=_JOB,
    )
    coverage = GaugeMetricFamily(
        "drse_forecast_coverage_ratio",
        "Share of loads within their P90 in the backtest, 10 minutes ahead.",
        labels=_JOB,
    )
    active = GaugeMetricFamily(
        "drse_forecast_active", "1 when a model speaks, 0 when it is the last value or nobody.", labels=_JOB
    )
    age = GaugeMetricFamily(
        "drse_forecast_age_seconds", "Age of the newest sample that the forecast starts from.", labels=_JOB
    )
    series = GaugeMetricFamily("drse_forecast_series", "Jobs by state of their forecast.", labels=["state"])
    for forecast in shown.forecasts:
        active.add_metric(_labels(forecast), float(forecast.model not in (None, LAST_VALUE)))
        if forecast.as_of is not None:
            age.add_metric(_labels(forecast), max(shown.now - forecast.as_of.timestamp(), 0.0))
        if forecast.skill is not None:
            skill.add_metric(_labels(forecast), forecast.skill)
        if forecast.coverage is not None:
            coverage.add_metric(_labels(forecast), forecast.coverage)
    tally = Tally(forecast.state for forecast in shown.forecasts)
    for state in ForecastState:
        series.add_metric([state], tally[state])
    yield from (skill, coverage, active, age, series)


def _totals(scores: tuple[tuple[JobKey, Score], ...]) -> Iterator[Metric]:
    error = GaugeMetricFamily(
        "drse_forecast_abs_error",
        "|measured - P50| of the newest forecast, 10 minutes ahead, whose time has come; GPU-equivalents.",
        labels=_JOB,
    )
    scored = CounterMetricFamily(
        "drse_forecast_scored", "Served forecasts whose time has come, 10 minutes ahead.", labels=_JOB
    )
    covered = CounterMetricFamily(
        "drse_forecast_covered", "Of these, loads at or below the P90.", labels=_JOB
    )
    total = CounterMetricFamily(
        "drse_forecast_abs_error_sum", "Sum of |measured - P50| over these, GPU-equivalents.", labels=_JOB
    )
    naive = CounterMetricFamily(
        "drse_forecast_last_value_abs_error_sum",
        "The same sum, had the load at the time of the forecast been the forecast.",
        labels=_JOB,
    )
    relative = CounterMetricFamily(
        "drse_forecast_relative_scored", "Scored forecasts whose load was more than nothing.", labels=_JOB
    )
    relative_error = CounterMetricFamily(
        "drse_forecast_relative_error_sum",
        "Sum of |measured - P50| / measured over these: MAPE is its rate over theirs.",
        labels=_JOB,
    )
    for key, score in scores:
        labels = [key.namespace, key.name]
        if math.isfinite(score.newest_error):
            error.add_metric(labels, abs(score.newest_error))
        scored.add_metric(labels, score.scored)
        covered.add_metric(labels, score.covered)
        total.add_metric(labels, score.absolute_error)
        naive.add_metric(labels, score.last_value_absolute_error)
        relative.add_metric(labels, score.relative)
        relative_error.add_metric(labels, score.relative_error)
    yield from (error, scored, covered, total, naive, relative, relative_error)
