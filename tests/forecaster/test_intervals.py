"""Conformal bounds hold what they promise on exchangeable errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_forecaster.intervals import MIN_ERRORS, conformal_pinball, rolling_coverage, upper_margin


def test_margin_is_the_order_statistic_of_the_paper() -> None:
    errors = np.arange(1.0, 20.0)  # n = 19: ceil(20 * 0.9) = 18th smallest
    assert upper_margin(errors) == 18.0
    assert upper_margin(np.append(errors, [np.nan] * 5)) == 18.0


def test_no_margin_from_fewer_errors_than_it_takes() -> None:
    assert MIN_ERRORS == 9
    assert np.isnan(upper_margin(np.ones(8)))
    assert upper_margin(np.arange(9.0)) == 8.0


def test_margin_is_not_negative() -> None:
    assert upper_margin(np.full(50, -3.0)) == 0.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=60))
def test_margin_covers_its_share_of_the_errors_it_came_from(errors: list[float]) -> None:
    array = np.array(errors)
    promised = min(math.ceil((array.size + 1) * 0.9 - 1e-9), array.size)
    assert (array <= upper_margin(array)).sum() >= promised


def test_coverage_on_exchangeable_errors_is_the_level() -> None:
    errors = np.random.default_rng(1).standard_t(3, size=6000)
    coverage = rolling_coverage(errors, horizon_steps=2, window_steps=576, last=4000)
    assert coverage == pytest.approx(0.9, abs=0.015)


def test_coverage_does_not_know_errors_that_had_not_come() -> None:
    quiet, loud = np.zeros(300), np.full(2, 50.0)
    errors = np.concatenate([quiet, loud])
    # both loud errors were made before the first of them was known, so neither can have been covered
    assert rolling_coverage(errors, horizon_steps=2, window_steps=300, last=40) == pytest.approx(38 / 40)


def test_coverage_of_too_few_is_unknown() -> None:
    assert rolling_coverage(np.zeros(35), horizon_steps=2, window_steps=288, last=288) is None


def test_pinball_of_errors_without_spread_is_zero_or_waste() -> None:
    assert conformal_pinball(np.full(20, 4.0)) == 0.0
    assert conformal_pinball(np.full(20, -4.0)) == pytest.approx(0.4)
