"""From the caches to the snapshot that a plan is made of, and to the view of a single job.

What is costly and seldom changes (kinds of accelerator, sizing of each job) is kept between snapshots and
renewed when what it was made from changes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from drse_operator.admission import snapshot as admission
from drse_operator.admission.decisions import Memory
from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection, Vendor
from drse_operator.api.gpuqueue import NamespaceSelector
from drse_operator.api.reasons import StateReason, WaitReason
from drse_operator.api.status import Assignment
from drse_operator.api.types import seconds
from drse_operator.cluster import devices
from drse_operator.cluster.usage import Usage, measure
from drse_operator.cluster.world import World
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape
from drse_operator.sizing.size import size
from drse_operator.workloads import names
from drse_operator.workloads.observed import Claim, DeviceRef, Job
from drse_operator.workloads.seen import Problem, Seen
from drse_operator.workloads.templates import template_conflict
from drse_operator.workloads.wanted import first_unit, wanted_replicas


@dataclass(frozen=True, slots=True)
class _Fleet:
    """GPUs of the cluster, as of one epoch of nodes and slices."""

    gpus: tuple[devices.Gpus, ...]
    kinds: tuple[AcceleratorKind, ...]
    kind_of: dict[tuple[Vendor, str, int], AcceleratorKind]
    uuids: dict[DeviceRef, str]
    #: Device by UUID, with its node.
    by_uuid: dict[str, tuple[str, devices.SliceDevice]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job asks for by its spec alone, as of one epoch."""

    epoch: int
    spec: DeepSeekJobSpec
    priority: int
    shapes: tuple[Shape, ...]
    refusal: Refusal | None


