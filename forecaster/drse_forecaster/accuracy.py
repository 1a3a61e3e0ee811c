"""How good the forecasts that were really served turned out to be.

The problem: a backtest says how good a procedure would have been; users also want to know how good what
they got was. The approach: write down what is served for the judged horizon, and when its minute has come
compare it with what was measured. Only totals are kept, so that any window can be asked of them in PromQL.

Neighbours: `runner` records and scores, `metrics` shows the totals.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from drse_forecaster.contract import DEFAULT_HORIZON_MINUTES, JobForecast
from drse_forecaster.series import FINE_STEP_SECONDS, JobKey, SeriesStore

#: A relative error of a load below this, in GPU-equivalents, would be about nothing.
NEGLIGIBLE_LOAD = 0.01


@dataclass(slots=True)
class Score:
    """Totals over all forecasts of one job whose time has come; errors in GPU-equivalents."""

    scored: int = 0
    covered: int = 0  #: of these, how many loads were at or below their P90
    absolute_error: float = 0.0
    last_value_absolute_error: float = 0.0  #: what saying "as now" would have cost
    relative: int = 0  #: forecasts whose load came to more than nothing
    relative_error: float = 0.0  #: over these, sum of |actual - p50| / actual
    newest_error: float = math.nan  #: actual - p50 of the newest one


@dataclass(frozen=True, slots=True)
class _Promise:
    target: float  #: unix seconds
    p50: float
    p90: float
    load: float  #: when it was made


@dataclass(slots=True)
class _Account:
    promises: deque[_Promise] = field(default_factory=deque)
    score: Score = field(default_factory=Score)


class Ledger:
    """Promises and scores of all jobs. Not thread-safe."""

    def __init__(self) -> None:
        self._accounts: dict[JobKey, _Account] = {}

    def record(self, forecasts: Iterable[JobForecast]) -> None:
        """Write down what was served, once for each minute it starts from."""
        for forecast in forecasts:
            point = forecast.at(DEFAULT_HORIZON_MINUTES)
            if not forecast.ready or point is None or forecast.as_of is None or forecast.load is None:
                continue
            account = self._accounts.setdefault(JobKey(forecast.namespace, forecast.name), _Account())
            target = forecast.as_of.timestamp() + 60.0 * point.minutes
            if account.promises and account.promises[-1].target >= target:
                account.promises.pop()  # a better answer for the same minute replaces the earlier one
            account.promises.append(_Promise(target, point.p50, point.p90, forecast.load))

    def score(self, store: SeriesStore) -> None:
        """Compare promises whose minute has come with the measured load; unmeasured ones are dropped."""
        for key in [key for key in self._accounts if key not in store]:
            del self._accounts[key]
        for key, account in self._accounts.items():
            series = store.get(key)
            while series and account.promises and account.promises[0].target <= series.newest:
                promise = account.promises.popleft()
                actual = float(series.fine.back_from(promise.target, FINE_STEP_SECONDS, 1)[0])
                if math.isfinite(actual):
                    _add(account.score, promise, actual)

    def scores(self) -> list[tuple[JobKey, Score]]:
        """Return the totals of every job with at least one scored forecast, by job."""
        return sorted((key, account.score) for key, account in self._accounts.items() if account.score.scored)


def _add(score: Score, promise: _Promise, actual: float) -> None:
    score.scored += 1
    score.covered += actual <= promise.p90
    score.newest_error = actual - promise.p50
    score.absolute_error += abs(score.newest_error)
    score.last_value_absolute_error += abs(actual - promise.load)
    if actual > NEGLIGIBLE_LOAD:
        score.relative += 1
        score.relative_error += abs(score.newest_error) / actual
