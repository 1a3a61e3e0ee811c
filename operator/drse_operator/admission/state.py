"""What the engine knows: pools, queues, flows, jobs and who runs, kept up to date event by event."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from drse_operator.admission.asks import Ask, AskTable
from drse_operator.admission.durations import Durations
from drse_operator.admission.flows import Flow, Rank, Record, Unit
from drse_operator.admission.pools import FAR, KindId, Pool, kind_id
from drse_operator.admission.snapshot import (
    Device,
    Ended,
    FlowKey,
    Holding,
    Job,
    Mark,
    Node,
    Ordering,
    Queue,
)
from drse_operator.admission.sojourn import Member, ProcessorSharing
from drse_operator.admission.units import could_hold, next_unit
from drse_operator.sizing.shapes import AcceleratorKind, Shape


@dataclass(frozen=True, slots=True)
class Rules:
    """What an administrator may set about admission, in seconds.

    ``lead_cap``: how much service of the whole cluster backfilling may give a flow beyond the one that waits
    at the head. ``quantum``: services are charged for so much time at once while they run.
    """

    lead_cap: float = 24 * 3600.0
    quantum: float = 600.0


class Park:
    """Why a job that lacks replicas takes no part in a pass."""

    REFUSED = "refused"
    BACKING_OFF = "backing off"
    CLEARING = "clearing"
    EXCEEDS_LIMIT = "exceeds limit"
    NEVER_FITS = "never fits"


class State:
    """Mutable state with the events that change it. No decision is made here."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.rules = rules
        self.now = now
        self.pools: dict[KindId, Pool] = {}
        self.queues: dict[str, Queue] = {}
        self.held: Counter[str] = Counter()
        self.flows: dict[FlowKey, Flow] = {}
        self.records: dict[str, Record] = {}
        self.asks = AskTable()
        self.sharing: ProcessorSharing[FlowKey] = ProcessorSharing(0, now)
        self.durations = Durations()
        #: Places in their flow's virtual system that were given to jobs since the engine was made.
        self.marked: dict[str, Mark] = {}
        #: (uid, replica) of work that was told to give way and still holds its GPUs.
        self.vacating: set[tuple[str, int]] = set()
        self._serial = count()
        self._epoch = 0
        self._seen_epoch = -1
        self._totals = (1.0, 1.0, 1.0)
        self._service_gpus = 0
        self._parked: dict[str, Record] = {}
        self._sleeping: list[tuple[float, str]] = []
        self._overdue: list[tuple[float, int, str, int]] = []
        self._quanta: list[tuple[float, int, str, int]] = []

    # -- nodes and queues ------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """A node appeared or changed. Its free GPUs are those that neither we nor others hold."""
        pool = self.pools.setdefault(kind_id(node.kind), Pool(node.kind))
        pool.kind = node.kind
        pool.put(node)
        for record in self.records.values():
            for unit in record.units.values():
                self._hold(unit, only=node.name, pool=pool)
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
            self._adopt(record, replica)
        self.refile(record)

    def drop_job(self, uid: str, ended: bool = False) -> None:
        """A job is gone: it was deleted, or it ran to its end (then its duration is learned)."""
        record = self.records.get(uid)
        if record is None:
            return
        self._unfile(record)
        if ended and record.units:
            self._learn(record)
        for replica in list(record.units):
            self._free(record, replica)
        del self.records[uid]
        self.marked.pop(uid, None)

    def replica_ended(self, uid: str, replica: int) -> None:
        """One replica of a job ran to its end; its GPUs are free."""
        record = self.records[uid]
        self.sharing.advance(self.now)
        self._free(record, replica)
        self._unfile(record)
        holdings = tuple(h for h in record.job.holdings if h.replica != replica)
        record.job = replace(record.job, holdings=holdings, done=record.job.done | {replica})
        self.refile(record)

    def replica_vacated(self, uid: str, replica: int) -> None:
        """One replica of a job was taken from it; its GPUs are free and it waits again."""
        record = self.records[uid]
        self._free(record, replica)
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
        self.sharing.set_gpus(max(0, int(self._totals[0]) - self._service_gpus))
        self.sharing.advance(self.now)
        while self._sleeping and self._sleeping[0][0] <= self.now:
            record = self.records.get(heapq.heappop(self._sleeping)[1])
            if record is not None and record.parked == Park.BACKING_OFF:
                self.refile(record)
        while self._quanta and self._quanta[0][0] <= self.now:
            due, serial, uid, replica = heapq.heappop(self._quanta)
            self._charge_quantum(due, serial, uid, replica)

    def expect_longer(self) -> None:
        """Holders that should have ended by now are taken to need twice as long as thought, and so on."""
        while self._overdue and self._overdue[0][0] <= self.now:
            _, serial, uid, replica = heapq.heappop(self._overdue)
            unit = self._unit(serial, uid, replica)
            if unit is None:
                continue
            pool = self.pools[kind_id(unit.shape.kind)]
            for name, gpus, _ in unit.places:
                pool.unhold(name, unit.end, unit.serial, gpus)
            while unit.end <= self.now:
                unit.end = unit.since + 2 * max(1.0, unit.end - unit.since)
            self._hold(unit)
            heapq.heappush(self._overdue, (unit.end, serial, uid, replica))

    def _charge_quantum(self, due: float, serial: int, uid: str, replica: int) -> None:
        unit = self._unit(serial, uid, replica)
        if unit is None:
            return
        job = self.records[uid].job
        cost = unit.share * self.rules.quantum
        unit.charged += cost
        flow, pool = self.flows[job.flow], self.pools[kind_id(unit.shape.kind)]
        if not flow.groups:
            flow.finish = max(flow.finish, pool.virtual)
        self.charge(flow, cost)
        heapq.heappush(self._quanta, (due + self.rules.quantum, serial, uid, replica))

    def _unit(self, serial: int, uid: str, replica: int) -> Unit | None:
        record = self.records.get(uid)
        unit = None if record is None else record.units.get(replica)
        return unit if unit is not None and unit.serial == serial else None

    # -- tags ------------------------------------------------------------------------------------------

    def charge(self, flow: Flow, cost: float) -> None:
        """A flow is given ``cost`` (seconds of the whole cluster); negative when something is paid back."""
        flow.finish += cost / flow.weight

    def lift(self, flow: Flow, ask: Ask) -> None:
        """A flow that has had nothing to start does not come in behind what its kinds have come to."""
        flow.finish = max(flow.finish, min(pool.virtual for _, pool in ask.options))

    def share(self, shape: Shape) -> float:
        """Dominant share of the cluster that one replica takes. It holds whole GPUs, so it is charged all
        of their memory and compute, however little of them it needs."""
        gpus, memory, compute = self._totals
        kind = shape.kind
        return shape.gpus * max(1 / gpus, kind.memory / memory, kind.tflops / compute)

    @property
    def lead_cap(self) -> float:
        """The cap in units of tags: no flow runs ahead by more than ``rules.lead_cap`` of the cluster."""
        return self.rules.lead_cap / max((f.weight for f in self.flows.values()), default=1.0)

    def weight(self, key: FlowKey) -> float:
        """Weight of a flow: its queue's times that of the task type in the queue."""
        queue = self.queues.get(key.queue)
        return 1.0 if queue is None else queue.weight * queue.task_weights.get(key.task_type, 1.0)

    # -- holding and freeing ---------------------------------------------------------------------------

    def start(self, record: Record, shape: Shape, replica: int, names: list[str], charged: float) -> Unit:
        """A replica is given free GPUs now."""
        pool = self.pools[kind_id(shape.kind)]
        each = shape.gpus_per_worker
        places = tuple((name, each, pool.take(name, each)) for name in names)
        unit = self._new_unit(record, shape, replica, places, self.now, charged)
        holdings = (
            Holding(replica, worker, name, each, False, self.now, charged / len(names))
            for worker, name in enumerate(names)
        )
        record.job = replace(record.job, holdings=(*record.job.holdings, *holdings))
        self.held[record.job.queue] += unit.gpus
        return unit

    def _adopt(self, record: Record, replica: int) -> None:
        """A replica that a new record holds already."""
        mine = sorted((h for h in record.job.holdings if h.replica == replica), key=lambda h: h.worker)
        shape = self._shape_of(record.job, mine)
        if shape is None:
            return
        since = mine[0].since if mine[0].since is not None else record.job.started_at
        known = [h.charged for h in mine if h.charged is not None]
        cost = self.share(shape) * min(record.estimate.expected, self.rules.quantum * 6)
        places = tuple((h.node, h.count, ()) for h in mine)
        self._new_unit(
            record,
            shape,
            replica,
            places,
            self.now if since is None else since,
            sum(known) if known else cost,
        )

    def _shape_of(self, job: Job, holdings: list[Holding]) -> Shape | None:
        for shape in job.shapes:
            pool = self.pools.get(kind_id(shape.kind))
            if pool is not None and holdings[0].node in pool.slots:
                return shape
        return None

    def _new_unit(
        self,
        record: Record,
        shape: Shape,
        replica: int,
        places: tuple[tuple[str, int, tuple[Device, ...]], ...],
        since: float,
        charged: float,
    ) -> Unit:
        uid, estimate, serves = record.job.uid, record.estimate, record.job.task_type.serves
        end = FAR if serves else since + max(1.0, estimate.expected)
        unit = Unit(
            next(self._serial), uid, replica, shape, places, since, estimate, self.share(shape), charged, end
        )
        record.units[replica] = unit
        self._hold(unit)
        if serves:
            self._service_gpus += unit.gpus
            heapq.heappush(self._quanta, (since + self.rules.quantum, unit.serial, uid, replica))
        else:
            heapq.heappush(self._overdue, (end, unit.serial, uid, replica))
        return unit

    def _hold(self, unit: Unit, only: str | None = None, pool: Pool | None = None) -> None:
        mine = self.pools.get(kind_id(unit.shape.kind))
        if mine is None or (pool is not None and pool is not mine):
            return
        for name, gpus, _ in unit.places:
            if only is None or name == only:
                mine.hold(name, unit.end, unit.serial, gpus)

    def _free(self, record: Record, replica: int) -> None:
        """A replica's GPUs are free; its flow is charged what it really took."""
        unit = record.units.pop(replica)
        self.vacating.discard((record.job.uid, replica))
        pool = self.pools.get(kind_id(unit.shape.kind))
        for name, gpus, devices in unit.places:
            if pool is not None:
                pool.unhold(name, unit.end, unit.serial, gpus)
                pool.give(name, gpus, devices)
        self.held[record.job.queue] -= unit.gpus
        flow = self.flows[record.job.flow]
        if record.job.task_type.serves:
            self._service_gpus -= unit.gpus
        else:
            self.charge(flow, (self.now - unit.since) * unit.share - unit.charged)

    def _learn(self, record: Record) -> None:
        job = record.job
        seconds = self.now - min(u.since for u in record.units.values())
        gpus = max(1, job.wanted * min((s.gpus for s in job.shapes), default=1))
        if not job.task_type.serves:
            self.sharing.advance(self.now)
            self.sharing.correct(job.flow, record.member, seconds)
        self.durations.learn(
            Ended(
                job.uid, job.queue, job.task_type, gpus, seconds, self.now, job.model, job.expected_duration
            )
        )

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
        self._totals = (max(1.0, gpus), max(1.0, memory), max(1.0, compute))
        groups = [g for f in self.flows.values() for g in f.groups.values()]
        gone = [g for g in groups if not self._options(g.ask).options]
        moved = [record for g in gone for _, record in g.records]
        for record in (*moved, *(r for r in self._parked.values() if r.parked == Park.NEVER_FITS)):
            self.refile(record)
