"""How long a plan takes: 1,000 nodes of 8 GPUs, all held, and 10,000 jobs waiting in 100 flows; one core.

    python -m tests.benchmarks.plan_speed

``single_change``: one job ends, and the engine plans again with a reason for everybody. ``decide``: the same
without the reasons. ``cold``: an engine is built from a snapshot and plans.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from random import Random

from drse_operator.admission.engine import Engine
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Job, Queue, Snapshot
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.simulator.trace import uniform
from drse_operator.sizing.shapes import Shape

NODES, WAITING, QUEUES = 1000, 10_000, 50
TYPES = (TaskType.BATCH, TaskType.FINE_TUNING)
NOW = 1_000_000.0


def full_cluster(seed: int) -> Engine:
    """An engine whose cluster is full and before which the jobs wait."""
    chance = Random(seed)
    engine = Engine(0.0)
    state = engine.state
    nodes = uniform(NODES, 8)
    for node in nodes:
        state.put_node(node)
    for i in range(QUEUES):
        state.put_queue(Queue(f"queue-{i:02}", chance.randint(1, 5), 0, None, 0))
    kind, at = nodes[0].kind, 0.0
    number = 0
    while sum(1 for r in state.records.values() if r.group is not None) < WAITING:
        for _ in range(500):
            gpus = chance.choice((1, 1, 1, 2, 4, 8, 16))
            shape = Shape(kind, -(-gpus // 8), min(gpus, 8), min(gpus, 8), 1, 0)
            at += 1.0
            job = Job(
                key=JobKey("bench", f"job-{number:06}"),
                uid=f"job-{number:06}",
                queue=f"queue-{chance.randrange(QUEUES):02}",
                task_type=chance.choice(TYPES),
                priority=0,
                queued_at=at,
                wanted=1,
                first_unit=1,
                shapes=(shape,),
                expected_duration=chance.lognormvariate(10.5, 1.0),
            )
            state.put_job(job)
            number += 1
        engine.decide(at)
    return engine


def measure(rounds: int = 30) -> dict[str, float]:
    """Medians and worst cases in milliseconds."""
    engine = full_cluster(1)
    now = engine.state.now
    single, decide = [], []
    for i in range(2 * rounds):
        running = sorted(uid for uid, r in engine.state.records.items() if r.units)
        now += 1.0
        engine.state.advance(now)
        engine.state.drop_job(running[i * 37 % len(running)], ended=True)
        began = time.perf_counter()
        if i % 2:
            engine.plan(now)
        else:
            engine.decide(now)
        (single if i % 2 else decide).append(1000 * (time.perf_counter() - began))
    picture = engine.snapshot()
    cold = [_cold(picture, now + i) for i in range(5)]
    return {
        "single_change_median_ms": statistics.median(single),
        "single_change_max_ms": max(single),
        "decide_median_ms": statistics.median(decide),
        "cold_median_ms": statistics.median(cold),
        "waiting": sum(job.lacking > 0 for job in picture.jobs),
        "running": sum(bool(job.holdings) for job in picture.jobs),
    }


def _cold(picture: Snapshot, now: float) -> float:
    # Shapes are equal, not the same objects, as they come from the cluster's jobs.
    jobs = (replace(j, shapes=tuple(replace(s) for s in j.shapes)) for j in picture.jobs)
    fresh = replace(picture, jobs=tuple(jobs))
    began = time.perf_counter()
    plan(fresh, now)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps(measure()))
