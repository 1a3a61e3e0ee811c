"""When to look at a job again although nothing happens to it: at most one time a job, the earliest."""

from __future__ import annotations

import heapq
import math


class Timers:
    """Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}

    def set(self, uid: str, at: float) -> None:
        """Look at the job at ``at``, unless that is planned for earlier anyway."""
        if at < self._at.get(uid, math.inf):
            self._at[uid] = at
            heapq.heappush(self._heap, (at, uid))

    def wait(self, now: float) -> float:
        """Seconds until the next one; infinite when there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else math.inf

    def due(self, now: float) -> list[str]:
        """Jobs whose time has come."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, uid = heapq.heappop(self._heap)
            if self._at.get(uid) == at:
                del self._at[uid]
                found.append(uid)
        return found
