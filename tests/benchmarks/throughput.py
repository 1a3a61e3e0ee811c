"""DeepSeekJobs a second from apply to a bound, running pod, on the embedded control plane.

    python tests/benchmarks/throughput.py --binding dra --jobs 2000 --nodes 250

Everything (API server, etcd, scheduler, kwok, the operator and this client) shares the machine's cores, so
the figures are for comparing with other figures of the same run. ``ceiling`` is what the API server does
when a bare client makes the least writes an operator could get by with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from drse_local.cluster import LocalCluster
from drse_local.fleet import Binding, Fleet, NodeGroup, Vendor, device_uuid
from drse_local.processes import ProcessSpec
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiUnreachable, KubeApi, load_configuration

ROOT = Path(__file__).parents[2]
GPUS_PER_NODE = 8
PRODUCT = "NVIDIA H100 80GB HBM3"
CREATORS = 16


def fleet(binding: Binding, nodes: int) -> Fleet:
    """``nodes`` nodes of eight GPUs."""
    group = NodeGroup(name="h100", nodes=nodes, gpus=GPUS_PER_NODE, product=PRODUCT, binding=binding)
    return Fleet(groups=(group,))


def job(name: str) -> dict[str, Any]:
    """A job that asks for one GPU and runs until it is deleted."""
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "taskType": "Batch",
            "resources": {"gpusPerReplica": 1},
            "runtime": {"engine": "Custom", "image": "registry.example/eval:1"},
        },
    }


class Watcher:
    """When each job's pod was bound and running, by the watch."""

    def __init__(self, api: KubeApi) -> None:
        self.bound: dict[str, float] = {}
        self.running: dict[str, float] = {}
        self._api = api

    async def run(self) -> None:
        """Watch until cancelled."""
        version = (await self._api.list(kinds.POD)).resource_version
        while True:
            try:
                async for event, pod in self._api.watch(kinds.POD, version):
                    version = pod["metadata"]["resourceVersion"]
                    if event != "BOOKMARK":
                        self._take(pod)
            except ApiUnreachable as error:
                print(error, file=sys.stderr)

    def _take(self, pod: dict[str, Any]) -> None:
        name = (pod["metadata"].get("labels") or {}).get("drse.dev/job", pod["metadata"]["name"])
        if pod["spec"].get("nodeName"):
            self.bound.setdefault(name, time.monotonic())
        if pod.get("status", {}).get("phase") == "Running":
            self.running.setdefault(name, time.monotonic())


