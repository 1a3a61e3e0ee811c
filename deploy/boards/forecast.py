"""Does forecasting pay?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, Variable, lines, number, shares, stack

_BY_JOB = "deepseekjob, deepseekjob_namespace"
_NAME = "{{deepseekjob_namespace}}/{{deepseekjob}}"
_JOB = '{deepseekjob_namespace="$namespace", deepseekjob="$job"}'
_AHEAD = '{deepseekjob_namespace="$namespace", deepseekjob="$job", horizon="10m", quantile='
_ERROR = "rate(drse_forecast_abs_error_sum_total[1h])"
_NAIVE = "rate(drse_forecast_last_value_abs_error_sum_total[1h])"
_LOAD = f"max by ({_BY_JOB}) (drse:job_load:gpus)"
_EACH = f"max by ({_BY_JOB}) (drse_job_gpus_per_replica)"
#: GPUs of an autoscaler that sees only the load: the highest of five minutes, five minutes ago.
_FOLLOWING = (
    f"ceil(max by ({_BY_JOB}) (max_over_time(drse:job_load:gpus[5m] offset 5m)) "
    f"/ on ({_BY_JOB}) (0.8 * {_EACH})) * on ({_BY_JOB}) {_EACH}"
)


def _minutes_short(gpus: str) -> str:
    """Minutes of the last hour in which the load of a scaled job exceeded so many GPUs, of all jobs."""
    scaled = f"(max by ({_BY_JOB}) (drse_scaling_granted_gpus))"
    short = f"({_LOAD} > bool on ({_BY_JOB}) max by ({_BY_JOB}) ({gpus})) and on ({_BY_JOB}) {scaled}"
    return f"60 * sum(avg_over_time(({short})[1h:1m]))"


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
                    "Of all scaled jobs. Growing in time keeps it at 0. Beside it, what would have been "
                    "with an HPA that follows the load: 80 % target, five minutes of stabilization, "
                    "replicas that take five minutes to start.",
                    Query(_minutes_short("drse_scaling_granted_gpus"), "DRSE"),
                    Query(_minutes_short(_FOLLOWING), "HPA"),
                ),
                lines(
                    "Lead time",
                    "How far ahead growth looks, by job: the horizon it states, or what its replicas take to "
                    "start if that is longer.",
                    Query(f"max by ({_BY_JOB}) (drse_scaling_lead_seconds)", _NAME),
                    unit=Unit.SECONDS,
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
