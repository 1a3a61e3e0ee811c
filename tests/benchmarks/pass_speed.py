"""How long a pass of the operator's loop takes in which one job ends and one arrives, everything included.

    python -m tests.benchmarks.pass_speed --waiting 15000

The operator's own caches, picture, engine and loop, fed with documents as the API server sends them; only
the API server itself is left out: what the loop submits is stored at once. 250 nodes of 8 GPUs are full, the
other jobs wait in 30 queues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from random import Random
from typing import Any, cast

from drse_local.fleet import Binding, Fleet, NodeGroup
from drse_local.nodes import node_manifest, node_status
from drse_operator.admission.planner import Planner
from drse_operator.api import times
from drse_operator.api.base import API_VERSION
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
from drse_operator.workloads.outcome import Create

Document = dict[str, Any]
NODES, QUEUES = 250, 30
PRODUCT = "NVIDIA H100 80GB HBM3"
NOW = 1_800_000_000.0


class Hands:
    """Stands in for executor and API server: what is submitted is stored when it is asked to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._works: dict[str, Work] = {}
        self._versions = itertools.count(1_000_000)
        self.documents: dict[str, Document] = {}
        self.pods: dict[str, Document] = {}

    def busy(self, uid: str) -> bool:
        return uid in self._works

    def submit(self, work: Work) -> None:
        self._works[work.uid] = work
        if work.status is not None:
            self._world.assume(work.uid, work.status)

    def store_all(self) -> int:
        """Everything submitted has been written; returns how many works that were."""
        works, self._works = self._works, {}
        for uid, work in works.items():
            if work.status is not None:
                self.put(self.documents[uid] | {"status": work.status.to_wire()})
            self._world.settle(uid)
            for action in work.actions:
                if isinstance(action, Create) and action.document["kind"] == "Pod":
                    self._run(uid, action.document)
        return len(works)

    def _run(self, uid: str, pod: Document) -> None:
        terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        node = terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]
        ready = [{"type": "Ready", "status": "True"}]
        spec = pod["spec"] | {"nodeName": node}
        self.put_pod(uid, pod | {"spec": spec, "status": {"phase": "Running", "conditions": ready}})

    def put(self, document: Document) -> None:
        """Store a version of a job."""
        uid = document["metadata"]["uid"]
        self.documents[uid] = self._version(document)
        self._world.jobs.put(self.documents[uid])

    def put_pod(self, uid: str, pod: Document) -> None:
        """Store a version of a job's pod."""
        created = times.to_wire(NOW)
        metadata = {"uid": f"pod-{uid}", "creationTimestamp": created, **pod["metadata"]}
        self.pods[uid] = self._version(pod | {"metadata": metadata})
        self._world.pods.put(self.pods[uid])

    def _version(self, document: Document) -> Document:
        metadata = document["metadata"] | {"resourceVersion": str(next(self._versions))}
        return document | {"metadata": metadata}


class Stage:
    """A loop before its cluster."""

    def __init__(self, seed: int = 1) -> None:
        self._loop: Loop | None = None
        self._chance = Random(seed)
        self._number = 0
        self.now = NOW
        self.world = World(self._touched, lambda: None)
        self.hands = Hands(self.world)
        picture, metrics, planner = Picture(self.world), Metrics("bench"), Planner()
        metrics.lead(self.world, picture, Accounts(lambda _: None))
        settings = Settings(Limits(bind_timeout=120, backoff_base=10, backoff_cap=60), EngineImages())
        self._loop = Loop(
            self.world,
            picture,
            cast(Executor, self.hands),
            None,
            metrics,
            settings,
            (),
            Journal(),
            Starts({}, planner, metrics),
            planner,
        )
        group = NodeGroup(name="h100", nodes=NODES, gpus=8, product=PRODUCT, binding=Binding.DEVICE_PLUGIN)
        for node in Fleet(groups=(group,)).nodes:
            document = node_manifest(node)
            document["metadata"] |= {"uid": node.name, "resourceVersion": "1"}
            ready = [{"type": "Ready", "status": "True"}]
            self.world.nodes.put(document | {"status": node_status(node)["status"] | {"conditions": ready}})
        for i in range(QUEUES):
            metadata = {"name": f"queue-{i:02}", "uid": f"queue-{i}", "resourceVersion": "1", "generation": 1}
            self.world.queues.put({"metadata": metadata, "spec": {"weight": 1 + i % 5}})

    def _touched(self, uid: str) -> None:
        if self._loop is not None:
            self._loop.touch(uid)

    def arrive(self) -> None:
        """A job is applied."""
        self._number += 1
        name = f"job-{self._number:05}"
        created = times.to_wire(self.now)
        gpus = self._chance.choice((1, 1, 2, 4, 8))
        self.hands.put(
            {
                "apiVersion": API_VERSION,
                "kind": "DeepSeekJob",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "uid": name,
                    "generation": 1,
                    "creationTimestamp": created,
                },
                "spec": {
                    "taskType": "Batch",
                    "queue": f"queue-{self._chance.randrange(QUEUES):02}",
                    "resources": {"gpusPerReplica": gpus},
                    "runtime": {"engine": "Custom", "image": "registry.example/eval:1"},
                    "estimatedDuration": f"{self._chance.randint(10, 600)}s",
                },
            }
        )

    def end(self) -> None:
        """A running job's pod ends."""
        uid = next(uid for uid, pod in self.hands.pods.items() if pod["status"]["phase"] == "Running")
        pod = self.hands.pods.pop(uid)
        self.hands.put_pod(uid, pod | {"status": {"phase": "Succeeded"}})

    def make_pass(self) -> float:
        """Seconds of one core that a pass takes."""
        assert self._loop is not None
        self.now += 0.1
        began = time.process_time()
        self._loop.make_pass(round(self.now, 6))
        return time.process_time() - began

    def settle(self) -> None:
        """Pass after pass, until all that follows from what happened has been written."""
        for _ in range(20):
            self.make_pass()
            if not self.hands.store_all():
                return


def measure(waiting: int, rounds: int = 40) -> dict[str, float]:
    """Milliseconds of one core a pass."""
    stage = Stage()
    for _ in range(waiting + NODES * 8 // 3):
        stage.arrive()
    stage.settle()
    taken, writes = [], []
    for _ in range(rounds):
        stage.end()
        stage.arrive()
        taken.append(1000 * stage.make_pass())
        writes.append(stage.hands.store_all())
    return {
        "waiting": sum(d["status"].get("queue") is not None for d in stage.hands.documents.values()),
        "pass_median_ms": round(statistics.median(taken), 1),
        "pass_p95_ms": round(sorted(taken)[int(len(taken) * 0.95)], 1),
        "writes_a_pass": round(statistics.mean(writes), 1),
    }


def main() -> None:
    """Measure, print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--waiting", type=int, nargs="*", default=[1000, 15000])
    for waiting in parser.parse_args().waiting:
        print(json.dumps(measure(waiting)), flush=True)


if __name__ == "__main__":
    main()
