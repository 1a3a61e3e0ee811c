"""An embedded cluster with an operator, and a client that applies jobs and watches what becomes of them.

Everything (API server, etcd, scheduler, kwok, the operator and this client) shares the machine's cores, so
figures are for comparing with other figures of the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from drse_local.cluster import LocalCluster
from drse_local.fleet import Binding, Fleet, NodeGroup
from drse_local.ports import PortReservation
from drse_local.processes import ManagedProcess, ProcessSpec
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Kind, KubeApi, load_configuration

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]
GPUS_PER_NODE = 8
PRODUCT = "NVIDIA H100 80GB HBM3"
CREATORS = 16


def fleet(binding: Binding, nodes: int) -> Fleet:
    """``nodes`` nodes of eight GPUs."""
    group = NodeGroup(name="h100", nodes=nodes, gpus=GPUS_PER_NODE, product=PRODUCT, binding=binding)
    return Fleet(groups=(group,))


def queue(name: str, weight: int = 1) -> Document:
    """A GPUQueue."""
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "GPUQueue",
        "metadata": {"name": name},
        "spec": {"weight": weight},
    }


def job(
    name: str, gpus: int = 1, queue: str = "default", runs: int | None = None, workers: int = 1
) -> Document:
    """A batch job of ``gpus`` GPUs that runs ``runs`` seconds, or until it is deleted."""
    resources: Document = {"gpusPerReplica": gpus}
    if workers > 1:
        resources["workersPerReplica"] = workers
    runtime: Document = {"engine": "Custom", "image": "registry.example/eval:1"}
    spec: Document = {"taskType": "Batch", "queue": queue, "resources": resources, "runtime": runtime}
    if runs is not None:
        annotations = {"local.drse.dev/run-seconds": str(runs)}
        runtime["podTemplate"] = {"metadata": {"annotations": annotations}}
        spec["estimatedDuration"] = f"{runs}s"
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@dataclass(slots=True)
class Seen:
    """When (monotonic seconds) something was first true of a job, by its name."""

    told: dict[str, float] = field(default_factory=dict)
    promised: dict[str, str] = field(default_factory=dict)
    place: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    succeeded: dict[str, float] = field(default_factory=dict)
    #: What a job's flow was charged in the end, in seconds of the whole cluster.
    used: dict[str, float] = field(default_factory=dict)
    status_changes: int = 0

    def job(self, document: Document) -> None:
        """A version of a DeepSeekJob."""
        name, status, now = document["metadata"]["name"], document.get("status") or {}, time.monotonic()
        self.status_changes += bool(status)
        if (status.get("queue") or {}).get("reason"):
            self.told.setdefault(name, now)
        if status.get("assignments"):
            self.promised.setdefault(name, status["assignments"][0]["since"])
            self.place.setdefault(name, (status.get("mark") or {}).get("key", 0.0))
        if status.get("phase") == "Succeeded":
            self.succeeded.setdefault(name, now)
            self.used[name] = (status.get("ran") or {}).get("used", 0.0)

    def pod(self, document: Document) -> None:
        """A version of a Pod."""
        metadata = document["metadata"]
        name, now = (metadata.get("labels") or {}).get("drse.dev/job", metadata["name"]), time.monotonic()
        if document["spec"].get("nodeName"):
            self.bound.setdefault(name, now)
        if document.get("status", {}).get("phase") == "Running":
            self.running.setdefault(name, now)


async def watch(api: KubeApi, kind: Kind, take: Callable[[Document], None]) -> None:
    """Hand over every version of every object of a kind until cancelled."""
    version = (await api.list(kind)).resource_version
    while True:
        try:
            async for event, document in api.watch(kind, version):
                version = document["metadata"]["resourceVersion"]
                if event != "BOOKMARK":
                    take(document)
        except ApiUnreachable as error:
            print(error, file=sys.stderr)


@dataclass(slots=True)
class Stage:
    """A cluster with an operator that leads, and what is seen of its jobs."""

    cluster: LocalCluster
    api: KubeApi
    operator: ManagedProcess
    port: int
    seen: Seen = field(default_factory=Seen)
    created: dict[str, float] = field(default_factory=dict)
    rss_most: float = 0.0

    async def create(self, document: Document) -> None:
        """Apply a job."""
        name = document["metadata"]["name"]
        asked = time.monotonic()
        await self.api.create(kinds.DEEPSEEKJOB, document)
        self.created[name] = asked

    async def metrics(self) -> dict[str, float]:
        """What the operator exports, by series."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            text = (await client.get(f"http://127.0.0.1:{self.port}/metrics")).text
        lines = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
        return {series: float(value) for series, _, value in lines}

    async def watch_memory(self) -> None:
        """Note the largest memory of the operator until cancelled."""
        while True:
            self.rss_most = max(self.rss_most, rss(self.operator.pid))
            await asyncio.sleep(1)


@asynccontextmanager
async def staged(binding: Binding, nodes: int, queues: Iterable[Document]) -> AsyncIterator[Stage]:
    """A cluster of ``nodes`` nodes, its queues, and an operator that leads."""
    async with LocalCluster(fleet=fleet(binding, nodes)) as cluster:
        await cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        await cluster.kubectl("create", "namespace", "drse-system")
        for document in queues:
            await cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))
        port = PortReservation(["operator"])["operator"]
        arguments = ("--kubeconfig", str(cluster.kubeconfig), "--listen", f"127.0.0.1:{port}")
        argv = (sys.executable, "-m", "drse_operator.controller", "run", "--log-format", "text", *arguments)
        operator = await cluster.run(ProcessSpec(name="operator", argv=argv))
        async with KubeApi(await load_configuration(str(cluster.kubeconfig)), "bench") as api:
            stage = Stage(cluster, api, operator, port)
            await until(lambda: led(api), 60)
            tasks = [
                asyncio.create_task(watch(api, kinds.POD, stage.seen.pod)),
                asyncio.create_task(watch(api, kinds.DEEPSEEKJOB, stage.seen.job)),
                asyncio.create_task(stage.watch_memory()),
            ]
            await asyncio.sleep(1)
            try:
                yield stage
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def pooled(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Run ``work(0..count-1)`` with a fixed number of tasks."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(worker())


async def led(api: KubeApi) -> bool:
    """True once an operator leads."""
    with contextlib.suppress(ApiError):
        leases = await api.list(kinds.LEASE, "drse-system")
        return any(lease["spec"].get("holderIdentity") for lease in leases.items)
    return False


async def until(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until a check holds."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.2)


def quantile(values: Iterable[float], q: float) -> float | None:
    """The value that a share ``q`` of the values do not exceed, to the hundredth."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2) if ordered else None


def rss(pid: int) -> float:
    """Resident MiB of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def cpu(stage: Stage) -> dict[str, float]:
    """User and system seconds of each program so far."""
    found = {}
    for name, process in stage.cluster.supervisor.processes.items():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = round((int(fields[11]) + int(fields[12])) / 100, 1)
    return found
