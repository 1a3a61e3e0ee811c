"""``make bench``: measure on the embedded control plane, print JSON, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drse_local.fleet import Binding
from tests.benchmarks import crowd, pass_speed, plan_speed, reasons, throughput

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BINDINGS = (Binding.DEVICE_PLUGIN, Binding.DRA)
Row = dict[str, Any]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--jobs", type=int, default=2000, help="jobs applied at once to one queue")
    parser.add_argument("--crowd", type=int, default=15000, help="jobs applied at once to many queues")
    parser.add_argument("--queues", type=int, default=30)
    parser.add_argument("--late", type=int, default=400, help="jobs applied to a full cluster")
    parser.add_argument("--waiting", type=int, default=15000, help="jobs that wait while passes are timed")
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md alone")
    options = parser.parse_args()
    rows = [
        asyncio.run(throughput.measure(binding, options.jobs, options.nodes, limit=600))
        for binding in BINDINGS
    ]
    ceilings = [
        asyncio.run(throughput.ceiling(binding, options.jobs // 4, options.nodes)) for binding in BINDINGS
    ]
    result = {
        "throughput": rows,
        "ceilings": ceilings,
        "few": asyncio.run(crowd.measure(options.queues, options.jobs, options.nodes, limit=600)),
        "crowd": asyncio.run(crowd.measure(options.queues, options.crowd, options.nodes, limit=1800)),
        "reasons": asyncio.run(reasons.measure(options.nodes, options.late, rate=10.0, limit=300)),
        "passes": [pass_speed.measure(waiting) for waiting in (1000, options.waiting)],
        "plan": plan_speed.measure(),
    }
    print(json.dumps(result))
    if not options.no_report:
        REPORT.write_text(report(result))
    # A process of its own: numpy must not be loaded before the forecaster has limited its threads.
    write = [] if options.no_report else ["--write"]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.scaling", *write], check=True)


def report(result: dict[str, Any]) -> str:
    """The Markdown page."""
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. API server, etcd, scheduler, controller manager, kwok, "
        "operator and the measuring client share the cores. Figures are for comparing within one run.",
        "",
    ]
    parts = (
        _throughput(result["throughput"], result["ceilings"]),
        _crowd(result["few"], result["crowd"]),
        _reasons(result["reasons"]),
        _passes(result["passes"], result["plan"]),
    )
    return "\n".join([*head, *(line for part in parts for line in part)])


def _throughput(rows: list[Row], ceilings: list[Row]) -> list[str]:
    lines = [
        f"## DeepSeekJobs from apply to a running pod: {rows[0]['jobs']} single-GPU jobs at once, "
        f"{rows[0]['nodes']} nodes of 8 GPUs",
        "",
        "| binding | jobs/s to Running | ceiling: bare API writes/s | share | apply to bound p50 / p95 "
        "| operator CPU | API server CPU | operator RSS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, ceiling in zip(rows, ceilings, strict=True):
        share = row["jobs_per_second"] / ceiling["jobs_per_second"]
        lines.append(
            f"| {row['binding']} | {row['jobs_per_second']} | {ceiling['jobs_per_second']} | {share:.0%} "
            f"| {row['apply_to_bound_p50_s']} s / {row['apply_to_bound_p95_s']} s "
            f"| {row['cpu_seconds']['operator']} s | {row['cpu_seconds']['kube-apiserver']} s "
            f"| {row['operator_rss_mib']} MiB |"
        )
    lines += [
        "",
        "The ceiling is what a bare client reaches on the same control plane when it makes the least writes "
        "an operator could get by with, one job after the other in parallel streams: the custom resource, "
        "its status, the pod, and with DRA a claim.",
        "",
        "Order in which pods were bound, against the order in which GPUs were promised:",
        "",
        "| binding | pairs bound the other way round | places displaced, p95 / most | overtaken by, p95 |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['binding']} | {row['inverted_pairs']:.2%} | {row['displaced_p95']:.0f} / "
        f"{row['displaced_most']} of {row['jobs']} | {row['overtaken_p95_s']} s |"
        for row in rows
    ]
    return [*lines, ""]


def _crowd(few: Row, crowd: Row) -> list[str]:
    rows = (few, crowd)

    def line(name: str, value: Callable[[Row], object]) -> str:
        return f"| {name} | " + " | ".join(str(value(row)) for row in rows) + " |"

    return [
        f"## Jobs of 1 to 8 GPUs that run some seconds each, in {crowd['queues']} queues of weights 1 to 5, "
        f"{crowd['nodes']} nodes of 8 GPUs, all applied at once",
        "",
        line("jobs", lambda row: row["jobs"]),
        "|---|---|---|",
        line("jobs/s from the first apply to the last end", lambda row: row["jobs_per_second"]),
        line("the same, by quarters of the jobs that ended", _quarters),
        line("most jobs waiting at once", lambda row: row["waiting_most"]),
        line("apply to a reason in the status, p95", lambda row: f"{row['apply_to_reason_p95_s']} s"),
        line("status writes a job", lambda row: row["status_writes_a_job"]),
        line("operator's largest RSS", lambda row: f"{row['operator_rss_mib']} MiB"),
        line("operator's CPU", lambda row: f"{row['cpu_seconds']['operator']} s"),
        line("API server's CPU", lambda row: f"{row['cpu_seconds']['kube-apiserver']} s"),
        line("mean pass", lambda row: f"{row['plan_mean_ms']} ms"),
        line("part of the fairness bound used", lambda row: row["fairness_bound_used"]),
        line("service per weight by queue, largest / smallest, while all had jobs waiting", _spread),
        "",
        f"{crowd['jobs']} jobs go at {crowd['jobs_per_second'] / few['jobs_per_second']:.0%} of the rate of "
        f"{few['jobs']}. A job that ends costs the API server about twice what one costs that only starts, "
        "so these rates do not compare with those above.",
        "",
    ]


def _quarters(row: Row) -> str:
    return " / ".join(str(rate) for rate in row["jobs_per_second_by_quarter"])


def _spread(row: Row) -> str:
    fair = row["fairness"]
    return (
        "too short to tell" if fair["spread"] is None else f"{fair['spread']} (Jain's index {fair['jain']})"
    )


def _reasons(row: Row) -> list[str]:
    return [
        f"## Full cluster: from apply until the status says why the job waits ({row['jobs']} jobs, "
        f"{row['rate']:.0f} a second, every 20th a gang of 80 GPUs)",
        "",
        "| jobs | p50 | p95 | slowest |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row[f'{key}_p50_s']} s | {row[f'{key}_p95_s']} s | {row[f'{key}_p100_s']} s |"
            for name, key in (("all", "reason"), ("gangs", "gang_reason"))
        ),
        "",
    ]


def _passes(passes: list[Row], plan: Row) -> list[str]:
    return [
        "## One pass of the loop in which one job ends and one arrives (CPU of one core)",
        "",
        "| jobs waiting | median | p95 | writes that follow |",
        "|---|---|---|---|",
        *(
            f"| {row['waiting']} | {row['pass_median_ms']} ms | {row['pass_p95_ms']} ms "
            f"| {row['writes_a_pass']} |"
            for row in passes
        ),
        "",
        f"The plan alone, 1,000 nodes of 8 GPUs full, {plan['waiting']} jobs waiting in 100 flows: "
        f"{plan['single_change_median_ms']:.0f} ms after a single change with the engine that is kept, "
        f"{plan['cold_median_ms']:.0f} ms from a cold snapshot with a reason for everybody.",
        "",
    ]


if __name__ == "__main__":
    main()
