"""Who holds what and what flows were charged for it: the books that every decision changes."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from drse_operator.admission.asks import Ask
from drse_operator.admission.durations import Durations
from drse_operator.admission.flows import Flow, Record, Unit
from drse_operator.admission.pools import FAR, KindId, Pool, kind_id
from drse_operator.admission.snapshot import Device, Ended, FlowKey, Holding, Job, Queue
from drse_operator.admission.sojourn import ProcessorSharing
from drse_operator.admission.units import gpus_asked
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
        #: What kinds had come to of which no node is left (``Pool.virtual``).
        self.former_virtual: dict[str, float] = {}
        self._serial = count()
        self._overdue: list[tuple[float, int, str, int]] = []
        self._quanta: list[tuple[float, str, int, int]] = []
        #: Who holds GPUs of a node, by serial number.
        self._on_node: dict[str, dict[int, Unit]] = defaultdict(dict)

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

    def take_over(self, record: Record) -> bool:
        """Make the record's units what its job says it holds; True when that changed anything.

        Nothing is charged or paid back: what happened to the GPUs is told with the nodes and with who ended.
        """
        held: dict[int, list[Holding]] = defaultdict(list)
        for holding in record.job.holdings:
            held[holding.replica].append(holding)
        changed = False
        for replica in [r for r in record.units if r not in held]:
            self._retire(record, replica)
            changed = True
        for replica in sorted(held):
            changed |= self._adopt(record, replica, sorted(held[replica], key=lambda h: h.worker))
        return changed

    def _adopt(self, record: Record, replica: int, mine: list[Holding]) -> bool:
        """A replica holds these GPUs; False when that is known. Those on nodes that are gone do not count."""
        known, shape = record.units.get(replica), self._shape_of(record.job, mine)
        if shape is None:
            if known is not None:
                self._retire(record, replica)
            return known is not None
        since = mine[0].since if mine[0].since is not None else record.job.started_at
        costs = [h.charged for h in mine if h.charged is not None]
        share, estimate = self.share(shape), record.estimate
        charged = sum(costs) if costs else share * min(estimate.expected, self.rules.quantum * 6)
        if known is not None:
            same = [(name, gpus) for name, gpus, _ in known.places] == [(h.node, h.count) for h in mine]
            if same and (known.since, known.share, known.estimate) == (since, share, estimate):
                known.shape, known.charged = shape, charged
                return False
            self._retire(record, replica)
        places = tuple((h.node, h.count, ()) for h in mine)
        self._new_unit(record, shape, replica, places, self.now if since is None else since, charged)
        return True

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
        for name, _, _ in places:
            self._on_node[name][unit.serial] = unit
        if serves:
            self.service_gpus += unit.gpus
            number = max(0, math.floor((self.charged_until - since) / self.rules.quantum)) + 1
            # Dividing rounds; what is due by now has been charged.
            number += since + number * self.rules.quantum <= self.charged_until
            self._expect_quantum(unit, number)
        else:
            heapq.heappush(self._overdue, (end, unit.serial, uid, replica))
        return unit

    def _expect_quantum(self, unit: Unit, number: int) -> None:
        due = unit.since + number * self.rules.quantum
        heapq.heappush(self._quanta, (due, unit.uid, unit.replica, unit.serial))

    def hold(self, unit: Unit, only: str | None = None, pool: Pool | None = None) -> None:
        mine = self.pools.get(kind_id(unit.shape.kind))
        if mine is None or (pool is not None and pool is not mine):
            return
        for name, gpus, _ in unit.places:
            if only is None or name == only:
                mine.hold(name, unit.end, unit.serial, gpus)

    def holders_on(self, node: str) -> Iterable[Unit]:
        """Units of ours with GPUs of a node."""
        return self._on_node.get(node, {}).values()

    def free(self, record: Record, replica: int) -> None:
        """A replica's GPUs are free; its flow is charged what it really took."""
        unit = self._retire(record, replica)
        pool = self.pools.get(kind_id(unit.shape.kind))
        for name, gpus, devices in unit.places:
            if pool is not None:
                pool.give(name, gpus, devices)
        self.held[record.job.queue] -= unit.gpus
        if not record.job.task_type.serves:
            flow = self.flows[record.job.flow]
            self.charge(flow, (self.now - unit.since) * unit.share - unit.charged)

    def _retire(self, record: Record, replica: int) -> Unit:
        """A replica holds nothing any more."""
        unit = record.units.pop(replica)
        self.vacating.discard((unit.uid, replica))
        pool = self.pools.get(kind_id(unit.shape.kind))
        for name, gpus, _ in unit.places:
            if pool is not None:
                pool.unhold(name, unit.end, unit.serial, gpus)
            on_node = self._on_node[name]
            on_node.pop(unit.serial, None)
            if not on_node:
                del self._on_node[name]
        if record.job.task_type.serves:
            self.service_gpus -= unit.gpus
        return unit

    def learn(self, record: Record) -> None:
        job = record.job
        seconds = self.now - min(u.since for u in record.units.values())
        gpus = gpus_asked(job)
        if not job.task_type.serves:
            self.sharing.advance(self.now)
            record.member = self.sharing.correct(job.flow, record.member, seconds)
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
        self.charged_until = self.now

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

    def _charge_quantum(self, due: float, uid: str, replica: int, serial: int) -> None:
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
        self._expect_quantum(unit, round((due - unit.since) / self.rules.quantum) + 1)

    def _unit(self, serial: int, uid: str, replica: int) -> Unit | None:
        record = self.records.get(uid)
        unit = None if record is None else record.units.get(replica)
        return unit if unit is not None and unit.serial == serial else None