class Picture:
    """Builds snapshots and views from a :class:`World`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fleet_epoch = -1
        self._fleet: _Fleet | None = None
        self._asked: dict[str, _Asked] = {}
        self._drawn: dict[str, tuple[Job, int, int, admission.Job | None]] = {}
        self._memory = Memory()
        self._marks: dict[str, admission.Mark] = {}
        #: Jobs that could not be handled, by uid: generation of the spec, and why.
        self._refused: dict[str, tuple[int, str]] = {}

    # -- the whole cluster -----------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Who holds which GPUs now."""
        world = self._world
        return measure(world.holders(), world.pods.values(), world.claims.values(), self.fleet.uuids)

    def snapshot(self, usage: Usage) -> admission.Snapshot:
        """Everything that a plan may look at, with assumed statuses in place."""
        jobs = []
        drawn: dict[str, tuple[Job, int, int, admission.Job | None]] = {}
        for job in self._world.all_jobs():
            entry = self._drawn.get(job.uid)
            stamp, epoch = self._world.stamp(job.uid), self._world.epoch
            if entry is None or entry[0] is not job or entry[1] != stamp or entry[2] != epoch:
                entry = (job, stamp, epoch, self._job(job))
            drawn[job.uid] = entry
            if entry[3] is not None:
                jobs.append(entry[3])
        self._drawn = drawn
        return admission.Snapshot(
            nodes=self._nodes(usage),
            queues=self._queues(usage),
            jobs=tuple(jobs),
            flows=self._memory.flows,
            virtual_time=self._memory.virtual_time,
            clock_at=self._memory.clock_at,
        )

    def remember(self, memory: Memory) -> None:
        """What a plan leaves for the next one: tags and clocks of flows, places of jobs new to it."""
        self._memory = memory
        for uid, mark in memory.marks.items():
            self._marks[uid] = mark
            self._drawn.pop(uid, None)
        for uid in [uid for uid in self._marks if self._world.job(uid) is None]:
            del self._marks[uid]

    @property
    def fleet(self) -> _Fleet:
        """GPUs of the cluster, renewed when nodes or slices change."""
        if self._fleet is None or self._fleet_epoch != self._world.gpus_epoch:
            self._fleet = _fleet(self._world)
            self._fleet_epoch = self._world.gpus_epoch
        return self._fleet

    def _nodes(self, usage: Usage) -> tuple[admission.Node, ...]:
        nodes = []
        for gpus in self.fleet.gpus:
            item = self._world.nodes.get("", gpus.node)
            if item is None or item.unready:
                continue
            free: tuple[admission.Device, ...] = ()
            if gpus.selection is DeviceSelection.EXACT:
                free = tuple(
                    d.device for d in gpus.devices if not d.taint and d.device.uuid not in usage.devices
                )
                capacity, free_count = sum(not d.taint for d in gpus.devices), len(free)
            else:
                capacity = gpus.count
                free_count = max(0, gpus.count - usage.counts.get((gpus.node, gpus.resource), 0))
            nodes.append(
                admission.Node(
                    name=gpus.node,
                    kind=self.fleet.kind_of[gpus.vendor, gpus.product, gpus.memory],
                    selection=gpus.selection,
                    capacity=capacity,
                    free_count=free_count,
                    free=free,
                    resource=gpus.resource,
                    domains=devices.domains(item),
                )
            )
        return tuple(nodes)

    def _queues(self, usage: Usage) -> dict[str, admission.Queue]:
        return {
            queue.name: admission.Queue(
                name=queue.name,
                weight=queue.spec.weight,
                # Taking GPUs back is not switched on: who gave way to whom is not remembered yet.
                guaranteed=0,
                limit=queue.spec.limit,
                held=usage.by_queue.get(queue.name, 0),
            )
            for queue in self._world.queues.values()
            if queue.spec is not None
        }

    def refuse(self, job: Job, message: str) -> None:
        """Admit a job no more until its spec changes."""
        self._refused[job.uid] = (job.generation, message)
        self._asked.pop(job.uid, None)
        self._drawn.pop(job.uid, None)

    # -- one job ---------------------------------------------------------------------------------------

    def seen(self, job: Job) -> Seen:
        """A job with everything of it that the cluster shows."""
        return Seen(
            job=job,
            pods=self._world.pods_of(job.uid),
            claims=self._world.claims_of(job.uid),
            services=self._world.services_of(job.uid),
            problems=self._problems(job),
        )

    def _job(self, job: Job) -> admission.Job | None:
        """What a job asks for and holds; None when it takes no part in admission."""
        spec, status = job.spec, job.status
        if (
            spec is None
            or job.deleting
            or spec.suspend
            or (status.phase is not None and status.phase.finished)
        ):
            self._asked.pop(job.uid, None)
            self._refused.pop(job.uid, None)
            return None
        asked = self._ask(job, spec)
        pods = self._world.pods_of(job.uid)
        holdings = []
        for a in status.assignments:
            pod = pods.get((a.replica, a.worker))
            holdings.append(
                admission.Holding(a.replica, a.worker, a.node, a.count, pod is not None and pod.ready)
            )
        topology = spec.resources.topology
        ask = admission.Job(
            key=job.key,
            uid=job.uid,
            queue=spec.queue,
            task_type=spec.task_type,
            priority=asked.priority,
            queued_at=times.from_wire_or(status.queued_at, job.created),
            wanted=wanted_replicas(spec, status),
            first_unit=first_unit(spec),
            shapes=asked.shapes,
            refusal=asked.refusal,
            holdings=tuple(holdings),
            done=frozenset(status.succeeded_replicas),
            clearing=self._leftovers(job) if pods else frozenset(),
            not_before=times.from_wire_or(status.retry_at, 0.0),
            expected_duration=None
            if spec.estimated_duration is None
            else float(seconds(spec.estimated_duration)),
            # A service is charged when it is assigned; it has no end that a start would tell.
            started_at=None
            if status.start_time is None or spec.task_type.serves
            else times.from_wire(status.start_time),
            model=spec.model.name or "" if spec.model is not None else "",
            mark=self._marks.get(job.uid),
            preempted=status.preemptions,
        )
        if topology is None:
            return ask
        return replace(ask, topology=topology.scope, topology_mode=topology.mode)

    def _leftovers(self, job: Job) -> frozenset[int]:
        return Seen(job, self._world.pods_of(job.uid), {}, frozenset()).leftovers

    def _ask(self, job: Job, spec: DeepSeekJobSpec) -> _Asked:
        known = self._asked.get(job.uid)
        if known is not None and known.epoch == self._world.epoch and known.spec == spec:
            return known
        generation, why = self._refused.get(job.uid, (0, ""))
        if generation == job.generation and why:
            return self._keep(job, spec, 0, (), Refusal(WaitReason.INVALID_SPEC, why))
        priority, refusal = self._priority(spec)
        refusal = self._queue_refusal(job, spec) or refusal
        conflict = template_conflict(spec)
        if refusal is None and conflict is not None:
            refusal = Refusal(WaitReason.POD_TEMPLATE_CONFLICT, conflict)
        sizing = size(spec, self.fleet.kinds)
        return self._keep(job, spec, priority, sizing.shapes, refusal or sizing.refusal)

    def _keep(
        self,
        job: Job,
        spec: DeepSeekJobSpec,
        priority: int,
        shapes: tuple[Shape, ...],
        refusal: Refusal | None,
    ) -> _Asked:
        asked = _Asked(self._world.epoch, spec, priority, shapes, refusal)
        self._asked[job.uid] = asked
        return asked

    def _priority(self, spec: DeepSeekJobSpec) -> tuple[int, Refusal | None]:
        if spec.priority_class_name is None:
            default = next((p for p in self._world.priority_classes.values() if p.is_default), None)
            return (0 if default is None else default.value), None
        found = self._world.priority_classes.get("", spec.priority_class_name)
        if found is not None:
            return found.value, None
        message = (
            f"PriorityClass {spec.priority_class_name} does not exist: create it or change priorityClassName"
        )
        return 0, Refusal(WaitReason.PRIORITY_CLASS_NOT_FOUND, message)

    def _queue_refusal(self, job: Job, spec: DeepSeekJobSpec) -> Refusal | None:
        queue = self._world.queues.get("", spec.queue)
        if queue is None or queue.spec is None:
            have = ", ".join(sorted(q.name for q in self._world.queues.values())[:8]) or "none"
            message = (
                f"GPUQueue {spec.queue} does not exist (there are: {have}): create it or change spec.queue"
            )
            return Refusal(WaitReason.QUEUE_NOT_FOUND, message)
        if self._lets_in(queue.spec.namespaces, job.key.namespace):
            return None
        message = (
            f"GPUQueue {spec.queue} does not let namespace {job.key.namespace} in: "
            "use another queue, or have the namespace added to the queue"
        )
        return Refusal(WaitReason.NAMESPACE_NOT_ALLOWED, message)

    def _lets_in(self, selector: NamespaceSelector | None, namespace: str) -> bool:
        if selector is None or namespace in selector.names:
            return True
        found = self._world.namespaces.get("", namespace)
        wanted = selector.match_labels
        return found is not None and wanted is not None and wanted.items() <= found.labels.items()

    def _problems(self, job: Job) -> tuple[Problem, ...]:
        problems: list[Problem] = []
        for node_name in dict.fromkeys(a.node for a in job.status.assignments):
            node = self._world.nodes.get("", node_name)
            if node is None:
                problems.append(
                    Problem(StateReason.NODE_VANISHED, node_name, "", f"node {node_name} has vanished")
                )
            elif node.broken:
                problems.append(
                    Problem(StateReason.NODE_NOT_READY, node_name, "", f"node {node_name} is not ready")
                )
        claims = self._world.claims_of(job.uid)
        for a in job.status.assignments:
            for device in a.devices:
                problem = self._device_problem(a.node, device.uuid)
                if problem is not None:
                    problems.append(problem)
            claim = claims.get(names.claim_name(job.key.name, a.replica, a.worker))
            if claim is not None and (mismatch := self._mismatch(a, claim)) is not None:
                problems.append(mismatch)
        return tuple(problems)

    def _mismatch(self, assignment: Assignment, claim: Claim) -> Problem | None:
        """The scheduler has allocated other devices than were promised: cannot happen, and is looked for."""
        allocated = {self.fleet.uuids.get(ref, ref.name) for ref in claim.devices}
        promised = {device.uuid for device in assignment.devices}
        if not allocated or not promised or allocated == promised or claim.deleting:
            return None
        message = (
            f"claim {claim.name} was allocated {', '.join(sorted(allocated - promised)) or 'fewer GPUs'}, "
            f"promised were {', '.join(sorted(promised))}"
        )
        return Problem(StateReason.DEVICE_MISMATCH, assignment.node, "", message)

    def _device_problem(self, node: str, uuid: str) -> Problem | None:
        found = self.fleet.by_uuid.get(uuid)
        if found is None:
            message = f"GPU {uuid} on {node} is no longer published"
            return Problem(StateReason.DEVICE_VANISHED, node, uuid, message)
        if found[1].taint:
            message = f"GPU {uuid} on {node} {found[1].taint}"
            return Problem(StateReason.DEVICE_TAINTED, node, uuid, message)
        return None


