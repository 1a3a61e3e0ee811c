"""Random histories of a small cluster, told snapshot by snapshot as the operator would tell them.

What has not changed from one snapshot to the next is the same object. Decisions are carried out, or their
writes get lost; GPUs of what was released come free a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

from drse_operator.admission.decisions import Memory, Plan
from drse_operator.admission.snapshot import (
    Device,
    Ended,
    Holding,
    Job,
    Learned,
    Node,
    Ordering,
    Preemption,
    Queue,
    Snapshot,
)
from drse_operator.admission.units import gpus_asked
from drse_operator.api.enums import DeviceSelection, TaskType, TopologyMode, TopologyScope
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape
from tests.admission.builders import NodePlan, make_nodes

QUEUES = ("chat", "research", "spare")
TYPES = (TaskType.INFERENCE, TaskType.BATCH, TaskType.BATCH, TaskType.FINE_TUNING)


@dataclass(slots=True)
class Host:
    """A node with all its devices, whether it is there, and how many of its GPUs strangers hold."""

    node: Node
    devices: tuple[Device, ...]
    there: bool = True
    strangers: int = 0
    seen: Node | None = None


@dataclass(slots=True)
class Cluster:
    """The truth, and what becomes of it.

    ``leaving`` are (uid, node, GPUs, devices) of released work that are not free yet; ``named`` the devices
    of each worker that holds some.
    """

    chance: Random
    hosts: dict[str, Host] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    leaving: list[tuple[str, str, int, tuple[str, ...]]] = field(default_factory=list)
    named: dict[tuple[str, int, int], tuple[str, ...]] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    learned: tuple[Learned, ...] = ()
    now: float = 1000.0
    _made: int = 0

    @classmethod
    def begin(cls, seed: int) -> Cluster:
        """A cluster of a few nodes and queues, without jobs."""
        made = cls(Random(seed))
        chance = made.chance
        plans = [
            NodePlan(
                chance.choice(("H100", "L40S")),
                chance.choice((2, 4, 8)),
                rack=chance.choice(("", "r1")),
                exact=chance.random() < 0.5,
                pcie_roots=2,
            )
            for _ in range(chance.randint(1, 5))
        ]
        made.hosts = {node.name: Host(node, node.free) for node in make_nodes(plans)}
        for name in QUEUES:
            made.queues[name] = Queue(name, chance.randint(1, 4), 0, None, 0)
        return made

    # -- what happens ----------------------------------------------------------------------------------

    def happen(self) -> None:
        """Some time passes and a few things happen."""
        self.now += self.chance.choice((0.0, 0.05, 1.0, 30.0, 700.0, 4000.0))
        events = self._events()
        for _ in range(self.chance.randint(0, 5)):
            self.chance.choice(events)()

    def _events(self) -> list[Callable[[], None]]:
        common = [self._arrive, self._arrive, self._arrive, self._end, self._end, self._delete, self._scale]
        cluster = [self._strangers, self._node, self._queue, self._learn]
        return [*common, *cluster, self._clear, self._back_off, self._ready, self._lose, self._refuse]

    def _some(self, of: Callable[[Job], bool]) -> Job | None:
        found = [job for job in self.jobs.values() if of(job)]
        return self.chance.choice(found) if found else None

    def _arrive(self) -> None:
        chance = self.chance
        kinds = sorted({h.node.kind for h in self.hosts.values()}, key=lambda k: k.product)
        shapes = tuple(self._shape(k) for k in chance.sample(kinds, chance.randint(1, len(kinds))))
        task = chance.choice(TYPES)
        wanted = chance.randint(1, 3)
        name = f"job-{self._made:02}"
        self._made += 1
        self.jobs[name] = Job(
            key=JobKey("team", name),
            uid=name,
            queue=chance.choice((*QUEUES, "chat", "nowhere")),
            task_type=task,
            priority=chance.choice((0, 0, 1)),
            queued_at=self.now - chance.choice((0.0, 0.0, 0.02, 3.0)),
            wanted=wanted,
            first_unit=chance.randint(0, wanted) if task.serves else wanted,
            shapes=shapes,
            topology=chance.choice((None, TopologyScope.RACK)),
            topology_mode=chance.choice(tuple(TopologyMode)),
            expected_duration=chance.choice((None, 20.0, 500.0)),
            model=chance.choice(("", "v3")),
        )

    def _shape(self, kind: AcceleratorKind) -> Shape:
        each = self.chance.choice((1, 1, 2, 4))
        workers = self.chance.choice((1, 1, 2))
        return Shape(kind, workers, each, each, workers, 0)

    def _end(self) -> None:
        job = self._some(lambda j: bool(j.holdings) and not j.task_type.serves)
        if job is None:
            return
        since = min(h.since or 0.0 for h in job.holdings)
        charged = sum(h.charged or 0.0 for h in job.holdings)
        self._leave(job, job.holdings)
        del self.jobs[job.uid]
        self.ended.append(
            Ended(
                job.uid,
                job.queue,
                job.task_type,
                gpus_asked(job),
                self.now - since,
                self.now,
                job.model,
                job.expected_duration,
                used=charged * self.chance.random(),
                charged=charged,
                mark=job.mark,
            )
        )

    def _delete(self) -> None:
        if (job := self._some(lambda j: True)) is not None:
            self._leave(job, job.holdings)
            del self.jobs[job.uid]

    def _scale(self) -> None:
        if (job := self._some(lambda j: j.task_type.serves)) is not None:
            wanted = self.chance.randint(0, 4)
            self.jobs[job.uid] = replace(job, wanted=wanted, first_unit=min(job.first_unit, wanted))

    def _strangers(self) -> None:
        host = self.chance.choice(list(self.hosts.values()))
        host.strangers = self.chance.choice((0, 0, 1, 2))

    def _node(self) -> None:
        host = self.chance.choice(list(self.hosts.values()))
        if self.chance.random() < 0.5:
            host.there = not host.there
            return
        host.node = replace(host.node, capacity=max(1, host.node.capacity + self.chance.choice((-1, 1))))
        kind = replace(host.node.kind, total=host.node.kind.total + self.chance.choice((-1, 0, 1)))
        self._rename(host.node.kind, kind)

    def _rename(self, old: AcceleratorKind, kind: AcceleratorKind) -> None:
        """The cluster has another number of GPUs of a kind: nodes and shapes name it anew."""
        for host in self.hosts.values():
            if host.node.kind == old:
                host.node = replace(host.node, kind=kind)
        for uid, job in self.jobs.items():
            shapes = tuple(replace(s, kind=kind) if s.kind == old else s for s in job.shapes)
            self.jobs[uid] = replace(job, shapes=shapes)

    def _queue(self) -> None:
        name, chance = self.chance.choice(QUEUES), self.chance
        if name in self.queues and chance.random() < 0.2:
            del self.queues[name]
            return
        self.queues[name] = Queue(
            name,
            chance.randint(1, 4),
            chance.choice((0, 0, 2)),
            chance.choice((None, 3, 8)),
            0,
            chance.choice(tuple(Ordering)),
            {TaskType.BATCH: chance.choice((0.5, 2.0))},
            chance.choice(tuple(Preemption)),
            chance.choice((0.0, 50.0)),
        )

    def _clear(self) -> None:
        """What was released has gone."""
        self.leaving = [entry for entry in self.leaving if self.chance.random() < 0.3]
        left = {entry[0] for entry in self.leaving}
        for uid, job in self.jobs.items():
            if job.clearing and uid not in left:
                self.jobs[uid] = replace(job, clearing=frozenset())

    def _back_off(self) -> None:
        if (job := self._some(lambda j: not j.holdings)) is not None:
            self.jobs[job.uid] = replace(job, not_before=self.now + self.chance.choice((0.01, 5.0, 100.0)))

    def _ready(self) -> None:
        if (job := self._some(lambda j: bool(j.holdings))) is not None:
            holdings = tuple(replace(h, ready=True) for h in job.holdings)
            self.jobs[job.uid] = replace(job, holdings=holdings)

    def _lose(self) -> None:
        """A promise that was taken for made has been refused by the API server after all."""
        if (job := self._some(lambda j: bool(j.holdings))) is not None:
            self.jobs[job.uid] = replace(job, holdings=())

    def _learn(self) -> None:
        runs = tuple((float(self.chance.randint(1, 900)), None) for _ in range(12))
        self.learned = (Learned("chat", TaskType.BATCH, "", self.chance.randint(1, 4), runs),)

    def _refuse(self) -> None:
        if (job := self._some(lambda j: not j.holdings)) is not None:
            refusal = None if job.refusal else Refusal(WaitReason.NAMESPACE_NOT_ALLOWED, "not let in")
            self.jobs[job.uid] = replace(job, refusal=refusal)

    # -- telling and carrying out ----------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What is to be seen now, without memory. Ends are told once."""
        held = dict.fromkeys(self.queues, 0)
        taken = [(node, count, devices) for _, node, count, devices in self.leaving]
        for job in self.jobs.values():
            for h in job.holdings:
                taken.append((h.node, h.count, self.named.get((job.uid, h.replica, h.worker), ())))
                if job.queue in held:
                    held[job.queue] += h.count
        nodes = tuple(self._seen(host, taken) for host in self.hosts.values() if host.there)
        queues = {name: replace(queue, held=held[name]) for name, queue in self.queues.items()}
        ended, self.ended = tuple(self.ended), []
        return Snapshot(nodes, queues, tuple(self.jobs.values()), learned=self.learned, ended=ended)

    @staticmethod
    def _seen(host: Host, taken: Iterable[tuple[str, int, tuple[str, ...]]]) -> Node:
        mine = [(count, devices) for node, count, devices in taken if node == host.node.name]
        busy = {uuid for _, devices in mine for uuid in devices}
        free = max(0, host.node.capacity - sum(count for count, _ in mine) - host.strangers)
        devices: tuple[Device, ...] = ()
        if host.node.selection is DeviceSelection.EXACT:
            devices = tuple(d for d in host.devices if d.uuid not in busy)[host.strangers :][:free]
            free = len(devices)
        fresh = replace(host.node, free_count=free, free=devices)
        if host.seen != fresh:
            host.seen = fresh
        assert host.seen is not None
        return host.seen

    def _leave(self, job: Job, holdings: Iterable[Holding]) -> None:
        for h in holdings:
            devices = self.named.pop((job.uid, h.replica, h.worker), ())
            self.leaving.append((job.uid, h.node, h.count, devices))

    def carry_out(self, plan: Plan) -> None:
        """Some of the plan comes about; the other writes are refused."""
        self._mark(plan.memory)
        for assign in plan.assign:
            job = self.jobs[assign.uid]
            if self.chance.random() < 0.15:
                continue
            each = assign.charged / len(assign.placements)
            for p in assign.placements:
                self.named[job.uid, p.replica, p.worker] = tuple(d.uuid for d in p.devices)
            holdings = tuple(
                Holding(p.replica, p.worker, p.node, p.count, False, self.now, each)
                for p in assign.placements
            )
            self.jobs[assign.uid] = replace(job, holdings=(*job.holdings, *holdings))
        for release in plan.release:
            job = self.jobs[release.uid]
            if self.chance.random() < 0.15:
                continue
            gone = [h for h in job.holdings if h.replica in release.replicas]
            self._leave(job, gone)
            self.jobs[release.uid] = replace(
                job,
                holdings=tuple(h for h in job.holdings if h not in gone),
                clearing=frozenset(release.replicas),
                preempted=job.preempted + 1,
            )

    def _mark(self, memory: Memory) -> None:
        for uid, mark in memory.marks.items():
            if uid in self.jobs:
                self.jobs[uid] = replace(self.jobs[uid], mark=mark)


def with_memory(snapshot: Snapshot, memory: Memory) -> Snapshot:
    """The snapshot as somebody sees it who knows what an earlier plan left."""
    return replace(snapshot, flows=memory.flows, virtual_time=memory.virtual_time, clock_at=memory.clock_at)
