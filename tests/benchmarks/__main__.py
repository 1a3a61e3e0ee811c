"""``make bench``: measure on the embedded control plane, print JSON, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drse_local.fleet import Binding
from tests.benchmarks import throughput

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md alone")
    options = parser.parse_args()
    rows = [
        asyncio.run(throughput.measure(binding, options.jobs, options.nodes, limit=600))
        for binding in (Binding.DEVICE_PLUGIN, Binding.DRA)
    ]
    ceilings = [
        asyncio.run(throughput.ceiling(binding, options.jobs // 4, options.nodes))
        for binding in (Binding.DEVICE_PLUGIN, Binding.DRA)
    ]
    memory = asyncio.run(throughput.measure(Binding.DRA, 1000, 250, limit=600))
    result = {
        "throughput": rows,
        "ceilings": ceilings,
        "operator_rss_mib_1000_jobs": memory["operator_rss_mib"],
    }
    print(json.dumps(result))
    if not options.no_report:
        REPORT.write_text(_report(rows, ceilings, memory))


def _report(rows: list[dict[str, Any]], ceilings: list[dict[str, Any]], memory: dict[str, Any]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. API server, etcd, scheduler, controller manager, kwok, "
        "operator and the measuring client share the cores. Figures are for comparing within one run.",
        "",
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
        f"With 1,000 jobs and 250 nodes the operator's RSS is {memory['operator_rss_mib']} MiB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
