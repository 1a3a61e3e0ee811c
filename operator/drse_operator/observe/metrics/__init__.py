"""What the operator tells Prometheus.

One registry an instance, nothing global. Everything about jobs, queues and GPUs is exported by the leader
alone, so that sums count once. Those series are made while being scraped, from the last pass and the jobs as
they are: a GPU that changes hands leaves its old series and enters its new one in the same scrape, on which
joins by UUID rely. The catalogue has all names.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.reasons import EventReason
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.usage import Usage
from drse_operator.cluster.world import World
from drse_operator.observe.accounts import Accounts
from drse_operator.observe.metrics import catalogue
from drse_operator.observe.metrics.decided import Decided
from drse_operator.observe.metrics.exposition import Exposition, counter, gauge, histogram
from drse_operator.observe.metrics.gpus import NodeGpus, gpu_series
from drse_operator.observe.metrics.jobs import job_series
from drse_operator.observe.metrics.last import LastPass, sort_jobs
from drse_operator.observe.metrics.queues import queue_series, standing_series
from drse_operator.workloads.outcome import Event


class Metrics:
    """Counters and histograms of the operator itself, and the collector of the cluster's picture.

    ``clock`` gives seconds since the epoch.
    """

    def __init__(self, version: str, clock: Callable[[], float] = time.time) -> None:
        registry = self.registry = CollectorRegistry()
        gauge(catalogue.BUILD_INFO, registry).labels(version=version).set(1)
        self.leader = gauge(catalogue.LEADER, registry)
        self.plan_seconds = histogram(catalogue.PLAN_SECONDS, registry)
        self.status_write_seconds = histogram(catalogue.STATUS_WRITE_SECONDS, registry)
        self.pass_failures = counter(catalogue.PASS_FAILURES, registry)
        self.plan_audits = counter(catalogue.PLAN_AUDITS, registry)
        self.plan_drifts = counter(catalogue.PLAN_DRIFTS, registry)
        self.mismatches = counter(catalogue.MISMATCHES, registry)
        self.api_errors = counter(catalogue.API_ERRORS, registry)
        self.scaling_actions = counter(catalogue.SCALING_ACTIONS, registry)
        self.writes_pending = gauge(catalogue.WRITES_PENDING, registry)
        self.eta_error = histogram(catalogue.ETA_ERROR, registry)
        self.eta_slips = counter(catalogue.ETA_SLIPS, registry)
        self._decided = Decided(registry)
        self._told = {
            EventReason.BIND_TIMEOUT: counter(catalogue.GANG_TIMEOUTS, registry),
            EventReason.WORKER_FAILED: counter(catalogue.WORKER_FAILURES, registry),
        }
        self._picture = PictureCollector(clock)
        registry.register(self._picture)
        ProcessCollector(registry=registry)

    def lead(self, world: World, picture: Picture, accounts: Accounts) -> None:
        """Begin to export the picture of the cluster, as its leader."""
        self.leader.set(1)
        self._picture.begin(world, picture, accounts)

    def follow(self) -> None:
        """Export nothing about the cluster any more: another instance leads."""
        self.leader.set(0)
        self._picture.end()

    def take_plan(self, snapshot: Snapshot, plan: Plan, usage: Usage, now: float) -> None:
        """Remember what a pass saw and decided."""
        self._decided.take(snapshot, plan, now)
        for queue in snapshot.queues:
            self.eta_slips.labels(queue)
        self._picture.take(LastPass(snapshot, plan, usage, now, self._decided.promised(plan)))

    def take_events(self, events: Iterable[Event]) -> None:
        """Count what is told about jobs, where it is a failure that a person may want to count."""
        for event in events:
            if event.reason in self._told:
                self._told[event.reason].inc()


class PictureCollector(Collector):
    """Turns the last pass into series when asked; silent while another instance leads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sources: tuple[World, Picture, Accounts] | None = None
        self._last: LastPass | None = None

    def describe(self) -> list[Metric]:
        """Nothing: without this, registering would collect."""
        return []

    def begin(self, world: World, picture: Picture, accounts: Accounts) -> None:
        """From now on there is something to export, once a pass has been made."""
        self._sources = (world, picture, accounts)

    def end(self) -> None:
        """From now on there is nothing to export."""
        self._sources = self._last = None

    def take(self, last: LastPass) -> None:
        """The newest pass."""
        self._last = last

    def collect(self) -> Iterator[Metric]:
        """All series, in one consistent picture."""
        out = Exposition()
        if self._sources is not None and self._last is not None:
            self._fill(out, *self._sources, self._last)
        yield from out.metrics()

    def _fill(
        self, out: Exposition, world: World, picture: Picture, accounts: Accounts, last: LastPass
    ) -> None:
        now = self._clock()
        jobs = sort_jobs(world.all_jobs(), catalogue.SHOWN_WAITING)
        accounts.settle(now)
        hour_series(out, accounts)
        job_series(out, jobs, now)
        queue_series(out, jobs, last)
        standing_series(out, world.queues.values())
        gpu_series(out, list(_fleet(world, picture)), jobs, last)
        out.new(catalogue.LAST_PLAN)((), last.now)
        out.new(catalogue.SNAPSHOT_AGE)((), max(0.0, now - last.now))
        out.new(catalogue.DOUBLE_ASSIGNMENTS)((), len(last.usage.conflicts))


def hour_series(out: Exposition, accounts: Accounts) -> None:
    """GPU-seconds so far, by what is asked for most; the books have them by user and day."""
    held: Counter[tuple[str, ...]] = Counter()
    used: Counter[tuple[str, ...]] = Counter()
    for account, tally in accounts.totals().items():
        labels = (account.queue, account.namespace, account.product, account.task_type)
        held[labels] += tally.held  # type: ignore[assignment]
        used[labels] += tally.used  # type: ignore[assignment]
    out.set(catalogue.HELD_SECONDS, held)
    out.set(catalogue.USED_SECONDS, used)


def _fleet(world: World, picture: Picture) -> Iterator[NodeGpus]:
    for gpus in picture.fleet.gpus:
        node = world.nodes.get("", gpus.node)
        if node is not None:
            yield NodeGpus(gpus, node.broken, bool(node.unready))
