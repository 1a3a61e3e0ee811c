"""The backtest looks at nothing that had not happened, and judges all alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from drse_forecaster.backtest import History, Learned, assess, fold_cuts, replay
from drse_forecaster.correction import CANDIDATES, LAST_VALUE, Candidate, Pulls
from drse_forecaster.series import FloatArray

DAY = 86400.0
MIDNIGHT = 1_700_000_000.0 // DAY * DAY
HORIZONS = (1, 2, 3, 4, 6)
JUDGED = 1
SEASONAL = CANDIDATES[-1]


@dataclass(frozen=True)
class Clockwork:
    """A curve that is right about a load of 5 + 4 sin(time of day)."""

    def at(self, times: FloatArray) -> FloatArray:
        return 5 + 4 * np.sin(2 * np.pi * times / DAY * 12)


def _history(days: float, noise: float = 0.3, seed: int = 4) -> History:
    times = MIDNIGHT + np.arange(0.0, days * DAY, 300.0)
    values = Clockwork().at(times) + np.random.default_rng(seed).normal(size=times.size) * noise
    return History(times, np.maximum(values, 0.0), 300)


def _fully() -> Pulls:
    return Pulls(np.ones(len(HORIZONS)), np.ones(len(HORIZONS)))


def _folds(history: History) -> dict[float, Learned]:
    return {cut: Learned(Clockwork(), _fully()) for cut in fold_cuts(history, 2 * DAY)}


def test_folds_start_at_midnight_after_enough_history_and_stay_for_the_day() -> None:
    assert fold_cuts(_history(1.9), 2 * DAY) == ()
    assert fold_cuts(_history(2.2), 2 * DAY) == (MIDNIGHT + 2 * DAY,)
    early, late = _history(6.1), _history(6.9)
    assert fold_cuts(early, 2 * DAY) == fold_cuts(late, 2 * DAY)
    assert fold_cuts(late, 2 * DAY) == tuple(MIDNIGHT + day * DAY for day in (3, 4, 5, 6))


def test_last_values_error_is_the_change() -> None:
    history = _history(1.0)
    errors = replay(LAST_VALUE, history, HORIZONS, {})
    for place, steps in enumerate(HORIZONS):
        change = history.values[steps:] - history.values[:-steps]
        assert np.allclose(errors[:-steps, place], change)
        assert np.isnan(errors[-steps:, place]).all()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda one: one.name)
def test_future_does_not_reach_back(candidate: Candidate) -> None:
    history = _history(5.5)
    changed = history.values.copy()
    now = 1400
    changed[now:] = 1000.0
    original = replay(candidate, history, HORIZONS, _folds(history))
    later = replay(candidate, History(history.times, changed, 300), HORIZONS, _folds(history))
    for place, steps in enumerate(HORIZONS):
        known = slice(0, now - steps)
        assert np.array_equal(original[known, place], later[known, place], equal_nan=True)


def test_origins_outside_folds_are_not_judged() -> None:
    history = _history(4.5)
    errors = replay(SEASONAL, history, HORIZONS, _folds(history))
    assert np.isnan(errors[: 2 * 288]).all()
    assert np.isfinite(errors[2 * 288 : -6]).all()


def test_skill_is_relative_to_last_value_and_needs_a_fold() -> None:
    history = _history(6.5)
    without = assess(CANDIDATES, history, HORIZONS, JUDGED, {})
    assert [one.candidate.name for one in without] == ["lastValue", "ewma"]
    with_folds = assess(CANDIDATES, history, HORIZONS, JUDGED, {"prophet": _folds(history)})
    by_name = {one.candidate.name: one for one in with_folds}
    assert by_name["lastValue"].skill == by_name["lastValue"].pinball == 1.0
    seasonal = by_name["prophet+ar"]
    # last value errs by the change and two noises, the right curve by one noise
    assert seasonal.skill is not None and 0.1 < seasonal.skill < 0.5
    assert seasonal.coverage == pytest.approx(0.9, abs=0.06)
    assert np.allclose(seasonal.margins, 0.3 * 1.2816, atol=0.08)


def test_gaps_are_neither_origins_nor_targets() -> None:
    history = _history(5.5)
    values = history.values.copy()
    values[1000:1050] = np.nan
    errors = replay(SEASONAL, History(history.times, values, 300), HORIZONS, _folds(history))
    assert np.isnan(errors[1000:1050]).all()
    assert np.isnan(errors[998, 1]) and np.isfinite(errors[997, 1])


def test_no_error_anywhere_is_no_skill() -> None:
    times = MIDNIGHT + np.arange(0.0, DAY, 300.0)
    flat = assess(CANDIDATES, History(times, np.full(times.size, 3.0), 300), HORIZONS, JUDGED, {})
    assert [one.skill for one in flat] == [None, None]
    assert all((one.margins == 0).all() for one in flat)
