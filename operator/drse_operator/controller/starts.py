"""When jobs will start: told to the first of each queue, and compared with when they did.

A forward run of the planner on the snapshot of the last pass, in a thread of its own, so that no pass waits
for it. What is told is corrected by how earlier jobs of the queue fared (``admission.eta``), and is rounded:
a status is not written again because the expected start has moved by a few seconds.

What is told stands until it is off by more than a tenth of the wait and a minute. Then it is told anew, with
what has changed since it was told (``admission.moves``). For that the outlooks are kept that something told
still rests on; they are large, so of more than a few the oldest are given up for the newest.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from drse_operator.admission.decisions import Eta, FirstTold, Moved, Plan, Told, Wait
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES
from drse_operator.admission.eta import Calibration
from drse_operator.admission.moves import UNKNOWN, Cause, cause, changes, is_off
from drse_operator.admission.outlook import STEPS, Outlook, look_ahead
from drse_operator.admission.planner import Planner
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster import tags
from drse_operator.observe.metrics import Metrics
from drse_operator.workloads.observed import Job

log = logging.getLogger(__name__)

#: Jobs of each queue that are told.
_FIRST = 20
#: Seconds between two forward runs; one that takes long makes the next come later, and look less far ahead.
_PERIOD = 5.0
_SHARE = 0.05
_LONG = 1.0
_FEWEST_STEPS = 50
#: Outlooks that are kept.
_OUTLOOKS = 8
#: (longest wait, grain) in seconds.
_GRAINS = ((1800.0, 60.0), (4 * 3600.0, 300.0), (24 * 3600.0, 900.0), (math.inf, 3600.0))


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a job was told, from which outlook; None where a former leader told it."""

    told: Told
    outlook: Outlook | None


@dataclass(frozen=True, slots=True)
class _News:
    """A start that is to be told, instead of what stood so far."""

    uid: str
    queue: str
    expected: float
    eta: Eta
    former: _Standing | None


class Starts:
    """Tells starts and learns from them. Times are seconds since the epoch.

    ``planner`` makes the plans; ``durations`` gives the estimates of a snapshot where they have been made
    before; ``told`` is what jobs have been told by a former leader, by uid.
    """

    def __init__(
        self,
        statuses: Mapping[str, GPUQueueStatus],
        planner: Planner,
        metrics: Metrics,
        durations: Callable[[Snapshot], Durations | None] = lambda _: None,
        told: Mapping[str, Told] | None = None,
    ) -> None:
        self.calibrations = {name: tags.calibration(status) for name, status in statuses.items()}
        self._planner = planner
        self._metrics = metrics
        self._of = durations
        self._last: tuple[Snapshot, float] | None = None
        self._standing = {uid: _Standing(one, None) for uid, one in (told or {}).items()}
        #: What is told now: less than what stands when a run has not reached somebody.
        self._now = dict(told or {})
        #: Who has started since the last look.
        self._started: set[str] = set()
        self._steps = STEPS

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """A pass was made: who starts is compared with what was told."""
        now = plan.memory.clock_at or 0.0
        self._last = snapshot, now
        for assign in plan.assign:
            self._started.add(assign.uid)
            self._now.pop(assign.uid, None)
            standing, job = self._standing.pop(assign.uid, None), snapshot.by_uid.get(assign.uid)
            if standing is not None and job is not None:
                first = standing.told.first
                self._calibration(job.queue).learn(first.at, first.expected, first.eta, now)
                self._metrics.eta_error.labels(job.queue).observe(now - first.eta.p50)

    def tell(self, waits: Iterable[Wait]) -> tuple[Wait, ...]:
        """The waits with what is known of their ends. What was told before somebody had to do something, a
        cordon to be lifted say, no longer holds."""
        return tuple(
            replace(w, told=told) if w.reason.has_start and (told := self._now.get(w.uid)) else w
            for w in waits
        )

    @property
    def coverage(self) -> float | None:
        """Share of all jobs judged that started by their p90; None before there was any."""
        judged = sum(c.told for c in self.calibrations.values())
        return sum(c.kept for c in self.calibrations.values()) / judged if judged else None

    @property
    def judged(self) -> int:
        """Jobs that were told and have started."""
        return sum(c.told for c in self.calibrations.values())

    @property
    def outlooks(self) -> int:
        """How many outlooks are kept."""
        return len({s.outlook.at for s in self._standing.values() if s.outlook is not None})

    # -- looking ahead ---------------------------------------------------------------------------------

    async def run(self, changed: Callable[[], None]) -> None:
        """Look ahead until cancelled; ``changed`` is called when there is something new to tell."""
        pause = _PERIOD / 3
        while True:
            await asyncio.sleep(pause)
            if self._last is None:
                continue
            began = time.monotonic()
            try:
                told = await self._look()
            except Exception:
                log.exception("the forward run failed; it is made again")
                told = False
            took = time.monotonic() - began
            self._steps = _adapted(self._steps, took)
            pause = max(_PERIOD, took / _SHARE)
            if told:
                changed()

    async def _look(self) -> bool:
        assert self._last is not None
        snapshot, now = self._last
        self._started.clear()
        asked = tuple(wait.uid for wait in self._planner.first(_FIRST))
        past = self._planner.memory()
        snapshot = replace(
            snapshot, ended=(), flows=past.flows, virtual_time=past.virtual_time, clock_at=past.clock_at
        )
        queues = {job.uid: job.queue for job in snapshot.jobs}
        outlook = Outlook(now)
        if asked:
            durations = self._of(snapshot)
            outlook = await asyncio.to_thread(
                look_ahead, snapshot, now, asked, DEFAULT_RULES, durations, self._steps
            )
        outlook = self.corrected(outlook)
        news = self.news(outlook, asked, queues)
        causes = await asyncio.to_thread(causes_of, news, outlook, queues)
        return self.take_news(news, causes, outlook, asked, queues)

    def corrected(self, outlook: Outlook) -> Outlook:
        """The outlook with what its waits are told with."""
        return replace(
            outlook, corrections={name: self._calibration(name).correction for name in outlook.queues}
        )

    def news(self, outlook: Outlook, asked: Iterable[str], queues: Mapping[str, str]) -> tuple[_News, ...]:
        """What is to be told anew to the jobs ``asked``; ``queues`` has the queue of each job, by uid."""
        found = []
        for uid in asked:
            turn, former = outlook.turns.get(uid), self._standing.get(uid)
            if turn is None:
                continue
            eta = self._calibration(queues[uid]).eta(turn.start, outlook.at)
            if former is None or not _stands(former.told.eta, eta, outlook.at):
                found.append(_News(uid, queues[uid], turn.start, _rounded(eta, outlook.at), former))
        return tuple(found)

    def take_news(
        self,
        news: Iterable[_News],
        causes: Mapping[str, Cause],
        outlook: Outlook,
        asked: Collection[str],
        alive: Collection[str],
    ) -> bool:
        """Tell the news, and go on telling what stands; True when anything that is told has changed."""
        for one in news:
            if one.uid not in self._started:
                self._standing[one.uid] = _Standing(self._told(one, causes, outlook.at), outlook)
        for uid in [uid for uid in self._standing if uid not in alive]:
            del self._standing[uid]
        before, self._now = (
            self._now,
            {
                uid: self._standing[uid].told
                for uid in asked
                if uid in outlook.turns and uid in self._standing
            },
        )
        self._give_up_outlooks(outlook)
        return self._now != before

    def _told(self, news: _News, causes: Mapping[str, Cause], now: float) -> Told:
        if news.former is None:
            return Told(news.eta, FirstTold(now, news.expected, news.eta))
        was = news.former.told
        if news.eta.p90 > was.eta.p90 and is_off(was.eta.p90, news.eta.p90, now):
            self._metrics.eta_slips.labels(news.queue).inc()
        moved = was.moved
        if is_off(was.eta.p50, news.eta.p50, now):
            why = causes.get(news.uid, UNKNOWN)
            moved = Moved(now, was.eta, why.reason, why.message, why.mentions)
        return Told(news.eta, was.first, moved)

    def _give_up_outlooks(self, newest: Outlook) -> None:
        """What rests on an old outlook has stood until now, so the newest does as well from here on."""
        kept = sorted({s.outlook.at for s in self._standing.values() if s.outlook is not None})[-_OUTLOOKS:]
        for uid, standing in self._standing.items():
            if uid in newest.turns and (standing.outlook is None or standing.outlook.at < kept[0]):
                self._standing[uid] = replace(standing, outlook=newest)

    def _calibration(self, queue: str) -> Calibration:
        return self.calibrations.setdefault(queue, Calibration())


