"""GPU-hours: who held how many GPUs for how long, and how much of that was used.

A *stay* is one worker's assignment, from the promise until it is seen no more. Open stays are counted on at
every settlement, closed ones up to their end, into the UTC hour and the UTC day that the time falls into, by
account. Nothing is sampled: what accounts hold in a period adds up to what devices were held in it.

Held time is measured by the load that is known of the job: it is *used* as far as the load goes and *idle*
beyond. Without a known load it is *unmeasured*, which is said and not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, log2
from typing import NamedTuple

from drse_operator.api import times
from drse_operator.api.keys import JobKey
from drse_operator.workloads.observed import Job

#: Whom a job belongs to that does not say.
UNKNOWN = "unknown"
#: Bounds of wait times are powers of the square root of two (seconds), so that quantiles are right to 41 %.
_STEPS_PER_OCTAVE = 2
_HOUR = 3600.0


class Account(NamedTuple):
    """Who is charged for GPUs, as finely as anybody may ask."""

    queue: str
    namespace: str
    user: str
    model: str
    task_type: str
    product: str


@dataclass(slots=True)
class Tally:
    """What an account had in a period: GPU-seconds, and jobs that started and were preempted."""

    held: float = 0.0
    used: float = 0.0
    unmeasured: float = 0.0
    jobs: int = 0
    preempted: int = 0
    #: Waits of the jobs that started, as counts by step of ``wait_step``.
    waits: dict[int, int] = field(default_factory=dict)

    @property
    def idle(self) -> float:
        """GPU-seconds that were held and did nothing, as far as known."""
        return max(0.0, self.held - self.used - self.unmeasured)

    def add(self, other: Tally) -> None:
        """Take in what another tally has."""
        self.held += other.held
        self.used += other.used
        self.unmeasured += other.unmeasured
        self.jobs += other.jobs
        self.preempted += other.preempted
        for step, count in other.waits.items():
            self.waits[step] = self.waits.get(step, 0) + count

    def wait(self, quantile: float) -> float | None:
        """Seconds within which this share of the jobs started (an upper bound); None without jobs."""
        total = sum(self.waits.values())
        if not total:
            return None
        seen = 0
        for step in sorted(self.waits):
            seen += self.waits[step]
            if seen >= quantile * total:
                return step_seconds(step)
        raise AssertionError("counts add up to their total")


def wait_step(seconds: float) -> int:
    """The step that a wait belongs to; 0 for one second and less."""
    return 0 if seconds <= 1 else ceil(log2(seconds) * _STEPS_PER_OCTAVE)


def step_seconds(step: int) -> float:
    """The longest wait of a step, in seconds."""
    return float(2 ** (step / _STEPS_PER_OCTAVE))


@dataclass(slots=True)
class Stay:
    """GPUs of one worker, held since ``since`` and counted until ``counted`` (seconds since the epoch)."""

    key: JobKey
    account: Account
    gpus: int
    since: float
    counted: float


#: Replica and worker of an assignment, and when it was made: a new promise is a new stay.
Place = tuple[int, int, str]
#: Tallies by period (``2026-11-24`` a day, ``2026-11-24T10`` an hour of it, UTC) and account.
Periods = dict[str, dict[Account, Tally]]


class Accounts:
    """Counts what jobs hold. ``load(key)`` is a job's load now in GPU-equivalents, None when not known."""

    def __init__(self, load: Callable[[JobKey], float | None]) -> None:
        self.periods: Periods = {}
        self.open: dict[str, dict[Place, Stay]] = {}
        self._load = load
        self._preemptions: dict[str, int] = {}

    def see(self, uid: str, job: Job | None, now: float) -> None:
        """A job has changed, or is gone (None): open and close its stays."""
        stays = self.open.setdefault(uid, {})
        places: dict[Place, Stay] = {}
        if job is not None:
            account_of = _Accounting(job)
            for a in job.status.assignments:
                place = (a.replica, a.worker, a.since)
                since = min(now, times.from_wire(a.since))
                places[place] = stays.get(place) or Stay(
                    job.key, account_of.product(a.product), a.count, since, since
                )
            self._note_preemptions(job, account_of, now)
        share = self._share(stays)
        for place in stays.keys() - places.keys():
            self._count(stays[place], _end(job, now), share)
        if job is not None and places and not stays and not _restarted(job):
            self._note_start(job, next(iter(places.values())))
        if places:
            self.open[uid] = places
        else:
            self.open.pop(uid, None)
        if job is None:
            self._preemptions.pop(uid, None)

    def settle(self, now: float) -> None:
        """Count every open stay up to ``now``."""
        for stays in self.open.values():
            share = self._share(stays)
            for stay in stays.values():
                self._count(stay, now, share)

    def totals(self) -> dict[Account, Tally]:
        """All that is on the books, by account."""
        total: dict[Account, Tally] = {}
        for period, tallies in self.periods.items():
            if _is_day(period):
                for account, tally in tallies.items():
                    total.setdefault(account, Tally()).add(tally)
        return total

    def forget(self, keep_hours_from: float) -> None:
        """Drop hours before this time (seconds since the epoch); days stay."""
        first = hour_of(keep_hours_from)
        for period in [p for p in self.periods if not _is_day(p) and p < first]:
            del self.periods[period]

    def resume(self, uid: str, place: Place, stay: Stay) -> None:
        """A stay that was open when the accounts were written down; ``see`` will close it if it ended."""
        self.open.setdefault(uid, {})[place] = stay

    def _share(self, stays: Mapping[Place, Stay]) -> float | None:
        """How much of what a job holds its load uses; None when that is not known."""
        held = sum(stay.gpus for stay in stays.values())
        load = self._load(next(iter(stays.values())).key) if stays else None
        return None if load is None or not held else min(1.0, max(0.0, load / held))

    def _count(self, stay: Stay, until: float, share: float | None) -> None:
        if until <= stay.counted:
            return
        for period, seconds in _cut(stay.counted, until):
            held = seconds * stay.gpus
            part = Tally(held=held, unmeasured=held if share is None else 0.0)
            part.used = 0.0 if share is None else held * share
            self._tally(period, stay.account).add(part)
        stay.counted = until

    def _note_start(self, job: Job, stay: Stay) -> None:
        queued = times.from_wire_or(job.status.queued_at, job.created)
        wait = wait_step(stay.since - queued)
        for period in (hour_of(stay.since), day_of(stay.since)):
            self._tally(period, stay.account).add(Tally(jobs=1, waits={wait: 1}))

    def _note_preemptions(self, job: Job, account_of: _Accounting, now: float) -> None:
        known = self._preemptions.get(job.uid)
        self._preemptions[job.uid] = job.status.preemptions
        if known is None or job.status.preemptions <= known:
            return
        for period in (hour_of(now), day_of(now)):
            self._tally(period, account_of.product("")).preempted += job.status.preemptions - known

    def _tally(self, period: str, account: Account) -> Tally:
        return self.periods.setdefault(period, {}).setdefault(account, Tally())


