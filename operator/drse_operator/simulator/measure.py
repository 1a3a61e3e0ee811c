"""What a run is judged by: waits, lateness against equal sharing, use of GPUs, fairness between flows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drse_operator.admission.fairness import FairnessMeter
from drse_operator.admission.sojourn import ProcessorSharing
from drse_operator.simulator.loop import Run
from drse_operator.simulator.trace import TraceJob

#: Runs shorter than this do not make a slowdown worse (seconds); the customary bound of the metric.
_SLOWDOWN_FLOOR = 10.0


@dataclass(frozen=True, slots=True)
class Measures:
    """Seconds unless the name says otherwise.

    Utilisation is taken from the first submission to the last, so that how long the last job happens to run
    does not count. Lateness is the end of a job minus its end under ideal weighted processor sharing of the
    same GPUs, at least 0.
    """

    policy: str
    jobs: int
    finished: int
    makespan_s: float
    gpu_utilisation: float
    throughput_jobs_per_h: float
    wait_mean_s: float
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    bounded_slowdown_mean: float
    lateness_p99_s: float
    lateness_max_s: float
    fairness_bound_used_max: float
    jain_weighted_service: float
    preemptions: int
    lost_gpu_hours: float
    eta_p90_coverage: float | None
    seconds: float


def ideal_ends(jobs: Sequence[TraceJob], gpus: int, weights: Mapping[str, float]) -> dict[str, float]:
    """When each job would end if flows shared the GPUs by weight, and each flow's jobs its share equally."""
    sharing: ProcessorSharing[str] = ProcessorSharing(gpus, jobs[0].submit)
    sharing.ended = []
    for job in jobs:
        sharing.advance(job.submit)
        sharing.enter(job.flow, weights.get(job.flow, 1.0), job.uid, job.gpus, job.duration)
    sharing.advance(jobs[-1].submit + 1e10)
    return dict(sharing.ended)


class FlowWatch:
    """Observes which flows have work waiting and what they are given, and feeds the fairness meter.

    Service is what is dispatched: GPUs times real duration, as share of the cluster.
    """

    def __init__(self, gpus: int, lead_cap: float, weights: Mapping[str, float]) -> None:
        self.meter: FairnessMeter[str] = FairnessMeter(lead_cap)
        self.service: dict[str, float] = defaultdict(float)
        self._gpus = gpus
        self._weights = weights
        self._waiting: dict[str, int] = defaultdict(int)
        self._errors: dict[str, float] = {}

    def arrived(self, job: TraceJob, now: float) -> None:
        self._waiting[job.flow] += 1
        self.meter.backlogged(job.flow, True, self._weights.get(job.flow, 1.0))

    def began(self, job: TraceJob, now: float, expected: float) -> None:
        self._waiting[job.flow] -= 1
        weight = self._weights.get(job.flow, 1.0)
        cost = job.duration * job.gpus / self._gpus
        self.service[job.flow] += cost
        self._errors[job.uid] = error = (job.duration - expected) * job.gpus / self._gpus
        self.meter.misjudged(job.flow, error, weight)
        self.meter.dispatched(job.flow, cost, weight)
        if not self._waiting[job.flow]:
            self.meter.backlogged(job.flow, False, weight)

    def ended(self, job: TraceJob, now: float) -> None:
        self.meter.misjudged(job.flow, -self._errors.pop(job.uid), self._weights.get(job.flow, 1.0))

    def settled(self, now: float) -> None:
        pass


def measure(
    policy: str,
    run: Run,
    gpus: int,
    weights: Mapping[str, float],
    watch: FlowWatch,
    seconds: float,
    coverage: float | None,
) -> Measures:
    """Everything about one run; jobs that never ran count in ``jobs`` and nowhere else."""
    jobs = [job for job in run.jobs if job.uid in run.ended]
    waits = sorted(run.started[job.uid] - job.submit for job in jobs)
    ideal = ideal_ends(jobs, gpus, weights) if jobs else {}
    late = sorted(max(0.0, run.ended[job.uid] - ideal[job.uid]) for job in jobs)
    slowdowns = [
        max(1.0, (run.ended[job.uid] - job.submit) / max(_SLOWDOWN_FLOOR, job.duration)) for job in jobs
    ]
    makespan = max(run.ended.values(), default=0.0) - min((job.submit for job in jobs), default=0.0)
    first, last = run.jobs[0].submit, run.jobs[-1].submit
    used = sum(max(0.0, min(run.ended[j.uid], last) - run.started[j.uid]) * j.gpus for j in jobs)
    shares = [service / weights.get(flow, 1.0) for flow, service in watch.service.items()]
    return Measures(
        policy=policy,
        jobs=len(run.jobs),
        finished=len(jobs),
        makespan_s=makespan,
        gpu_utilisation=used / (gpus * (last - first)) if last > first else 0.0,
        throughput_jobs_per_h=len(jobs) / makespan * 3600 if makespan else 0.0,
        wait_mean_s=sum(waits) / max(1, len(waits)),
        wait_p50_s=_quantile(waits, 0.5),
        wait_p95_s=_quantile(waits, 0.95),
        wait_p99_s=_quantile(waits, 0.99),
        bounded_slowdown_mean=sum(slowdowns) / max(1, len(slowdowns)),
        lateness_p99_s=_quantile(late, 0.99),
        lateness_max_s=late[-1] if late else 0.0,
        fairness_bound_used_max=watch.meter.used,
        jain_weighted_service=_jain(shares),
        preemptions=run.preemptions,
        lost_gpu_hours=run.lost_gpu_seconds / 3600,
        eta_p90_coverage=coverage,
        seconds=seconds,
    )


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Nearest-rank quantile of ascending values."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else 0.0


def _jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 when all flows had the same weighted service, 1/n when one had all."""
    squares = sum(x * x for x in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
