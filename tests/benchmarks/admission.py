"""Admission against the policies of other systems, on public traces of GPU jobs.

    python -m tests.benchmarks.admission --traces FOLDER [--results FILE] [--report]

``FOLDER`` has ``jobs/*.csv.gz`` and ``nodes/*.csv.gz`` in the columns of ``drse simulate trace``. Every run
is a line of JSON in ``--results``, and what stands there already is not run again. ``--report`` writes the
tables into docs/admission-results.md. Runs know no chance but the noise of estimates, which is seeded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drse_operator.simulator.run import simulate
from drse_operator.simulator.trace import TraceJob, one_pool, read_jobs, read_nodes, with_estimates
from tests.benchmarks.admission_tables import Row, summary, write_report

REPORT = Path(__file__).parents[2] / "docs" / "admission-results.md"
#: GPUs for each trace: near the mean number wanted at once, and fewer unless the largest job needs so many.
#: On all of them FIFO's mean wait exceeds an hour.
CASES = {
    "alibaba2020_pai_sample": (450, 400),
    "alibaba2023_openb": (50, 42),
    "alibaba2025_dlrm_gpu_instances": (321, 273),
    "helios2020_venus": (550, 400),
    "itp2021_cluster01": (64,),
    "itp2021_cluster02": (87, 74),
    "itp2021_cluster03": (140, 119),
    "itp2021_cluster04": (495, 421),
    "itp2021_cluster08": (66, 57),
    "itp2021_cluster09": (31, 27),
    "itp2021_cluster10": (16,),
    "philly2017": (500, 350),
}
_RUNS = (
    ("drse", "exact"),
    ("drse", "noisy"),
    ("drse", "learned"),
    ("fifo", "exact"),
    ("fifo-backfill", "exact"),
    ("fifo-backfill", "noisy"),
    ("fifo-backfill", "learned"),
    ("shortest-first", "exact"),
    ("drf", "exact"),
    ("best-effort", "exact"),
)
_MIXED = "openb nodes, several kinds"
#: Kinds that some of the jobs on mixed nodes ask for.
_OF_KIND = ("V100M32|G2|G3", "G2|G3")


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one trace on so many GPUs."""

    trace: str
    gpus: int
    policy: str
    estimates: str


def tasks(only: Sequence[str] | None) -> list[Task]:
    """All runs, small traces first."""
    found = [
        Task(trace, gpus, policy, estimates)
        for trace, sizes in sorted(CASES.items(), key=lambda case: case[1])
        for gpus in sizes
        for policy, estimates in _RUNS
    ]
    found += [Task(_MIXED, 0, policy, "exact") for policy in ("fifo", "fifo-backfill", "drse")]
    return [task for task in found if not only or task.trace in only]


def trace_jobs(path: Path, estimates: str) -> list[TraceJob]:
    """The jobs of a trace, all of one priority: most policies compared know none."""
    return with_estimates([replace(job, priority=0) for job in read_jobs(path)], estimates, 1)


def perform(folder: Path, task: Task) -> Row:
    """The measures of one run, with the task."""
    if task.trace == _MIXED:
        return {**asdict(task), **mixed_throughput(folder, task.policy)}
    jobs = trace_jobs(folder / "jobs" / f"{task.trace}.csv.gz", task.estimates)
    measures, _ = simulate(jobs, one_pool(task.gpus), task.policy)
    return {**asdict(task), **asdict(measures)}


def mixed_throughput(folder: Path, policy: str) -> Row:
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
    return {"jobs_per_day": done / days, **asdict(measures)}


def _task_of(row: Row) -> Task:
    return Task(row["trace"], row["gpus"], row["policy"], row["estimates"])


def _known(path: Path | None) -> dict[Task, Row]:
    if path is None or not path.exists():
        return {}
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    return {_task_of(row): row for row in rows}


def main() -> None:
    """Parse, run what is missing, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="JSON lines to add to; runs found there are kept")
    parser.add_argument("--only", action="append", help="name of a trace, without .csv.gz")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", action="store_true", help=f"write {REPORT.name}")
    parser.add_argument("--report-only", action="store_true", help="the same, of the runs in --results alone")
    arguments = parser.parse_args()
    known = _known(arguments.results)
    asked = tasks(arguments.only)
    missing = [] if arguments.report_only else [task for task in asked if task not in known]
    with ProcessPoolExecutor(arguments.workers) as pool:
        for row in pool.map(perform, [arguments.traces] * len(missing), missing):
            known[_task_of(row)] = row
            line = json.dumps(row)
            print(line, flush=True)
            if arguments.results is not None:
                with arguments.results.open("a") as results:
                    results.write(line + "\n")
    made = [task for task in asked if task in known]
    rows = [known[task] for task in made if task.trace != _MIXED]
    mixed = [known[task] for task in made if task.trace == _MIXED]
    print(json.dumps(summary(rows)))
    if arguments.report or arguments.report_only:
        write_report(REPORT, rows, mixed)


if __name__ == "__main__":
    main()
