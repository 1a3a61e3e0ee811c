"""The event loop: jobs arrive, a policy starts them, they end when they really end."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from drse_operator.simulator.trace import TraceJob


class Policy(Protocol):
    """Decides who starts. Times are seconds from the trace's start."""

    def arrive(self, job: TraceJob, now: float) -> None:
        """A job is submitted."""

    def end(self, uid: str, now: float) -> None:
        """A running job has ended and its GPUs are free."""

    def expected(self, uid: str) -> float:
        """Seconds that the policy takes a job to run that it starts."""

    def decide(self, now: float) -> Sequence[str]:
        """Start whom the policy lets start; their uids."""

    @property
    def stopped(self) -> Sequence[str]:
        """Jobs preempted by the last decision; they have lost what they had done."""


@dataclass(slots=True)
class Run:
    """What happened: start and end by uid, jobs that never ran, preemptions and work lost to them."""

    jobs: Sequence[TraceJob]
    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    preemptions: int = 0
    lost_gpu_seconds: float = 0.0


class Observer(Protocol):
    """Is told of every change, for measuring."""

    def arrived(self, job: TraceJob, now: float) -> None: ...
    def began(self, job: TraceJob, now: float, expected: float) -> None: ...
    def ended(self, job: TraceJob, now: float) -> None: ...
    def settled(self, now: float) -> None: ...


def replay(jobs: Sequence[TraceJob], policy: Policy, observers: Sequence[Observer] = ()) -> Run:
    """Run a trace to the end of its last job that can run at all."""
    loop = _Loop(jobs, policy, observers)
    while loop.step():
        pass
    return loop.run


class _Loop:
    def __init__(self, jobs: Sequence[TraceJob], policy: Policy, observers: Sequence[Observer]) -> None:
        self.run = Run(jobs)
        self._policy = policy
        self._observers = observers
        self._by_uid = {job.uid: job for job in jobs}
        self._ends: list[tuple[float, str, int]] = []
        self._attempts: dict[str, int] = {}
        self._at = 0

    def step(self) -> bool:
        """Go to the next event; False when there is none."""
        jobs, ends = self.run.jobs, self._ends
        if self._at >= len(jobs) and not ends:
            return False
        arrival = jobs[self._at].submit if self._at < len(jobs) else float("inf")
        now = min(arrival, ends[0][0] if ends else float("inf"))
        while ends and ends[0][0] <= now:
            self._end(*heapq.heappop(ends))
        while self._at < len(jobs) and jobs[self._at].submit <= now:
            self._policy.arrive(jobs[self._at], now)
            for observer in self._observers:
                observer.arrived(jobs[self._at], now)
            self._at += 1
        for uid in self._policy.decide(now):
            self._begin(self._by_uid[uid], now)
        for uid in self._policy.stopped:
            self._attempts[uid] += 1
            self.run.preemptions += 1
            self.run.lost_gpu_seconds += (now - self.run.started.pop(uid)) * self._by_uid[uid].gpus
        for observer in self._observers:
            observer.settled(now)
        return True

    def _end(self, now: float, uid: str, attempt: int) -> None:
        if self._attempts.get(uid) != attempt:
            return
        self._policy.end(uid, now)
        self.run.ended[uid] = now
        for observer in self._observers:
            observer.ended(self._by_uid[uid], now)

    def _begin(self, job: TraceJob, now: float) -> None:
        self.run.started[job.uid] = now
        attempt = self._attempts[job.uid] = self._attempts.get(job.uid, 0) + 1
        heapq.heappush(self._ends, (now + job.duration, job.uid, attempt))
        for observer in self._observers:
            observer.began(job, now, self._policy.expected(job.uid))
