"""When jobs will start: told to the first of each queue, and compared with when they did.

A forward run of the planner on the snapshot of the last pass, in a thread of its own, so that no pass waits
for it. What is told is corrected by how earlier jobs of the queue fared (``admission.eta``), and is rounded:
a status is not written again because the expected start has moved by a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from drse_operator.admission.decisions import Eta, Plan, Wait
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES
from drse_operator.admission.eta import Calibration, forward
from drse_operator.admission.planner import Planner
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import tags

log = logging.getLogger(__name__)

#: Jobs of each queue that are told.
_FIRST = 20
#: Seconds between two forward runs; one that takes long makes the next come later, and look less far ahead.
_PERIOD = 15.0
_SHARE = 0.05
_LONG = 1.0
_STEPS = (50, 2000)
#: A told start stays as it is while it is off by no more than this part of the wait, or by this many seconds.
_SLACK = 0.1
_SLACK_SECONDS = 60.0
#: (longest wait, grain) in seconds.
_GRAINS = ((1800.0, 60.0), (4 * 3600.0, 300.0), (24 * 3600.0, 900.0), (math.inf, 3600.0))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a job was told first, and when: this is what it is judged by."""

    queue: str
    at: float
    start: float
    eta: Eta


class Starts:
    """Tells starts and learns from them. Times are seconds since the epoch.

    ``durations`` gives the estimates of a snapshot where they have been made before; ``planner`` is the one
    that makes the plans.
    """

    def __init__(
        self,
        statuses: Mapping[str, GPUQueueStatus],
        planner: Planner,
        durations: Callable[[Snapshot], Durations | None] = lambda _: None,
    ) -> None:
        self._planner = planner
        self.calibrations = {name: tags.calibration(status) for name, status in statuses.items()}
        self._of = durations
        self._last: tuple[Snapshot, float] | None = None
        self._first: dict[str, _Told] = {}
        self._now: dict[str, Eta] = {}
        self._steps = _STEPS[1]

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """A pass was made: who starts is compared with what was told."""
        now = plan.memory.clock_at or 0.0
        self._last = snapshot, now
        for assign in plan.assign:
            told = self._first.pop(assign.uid, None)
            self._now.pop(assign.uid, None)
            if told is not None:
                self._calibration(told.queue).learn(told.at, told.start, told.eta, now)

    def tell(self, waits: Iterable[Wait]) -> tuple[Wait, ...]:
        """The waits with what is known of their ends."""
        return tuple(replace(w, eta=eta) if (eta := self._now.get(w.uid)) else w for w in waits)

    @property
    def coverage(self) -> float | None:
        """Share of all jobs judged that started by their p90; None before there was any."""
        judged = sum(c.told for c in self.calibrations.values())
        return sum(c.kept for c in self.calibrations.values()) / judged if judged else None

    @property
    def judged(self) -> int:
        """Jobs that were told and have started."""
        return sum(c.told for c in self.calibrations.values())

    async def run(self, changed: Callable[[], None]) -> None:
        """Look ahead until cancelled; ``changed`` is called when there is something new to tell."""
        pause = _PERIOD / 3
        while True:
            await asyncio.sleep(pause)
            if self._last is None:
                continue
            snapshot, now = self._last
            queues = {job.uid: job.queue for job in snapshot.jobs}
            asked = tuple(wait.uid for wait in self._planner.first(_FIRST))
            past = self._planner.memory()
            snapshot = replace(
                snapshot, ended=(), flows=past.flows, virtual_time=past.virtual_time, clock_at=past.clock_at
            )
            began = time.monotonic()
            try:
                starts = await self._look_ahead(snapshot, now, asked) if asked else {}
            except Exception:
                log.exception("the forward run failed; it is made again")
                starts = {}
            took = time.monotonic() - began
            self._steps = _adapted(self._steps, took)
            pause = max(_PERIOD, took / _SHARE)
            if self.take_starts(starts, {uid: queues[uid] for uid in asked}, now):
                changed()

    def take_starts(self, starts: Mapping[str, float], queues: Mapping[str, str], now: float) -> bool:
        """Tell new forward starts of the jobs whose queues are given; True when anything told has changed."""
        told: dict[str, Eta] = {}
        for uid, start in starts.items():
            eta = self._calibration(queues[uid]).eta(start, now)
            before = self._now.get(uid)
            told[uid] = before if before is not None and _stands(before, eta, now) else _rounded(eta, now)
            self._first.setdefault(uid, _Told(queues[uid], now, start, told[uid]))
        changed = told != self._now
        self._now = told
        alive = {*queues, *(() if self._last is None else (j.uid for j in self._last[0].jobs))}
        for uid in [uid for uid in self._first if uid not in alive]:
            del self._first[uid]
        return changed

    async def _look_ahead(self, snapshot: Snapshot, now: float, asked: tuple[str, ...]) -> dict[str, float]:
        durations = self._of(snapshot)
        return await asyncio.to_thread(forward, snapshot, now, asked, DEFAULT_RULES, durations, self._steps)

    def _calibration(self, queue: str) -> Calibration:
        return self.calibrations.setdefault(queue, Calibration())


def _adapted(steps: int, took: float) -> int:
    """Steps of the next run: fewer after one that took long, more after one that did not."""
    wanted = steps // 2 if took > _LONG else steps * 2 if took < _LONG / 4 else steps
    return min(max(wanted, _STEPS[0]), _STEPS[1])


def _stands(told: Eta, eta: Eta, now: float) -> bool:
    """Whether what was told is still near enough."""
    for old, new in ((told.p50, eta.p50), (told.p90, eta.p90)):
        if old <= now or abs(old - new) > max(_SLACK_SECONDS, _SLACK * (new - now)):
            return False
    return True


def _rounded(eta: Eta, now: float) -> Eta:
    """On the grain that suits the wait; the later bound never becomes earlier."""
    p50 = round(eta.p50 / _grain(eta.p50 - now)) * _grain(eta.p50 - now)
    p90 = math.ceil(eta.p90 / _grain(eta.p90 - now)) * _grain(eta.p90 - now)
    return Eta(p50, max(p50, p90))


def _grain(wait: float) -> float:
    return next(grain for longest, grain in _GRAINS if wait <= longest)
