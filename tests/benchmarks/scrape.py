"""How long one scrape of the leader takes: 2,000 named GPUs, each held by a job of its own, and 13,000 jobs
that wait in 30 queues. Nothing is planned: the wait of each job is made up.

    python -m tests.benchmarks.scrape
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter

from prometheus_client import generate_latest

from drse_operator.admission.decisions import Pending, Plan, Wait
from drse_operator.admission.persistence import kind_name
from drse_operator.api.reasons import WaitReason
from drse_operator.cluster.picture import Picture
from drse_operator.observe.metrics import Metrics
from tests.observe.clusters import NOW, Scene, accounts_of, holds, running, waits

NODES, GPUS_PER_NODE, WAITING, QUEUES = 500, 4, 13_000, 30


def measure(rounds: int = 7) -> dict[str, float]:
    """Median milliseconds of CPU time of a scrape and of taking in a pass; number of series."""
    scene = Scene().dra(*(f"n{i}" for i in range(NODES)))
    for i in range(QUEUES):
        scene.queue(f"q{i}", weight=1 + i % 5)
    for i in range(NODES * GPUS_PER_NODE):
        status = running(holds(f"n{i // GPUS_PER_NODE}", i % GPUS_PER_NODE))
        scene.job(f"held-{i}", "Batch", 1, status, f"team-{i % 200}", queue=f"q{i % QUEUES}")
    for i in range(WAITING):
        status = waits(1 + i // QUEUES, 60, 600)
        scene.job(f"wait-{i}", "Batch", 1, status, f"team-{i % 200}", queue=f"q{i % QUEUES}")
    metrics, world = Metrics("1", clock=lambda: NOW + 5), scene.world()
    picture = Picture(world)
    metrics.lead(world, picture, accounts_of(world))
    usage = picture.usage()
    snapshot = picture.snapshot(usage)
    lacking = [job for job in snapshot.jobs if job.lacking]
    reason = WaitReason.INSUFFICIENT_FREE_GPUS
    told = tuple(Wait(job.key, job.uid, reason, "", i, 1) for i, job in enumerate(lacking))
    kinds = frozenset({kind_name(snapshot.nodes[0].kind)})
    flows = Counter(job.flow for job in lacking)
    plan = Plan(wait=told, pending=tuple(Pending(f, reason, kinds, n, n) for f, n in flows.items()))
    take, scrape = [], []
    for _ in range(rounds):
        started = time.process_time()
        metrics.take_plan(snapshot, plan, usage, NOW)
        taken = time.process_time()
        text = generate_latest(metrics.registry)
        scrape.append(time.process_time() - taken)
        take.append(taken - started)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return {
        "scrape_ms": round(statistics.median(scrape) * 1e3, 1),
        "take_plan_ms": round(statistics.median(take) * 1e3, 1),
        "series": series,
        "kilobytes": round(len(text) / 1000),
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
