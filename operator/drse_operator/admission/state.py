"""What the engine knows: pools, queues, flows, jobs and who runs, kept up to date event by event."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import replace

from drse_operator.admission.aside import Aside, Park
from drse_operator.admission.asks import Ask, AskTable
from drse_operator.admission.flows import Flow, Rank, Record
from drse_operator.admission.ledger import Ledger, Rules
from drse_operator.admission.pools import Pool, kind_id
from drse_operator.admission.snapshot import (
    Closed,
    FlowKey,
    Job,
    Mark,
    Node,
    Ordering,
    Queue,
)
from drse_operator.admission.sojourn import Member
from drse_operator.admission.units import could_hold, gpus_asked, next_unit
from drse_operator.sizing.shapes import AcceleratorKind


class State(Ledger):
    """Mutable state with the events that change it. No decision is made here."""

    def __init__(self, rules: Rules, now: float) -> None:
        super().__init__(rules, now)
        self.asks = AskTable()
        #: Places in their flow's virtual system that were given to jobs since the engine was made.
        self.marked: dict[str, Mark] = {}
        self.aside = Aside()
        #: Jobs that hold more replicas than they want, and those with something still being cleared away.
        self.surplus: dict[str, Record] = {}
        self.clearing: set[str] = set()
        #: GPUs on which nothing may be placed, to explain waits by.
        self.out_of_service: tuple[Closed, ...] = ()
        #: Flows that have been waiting all along, so that they are not lifted as those that begin to wait.
        self.still_waiting: frozenset[FlowKey] = frozenset()
        self._epoch = 0
        self._seen_epoch = -1
        self._sleeping: list[tuple[float, str]] = []

    # -- nodes and queues ------------------------------------------------------------------------------

    def put_node(self, node: Node) -> Pool:
        """A node appeared or changed. Its free GPUs are those that neither we nor others hold."""
        pool = self.pools.get(kind_id(node.kind))
        if pool is None:
            pool = self.pools[kind_id(node.kind)] = Pool(node.kind)
            pool.virtual = self.former_virtual.pop(pool.name, 0.0)
        pool.kind = node.kind
        pool.put(node)
        for unit in self.holders_on(node.name):
            self.hold(unit, only=node.name, pool=pool)
        self._epoch += 1
        return pool

    def drop_node(self, kind: AcceleratorKind, name: str) -> None:
        """A node is gone; what ran there is told separately."""
        pool = self.pools.get(kind_id(kind))
        if pool is not None:
            pool.drop(name)
            self._epoch += 1

    def drop_empty_pools(self) -> None:
        """Kinds of which no node is left are as good as unknown; how far they had come is remembered."""
        for pool in [pool for pool in self.pools.values() if not pool.slots]:
            self.former_virtual[pool.name] = pool.virtual
            del self.pools[pool.id]

    def put_queue(self, queue: Queue) -> None:
        """A queue appeared or changed. What it holds is taken over only when the queue is new."""
        if queue.name not in self.queues:
            self.held[queue.name] = queue.held
        self.refile_all(self.set_queue(queue.name, queue))

    def set_queue(self, name: str, queue: Queue | None) -> list[Record]:
        """Take a queue over, or forget it; returns whom to file anew."""
        if queue is None:
            self.queues.pop(name, None)
        else:
            self.queues[name] = queue
        for key, flow in self.flows.items():
            if key.queue == name:
                flow.weight = self.weight(key)
                self.sharing.clock(key, flow.weight)
        moved = [r for r in self.records.values() if r.job.queue == name]
        for record in moved:
            self._unfile(record)
            record.rank = self._rank(record.job, record.member)
        return moved

    # -- jobs ------------------------------------------------------------------------------------------

    def put_job(self, job: Job) -> None:
        """A job arrived or changed; what it holds is taken over only when the job is new."""
        old = self.records.get(job.uid)
        if old is not None:
            self._change(old, job)
        else:
            self.refile(self.enroll(job))

    def enroll(self, job: Job) -> Record:
        """A job arrived: give it its place and take over what it holds. It has to be filed then."""
        gpus = gpus_asked(job)
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
        if job.holdings:
            self.take_over(record)
        return record

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
        self.sharing.haunt(record.job.flow, record.member)
        self._strike(uid)

    def erase(self, record: Record, seconds: float | None = None) -> None:
        """A job is gone, and what it held is told otherwise. Equal sharing goes on with it if it ran to its
        end, after ``seconds``."""
        self._unfile(record)
        for replica in list(record.units):
            self._retire(record, replica)
        flow = record.job.flow
        if seconds is None:
            self.sharing.leave(flow, record.member)
        else:
            self.sharing.haunt(flow, self.sharing.correct(flow, record.member, seconds))
        self._strike(record.job.uid)

    def _strike(self, uid: str) -> None:
        del self.records[uid]
        self.marked.pop(uid, None)
        self.surplus.pop(uid, None)
        self.clearing.discard(uid)

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
        self._watch(job, record)
        record.lacking = job.lacking
        if not record.lacking:
            return
        parked = self._park(record)
        if parked:
            least = min((s.gpus for s in job.shapes), default=0)
            self.aside.add(record, parked, record.lacking * least)
            if parked == Park.BACKING_OFF:
                heapq.heappush(self._sleeping, (job.not_before, job.uid))
            return
        flow = self.flows[job.flow]
        if not flow.groups and flow.key not in self.still_waiting and record.ask is not None:
            # It begins to wait: being idle has saved it nothing.
            self.lift(flow, record.ask)
        flow.add(record)

    def refile_all(self, records: Iterable[Record], new: Collection[str] = ()) -> None:
        """File records, in the order in which they would have come; ``new`` jobs after those known before."""
        for record in sorted(records, key=lambda r: (r.job.uid in new, r.job.queued_at, r.job.key)):
            self.refile(record)

    def _watch(self, job: Job, record: Record) -> None:
        if job.clearing:
            self.clearing.add(job.uid)
        else:
            self.clearing.discard(job.uid)
        if job.holdings and len(job.held_replicas) > job.wanted - len(job.done):
            self.surplus[job.uid] = record
        else:
            self.surplus.pop(job.uid, None)

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
        if record.parked:
            self.aside.remove(record)

    def resync(self, record: Record, job: Job) -> None:
        """A known job is now as told, what it holds included. It has to be filed then."""
        self._unfile(record)
        member = record.member
        if job.mark is None:
            mark = self.marked[job.uid] = Mark(member.arrived, member.key)
            job = replace(job, mark=mark)
        else:
            self.marked.pop(job.uid, None)
        record.job = job
        gpus = gpus_asked(job)
        self.sharing.resize(job.flow, member, gpus)
        record.estimate = self.durations.estimate(job, gpus)
        record.rank = self._rank(job, member)
        if job.holdings or record.units:
            self.take_over(record)

    def estimate_anew(self, record: Record) -> bool:
        """What durations are estimated from has changed; True when the record has to be filed for it."""
        estimate = self.durations.estimate(record.job, gpus_asked(record.job))
        if estimate == record.estimate:
            return False
        self._unfile(record)
        record.estimate = estimate
        return True

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
        return -job.priority, 0.0 if fifo else member.turn, job.queued_at, job.key

    # -- time ------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Time passes: back-offs end, services are charged, holders that outlast their estimate stay on."""
        self.now = max(self.now, now)
        self.count_cluster()
        self.share_gpus()
        self.sharing.advance(self.now)
        self.refile_all(self.woken())
        self.charge_services()

    def share_gpus(self) -> None:
        """Equal sharing is over all GPUs that services leave."""
        self.sharing.set_gpus(max(0, int(self.totals[0]) - self.service_gpus))

    def woken(self) -> list[Record]:
        """Those whose back-off has ended. They have to be filed then."""
        woken = []
        while self._sleeping and self._sleeping[0][0] <= self.now:
            woken.append(heapq.heappop(self._sleeping)[1])
        found = (self.records.get(uid) for uid in woken)
        return [r for r in found if r is not None and r.parked == Park.BACKING_OFF]

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
        self.refile_all(self.recount())

    def recount(self) -> list[Record]:
        """Count the cluster anew if nodes have changed; returns whom to file anew for it."""
        if self._seen_epoch == self._epoch:
            return []
        self._seen_epoch = self._epoch
        gpus, memory, compute = 0, 0, 0
        for pool in self.pools.values():
            n = sum(slot.node.capacity for slot in pool.slots.values())
            gpus, memory, compute = gpus + n, memory + n * pool.kind.memory, compute + n * pool.kind.tflops
        self.totals = (max(1.0, gpus), max(1.0, memory), max(1.0, compute))
        groups = [g for f in self.flows.values() for g in f.groups.values()]
        self.asks.keep(group.ask for group in groups)
        gone = [g for g in groups if not self._options(g.ask).options]
        moved = [record for g in gone for _, record in g.records]
        return [*moved, *(r for r in self.aside if r.parked == Park.NEVER_FITS)]
