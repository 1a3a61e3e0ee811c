"""Series of the queues: what they may hold, hold and ask for, who waits in them and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from drse_operator.admission.snapshot import Queue
from drse_operator.cluster.parse import QueueObject
from drse_operator.observe.metrics import catalogue
from drse_operator.observe.metrics.exposition import Exposition
from drse_operator.observe.metrics.last import JobsNow, LastPass
from drse_operator.observe.shares import Claimant, fair_shares


def queue_series(out: Exposition, jobs: JobsNow, last: LastPass) -> None:
    """Everything about queues and flows."""
    waiting = _Waiting(last)
    queues = last.snapshot.queues.values()
    _spec(out, list(queues))
    out.set(catalogue.QUEUE_JOBS, jobs.phases)
    out.set(catalogue.QUEUE_PENDING_JOBS, waiting.jobs)
    out.set(catalogue.QUEUE_PENDING_GPUS, waiting.gpus)
    out.set(catalogue.QUEUE_OLDEST_WAIT, _oldest(jobs, last))
    out.set(catalogue.UNSCHEDULABLE_JOBS, _stuck(jobs, last))
    held, requested = out.new(catalogue.QUEUE_ASSIGNED), out.new(catalogue.QUEUE_REQUESTED)
    claimants = {}
    for queue in queues:
        asked = queue.held + waiting.asked[queue.name]
        held((queue.name,), queue.held)
        requested((queue.name,), asked)
        within = asked if queue.limit is None else min(asked, queue.limit)
        claimants[queue.name] = Claimant(queue.weight, within)
    capacity = sum(node.capacity for node in last.snapshot.nodes)
    share = out.new(catalogue.QUEUE_FAIR_SHARE)
    for name, gpus in fair_shares(capacity, claimants).items():
        share((name,), gpus)
    _flows(out, last)
    _reservations(out, last)


def _spec(out: Exposition, queues: list[Queue]) -> None:
    weight, limit = out.new(catalogue.QUEUE_WEIGHT), out.new(catalogue.QUEUE_LIMIT)
    guaranteed = out.new(catalogue.QUEUE_GUARANTEED)
    for queue in queues:
        weight((queue.name,), queue.weight)
        guaranteed((queue.name,), queue.guaranteed)
        if queue.limit is not None:
            limit((queue.name,), queue.limit)


def standing_series(out: Exposition, queues: Iterable[QueueObject]) -> None:
    """What the queues are meant to be, and what their statuses say of fairness and of starts that were
    told."""
    used, coverage = out.new(catalogue.FAIRNESS_BOUND_USED), out.new(catalogue.ETA_COVERAGE)
    judged, target = out.new(catalogue.ETA_JUDGED), out.new(catalogue.QUEUE_WAIT_TARGET)
    for queue in queues:
        labels, status = (queue.name,), queue.status
        if queue.spec is not None and queue.spec.wait_target_seconds is not None:
            target(labels, queue.spec.wait_target_seconds)
        if status.fairness_bound_used is not None:
            used(labels, status.fairness_bound_used)
        if status.told is not None and status.told.judged:
            coverage(labels, status.told.kept / status.told.judged)
            judged(labels, status.told.judged)


class _Waiting:
    """The waits after the last plan, added up. Keys are label values in the catalogue's order."""

    def __init__(self, last: LastPass) -> None:
        self.jobs: Counter[tuple[str, ...]] = Counter()
        self.gpus: Counter[tuple[str, ...]] = Counter()
        #: GPUs asked for beyond what is held, by jobs that can start: they wait, or were just promised them.
        self.asked: Counter[str] = Counter()
        by_uid = last.snapshot.by_uid
        for assign in last.plan.assign:
            if (job := by_uid.get(assign.uid)) is not None:
                self.asked[job.queue] += sum(p.count for p in assign.placements)
        for pending in last.plan.pending:
            labels = (pending.flow.queue, pending.reason.value)
            self.jobs[labels] += pending.jobs
            self.gpus[labels] += pending.gpus
            if not pending.reason.user_must_act:
                self.asked[pending.flow.queue] += pending.gpus


def _oldest(jobs: JobsNow, last: LastPass) -> dict[tuple[str, ...], float]:
    """Seconds that the job has waited that came first, by queue."""
    waited: dict[tuple[str, ...], float] = {(name,): 0.0 for name in last.snapshot.queues}
    for queue, came in jobs.oldest.items():
        waited[queue,] = max(0.0, last.now - came)
    return waited


def _stuck(jobs: JobsNow, last: LastPass) -> Counter[tuple[str, ...]]:
    """Jobs that wait for their user to act: as their statuses say, and as will be written of them."""
    refused = {
        job.uid: (job.key.namespace, job.queue, job.refusal.reason.value)
        for job in last.snapshot.jobs
        if job.refusal is not None and job.refusal.reason.user_must_act
    }
    return Counter((jobs.stuck | refused).values())


def _flows(out: Exposition, last: LastPass) -> None:
    """What flows have come to, and how far each waiting one is behind the largest of those that wait."""
    service, lag = out.new(catalogue.FLOW_SERVICE), out.new(catalogue.FLOW_LAG)
    flows = last.plan.memory.flows
    ahead = max((flow.finish for flow in flows.values() if flow.waiting), default=0.0)
    for key, flow in flows.items():
        labels = (key.queue, key.task_type.value)
        service(labels, flow.finish)
        if flow.waiting:
            lag(labels, ahead - flow.finish)


def _reservations(out: Exposition, last: LastPass) -> None:
    """For whom GPUs are kept, and how much later they will be free than was first expected."""
    start, delay = out.new(catalogue.RESERVATION_START), out.new(catalogue.RESERVATION_DELAY)
    for reserved in last.plan.reserved:
        job = last.snapshot.by_uid.get(reserved.uid)
        labels = (reserved.key.name, reserved.key.namespace, "" if job is None else job.queue)
        start(labels, reserved.start)
        delay(labels, reserved.start - last.promised.get(reserved.uid, reserved.start))
