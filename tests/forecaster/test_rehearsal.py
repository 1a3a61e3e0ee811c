"""A rehearsal says what the service would have said: from the past alone, and nothing too early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drse_forecaster.recorded import Recorded
from drse_forecaster.rehearsal import rehearse, textbook_prophet
from drse_forecaster.series import FloatArray

STEP = 300
FIRST = 1_700_006_400 // STEP
DAY = 86400 // STEP


def wave(days: float, seed: int = 7) -> FloatArray:
    hours = np.arange(int(days * DAY)) * STEP / 3600
    rng = np.random.default_rng(seed)
    return np.asarray(
        (10 + 6 * np.sin(2 * np.pi * hours / 24)) * np.exp(0.05 * rng.standard_normal(hours.size))
    )


def recorded(values: FloatArray) -> Recorded:
    return Recorded("made", FIRST, STEP, values)


def test_nothing_is_known_before_it_has_come() -> None:
    values = wave(1.0)
    cut = DAY // 2
    other = values.copy()
    other[cut:] *= 3
    one, two = rehearse([recorded(values), recorded(other)])
    assert one[:cut] == two[:cut]
    assert one[cut:] != two[cut:]


def test_a_young_series_has_no_points_and_gaps_have_no_answers() -> None:
    values = wave(0.5)
    values[100:110] = np.nan
    (answers,) = rehearse([recorded(values)])
    at = {round(a.as_of / STEP) - FIRST: a for a in answers}
    assert not at[5400 // STEP - 1].points, "less than 90 minutes"
    assert at[5400 // STEP].points
    assert set(at) == set(range(values.size)) - set(range(100, 110))


def test_series_of_different_lengths_are_as_alone() -> None:
    whole = recorded(wave(0.6))
    late = replace(recorded(wave(0.3, seed=8)), first=FIRST + DAY // 4)
    together, alone = rehearse([whole, late]), [rehearse([whole])[0], rehearse([late])[0]]
    for a, b in zip(together, alone, strict=True):
        assert [x.as_of for x in a] == [x.as_of for x in b]
        high_a, high_b = ([p.p90 for x in said for p in x.points] for said in (a, b))
        assert high_a == pytest.approx(high_b)


def test_the_textbook_says_the_last_value_until_prophet_has_two_days() -> None:
    values = wave(3.0)
    said = textbook_prophet(recorded(values), 600)
    assert np.array_equal(said[: 2 * DAY], values[: 2 * DAY])
    later = said[2 * DAY :]
    assert not np.array_equal(later, values[2 * DAY :])
    assert np.abs(later - (values[2 * DAY :])).mean() < 2.0, "it has learned the day"
