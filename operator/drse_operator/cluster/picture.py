"""From the caches to the snapshot that a plan is made of, and to the view of a single job.

What is costly and seldom changes (kinds of accelerator, sizing of each job) is kept between snapshots and
renewed when what it was made from changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drse_operator.admission import snapshot as admission
from drse_operator.admission.decisions import Plan
from drse_operator.admission.durations import Durations
from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection, Preemption
from drse_operator.api.gpuqueue import NamespaceSelector
from drse_operator.api.reasons import WaitReason
from drse_operator.api.types import seconds
from drse_operator.cluster import devices, health, tags
from drse_operator.cluster.fleet import Fleet, draw_fleet
from drse_operator.cluster.recent import Recent, from_statuses
from drse_operator.cluster.usage import Usage, measure
from drse_operator.cluster.world import World
from drse_operator.sizing.shapes import Refusal, Shape
from drse_operator.sizing.size import size
from drse_operator.workloads.observed import Job
from drse_operator.workloads.seen import Seen
from drse_operator.workloads.templates import template_conflict
from drse_operator.workloads.wanted import first_unit, wanted_replicas


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
        self._fleet: Fleet | None = None
        self._asked: dict[str, _Asked] = {}
        #: Jobs that take part in admission, and as of which changes and epoch.
        self._drawn: dict[str, admission.Job] = {}
        self._drawn_at: tuple[int, int] | None = None
        #: Jobs to draw anew although nothing has happened to them.
        self._stale: set[str] = set()
        #: What jobs that were drawn since the last plan tell of the GPUs that they gave back.
        self._ended: dict[str, admission.Ended] = {}
        self._nodes_seen: dict[
            tuple[str, str, int], tuple[devices.Gpus, devices.NodeObject, admission.Node]
        ] = {}
        #: Of our own plans; without any, what the statuses of queues and jobs remember.
        self._recent: Recent | None = None
        #: Jobs that could not be handled, by uid: generation of the spec, and why.
        self._refused: dict[str, tuple[int, str]] = {}

    # -- the whole cluster -----------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Who holds which GPUs now."""
        world = self._world
        return measure(world.holders(), world.gpu_pods(), world.claims.values(), self.fleet.uuids)

    def snapshot(self, usage: Usage) -> admission.Snapshot:
        """Everything that a plan may look at, with assumed statuses in place."""
        self._redraw()
        queues, jobs = self._queues(usage), tuple(self._drawn.values())
        nodes, vacating = self._nodes(usage), self._vacating(queues)
        seen = admission.Snapshot(nodes, queues, jobs, vacating, out_of_service=self.fleet.closed)
        ended = list(self._ended.values())
        if self._recent is not None:
            return self._recent.complete(seen, ended, self._world)
        statuses = {queue.name: queue.status for queue in self._world.queues.values()}
        return from_statuses(statuses, seen, ended)

    def remember(self, snapshot: admission.Snapshot, plan: Plan) -> None:
        """What a plan leaves for the next one: tags and clocks of flows, places of jobs new to it."""
        if self._recent is None:
            self._recent = Recent(snapshot)
        self._recent.take(snapshot, plan, self._world)
        self._stale.update(plan.memory.marks)
        self._ended.clear()

    def forget(self) -> None:
        """Our own plans are in doubt: go by the statuses, as a new leader does."""
        self._recent = None
        self._drawn_at = None

    def _redraw(self) -> None:
        """Draw the jobs that have changed since the last time; all of them if what all depend on has."""
        world = self._world
        now = world.changes.count, world.epoch
        known = None if self._drawn_at is None or self._drawn_at[1] != now[1] else self._drawn_at[0]
        changed = None if known is None else world.changes.since(known)
        if changed is None:
            self._drawn.clear()
            self._ended.clear()
            jobs: Iterable[Job] = world.all_jobs()
        else:
            uids = {*changed, *self._stale}
            jobs = [job for uid in uids if (job := world.job(uid)) is not None]
            for uid in uids:
                if world.job(uid) is None:
                    self._forget(uid)
        self._drawn_at = now
        self._stale.clear()
        for job in jobs:
            self._draw(job)

    def _draw(self, job: Job) -> None:
        ask = self._job(job)
        if ask is None:
            self._drawn.pop(job.uid, None)
        else:
            self._drawn[job.uid] = ask
        if job.status.ran is not None and (over := tags.ended(job, job.status.ran)) is not None:
            self._ended[job.uid] = over

    def _forget(self, uid: str) -> None:
        for known in (self._drawn, self._asked, self._refused, self._ended):
            known.pop(uid, None)

    def place(self, uid: str) -> admission.Mark | None:
        """The place in its flow that a job was given by our own plans."""
        return None if self._recent is None else self._recent.marks.get(uid)

    def durations(self, snapshot: admission.Snapshot) -> Durations | None:
        """The estimates of a snapshot, made anew only when it has learned something."""
        return None if self._recent is None else self._recent.durations(snapshot.learned)

    @property
    def fleet(self) -> Fleet:
        """GPUs of the cluster, renewed when nodes or slices change."""
        if self._fleet is None or self._fleet_epoch != self._world.gpus_epoch:
            self._fleet = draw_fleet(self._world)
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
                sound = [d.device for d in gpus.devices if not d.taint]
                free = tuple(device for device in sound if device.uuid not in usage.devices)
                capacity, free_count = len(sound), len(free)
            else:
                capacity = gpus.count
                free_count = max(0, gpus.count - usage.counts.get((gpus.node, gpus.resource), 0))
            nodes.append(self._node(gpus, item, capacity, free_count, free))
        return tuple(nodes)

    def _node(
        self,
        gpus: devices.Gpus,
        item: devices.NodeObject,
        capacity: int,
        free_count: int,
        free: tuple[admission.Device, ...],
    ) -> admission.Node:
        """A node as admission sees it; the same object while nothing about it changes."""
        key = gpus.node, gpus.product, gpus.memory
        known = self._nodes_seen.get(key)
        if known is not None and known[0] is gpus and known[1] is item:
            node = known[2]
            if (node.free_count, node.free) == (free_count, free):
                return node
            node = replace(node, free_count=free_count, free=free)
        else:
            node = admission.Node(
                name=gpus.node,
                kind=self.fleet.kind_of[gpus.vendor, gpus.product, gpus.memory],
                selection=gpus.selection,
                capacity=capacity,
                free_count=free_count,
                free=free,
                resource=gpus.resource,
                domains=devices.domains(item),
            )
        self._nodes_seen[key] = gpus, item, node
        return node

    def _queues(self, usage: Usage) -> dict[str, admission.Queue]:
        return {
            queue.name: admission.Queue(
                name=queue.name,
                weight=queue.spec.weight,
                guaranteed=queue.spec.guaranteed,
                limit=queue.spec.limit,
                held=usage.by_queue.get(queue.name, 0),
                ordering=queue.spec.ordering,
                task_weights={} if queue.spec.task_weights is None else queue.spec.task_weights.by_type(),
                preemption=queue.spec.preemption,
                min_runtime=queue.spec.min_runtime_seconds,
            )
            for queue in self._world.queues.values()
            if queue.spec is not None
        }

    def _vacating(self, queues: Mapping[str, admission.Queue]) -> frozenset[tuple[str, int]]:
        """Replicas whose pods or claims are still there although they have been given up: who waits for
        their GPUs need not take others. Of interest only where somebody may take any."""
        if not any(q.guaranteed or q.preemption is not Preemption.NEVER for q in queues.values()):
            return frozenset()
        return frozenset(self._world.left_behind())

    def refuse(self, job: Job, message: str) -> None:
        """Admit a job no more until its spec changes."""
        self._refused[job.uid] = (job.generation, message)
        self._asked.pop(job.uid, None)
        self._stale.add(job.uid)

    # -- one job ---------------------------------------------------------------------------------------

    def seen(self, job: Job) -> Seen:
        """A job with everything of it that the cluster shows."""
        return Seen(
            job=job,
            pods=self._world.pods_of(job.uid),
            claims=self._world.claims_of(job.uid),
            services=self._world.services_of(job.uid),
            problems=health.problems(self._world, self.fleet, job),
            closed=health.closed_nodes(self._world, job),
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
            ready = pod is not None and pod.ready
            since = times.from_wire(a.since)
            holdings.append(admission.Holding(a.replica, a.worker, a.node, a.count, ready, since, a.charged))
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
            model=spec.model.name or "" if spec.model is not None else "",
            mark=tags.place(job) or self.place(job.uid),
            preempted=status.preemptions,
            waiting_since=None
            if status.queue is None
            else times.from_wire_or(status.queue.since, job.created),
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
        # What its user must mend comes first: a cordon ends by itself.
        refusal = refusal or sizing.refusal or self._cordoned(spec)
        return self._keep(job, spec, priority, sizing.shapes, refusal)

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

    def _cordoned(self, spec: DeepSeekJobSpec) -> Refusal | None:
        queue = self._world.queues.get("", spec.queue)
        if queue is None or queue.spec is None or not queue.spec.cordoned:
            return None
        message = (
            f"not while queue {spec.queue} is cordoned: nobody in it starts until an administrator runs "
            f"drse uncordon {spec.queue}"
        )
        return Refusal(WaitReason.QUEUE_CORDONED, message)

    def _lets_in(self, selector: NamespaceSelector | None, namespace: str) -> bool:
        if selector is None or namespace in selector.names:
            return True
        found = self._world.namespaces.get("", namespace)
        wanted = selector.match_labels
        return found is not None and wanted is not None and wanted.items() <= found.labels.items()
