"""Everything the operator knows, in one place: caches, indexes, and what has been promised but not yet seen.

There is one cache of each kind and no copy of it. A status that is being written is *assumed*: it stands
in for the stored one until the API server has answered, so that GPUs promised a moment ago are never
offered again.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import devices, kinds, parse
from drse_operator.cluster.changes import Changes
from drse_operator.cluster.client import Kind
from drse_operator.cluster.store import Store
from drse_operator.workloads import names
from drse_operator.workloads.observed import Claim, Job, Pod

#: Of more that nobody takes, the latest are kept.
_DEPARTED = 1000

Owned = TypeVar("Owned", Pod, Claim)


class World:
    """Caches by kind, and what belongs to which job.

    ``touched(uid)`` is called for each job whose picture changed; ``stirred()`` when something changed that
    any job may depend on. ``epoch`` counts changes of what sizing and admission of all jobs read: nodes,
    queues, namespaces, priority classes.
    """

    def __init__(self, touched: Callable[[str], None], stirred: Callable[[], None]) -> None:
        self._touched = touched
        self._stirred = stirred
        self.epoch = 0
        self.gpus_epoch = 0
        self.jobs: Store[Job] = Store(parse.job, self._job_changed)
        self.queues: Store[parse.QueueObject] = Store(parse.queue, self._queue_changed)
        self.pods: Store[Pod] = Store(parse.pod, self._pod_changed)
        self.claims: Store[Claim] = Store(parse.claim, self._claim_changed)
        self.services: Store[parse.ServiceObject] = Store(parse.service, self._service_changed)
        self.nodes: Store[devices.NodeObject] = Store(devices.node, self._node_changed)
        self.slices: Store[devices.SliceObject] = Store(devices.resource_slice, self._slice_changed)
        self.taint_rules: Store[devices.TaintRule] = Store(devices.taint_rule, self._rule_changed)
        self.namespaces: Store[parse.NamespaceObject] = Store(parse.namespace, self._facts_changed)
        self.priority_classes: Store[parse.PriorityClassObject] = Store(
            parse.priority_class, self._facts_changed
        )
        #: Jobs that were deleted while they held GPUs, for whoever keeps their flows' accounts.
        self.departed: deque[Job] = deque(maxlen=_DEPARTED)
        self._by_uid: dict[str, Job] = {}
        self._assumed: dict[str, Job] = {}
        #: Jobs with what belongs to them, as of their changes.
        self.changes = Changes()
        self._holders: dict[str, Job] = {}
        self._gpu_pods: dict[tuple[str, str], Pod] = {}
        self._pods_of: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._claims_of: dict[str, dict[str, Claim]] = defaultdict(dict)
        self._services_of: dict[str, set[str]] = defaultdict(set)

    def store(self, kind: Kind) -> Store[Any]:
        """The cache of a kind."""
        by_kind: dict[Kind, Store[Any]] = {
            kinds.DEEPSEEKJOB: self.jobs,
            kinds.GPUQUEUE: self.queues,
            kinds.POD: self.pods,
            kinds.CLAIM: self.claims,
            kinds.SERVICE: self.services,
            kinds.NODE: self.nodes,
            kinds.SLICE: self.slices,
            kinds.TAINT_RULE: self.taint_rules,
            kinds.NAMESPACE: self.namespaces,
            kinds.PRIORITY_CLASS: self.priority_classes,
        }
        return by_kind[kind]

    def seal(self) -> None:
        """This copy changes no more; it is gone with its last user, without waiting for the collector."""
        self.jobs.seal()
        self.queues.seal()
        self.pods.seal()
        self.claims.seal()
        self.services.seal()
        self.nodes.seal()
        self.slices.seal()
        self.taint_rules.seal()
        self.namespaces.seal()
        self.priority_classes.seal()

    # -- jobs and what belongs to them -----------------------------------------------------------------

    def all_jobs(self) -> Iterator[Job]:
        """All jobs, with assumed statuses in place."""
        for uid in self._by_uid:
            yield self._current(uid)

    def job(self, uid: str) -> Job | None:
        """A job by uid, with its assumed status in place."""
        return self._current(uid) if uid in self._by_uid else None

    def stored(self, uid: str) -> Job | None:
        """A job by uid, as the API server has it."""
        return self._by_uid.get(uid)

    def _current(self, uid: str) -> Job:
        return self._assumed.get(uid) or self._by_uid[uid]

    def holders(self) -> Iterator[Job]:
        """Jobs with everything they may hold: what is stored and, while a write is under way, what is
        assumed. A GPU given up counts as held until the API server has confirmed it."""
        return iter(self._holders.values())

    def gpu_pods(self) -> Iterator[Pod]:
        """Pods of anybody that count GPUs and have not finished."""
        return iter(self._gpu_pods.values())

    def pods_of(self, uid: str) -> dict[tuple[int, int], Pod]:
        """Pods of a job by replica and worker."""
        return {(pod.replica, pod.worker): pod for pod in self._pods_of.get(uid, {}).values()}

    def claims_of(self, uid: str) -> dict[str, Claim]:
        """Claims of a job by name."""
        return dict(self._claims_of.get(uid, {}))

    def left_behind(self) -> Iterator[tuple[str, int]]:
        """(uid, replica) of pods and claims of ours that hold GPUs in service and that no assignment stands
        behind any more: these GPUs will soon be free."""
        for uid in (*self._pods_of, *(u for u in self._claims_of if u not in self._pods_of)):
            job, pods = self.job(uid), self._pods_of.get(uid, {})
            held = set() if job is None else {(a.replica, a.worker) for a in job.status.assignments}
            for name in (*pods, *(n for n in self._claims_of.get(uid, ()) if n not in pods)):
                pod = pods.get(name)
                replica, worker = names.replica_and_worker(name)
                if (replica, worker) not in held and (pod is None or self._holds(pod, uid)):
                    yield uid, replica

    def _holds(self, pod: Pod, uid: str) -> bool:
        """Whether a pod, or its claim, holds GPUs of a node in service."""
        node = self.nodes.get("", pod.node or pod.pinned_node)
        in_service = node is not None and not node.unready
        return in_service and (not pod.finished or pod.name in self._claims_of.get(uid, ()))

    def services_of(self, uid: str) -> frozenset[str]:
        """Names of a job's Services."""
        return frozenset(self._services_of.get(uid, ()))

    # -- promised, not yet answered ---------------------------------------------------------------------

    def assume(self, uid: str, status: DeepSeekJobStatus) -> None:
        """From now on the job's status is taken to be this."""
        if (job := self._by_uid.get(uid)) is not None:
            self._assumed[uid] = replace(job, status=status)
            self._note(uid)

    def settle(self, uid: str) -> None:
        """The write has been answered: the stored status speaks again."""
        if self._assumed.pop(uid, None) is not None:
            self._note(uid)

    def settle_all(self) -> None:
        """We no longer write: only what is stored counts."""
        for uid in list(self._assumed):
            self.settle(uid)

    # -- changes ----------------------------------------------------------------------------------------

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        if old is not None and (new is None or new.uid != old.uid):
            if old.status.assignments:
                self.departed.append(old)
            self._by_uid.pop(old.uid, None)
            self._assumed.pop(old.uid, None)
            self._note(old.uid)
            self._touched(old.uid)
        if new is not None:
            self._by_uid[new.uid] = new
            self._note(new.uid)
            self._touched(new.uid)
        self.changes.tidy(self._by_uid, len(self._by_uid))
        self._stirred()

    def _note(self, uid: str) -> None:
        """A job's picture has changed."""
        self.changes.note(uid)
        stored, assumed = self._by_uid.get(uid), self._assumed.get(uid)
        union = stored if stored is None or assumed is None else _union(stored, assumed)
        if union is not None and union.status.assignments:
            self._holders[uid] = union
        else:
            self._holders.pop(uid, None)

    def _queue_changed(self, old: parse.QueueObject | None, new: parse.QueueObject | None) -> None:
        # Our own status writes to a queue change nothing that admission reads.
        if old is None or new is None or old.spec != new.spec or old.uid != new.uid:
            self._facts_changed(old, new)

    def _facts_changed(self, _old: object, _new: object) -> None:
        self.epoch += 1
        self._stirred()

    def _node_changed(self, old: devices.NodeObject | None, new: devices.NodeObject | None) -> None:
        self._gpus_changed(old, new, {item.name for item in (old, new) if item is not None})

    def _slice_changed(self, old: devices.SliceObject | None, new: devices.SliceObject | None) -> None:
        self._gpus_changed(old, new, {item.node for item in (old, new) if item is not None})

    def _rule_changed(self, old: devices.TaintRule | None, new: devices.TaintRule | None) -> None:
        rules = [rule for rule in (old, new) if rule is not None]
        nodes = {
            piece.node
            for piece in self.slices.values()
            if any(rule.matches(device.ref) for device in piece.devices for rule in rules)
        }
        self._gpus_changed(old, new, nodes)

    def _gpus_changed(self, old: object, new: object, nodes: set[str]) -> None:
        if old == new:  # heartbeats change nothing that is kept
            return
        self.epoch += 1
        self.gpus_epoch += 1
        for job in self._by_uid.values():
            if any(a.node in nodes for a in job.status.assignments):
                self._touched(job.uid)
        self._stirred()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None:
            self._gpu_pods.pop((old.namespace, old.name), None)
        if new is not None and new.gpus and not new.finished:
            self._gpu_pods[new.namespace, new.name] = new
        self._index(self._pods_of, old, new)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        self._index(self._claims_of, old, new)

    def _index(self, index: dict[str, dict[str, Owned]], old: Owned | None, new: Owned | None) -> None:
        if old is not None and old.owner_uid:
            members = index[old.owner_uid]
            members.pop(old.name, None)
            if not members:
                del index[old.owner_uid]
        if new is not None and new.owner_uid:
            index[new.owner_uid][new.name] = new
        for item in (old, new):
            if item is not None and item.owner_uid:
                self.changes.note(item.owner_uid)
                self._touched(item.owner_uid)
        self._stirred()

    def _service_changed(self, old: parse.ServiceObject | None, new: parse.ServiceObject | None) -> None:
        if old is not None:
            self._services_of[old.owner_uid].discard(old.name)
        if new is not None and new.owner_uid:
            self._services_of[new.owner_uid].add(new.name)
        for item in (old, new):
            if item is not None and item.owner_uid:
                self.changes.note(item.owner_uid)
                self._touched(item.owner_uid)


def _union(stored: Job, assumed: Job) -> Job:
    known = {(a.replica, a.worker, a.node, a.devices) for a in assumed.status.assignments}
    extra = tuple(
        a for a in stored.status.assignments if (a.replica, a.worker, a.node, a.devices) not in known
    )
    if not extra:
        return assumed
    status = assumed.status.model_copy(update={"assignments": (*assumed.status.assignments, *extra)})
    return replace(assumed, status=status)