class _Accounting:
    """The account of a job, by product of its GPUs."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def product(self, product: str) -> Account:
        job, spec = self._job, self._job.spec
        if spec is None:
            return Account("", job.key.namespace, job.user or UNKNOWN, "", "", product)
        model = spec.model.name or "" if spec.model is not None else ""
        return Account(spec.queue, job.key.namespace, job.user or UNKNOWN, model, spec.task_type, product)


def _end(job: Job | None, now: float) -> float:
    """When a stay that is seen no more has ended: by the job's own word if it has one."""
    if job is None or job.status.completion_time is None:
        return now
    return min(now, times.from_wire(job.status.completion_time))


def _restarted(job: Job) -> bool:
    """Whether the job has started before, so that its wait is already counted."""
    return job.status.start_time is not None or job.status.preemptions > 0 or job.status.failures > 0


def hour_of(at: float) -> str:
    """Name of the UTC hour of a time in seconds since the epoch."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H}"


def day_of(at: float) -> str:
    """Name of the UTC day of a time in seconds since the epoch."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _is_day(period: str) -> bool:
    return "T" not in period


def _cut(start: float, end: float) -> Iterator[tuple[str, float]]:
    """The periods between two times, hours and days, with the seconds that fall into each."""
    while start < end:
        stop = min(end, (start // _HOUR + 1) * _HOUR)
        yield hour_of(start), stop - start
        yield day_of(start), stop - start
        start = stop
