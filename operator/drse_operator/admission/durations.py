"""How long jobs run: what the user says, else what like jobs took, else a stated default.

Samples are kept per (queue, task type, model, GPUs) and at three coarser levels; the finest level with enough
samples answers. Two numbers are given: the expected duration, which orders jobs and is charged, and a
conservative one, which few jobs outlast and which backfilling relies on. Where users state durations, the
conservative number is theirs times how far the queue's users are found to be out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

from drse_operator.admission.snapshot import Ended, Job

#: Of a job about which nothing is known, in seconds.
DEFAULT = 3600.0
DEFAULT_CONSERVATIVE = 24 * 3600.0
#: Samples that a level needs before it is believed, and how many of the latest it keeps.
_ENOUGH = 10
_KEPT = 200
_CONSERVATIVE = 0.9


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that one attempt of a job is taken to hold its GPUs; infinite for services."""

    expected: float
    conservative: float


SERVICE = Estimate(float("inf"), float("inf"))


class _Window:
    """Quantiles of the latest samples."""

    __slots__ = ("latest", "ordered")

    def __init__(self) -> None:
        self.latest: deque[float] = deque()
        self.ordered: list[float] = []

    def add(self, value: float) -> None:
        self.latest.append(value)
        insort(self.ordered, value)
        if len(self.latest) > _KEPT:
            del self.ordered[bisect_left(self.ordered, self.latest.popleft())]

    def quantile(self, q: float) -> float:
        return self.ordered[min(len(self.ordered) - 1, int(q * len(self.ordered)))]

    def __len__(self) -> int:
        return len(self.latest)


class Durations:
    """Online estimates of durations."""

    def __init__(self) -> None:
        self._levels: dict[tuple[object, ...], _Window] = {}
        self._ratios: dict[tuple[object, ...], _Window] = {}

    def learn(self, ended: Ended) -> None:
        """Take in how long a job really took."""
        if ended.seconds <= 0 or ended.task_type.serves:
            return
        for level in _levels(ended.queue, str(ended.task_type), ended.model, ended.gpus):
            self._levels.setdefault(level, _Window()).add(ended.seconds)
        if ended.expected is not None and ended.expected > 0:
            flow = (ended.queue, str(ended.task_type))
            self._ratios.setdefault(flow, _Window()).add(ended.seconds / ended.expected)

    def estimate(self, job: Job, gpus: int) -> Estimate:
        """How long the job is taken to run on ``gpus`` GPUs."""
        if job.task_type.serves:
            return SERVICE
        if job.expected_duration is not None:
            seen = self._ratios.get((job.queue, str(job.task_type)))
            enough = seen is not None and len(seen) >= _ENOUGH
            ratio = max(1.0, seen.quantile(_CONSERVATIVE)) if enough and seen is not None else 1.0
            return Estimate(job.expected_duration, job.expected_duration * ratio)
        for level in _levels(job.queue, str(job.task_type), job.model, gpus):
            window = self._levels.get(level)
            if window is not None and len(window) >= _ENOUGH:
                return Estimate(window.quantile(0.5), window.quantile(_CONSERVATIVE))
        return Estimate(DEFAULT, DEFAULT_CONSERVATIVE)


def _levels(queue: str, task: str, model: str, gpus: int) -> tuple[tuple[object, ...], ...]:
    return (queue, task, model, gpus), (queue, task, gpus), (queue, task), (task,), ()
