"""Whose waits a pass looks through although nothing happened to them: queue by queue, in turns.

Places in a queue move up whenever somebody starts. To look at everybody in each pass would make passes slower
the longer queues are, so each queue has its turn every few seconds, less often the more jobs wait in all. And
what there is to tell (``pace``) is written at a bounded rate, whatever its amount: it only informs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from drse_operator.admission.decisions import Pending

#: Seconds between two turns of a queue: at least, and for each job that waits in any queue.
_PERIOD = 2.0
_PER_JOB = 0.001
#: Jobs that are looked at in one pass, unless a single queue has more.
_A_PASS = 250


class Sweep:
    """Takes turns. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._sizes: Counter[str] = Counter()
        self._due: dict[str, float] = {}
        #: Queues that have not been looked through since something changed.
        self._stale: set[str] = set()
        #: When queues are to be looked through again, since something in them may not be told yet.
        self._again: dict[str, float] = {}

    def take(self, pending: Iterable[Pending], changed: bool) -> None:
        """A pass was made; ``changed`` if anything in it may have moved anybody."""
        self._sizes.clear()
        for one in pending:
            self._sizes[one.flow.queue] += one.jobs
        self._due = {name: due for name, due in self._due.items() if name in self._sizes}
        self._again = {name: at for name, at in self._again.items() if name in self._sizes}
        self._stale &= self._sizes.keys()
        if changed:
            self.touch()

    def touch(self) -> None:
        """There may be something to tell in any queue."""
        self._stale.update(self._sizes)

    def again(self, name: str, at: float) -> None:
        """Something in the queue is worth telling, but not before ``at``."""
        self._again[name] = min(at, self._again.get(name, at))

    def wait(self, now: float) -> float:
        """Seconds until a queue has its turn of which there may be something to tell; infinite for none."""
        dues = [self._due.get(name, now) for name in self._stale]
        dues += [max(at, self._due.get(name, now)) for name, at in self._again.items()]
        return max(0.0, min(dues, default=math.inf) - now)

    def next(self, now: float) -> tuple[str, ...]:
        """The queues whose turn it is in the pass at ``now``."""
        period = max(_PERIOD, self._sizes.total() * _PER_JOB)
        ready = sorted((self._due.get(name, 0.0), name) for name in self._sizes)
        chosen: list[str] = []
        jobs = 0
        for due, name in ready:
            # A clock that was set back makes everything due.
            if now < due <= now + period or (chosen and jobs + self._sizes[name] > _A_PASS):
                break
            chosen.append(name)
            jobs += self._sizes[name]
            self._due[name] = now + period
        self._stale.difference_update(chosen)
        for name in chosen:
            if self._again.get(name, math.inf) <= now:
                del self._again[name]
        return tuple(chosen)