async def pooled(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Run ``work(0..count-1)`` with a fixed number of tasks."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(worker())


async def measure(binding: Binding, jobs: int, nodes: int, limit: float) -> dict[str, Any]:
    """Start a cluster and the operator, apply the jobs, wait until all run."""
    async with LocalCluster(fleet=fleet(binding, nodes)) as cluster:
        await cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        await cluster.kubectl("create", "namespace", "drse-system")
        queue = {
            "apiVersion": "drse.dev/v1alpha1",
            "kind": "GPUQueue",
            "metadata": {"name": "default"},
            "spec": {},
        }
        await cluster.kubectl("apply", "-f", "-", stdin=json.dumps(queue))
        argv = (sys.executable, "-m", "drse_operator.controller", "run", "--log-format", "text")
        argv += ("--kubeconfig", str(cluster.kubeconfig), "--listen", "127.0.0.1:0")
        operator = await cluster.run(ProcessSpec(name="operator", argv=argv))
        async with KubeApi(await load_configuration(str(cluster.kubeconfig)), "bench") as api:
            await until(lambda: led(api), 60)
            watcher = Watcher(api)
            watching = asyncio.create_task(watcher.run())
            await asyncio.sleep(1)
            created: dict[str, float] = {}
            start = time.monotonic()

            async def create(number: int) -> None:
                name = f"job-{number:05d}"
                await api.create(kinds.DEEPSEEKJOB, job(name))
                created[name] = time.monotonic()

            await pooled(jobs, create)
            applied = time.monotonic()
            deadline = start + limit
            while len(watcher.running) < jobs and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            end = max(watcher.running.values(), default=time.monotonic())
            watching.cancel()
            latency = sorted(watcher.bound[n] - created[n] for n in created if n in watcher.bound)
            return {
                "binding": binding.value,
                "jobs": jobs,
                "nodes": nodes,
                "running": len(watcher.running),
                "seconds": round(end - start, 1),
                "jobs_per_second": round(len(watcher.running) / (end - start), 1),
                "applied_per_second": round(jobs / (applied - start), 1),
                "apply_to_bound_p50_s": round(statistics.median(latency), 2) if latency else None,
                "apply_to_bound_p95_s": round(latency[int(len(latency) * 0.95)], 2) if latency else None,
                "cpu_seconds": cpu(cluster, operator.pid),
                "operator_rss_mib": rss(operator.pid),
            }


async def ceiling(binding: Binding, jobs: int, nodes: int) -> dict[str, Any]:
    """What the API server does when a bare client makes the least writes an operator could get by with."""
    async with LocalCluster(fleet=fleet(binding, nodes)) as cluster:
        await cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        async with KubeApi(await load_configuration(str(cluster.kubeconfig)), "bench") as api:
            watcher = Watcher(api)
            watching = asyncio.create_task(watcher.run())
            await asyncio.sleep(1)
            start = time.monotonic()
            await pooled(jobs, lambda number: _least_writes(api, binding, number))
            while len(watcher.running) < jobs:
                await asyncio.sleep(0.1)
            end = max(watcher.running.values())
            watching.cancel()
    return {"binding": binding.value, "jobs": jobs, "jobs_per_second": round(jobs / (end - start), 1)}


async def _least_writes(api: KubeApi, binding: Binding, number: int) -> None:
    name, node, index = f"job-{number:05d}", f"h100-{number // GPUS_PER_NODE}", number % GPUS_PER_NODE
    await api.create(kinds.DEEPSEEKJOB, job(name))
    await api.merge(
        kinds.DEEPSEEKJOB, name, "default", {"status": {"phase": "Starting", "gpus": 1}}, "status"
    )
    container: dict[str, Any] = {"name": "engine", "image": "registry.example/eval:1"}
    spec: dict[str, Any] = {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": node}}
    if binding is Binding.DRA:
        expression = (
            f'device.attributes["gpu.nvidia.com"].uuid == "{device_uuid(Vendor.NVIDIA, node, index)}"'
        )
        exactly = {"deviceClassName": "gpu.nvidia.com", "selectors": [{"cel": {"expression": expression}}]}
        claim = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"devices": {"requests": [{"name": "gpus", "exactly": exactly}]}},
        }
        await api.create(kinds.CLAIM, claim)
        spec["resourceClaims"] = [{"name": "gpus", "resourceClaimName": name}]
        container["resources"] = {"claims": [{"name": "gpus"}]}
    else:
        container["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"drse.dev/job": name}},
        "spec": spec,
    }
    await api.create(kinds.POD, pod)


async def led(api: KubeApi) -> bool:
    """True once an operator leads."""
    leases = await api.list(kinds.LEASE, "drse-system")
    return any(lease["spec"].get("holderIdentity") for lease in leases.items)


async def until(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until a check holds."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.2)


def rss(pid: int) -> float:
    """Resident MiB of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def cpu(cluster: LocalCluster, operator: int) -> dict[str, float]:
    """User and system seconds of each program so far."""
    pids = {name: process.pid for name, process in cluster.supervisor.processes.items()}
    pids["operator"] = operator
    found = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = round((int(fields[11]) + int(fields[12])) / 100, 1)
    return found


def main() -> None:
    """Parse, measure, print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binding", type=Binding, choices=list(Binding), default=Binding.DRA)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--limit", type=float, default=300, help="seconds to wait for all jobs to run")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.binding, options.jobs, options.nodes, options.limit))))


if __name__ == "__main__":
    main()
