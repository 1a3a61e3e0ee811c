"""A cluster in memory, small and strict, to play every interleaving of the operator with everything else.

It is a model for finding wrong *decisions* (promises made twice, objects made without a promise), not
evidence of how an API server behaves: for that there are the tests on a real one. What it keeps of the real
thing: resourceVersions and their precondition, watches that lag behind, graceful deletion, the finalizer of
a claim in use, and a scheduler that never allocates a device twice.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from drse_operator.admission.decisions import Plan
from drse_operator.admission.planner import Planner
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api import times
from drse_operator.api.base import API_VERSION
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.cluster import kinds, parse
from drse_operator.cluster.client import Kind
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.controller.executor import Executor, Work
from drse_operator.controller.loop import Loop, Settings
from drse_operator.controller.starts import Starts
from drse_operator.observe.accounts import Accounts
from drse_operator.observe.journal import Journal
from drse_operator.observe.metrics import Metrics
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.life import Limits
from drse_operator.workloads.outcome import Delete

Document = dict[str, Any]
WATCHED = (kinds.DEEPSEEKJOB, kinds.GPUQUEUE, kinds.NODE, kinds.SLICE, kinds.POD, kinds.CLAIM, kinds.SERVICE)
GPUS = 4
T0 = 1_700_000_000.0


class Conflict(Exception):
    """The object has changed, or is not there, or is there already."""


class Cluster:
    """Objects by kind and name, a log of their changes, and what must never happen to them."""

    def __init__(self) -> None:
        self.version = 0
        self.now = T0
        #: The Lease's term, and whether the chart's policy compares it with that of a status.
        self.term = 0
        self.fenced = True
        #: Objects that somebody made who no longer led.
        self.late: set[tuple[str, str]] = set()
        self.objects: dict[str, dict[str, Document]] = {kind.kind: {} for kind in WATCHED}
        self.log: dict[str, list[tuple[str, Document]]] = {kind.kind: [] for kind in WATCHED}

    # -- the API ---------------------------------------------------------------------------------------

    def create(self, document: Document, term: int | None = None) -> Document:
        name, kind = document["metadata"]["name"], document["kind"]
        if name in self.objects[kind]:
            raise Conflict(f"{kind} {name} exists")
        self.late.discard((kind, name))
        if term is not None and term < self.term:
            self.late.add((kind, name))
        elif kind == "Pod":
            self._must_be_promised(document)
        document = copy.deepcopy(document)
        document["metadata"] |= {
            "uid": f"{kind}-{self.version}",
            "creationTimestamp": times.to_wire(self.now),
        }
        if kinds.BY_NAME[kind].namespaced:
            document["metadata"]["namespace"] = "team"
        return self.store(kind, document)

    def store(self, kind: str, document: Document) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind][document["metadata"]["name"]] = document
        self.log[kind].append(("MODIFIED", copy.deepcopy(document)))
        return copy.deepcopy(document)

    def write_status(self, name: str, uid: str, version: str, status: DeepSeekJobStatus) -> Document:
        document = self.objects["DeepSeekJob"].get(name)
        if document is None or document["metadata"]["uid"] != uid:
            raise Conflict("not found")
        if document["metadata"]["resourceVersion"] != version:
            raise Conflict("has changed")
        before = self.promises(name)
        if self.fenced and status.term != self.term:
            known = (document.get("status") or {}).get("term")
            if status.term != known or before != status.assignments:
                raise Conflict("not the leader")
        document["status"] = status.to_wire()
        self._must_be_free(name, [a for a in status.assignments if place(a) not in map(place, before)])
        return self.store("DeepSeekJob", document)

    def delete(self, kind: str, name: str, uid: str) -> None:
        document = self.objects[kind].get(name)
        if document is None or document["metadata"]["uid"] != uid:
            raise Conflict("not found")
        lingers = (kind == "Pod" and "nodeName" in document["spec"]) or (
            kind == "ResourceClaim" and self.users(name)
        )
        if not lingers:
            self.remove(kind, name)
        elif "deletionTimestamp" not in document["metadata"]:
            document["metadata"]["deletionTimestamp"] = times.to_wire(self.now)
            self.store(kind, document)

    def remove(self, kind: str, name: str) -> None:
        """It is gone, and with a pod the last use of a claim that was waiting to go."""
        document = self.objects[kind].pop(name)
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.log[kind].append(("DELETED", copy.deepcopy(document)))
        for claim in list(self.objects["ResourceClaim"].values()) if kind == "Pod" else ():
            claim_name = claim["metadata"]["name"]
            if "deletionTimestamp" in claim["metadata"] and not self.users(claim_name):
                self.remove("ResourceClaim", claim_name)

    def collect_garbage(self) -> None:
        """As the controller manager does: what belongs to a job that is gone, pods on a node that is gone."""
        alive = {document["metadata"]["uid"] for document in self.objects["DeepSeekJob"].values()}
        for kind in ("Pod", "ResourceClaim"):
            for name, document in list(self.objects[kind].items()):
                owners = document["metadata"].get("ownerReferences", ())
                if any(owner["uid"] not in alive for owner in owners):
                    self.delete(kind, name, document["metadata"]["uid"])
        for name, pod in list(self.objects["Pod"].items()):
            if pod["spec"].get("nodeName") not in (None, *self.objects["Node"]):
                self.remove("Pod", name)

    # -- looking ---------------------------------------------------------------------------------------

    def users(self, claim: str) -> list[str]:
        """Bound pods that have not ended and use a claim: they keep it from going away."""
        return [
            name
            for name, pod in self.objects["Pod"].items()
            if claim in (c["resourceClaimName"] for c in pod["spec"].get("resourceClaims", ()))
            and "nodeName" in pod["spec"]
            and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ]

    def promises(self, name: str) -> tuple[Assignment, ...]:
        status = self.objects["DeepSeekJob"][name].get("status") or {}
        return DeepSeekJobStatus.from_wire(status).assignments

    def all_promises(self) -> Iterator[tuple[str, Assignment]]:
        for name in self.objects["DeepSeekJob"]:
            yield from ((name, a) for a in self.promises(name))

    def allocated(self) -> dict[tuple[str, str], str]:
        """Claim by (pool, device)."""
        return {
            (r["pool"], r["device"]): name
            for name, claim in self.objects["ResourceClaim"].items()
            for r in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ())
        }

    def counted(self, node: str) -> int:
        """GPUs of a device plugin that pods on a node use."""
        total = 0
        for pod in self.objects["Pod"].values():
            if pod["spec"].get("nodeName") == node and pod["status"]["phase"] == "Running":
                for container in pod["spec"]["containers"]:
                    limits = container.get("resources", {}).get("limits", {})
                    total += int(limits.get("nvidia.com/gpu", 0))
        return total

    # -- what must never happen --------------------------------------------------------------------------

    def _must_be_promised(self, document: Document) -> None:
        """Status first: no pod of a job is made without a promise for it on that node."""
        pod = parse.pod(
            {
                **document,
                "metadata": {**document["metadata"], "uid": "", "creationTimestamp": times.to_wire(self.now)},
            }
        )
        assert pod is not None
        owner = document["metadata"]["ownerReferences"][0]["name"]
        if owner not in self.objects["DeepSeekJob"]:
            return  # deleted a moment ago; what is made now has to be cleared away, see the end of the test
        nodes = {(a.replica, a.worker): a.node for a in self.promises(owner)}
        assert nodes.get((pod.replica, pod.worker)) == pod.pinned_node, f"{pod.name} is not promised"

    def _must_fit(self, name: str) -> None:
        """A device plugin's GPUs: promises, and pods that run without one, are no more than there are."""
        per_node: Counter[str] = Counter()
        promised = {}
        for owner, a in self.all_promises():
            promised[f"{owner}-{a.replica}-{a.worker}"] = a.node
            per_node[a.node] += 0 if a.devices else a.count
        for pod_name, document in self.objects["Pod"].items():
            pod = parse.pod(document)
            if ("Pod", pod_name) in self.late:
                continue
            if pod is not None and pod.node and not pod.finished and promised.get(pod_name) != pod.node:
                per_node[pod.node] += sum(count for _, count in pod.gpus)
        assert all(total <= GPUS for total in per_node.values()), f"too many for {name}: {per_node}"

    def _must_be_free(self, name: str, new: list[Assignment]) -> None:
        """No GPU in two promises; none promised that a claim holds; no leftovers of an earlier attempt."""
        named = Counter(d.uuid for _, a in self.all_promises() for d in a.devices)
        assert not [uuid for uuid, times in named.items() if times > 1], f"promised twice: {named}"
        if any(not a.devices for a in new):
            self._must_fit(name)
        pinned = {
            uuid: claim.name
            for claim_name, document in self.objects["ResourceClaim"].items()
            if ("ResourceClaim", claim_name) not in self.late and (claim := parse.claim(document)) is not None
            for uuid in claim.pinned
        }
        for a in new:
            pod = f"{name}-{a.replica}-{a.worker}"
            there = pod in self.objects["Pod"] and ("Pod", pod) not in self.late
            assert not there, f"{pod} is promised while its last attempt is there"
            for device in a.devices:
                assert device.uuid not in pinned, f"{device.uuid} is still pinned by {pinned[device.uuid]}"


