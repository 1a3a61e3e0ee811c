"""The virtual clock behind fair-sojourn order: what equal sharing would have done.

In the virtual system all jobs of a flow run at once and progress at the same speed, at most real time, out of
the flow's weighted share of the cluster's GPUs (generalised processor sharing; shares that a flow cannot use
go to the others). A job that arrives when its flow's clock shows V and needs ``service`` seconds ends
virtually when the clock shows ``V + service``, whoever comes later: so this number orders the flow's jobs
once and for all. Friedman and Henderson, "Fairness and efficiency in web server protocols" (SIGMETRICS 2003)
call the order the fair sojourn protocol; Dell'Amico et al. (HFSP, 2013) brought it to clusters.

A job of many GPUs keeps as many small ones waiting, so mean waits are shortest when GPU-seconds count rather
than seconds (Smith's rule of 1956, weights equal). A job therefore comes as much later as it asks for more
GPUs, but never by more than ``SETBACK``: what equal sharing promises it is put off by at most so much.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

FlowT = TypeVar("FlowT", bound=Hashable)

#: Most that a job comes later for the number of its GPUs, in seconds of its flow's clock.
SETBACK = 24 * 3600.0


@dataclass(slots=True)
class Member:
    """A job in the virtual system. It leaves when its flow's clock shows ``key``."""

    arrived: float
    key: float
    gpus: int
    name: str
    gone: bool = False

    @property
    def turn(self) -> float:
        """What orders the jobs of a flow: the end under equal sharing, later for many GPUs."""
        return self.key + min(max(0, self.gpus - 1) * (self.key - self.arrived), SETBACK)


@dataclass(slots=True)
class Clock:
    """The virtual system of one flow: its clock, who is in it, and how many GPUs they ask for."""

    name: str
    weight: float
    virtual: float = 0.0
    asked: int = 0
    rate: float = 1.0
    heap: list[tuple[float, str, int, Member]] = field(default_factory=list)
    #: Members of ``heap`` whose jobs have ended although equal sharing would still run them.
    ghosts: list[Member] = field(default_factory=list)


