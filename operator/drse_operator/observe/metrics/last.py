"""What the collectors read: the last pass, and the jobs as they are at the scrape."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.status import Assignment, QueueStatus
from drse_operator.cluster.usage import Usage
from drse_operator.workloads.observed import Job


@dataclass(frozen=True, slots=True)
class LastPass:
    """What the last pass saw and decided, at ``now`` (seconds since the epoch).

    ``promised`` is when GPUs that are kept for a job were first expected to be free, by uid.
    """

    snapshot: Snapshot
    plan: Plan
    usage: Usage
    now: float
    promised: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class JobsNow:
    """All jobs, gone through once: those that hold GPUs, those near the head of their queue, and counts."""

    holders: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    phases: Counter[tuple[str, ...]] = field(default_factory=Counter)
    #: Namespace, queue and reason of jobs that wait for their user to act, by uid.
    stuck: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: When the job came that has waited longest in a queue for its first GPUs (seconds since the epoch).
    oldest: dict[str, float] = field(default_factory=dict)

    def assignments(self) -> Iterator[tuple[Job, Assignment]]:
        """Every worker's GPUs, with the job that holds them."""
        return ((job, assignment) for job in self.holders for assignment in job.status.assignments)


def sort_jobs(jobs: Iterable[Job], shown_waiting: int) -> JobsNow:
    """Go through the jobs; of those that wait, the ``shown_waiting`` first of each queue are kept."""
    found = JobsNow()
    seen: defaultdict[tuple[str, str], int] = defaultdict(int)
    for job in jobs:
        status, queue = job.status, queue_of(job)
        seen[queue, status.phase or Phase.QUEUED] += 1
        if status.queue is not None:
            _take_wait(found, job, queue, status.queue)
        if status.assignments:
            found.holders.append(job)
        elif status.queue is not None and (status.queue.position or shown_waiting + 1) <= shown_waiting:
            found.waiting.append(job)
    found.phases.update(seen)
    return found


def _take_wait(found: JobsNow, job: Job, queue: str, wait: QueueStatus) -> None:
    if wait.position is None:
        found.stuck[job.uid] = job.key.namespace, queue, wait.reason
    elif not job.status.assignments:
        came = times.from_wire_or(job.status.queued_at, job.created)
        found.oldest[queue] = min(came, found.oldest.get(queue, came))


def queue_of(job: Job) -> str:
    """The job's queue; empty when its spec does not parse."""
    return job.spec.queue if job.spec is not None else ""
