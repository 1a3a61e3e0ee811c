"""Alerts about services: slow answers, scaling that stands still, forecasts that cannot be trusted."""

from __future__ import annotations

from deploy.rules.model import JOB, OWNER, Alert, Severity

_BOARD = "drse-job"
_FORECAST = "drse-forecast"
_BY_JOB = "deepseekjob, deepseekjob_namespace"
#: Few forecasts prove nothing: so many that were served must have been judged in a day.
_JUDGED = f"max by ({_BY_JOB}) (increase(drse_forecast_scored_total[1d])) > 50"
_P95 = "drse:job_request_latency_seconds:p95"

SCALING = (
    Alert(
        "HighInferenceLatency",
        f"{_P95} > on ({_BY_JOB}) (max by ({_BY_JOB}) (drse:job_latency_objective_seconds) "
        f"or on ({_BY_JOB}) 0 * {_P95} + THRESHOLD)",
        "5m",
        Severity.WARNING,
        f"DeepSeekJob {JOB} answers slowly",
        "95 % of its requests take up to {{ $value | humanizeDuration }}. Look for a scale-up that waits: "
        "kubectl get dsj -n {{ $labels.deepseekjob_namespace }} {{ $labels.deepseekjob }} -o wide; then at "
        "the engine's own queue.",
        _BOARD,
        0.5,
        "seconds, unless objectives.latencySeconds says otherwise for the job",
        OWNER,
    ),
    Alert(
        "DRSEScalingFrozen",
        f"max by ({_BY_JOB}, reason) (drse_scaling_frozen) == 1",
        "15m",
        Severity.WARNING,
        f"DeepSeekJob {JOB} is not scaled: {{{{ $labels.reason }}}}",
        "Its replicas stay as they are whatever its load. The condition ScalingActive says why: see the "
        "forecaster's /readyz, Prometheus, and the GPU exporter.",
        _BOARD,
        labels=OWNER,
    ),
    Alert(
        "DRSEScaleUpDenied",
        f'max by ({_BY_JOB}) (drse_scaling_wanted_gpus{{mode="Auto"}}) '
        f"> on ({_BY_JOB}) max by ({_BY_JOB}) (drse_scaling_granted_gpus)",
        "10m",
        Severity.WARNING,
        f"DeepSeekJob {JOB} wants {{{{ $value }}}} GPUs and does not get them",
        "Its load asks for more than it holds. status.queue of the job says why it waits: the queue's "
        "limit, or GPUs that others hold.",
        _BOARD,
        labels=OWNER,
    ),
    Alert(
        "DRSECapacityRunway",
        f'sum(max by ({_BY_JOB}) (drse_forecast_load{{quantile="0.9", horizon="10m"}})) > '
        'sum(drse_scaling_granted_gpus) + sum(drse_gpu_state{state="Free"})',
        "10m",
        Severity.WARNING,
        "In ten minutes services are likely to need {{ $value }} GPUs, more than there are",
        "The P90 of their loads exceeds what they hold plus what is free. Add nodes, or lower the limit of a "
        "queue with batch work.",
        _FORECAST,
    ),
    Alert(
        "DRSEForecastStale",
        f"max by ({_BY_JOB}) (drse_forecast_age_seconds) > THRESHOLD",
        "5m",
        Severity.WARNING,
        f"The load of DeepSeekJob {JOB} is not measured any more",
        "Its newest sample is {{ $value | humanizeDuration }} old. See whether the GPU exporter and the "
        "engine are scraped, and drse_forecast_source_errors_total.",
        _FORECAST,
        300,
        "seconds, age of the newest sample",
        OWNER,
    ),
    Alert(
        "DRSEForecastUnskilled",
        f"max by ({_BY_JOB}) (drse_forecast_skill_ratio) > THRESHOLD and {_JUDGED}",
        "6h",
        Severity.INFO,
        f"The forecast of DeepSeekJob {JOB} is no better than its last value",
        "Its error is {{ $value }} times that of the last value. Scaling on it is not worth much; see "
        "whether its load has changed its habits, or set scaling.policy to Reactive.",
        _FORECAST,
        1,
        "error of the forecast / error of the last value",
        OWNER,
    ),
    Alert(
        "DRSEForecastUndercovered",
        f"max by ({_BY_JOB}) (drse:forecast_coverage:ratio1d) < THRESHOLD and {_JUDGED}",
        "6h",
        Severity.WARNING,
        f"The load of DeepSeekJob {JOB} exceeds its P90 too often",
        "Only {{ $value | humanizePercentage }} of its loads of the last day were within the P90 that was "
        "forecast; it is meant to be nine in ten. The service grows too late; lower scaleUpAt until it "
        "learns.",
        _FORECAST,
        0.8,
        "share of loads",
        OWNER,
    ),
)