class ProcessorSharing(Generic[FlowT]):
    """Virtual clocks of all flows over one cluster of ``gpus`` GPUs. Times are seconds."""

    def __init__(self, gpus: int, now: float) -> None:
        self.now = now
        self.clocks: dict[FlowT, Clock] = {}
        #: (name of the job, real time at which sharing would have ended it), in order; for measuring.
        self.ended: list[tuple[str, float]] | None = None
        self._gpus = gpus
        self._stale = True
        self._active: dict[FlowT, Clock] = {}
        self._serial = count()

    def set_gpus(self, gpus: int) -> None:
        """The cluster now has so many GPUs for these jobs."""
        self._stale |= gpus != self._gpus
        self._gpus = gpus

    def clock(self, flow: FlowT, weight: float) -> Clock:
        """The flow's clock; the weight is taken over."""
        clock = self.clocks.get(flow)
        if clock is None:
            clock = self.clocks[flow] = Clock(str(flow), weight)
        elif clock.weight != weight:
            clock.weight = weight
            self._stale = True
        return clock

    def enter(self, flow: FlowT, weight: float, name: str, gpus: int, service: float) -> Member:
        """A job arrives now; its key is fixed from here on."""
        clock = self.clock(flow, weight)
        member = Member(clock.virtual, clock.virtual + service, gpus, name)
        self.resume(flow, weight, member)
        return member

    def resume(self, flow: FlowT, weight: float, member: Member) -> None:
        """A job whose key is known is in the system, unless the clock has passed its key."""
        clock = self.clock(flow, weight)
        if member.key <= clock.virtual:
            member.gone = True
            if self.ended is not None:
                self.ended.append((member.name, self.now))
            return
        clock.asked += member.gpus
        heapq.heappush(clock.heap, (member.key, member.name, next(self._serial), member))
        self._active[flow] = clock
        self._stale = True

    def correct(self, flow: FlowT, member: Member, service: float) -> Member:
        """The job turned out to need ``service`` seconds: the rest of its estimate is struck out.

        Returns the member that stands for it from now on.
        """
        clock = self.clocks[flow]
        key = member.arrived + service
        if member.gone or key >= member.key:
            return member
        self.leave(flow, member)
        left = Member(member.arrived, key, member.gpus, member.name)
        self.resume(flow, clock.weight, left)
        return left

    def leave(self, flow: FlowT, member: Member) -> None:
        """The job asks for nothing any more, e.g. because it was deleted."""
        if member.gone:
            return
        member.gone = True
        clock = self.clocks[flow]
        clock.asked -= member.gpus
        if not clock.asked:
            self._active.pop(flow, None)
        self._stale = True

    def haunt(self, flow: FlowT, member: Member) -> None:
        """The job has ended; equal sharing goes on with it until its clock has come to its key."""
        if not member.gone:
            self.clocks[flow].ghosts.append(member)

    def resize(self, flow: FlowT, member: Member, gpus: int) -> None:
        """The job asks for another number of GPUs."""
        if gpus != member.gpus and not member.gone:
            self.clocks[flow].asked += gpus - member.gpus
            self._stale = True
        member.gpus = gpus

    def ghosts(self, flow: FlowT) -> list[tuple[float, int]]:
        """(key, GPUs) of the flow's jobs that have ended, but not yet under equal sharing; ascending."""
        clock = self.clocks[flow]
        clock.ghosts = [member for member in clock.ghosts if not member.gone]
        return sorted((member.key, member.gpus) for member in clock.ghosts)

    def rate(self, flow: FlowT) -> float:
        """How fast the flow's clock runs now; 0 while nobody is in its system."""
        if self._stale:
            self._share()
        clock = self.clocks[flow]
        return clock.rate if clock.asked else 0.0

    def advance(self, now: float) -> None:
        """Let the clocks run until ``now``; going back in time does nothing."""
        while self.now < now:
            if self._stale:
                self._share()
            if not self._active:
                self.now = now
                return
            step = now - self.now
            for clock in self._active.values():
                heap = clock.heap
                while heap and heap[0][-1].gone:
                    heapq.heappop(heap)
                if heap:
                    step = min(step, max(0.0, (heap[0][0] - clock.virtual) / clock.rate))
            self._run(step, now)

    def _run(self, step: float, now: float) -> None:
        """Let ``step`` seconds pass, at the end of which at least one job ends, or ``now`` is reached."""
        self.now = now if self.now + step >= now else self.now + step
        for flow, clock in list(self._active.items()):
            clock.virtual += clock.rate * step
            heap = clock.heap
            # A job that is within rounding of its end has ended: else a step could become too small to count.
            slack = 1e-9 * max(1.0, clock.virtual)
            while heap and (heap[0][-1].gone or heap[0][0] <= clock.virtual + slack):
                key, name, _, member = heapq.heappop(heap)
                if member.gone:
                    continue
                clock.virtual = max(clock.virtual, key)
                clock.asked -= member.gpus
                member.gone = True
                self._stale = True
                if self.ended is not None:
                    self.ended.append((name, self.now))
            if not heap:
                del self._active[flow]

    def _share(self) -> None:
        """Weighted max-min shares: no flow gets more than its jobs ask for."""
        self._stale = False
        left = float(self._gpus)
        active = [c for c in self._active.values() if c.asked > 0]
        weights = math.fsum(c.weight for c in active)
        for clock in sorted(active, key=lambda c: (c.asked / c.weight, c.name)):
            share = min(float(clock.asked), left * clock.weight / weights)
            # Never quite still, so that a cluster without GPUs does not stop time.
            clock.rate = max(min(1.0, share / clock.asked), 1e-6)
            left -= share
            weights -= clock.weight
