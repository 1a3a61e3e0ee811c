"""Policies that keep one list: who is first in it, and what may happen while the first has no room.

``Strict`` lets nobody pass. ``Reserve`` is EASY backfilling (Lifka 1995; Slurm's ``sched/backfill`` keeps the
same promise for the first job): the first gets a reservation, others pass if they are expected to end before
it or use what it leaves. ``Skip`` starts whoever fits, as Kueue's BestEffortFIFO and kube-scheduler do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from sortedcontainers import SortedList

from drse_operator.admission.asks import Ask, AskTable
from drse_operator.admission.pools import Pool, kind_id
from drse_operator.admission.reservation import Reservation, reserve, spare
from drse_operator.admission.snapshot import Node
from drse_operator.admission.units import could_hold
from drse_operator.simulator.cluster import Sizer
from drse_operator.simulator.trace import TraceJob
from drse_operator.sizing.shapes import Shape

_EVER = float("inf")


class Passing(StrEnum):
    """What may happen while the first has no room."""

    STRICT = "strict"
    RESERVE = "reserve"
    SKIP = "skip"


@dataclass(slots=True)
class _Running:
    pool: Pool
    shape: Shape
    names: list[str]
    since: float
    length: float
    end: float
    serial: int


def _octave(length: float) -> int:
    return math.floor(math.log2(max(length, 1e-3)))


Order = tuple[float, ...]
_Entry = tuple[Order, str]


class Listed:
    """One list in the order that ``rank`` gives."""

    def __init__(
        self, nodes: Sequence[Node], rank: Callable[[TraceJob, float], Order], passing: Passing
    ) -> None:
        self.stopped: Sequence[str] = ()
        self._pools: dict[tuple[str, str, int], Pool] = {}
        for node in nodes:
            self._pools.setdefault(kind_id(node.kind), Pool(node.kind)).put(node)
        self._sizer = Sizer(nodes)
        self._asks = AskTable()
        self._rank = rank
        self._passing = passing
        self._guess = 3600.0
        self._seen = 0
        self._serial = count()
        self._jobs: dict[str, tuple[TraceJob, Ask, float]] = {}
        #: Who waits, by ask and by length in powers of two: who is short enough is found without a search.
        self._waiting: dict[int, dict[int, SortedList[_Entry]]] = {}
        self._running: dict[str, _Running] = {}
        self._ends: list[tuple[float, int, str]] = []

    def beside(self) -> Listed:
        """Another list over the same GPUs."""
        other = Listed((), self._rank, self._passing)
        other._pools, other._sizer, other._asks = self._pools, self._sizer, self._asks
        return other

    def start_one(self, now: float) -> str | None:
        """Start the first that fits; its uid."""
        failed: set[tuple[int, bool]] = set()
        while (entry := self._next(now, None, failed)) is not None:
            _, ask, length = self._jobs[entry[1]]
            if self._start(entry[1], ask, length, now, None):
                return entry[1]
            failed.add((ask.number, True))
        return None

    def arrive(self, job: TraceJob, now: float) -> None:
        """A job is submitted. Where its user says nothing, it is taken to run as long as the average job."""
        asked = self._sizer.job(job)
        ask = self._asks.of(asked, 1, asked.shapes)
        if ask.epoch < 0:
            ask.epoch = 0
            pools = [(s, self._pools[kind_id(s.kind)]) for s in ask.shapes]
            ask.options = tuple((s, p) for s, p in pools if could_hold(p, s, 1, ask))
        if not ask.options:
            return
        length = self._guess if job.estimate is None else job.estimate
        self._jobs[job.uid] = (job, ask, length)
        entry = (self._rank(job, length), job.uid)
        self._waiting.setdefault(ask.number, {}).setdefault(_octave(length), SortedList()).add(entry)

    def end(self, uid: str, now: float) -> None:
        """A running job has ended."""
        run = self._running.pop(uid)
        for name in run.names:
            run.pool.unhold(name, run.end, run.serial, run.shape.gpus_per_worker)
            run.pool.give(name, run.shape.gpus_per_worker)
        self._seen += 1
        self._guess += (now - run.since - self._guess) / self._seen
        del self._jobs[uid]

    def expected(self, uid: str) -> float:
        """Seconds that a job is taken to run."""
        return self._jobs[uid][2]

    def decide(self, now: float) -> Sequence[str]:
        """Start whom the policy lets start."""
        self._expect_longer(now)
        started: list[str] = []
        reservation: Reservation | None = None
        failed: set[tuple[int, bool]] = set()
        while (entry := self._next(now, reservation, failed)) is not None:
            uid = entry[1]
            _, ask, length = self._jobs[uid]
            if self._start(uid, ask, length, now, reservation):
                started.append(uid)
            elif self._passing is Passing.STRICT:
                break
            elif self._passing is Passing.RESERVE and reservation is None:
                reservation = self._reserve(uid, ask, now)
                failed.clear()
            else:
                failed.add((ask.number, self._short(length, now, reservation)))
        for pool in self._pools.values():
            pool.set_caps({})
        return started

    def _next(
        self, now: float, reservation: Reservation | None, failed: set[tuple[int, bool]]
    ) -> _Entry | None:
        """The first in the list that has not been found to have no room."""
        best: _Entry | None = None
        for number, by_length in self._waiting.items():
            if (number, True) in failed:
                continue
            longest = _EVER
            if (number, False) in failed and reservation is not None:
                longest = reservation.start - now
            for octave, entries in by_length.items():
                if 2.0**octave <= longest and (best is None or entries[0] < best):
                    found = self._first(entries, longest, reservation)
                    best = found if best is None or (found is not None and found < best) else best
        return best

    def _first(
        self, entries: SortedList[_Entry], longest: float, reservation: Reservation | None
    ) -> _Entry | None:
        reserved = None if reservation is None else reservation.uid
        for entry in entries:
            if entry[1] != reserved and (longest == _EVER or self._jobs[entry[1]][2] <= longest):
                return entry
        return None

    def _short(self, length: float, now: float, reservation: Reservation | None) -> bool:
        """Whether somebody ends before the reservation; failing then means failing in any case."""
        return reservation is None or now + length <= reservation.start

    def _reserve(self, uid: str, ask: Ask, now: float) -> Reservation | None:
        reservation = reserve(uid, ask, now)
        if reservation is not None:
            for pool, holds in reservation.parts:
                caps = {n: spare(pool.slots[n], gpus, reservation.start) for n, gpus in holds.items()}
                pool.set_caps(caps)
        return reservation

    def _start(self, uid: str, ask: Ask, length: float, now: float, reservation: Reservation | None) -> bool:
        short = self._short(length, now, reservation)
        for shape, pool in ask.options:
            pool.show_capped(not short)
            found = pool.find(shape, 1, ask.scope, ask.mode)
            if found is None:
                continue
            serial, end = next(self._serial), now + max(1.0, length)
            for name in found[0]:
                pool.take(name, shape.gpus_per_worker)
                pool.hold(name, end, serial, shape.gpus_per_worker)
                if not short:
                    pool.lower_cap(name, shape.gpus_per_worker)
            self._running[uid] = _Running(pool, shape, found[0], now, length, end, serial)
            heapq.heappush(self._ends, (end, serial, uid))
            by_length = self._waiting[ask.number]
            waiting = by_length[_octave(length)]
            waiting.remove((self._rank(self._jobs[uid][0], length), uid))
            if not waiting:
                del by_length[_octave(length)]
            return True
        return False

    def _expect_longer(self, now: float) -> None:
        """Whoever has outlasted its estimate is taken to run twice as long as thought, and so on."""
        while self._ends and self._ends[0][0] <= now:
            _, serial, uid = heapq.heappop(self._ends)
            run = self._running.get(uid)
            if run is None or run.serial != serial:
                continue
            for name in run.names:
                run.pool.unhold(name, run.end, run.serial, run.shape.gpus_per_worker)
            while run.end <= now:
                run.end = run.since + 2 * max(1.0, run.end - run.since)
            for name in run.names:
                run.pool.hold(name, run.end, run.serial, run.shape.gpus_per_worker)
            heapq.heappush(self._ends, (run.end, serial, uid))
