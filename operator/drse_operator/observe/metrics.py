"""What the operator exports. One registry an instance, nothing global.

Everything about jobs, queues and GPUs is exported by the leader alone, so that sums count once. Series
that follow the picture of the cluster are made while being scraped, from the last pass: a GPU that changes
hands leaves its old series and enters its new one in the same scrape, which joins by UUID rely on.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.cluster.usage import Usage
from drse_operator.workloads.observed import Job

_JOB = ("deepseekjob", "deepseekjob_namespace")
_PLAN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class _Last:
    """What the last pass saw and decided."""

    snapshot: Snapshot
    plan: Plan
    usage: Usage
    now: float


class Metrics:
    """Counters and histograms of the operator itself, and the collector of the cluster's picture."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._picture: PictureCollector | None = None
        registry = self.registry
        info = Gauge("drse_build_info", "Version of the operator.", ("version",), registry=registry)
        info.labels(version=version).set(1)
        self.leader = Gauge("drse_leader", "1 on the instance that leads.", registry=registry)
        self.plan_seconds = Histogram(
            "drse_plan_duration_seconds",
            "One pass of the loop: looking, judging, planning.",
            buckets=_PLAN_BUCKETS,
            registry=registry,
        )
        self.status_write_seconds = Histogram(
            "drse_status_write_duration_seconds",
            "One status write, as the API server answered it.",
            registry=registry,
        )
        self.pass_failures = Counter(
            "drse_pass_failures_total", "Passes that ended in an unexpected error.", registry=registry
        )
        self.mismatches = Counter(
            "drse_assignment_mismatches_total",
            "Jobs whose claim was allocated other devices than were promised; must be 0.",
            registry=registry,
        )
        self.api_errors = Counter(
            "drse_api_errors_total", "Requests that failed for good.", ("reason",), registry=registry
        )
        self.scaling_actions = Counter(
            "drse_scaling_actions_total",
            "Changes of the wanted number of replicas, by what drove them.",
            ("driver",),
            registry=registry,
        )
        self.decisions = Counter(
            "drse_decisions_total", "Decisions of the planner.", ("kind", "reason"), registry=registry
        )
        self.last_plan = Gauge(
            "drse_last_plan_timestamp_seconds", "When the last pass was made.", registry=registry
        )
        self.double_assignments = Gauge(
            "drse_double_assignments", "Devices that two live assignments name; must be 0.", registry=registry
        )

    def lead(self, jobs: JobSource) -> None:
        """Begin to export the picture of the cluster, as its leader."""
        self.leader.set(1)
        self._picture = PictureCollector(jobs)
        self.registry.register(self._picture)

    def follow(self) -> None:
        """Export nothing about the cluster any more: another instance leads."""
        self.leader.set(0)
        if self._picture is not None:
            self.registry.unregister(self._picture)
            self._picture = None

    def take_plan(self, snapshot: Snapshot, plan: Plan, usage: Usage, now: float) -> None:
        """Remember what a pass saw and decided."""
        self.last_plan.set(now)
        self.double_assignments.set(len(usage.conflicts))
        if plan.assign:
            self.decisions.labels(kind="assign", reason="").inc(len(plan.assign))
        for release in plan.release:
            self.decisions.labels(kind="release", reason=release.reason).inc()
        if self._picture is not None:
            self._picture.last = _Last(snapshot, plan, usage, now)


class JobSource(Protocol):
    """Where the collector finds the jobs of the cluster."""

    def all_jobs(self) -> Iterable[Job]:
        """All jobs, as they are now."""


@dataclass(slots=True)
class _Families:
    made: list[GaugeMetricFamily] = field(default_factory=list)

    def new(self, name: str, help_text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, help_text, labels=labels)
        self.made.append(family)
        return family


