"""What the engine knows: pools, queues, flows, jobs and who runs, kept up to date event by event."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from drse_operator.admission.asks import Ask, AskTable
from drse_operator.admission.flows import Flow, Rank, Record
from drse_operator.admission.ledger import Ledger, Rules
from drse_operator.admission.pools import Pool, kind_id
from drse_operator.admission.snapshot import (
    Job,
    Mark,
    Node,
    Ordering,
    Queue,
)
from drse_operator.admission.sojourn import Member
from drse_operator.admission.units import could_hold, next_unit
from drse_operator.sizing.shapes import AcceleratorKind


class Park:
    """Why a job that lacks replicas takes no part in a pass."""

    REFUSED = "refused"
    BACKING_OFF = "backing off"
    CLEARING = "clearing"
    EXCEEDS_LIMIT = "exceeds limit"
    NEVER_FITS = "never fits"


class State(Ledger):
    """Mutable state with the events that change it. No decision is made here."""

    def __init__(self, rules: Rules, now: float) -> None:
        super().__init__(rules, now)
        self.asks = AskTable()
        #: Places in their flow's virtual system that were given to jobs since the engine was made.
        self.marked: dict[str, Mark] = {}
        self._epoch = 0
        self._seen_epoch = -1
        self._parked: dict[str, Record] = {}
        self._sleeping: list[tuple[float, str]] = []

    # -- nodes and queues ------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """A node appeared or changed. Its free GPUs are those that neither we nor others hold."""
        pool = self.pools.setdefault(kind_id(node.kind), Pool(node.kind))
        pool.kind = node.kind
        pool.put(node)
        for record in self.records.values():
            for unit in record.units.values():
                self.hold(unit, only=node.name, pool=pool)
        self._epoch += 1

    def drop_node(self, kind: AcceleratorKind, name: str) -> None:
        """A node is gone; what ran there is told separately."""
        pool = self.pools.get(kind_id(kind))
        if pool is not None:
            pool.drop(name)
            self._epoch += 1

    def put_queue(self, queue: Queue) -> None:
        """A queue appeared or changed. What it holds is taken over only when the queue is new."""
        if queue.name not in self.queues:
            self.held[queue.name] = queue.held
        self.queues[queue.name] = queue
        for key, flow in self.flows.items():
            if key.queue == queue.name:
                flow.weight = self.weight(key)
        for record in [r for r in self.records.values() if r.job.queue == queue.name]:
            self.refile(record)

    def drop_queue(self, name: str) -> None:
        """A queue is gone: its running jobs run on, nobody waits in it any more."""
        self.queues.pop(name, None)
        for record in [r for r in self.records.values() if r.job.queue == name]:
            self.refile(record)

    # -- jobs ------------------------------------------------------------------------------------------

    def put_job(self, job: Job) -> None:
        """A job arrived or changed; what it holds is taken over only when the job is new."""
        old = self.records.get(job.uid)
        if old is not None:
            self._change(old, job)
            return
        gpus = max(1, job.wanted * min((s.gpus for s in job.shapes), default=1))
        estimate = self.durations.estimate(job, gpus)
        key, weight = job.flow, self.weight(job.flow)
        if job.mark is not None:
            member = Member(job.mark.arrived, job.mark.key, gpus, job.uid)
            self.sharing.resume(key, weight, member)
        else:
            self.sharing.advance(min(self.now, job.queued_at))
            service = self.rules.quantum if job.task_type.serves else estimate.order
            member = self.sharing.enter(key, weight, job.uid, gpus, service)
            mark = self.marked[job.uid] = Mark(member.arrived, member.key)
            job = replace(job, mark=mark)
        record = Record(job, estimate, member, self._rank(job, member))
        self.records[job.uid] = record
        if key not in self.flows:
            self.flows[key] = Flow(key, weight)
        for replica in job.held_replicas:
            self.adopt(record, replica)
        self.refile(record)

    def drop_job(self, uid: str, ended: bool = False) -> None:
        """A job is gone: it was deleted, or it ran to its end (then its duration is learned)."""
        record = self.records.get(uid)
        if record is None:
            return
        self._unfile(record)
        if ended and record.units:
            self.learn(record)
        for replica in list(record.units):
            self.free(record, replica)
        del self.records[uid]
        self.marked.pop(uid, None)

    def replica_ended(self, uid: str, replica: int) -> None:
        """One replica of a job ran to its end; its GPUs are free."""
        record = self.records[uid]
        self.sharing.advance(self.now)
        self.free(record, replica)
        self._unfile(record)
        holdings = tuple(h for h in record.job.holdings if h.replica != replica)
        record.job = replace(record.job, holdings=holdings, done=record.job.done | {replica})
        self.refile(record)

    def replica_vacated(self, uid: str, replica: int) -> None:
        """One replica of a job was taken from it; its GPUs are free and it waits again."""
        record = self.records[uid]
        self.free(record, replica)
        self._unfile(record)
        holdings = tuple(h for h in record.job.holdings if h.replica != replica)
        record.job = replace(record.job, holdings=holdings, preempted=record.job.preempted + 1)
        self.refile(record)

    def refile(self, record: Record) -> None:
        """Put a job where its next ask belongs: into a group of its flow, or aside with the reason."""
        self._unfile(record)
        job = record.job
        record.lacking = job.lacking
        if not record.lacking:
            return
        parked = self._park(record)
        if parked:
            record.parked = parked
            self._parked[job.uid] = record
            if parked == Park.BACKING_OFF:
                heapq.heappush(self._sleeping, (job.not_before, job.uid))
            return
        flow = self.flows[job.flow]
        if not flow.groups and record.ask is not None:
            # It begins to wait: being idle has saved it nothing.
            self.lift(flow, record.ask)
        flow.add(record)

    def parked(self) -> Iterable[Record]:
        """Jobs that lack replicas and take no part in a pass."""
        return self._parked.values()

    def _park(self, record: Record) -> str:
        job, queue = record.job, self.queues.get(record.job.queue)
        if job.refusal is not None or queue is None:
            return Park.REFUSED
        if job.not_before > self.now:
            return Park.BACKING_OFF
        record.replicas = next_unit(job)
        if not record.replicas:
            return Park.CLEARING
        shapes = job.shapes
        if queue.limit is not None:
            left = (queue.limit - sum(u.gpus for u in record.units.values())) // len(record.replicas)
            shapes = tuple(s for s in shapes if s.gpus <= left)
            if not shapes:
                return Park.EXCEEDS_LIMIT
        record.ask = self._options(self.asks.of(job, len(record.replicas), shapes))
        return "" if record.ask.options else Park.NEVER_FITS

    def _unfile(self, record: Record) -> None:
        if record.group is not None:
            self.flows[record.job.flow].remove(record)
        self._parked.pop(record.job.uid, None)
        record.parked = ""

    def _change(self, record: Record, job: Job) -> None:
        if job.flow != record.job.flow:
            self.drop_job(job.uid)
            self.put_job(replace(job, mark=None))
            return
        self._unfile(record)
        record.job = replace(job, holdings=record.job.holdings, mark=record.job.mark)
        record.rank = self._rank(record.job, record.member)
        self.refile(record)

    def _rank(self, job: Job, member: Member) -> Rank:
        queue = self.queues.get(job.queue)
        fifo = queue is not None and queue.ordering is Ordering.FIFO
        return -job.priority, 0.0 if fifo else member.key, job.queued_at, job.key

    # -- time ------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Time passes: back-offs end, services are charged, holders that outlast their estimate stay on."""
        self.now = max(self.now, now)
        self.count_cluster()
        self.sharing.set_gpus(max(0, int(self.totals[0]) - self.service_gpus))
        self.sharing.advance(self.now)
        while self._sleeping and self._sleeping[0][0] <= self.now:
            record = self.records.get(heapq.heappop(self._sleeping)[1])
            if record is not None and record.parked == Park.BACKING_OFF:
                self.refile(record)
        self.charge_services()

    # -- what the cluster could hold -------------------------------------------------------------------

    def _options(self, ask: Ask) -> Ask:
        """The shapes that the cluster could hold, renewed when nodes have changed."""
        if ask.epoch != self._epoch:
            ask.epoch = self._epoch
            pools = [(s, self.pools.get(kind_id(s.kind))) for s in ask.shapes]
            together = 1 if ask.mixes else ask.replicas
            ask.options = tuple((s, p) for s, p in pools if p is not None and could_hold(p, s, together, ask))
            ask.mask = 0
            for shape, _ in ask.options:
                ask.mask |= self.asks.bit(shape)
        return ask

    def count_cluster(self) -> None:
        """Nodes have changed: count the cluster anew, and see whether jobs set aside fit now, or no more."""
        if self._seen_epoch == self._epoch:
            return
        self._seen_epoch = self._epoch
        gpus, memory, compute = 0, 0, 0
        for pool in self.pools.values():
            n = sum(slot.node.capacity for slot in pool.slots.values())
            gpus, memory, compute = gpus + n, memory + n * pool.kind.memory, compute + n * pool.kind.tflops
        self.totals = (max(1.0, gpus), max(1.0, memory), max(1.0, compute))
        groups = [g for f in self.flows.values() for g in f.groups.values()]
        gone = [g for g in groups if not self._options(g.ask).options]
        moved = [record for g in gone for _, record in g.records]
        for record in (*moved, *(r for r in self._parked.values() if r.parked == Park.NEVER_FITS)):
            self.refile(record)
