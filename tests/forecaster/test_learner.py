"""Learning step by step: nothing read ahead, series independent, the best opinion found, nothing lost."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from drse_forecaster.backtest import Rolled, roll, score
from drse_forecaster.experts import CurveView, Grid
from drse_forecaster.learner import EXPERTS, LAST_VALUE, REGRESSIONS, Learner, Said, replay
from drse_forecaster.models import ProphetModel
from drse_forecaster.perseries import join, take
from drse_forecaster.series import FloatArray

GRID = Grid(600, (1, 2, 3))
FIRST = 20_000 * GRID.day
STEPS = 3 * GRID.day


def _walk(series: int = 1, steps: int = STEPS, seed: int = 1) -> FloatArray:
    return np.abs(20 + np.cumsum(np.random.default_rng(seed).normal(size=(series, steps)) * 0.3, axis=1))


def _said(values: FloatArray) -> tuple[Learner, list[Said]]:
    learner, said = Learner.start(values.shape[0], GRID), []
    none = CurveView.none(values.shape[0], len(GRID.horizons))
    replay(GRID, learner, FIRST, values, lambda _: none, lambda _i, _l, one: said.append(one))
    return learner, said


def _scores(values: FloatArray, grid: Grid = GRID):  # type: ignore[no-untyped-def]
    return score(grid, roll(grid, FIRST, values, 0, None), 0)


def test_what_is_said_does_not_depend_on_what_comes_later() -> None:
    values = _walk()
    changed = values.copy()
    changed[:, 200:] = 99.0
    before, after = _said(values)[1], _said(changed)[1]
    for one, other in zip(before[:200], after[:200], strict=True):
        assert np.array_equal(one.p50, other.p50) and np.array_equal(one.p90, other.p90)
    assert not np.array_equal(before[200].p50, after[200].p50)


def test_backtest_does_not_read_ahead_with_models_either() -> None:
    grid = Grid(1800, (1, 2))
    values = np.abs(5 + np.sin(np.arange(5 * 48) / 48 * 2 * np.pi)[None] + _walk(1, 240) / 20)
    changed = values.copy()
    changed[:, 200:] *= 3
    one, other = (
        roll(grid, 20_000 * 48, each, 0, ProphetModel(daily_order=10)) for each in (values, changed)
    )
    assert np.array_equal(one.p90[:, :200], other.p90[:, :200])
    assert np.isfinite(one.prophet[:, 120:200]).all(), "the model must have spoken for this to mean anything"


def test_series_learn_the_same_alone_and_in_company() -> None:
    values = _walk(3)
    values[1, 50:80] = np.nan
    _, together = _said(values)
    for row in range(3):
        _, alone = _said(values[row : row + 1])
        assert np.allclose(together[-1].p90[row], alone[-1].p90[0])


def test_rows_taken_and_joined_go_on_as_before() -> None:
    values = _walk(4)
    learner, _ = _said(values)
    parts = [take(learner, np.array(rows)) for rows in ([2, 0], [3, 1])]
    again = take(join(parts), np.array([1, 3, 0, 2]))
    window = np.tile(values[:, -1:], (1, GRID.window))
    none = CurveView.none(4, len(GRID.horizons))
    expected, found = (one.say(GRID, window, 0.0, none) for one in (learner, again))
    assert np.array_equal(expected.p90, found.p90)


def test_regression_of_zero_weights_says_the_last_value() -> None:
    learner = Learner.start(1, GRID)
    said = learner.say(GRID, _walk(1, GRID.window), 0.5 * 86400, CurveView.none(1, 3))
    for name in REGRESSIONS:
        assert said.experts[0, :, EXPERTS.index(name)] == pytest.approx(said.start[0])


def test_clock_of_an_hour_is_learned() -> None:
    """A burst of ten minutes each hour: the last value is wrong twice an hour, the clock never."""
    values = np.where(np.arange(STEPS) % 6 == 2, 12.0, 3.0)[None] + _walk() * 0.005
    scores = _scores(values)
    assert scores.mae_ratio < 0.2
    assert set(scores.model_share) != {LAST_VALUE}


def test_flicker_around_a_level_is_forecast_by_the_level() -> None:
    values = np.maximum(10 + 3 * np.random.default_rng(4).standard_t(3, size=(1, STEPS)), 0)
    scores = _scores(values)
    assert scores.mae_ratio < 0.85
    assert 0.86 < scores.p90_coverage < 0.94


def test_wandering_load_is_left_alone() -> None:
    scores = _scores(_walk(steps=7 * GRID.day))
    assert scores.mae_ratio < 1.01
    assert 0.87 < scores.p90_coverage < 0.93


def test_rare_steps_are_left_to_the_last_value() -> None:
    """A fixed number of instances that changes now and then: any blend would lose, so the gate stays shut."""
    random = np.random.default_rng(6)
    values = 40 + np.cumsum(
        np.where(random.random((1, STEPS)) < 0.01, random.choice([-1.0, 1.0], STEPS), 0), 1
    )
    scores = _scores(values)
    assert scores.mae_ratio < 1.02
    assert scores.model_share.get(LAST_VALUE, 0.0) > 0.8


def test_bounds_hold_through_a_change_of_regime() -> None:
    """Noise of one size, then of five times that: misses pile up for an hour or so, not for days."""
    random = np.random.default_rng(8)
    size = np.where(np.arange(6 * GRID.day) < 3 * GRID.day, 1.0, 5.0)
    values = np.maximum(50 + size * random.normal(size=size.size), 0)[None]
    rolled = roll(GRID, FIRST, values, 0, None)
    covered = rolled.actual[0] <= rolled.p90[0]
    after = slice(3 * GRID.day + 6, 4 * GRID.day)
    assert 0.82 < covered[after].mean() < 0.97


def test_forecasts_are_finite_and_ordered_whatever_comes() -> None:
    random = np.random.default_rng(10)
    values = np.where(random.random((4, STEPS)) < 0.3, np.nan, _walk(4))
    values[0, 60:90] = 0.0
    values[1] = 0.0
    values[2, ::7] = 1e6
    rolled: Rolled = roll(GRID, FIRST, values, 0, None)
    judged = np.isfinite(rolled.actual)
    assert np.isfinite(rolled.p50[judged]).all() and np.isfinite(rolled.p90[judged]).all()
    assert (rolled.p50[judged] >= 0).all() and (rolled.p90[judged] >= rolled.p50[judged]).all()


def test_every_array_of_a_learner_has_the_series_first() -> None:
    learner = Learner.start(5, GRID)

    def check(value: object) -> None:
        if isinstance(value, np.ndarray):
            assert value.shape[0] == 5
        elif isinstance(value, tuple):
            for one in value:
                check(one)
        else:
            for field in fields(value):  # type: ignore[arg-type]
                check(getattr(value, field.name))

    check(learner)
