"""Which status changes are worth a write now, and which may wait for the next one.

What a decision rests on is written at once. What only informs (a position that moved up, a load that
changed a little) is written when something else is, or after a while, and at a bounded rate in all: 10,000
waiting jobs must not be rewritten each time the first of them starts.
"""

from __future__ import annotations

import math

from drse_operator.admission.decisions import Wait
from drse_operator.api.status import DeepSeekJobStatus, QueueStatus
from drse_operator.cluster import tags

#: Seconds between writes of a status in which nothing but detail changed.
_BOUND_DELAY = 15.0
_SCALING_DELAY = 60.0
_NEAR_DELAY = 10.0
_FAR_DELAY = 120.0
_REASON_DELAY = 5.0
#: Positions up to this one count as near the front of the queue.
_NEAR = 20
#: Behind them, a position is told anew when it has changed by this part of what was told.
_FAR_CHANGE = 0.25
#: Writes a second of those that only tell how a wait goes on, and how many of them may come at once.
_TOLD_RATE = 10.0
_TOLD_BURST = 50.0


class Pace:
    """Remembers when each job's status was last written. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._told = (0.0, _TOLD_BURST)

    def written(self, uid: str, now: float) -> None:
        """The status of a job is being written."""
        self._last[uid] = now

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._last.pop(uid, None)

    def due(self, old: DeepSeekJobStatus, new: DeepSeekJobStatus, uid: str, now: float) -> float:
        """When the change must be written at the latest; ``now`` or before means at once.

        Infinite when it is worth no look of its own: a place far behind that has moved a little.
        """
        if old == new:
            return now
        delay = _delay(old, new)
        return now if delay == 0 else self._since(uid, now) + delay

    def told_from(self, uid: str, old: QueueStatus, new: Wait, now: float) -> float:
        """From when on it may be written how a wait goes on, being all there is to write; infinite when
        there is nothing of note."""
        return self._since(uid, now) + _wait_delay(old, new)

    def _since(self, uid: str, now: float) -> float:
        """When the job's status was written; long ago when that is still to come, as after a clock was set
        back."""
        last = self._last.get(uid, 0.0)
        return last if last <= now else 0.0

    def may_tell(self, now: float) -> bool:
        """Whether the rate of such writes allows one more now, which is then taken to be made."""
        at, tokens = self._told
        tokens = min(_TOLD_BURST, tokens + max(0.0, now - at) * _TOLD_RATE)
        self._told = (now, tokens - 1 if tokens >= 1 else tokens)
        return tokens >= 1


def _wait_delay(old: QueueStatus, new: Wait) -> float:
    """Seconds between two writes about a wait, by what is new; infinite when that is nothing of note."""
    if old.reason != new.reason:
        return _REASON_DELAY
    if tags.eta(new.told) != old.eta:
        return _NEAR_DELAY
    if old.position == new.position:
        return _FAR_DELAY if old.message != new.message else math.inf
    if old.position is None or new.position is None or new.position <= _NEAR:
        return _NEAR_DELAY
    return _FAR_DELAY if abs(new.position - old.position) >= _FAR_CHANGE * old.position else math.inf


def _delay(old: DeepSeekJobStatus, new: DeepSeekJobStatus) -> float:
    if _essence(old) != _essence(new):
        return 0
    delays = []
    if _places(old) != _places(new):
        return 0
    if old.assignments != new.assignments:
        # Whether a worker of a gang was bound decides what its loss means; alone it only informs.
        gang = any(a.worker > 0 for a in new.assignments)
        delays.append(0 if gang else _BOUND_DELAY)
    if old.scaling != new.scaling:
        delays.append(_scaling_delay(old, new))
    if old.queue != new.queue:
        delays.append(_queue_delay(old, new))
    return min(delays, default=_BOUND_DELAY)


def _essence(status: DeepSeekJobStatus) -> object:
    """What is never delayed."""
    return (
        status.phase,
        status.observed_generation,
        status.ready,
        status.failures,
        status.retry_at,
        status.succeeded_replicas,
        status.completion_time,
        tuple((c.type, c.status) for c in status.conditions),
        status.queue is None,
    )


def _places(status: DeepSeekJobStatus) -> object:
    return tuple((a.replica, a.worker, a.node, a.devices) for a in status.assignments)


def _scaling_delay(old: DeepSeekJobStatus, new: DeepSeekJobStatus) -> float:
    before, after = old.scaling, new.scaling
    if before is None or after is None:
        return 0
    same = (before.desired_replicas, before.from_replicas, before.reason, before.low_since is None) == (
        after.desired_replicas,
        after.from_replicas,
        after.reason,
        after.low_since is None,
    )
    return _SCALING_DELAY if same else 0


def _queue_delay(old: DeepSeekJobStatus, new: DeepSeekJobStatus) -> float:
    before, after = old.queue, new.queue
    if before is None or after is None:
        return 0
    if before.reason != after.reason:
        return _REASON_DELAY
    position = after.position or _NEAR + 1
    return _NEAR_DELAY if position <= _NEAR else math.inf
