"""How long jobs run: what the user says, else what like jobs took, else a stated default.

Samples are kept per (queue, task type, model, GPUs) and at coarser levels; the finest level with enough
answers. Where users state durations, these are read in the light of how such statements turned out before.
"""

from __future__ import annotations

import math
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
_CONSERVATIVE = 0.75
#: Stated durations are taken at their word until so many have been compared with the truth, and when they
#: turn out to be it (mean squared deviation of the logarithm).
_CALIBRATED = 30
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that one attempt of a job is taken to hold its GPUs; infinite for services.

    ``order`` places the job in its flow: of jobs of which nothing is stated the mean of like ones, since the
    shortest *expected* time goes first (Rothkopf 1966); ``expected`` is charged and says when its GPUs may
    come free; ``conservative`` is how long it may stay when it is let in before others.
    """

    order: float
    expected: float
    conservative: float


_ENDLESS = float("inf")
SERVICE = Estimate(_ENDLESS, _ENDLESS, _ENDLESS)


class _Window:
    """Mean and quantiles of the latest samples."""

    __slots__ = ("_mean", "latest", "ordered")

    def __init__(self) -> None:
        self.latest: deque[float] = deque()
        self.ordered: list[float] = []
        self._mean: float | None = None

    @property
    def mean(self) -> float:
        if self._mean is None:
            self._mean = math.fsum(self.ordered) / len(self.ordered)
        return self._mean

    def add(self, value: float) -> None:
        self._mean = None
        self.latest.append(value)
        insort(self.ordered, value)
        if len(self.latest) > _KEPT:
            del self.ordered[bisect_left(self.ordered, self.latest.popleft())]

    def quantile(self, q: float) -> float:
        return self.ordered[min(len(self.ordered) - 1, int(q * len(self.ordered)))]

    def __len__(self) -> int:
        return len(self.latest)


class _Calibration:
    """How stated durations relate to real ones, on a logarithmic scale, as a regression line.

    Where users state the truth the line is the diagonal and nothing scatters. Where their guesses are wild, a
    very long or short one is more likely wrong than the job unusual: the slope falls below 1 and draws them
    towards what jobs usually take.
    """

    __slots__ = ("count", "longest", "x", "xx", "xy", "y", "yy")

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self.x = self.y = self.xx = self.xy = self.yy = 0.0

    def add(self, stated: float, real: float) -> None:
        """Welford's update of means and second moments."""
        x, y = math.log(stated), math.log(real)
        self.count += 1
        self.longest = max(self.longest, real)
        dx, dy = x - self.x, y - self.y
        self.x += dx / self.count
        self.y += dy / self.count
        self.xx += dx * (x - self.x)
        self.xy += dx * (y - self.y)
        self.yy += dy * (y - self.y)

    def estimate(self, stated: float) -> Estimate:
        """What a stated duration stands for.

        The order goes by what was stated, up to the longest that any job has taken: drawing it towards the
        usual would blur who is shorter, which even wild guesses tell. The charge goes by the regression.
        """
        if self.count < _CALIBRATED or self.xx <= 0:
            return Estimate(stated, stated, stated)
        slope = min(1.0, max(0.0, self.xy / self.xx))
        scatter = max(0.0, self.yy - 2 * slope * self.xy + slope * slope * self.xx) / self.count
        if scatter < _EXACT and abs(self.x - self.y) < _EXACT:
            return Estimate(stated, stated, stated)
        expected = math.exp(self.y + slope * (math.log(stated) - self.x))
        return Estimate(min(stated, self.longest), expected, stated)


class Durations:
    """Online estimates of durations."""

    def __init__(self) -> None:
        self._levels: dict[tuple[object, ...], _Window] = {}
        self._stated: dict[tuple[str, str], _Calibration] = {}

    def learn(self, ended: Ended) -> None:
        """Take in how long a job really took."""
        if ended.seconds <= 0 or ended.task_type.serves:
            return
        for level in _levels(ended.queue, str(ended.task_type), ended.model, ended.gpus):
            self._levels.setdefault(level, _Window()).add(ended.seconds)
        if ended.expected is not None and ended.expected > 0:
            flow = (ended.queue, str(ended.task_type))
            self._stated.setdefault(flow, _Calibration()).add(ended.expected, ended.seconds)

    def estimate(self, job: Job, gpus: int) -> Estimate:
        """How long the job is taken to run on ``gpus`` GPUs."""
        if job.task_type.serves:
            return SERVICE
        if job.expected_duration is not None:
            known = self._stated.get((job.queue, str(job.task_type)))
            stated = max(1e-3, job.expected_duration)
            return Estimate(stated, stated, stated) if known is None else known.estimate(stated)
        for level in _levels(job.queue, str(job.task_type), job.model, gpus):
            window = self._levels.get(level)
            if window is not None and len(window) >= _ENOUGH:
                return Estimate(window.mean, window.quantile(0.5), window.quantile(_CONSERVATIVE))
        return Estimate(DEFAULT, DEFAULT, DEFAULT_CONSERVATIVE)


def _levels(queue: str, task: str, model: str, gpus: int) -> tuple[tuple[object, ...], ...]:
    return (queue, task, model, gpus), (queue, task, gpus), (queue, task), (task,), ()
