"""Admission against the policies of other systems, on public traces, and how fast a plan is made.

    python -m tests.benchmarks.admission --traces FOLDER [--only TRACE] [--workers N]

``FOLDER`` has ``jobs/*.csv.gz`` and ``nodes/*.csv.gz`` in the columns of ``drse simulate trace``. Prints one
JSON object, then the same as Markdown tables. Ratios are of runs of the same call.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drse_operator.simulator.run import simulate
from drse_operator.simulator.trace import TraceJob, one_pool, read_jobs, read_nodes, with_estimates
from tests.benchmarks import plan_speed

#: FIFO's mean wait that a cluster size has to cause (seconds).
_BUSY = 3600.0
#: Sizes in parts of the mean number of GPUs wanted at once: each is lowered until FIFO's mean wait is long
#: enough.
_SIZES = (1.15, 0.85)
_LOWER = 0.9
_RUNS = (
    ("fifo", "exact"),
    ("fifo-backfill", "exact"),
    ("shortest-first", "exact"),
    ("drf", "exact"),
    ("best-effort", "exact"),
    ("drse", "exact"),
    ("fifo-backfill", "noisy"),
    ("shortest-first", "noisy"),
    ("drse", "noisy"),
    ("fifo-backfill", "learned"),
    ("drse", "learned"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one trace on so many GPUs."""

    trace: str
    gpus: int
    policy: str
    estimates: str


def mean_demand(jobs: Sequence[TraceJob]) -> float:
    """GPUs wanted at once, on average over the time in which jobs are submitted."""
    span = jobs[-1].submit - jobs[0].submit
    return sum(job.duration * job.gpus for job in jobs) / max(1.0, span)


def trace_jobs(path: Path, estimates: str) -> list[TraceJob]:
    """The jobs of a trace, all of one priority: most policies compared know none."""
    return with_estimates([replace(job, priority=0) for job in read_jobs(path)], estimates, 1)


def busy_sizes(path: Path) -> list[int]:
    """Two numbers of GPUs on which FIFO's mean wait exceeds an hour, if the largest job allows it."""
    jobs = trace_jobs(path, "exact")
    largest, mean = max(job.gpus for job in jobs), mean_demand(jobs)
    found: list[int] = []
    for part in _SIZES:
        size = part * mean
        while size >= max(1, largest):
            measures, _ = simulate(jobs, one_pool(math.ceil(size)), "fifo")
            if measures.wait_mean_s > _BUSY and math.ceil(size) not in found:
                found.append(math.ceil(size))
                break
            size *= _LOWER
    if not found and simulate(jobs, one_pool(largest), "fifo")[0].wait_mean_s > _BUSY:
        found.append(largest)
    return found


def perform(folder: Path, task: Task) -> dict[str, Any]:
    """The measures of one run, with the task."""
    jobs = trace_jobs(folder / "jobs" / f"{task.trace}.csv.gz", task.estimates)
    measures, _ = simulate(jobs, one_pool(task.gpus), task.policy)
    return {**asdict(task), **asdict(measures)}


def mixed_throughput(folder: Path, policy: str) -> dict[str, Any]:
    """Jobs finished a day while submissions last, on a tenth of the openb nodes with several kinds of GPU.

    The jobs are PAI's; every third of them asks for cards of 32 GiB, every seventh for G2 or G3 alone, and
    jobs larger than a node are gangs.
    """
    nodes = read_nodes(folder / "nodes" / "alibaba2023_openb_nodes.csv.gz")[::10]
    jobs = [
        replace(job, gpu_type=_OF_KIND[0] if i % 3 == 0 else _OF_KIND[1] if i % 7 == 0 else "")
        for i, job in enumerate(trace_jobs(folder / "jobs" / "alibaba2020_pai_sample.csv.gz", "exact"))
    ]
    jobs = [replace(job, submit=job.submit / 3) for job in jobs[:6000]]
    measures, run = simulate(jobs, nodes, policy)
    days = (jobs[-1].submit - jobs[0].submit) / 86400
    done = sum(end <= jobs[-1].submit for end in run.ended.values())
    return {"policy": policy, "jobs_per_day": done / days, **asdict(measures)}


