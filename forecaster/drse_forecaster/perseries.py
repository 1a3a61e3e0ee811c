"""State of many series in one set of arrays.

Learning goes through time step by step, and a step costs much the same for one series as for a hundred. So
what is learned is kept in arrays whose first axis is the series, and jobs that come and go are rows that are
joined and taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

State = TypeVar("State")


def take(state: State, rows: NDArray[np.intp]) -> State:
    """Return a copy of a dataclass of arrays, tuples and further dataclasses with only these series."""
    found: State = _take(state, rows)
    return found


def _take(value: Any, rows: NDArray[np.intp]) -> Any:
    if isinstance(value, np.ndarray):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(_take(one, rows) for one in value)
    return dataclasses.replace(
        value, **{field.name: _take(getattr(value, field.name), rows) for field in dataclasses.fields(value)}
    )


def join(states: Sequence[State]) -> State:
    """Return the states of several groups of series as one, in order."""
    found: State = _join(list(states))
    return found


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, tuple):
        return tuple(_join(list(each)) for each in zip(*values, strict=True))
    return dataclasses.replace(
        first,
        **{
            field.name: _join([getattr(value, field.name) for value in values])
            for field in dataclasses.fields(first)
        },
    )
