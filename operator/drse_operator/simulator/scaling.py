"""A load drives replicas in a closed loop: what each scaling policy costs, and what it fails to serve.

The problem: two autoscalers can only be compared on the same load, with the same start-up delay, and with
what their decisions cause fed back to them. The approach: a fluid model in steps of ``TICK`` seconds. Demand
comes as the recording says, in GPU-equivalents; ready replicas serve it; what they cannot serve waits in one
queue, first come first served, and gives up after the clients' patience. What a policy sees is what an
exporter would show: requests in service and requests waiting. A replica asked for is paid for from that
moment, and serves once its start-up time is over.

Between two samples of the recording the first one stands, as a bin's mean stands for its bin. (On a straight
line from one to the next, a load recorded every ten minutes would be smoother than any real one, and known
ten minutes ahead to whoever looks at its slope. ``Between.LINE`` shows what that changes.)

Unknown demand (gaps of a recording) is not simulated: replicas stay as they are and nothing is counted.

Source of the queue's delay: the fluid limit of a first-come-first-served queue, W = Q / C.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

#: Seconds between two steps: the period at which the horizontal pod autoscaler looks (--horizontal-pod-
#: autoscaler-sync-period), and the operator at its forecasts.
TICK = 15.0


class Between(StrEnum):
    """What the demand is between two samples."""

    STEP = "step"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Demand:
    """``values`` GPU-equivalents offered, ``step`` seconds apart from unix time ``first`` on, NaN where
    unknown."""

    name: str
    first: float
    step: float
    values: tuple[float, ...]
    between: Between = Between.STEP

    def at(self, time: float) -> float:
        """Demand at a time; NaN where it is not known."""
        place = (time - self.first) / self.step
        left = math.floor(place)
        if not 0 <= left < len(self.values):
            return math.nan
        here, share = self.values[left], place - left
        if self.between is Between.STEP or not share:
            return here
        return here + share * (self.values[left + 1] - here) if left + 1 < len(self.values) else math.nan

    def ticks(self) -> Iterator[float]:
        """The times of the simulation."""
        for number in range(math.floor(len(self.values) * self.step / TICK)):
            yield self.first + number * TICK


@dataclass(frozen=True, slots=True)
class Service:
    """What is scaled. Times in seconds; ``patience`` is how long a client waits before it gives up."""

    startup: float = 180.0
    gpus_per_replica: int = 1
    min_replicas: int = 1
    max_replicas: int = 1000
    request_seconds: float = 30.0
    target_concurrency: int = 32
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy is shown at ``now``. ``running`` and ``waiting`` requests are in GPU-equivalents.

    ``replicas`` are those asked for, ``ready`` those of them that serve; all that are asked for are granted.
    """

    now: float
    running: float
    waiting: float
    replicas: int
    ready: int

    @property
    def load(self) -> float:
        return self.running + self.waiting


class Policy(Protocol):
    """Decides how many replicas there should be; called once a tick."""

    def decide(self, seen: Seen) -> int: ...


@dataclass(slots=True)
class Fleet:
    """Replicas by when they serve. The newest go first, as with a ReplicaSet and with DRSE."""

    startup: float
    ready: int
    _starting: deque[float] = field(default_factory=deque)  #: when each will be ready, rising

    @property
    def replicas(self) -> int:
        return self.ready + len(self._starting)

    def advance(self, now: float) -> None:
        """Let replicas become ready whose time has come."""
        while self._starting and self._starting[0] <= now:
            self._starting.popleft()
            self.ready += 1

    def scale(self, replicas: int, now: float) -> None:
        """Ask for so many replicas at ``now``."""
        while self.replicas < replicas:
            self._starting.append(now + self.startup)
        while self.replicas > replicas and self._starting:
            self._starting.pop()
        self.ready = min(self.ready, replicas)


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick, for plots. GPU-equivalents and GPUs; ``delay`` in seconds."""

    time: float
    demand: float
    capacity: float
    held: float
    delay: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a policy did on one load. Shares are of the time known, or of the work offered.

    ``under_capacity_share``: time in which demand exceeded the GPUs of ready replicas. ``actions``: changes
    of the number of replicas asked for. ``gpu_hours`` counts replicas from when they are asked for.
    """

    series: str
    policy: str
    hours: float
    demand_gpu_hours: float
    gpu_hours: float
    under_capacity_share: float
    queued_share: float
    lost_share: float
    queueing_delay_p95_seconds: float
    actions: int
    actions_per_day: float


