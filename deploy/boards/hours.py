"""Where do GPU-hours go?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, bars, lines, number, shares, stack, table

_JOB_NAME = "{{deepseekjob_namespace}}/{{deepseekjob}}"


def _held(by: str) -> str:
    return f"sum by ({by}) (increase(drse_gpu_held_seconds_total[$__range])) / 3600"


_USED = "sum(sum_over_time(drse:queue_gpus_used:sum[$__range:1m])) / 60"
_MEASURED = "sum(sum_over_time(drse:job_gpus_measured:count[$__range:1m])) / 60"
_IDLE_JOBS = "drse:job_gpus_measured:count - drse:job_gpus_used:sum"
_UNMEASURED = (
    "(drse_gpu_assigned unless on (UUID) drse:gpu_utilization:ratio) unless on (UUID) drse_gpu_starting"
)
_FREE_WHILE_WAITING = (
    'sum(drse_gpu_state{state="Free"}) * '
    "(sum(drse_queue_requested_gpus) > bool sum(drse_queue_assigned_gpus))"
)

HOURS = Board(
    "drse-hours",
    "Where do GPU-hours go?",
    "Held is charged, used is what exporters saw of it. Both over the range of the dashboard.",
    (
        Row(
            "In the range",
            (
                number(
                    "Held",
                    "GPU-hours.",
                    "sum(increase(drse_gpu_held_seconds_total[$__range])) / 3600",
                    Unit.HOURS,
                ),
                number("Used", "GPU-hours: utilisation summed over GPUs and time.", _USED, Unit.HOURS),
                number(
                    "Idle", "GPU-hours held and measured, but not used.", f"{_MEASURED} - {_USED}", Unit.HOURS
                ),
                number(
                    "Used share", "Of what was held and measured.", f"({_USED}) / ({_MEASURED})", Unit.SHARE
                ),
                number(
                    "Lost to preemption",
                    "GPU-hours that preempted replicas had run.",
                    "sum(increase(drse_lost_gpu_seconds_total[$__range])) / 3600",
                    Unit.HOURS,
                ),
            ),
        ),
        Row(
            "Held, by",
            (
                bars("Queue", "GPU-hours.", Query(_held("queue"), "{{queue}}"), Unit.HOURS, 6),
                bars(
                    "Namespace",
                    "GPU-hours; the ten largest.",
                    Query(f"topk(10, {_held('deepseekjob_namespace')})", "{{deepseekjob_namespace}}"),
                    Unit.HOURS,
                    6,
                ),
                bars("Model of GPU", "GPU-hours.", Query(_held("model"), "{{model}}"), Unit.HOURS, 6),
                bars("Task type", "GPU-hours.", Query(_held("type"), "{{type}}"), Unit.HOURS, 6),
            ),
        ),
        Row(
            "Used, and not",
            (
                stack(
                    "Busy GPUs by queue", "GPU-equivalents.", Query("drse:queue_gpus_used:sum", "{{queue}}")
                ),
                shares(
                    "Used share by queue",
                    "Of what it held and was measured.",
                    Query(
                        "sum by (queue) (drse:queue_gpus_used:sum) / sum by (queue) "
                        "(drse:job_gpus_measured:count)",
                        "{{queue}}",
                    ),
                    width=12,
                ),
                bars(
                    "Most idle GPUs, by job",
                    "GPUs held and not used, mean of the last hour; the ten largest.",
                    Query(f"topk(10, avg_over_time(({_IDLE_JOBS})[1h:1m]))", _JOB_NAME),
                    width=12,
                ),
                table(
                    "Idle over the last hour",
                    "Jobs whose GPUs were less than 5 % busy. Empty is good.",
                    Query(
                        "avg_over_time(drse:job_gpus_used:sum[1h]) / "
                        "avg_over_time(drse:job_gpus_measured:count[1h]) < 0.05"
                    ),
                    Unit.SHARE,
                ),
            ),
        ),
        Row(
            "Waste by reason",
            (
                stack(
                    "GPUs that did no work",
                    "Held and starting, held and not busy, held and not measured, lost to preemption (mean "
                    "of an hour), closed, unhealthy, and free although jobs wait.",
                    Query("sum(drse_gpu_starting) or vector(0)", "starting"),
                    Query(
                        "sum((1 - drse:gpu_used:ratio) unless on (UUID) drse_gpu_starting) or vector(0)",
                        "not busy",
                    ),
                    Query(f"count({_UNMEASURED}) or vector(0)", "not measured"),
                    Query("sum(rate(drse_lost_gpu_seconds_total[1h]))", "lost to preemption"),
                    Query('sum(drse_gpu_state{state="Closed"})', "closed"),
                    Query('sum(drse_gpu_state{state="Unhealthy"})', "unhealthy"),
                    Query(_FREE_WHILE_WAITING, "free while jobs wait"),
                    width=24,
                ),
            ),
        ),
        Row(
            "Trend",
            (
                lines(
                    "Held in a day, by queue",
                    "GPU-hours of the 24 hours before each moment.",
                    Query("sum by (queue) (increase(drse_gpu_held_seconds_total[1d])) / 3600", "{{queue}}"),
                    unit=Unit.HOURS,
                    width=12,
                ),
                shares(
                    "Used share over time",
                    "Mean of an hour.",
                    Query(
                        "sum(avg_over_time(drse:job_gpus_used:sum[1h])) / "
                        "sum(avg_over_time(drse:job_gpus_measured:count[1h]))",
                        "used",
                    ),
                    width=12,
                ),
            ),
        ),
    ),
    window="now-7d",
)