def place(a: Assignment) -> tuple[int, int, str, tuple[str, ...]]:
    return a.replica, a.worker, a.node, tuple(d.uuid for d in a.devices)


# -- the operator ----------------------------------------------------------------------------------------


class Hands:
    """Stands in for the executor: the same orders in the same order, one write a call."""

    def __init__(self, cluster: Cluster, world: World, done: Callable[[str], None], term: int) -> None:
        self.works: dict[str, Iterator[None]] = {}
        self._term = term
        self._cluster, self._world, self._done = cluster, world, done

    def busy(self, uid: str) -> bool:
        return uid in self.works

    def submit(self, work: Work) -> None:
        assert work.uid not in self.works
        if work.status is not None:
            status = work.status.model_copy(update={"term": self._term})
            work = replace(work, status=status)
            self._world.assume(work.uid, status)
        self.works[work.uid] = self._carry_out(work)

    def step(self, uid: str) -> None:
        """The next write of a job's work."""
        try:
            next(self.works[uid])
        except StopIteration:
            del self.works[uid]
            self._world.settle(uid)
            self._done(uid)

    def _carry_out(self, work: Work) -> Iterator[None]:
        try:
            if work.status is not None and work.job is not None:
                job = work.job
                written = self._cluster.write_status(job.key.name, job.uid, job.resource_version, work.status)
                self._world.jobs.put(written)
                yield
            for action in work.actions:
                if isinstance(action, Delete):
                    self._cluster.delete(action.kind, action.name, action.uid)
                else:
                    made = self._cluster.create(action.document, self._term)
                    self._world.store(kinds.BY_NAME[action.document["kind"]]).put(made)
                yield
        except Conflict:
            return


