"""What reconciling a job yields beside its status: orders to carry out after it is written, and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drse_operator.api.reasons import EventReason

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
