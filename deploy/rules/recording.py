"""Recording rules: who uses what, joined by UUID once and not in every panel.

Sums over time of ``drse:queue_gpus_used:sum`` are used GPU-hours, beside the held ones that the operator
counts.
"""

from __future__ import annotations

from deploy.rules.model import Recording
from drse_forecaster.queries import DEFAULT_UTILIZATION, build_load_query

_BY_JOB = "deepseekjob, deepseekjob_namespace"
# Two series of one GPU (a hand-over without a stale marker) would fail the join, so the newest wins.
_HOLDER = "(0 * topk by (UUID) (1, timestamp(drse_gpu_assigned)) + 1)"
_BUSY = " or ".join(one.expression() for one in DEFAULT_UTILIZATION)
_LATENCY = '{__name__=~"(vllm|sglang):e2e_request_latency_seconds_bucket", deepseekjob!=""}'
_FIRST_TOKEN = '{__name__=~"(vllm|sglang):time_to_first_token_seconds_bucket", deepseekjob!=""}'


def _quantile(q: float, buckets: str) -> str:
    return f"histogram_quantile({q}, sum by ({_BY_JOB}, le) (rate({buckets}[5m])))"


def _wait(q: float) -> str:
    return f"histogram_quantile({q}, sum by (queue, le) (rate(drse_job_wait_seconds_bucket[6h])))"


def _off(q: float) -> str:
    return f"histogram_quantile({q}, sum by (queue, le) (rate(drse_eta_error_seconds_bucket[6h])))"


RECORDINGS = (
    Recording("drse:gpu_utilization:ratio", _BUSY),
    Recording(
        "drse:gpu_used:ratio",
        f"drse:gpu_utilization:ratio * on (UUID) group_left ({_BY_JOB}, queue) {_HOLDER}",
    ),
    Recording("drse:job_gpus_used:sum", f"sum by ({_BY_JOB}, queue) (drse:gpu_used:ratio)"),
    Recording("drse:job_gpus_measured:count", f"count by ({_BY_JOB}, queue) (drse:gpu_used:ratio)"),
    Recording("drse:queue_gpus_used:sum", "sum by (queue) (drse:gpu_used:ratio)"),
    Recording("drse:namespace_gpus_used:sum", "sum by (deepseekjob_namespace) (drse:gpu_used:ratio)"),
    Recording("drse:job_load:gpus", build_load_query()),
    Recording("drse:job_request_latency_seconds:p95", _quantile(0.95, _LATENCY)),
    Recording("drse:job_first_token_seconds:p95", _quantile(0.95, _FIRST_TOKEN)),
    Recording("drse:queue_wait_seconds:p50", _wait(0.5)),
    Recording("drse:queue_wait_seconds:p90", _wait(0.9)),
    Recording("drse:eta_error_seconds:p50", _off(0.5)),
    Recording("drse:eta_error_seconds:p90", _off(0.9)),
    Recording(
        "drse:forecast_coverage:ratio1d",
        "increase(drse_forecast_covered_total[1d]) / (increase(drse_forecast_scored_total[1d]) > 0)",
    ),
)
