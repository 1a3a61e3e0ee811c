"""What the console's pages want to know of Prometheus. All questions raise PrometheusError."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from drse_operator.observe.console.look import Series
from drse_operator.outside.prometheus import Prometheus, Result
from drse_operator.outside.use import Exporters, busy_of_jobs, unmeasured

#: Figures whose course is shown beside them.
TRENDS = ("plan_p99_seconds", "api_errors_per_hour", "fairness_bound_used_ratio", "eta_coverage_ratio")
LOADS = "max by (deepseekjob_namespace, deepseekjob) (drse_load)"


def history_queries(exporters: Exporters) -> Mapping[str, str]:
    """Lines of the history on the page Now, in GPUs, each as one query over time."""
    return {
        "Held": 'sum(drse_gpu_state{state="Held"})',
        "Used": busy_of_jobs(exporters),
        "All": "sum(drse_gpu_state)",
        "Waiting": "sum(drse_queue_pending_gpus)",
    }


def figure_queries(exporters: Exporters) -> Mapping[str, str]:
    """Figures of the operator for the page Health."""
    return {
        "plan_p99_seconds": "histogram_quantile(0.99, sum by (le) "
        "(rate(drse_plan_duration_seconds_bucket[10m])))",
        "last_plan_age_seconds": "time() - max(drse_last_plan_timestamp_seconds)",
        "leaders": "sum(drse_leader)",
        "double_assignments": "max(drse_double_assignments)",
        "assignment_mismatches": "sum(increase(drse_assignment_mismatches_total[1h])) "
        "or 0 * sum(drse_leader)",
        "api_errors_per_hour": "sum(increase(drse_api_errors_total[1h])) or 0 * sum(drse_leader)",
        "fairness_bound_used_ratio": "max(drse_fairness_bound_used_ratio)",
        "eta_coverage_ratio": "sum(drse_eta_coverage_ratio * on (queue) drse_eta_judged_jobs) "
        "/ (sum(drse_eta_judged_jobs) > 0)",
        "gpus_without_metrics": unmeasured(exporters),
    }


async def figures(prometheus: Prometheus) -> dict[str, float]:
    """Single figures of the operator; those that Prometheus does not know are left out."""
    found = {}
    for name, query in figure_queries(prometheus.settings.exporters).items():
        value = next((result.number for result in await prometheus.instant(query)), None)
        if value is not None:
            found[name] = value
    return found


async def trends(
    prometheus: Prometheus, now: float, seconds: float = 6 * 3600.0, step: float = 300.0
) -> dict[str, Series]:
    """How some figures went over the last hours; those that Prometheus does not know are left out."""
    end = now // step * step
    times = tuple(end - seconds + step * i for i in range(int(seconds / step) + 1))
    queries, found = figure_queries(prometheus.settings.exporters), {}
    for name in TRENDS:
        results = await prometheus.range(queries[name], times[0], end, step)
        if results:
            found[name] = Series(times, {name: _aligned(results[0], times)})
    return found


async def versions(prometheus: Prometheus) -> tuple[str, ...]:
    """Versions that operators run in; more than one while they are being replaced."""
    results = await prometheus.instant("group by (version) (drse_build_info)")
    return tuple(sorted(result.metric.get("version", "") for result in results))


async def history(
    prometheus: Prometheus, now: float, seconds: float = 86_400.0, step: float = 300.0
) -> Series:
    """GPUs held, used and waited for over the last day."""
    end = now // step * step
    times = tuple(end - seconds + step * i for i in range(int(seconds / step) + 1))
    lines = {}
    for name, query in history_queries(prometheus.settings.exporters).items():
        results = await prometheus.range(query, times[0], end, step)
        if results:
            lines[name] = _aligned(results[0], times)
    return Series(times, lines)


async def loads(
    prometheus: Prometheus, now: float, seconds: float = 7200.0, step: float = 60.0
) -> dict[tuple[str, str], Series]:
    """Load of each scaled job over the last two hours, in GPU-equivalents."""
    end = now // step * step
    times = tuple(end - seconds + step * i for i in range(int(seconds / step) + 1))
    return {
        (r.metric.get("deepseekjob_namespace", ""), r.metric.get("deepseekjob", "")): Series(
            times, {"Load": _aligned(r, times)}
        )
        for r in await prometheus.range(LOADS, times[0], end, step)
    }


def _aligned(result: Result, times: Iterable[float]) -> tuple[float, ...]:
    """Values at these times; NaN where there is none."""
    known = {round(at): _finite(text) for at, text in result.values}
    return tuple(known.get(round(at), math.nan) for at in times)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else math.nan
