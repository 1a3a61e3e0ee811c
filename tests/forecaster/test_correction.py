"""Following a curve: the shares are learned, and a useless curve is learned away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drse_forecaster.correction import CANDIDATES, LAST_VALUE, learn_pulls, pull, smooth

HORIZONS = (1, 2, 6)
LOADS = st.one_of(st.floats(0, 1e6), st.just(np.nan))


def test_smooth_equals_the_weighted_mean_written_out() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0])
    kernel = np.array([1.0, 0.5, 0.25])
    expected = [1.0, np.nan, (3 + 0.25 * 1) / 1.25, (5 + 0.5 * 3) / 1.5]
    assert np.allclose(smooth(values, kernel), expected, equal_nan=True)


def test_last_value_is_its_own_mean() -> None:
    values = np.array([2.0, np.nan, 7.0])
    assert np.array_equal(smooth(values, LAST_VALUE.kernel(300)), values, equal_nan=True)


def test_ewma_halves_its_weights_in_its_half_life() -> None:
    ewma = next(one for one in CANDIDATES if one.name == "ewma")
    kernel = ewma.kernel(300)
    steps = round(ewma.half_life_seconds / 300)
    assert kernel[steps] == pytest.approx(kernel[0] / 2)


def test_curve_that_is_the_load_is_followed() -> None:
    load = 5 + 4 * np.sin(np.arange(600) / 20)
    pulls = learn_pulls(load, load, HORIZONS)
    assert np.allclose(pulls.follow, 1.0, atol=0.02)


def test_curve_that_knows_nothing_is_not_followed() -> None:
    random = np.random.default_rng(7)
    load = 10 + np.cumsum(random.normal(size=3000)) * 0.05
    curve = 10 + random.normal(size=3000) * 2
    pulls = learn_pulls(load, curve, HORIZONS)
    assert (pulls.follow < 0.05).all() and (pulls.revert < 0.05).all()


def test_offset_that_fades_is_reverted_as_fast_as_it_fades() -> None:
    random = np.random.default_rng(3)
    offset = np.zeros(6000)
    for step in range(1, offset.size):
        offset[step] = 0.8 * offset[step - 1] + random.normal()
    curve = np.full(offset.size, 20.0)
    pulls = learn_pulls(curve + offset, curve, HORIZONS)
    assert np.allclose(pulls.revert, 1 - 0.8 ** np.array(HORIZONS), atol=0.06)


@settings(max_examples=60)
@given(arrays(np.float64, 40, elements=LOADS), arrays(np.float64, 40, elements=st.floats(-1e6, 1e6)))
def test_shares_are_always_shares(load: np.ndarray, curve: np.ndarray) -> None:
    pulls = learn_pulls(load, curve, HORIZONS)
    for shares in (pulls.follow, pulls.revert):
        assert ((shares >= 0) & (shares <= 1)).all()


def test_forecast_is_never_negative() -> None:
    assert pull(np.array([1.0]), np.array([5.0]), np.array([0.0]), np.array([1.0]), np.array([0.0]))[0] == 0.0
