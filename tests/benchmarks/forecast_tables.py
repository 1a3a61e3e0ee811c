"""The forecast benchmark as numbers in one dictionary, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.benchmarks.forecast import Row
    from tests.benchmarks.forecast_ramps import Ramps
    from tests.benchmarks.forecast_solver import AgainstStan, Cost

COVERAGE_BAND = (0.87, 0.93)
_COMPETITORS = ("ewma", "seasonalNaive", "prophet")


def geometric_mean(values: Iterable[float | None]) -> float:
    """Return the geometric mean of the positive finite ones."""
    known = np.array([value for value in values if value is not None and np.isfinite(value) and value > 0])
    return float(np.exp(np.log(known).mean())) if known.size else float("nan")


def summary(rows: list[Row], structured: tuple[str, ...]) -> dict[str, object]:
    """Return the numbers that the targets are about, over the counted series."""
    counted = [row for row in rows if row.counted]
    weeks = [week for row in counted for week in row.scores.p90_coverage_by_week]
    low, high = COVERAGE_BAND
    inside = sum(low <= week <= high for week in weeks)
    return {
        "series": len(counted),
        "mae_ratio": geometric_mean(row.scores.mae_ratio for row in counted),
        "mae_ratio_largest": max((row.scores.mae_ratio or 0.0 for row in counted), default=None),
        "mae_ratio_structured": geometric_mean(
            row.scores.mae_ratio for row in counted if row.series in structured
        ),
        "pinball_p90_ratio": geometric_mean(row.scores.pinball_p90_ratio for row in counted),
        "pinball_p90_ratio_largest": max(
            (row.scores.pinball_p90_ratio or 0.0 for row in counted), default=None
        ),
        "mae_ratio_kinds_alike": geometric_mean(
            geometric_mean(row.scores.mae_ratio for row in group) for group in _kinds(counted)
        ),
        "pinball_p90_ratio_kinds_alike": geometric_mean(
            geometric_mean(row.scores.pinball_p90_ratio for row in group) for group in _kinds(counted)
        ),
        "weeks": len(weeks),
        "weeks_in_band": inside,
        "weeks_below": sum(week < low for week in weeks),
        "weeks_above": sum(week > high for week in weeks),
        "coverage_smallest": min(weeks, default=None),
        "coverage_largest": max(weeks, default=None),
        **{name: geometric_mean(row.scores.mae_others[name] for row in counted) for name in _COMPETITORS},
    }


def _kinds(rows: list[Row]) -> list[list[Row]]:
    return [[row for row in rows if row.kind == kind] for kind in dict.fromkeys(row.kind for row in rows)]


def markdown(
    rows: list[Row],
    structured: tuple[str, ...],
    ramps: Ramps,
    cost: list[Cost] | None,
    against: AgainstStan | None,
    seconds: float,
) -> str:
    """Return all tables."""
    parts = [_by_kind(rows), _all(summary(rows, structured)), _ramps(ramps)]
    if cost:
        parts.append(_cost(cost))
    if against:
        parts.append(
            f"Against Stan's L-BFGS on {against.fits} windows of recorded series: log-posterior higher "
            f"by {against.median:.2g} at the median and {against.worst:.2g} at the least; {against.batched} "
            f"solved without falling back; {against.batched_seconds:.1f} s against "
            f"{against.stan_seconds:.1f} s, one by one through Prophet."
        )
    parts.append(_each(rows))
    parts.append(f"All rolling forecasts took {seconds:.0f} s.")
    return "\n\n".join(parts) + "\n"


def _by_kind(rows: list[Row]) -> str:
    lines = [
        "| kind | series | error | worst | P90 loss | worst | coverage by week "
        "| EWMA | seasonal naive | Prophet |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group in _kinds(rows):
        weeks = [week for row in group for week in row.scores.p90_coverage_by_week]
        cells = [
            group[0].kind,
            str(len(group)),
            f"{geometric_mean(row.scores.mae_ratio for row in group):.3f}",
            f"{max(row.scores.mae_ratio or 0.0 for row in group):.3f}",
            f"{geometric_mean(row.scores.pinball_p90_ratio for row in group):.3f}",
            f"{max(row.scores.pinball_p90_ratio or 0.0 for row in group):.3f}",
            f"{min(weeks):.3f} to {max(weeks):.3f}",
            *(f"{geometric_mean(row.scores.mae_others[name] for row in group):.2f}" for name in _COMPETITORS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _all(numbers: dict[str, object]) -> str:
    lines = ["| over all inference loads | measured |", "|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |"
        for name, value in numbers.items()
    ]
    return "\n".join(lines)


def _ramps(ramps: Ramps) -> str:
    cells = [
        ("forecast P90", ramps.forecast),
        ("forecast P90, no headroom", ramps.forecast_without_headroom),
        ("last value and its quantile", ramps.last_value),
        ("Prophet alone", ramps.prophet),
        ("seasonal naive", ramps.seasonal_naive),
    ]
    lines = ["| scheduled ramps | time under capacity |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {share:.1%} |" for name, share in cells)])


def _cost(cost: list[Cost]) -> str:
    lines = ["| fit | series | points | fit s | predict s | converged |", "|---|---|---|---|---|---|"]
    return "\n".join(
        [
            *lines,
            *(
                f"| {one.case} | {one.series} | {one.points} | {one.fit_seconds:.2f} | "
                f"{one.predict_seconds:.2f} | {one.converged} |"
                for one in cost
            ),
        ]
    )


def _each(rows: list[Row]) -> str:
    lines = [
        "| series | origins | error | P90 loss | coverage by week | EWMA | seasonal naive | Prophet |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        scores = row.scores
        weeks = ", ".join(f"{week:.3f}" for week in scores.p90_coverage_by_week)
        others = " | ".join(f"{scores.mae_others[name]:.2f}" for name in _COMPETITORS)
        lines.append(
            f"| {row.series} | {scores.origins} | {scores.mae_ratio or float('nan'):.3f} | "
            f"{scores.pinball_p90_ratio or float('nan'):.3f} | {weeks} | {others} |"
        )
    return "\n".join(lines)
