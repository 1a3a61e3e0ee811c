"""What the runs of the admission benchmark come to: ratios with their targets, and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: The report between these lines is written anew; what is around them stays.
_BEGIN, _END = "<!-- tables: begin -->", "<!-- tables: end -->"
_POLICIES = ("drse", "fifo", "fifo-backfill", "shortest-first", "drf", "best-effort")


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean; zeros count as a millionth."""
    return math.exp(sum(math.log(max(v, 1e-6)) for v in values) / len(values)) if values else float("nan")


class Case:
    """All runs of one trace on one number of GPUs."""

    def __init__(self, trace: str, gpus: int, rows: Sequence[Row]) -> None:
        self.name = f"{trace}, {gpus}"
        self._rows = {(row["policy"], row["estimates"]): row for row in rows}

    def get(self, policy: str, field: str, estimates: str = "exact") -> float:
        """One measure of one run; NaN when that was not made."""
        row = self._rows.get((policy, estimates))
        return float("nan") if row is None else float(row[field])

    def ratio(self, field: str, rival: str, estimates: str = "exact", policy: str = "drse") -> float:
        """A policy's measure over a rival's. FIFO asks for no estimates, so it has one run for all."""
        theirs = "exact" if rival == "fifo" else estimates
        return self.get(policy, field, estimates) / max(1.0, self.get(rival, field, theirs))


def cases(rows: Sequence[Row]) -> list[Case]:
    """The runs by trace and size."""
    places = sorted({(row["trace"], -row["gpus"]) for row in rows})
    return [Case(t, -g, [r for r in rows if (r["trace"], r["gpus"]) == (t, -g)]) for t, g in places]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures that have targets: geometric means and worst cases over traces and sizes."""
    found: dict[str, Any] = {}
    every = cases(rows)
    for rival in ("fifo", "fifo-backfill"):
        for estimates in ("exact", "noisy", "learned"):
            found[f"wait_vs_{rival}_{estimates}"] = _spread(
                [case.ratio("wait_mean_s", rival, estimates) for case in every]
            )
        found[f"wait_shortest_first_vs_{rival}"] = _spread(
            [case.ratio("wait_mean_s", rival, policy="shortest-first") for case in every]
        )
    found["lateness_p99_vs_fifo"] = _spread([case.ratio("lateness_p99_s", "fifo") for case in every])
    found["lateness_max_vs_shortest"] = _spread(
        [case.ratio("lateness_max_s", "shortest-first") for case in every]
    )
    found["utilisation_minus_easy_worst"] = min(_made(_less_used(case) for case in every))
    found["p1_used_max"] = {
        p: max(case.get(p, "fairness_bound_used_max") for case in every) for p in _POLICIES
    }
    return found


def _less_used(case: Case) -> float:
    return case.get("drse", "gpu_utilisation") - case.get("fifo-backfill", "gpu_utilisation")


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    made = _made(ratios)
    return {"geometric_mean": geometric_mean(made), "worst": max(made, default=math.nan), "cases": len(made)}


def _made(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def write_report(path: Path, rows: Sequence[Row], mixed: Sequence[Row]) -> None:
    """Put the tables between the marks of the report."""
    text = path.read_text()
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    parts = [
        _summary_table(rows),
        "### Mean wait in hours\n\n" + _waits_table(cases(rows)),
        "### Lateness against equal sharing, use of GPUs, fairness bound\n\n" + _fairness_table(cases(rows)),
        "### Several kinds of GPU and gangs\n\n" + _mixed_table(mixed),
    ]
    path.write_text(before + _BEGIN + "\n" + "\n\n".join(parts) + "\n" + _END + after)


def _summary_table(rows: Sequence[Row]) -> str:
    found = summary(rows)
    goals = (
        ("mean wait against FIFO, exact estimates", "wait_vs_fifo_exact", "0.09 / 0.33"),
        ("mean wait against EASY, exact", "wait_vs_fifo-backfill_exact", "0.09 / 0.33"),
        ("the same of shortest-first, which knows everything", "wait_shortest_first_vs_fifo-backfill", ""),
        ("mean wait against FIFO, noisy", "wait_vs_fifo_noisy", "0.13 / 0.40"),
        ("mean wait against EASY, noisy for both", "wait_vs_fifo-backfill_noisy", "0.13 / 0.40"),
        ("mean wait against FIFO, learned", "wait_vs_fifo_learned", "0.13 / 0.40"),
        ("mean wait against EASY, learned for both", "wait_vs_fifo-backfill_learned", "0.13 / 0.40"),
        ("lateness p99 against FIFO", "lateness_p99_vs_fifo", "0.25 / 0.50"),
        ("worst lateness against shortest-first", "lateness_max_vs_shortest", "0.33 / 0.75"),
    )
    lines = ["| ratio | geometric mean | worst case | cases | target |", "|---|---|---|---|---|"]
    for title, key, goal in goals:
        lines.append(
            f"| {title} | {found[key]['geometric_mean']:.3f} | {found[key]['worst']:.2f} "
            f"| {found[key]['cases']} | {goal} |"
        )
    lines.append(
        f"| GPU use minus EASY's, exact | | {found['utilisation_minus_easy_worst']:+.3f} | | -0.02 |"
    )
    for policy, used in found["p1_used_max"].items():
        lines.append(
            f"| fairness bound used, {policy} | | {used:.2f} | | {'1' if policy == 'drse' else ''} |"
        )
    return "\n".join(lines)


def _waits_table(every: Sequence[Case]) -> str:
    columns = (
        ("FIFO", "fifo", "exact"),
        ("EASY", "fifo-backfill", "exact"),
        ("shortest first", "shortest-first", "exact"),
        ("DRF", "drf", "exact"),
        ("best effort", "best-effort", "exact"),
        ("**DRSE**", "drse", "exact"),
        ("noisy: EASY", "fifo-backfill", "noisy"),
        ("**DRSE**", "drse", "noisy"),
        ("learned: EASY", "fifo-backfill", "learned"),
        ("**DRSE**", "drse", "learned"),
    )
    lines = ["| trace, GPUs | " + " | ".join(c[0] for c in columns) + " |", "|---" * 11 + "|"]
    for case in every:
        hours = [case.get(policy, "wait_mean_s", estimates) / 3600 for _, policy, estimates in columns]
        lines.append(f"| {case.name} | " + " | ".join(_cell(h, 2) for h in hours) + " |")
    return "\n".join(lines)


def _fairness_table(every: Sequence[Case]) -> str:
    lines = [
        "| trace, GPUs | p99, hours: FIFO | DRSE | worst, hours: shortest first | DRSE | use: EASY | DRSE "
        "| bound used: DRSE | FIFO | EASY | shortest first | DRF | best effort |",
        "|---" * 13 + "|",
    ]
    for case in every:
        cells = [
            *(_cell(case.get(p, "lateness_p99_s") / 3600, 1) for p in ("fifo", "drse")),
            *(_cell(case.get(p, "lateness_max_s") / 3600, 1) for p in ("shortest-first", "drse")),
            *(_cell(case.get(p, "gpu_utilisation"), 3) for p in ("fifo-backfill", "drse")),
            *(_cell(case.get(p, "fairness_bound_used_max"), 2) for p in _POLICIES),
        ]
        lines.append(f"| {case.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mixed_table(mixed: Sequence[Row]) -> str:
    lines = ["| policy | jobs finished a day while submissions last | mean wait, hours |", "|---|---|---|"]
    for row in mixed:
        lines.append(f"| {row['policy']} | {row['jobs_per_day']:.0f} | {row['wait_mean_s'] / 3600:.1f} |")
    return "\n".join(lines)
