"""How long a plan takes: 1,000 nodes of 8 GPUs, all held, and 10,000 jobs waiting in 100 flows; one core.

    python -m tests.benchmarks.plan_speed

``single_change``: one job ends, the next snapshot tells of it, and the kept engine plans again and says of
ten jobs why they wait. ``all_waits_told``: of everybody. ``cold``: an engine is built from a snapshot.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from drse_operator.admission.decisions import Plan, Tell
from drse_operator.admission.engine import Engine
from drse_operator.admission.planner import Planner, plan
from drse_operator.admission.snapshot import Holding, Job, Queue, Snapshot
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


@dataclass(slots=True)
class Told:
    """A cluster told snapshot by snapshot, with the same objects for what has not changed."""

    snapshot: Snapshot

    def end(self, uid: str) -> None:
        """A job ends; its GPUs are free."""
        job = next(job for job in self.snapshot.jobs if job.uid == uid)
        freed: Counter[str] = Counter()
        for holding in job.holdings:
            freed[holding.node] += holding.count
        self._change({uid: None}, freed)

    def carry_out(self, plan: Plan, now: float) -> None:
        """What was promised is held."""
        taken: Counter[str] = Counter()
        jobs: dict[str, Job | None] = {}
        for assign in plan.assign:
            each = assign.charged / len(assign.placements)
            holdings = tuple(
                Holding(p.replica, p.worker, p.node, p.count, False, now, each) for p in assign.placements
            )
            job = next(job for job in self.snapshot.jobs if job.uid == assign.uid)
            jobs[assign.uid] = replace(job, holdings=(*job.holdings, *holdings))
            for p in assign.placements:
                taken[p.node] -= p.count
        self._change(jobs, taken)

    def _change(self, jobs: dict[str, Job | None], freed: Counter[str]) -> None:
        changed = (jobs.get(job.uid, job) for job in self.snapshot.jobs)
        nodes = tuple(
            replace(n, free_count=n.free_count + freed[n.name]) if n.name in freed else n
            for n in self.snapshot.nodes
        )
        kept = tuple(job for job in changed if job is not None)
        self.snapshot = replace(self.snapshot, nodes=nodes, jobs=kept)


def measure(rounds: int = 30) -> dict[str, float]:
    """Medians and worst cases in milliseconds."""
    engine = full_cluster(1)
    now = engine.state.now
    told, planner = Told(engine.snapshot()), Planner()
    told.carry_out(planner.plan(told.snapshot, now), now)
    single: list[float] = []
    for i in range(rounds):
        now += 1.0
        running = [job.uid for job in told.snapshot.jobs if job.holdings]
        told.end(running[i * 37 % len(running)])
        waiting = [job.uid for job in told.snapshot.jobs if not job.holdings]
        asked = Tell([waiting[(i * 101 + j) % len(waiting)] for j in range(10)])
        began = time.perf_counter()
        made = planner.plan(told.snapshot, now, asked)
        single.append(1000 * (time.perf_counter() - began))
        told.carry_out(made, now)
    cold = [_cold(engine.snapshot(), now + i) for i in range(5)]
    return {
        "single_change_median_ms": statistics.median(single),
        "single_change_max_ms": max(single),
        "all_waits_told_ms": _timed(lambda: planner.plan(told.snapshot, now)),
        "cold_median_ms": statistics.median(cold),
        "waiting": sum(job.lacking > 0 for job in told.snapshot.jobs),
        "running": sum(bool(job.holdings) for job in told.snapshot.jobs),
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _cold(picture: Snapshot, now: float) -> float:
    # Shapes are equal, not the same objects, as they come from the cluster's jobs.
    jobs = (replace(j, shapes=tuple(replace(s) for s in j.shapes)) for j in picture.jobs)
    fresh = replace(picture, jobs=tuple(jobs))
    return _timed(lambda: plan(fresh, now))


if __name__ == "__main__":
    print(json.dumps(measure()))