class Operator:
    """One process: begins a term, lists everything, then follows the logs as they are delivered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop: Loop | None = None
        cluster.term += 1
        world = World(touched=self._touched, stirred=lambda: None)
        for kind in WATCHED:
            world.store(kind).reset(
                copy.deepcopy(list(cluster.objects[kind.kind].values())), str(cluster.version)
            )
        self._read = {kind.kind: len(cluster.log[kind.kind]) for kind in WATCHED}
        self.world = world
        self.hands = Hands(cluster, world, self._touched, cluster.term)
        self.metrics = Metrics("test")
        self.picture = picture = Picture(world)
        self.planner = Planner()
        #: What the last pass saw and decided.
        self.report: tuple[Snapshot, Plan] | None = None
        self.metrics.lead(world, picture, Accounts(lambda _: None))
        self._loop = Loop(
            world,
            picture,
            cast(Executor, self.hands),
            None,
            self.metrics,
            Settings(Limits(bind_timeout=120, backoff_base=10, backoff_cap=60), EngineImages()),
            (self._reported,),
            Journal(),
            Starts({}, self.planner, self.metrics),
            self.planner,
        )
        for job in world.all_jobs():
            self._touched(job.uid)

    def _touched(self, uid: str) -> None:
        if self._loop is not None:
            self._loop.touch(uid)

    def _reported(self, snapshot: Snapshot, plan: Plan) -> None:
        self.report = snapshot, plan

    def make_pass(self, now: float) -> None:
        assert self._loop is not None
        self._loop.make_pass(now)

    def unread(self, kind: Kind) -> int:
        return len(self._cluster.log[kind.kind]) - self._read[kind.kind]

    def deliver(self, kind: Kind) -> None:
        """The next event of one kind arrives."""
        what, document = self._cluster.log[kind.kind][self._read[kind.kind]]
        self._read[kind.kind] += 1
        if what == "DELETED":
            self.world.store(kind).discard(document)
        else:
            self.world.store(kind).put(copy.deepcopy(document))


# -- what the cluster starts with --------------------------------------------------------------------------


def dra_node(name: str) -> tuple[Document, Document]:
    """A node and the ResourceSlice of its GPUs."""
    devices = [
        {
            "name": f"gpu-{i}",
            "attributes": {
                "uuid": {"string": f"GPU-{name}-{i}"},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "type": {"string": "gpu"},
            },
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for i in range(GPUS)
    ]
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": name, "pool": pool, "devices": devices}
    piece = {"kind": "ResourceSlice", "metadata": {"name": f"{name}-gpus"}, "spec": spec}
    return bare_node(name, {}, {}), piece


def plugin_node(name: str) -> Document:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    return bare_node(name, labels, {"nvidia.com/gpu": str(GPUS)})


def bare_node(name: str, labels: dict[str, str], allocatable: dict[str, str]) -> Document:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": allocatable}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


def job(name: str, task: str, gpus: int, **spec: Any) -> Document:
    resources = {"gpusPerReplica": gpus, **spec.pop("resources", {})}
    return {
        "apiVersion": API_VERSION,
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": "team", "generation": 1},
        "spec": {
            "taskType": task,
            "queue": "default",
            "resources": resources,
            "runtime": {"image": "example.com/engine:1"},
            **spec,
        },
    }
