"""Counts what passes decide, when it is decided; a decision that could not be written is made again."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from drse_operator.admission.decisions import Plan, Release, ReleaseReason
from drse_operator.admission.snapshot import Job, Snapshot
from drse_operator.api.reasons import StateReason, WaitReason
from drse_operator.observe.metrics import catalogue
from drse_operator.observe.metrics.exposition import counter, histogram

#: First promises of jobs without a reservation that are remembered before those of jobs gone are dropped.
_PROMISES = 1000


class Decided:
    """Counters of decisions, waits that ended, and what preemption cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = counter(catalogue.DECISIONS, registry)
        self._waited = histogram(catalogue.JOB_WAIT, registry)
        self._preemptions = counter(catalogue.PREEMPTIONS, registry)
        self._lost = counter(catalogue.LOST_GPU_SECONDS, registry)
        self._reasons: dict[str, WaitReason] = {}
        self._admitted: set[str] = set()
        self._promised: dict[str, float] = {}

    def take(self, snapshot: Snapshot, plan: Plan, now: float) -> None:
        """One pass at ``now`` (seconds since the epoch)."""
        self._take_waits(plan)
        if len(self._reasons) > 2 * len(snapshot.jobs):
            alive = {job.uid for job in snapshot.jobs}
            self._reasons = {uid: reason for uid, reason in self._reasons.items() if uid in alive}
        for queue in snapshot.queues:
            for reason in (StateReason.HIGHER_PRIORITY, StateReason.GUARANTEE_RECLAIMED):
                self._preemptions.labels(queue, reason.value)
            self._lost.labels(queue)
        self._promise(snapshot, plan)
        if not plan.assign and not plan.release:
            return
        jobs = snapshot.by_uid
        if len(self._admitted) > 2 * len(jobs) + 1000:
            self._admitted &= jobs.keys()
        # A decision about a job that the snapshot does not have is no reason to lose the pass.
        for assign in plan.assign:
            self._reasons.pop(assign.uid, None)
            if (job := jobs.get(assign.uid)) is not None:
                self._take_assign(job, now)
        for release in plan.release:
            if (job := jobs.get(release.uid)) is not None:
                self._take_release(snapshot, job, release, now)

    def promised(self, plan: Plan) -> dict[str, float]:
        """When GPUs that are kept for a job were first expected to be free, by uid."""
        return {reserved.uid: self._promised[reserved.uid] for reserved in plan.reserved}

    def _promise(self, snapshot: Snapshot, plan: Plan) -> None:
        """A reservation that comes and goes is still the first promise, until the job starts."""
        for assign in plan.assign:
            self._promised.pop(assign.uid, None)
        for reserved in plan.reserved:
            self._promised.setdefault(reserved.uid, reserved.start)
        if len(self._promised) > 2 * len(plan.reserved) + _PROMISES:
            alive = snapshot.by_uid
            self._promised = {uid: start for uid, start in self._promised.items() if uid in alive}

    def _take_waits(self, plan: Plan) -> None:
        """A wait is decided when a job begins to wait or when the reason changes."""
        for wait in plan.wait:
            if self._reasons.get(wait.uid) is not wait.reason:
                self._decisions.labels("Wait", wait.reason.value).inc()
                self._reasons[wait.uid] = wait.reason

    def _take_assign(self, job: Job, now: float) -> None:
        self._decisions.labels("Assign", "Grow" if job.holdings else "Admit").inc()
        fresh = not job.holdings and job.started_at is None and not job.preempted and not job.done
        if fresh and job.uid not in self._admitted:
            # Once a job, also when the assignment could not be written and is decided again.
            self._admitted.add(job.uid)
            self._waited.labels(job.queue).observe(max(0.0, now - job.queued_at))

    def _take_release(self, snapshot: Snapshot, job: Job, release: Release, now: float) -> None:
        self._decisions.labels("Release", release.reason.value).inc()
        if release.reason is not ReleaseReason.PREEMPTED:
            return
        taker = next((other for other in snapshot.jobs if other.key == release.taker), None)
        same = taker is None or taker.queue == job.queue
        reason = StateReason.HIGHER_PRIORITY if same else StateReason.GUARANTEE_RECLAIMED
        self._preemptions.labels(job.queue, reason.value).inc(len(release.replicas))
        for holding in job.holdings:
            since = holding.since if holding.since is not None else job.started_at
            if holding.replica in release.replicas and since is not None:
                self._lost.labels(job.queue).inc(holding.count * max(0.0, now - since))
