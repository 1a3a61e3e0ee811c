"""What the forecaster says to the rest of DRSE over HTTP.

The problem: scaling must act on a forecast only when it is known to be sound, so every number has to travel
with its age, its author and its measured accuracy. The approach: one immutable document per job, in which
"nothing to say" is a state with a sentence and never a missing field, a zero or a NaN.

Neighbours: `service` serves these documents, the operator's scaling loop reads them. This module depends on
pydantic alone, so a reader does not pull in numpy or Prophet.

    GET /v1/forecasts                       -> ForecastList
    GET /v1/forecasts/{namespace}/{name}    -> JobForecast, or 404 with Problem
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

#: Horizons in every answer: each minute of the default lead time, then three for slower starters.
HORIZONS_MINUTES: tuple[int, ...] = (*range(1, 11), 15, 20, 30)

#: The horizon that the backtest judges and that scaling uses unless a job asks for another.
DEFAULT_HORIZON_MINUTES = 10

#: JSON has no NaN, and an infinite load is a broken one: both are refused at the border.
Load = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Document(BaseModel):
    """Frozen, camelCase on the wire. Readers tolerate fields they do not know, so either side may be
    newer."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class ForecastState(StrEnum):
    """Whether a job's forecast may be acted upon. Only READY may."""

    #: Points are finite and the newest sample is fresh.
    READY = "Ready"
    #: Fewer samples than any model needs; clears by itself as the job runs.
    TOO_SHORT = "TooShort"
    #: The newest sample is too old: the exporter, the scrape or Prometheus stands still.
    STALE = "Stale"
    #: Samples arrive but cannot be used (not finite or negative), or every model failed on them.
    BROKEN = "Broken"
    #: No sample of this job was ever seen.
    UNKNOWN = "Unknown"


class ForecastPoint(_Document):
    """The load expected `minutes` after the newest sample, in GPU-equivalents."""

    minutes: int = Field(gt=0, description="Minutes after asOf.")
    p50: Load = Field(description="Median forecast, GPU-equivalents.")
    p90: Load = Field(description="Load not exceeded in 90 % of cases, GPU-equivalents; never below p50.")

    @model_validator(mode="after")
    def _bound_is_above_median(self) -> Self:
        if self.p90 < self.p50:
            raise ValueError(f"p90 is {self.p90:g} and must not be below p50, which is {self.p50:g}")
        return self


class JobForecast(_Document):
    """All that the forecaster knows about one job."""

    namespace: str
    name: str
    state: ForecastState
    reason: str = Field(description="One sentence: why this state, and what would clear it.")
    as_of: datetime | None = Field(default=None, description="Time of the newest sample, UTC.")
    load: Load | None = Field(default=None, description="Newest load in GPU-equivalents; null when unknown.")
    points: tuple[ForecastPoint, ...] = Field(
        default=(), description="By rising minutes; empty unless state is Ready."
    )
    model: str | None = Field(default=None, description='Which model spoke, for example "prophet+ewma".')
    skill: Ratio | None = Field(
        default=None,
        description="Backtest error of it / error of the last value, 10 minutes ahead; below 1 is better.",
    )
    coverage: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="Measured share of loads at or below their p90, 10 minutes ahead."
    )
    samples: int = Field(default=0, ge=0, description="Usable samples in the history.")
    history_seconds: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="From the oldest usable sample to the newest."
    )

    @model_validator(mode="after")
    def _ready_says_something(self) -> Self:
        if self.state is ForecastState.READY and not (self.points and self.as_of and self.load is not None):
            raise ValueError("a Ready forecast must have points, asOf and load")
        return self

    @property
    def ready(self) -> bool:
        """Whether the points may be acted upon."""
        return self.state is ForecastState.READY

    def at(self, minutes: int) -> ForecastPoint | None:
        """Return the first point at or after `minutes`, or None when the forecast does not reach that far."""
        return next((point for point in self.points if point.minutes >= minutes), None)

    def highest_p90(self, minutes: float) -> float | None:
        """Return the highest P90 over the next `minutes`, in GPU-equivalents.

        Points up to and including the first at or after `minutes` count. None when not ready, or when the
        forecast ends earlier: an answer for a shorter time would look like safety that nobody measured.
        """
        if not self.ready or not self.points or self.points[-1].minutes < minutes:
            return None
        end = next(point.minutes for point in self.points if point.minutes >= minutes)
        return max(point.p90 for point in self.points if point.minutes <= end)


class ForecastList(_Document):
    """Every job that one replica of the forecaster serves, from one round."""

    generated_at: datetime = Field(description="When the round that made these forecasts ended, UTC.")
    horizon_minutes: int = Field(default=DEFAULT_HORIZON_MINUTES, gt=0)
    shard: int = Field(default=0, ge=0, description="Which of the replicas that share the jobs this is.")
    shards: int = Field(default=1, ge=1, description="How many replicas share the jobs.")
    forecasts: tuple[JobForecast, ...] = ()

    def find(self, namespace: str, name: str) -> JobForecast | None:
        """Return the forecast of one job, or None when the forecaster does not know it."""
        return next((one for one in self.forecasts if (one.namespace, one.name) == (namespace, name)), None)


class Problem(_Document):
    """The body of every answer that is not 200."""

    message: str = Field(description="One sentence: what is wrong and what to change.")
