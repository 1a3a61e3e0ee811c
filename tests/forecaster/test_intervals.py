"""Conformal bounds hold what they promise on exchangeable errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_forecaster.intervals import MIN_ERRORS, last_value_margins, upper_margin, upper_margins


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


def test_margins_of_many_rows_equal_those_of_each() -> None:
    errors = np.random.default_rng(4).normal(size=(5, 40))
    errors[1, 3:38] = np.nan
    errors[2, ::3] = np.nan
    assert np.array_equal(upper_margins(errors), [upper_margin(row) for row in errors], equal_nan=True)


def test_last_values_margins_grow_where_nothing_is_known() -> None:
    values = np.cumsum(np.r_[np.zeros(1), np.ones(13)])
    one, two, six = last_value_margins(values, (1, 2, 6))
    assert (one, two) == (1.0, 2.0)
    assert six == pytest.approx(2.0 * math.sqrt(3)), "eight errors are too few at six steps"


def test_last_value_margin_is_not_a_guess_when_nothing_is_known() -> None:
    assert np.isnan(last_value_margins(np.full(50, np.nan), (1, 2))).all()
