"""Who holds what and what flows were charged for it: the books that every decision changes."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count

from drse_operator.admission.asks import Ask
from drse_operator.admission.durations import Durations
from drse_operator.admission.flows import Flow, Record, Unit
from drse_operator.admission.pools import FAR, KindId, Pool, kind_id
from drse_operator.admission.snapshot import Device, Ended, FlowKey, Holding, Job, Queue
from drse_operator.admission.sojourn import ProcessorSharing
from drse_operator.sizing.shapes import Shape


@dataclass(frozen=True, slots=True)
class Rules:
    """What an administrator may set about admission, in seconds.

    ``lead_cap``: how much service of the whole cluster backfilling may give a flow beyond the one that waits
    at the head. ``quantum``: services are charged for so much time at once while they run.
    """

    lead_cap: float = 24 * 3600.0
    quantum: float = 600.0


class Ledger:
    """Pools, flows and running replicas. No decision is made here."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.rules = rules
        self.now = now
        self.pools: dict[KindId, Pool] = {}
        self.queues: dict[str, Queue] = {}
        self.held: Counter[str] = Counter()
        self.flows: dict[FlowKey, Flow] = {}
        self.records: dict[str, Record] = {}
        self.sharing: ProcessorSharing[FlowKey] = ProcessorSharing(0, now)
        self.durations = Durations()
        #: Until when services that the engine found running have been charged.
        self.charged_until = now
        #: (uid, replica) of work that was told to give way and still holds its GPUs.
        self.vacating: set[tuple[str, int]] = set()
        #: GPUs, bytes of memory and TFLOPS of the cluster.
        self.totals = (1.0, 1.0, 1.0)
        self.service_gpus = 0
        self._serial = count()
        self._overdue: list[tuple[float, int, str, int]] = []
        self._quanta: list[tuple[float, int, str, int]] = []

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
        gpus, memory, compute = self.totals
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

    def adopt(self, record: Record, replica: int) -> None:
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
        self.hold(unit)
        if serves:
            self.service_gpus += unit.gpus
            quantum = self.rules.quantum
            begun = max(0, math.floor((self.charged_until - since) / quantum))
            heapq.heappush(self._quanta, (since + (begun + 1) * quantum, unit.serial, uid, replica))
        else:
            heapq.heappush(self._overdue, (end, unit.serial, uid, replica))
        return unit

    def hold(self, unit: Unit, only: str | None = None, pool: Pool | None = None) -> None:
        mine = self.pools.get(kind_id(unit.shape.kind))
        if mine is None or (pool is not None and pool is not mine):
            return
        for name, gpus, _ in unit.places:
            if only is None or name == only:
                mine.hold(name, unit.end, unit.serial, gpus)

    def free(self, record: Record, replica: int) -> None:
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
            self.service_gpus -= unit.gpus
        else:
            self.charge(flow, (self.now - unit.since) * unit.share - unit.charged)

    def learn(self, record: Record) -> None:
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

    # -- time ------------------------------------------------------------------------------------------

    def charge_services(self) -> None:
        """Charge services for the quanta that have begun."""
        while self._quanta and self._quanta[0][0] <= self.now:
            self._charge_quantum(*heapq.heappop(self._quanta))

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
            self.hold(unit)
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
