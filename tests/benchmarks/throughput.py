"""DeepSeekJobs a second from apply to a bound, running pod, on the embedded control plane.

    python -m tests.benchmarks.throughput --binding dra --jobs 2000 --nodes 250

``ceiling`` is what the API server does when a bare client makes the least writes an operator could get by
with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

from drse_local.cluster import LocalCluster
from drse_local.fleet import Binding, Vendor, device_uuid
from drse_operator.cluster import kinds
from drse_operator.cluster.client import KubeApi, load_configuration
from tests.benchmarks.stage import (
    GPUS_PER_NODE,
    ROOT,
    Seen,
    cpu,
    fleet,
    job,
    pooled,
    quantile,
    queue,
    staged,
    watch,
)


async def measure(binding: Binding, jobs: int, nodes: int, limit: float) -> dict[str, Any]:
    """Start a cluster and the operator, apply single-GPU jobs at once, wait until all run."""
    async with staged(binding, nodes, [queue("default")]) as stage:
        start = time.monotonic()
        await pooled(jobs, lambda number: stage.create(job(f"job-{number:05d}")))
        applied = time.monotonic()
        seen = stage.seen
        while len(seen.running) < jobs and time.monotonic() < start + limit:
            await asyncio.sleep(0.1)
        end = max(seen.running.values(), default=time.monotonic())
        latency = [seen.bound[name] - at for name, at in stage.created.items() if name in seen.bound]
        return {
            "binding": binding.value,
            "jobs": jobs,
            "nodes": nodes,
            "running": len(seen.running),
            "seconds": round(end - start, 1),
            "jobs_per_second": round(len(seen.running) / (end - start), 1),
            "applied_per_second": round(jobs / (applied - start), 1),
            "apply_to_bound_p50_s": quantile(latency, 0.5),
            "apply_to_bound_p95_s": quantile(latency, 0.95),
            **order_kept(seen),
            "cpu_seconds": cpu(stage),
            "operator_rss_mib": stage.rss_most,
        }


def order_kept(seen: Seen) -> dict[str, Any]:
    """How the order in which pods were bound agrees with the order in which GPUs were promised.

    Promises of one pass bear the same time; among them the place in the flow decides, as in the pass.
    ``inverted_pairs``: share of all pairs that were bound the other way round. ``displaced``: how many
    places a job was bound from its own, at the 95th percentile and at most. ``overtaken_s``: how long
    before a job another one was bound that was promised later.
    """
    names = sorted(seen.promised.keys() & seen.bound.keys())
    promised = sorted(names, key=lambda name: (seen.promised[name], seen.place[name], name))
    bound = {name: rank for rank, name in enumerate(sorted(names, key=lambda name: seen.bound[name]))}
    places = [bound[name] for name in promised]
    pairs = len(places) * (len(places) - 1) / 2
    displaced = [abs(rank - place) for rank, place in enumerate(places)]
    first_after, overtaken = float("inf"), []
    for name in reversed(promised):
        overtaken.append(max(0.0, seen.bound[name] - first_after))
        first_after = min(first_after, seen.bound[name])
    return {
        "inverted_pairs": round(_inversions(places) / pairs, 4) if pairs else None,
        "displaced_p95": quantile(displaced, 0.95),
        "displaced_most": max(displaced, default=None),
        "overtaken_p95_s": quantile(overtaken, 0.95),
    }


def _inversions(places: Sequence[int]) -> int:
    """Pairs in which a larger number comes before a smaller one."""
    before: list[int] = []
    found = 0
    for place in places:
        found += len(before) - bisect_left(before, place)
        insort(before, place)
    return found


async def ceiling(binding: Binding, jobs: int, nodes: int) -> dict[str, Any]:
    """What the API server does when a bare client makes the least writes an operator could get by with."""
    async with LocalCluster(fleet=fleet(binding, nodes)) as cluster:
        await cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        async with KubeApi(await load_configuration(str(cluster.kubeconfig)), "bench") as api:
            seen = Seen()
            watching = asyncio.create_task(watch(api, kinds.POD, seen.pod))
            await asyncio.sleep(1)
            start = time.monotonic()
            await pooled(jobs, lambda number: _least_writes(api, binding, number))
            while len(seen.running) < jobs:
                await asyncio.sleep(0.1)
            end = max(seen.running.values())
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
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
