"""On a full cluster: seconds from apply until a job's status says why it waits, gangs of 80 GPUs included.

python -m tests.benchmarks.reasons --nodes 250 --jobs 400
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from random import Random
from typing import Any

from drse_local.fleet import Binding
from tests.benchmarks.stage import GPUS_PER_NODE, Stage, job, pooled, quantile, queue, staged

#: Every so many jobs one is a gang of ten workers with eight GPUs each.
GANG_EVERY, GANG_WORKERS = 20, 10
SIZES = (1, 1, 2, 4, 8)


async def measure(nodes: int, jobs: int, rate: float, limit: float) -> dict[str, Any]:
    """Fill a cluster, apply a stream of ``rate`` jobs a second, wait until all say why they wait."""
    chance = Random(1)
    async with staged(Binding.DEVICE_PLUGIN, nodes, [queue("default"), queue("other", 3)]) as stage:
        await pooled(nodes, lambda number: stage.create(job(f"full-{number:04}", GPUS_PER_NODE)))
        await _until(lambda: len(stage.seen.bound) == nodes, limit)
        await asyncio.sleep(3)
        names = []
        async with asyncio.TaskGroup() as group:
            started = time.monotonic()
            for number in range(jobs):
                gang = number % GANG_EVERY == GANG_EVERY - 1
                names.append(f"{'gang' if gang else 'late'}-{number:04}")
                workers = GANG_WORKERS if gang else 1
                gpus = workers * GPUS_PER_NODE if gang else chance.choice(SIZES)
                document = job(names[-1], gpus, chance.choice(("default", "other")), workers=workers)
                group.create_task(stage.create(document))
                await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.monotonic()))
        await _until(lambda: all(name in stage.seen.told for name in names), limit)
        return {
            "nodes": nodes,
            "jobs": jobs,
            "rate": rate,
            "told": sum(name in stage.seen.told for name in names),
            **_latency(stage, names, "reason"),
            **_latency(stage, [name for name in names if name.startswith("gang")], "gang_reason"),
        }


def _latency(stage: Stage, names: list[str], what: str) -> dict[str, float | None]:
    seconds = [stage.seen.told[name] - stage.created[name] for name in names if name in stage.seen.told]
    return {f"{what}_p{round(100 * q)}_s": quantile(seconds, q) for q in (0.5, 0.95, 1.0)}


async def _until(check: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def main() -> None:
    """Parse, measure, print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rate", type=float, default=10.0, help="jobs applied a second")
    parser.add_argument("--limit", type=float, default=300, help="seconds to wait for anything")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.nodes, options.jobs, options.rate, options.limit))))


if __name__ == "__main__":
    main()
