"""Who speaks, and how hard it is to take the floor."""

from __future__ import annotations

import numpy as np
import pytest

from drse_forecaster.backtest import Assessment
from drse_forecaster.correction import LAST_VALUE, Candidate
from drse_forecaster.gate import choose

EWMA = Candidate("ewma", None, 600.0)
PROPHET = Candidate("prophet+ar", "prophet", 0.0)


def _assessed(candidate: Candidate, skill: float | None, pinball: float | None) -> Assessment:
    return Assessment(candidate, skill, pinball, None, np.zeros(1))


def _choose(ewma: float | None, prophet: float | None, incumbent: str | None) -> str:
    field = [
        _assessed(LAST_VALUE, 1.0, 1.0),
        _assessed(EWMA, ewma, ewma),
        _assessed(PROPHET, prophet, prophet),
    ]
    return choose(field, incumbent).candidate.name


@pytest.mark.parametrize(
    ("ewma", "prophet", "incumbent", "speaks"),
    [
        pytest.param(1.2, 0.8, None, "prophet+ar", id="clearly better takes the floor"),
        pytest.param(0.99, 0.98, None, "lastValue", id="slightly better does not"),
        pytest.param(0.99, 0.98, "prophet+ar", "prophet+ar", id="slightly better keeps it"),
        pytest.param(0.80, 0.82, "prophet+ar", "prophet+ar", id="slightly beaten keeps it"),
        pytest.param(0.70, 0.82, "prophet+ar", "ewma", id="clearly beaten loses it"),
        pytest.param(1.2, 1.01, "prophet+ar", "lastValue", id="worse than last value loses it"),
        pytest.param(None, None, "prophet+ar", "lastValue", id="not judged does not speak"),
        pytest.param(1.2, 0.8, "retired", "prophet+ar", id="unknown incumbent is none"),
    ],
)
def test_gate(ewma: float | None, prophet: float | None, incumbent: str | None, speaks: str) -> None:
    assert _choose(ewma, prophet, incumbent) == speaks


def test_better_bound_does_not_excuse_a_worse_median() -> None:
    field = [_assessed(LAST_VALUE, 1.0, 1.0), _assessed(PROPHET, 1.1, 0.5)]
    assert choose(field, None).candidate is LAST_VALUE


def test_better_bound_counts_when_medians_are_alike() -> None:
    field = [_assessed(LAST_VALUE, 1.0, 1.0), _assessed(PROPHET, 1.0, 0.8)]
    assert choose(field, None).candidate is PROPHET


def test_gate_does_not_flip_while_scores_wander_within_the_margin() -> None:
    incumbent, changes = None, 0
    for prophet in np.random.default_rng(5).uniform(0.955, 0.995, size=200):
        speaks = _choose(1.2, float(prophet), incumbent)
        changes += incumbent is not None and speaks != incumbent
        incumbent = speaks
    assert changes <= 1
