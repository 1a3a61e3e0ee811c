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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drse_operator.simulator.run import simulate
from drse_operator.simulator.trace import TraceJob, one_pool, read_jobs, with_estimates

#: FIFO's mean wait that a cluster size has to cause (seconds).
_BUSY = 3600.0
#: Sizes tried, in parts of the mean number of GPUs wanted at once, largest first.
_SIZES = (1.6, 1.4, 1.25, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
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


def busy_sizes(path: Path) -> list[int]:
    """The two largest of the sizes tried on which FIFO's mean wait exceeds an hour; fewer when there are not."""
    jobs = with_estimates(read_jobs(path), "exact", 1)
    largest, mean = max(job.gpus for job in jobs), mean_demand(jobs)
    found: list[int] = []
    for gpus in dict.fromkeys(max(largest, math.ceil(mean * part)) for part in _SIZES):
        measures, _ = simulate(jobs, one_pool(gpus), "fifo")
        if measures.wait_mean_s > _BUSY:
            found.append(gpus)
        if len(found) == 2:
            break
    return found


def perform(folder: Path, task: Task) -> dict[str, Any]:
    """The measures of one run, with the task."""
    jobs = with_estimates(read_jobs(folder / "jobs" / f"{task.trace}.csv.gz"), task.estimates, 1)
    measures, _ = simulate(jobs, one_pool(task.gpus), task.policy)
    return {**asdict(task), **asdict(measures)}


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean; zeros count as a millionth."""
    return math.exp(sum(math.log(max(v, 1e-6)) for v in values) / len(values)) if values else float("nan")


def _pick(rows: Sequence[dict[str, Any]], policy: str, estimates: str) -> dict[str, Any]:
    return next(r for r in rows if r["policy"] == policy and r["estimates"] == estimates)


def waits_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean waits and lateness of every trace and size, and ratios."""
    lines = [
        "| trace, GPUs | FIFO | EASY | shortest | DRSE exact | noisy: EASY | DRSE | learned: EASY | DRSE | "
        "lateness p99 DRSE/FIFO | max DRSE/shortest | use DRSE - EASY | P1 used: DRSE | FIFO | EASY | shortest | "
        "DRF | best effort |",
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
        rows = list(pool.map(perform, [arguments.traces] * len(tasks), tasks))
    print(json.dumps({"runs": rows, "summary": summary(rows)}))
    print(waits_table(rows))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
