"""Series of single jobs: those that hold GPUs, and the first of each queue. Bounded by GPUs and queues."""

from __future__ import annotations

from collections.abc import Iterable

from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import Phase, ScalingMode
from drse_operator.api.reasons import ConditionType
from drse_operator.api.status import ScalingStatus
from drse_operator.observe.metrics import catalogue
from drse_operator.observe.metrics.exposition import Exposition
from drse_operator.observe.metrics.last import JobsNow, queue_of
from drse_operator.workloads.observed import Job
from drse_operator.workloads.wanted import wanted_replicas


def job_series(out: Exposition, jobs: JobsNow, now: float) -> None:
    """Everything about single jobs at ``now`` (seconds since the epoch)."""
    _assigned(out, jobs)
    _phases(out, [*jobs.holders, *jobs.waiting])
    _sizes(out, [*jobs.holders, *jobs.waiting])
    _etas(out, jobs.waiting, now)
    _scaling(out, jobs.holders)


def _assigned(out: Exposition, jobs: JobsNow) -> None:
    assigned, starting = out.new(catalogue.GPU_ASSIGNED), out.new(catalogue.GPU_STARTING)
    for job, assignment in jobs.assignments():
        for device in assignment.devices:
            assigned((device.uuid, job.key.name, job.key.namespace, queue_of(job)), 1)
            if not assignment.started:
                starting((device.uuid, job.key.name, job.key.namespace), 1)


def _phases(out: Exposition, jobs: Iterable[Job]) -> None:
    phase = out.new(catalogue.JOB_PHASE)
    for job in jobs:
        phase((job.key.name, job.key.namespace, queue_of(job), job.status.phase or Phase.QUEUED), 1)


def _sizes(out: Exposition, jobs: Iterable[Job]) -> None:
    gpus, replicas = out.new(catalogue.JOB_GPUS), out.new(catalogue.JOB_REPLICAS)
    ready, wanted = out.new(catalogue.JOB_READY), out.new(catalogue.JOB_WANTED)
    failures, preemptions = out.new(catalogue.JOB_FAILURES), out.new(catalogue.JOB_PREEMPTIONS)
    target, per_replica = out.new(catalogue.JOB_TARGET), out.new(catalogue.JOB_PER_REPLICA)
    for job in jobs:
        spec, status = job.spec, job.status
        if spec is None:
            continue
        labels = (job.key.name, job.key.namespace)
        gpus(labels, status.gpus)
        replicas(labels, status.replicas)
        ready(labels, status.ready_replicas)
        failures(labels, status.failures)
        preemptions(labels, status.preemptions)
        wanted(labels, max(0, wanted_replicas(spec, status) - len(status.succeeded_replicas)))
        if status.gpus_per_replica:
            per_replica(labels, status.gpus_per_replica)
            if spec.task_type.serves:
                target(labels, spec.scaling.target_concurrency)


def _etas(out: Exposition, waiting: Iterable[Job], now: float) -> None:
    eta = out.new(catalogue.JOB_ETA)
    for job in waiting:
        told = job.status.queue.eta if job.status.queue is not None else None
        if told is None:
            continue
        for quantile, at in (("0.5", told.p50), ("0.9", told.p90)):
            if at is not None:
                left = max(0.0, times.from_wire(at) - now)
                eta((job.key.name, job.key.namespace, queue_of(job), quantile), left)


def _scaling(out: Exposition, holders: Iterable[Job]) -> None:
    load, frozen = out.new(catalogue.LOAD), out.new(catalogue.SCALING_FROZEN)
    current, granted = out.new(catalogue.SCALING_CURRENT), out.new(catalogue.SCALING_GRANTED)
    wanted, lead = out.new(catalogue.SCALING_WANTED), out.new(catalogue.SCALING_LEAD)
    for job in holders:
        scaled = _scaled(job)
        each = job.status.gpus_per_replica
        if scaled is None or not each:
            continue
        spec, scaling = scaled
        labels = (job.key.name, job.key.namespace)
        current(labels, job.status.ready_replicas * each)
        granted(labels, job.status.gpus)
        if scaling.desired_replicas is not None:
            wanted((*labels, spec.scaling.mode), scaling.desired_replicas * each)
        if scaling.lead_seconds is not None:
            lead(labels, scaling.lead_seconds)
        if scaling.load is not None:
            load(labels, scaling.load)
        for condition in job.status.conditions:
            if condition.type == ConditionType.SCALING_ACTIVE and condition.status == "False":
                frozen((*labels, condition.reason), 1)


def _scaled(job: Job) -> tuple[DeepSeekJobSpec, ScalingStatus] | None:
    """Spec and last decision of a job that is scaled or advised; None for all others."""
    if job.spec is None or job.status.scaling is None or job.spec.scaling.mode is ScalingMode.OFF:
        return None
    return job.spec, job.status.scaling