def told_to(jobs: Iterable[Job]) -> dict[str, Told]:
    """What jobs have been told of their starts, by uid, as their statuses say."""
    waiting = ((job.uid, job.status.queue) for job in jobs)
    return {uid: told for uid, queue in waiting if queue is not None and (told := tags.told_start(queue.eta))}


def causes_of(news: Iterable[_News], outlook: Outlook, alive: Collection[str]) -> dict[str, Cause]:
    """Why the starts that were told before have moved, by uid."""
    moved: dict[float, tuple[Outlook, list[str]]] = {}
    for one in news:
        if one.former is not None and (before := one.former.outlook) is not None:
            moved.setdefault(before.at, (before, []))[1].append(one.uid)
    found: dict[str, Cause] = {}
    for before, uids in moved.values():
        differences = changes(before, outlook, alive)
        found |= {uid: cause(uid, differences) for uid in uids}
    return found


def _adapted(steps: int, took: float) -> int:
    """Steps of the next run: fewer after one that took long, more after one that did not."""
    wanted = steps // 2 if took > _LONG else steps * 2 if took < _LONG / 4 else steps
    return min(max(wanted, _FEWEST_STEPS), STEPS)


def _stands(told: Eta, eta: Eta, now: float) -> bool:
    """Whether what was told is still near enough."""
    return all(
        old > now and not is_off(old, new, now) for old, new in ((told.p50, eta.p50), (told.p90, eta.p90))
    )


def _rounded(eta: Eta, now: float) -> Eta:
    """On the grain that suits the wait; the later bound never becomes earlier."""
    p50 = round(eta.p50 / _grain(eta.p50 - now)) * _grain(eta.p50 - now)
    p90 = math.ceil(eta.p90 / _grain(eta.p90 - now)) * _grain(eta.p90 - now)
    return Eta(p50, max(p50, p90))


def _grain(wait: float) -> float:
    return next(grain for longest, grain in _GRAINS if wait <= longest)
