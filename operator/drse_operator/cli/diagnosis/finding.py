"""What a check finds, and what it may look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from drse_operator.cli.connect import Session
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.scene import Scene
from drse_operator.outside.prometheus import PrometheusSettings


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: Not looked at: not asked for, or not allowed.
    SKIP = "skip"


class Finding(Row):
    """One check."""

    check: str
    state: State
    says: str
    do: str = Field(default="", description="What to do about it.")


def finding(check: str, state: State, says: str, do: str = "") -> Finding:
    """A finding in one line."""
    return Finding(check=check, state=state, says=says, do=do)


@dataclass(frozen=True, slots=True)
class Case:
    """What the checks look at. ``lease`` is the name of the operator's Lease in ``drse_namespace``."""

    session: Session
    scene: Scene
    drse_namespace: str
    lease: str
    forecaster: str | None
    prometheus: PrometheusSettings | None