def _fleet(world: World) -> _Fleet:
    found = tuple(devices.gpus(world.nodes.values(), world.slices.values(), world.taint_rules.values()))
    total: dict[tuple[Vendor, str, int], int] = defaultdict(int)
    most: dict[tuple[Vendor, str, int], int] = defaultdict(int)
    for gpus in found:
        key = (gpus.vendor, gpus.product, gpus.memory)
        total[key] += gpus.count
        most[key] = max(most[key], gpus.count)
    kind_of = {
        (vendor, product, memory): AcceleratorKind(
            vendor=gpus.vendor,
            product=product,
            memory=memory,
            tflops=0 if (facts := accelerators.lookup(product)) is None else facts.tflops,
            max_per_node=most[vendor, product, memory],
            total=total[vendor, product, memory],
        )
        for gpus in found
        for vendor, product, memory in [(gpus.vendor, gpus.product, gpus.memory)]
    }
    named = [(gpus.node, device) for gpus in found for device in gpus.devices]
    return _Fleet(
        gpus=found,
        kinds=tuple(sorted(kind_of.values(), key=lambda k: (k.vendor, k.product, k.memory))),
        kind_of=kind_of,
        uuids={device.ref: device.device.uuid for _, device in named},
        by_uuid={device.device.uuid: (node, device) for node, device in named},
    )
