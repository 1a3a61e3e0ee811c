"""The scaling policies that are compared: DRSE's own, the common autoscalers, a textbook's, and foresight.

Each is given what it would have in a cluster, read without delay, and the same load: requests in service and
waiting. The autoscalers follow their source code, not a caricature of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.scaling.apply import scale
from drse_operator.scaling.policy import Point, Signal, aged
from drse_operator.simulator.scaling import TICK, Demand, Seen, Service
from drse_operator.workloads.startups import KEPT
from drse_operator.workloads.wanted import wanted_replicas

_POLLS_A_MINUTE = round(60 / TICK)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was said at ``at`` (unix seconds); ``points`` count minutes from there. Empty: nothing yet."""

    at: float
    points: tuple[Point, ...]


class Drse:
    """DRSE itself: ``scaling.apply.scale`` on a status that nobody else writes.

    As in a cluster, the load is sampled once a minute with the forecast, and the operator hears of it at its
    next poll. ``forecasts`` by rising time; one is used from its time on, its minutes counted from now.
    """

    def __init__(self, spec: DeepSeekJobSpec, service: Service, forecasts: Sequence[Forecast]) -> None:
        self._spec = spec
        self._startup = round(service.startup)
        self._forecasts = forecasts
        self._times = [one.at for one in forecasts]
        self._status = DeepSeekJobStatus(gpus_per_replica=service.gpus_per_replica)
        self._held = (-1, -1)  # replicas, ready ones
        self._sampled: float | None = None

    def decide(self, seen: Seen) -> int:
        poll = int(seen.now // TICK) % _POLLS_A_MINUTE
        if poll == 1 and self._sampled is not None:
            self._hold(seen)
            standing = seen.replicas if self._status.scaling is None else self._wanted()
            signal = Signal(self._sampled, self._points(seen.now))
            scaling = scale(self._spec, self._status, signal, standing, seen.now)
            self._status = self._status.model_copy(update={"scaling": scaling})
        elif poll == 0:
            self._sampled = seen.load
        return seen.replicas if self._status.scaling is None else self._wanted()

    def _wanted(self) -> int:
        return wanted_replicas(self._spec, self._status)

    def _points(self, now: float) -> tuple[Point, ...]:
        place = bisect_right(self._times, now) - 1
        if place < 0:
            return ()
        forecast = self._forecasts[place]
        return aged(forecast.points, (now - forecast.at) / 60)

    def _hold(self, seen: Seen) -> None:
        """Write into the status what the cluster shows."""
        if self._held == (seen.replicas, seen.ready):
            return
        held = tuple(_assignment(replica, replica < seen.ready, seen.now) for replica in range(seen.replicas))
        started = max(seen.ready - self._held[1], 0) if self._held[1] >= 0 else 0
        startups = (*self._status.startups, *(self._startup,) * started)[-KEPT:]
        self._status = self._status.model_copy(update={"assignments": held, "startups": startups})
        self._held = (seen.replicas, seen.ready)


def _assignment(replica: int, started: bool, now: float) -> Assignment:
    return Assignment(
        replica=replica,
        worker=0,
        node="node",
        device_selection=DeviceSelection.COUNT_ONLY,
        count=1,
        since=times.to_wire(now),
        started=started,
    )


@dataclass(slots=True)
class Hpa:
    """Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) with its default behaviour.

    A Pods metric, the load of a replica's GPUs, against ``target``; 10 % tolerance; replicas that are not
    ready count as idle when growing and are left out when shrinking; growth by at most the larger of 100 %
    and 4 pods in 15 s; a shrink follows the highest recommendation of the last 5 minutes.

    Source: pkg/controller/podautoscaler/{replica_calculator,horizontal}.go; KEP-853 (configurable scale
    velocity); https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/.
    """

    target: float
    gpus_per_replica: int
    tolerance: float = 0.1
    down_window: float = 300.0
    _advice: deque[tuple[float, int]] = field(default_factory=deque)
    _grown: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, seen: Seen) -> int:
        return self.settle(seen.now, seen.replicas, self._calculated(seen))

    def _calculated(self, seen: Seen) -> int:
        """``calcPlainMetricReplicas``."""
        if not seen.ready:
            return seen.replicas  # no metrics: the HPA does nothing
        full = self.target * self.gpus_per_replica
        ratio = seen.load / seen.ready / full
        starting = seen.replicas - seen.ready
        if not (starting and ratio > 1):
            return seen.replicas if self._tolerated(ratio) else math.ceil(ratio * seen.ready - 1e-9)
        ratio = seen.load / seen.replicas / full
        return (
            seen.replicas if self._tolerated(ratio) or ratio < 1 else math.ceil(ratio * seen.replicas - 1e-9)
        )

    def _tolerated(self, ratio: float) -> bool:
        return abs(ratio - 1) <= self.tolerance

    def settle(self, now: float, replicas: int, wanted: int) -> int:
        """Stabilization, then the rate limit (``normalizeDesiredReplicasWithBehaviors``)."""
        while self._advice and self._advice[0][0] < now - self.down_window:
            self._advice.popleft()
        self._advice.append((now, wanted))
        if wanted < replicas:
            wanted = min(max(advice for _, advice in self._advice), replicas)
        while self._grown and self._grown[0][0] <= now - 15.0:
            self._grown.popleft()
        base = replicas - sum(added for _, added in self._grown)
        wanted = min(wanted, max(2 * base, base + 4, replicas))
        if wanted > replicas:
            self._grown.append((now, wanted - replicas))
        return wanted


