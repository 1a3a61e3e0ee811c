"""Clusters that never were, played through the operator's own planner: what the console is tested on.

Jobs arrive one after the other and are planned, run, end and are preempted as the operator would do it; only
the API server is left out. ``Cluster.small`` has 104 GPUs and some 60 jobs, ``Cluster.large`` 2,000
GPUs and 5,000 jobs. The same arguments always give the same cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from drse_local.fleet import Fleet, NodeGroup, load_fleet
from drse_local.nodes import node_manifest, node_status, resource_slice
from drse_operator.admission.decisions import Eta, Memory
from drse_operator.admission.eta import Calibration, forward
from drse_operator.admission.planner import plan
from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.keys import JobKey
from drse_operator.api.status import DeepSeekJobStatus, ScalingStatus
from drse_operator.cluster import kinds, tags
from drse_operator.cluster.client import Kind
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.controller import planned
from drse_operator.controller.fairness import FairnessWatch
from drse_operator.observe.accounts import Accounts
from drse_operator.observe.journal import Journal
from drse_operator.workloads.observed import Job
from drse_operator.workloads.seen import Seen
from drse_operator.workloads.summary import summarize

Document = dict[str, Any]

#: When it is in these clusters: a Tuesday noon, in seconds since the epoch.
NOW = 1_795_608_000.0
QUEUES: Mapping[str, Document] = {
    "production": {"weight": 4, "guaranteed": 24, "limit": 64},
    "research": {"weight": 2, "guaranteed": 16, "preemption": "LowerPriority"},
    "training": {"weight": 3, "guaranteed": 32, "minRuntime": "30m"},
    "batch": {"weight": 1},
    "students": {"weight": 1, "limit": 8},
}
TEAMS = {
    "production": ("chat", "search", "assist"),
    "research": ("nlp", "vision"),
    "training": ("foundation",),
    "batch": ("evals", "data"),
    "students": ("course",),
}
USERS = ("amara", "bjorn", "chen", "dalia", "emeka", "farid", "greta", "hiro")
_WORDS = (
    "atlas",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haze",
    "iris",
    "juno",
    "kelp",
    "lumen",
)
_MODELS = ("deepseek-r1", "deepseek-v3.1", "deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-llama-70b")


class Cluster:
    """A world that is played forward in time. ``journal`` and ``accounts`` have seen all of it."""

    def __init__(self, fleet: Fleet, seed: int, now: float) -> None:
        self.now = now
        self.world = World(touched=lambda uid: None, stirred=lambda: None)
        self.picture = Picture(self.world)
        self.journal = Journal()
        self.accounts = Accounts(self._load)
        self._fairness = FairnessWatch()
        self._memory = Memory()
        self._version = 0
        self._chance = Random(seed)
        self._made = 0
        for node in fleet.nodes:
            document = {**node_manifest(node), "status": node_status(node)["status"]}
            document["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            self.put(kinds.NODE, document)
            if (piece := resource_slice(node)) is not None:
                self.put(kinds.SLICE, piece)
        for name, spec in QUEUES.items():
            self.put(kinds.GPUQUEUE, {"metadata": {"name": name}, "spec": dict(spec)})
        for name, value in (("urgent", 1000), ("spare", -100)):
            self.put(kinds.PRIORITY_CLASS, {"metadata": {"name": name}, "value": value})
        for name in {team for teams in TEAMS.values() for team in teams}:
            self.put(kinds.NAMESPACE, {"metadata": {"name": name}})

    @classmethod
    def small(cls, jobs: int = 62) -> Cluster:
        """The demo's fleet a day after it was opened to everybody."""
        cluster = cls(load_fleet("default"), seed=7, now=NOW - 20 * 3600)
        cluster.play(jobs, until=NOW)
        cluster.misconfigure()
        cluster.settle()
        return cluster

    @classmethod
    def large(cls, jobs: int = 5000, gpus: int = 2000) -> Cluster:
        """A big cluster with a long queue; most jobs wait."""
        cluster = cls(large_fleet(gpus), seed=11, now=NOW - 3600)
        for _ in range(jobs):
            cluster.arrive(cluster.now + cluster._chance.uniform(-3000, 0))
        cluster.now = NOW
        cluster.settle(etas=False)
        return cluster

    # -- what happens ----------------------------------------------------------------------------------

    def play(self, jobs: int, until: float) -> None:
        """Jobs arrive, more and more of them; batch work ends after some hours."""
        start, span = self.now, until - self.now
        for i in range(jobs):
            self.now = start + span * (i + 1) / (jobs + 1) ** 1.0
            self.end_some()
            self.arrive(self.now)
            self.pass_()
        self.now = until

    def arrive(self, at: float, **spec: Any) -> None:
        """A job is applied."""
        chance = self._chance
        queue = chance.choices(tuple(QUEUES), weights=(5, 4, 3, 4, 1))[0]
        self._made += 1
        serves = queue == "production"
        task = "Inference" if serves else chance.choice(("FineTuning", "Batch", "Distillation"))
        if queue == "training":
            task = chance.choice(("PreTraining", "FineTuning"))
        word = _WORDS[self._made % len(_WORDS)]
        name = f"{word}-{ {'Inference': 'serve', 'FineTuning': 'tune', 'Batch': 'eval'}.get(task, 'train') }"
        body: Document = {
            "taskType": task,
            "queue": queue,
            "runtime": {"image": "registry.example.com/engine:1", "engine": "Custom"},
            "resources": {"gpusPerReplica": chance.choice((1, 1, 2, 2, 4, 8))},
            "model": {"name": chance.choice(_MODELS[2:])},
        }
        if serves:
            body["scaling"] = {"mode": "Auto", "minReplicas": 1, "maxReplicas": 6}
        else:
            body["estimatedDuration"] = f"{chance.choice((2, 4, 6, 9, 14))}h"
        if task == "PreTraining":
            body["resources"] = {"gpusPerReplica": 16, "topology": {"scope": "Rack", "mode": "Required"}}
        if chance.random() < 0.15:
            body["priorityClassName"] = chance.choice(("urgent", "spare"))
        self.job(chance.choice(TEAMS[queue]), f"{name}-{self._made}", at, {**body, **spec})

    def job(self, namespace: str, name: str, at: float, spec: Document) -> None:
        """Put a job."""
        metadata = {
            "namespace": namespace,
            "name": name,
            "creationTimestamp": times.to_wire(at),
            "annotations": {"drse.dev/submitted-by": self._chance.choice(USERS)},
        }
        self.put(
            kinds.DEEPSEEKJOB, {"metadata": metadata, "spec": spec, "status": {"queuedAt": times.to_wire(at)}}
        )

    def misconfigure(self) -> None:
        """What goes wrong on any day: jobs that cannot run, a node that is down, a GPU out of service."""
        plain: Document = {"taskType": "Batch", "runtime": {"image": "a/b:1", "engine": "Custom"}}
        at = NOW - 5400
        self.job("data", "tokenize-all", at, {**plain, "queue": "bulk", "resources": {"gpusPerReplica": 4}})
        self.job(
            "course", "homework-9", at, {**plain, "queue": "students", "resources": {"gpusPerReplica": 16}}
        )
        node = dict(node_manifest(load_fleet("default").nodes[9]))
        node["status"] = node_status(load_fleet("default").nodes[9])["status"]
        node["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        self.put(kinds.NODE, node)

    def end_some(self) -> None:
        """Work that has run for its estimate is done."""
        for job in list(self.world.all_jobs()):
            spec, status = job.spec, job.status
            if spec is None or not status.assignments or spec.estimated_duration is None:
                continue
            hours = float(spec.estimated_duration.removesuffix("h"))
            if self.now - times.from_wire(status.assignments[0].since) > hours * 3600:
                bad = self._chance.random() < 0.1
                ended = {
                    "assignments": (),
                    "phase": Phase.FAILED if bad else Phase.SUCCEEDED,
                    "completion_time": times.to_wire(self.now),
                }
                self.write(job, status.model_copy(update=ended))

    def settle(self, etas: bool = True) -> None:
        """One more pass, with ETAs, loads and scaling decisions as they would stand in the statuses."""
        self.pass_()
        self.tell_queues()
        self.scale()
        self.accounts.settle(self.now)
        if etas:
            self.tell_etas()

    def pass_(self) -> None:
        """The operator's pass, less the API."""
        snapshot = self.picture.snapshot(self.picture.usage())
        decided = plan(snapshot, self.now)
        self.journal.take(snapshot, decided, self.now)
        self._fairness.take(snapshot, decided)
        self._memory = decided.memory
        waits = {wait.uid: wait for wait in decided.wait}
        for assign in decided.assign:
            job = self._known(assign.uid)
            self.write(job, planned.with_assign(job.status, assign, self.now))
            self.write(self._known(assign.uid), self._known(assign.uid).status, ready=True)
        for release in decided.release:
            job = self._known(release.uid)
            kept = tuple(a for a in job.status.assignments if a.replica not in release.replicas)
            self.write(job, job.status.model_copy(update={"assignments": kept, "preemptions": 1}))
        for job in list(self.world.all_jobs()):
            status = planned.with_wait(job.status, waits.get(job.uid), self.now)
            if status != job.status:
                self.write(job, status, ready=bool(status.assignments))

    def write(self, job: Job, status: DeepSeekJobStatus, ready: bool = False) -> None:
        """What the operator would write."""
        if ready:
            status = status.model_copy(
                update={"start_time": status.start_time or times.to_wire(self.now + 90)}
            )
        full = summarize(Seen(job, {}, {}, frozenset()), status, self.now)
        if status.assignments:
            groups = len({a.replica for a in status.assignments})
            full = full.model_copy(
                update={"phase": Phase.RUNNING, "ready_replicas": groups, "ready": f"{groups}/{groups}"}
            )
        self.world.jobs.put(self._document(job, full))
        current = self._known(job.uid)
        self.accounts.see(job.uid, current, self.now)

    def scale(self) -> None:
        """Services with a load and a decision."""
        for job in list(self.world.all_jobs()):
            if job.spec is None or not job.spec.task_type.serves or not job.status.assignments:
                continue
            gpus = job.status.gpus
            load = round(gpus * self._chance.uniform(0.3, 0.85), 2)
            scaling = ScalingStatus(
                desired_replicas=job.status.replicas,
                from_replicas=job.spec.replicas,
                load=load,
                forecast_p50=round(load * 1.1, 2),
                forecast_p90=round(load * 1.3, 2),
                capacity=gpus,
                reason="WithinThresholds",
                message=f"load {load:.1f} of {gpus} GPUs is between scaleDownAt 0.5 and scaleUpAt 0.8",
            )
            self.write(job, job.status.model_copy(update={"scaling": scaling}))

    def tell_queues(self) -> None:
        """Where the flows stand, and how much of the fairness bound was used, into the queues' statuses."""
        for queue in list(self.world.queues.values()):
            assert queue.spec is not None
            status = queue.status.model_copy(
                update={
                    **tags.memory_of(self._memory, queue.name),
                    "fairness_bound_used": round(self._fairness.used_by[queue.name], 4),
                }
            )
            document = {"metadata": {"name": queue.name}, "spec": queue.spec.to_wire()}
            self.put(kinds.GPUQUEUE, {**document, "status": status.to_wire()})

    def tell_etas(self) -> None:
        """Expected starts into the statuses."""
        snapshot = self.picture.snapshot(self.picture.usage())
        waiting = [j for j in self.world.all_jobs() if j.status.queue is not None]
        starts = forward(snapshot, self.now, [j.uid for j in waiting])
        for job in waiting:
            assert job.status.queue is not None
            if job.uid in starts and job.status.queue.position is not None:
                eta = Calibration().eta(starts[job.uid], self.now)
                self._tell(job, eta)

    def _tell(self, job: Job, eta: Eta) -> None:
        wire = {"p50": times.to_wire(eta.p50), "p90": times.to_wire(eta.p90)}
        document = self._document(job, job.status)
        document["status"]["queue"]["eta"] = wire
        self.world.jobs.put(document)

    # -- objects ---------------------------------------------------------------------------------------

    def put(self, kind: Kind, document: Document) -> None:
        """Store a document as the API server would hand it out."""
        self._version += 1
        name = document["metadata"]["name"]
        metadata = {
            "uid": f"{kind.plural}-{document['metadata'].get('namespace', '')}-{name}",
            "creationTimestamp": times.to_wire(self.now),
            "generation": 1,
            **document["metadata"],
            "resourceVersion": str(self._version),
        }
        self.world.store(kind).put({**document, "metadata": metadata})

    def _load(self, key: JobKey) -> float | None:
        """Load of a job in GPU-equivalents; nothing is measured of some."""
        job = self.world.jobs.get(key.namespace, key.name)
        part = sum(map(ord, key.name)) % 60
        return None if job is None or part > 52 else job.status.gpus * (0.4 + part / 100)

    def _known(self, uid: str) -> Job:
        job = self.world.job(uid)
        assert job is not None
        return job

    def _document(self, job: Job, status: DeepSeekJobStatus) -> Document:
        self._version += 1
        assert job.spec is not None
        return {
            "metadata": {
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
                "resourceVersion": str(self._version),
                "generation": job.generation,
                "creationTimestamp": times.to_wire(job.created),
                "annotations": {"drse.dev/submitted-by": job.user},
            },
            "spec": job.spec.to_wire(),
            "status": status.to_wire(),
        }


def uuids(cluster: Cluster) -> Iterable[str]:
    """All GPUs with a name."""
    return cluster.picture.fleet.by_uuid


def measured(cluster: Cluster) -> dict[str, float]:
    """Utilisation of all GPUs with a name; a few held ones do nothing."""
    chance = Random(3)
    holders = {d.uuid for j in cluster.world.all_jobs() for a in j.status.assignments for d in a.devices}
    return {
        uuid: (0.01 if chance.random() < 0.12 else round(chance.uniform(0.35, 0.97), 2))
        if uuid in holders
        else 0.0
        for uuid in sorted(uuids(cluster))
    }


def large_fleet(gpus: int) -> Fleet:
    """So many GPUs of two kinds, eight a node, eight nodes a rack."""
    groups = (("h200", "NVIDIA H200", 0.4), ("h100", "NVIDIA H100 80GB HBM3", 0.6))
    return Fleet(
        groups=tuple(
            NodeGroup(
                name=name,
                nodes=int(gpus * part / 8),
                gpus=8,
                product=product,
                rack=f"rack-{name}",
                nodes_per_rack=8,
            )
            for name, product, part in groups
        )
    )
