"""Alerts about GPUs: held and idle, broken and in use, or not measured."""

from __future__ import annotations

from deploy.rules.model import JOB, OWNER, Alert, Severity

_BOARD = "drse-hours"
_TAINTED = "max by (UUID) (drse_gpu_unhealthy)"
_XID = 'max by (UUID) (DCGM_FI_DEV_XID_ERRORS{UUID!=""} > 0)'
_BY_JOB = "deepseekjob, deepseekjob_namespace"

USAGE = (
    Alert(
        "DRSEGPUHeldIdle",
        "avg_over_time(drse:job_gpus_used:sum[1h]) / avg_over_time(drse:job_gpus_measured:count[1h]) "
        "< THRESHOLD and drse:job_gpus_measured:count offset 1h",
        "1h",
        Severity.INFO,
        f"DeepSeekJob {JOB} holds GPUs and hardly uses them",
        "Its GPUs were {{ $value | humanizePercentage }} busy over the last hour while others may wait. See "
        "whether its process still works; shrink it, or set spec.suspend.",
        _BOARD,
        0.05,
        "mean utilisation, 0 to 1",
        OWNER,
    ),
    Alert(
        "DRSEGPUUnhealthyInUse",
        f"({_TAINTED} or on (UUID) {_XID}) * on (UUID) group_left ({_BY_JOB}, queue) "
        f"max by (UUID, {_BY_JOB}, queue) (drse_gpu_assigned)",
        "2m",
        Severity.CRITICAL,
        f"GPU {{{{ $labels.UUID }}}} is unhealthy and DeepSeekJob {JOB} runs on it",
        "The device is tainted, its node is not ready, or its driver has reported XID errors. Nothing new is "
        "placed on it; move what runs there: set spec.suspend, then resume.",
        "drse-cluster",
        labels=OWNER,
    ),
    Alert(
        "DRSEGPUMetricsMissing",
        f"count by ({_BY_JOB}) (drse_gpu_assigned unless on (UUID) drse:gpu_utilization:ratio) > 0",
        "15m",
        Severity.WARNING,
        f"{{{{ $value }}}} GPUs of DeepSeekJob {JOB} are not measured",
        "No exporter reports them by UUID, so their load, their use and scaling on them are unknown. See "
        "that the GPU exporter runs on their nodes and is scraped with its UUID label.",
        _BOARD,
        labels=OWNER,
    ),
)