class Keda:
    """KEDA's Prometheus scaler on the length of the queue: requests waiting, ``threshold`` GPU-equivalents of
    them a replica.

    KEDA hands it to a HorizontalPodAutoscaler as an external metric with an average value, for which
    readiness plays no part (``GetExternalPerPodMetricReplicas``).

    Source: https://keda.sh/docs/latest/scalers/prometheus/; the vLLM production stack's example scales on
    vllm:num_requests_waiting with a threshold of 5.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._hpa = Hpa(threshold, 1)

    def decide(self, seen: Seen) -> int:
        ratio = seen.waiting / (self._threshold * seen.replicas)
        tolerated = abs(ratio - 1) <= self._hpa.tolerance
        wanted = seen.replicas if tolerated else max(math.ceil(seen.waiting / self._threshold - 1e-9), 1)
        return self._hpa.settle(seen.now, seen.replicas, wanted)


@dataclass(frozen=True, slots=True)
class Textbook:
    """ "Scale up above 80 %, down below 50 %", on what plain Prophet expects ten minutes ahead.

    Up to ceil(L / 0.8), down to floor(L / 0.5), once a minute. ``expected`` by rising time.
    """

    gpus_per_replica: int
    expected: Sequence[tuple[float, float]]
    up_at: float = 0.8
    down_at: float = 0.5

    def decide(self, seen: Seen) -> int:
        if int(seen.now // TICK) % _POLLS_A_MINUTE:
            return seen.replicas
        place = bisect_right(self.expected, (seen.now, math.inf)) - 1
        load = self.expected[place][1] if place >= 0 else seen.load
        capacity = seen.replicas * self.gpus_per_replica
        if load > self.up_at * capacity:
            return math.ceil(load / (self.up_at * self.gpus_per_replica))
        if load < self.down_at * capacity:
            return max(math.floor(load / (self.down_at * self.gpus_per_replica)), 1)
        return seen.replicas


@dataclass(frozen=True, slots=True)
class Foresight:
    """Knows the demand: always just enough replicas, ready in time, to stay at ``up_at``. Nobody can; the
    rest is measured against it."""

    demand: Demand
    service: Service
    up_at: float = 0.8

    def decide(self, seen: Seen) -> int:
        ticks = math.ceil(self.service.startup / TICK) + 1
        ahead = [self.demand.at(seen.now + number * TICK) for number in range(ticks + 1)]
        known = [one for one in ahead if math.isfinite(one)]
        return math.ceil(max(known, default=0.0) / (self.up_at * self.service.gpus_per_replica) - 1e-9)
