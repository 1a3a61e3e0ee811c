"""Does forecasting pay?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, Variable, lines, number, shares, stack

_BY_JOB = "deepseekjob, deepseekjob_namespace"
_NAME = "{{deepseekjob_namespace}}/{{deepseekjob}}"
_JOB = '{deepseekjob_namespace="$namespace", deepseekjob="$job"}'
_AHEAD = '{deepseekjob_namespace="$namespace", deepseekjob="$job", horizon="10m", quantile='
_ERROR = "rate(drse_forecast_abs_error_sum_total[1h])"
_NAIVE = "rate(drse_forecast_last_value_abs_error_sum_total[1h])"

FORECAST = Board(
    "drse-forecast",
    "Does forecasting pay?",
    "What was forecast against what came, and what scaling made of it.",
    (
        Row(
            "Now",
            (
                number("Jobs forecast", "A model speaks for them.", "sum(drse_forecast_active)"),
                number(
                    "Skill, median",
                    "Error / error of the last value, ten minutes ahead; below 1 is better.",
                    "quantile(0.5, drse_forecast_skill_ratio)",
                ),
                number(
                    "Within the P90",
                    "Share of loads of the last day; nine in ten is right.",
                    "avg(drse:forecast_coverage:ratio1d)",
                    Unit.SHARE,
                ),
                number(
                    "Oldest sample",
                    "That a forecast starts from.",
                    "max(drse_forecast_age_seconds)",
                    Unit.SECONDS,
                    alarm=300,
                ),
                number(
                    "Frozen jobs",
                    "Their replicas stay as they are.",
                    "count(drse_scaling_frozen) or vector(0)",
                ),
                number(
                    "Scaled in a day",
                    "Changes of the wanted number of replicas.",
                    "sum(increase(drse_scaling_actions_total[1d])) or vector(0)",
                ),
            ),
        ),
        Row(
            "One job",
            (
                lines(
                    "What was forecast ten minutes before, and what came",
                    "In GPU-equivalents.",
                    Query(f"max(drse_forecast_actual_load{_JOB})", "measured"),
                    Query(f'max(drse_forecast_load{_AHEAD}"0.5"}} offset 10m)', "P50 as forecast"),
                    Query(f'max(drse_forecast_load{_AHEAD}"0.9"}} offset 10m)', "P90 as forecast"),
                    Query(f"max(drse_job_gpus{_JOB})", "GPUs held"),
                    width=24,
                ),
            ),
        ),
        Row(
            "Can it be trusted?",
            (
                lines(
                    "Skill in the backtest",
                    "Error / error of the last value; below 1 is better.",
                    Query(f"max by ({_BY_JOB}) (drse_forecast_skill_ratio)", _NAME),
                ),
                lines(
                    "Skill as served",
                    "The same of the forecasts that were served in the last hour.",
                    Query(f"sum by ({_BY_JOB}) ({_ERROR}) / (sum by ({_BY_JOB}) ({_NAIVE}) > 0)", _NAME),
                ),
                shares(
                    "Within the P90 by job",
                    "As served over a day.",
                    Query(f"max by ({_BY_JOB}) (drse:forecast_coverage:ratio1d)", _NAME),
                ),
                lines(
                    "Relative error",
                    "Mean of |measured - P50| / measured over an hour.",
                    Query(
                        f"sum by ({_BY_JOB}) (rate(drse_forecast_relative_error_sum_total[1h])) / "
                        f"(sum by ({_BY_JOB}) (rate(drse_forecast_relative_scored_total[1h])) > 0)",
                        _NAME,
                    ),
                    unit=Unit.SHARE,
                ),
                lines(
                    "Age of the newest sample",
                    "Above five minutes the forecast is stale.",
                    Query(f"max by ({_BY_JOB}) (drse_forecast_age_seconds)", _NAME),
                    unit=Unit.SECONDS,
                ),
                stack(
                    "Jobs by state of their forecast",
                    "Only Ready ones are scaled on it.",
                    Query("sum by (state) (drse_forecast_series)", "{{state}}"),
                    width=8,
                ),
            ),
        ),
        Row(
            "What came of it",
            (
                lines(
                    "Minutes of the last hour with more load than GPUs",
                    "By job. Growing in time keeps it at 0.",
                    Query(
                        f"60 * avg_over_time((max by ({_BY_JOB}) (drse:job_load:gpus) > bool "
                        f"max by ({_BY_JOB}) (drse_job_gpus))[1h:1m])",
                        _NAME,
                    ),
                ),
                stack(
                    "Scaling actions",
                    "An hour, by what drove them.",
                    Query("sum by (driver) (increase(drse_scaling_actions_total[1h]))", "{{driver}}"),
                    width=8,
                ),
                lines(
                    "GPUs held beyond the load",
                    "By scaled job: what safety costs.",
                    Query(
                        f"max by ({_BY_JOB}) (drse_scaling_granted_gpus) - on ({_BY_JOB}) "
                        f"max by ({_BY_JOB}) (drse:job_load:gpus)",
                        _NAME,
                    ),
                ),
            ),
        ),
    ),
    (
        Variable("namespace", "Namespace", "drse_forecast_active", "deepseekjob_namespace"),
        Variable("job", "Job", "drse_forecast_active", "deepseekjob", '{deepseekjob_namespace="$namespace"}'),
    ),
    "now-24h",
)