_OF_KIND = ("V100M32|G2|G3", "G2|G3")


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean; zeros count as a millionth."""
    return math.exp(sum(math.log(max(v, 1e-6)) for v in values) / len(values)) if values else float("nan")


def _pick(rows: Sequence[dict[str, Any]], policy: str, estimates: str) -> dict[str, Any]:
    return next(r for r in rows if r["policy"] == policy and r["estimates"] == estimates)


def waits_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean waits and lateness of every trace and size, and ratios."""
    lines = [
        "| trace, GPUs | FIFO | EASY | shortest | DRSE exact | noisy: EASY | DRSE | learned: EASY | DRSE | "
        "lateness p99 DRSE/FIFO | max DRSE/shortest | use DRSE - EASY | P1 used: DRSE | FIFO | EASY | "
        "shortest | DRF | best effort |",
        "|---" * 18 + "|",
    ]
    for trace, gpus in dict.fromkeys((r["trace"], r["gpus"]) for r in rows):
        mine = [r for r in rows if (r["trace"], r["gpus"]) == (trace, gpus)]
        fifo, easy, drse = (_pick(mine, p, "exact") for p in ("fifo", "fifo-backfill", "drse"))
        shortest = _pick(mine, "shortest-first", "exact")
        hours = [
            r["wait_mean_s"] / 3600
            for r in (
                fifo, easy, shortest, drse,
                _pick(mine, "fifo-backfill", "noisy"), _pick(mine, "drse", "noisy"),
                _pick(mine, "fifo-backfill", "learned"), _pick(mine, "drse", "learned"),
            )
        ]  # fmt: skip
        p1 = [
            r["fairness_bound_used_max"]
            for r in (
                drse,
                fifo,
                easy,
                shortest,
                _pick(mine, "drf", "exact"),
                _pick(mine, "best-effort", "exact"),
            )
        ]
        cells = [
            f"{trace}, {gpus}",
            *(f"{h:.2f}" for h in hours),
            f"{_ratio(drse, fifo, 'lateness_p99_s'):.2f}",
            f"{_ratio(drse, shortest, 'lateness_max_s'):.2f}",
            f"{drse['gpu_utilisation'] - easy['gpu_utilisation']:+.3f}",
            *(f"{x:.2f}" for x in p1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures that have targets: geometric means and worst cases over traces and sizes."""
    found: dict[str, Any] = {}
    places = list(dict.fromkeys((r["trace"], r["gpus"]) for r in rows))
    by_place = [[r for r in rows if (r["trace"], r["gpus"]) == place] for place in places]
    for rival in ("fifo", "fifo-backfill"):
        for estimates in ("exact", "noisy", "learned"):
            base = "exact" if rival == "fifo" else estimates
            ratios = [
                _ratio(_pick(m, "drse", estimates), _pick(m, rival, base), "wait_mean_s") for m in by_place
            ]
            found[f"wait_vs_{rival}_{estimates}"] = _spread(ratios)
    exact = [(_pick(m, "drse", "exact"), m) for m in by_place]
    found["lateness_p99_vs_fifo"] = _spread(
        [_ratio(d, _pick(m, "fifo", "exact"), "lateness_p99_s") for d, m in exact]
    )
    found["lateness_max_vs_shortest"] = _spread(
        [_ratio(d, _pick(m, "shortest-first", "exact"), "lateness_max_s") for d, m in exact]
    )
    found["utilisation_minus_easy_worst"] = min(
        d["gpu_utilisation"] - _pick(m, "fifo-backfill", "exact")["gpu_utilisation"] for d, m in exact
    )
    for policy in ("drse", "fifo", "fifo-backfill", "shortest-first", "drf", "best-effort"):
        mine = [r["fairness_bound_used_max"] for r in rows if r["policy"] == policy]
        found[f"p1_used_max_{policy}"] = max(mine)
    return found


def _ratio(a: dict[str, Any], b: dict[str, Any], field: str) -> float:
    return float(a[field]) / max(1.0, float(b[field]))


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {"geometric_mean": geometric_mean(ratios), "worst": max(ratios)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--only", action="append", help="name of a trace, without .csv.gz")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    paths = sorted((arguments.traces / "jobs").glob("*.csv.gz"))
    names = [p.name.removesuffix(".csv.gz") for p in paths]
    paths = [p for p, n in zip(paths, names, strict=True) if not arguments.only or n in arguments.only]
    with ProcessPoolExecutor(arguments.workers) as pool:
        sizes = dict(zip(paths, pool.map(busy_sizes, paths), strict=True))
        tasks = [
            Task(path.name.removesuffix(".csv.gz"), gpus, policy, estimates)
            for path, found in sizes.items()
            for gpus in found
            for policy, estimates in _RUNS
        ]
        print("sizes", {p.name: s for p, s in sizes.items()}, file=sys.stderr, flush=True)
        rows = []
        for row in pool.map(perform, [arguments.traces] * len(tasks), tasks):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
        mixed = list(pool.map(mixed_throughput, [arguments.traces] * 3, ("fifo", "fifo-backfill", "drse")))
    print(json.dumps({"runs": rows, "summary": summary(rows), "mixed": mixed, "plan": plan_speed.measure()}))
    for row in mixed:
        print(f"openb nodes, several kinds, {row['policy']}: {row['jobs_per_day']:.0f} jobs a day")
    print(waits_table(rows))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