class PictureCollector(Collector):
    """Turns the last pass into series when asked."""

    def __init__(self, jobs: JobSource) -> None:
        self.last: _Last | None = None
        self._jobs = jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All series, in one consistent picture."""
        if self.last is None:
            return
        families = _Families()
        jobs = list(self._jobs.all_jobs())
        _assignments(families, jobs)
        _job_series(families, jobs)
        _queue_series(families, self.last)
        _gpu_series(families, self.last)
        yield from families.made


def _assignments(families: _Families, jobs: list[Job]) -> None:
    assigned = families.new(
        "drse_gpu_assigned",
        "1 for each GPU that a job holds; joins exporters to jobs.",
        ("UUID", *_JOB, "queue"),
    )
    for job in jobs:
        queue = job.spec.queue if job.spec is not None else ""
        for assignment in job.status.assignments:
            for device in assignment.devices:
                assigned.add_metric((device.uuid, job.key.name, job.key.namespace, queue), 1)


def _job_series(families: _Families, jobs: list[Job]) -> None:
    phase = families.new("drse_job_phase", "1 for the phase that a job is in.", (*_JOB, "queue", "phase"))
    held = families.new("drse_job_gpus", "GPUs that a job holds.", _JOB)
    ready = families.new("drse_job_ready_replicas", "Replicas that are ready.", _JOB)
    target = families.new("drse_job_target_concurrency", "Requests in flight that fill one replica.", _JOB)
    per_replica = families.new("drse_job_gpus_per_replica", "GPUs of one replica.", _JOB)
    wanted = families.new("drse_scaling_wanted_gpus", "GPUs that the scaling policy asks for.", _JOB)
    load = families.new("drse_load", "Load that the last decision saw, in GPU-equivalents.", _JOB)
    frozen = families.new("drse_scaling_frozen", "1 while scaling is frozen.", (*_JOB, "reason"))
    for job in jobs:
        if job.spec is None:
            continue
        labels = (job.key.name, job.key.namespace)
        status, scaling = job.status, job.status.scaling
        phase.add_metric((*labels, job.spec.queue, status.phase or "Queued"), 1)
        held.add_metric(labels, status.gpus)
        ready.add_metric(labels, status.ready_replicas)
        if status.gpus_per_replica:
            per_replica.add_metric(labels, status.gpus_per_replica)
            target.add_metric(labels, job.spec.scaling.target_concurrency)
        if scaling is None or not status.gpus_per_replica:
            continue
        if scaling.desired_replicas is not None:
            wanted.add_metric(labels, scaling.desired_replicas * status.gpus_per_replica)
        if scaling.load is not None:
            load.add_metric(labels, scaling.load)
        condition = next((c for c in status.conditions if c.type == "ScalingActive"), None)
        if condition is not None and condition.status == "False":
            frozen.add_metric((*labels, condition.reason), 1)


def _queue_series(families: _Families, last: _Last) -> None:
    weight = families.new("drse_queue_weight", "Weight of a queue.", ("queue",))
    held = families.new("drse_queue_assigned_gpus", "GPUs that a queue's jobs hold.", ("queue",))
    limit = families.new("drse_queue_limit_gpus", "GPUs that a queue never exceeds.", ("queue",))
    jobs = families.new("drse_queue_pending_jobs", "Jobs that wait, by reason.", ("queue", "reason"))
    gpus = families.new(
        "drse_queue_pending_gpus", "GPUs that are waited for, by reason.", ("queue", "reason")
    )
    oldest = families.new("drse_queue_oldest_wait_seconds", "Longest wait in a queue now.", ("queue",))
    for queue in last.snapshot.queues.values():
        weight.add_metric((queue.name,), queue.weight)
        held.add_metric((queue.name,), queue.held)
        if queue.limit is not None:
            limit.add_metric((queue.name,), queue.limit)
    by_key = {job.key: job for job in last.snapshot.jobs}
    count: Tally[tuple[str, str]] = Tally()
    wanted: Tally[tuple[str, str]] = Tally()
    longest: dict[str, float] = {}
    for wait in last.plan.wait:
        job = by_key[wait.key]
        count[job.queue, wait.reason] += 1
        wanted[job.queue, wait.reason] += wait.gpus
        longest[job.queue] = max(longest.get(job.queue, 0.0), last.now - job.queued_at)
    for labels, number in count.items():
        jobs.add_metric(labels, number)
        gpus.add_metric(labels, wanted[labels])
    for queue_name, seconds in longest.items():
        oldest.add_metric((queue_name,), seconds)


def _gpu_series(families: _Families, last: _Last) -> None:
    capacity = families.new("drse_gpu_capacity", "Healthy GPUs on schedulable nodes.", ("model",))
    free = families.new("drse_gpu_free", "GPUs that nobody holds.", ("model",))
    block = families.new("drse_largest_free_block_gpus", "Most free GPUs on one node.", ("model",))
    totals: Tally[str] = Tally()
    unheld: Tally[str] = Tally()
    largest: Tally[str] = Tally()
    for node in last.snapshot.nodes:
        totals[node.kind.product] += node.capacity
        unheld[node.kind.product] += node.free_count
        largest[node.kind.product] = max(largest[node.kind.product], node.free_count)
    for product, number in totals.items():
        capacity.add_metric((product,), number)
        free.add_metric((product,), unheld[product])
        block.add_metric((product,), largest[product])
