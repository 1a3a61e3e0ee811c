"""Times on the wire are RFC 3339 in UTC; inside DRSE they are seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def to_wire(epoch: float) -> str:
    """RFC 3339 with whole seconds, as Kubernetes writes times."""
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_wire_exact(epoch: float) -> str:
    """RFC 3339 with microseconds, for times that are compared with each other.

    A time rounded to microseconds comes back from :func:`from_wire` as exactly the same number.
    """
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_wire(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def from_wire_or(text: str | None, default: float) -> float:
    """As :func:`from_wire`, with a value for a time that is not set."""
    return default if text is None else from_wire(text)
