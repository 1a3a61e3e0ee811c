"""Whether the demo shows what it is meant to show, and the numbers of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from drse_local.demo.documents import JobSeen
from drse_local.demo.ledger import Ledger, ScaleUp
from drse_operator.api.keys import JobKey


class Result(BaseModel):
    """What `--output json` prints.

    jobs_applied: examples in the API server. jobs_running: those that run, or have run to their good end.
    jobs_waiting_with_reason: those that hold nothing and say why. devices_assigned: GPUs that jobs hold at
    the end. double_assignments: devices seen in two hands at any instant. pods_bound_elsewhere: pods seen on
    a node or with devices that were not promised to them. scale_ups: decisions to grow.
    scale_up_load_ratio_at_decision: load measured by Prometheus at the first of them / GPUs held then.
    seconds_decision_before_load_crossed_threshold: from that decision to the instant at which the measured
    load rose above scaleUpAt of those GPUs. Null: not known. seconds_total: from start to stop.
    """

    model_config = ConfigDict(frozen=True)

    jobs_applied: int
    jobs_running: int
    jobs_waiting_with_reason: int
    devices_assigned: int
    double_assignments: int
    pods_bound_elsewhere: int
    scale_ups: int
    scale_up_load_ratio_at_decision: float | None
    seconds_decision_before_load_crossed_threshold: float | None
    seconds_total: float


@dataclass(frozen=True, slots=True)
class FirstScaleUp:
    """The first decision to grow, and what Prometheus measured.

    load: at the decision, GPU-equivalents. crossed_at: when the load rose above the decision's threshold,
    seconds since the epoch. None: not measured (yet).
    """

    decision: ScaleUp
    load: float | None = None
    crossed_at: float | None = None

    @property
    def ratio(self) -> float | None:
        """Load at the decision / GPUs held then."""
        return None if self.load is None or not self.decision.capacity else self.load / self.decision.capacity

    @property
    def lead(self) -> float | None:
        """Seconds from the decision to the crossing."""
        return None if self.crossed_at is None else self.crossed_at - self.decision.at

    @property
    def was_ahead(self) -> bool:
        """It was made while the load was below the threshold, and the load did rise above it later."""
        below = self.load is not None and self.load < self.decision.threshold
        return below and self.lead is not None and self.lead > 0


class Source(StrEnum):
    """Whose log tells more about a condition that does not hold."""

    OPERATOR = "drse-operator-0"
    FORECASTER = "drse-forecaster-0"


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that does not hold, as a sentence, and where to look."""

    message: str
    source: Source = Source.OPERATOR


def failures(ledger: Ledger, applied: Collection[JobKey], first: FirstScaleUp | None) -> list[Failure]:
    """All conditions of the demo that do not hold now; empty when it has shown everything."""
    found = [*_exclusivity(ledger)]
    for key in sorted(applied):
        job = ledger.jobs.get(key)
        failure = Failure(f"{key} is not in the API server.") if job is None else _standing(job)
        if failure is not None:
            found.append(failure)
    scaling = _scaling(first)
    return found + ([scaling] if scaling else [])


def _exclusivity(ledger: Ledger) -> Iterator[Failure]:
    if ledger.doubly_held:
        yield Failure(f"Held twice at some instant: {', '.join(sorted(ledger.doubly_held))}.")
    if ledger.bound_elsewhere:
        yield Failure(f"Not where they were promised: pods {', '.join(ledger.bound_elsewhere)}.")


def _standing(job: JobSeen) -> Failure | None:
    status = job.status
    reason = status.queue.reason if status.queue else "no reason"
    if job.waits_with is None:
        return None if job.runs else Failure(f"{job.key} fits but is {status.phase or 'new'} ({reason}).")
    if job.waits and reason == job.waits_with:
        return None
    return Failure(f"{job.key} should wait with {job.waits_with} but is {status.phase or 'new'} ({reason}).")


def _scaling(first: FirstScaleUp | None) -> Failure | None:
    if first is None:
        return Failure("No service has been scaled up.", Source.FORECASTER)
    if first.was_ahead:
        return None
    decision = first.decision
    what = f"{decision.job} was scaled up from {decision.before} to {decision.after} replicas"
    if first.load is None:
        return Failure(f"{what}, but Prometheus does not tell its load then.", Source.FORECASTER)
    if first.load >= decision.threshold:
        text = f"{what} only when its load was {first.load:.2f}, at or above {decision.threshold:g} GPUs."
        return Failure(text, Source.FORECASTER)
    return Failure(f"{what}, but its load has not risen above {decision.threshold:g} GPUs since.")


def result(ledger: Ledger, applied: Collection[JobKey], first: FirstScaleUp | None, seconds: float) -> Result:
    """The numbers as they stand."""
    jobs = [ledger.jobs[key] for key in applied if key in ledger.jobs]
    return Result(
        jobs_applied=len(jobs),
        jobs_running=sum(job.runs for job in jobs),
        jobs_waiting_with_reason=sum(job.waits for job in jobs if not job.finished),
        devices_assigned=ledger.devices_assigned,
        double_assignments=len(ledger.doubly_held),
        pods_bound_elsewhere=len(ledger.bound_elsewhere),
        scale_ups=len(ledger.scale_ups),
        scale_up_load_ratio_at_decision=_rounded(first.ratio if first else None, 3),
        seconds_decision_before_load_crossed_threshold=_rounded(first.lead if first else None, 1),
        seconds_total=round(seconds, 1),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
