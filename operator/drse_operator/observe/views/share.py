"""What each queue holds against what it is due."""

from __future__ import annotations

from collections import Counter, defaultdict

from pydantic import Field

from drse_operator.api import times
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.observe.shares import Claimant, fair_shares
from drse_operator.observe.views.base import Instant, Report, Row, instant, instant_or_none
from drse_operator.observe.views.queue import must_act
from drse_operator.observe.views.scene import Scene, queue_of


class ShareRow(Row):
    """A queue. GPUs are whole GPUs of any kind."""

    queue: str
    weight: int
    guaranteed_gpus: int
    limit_gpus: int | None
    cordoned: bool = Field(description="Whether none of its waiting jobs may start.")
    held_gpus: int
    borrowed_gpus: int = Field(description="Held beyond the guarantee.")
    fair_gpus: float | None = Field(
        description="What the queue is due now: GPUs divided by weight among queues with demand, none beyond "
        "its limit or what its jobs could use; null when the cluster's GPUs are not known."
    )
    asked_gpus: int = Field(description="Held and waited for.")
    waiting_jobs: int
    waiting_gpus: int
    running_jobs: int
    bound_used_ratio: float | None = Field(
        description="Largest part of the fairness bound used between it and any other queue; above 1 it was "
        "broken. Null while the operator has not measured it."
    )
    last_grant: Instant | None = Field(description="Latest promise of GPUs that its jobs still hold.")


class FlowRow(Row):
    """A flow: the jobs of one task type in a queue. Fairness is kept between flows."""

    queue: str
    task_type: str
    waiting: bool = Field(description="Whether it had work waiting when this was written.")
    finish_tag: float = Field(description="Service given, in cluster-seconds / weight; the lowest goes next.")
    lag: float | None = Field(
        description="Its tag behind the highest of the flows that wait; null when it does not wait."
    )


class ShareReport(Report):
    """Queues by name."""

    items: tuple[ShareRow, ...]
    flows: tuple[FlowRow, ...] = Field(description="Flows by queue and task type, as last written.")
    capacity_gpus: int | None = Field(description="Healthy GPUs on nodes that take work.")


def share(scene: Scene, queue: str | None = None) -> ShareReport:
    """All queues, or the one named."""
    own = _from_jobs(scene) if scene.complete else _from_statuses(scene)
    capacity = sum(node.capacity for node in scene.snapshot.nodes) if scene.complete else None
    specs = {q.name: q.spec for q in scene.world.queues.values() if q.spec is not None}
    claimants = {name: Claimant(spec.weight, _demand(spec, own[name])) for name, spec in specs.items()}
    fair = {} if capacity is None else fair_shares(capacity, claimants)
    granted = _last_grants(scene)
    rows = tuple(
        ShareRow(
            queue=name,
            weight=spec.weight,
            guaranteed_gpus=spec.guaranteed,
            limit_gpus=spec.limit,
            cordoned=spec.cordoned,
            held_gpus=own[name]["held"],
            borrowed_gpus=max(0, own[name]["held"] - spec.guaranteed),
            fair_gpus=round(fair[name], 2) if name in fair else None,
            asked_gpus=own[name]["held"] + own[name]["waiting_gpus"],
            waiting_jobs=own[name]["waiting_jobs"],
            waiting_gpus=own[name]["waiting_gpus"],
            running_jobs=own[name]["running_jobs"],
            bound_used_ratio=_bound_used(scene, name),
            last_grant=instant_or_none(granted.get(name)),
        )
        for name, spec in sorted(specs.items())
        if queue in (None, name)
    )
    return ShareReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        items=rows,
        flows=_flows(scene, queue),
        capacity_gpus=capacity,
    )


def _flows(scene: Scene, queue: str | None) -> tuple[FlowRow, ...]:
    every = [(q.name, flow) for q in scene.world.queues.values() for flow in q.status.flows]
    ahead = max((float(flow.finish) for _, flow in every if flow.waiting), default=0.0)
    return tuple(
        FlowRow(
            queue=name,
            task_type=flow.task_type,
            waiting=flow.waiting,
            finish_tag=round(float(flow.finish), 3),
            lag=round(ahead - float(flow.finish), 3) if flow.waiting else None,
        )
        for name, flow in sorted(every, key=lambda item: (item[0], item[1].task_type))
        if queue in (None, name)
    )


def _demand(spec: GPUQueueSpec, own: Counter[str]) -> float:
    asked = own["held"] + own["runnable_gpus"]
    return float(asked if spec.limit is None else min(asked, spec.limit))


def _from_jobs(scene: Scene) -> dict[str, Counter[str]]:
    """Held and waiting, counted from the jobs themselves."""
    own: dict[str, Counter[str]] = defaultdict(Counter)
    for job in scene.world.all_jobs():
        if job.status.assignments:
            counts = own[queue_of(job)]
            counts["held"] += sum(a.count for a in job.status.assignments)
            counts["running_jobs"] += 1
    for wait in scene.waits.values():
        counts = own[queue_of(wait.job)]
        counts["waiting_jobs"] += 1
        counts["waiting_gpus"] += wait.gpus
        counts["runnable_gpus"] += 0 if must_act(wait.reason) else wait.gpus
    return own


def _from_statuses(scene: Scene) -> dict[str, Counter[str]]:
    """Held and waiting as the operator counts them: a reader may see queues whose jobs it may not see."""
    own: dict[str, Counter[str]] = defaultdict(Counter)
    for queue in scene.world.queues.values():
        status = queue.status
        own[queue.name].update(
            held=status.assigned_gpus,
            waiting_gpus=status.pending_gpus,
            waiting_jobs=status.pending_jobs,
            running_jobs=status.running_jobs,
        )
    return own


def _bound_used(scene: Scene, queue: str) -> float | None:
    found = scene.world.queues.get("", queue)
    return None if found is None else found.status.fairness_bound_used


def _last_grants(scene: Scene) -> dict[str, float]:
    """When a promise that is still held was last made, by queue."""
    latest: dict[str, float] = {}
    for job in scene.world.all_jobs():
        if job.status.assignments:
            since, name = max(times.from_wire(a.since) for a in job.status.assignments), queue_of(job)
            latest[name] = max(latest.get(name, since), since)
    return latest