def simulate(
    demand: Demand, service: Service, policy: Policy, name: str, moments: list[Moment] | None = None
) -> Outcome:
    """Run one policy over one load; ``moments``, if given, gets every tick."""
    start = next((one for one in demand.values if math.isfinite(one)), 0.0)
    first = math.ceil(start / (0.65 * service.gpus_per_replica))
    run = _Run(service, Fleet(service.startup, min(max(first, service.min_replicas), service.max_replicas)))
    for now in demand.ticks():
        offered = demand.at(now)
        if math.isfinite(offered):
            run.tick(policy, now, offered)
            if moments is not None:
                moments.append(run.moment(now, offered))
    return run.outcome(demand.name, name)


class _Run:
    """State and sums of one simulation; work in GPU-seconds."""

    def __init__(self, service: Service, fleet: Fleet) -> None:
        self._service = service
        self._fleet = fleet
        self._queue = 0.0
        self._ticks = self._under = self._actions = 0
        self._held = self._offered = self._queued = self._lost = 0.0
        self._delays: list[tuple[float, float]] = []
        self._delay = 0.0

    def tick(self, policy: Policy, now: float, offered: float) -> None:
        service, fleet = self._service, self._fleet
        fleet.advance(now)
        capacity = float(fleet.ready * service.gpus_per_replica)
        running = capacity if self._queue > 0 else min(offered, capacity)
        seen = Seen(now, running, self._queue / service.request_seconds, fleet.replicas, fleet.ready)
        wanted = min(max(policy.decide(seen), service.min_replicas), service.max_replicas)
        if wanted != fleet.replicas:
            self._actions += 1
            fleet.scale(wanted, now)
        self._serve(offered, float(fleet.ready * service.gpus_per_replica))

    def _serve(self, offered: float, capacity: float) -> None:
        """Let work come, be served, wait and give up for one tick."""
        came = offered * TICK
        before = self._queue
        waiting = max(before + came - capacity * TICK, 0.0)
        bearable = capacity * self._service.patience
        lost = max(waiting - bearable, 0.0)
        self._queue = waiting - lost
        self._delay = self._queue / capacity if capacity else self._service.patience
        self._ticks += 1
        self._under += offered > capacity * (1 + 1e-9)
        self._held += self._fleet.replicas * self._service.gpus_per_replica * TICK
        self._offered += came
        self._lost += lost
        if before > 0 or waiting > 0:
            self._queued += came - lost
        self._delays.append((self._delay, came))

    def moment(self, now: float, offered: float) -> Moment:
        g = self._service.gpus_per_replica
        return Moment(now, offered, self._fleet.ready * g, self._fleet.replicas * g, self._delay)

    def outcome(self, series: str, policy: str) -> Outcome:
        hours = self._ticks * TICK / 3600
        offered = max(self._offered, 1e-12)
        return Outcome(
            series=series,
            policy=policy,
            hours=hours,
            demand_gpu_hours=self._offered / 3600,
            gpu_hours=self._held / 3600,
            under_capacity_share=self._under / max(self._ticks, 1),
            queued_share=max(self._queued, 0.0) / offered,
            lost_share=self._lost / offered,
            queueing_delay_p95_seconds=_weighted_quantile(self._delays, 0.95),
            actions=self._actions,
            actions_per_day=self._actions / max(hours / 24, 1e-12),
        )


def _weighted_quantile(pairs: Sequence[tuple[float, float]], level: float) -> float:
    """The smallest value that ``level`` of the weight lies at or below."""
    total = sum(weight for _, weight in pairs)
    reached = 0.0
    for value, weight in sorted(pairs):
        reached += weight
        if reached >= level * total:
            return value
    return 0.0
