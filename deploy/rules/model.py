"""What a rule is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: Stands in an expression for the number that an administrator may set.
THRESHOLD = "THRESHOLD"

OWNER: Mapping[str, str] = {"namespace": "{{ $labels.deepseekjob_namespace }}"}
JOB = "{{ $labels.deepseekjob_namespace }}/{{ $labels.deepseekjob }}"


class Severity(StrEnum):
    """Who has to look, and when."""

    CRITICAL = "critical"  #: somebody, now
    WARNING = "warning"  #: somebody, today
    INFO = "info"  #: the owner, when they like


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that dashboards and alerts ask for often. ``record`` is level:metric:operation."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    ``for_`` is how long it holds before it fires. ``threshold`` fills THRESHOLD in ``expr``, in the unit that
    ``unit`` names. ``board`` is the uid of the dashboard that shows it. ``labels`` route it: an owner's alert
    carries ``namespace``, a queue's ``queue``.
    """

    name: str
    expr: str
    for_: str
    severity: Severity
    summary: str
    description: str
    board: str
    threshold: float | None = None
    unit: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """Name of its page under docs/runbooks."""
        return self.name.lower()

    def __post_init__(self) -> None:
        if (THRESHOLD in self.expr) != (self.threshold is not None):
            raise ValueError(f"{self.name}: {THRESHOLD} stands in the expression exactly when there is one")
