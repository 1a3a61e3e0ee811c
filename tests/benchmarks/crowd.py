"""Many queues, many more jobs than GPUs: jobs a second, the operator's memory, and who was served.

    python -m tests.benchmarks.crowd --queues 30 --jobs 15000 --nodes 250

Jobs of 1 to 8 GPUs that run some seconds each are applied at once to queues of weights 1 to 5, each queue the
same number of jobs of the same sizes. As long as all queues have jobs waiting, service goes by weight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

from drse_local.fleet import Binding
from tests.benchmarks.stage import Stage, cpu, job, pooled, quantile, queue, staged

#: GPUs of jobs, and seconds that they run.
SIZES = (1, 1, 2, 4, 8)
RUNS = (2, 3, 5, 8)


async def measure(
    queues: int, jobs: int, nodes: int, limit: float, binding: Binding = Binding.DEVICE_PLUGIN
) -> dict[str, Any]:
    """Start a cluster and the operator, apply the jobs, wait until all have ended."""
    chance = Random(1)
    weights = {f"queue-{i:02}": 1 + i % 5 for i in range(queues)}
    documents = []
    for number in range(jobs):
        gpus, runs = chance.choice(SIZES), chance.choice(RUNS)
        documents.append(job(f"job-{number:05}", gpus, f"queue-{number % queues:02}", runs))
    chance.shuffle(documents)
    async with staged(binding, nodes, [queue(*item) for item in weights.items()]) as stage:
        start = time.monotonic()
        await pooled(jobs, lambda number: stage.create(documents[number]))
        applied = time.monotonic()
        while len(stage.seen.succeeded) < jobs and time.monotonic() < start + limit:
            await asyncio.sleep(0.2)
        ends = sorted(stage.seen.succeeded.values())
        exported = await stage.metrics()
        return {
            "binding": binding.value,
            "queues": queues,
            "jobs": jobs,
            "nodes": nodes,
            "ended": len(ends),
            "seconds": round(ends[-1] - start, 1) if ends else None,
            "jobs_per_second": round(len(ends) / (ends[-1] - start), 1) if ends else None,
            "jobs_per_second_by_quarter": _by_quarter(ends, start),
            "applied_per_second": round(jobs / (applied - start), 1),
            "waiting_most": _waiting_most(stage),
            "apply_to_reason_p95_s": _apply_to_reason(stage),
            "status_writes_a_job": round(stage.seen.status_changes / jobs, 2),
            "fairness": fairness(stage, {d["metadata"]["name"]: d for d in documents}, weights),
            "fairness_bound_used": _largest(exported, "drse_fairness_bound_used_ratio"),
            "plan_mean_ms": _mean_ms(exported, "drse_plan_duration_seconds"),
            "cpu_seconds": cpu(stage),
            "operator_rss_mib": stage.rss_most,
        }


def _by_quarter(ends: list[float], start: float) -> list[float]:
    """Jobs a second while the first, second, third and last quarter of them ended."""
    cuts = [start, *(ends[len(ends) * k // 4 - 1] for k in (1, 2, 3, 4))] if len(ends) >= 4 else []
    return [round(len(ends) / 4 / max(0.1, b - a), 1) for a, b in pairwise(cuts)]


def _waiting_most(stage: Stage) -> int:
    """Most jobs that were applied and not yet bound at any time."""
    changes = [(at, 1) for at in stage.created.values()] + [(at, -1) for at in stage.seen.bound.values()]
    waiting = most = 0
    for _, change in sorted(changes):
        waiting += change
        most = max(most, waiting)
    return most


def _apply_to_reason(stage: Stage) -> float | None:
    told = stage.seen.told
    return quantile([told[name] - at for name, at in stage.created.items() if name in told], 0.95)


def fairness(stage: Stage, jobs: dict[str, dict[str, Any]], weights: dict[str, int]) -> dict[str, Any]:
    """What each queue was given per weight (seconds of the whole cluster that its jobs held GPUs), of jobs
    bound while every queue had jobs waiting.

    ``spread`` is the largest over the smallest of them, ``jain`` Jain's index (1 when all are equal), and
    ``seconds`` how long that was: from when all jobs had been applied until the first queue had none left.
    """
    begin = max(stage.created.values(), default=0.0)
    left = Counter(document["spec"]["queue"] for document in jobs.values())
    served: dict[str, float] = dict.fromkeys(weights, 0.0)
    end = begin
    for name, at in sorted(stage.seen.bound.items(), key=lambda item: item[1]):
        spec = jobs[name]["spec"]
        queue_ = spec["queue"]
        left[queue_] -= 1
        if at >= begin:
            served[queue_] += stage.seen.used.get(name, 0.0) / weights[queue_]
        if not left[queue_]:
            end = at
            break
    shares = list(served.values())
    if not all(shares):
        return {"seconds": round(max(0.0, end - begin), 1), "spread": None, "jain": None}
    jain = sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
    return {
        "seconds": round(end - begin, 1),
        "spread": round(max(shares) / min(shares), 2),
        "jain": round(jain, 4),
        "mean_per_weight": round(statistics.mean(shares), 3),
    }


def _largest(exported: dict[str, float], name: str) -> float | None:
    found = [value for series, value in exported.items() if series.partition("{")[0] == name]
    return round(max(found), 3) if found else None


def _mean_ms(exported: dict[str, float], name: str) -> float | None:
    count = exported.get(f"{name}_count", 0.0)
    return round(1000 * exported[f"{name}_sum"] / count, 1) if count else None


def main() -> None:
    """Parse, measure, print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queues", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=15000)
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--binding", type=Binding, choices=list(Binding), default=Binding.DEVICE_PLUGIN)
    parser.add_argument("--limit", type=float, default=900, help="seconds to wait for all jobs to end")
    o = parser.parse_args()
    print(json.dumps(asyncio.run(measure(o.queues, o.jobs, o.nodes, o.limit, o.binding))))


if __name__ == "__main__":
    main()
