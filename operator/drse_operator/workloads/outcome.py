"""What reconciling one job yields: its new status and the orders to carry out after that is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drse_operator.api.reasons import EventReason
from drse_operator.api.status import DeepSeekJobStatus

#: A Kubernetes document, ready to send.
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object unless one of its name exists."""

    document: Document


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object with this uid."""

    kind: str
    namespace: str
    name: str
    uid: str


Action = Create | Delete


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event on the job; ``warning`` events are never dropped for rate."""

    reason: EventReason
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """``wake_at`` is when time alone will change the outcome (seconds since the epoch)."""

    status: DeepSeekJobStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = field(default=())
    wake_at: float | None = None
