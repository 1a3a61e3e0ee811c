"""The few questions that the console asks of Prometheus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from drse_operator.observe.console.look import Alert, Series

_TIMEOUT = 20.0
#: Busy share of each GPU by UUID: NVIDIA's, AMD's and Habana's exporters, as the forecaster reads them.
USE = (
    "max by (UUID) (DCGM_FI_DEV_GPU_UTIL) / 100 "
    'or max by (UUID) (label_replace(gpu_gfx_activity, "UUID", "$1", "gpu_uuid", "(.+)")) / 100 '
    "or max by (UUID) (label_replace(habanalabs_utilization, 'UUID', '$1', 'uuid', '(.+)')) / 100"
)
ALERTS = 'ALERTS{alertstate="firing",alertname=~"DRSE.*|HighInferenceLatency"}'
#: Lines of the history on the page Now, in GPUs, each as one query over time.
HISTORY: Mapping[str, str] = {
    "Held": 'sum(drse_gpu_state{state="Held"})',
    "Used": "sum((max by (UUID) (DCGM_FI_DEV_GPU_UTIL) / 100) * on (UUID) group_left () "
    "max by (UUID) (drse_gpu_assigned))",
    "All": "sum(drse_gpu_state)",
    "Waiting": "sum(drse_queue_pending_gpus)",
}
LOADS = "max by (deepseekjob_namespace, deepseekjob) (drse_load)"
#: Figures of the operator for the page Health.
FIGURES: Mapping[str, str] = {
    "plan_p99_seconds": "histogram_quantile(0.99, sum by (le) "
    "(rate(drse_plan_duration_seconds_bucket[10m])))",
    "last_plan_age_seconds": "time() - max(drse_last_plan_timestamp_seconds)",
    "leaders": "sum(drse_leader)",
    "double_assignments": "max(drse_double_assignments)",
    "assignment_mismatches": "sum(increase(drse_assignment_mismatches_total[1h])) or 0 * sum(drse_leader)",
    "api_errors_per_hour": "sum(increase(drse_api_errors_total[1h])) or 0 * sum(drse_leader)",
    "fairness_bound_used_ratio": "max(drse_fairness_bound_used_ratio)",
    "eta_coverage_ratio": "max(drse_eta_coverage_ratio)",
    "gpus_without_metrics": "count(drse_gpu_assigned unless on (UUID) (DCGM_FI_DEV_GPU_UTIL or "
    'label_replace(gpu_gfx_activity, "UUID", "$1", "gpu_uuid", "(.+)") or '
    'label_replace(habanalabs_utilization, "UUID", "$1", "uuid", "(.+)"))) or vector(0)',
}


class PrometheusError(Exception):
    """No usable answer; the message says what Prometheus said."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Result(_Model):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: tuple[tuple[float, str], ...] = ()


class _Data(_Model):
    result: tuple[_Result, ...] = ()


class _Answer(_Model):
    status: str
    data: _Data = _Data()
    error: str = ""


class Prometheus:
    """One server, by its base URL."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    async def use(self) -> dict[str, float]:
        """Busy share (0 to 1) by GPU UUID."""
        return {
            r.metric["UUID"]: min(1.0, max(0.0, value))
            for r in await self._instant(USE)
            if "UUID" in r.metric and (value := _number(r)) is not None
        }

    async def alerts(self) -> tuple[Alert, ...]:
        """DRSE's firing alerts."""
        found = []
        for result in await self._instant(ALERTS):
            labels = result.metric
            hidden = {
                "__name__",
                "alertname",
                "alertstate",
                "severity",
                "job",
                "instance",
                "endpoint",
                "service",
            }
            about = ", ".join(f"{key} {value}" for key, value in sorted(labels.items()) if key not in hidden)
            found.append(Alert(labels.get("alertname", ""), labels.get("severity", ""), None, about))
        return tuple(sorted(found, key=lambda a: ({"critical": 0, "warning": 1}.get(a.severity, 2), a.name)))

    async def figures(self) -> dict[str, float]:
        """Single figures of the operator; those that Prometheus does not know are left out."""
        found = {}
        for name, query in FIGURES.items():
            value = next((_number(r) for r in await self._instant(query)), None)
            if value is not None:
                found[name] = value
        return found

    async def history(self, now: float, seconds: float = 86_400.0, step: float = 300.0) -> Series:
        """GPUs held, used and waited for over the last day."""
        end = now // step * step
        times = tuple(end - seconds + step * i for i in range(int(seconds / step) + 1))
        lines = {}
        for name, query in HISTORY.items():
            results = await self._range(query, times[0], end, step)
            if results:
                lines[name] = _aligned(results[0], times)
        return Series(times, lines)

    async def loads(
        self, now: float, seconds: float = 7200.0, step: float = 60.0
    ) -> dict[tuple[str, str], Series]:
        """Load of each scaled job over the last two hours, in GPU-equivalents."""
        end = now // step * step
        times = tuple(end - seconds + step * i for i in range(int(seconds / step) + 1))
        return {
            (r.metric.get("deepseekjob_namespace", ""), r.metric.get("deepseekjob", "")): Series(
                times, {"Load": _aligned(r, times)}
            )
            for r in await self._range(LOADS, times[0], end, step)
        }

    async def _instant(self, query: str) -> tuple[_Result, ...]:
        return await self._ask("query", {"query": query})

    async def _range(self, query: str, start: float, end: float, step: float) -> tuple[_Result, ...]:
        parameters = {"query": query, "start": f"{start}", "end": f"{end}", "step": f"{step}"}
        return await self._ask("query_range", parameters)

    async def _ask(self, path: str, parameters: Mapping[str, str]) -> tuple[_Result, ...]:
        try:
            response = await self._client.post(
                f"{self._url}/api/v1/{path}", data=dict(parameters), timeout=_TIMEOUT
            )
            answer = _Answer.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise PrometheusError(f"gives no usable answer ({type(error).__name__})") from error
        if answer.status != "success":
            raise PrometheusError(f"refuses a query: {answer.error}")
        return answer.data.result


def _number(result: _Result) -> float | None:
    value = float(result.value[1]) if result.value is not None else math.nan
    return value if math.isfinite(value) else None


def _aligned(result: _Result, times: Iterable[float]) -> tuple[float, ...]:
    """Values at these times; NaN where there is none."""
    known = {round(at): _float(text) for at, text in result.values}
    return tuple(known.get(round(at), math.nan) for at in times)


def _float(text: Any) -> float:
    value = float(text)
    return value if math.isfinite(value) else math.nan
