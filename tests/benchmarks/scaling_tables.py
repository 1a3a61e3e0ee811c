"""The closed loop's results as numbers and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drse_operator.simulator.scaling import Outcome
from drse_operator.simulator.scaling_contest import DRSE, HPA_EQUAL, POLICIES

if TYPE_CHECKING:
    from tests.benchmarks.scaling import Row

#: Kinds of too many series for a page; they are in the JSON.
_NOT_LISTED = ("GPU utilisation, a day",)
_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"
#: Shares of time below half a minute in two weeks are chance.
_NONE = 1e-9


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _means(rows: Sequence[Row], policy: str, value: Callable[[Outcome], float]) -> float:
    return _mean([value(row.outcomes[policy]) for row in rows])


def _under(outcome: Outcome) -> float:
    return outcome.under_capacity_share


def _actions(outcome: Outcome) -> float:
    return outcome.actions_per_day


def _cost(outcome: Outcome) -> float:
    return outcome.gpu_hours / outcome.demand_gpu_hours


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > _NONE else None


def _half(rows: Sequence[Row], value: Callable[[Outcome], float]) -> int:
    """In how many series DRSE has at most half of what the HPA has at equal GPU-hours."""
    return sum(value(r.outcomes[DRSE]) <= value(r.outcomes[HPA_EQUAL]) / 2 + _NONE for r in rows)


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
    """Against the HPA at equal GPU-hours: over all series and by kind; ratios of means over series."""
    kinds = dict.fromkeys(row.kind for row in rows)
    groups = {"all": list(rows), **{kind: [r for r in rows if r.kind == kind] for kind in kinds}}
    return {name: _summary(group) for name, group in groups.items()}


def _summary(rows: Sequence[Row]) -> dict[str, float | int | None]:
    drse, hpa = _means(rows, DRSE, _under), _means(rows, HPA_EQUAL, _under)
    acted, hpa_acted = _means(rows, DRSE, _actions), _means(rows, HPA_EQUAL, _actions)
    lines = [row.line for row in rows if row.line]
    line = [sum(_under(one[policy]) for one in lines) for policy in (DRSE, HPA_EQUAL)]
    line_acted = [sum(_actions(one[policy]) for one in lines) for policy in (DRSE, HPA_EQUAL)]
    return {
        "series": len(rows),
        "gpu_hours_per_load": _means(rows, DRSE, _cost),
        "under_capacity": drse,
        "under_capacity_hpa": hpa,
        "under_capacity_ratio": _ratio(drse, hpa),
        "under_capacity_at_most_half": _half(rows, _under),
        "actions_per_day": acted,
        "actions_per_day_hpa": hpa_acted,
        "actions_ratio": _ratio(acted, hpa_acted),
        "actions_at_most_half": _half(rows, _actions),
        "under_capacity_ratio_line": _ratio(line[0], line[1]),
        "actions_ratio_line": _ratio(line_acted[0], line_acted[1]),
    }


def markdown(rows: Sequence[Row]) -> str:
    """Three tables: against the HPA by kind, all policies, all series."""
    return "\n\n".join([_by_kind(rows), _by_policy(rows), _by_series(rows)])


def _by_kind(rows: Sequence[Row]) -> str:
    lines = [
        "| kind | series | GPU-hours / load | under capacity | HPA | ratio | at most half | actions a day "
        "| HPA | ratio | at most half |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, one in summary(rows).items():
        lines.append(
            f"| {kind} | {one['series']} | {one['gpu_hours_per_load']:.2f} "
            f"| {one['under_capacity']:.2%} | {one['under_capacity_hpa']:.2%} "
            f"| {_number(one['under_capacity_ratio'])} | {one['under_capacity_at_most_half']} "
            f"| {one['actions_per_day']:.1f} | {one['actions_per_day_hpa']:.1f} "
            f"| {_number(one['actions_ratio'])} | {one['actions_at_most_half']} |"
        )
    return "\n".join(lines)


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _by_policy(rows: Sequence[Row]) -> str:
    lines = [
        "| policy, mean over all series | GPU-hours / load | under capacity | work queued | work lost "
        "| P95 queueing delay | actions a day |",
        "|---|---|---|---|---|---|---|",
    ]
    for policy in POLICIES:
        lines.append(
            f"| {policy} | {_means(rows, policy, _cost):.2f} | {_means(rows, policy, _under):.2%} "
            f"| {_means(rows, policy, lambda o: o.queued_share):.2%} "
            f"| {_means(rows, policy, lambda o: o.lost_share):.2%} "
            f"| {_means(rows, policy, lambda o: o.queueing_delay_p95_seconds):.1f} s "
            f"| {_means(rows, policy, _actions):.1f} |"
        )
    return "\n".join(lines)


def _by_series(rows: Sequence[Row]) -> str:
    lines = [
        "| series | GPU-hours / load | under capacity | HPA | lost | HPA | actions a day | HPA |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.kind in _NOT_LISTED:
            continue
        drse, hpa = row.outcomes[DRSE], row.outcomes[HPA_EQUAL]
        lines.append(
            f"| {row.series} | {_cost(drse):.2f} | {_under(drse):.3%} | {_under(hpa):.3%} "
            f"| {drse.lost_share:.3%} | {hpa.lost_share:.3%} | {_actions(drse):.1f} | {_actions(hpa):.1f} |"
        )
    return "\n".join(lines)


def insert(path: Path, tables: str) -> None:
    """Put the tables between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    path.write_text(f"{before}{_BEGIN}\n{tables}\n{_END}{after}", encoding="utf-8")
