"""Who may speak for a job.

The problem: on most series nothing beats the last value ten minutes ahead, on a few a model does so
clearly, and a gate that follows every small difference loses what it should save. The approach: candidates
are scored by what their two numbers are used for, half by the error of the median and half by the pinball
loss of the upper bound, each relative to the last value. The last value speaks until another scores clearly
better; after that the incumbent stays until another is better by a margin, or until it has become worse
than the last value.

Neighbours: `backtest` makes the assessments, `rounds` remembers the incumbent.
"""

from __future__ import annotations

from collections.abc import Sequence

from drse_forecaster.backtest import Assessment
from drse_forecaster.correction import LAST_VALUE

#: A challenger must score this much below the incumbent; 1 is the last value's score.
HYSTERESIS = 0.03

#: A better bound does not excuse a median that is clearly worse than the last value.
MAX_SKILL = 1.02


def choose(assessments: Sequence[Assessment], incumbent: str | None) -> Assessment:
    """Return the assessment of the candidate that speaks.

    `assessments` must hold the last value's. An incumbent that was not assessed (its model could not be
    fitted) or that scores worse than the last value has lost its place.
    """
    by_name = {one.candidate.name: one for one in assessments}
    last_value = by_name[LAST_VALUE.name]
    holder = by_name.get(incumbent or LAST_VALUE.name, last_value)
    if score(holder) > 1.0:
        holder = last_value
    best = min(assessments, key=score)
    return best if score(best) < score(holder) - HYSTERESIS else holder


def score(assessment: Assessment) -> float:
    """Return the loss relative to the last value's: 1 for itself, infinite for what may not speak."""
    if assessment.candidate == LAST_VALUE:
        return 1.0
    if assessment.skill is None or assessment.pinball is None or assessment.skill > MAX_SKILL:
        return float("inf")
    return (assessment.skill + assessment.pinball) / 2
