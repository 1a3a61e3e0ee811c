"""Conditions as Kubernetes keeps them: one a type, the time of the last change of status kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drse_operator.api import times
from drse_operator.api.reasons import ConditionType
from drse_operator.api.status import Condition


@dataclass(frozen=True, slots=True)
class State:
    """Value of a condition; ``value`` None means Unknown."""

    value: bool | None
    reason: str
    message: str = ""


def update(
    conditions: tuple[Condition, ...], states: Mapping[ConditionType, State], generation: int, now: float
) -> tuple[Condition, ...]:
    """The conditions with the given states taken over; those of other types stay as they are."""
    by_type = {condition.type: condition for condition in conditions}
    for kind, state in states.items():
        by_type[kind.value] = _next(by_type.get(kind.value), kind, state, generation, now)
    return tuple(by_type[name] for name in sorted(by_type))


def without(conditions: tuple[Condition, ...], *types: ConditionType) -> tuple[Condition, ...]:
    """The conditions without those of some types."""
    return tuple(c for c in conditions if c.type not in types)


def _next(
    before: Condition | None, kind: ConditionType, state: State, generation: int, now: float
) -> Condition:
    status = "Unknown" if state.value is None else str(state.value)
    changed = before is None or before.status != status
    return Condition(
        type=kind.value,
        status=status,
        reason=state.reason,
        message=state.message,
        last_transition_time=times.to_wire(now) if changed or before is None else before.last_transition_time,
        observed_generation=generation,
    )
