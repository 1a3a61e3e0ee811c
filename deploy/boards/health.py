"""Is DRSE itself well?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, lines, number, stack, table


def _quantile(q: float, histogram: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[$__rate_interval])))"


HEALTH = Board(
    "drse-health",
    "Is DRSE itself well?",
    "Leadership, passes, the API server, the forecaster.",
    (
        Row(
            "Now",
            (
                number("Leaders", "Exactly one.", "sum(drse_leader)"),
                number("Operators", "Instances that answer.", "count(drse_build_info)"),
                number(
                    "Since the last pass",
                    "One is made every 30 s at least.",
                    "time() - max(drse_last_plan_timestamp_seconds)",
                    Unit.SECONDS,
                    alarm=120,
                ),
                number("Promised twice", "GPUs; must be 0.", "max(drse_double_assignments)", alarm=1),
                number(
                    "Allocated otherwise",
                    "Claims that got other GPUs than promised, ever; must be 0.",
                    "sum(drse_assignment_mismatches_total)",
                    alarm=1,
                ),
                number("Failed passes", "Ever.", "sum(drse_pass_failures_total)", alarm=1),
                number(
                    "Since the last forecast",
                    "Round over all jobs.",
                    "time() - max(drse_forecast_last_round_timestamp_seconds)",
                    Unit.SECONDS,
                    alarm=300,
                ),
                number(
                    "Firing alerts",
                    "Of DRSE.",
                    'count(ALERTS{alertname=~"DRSE.*", alertstate="firing"}) or vector(0)',
                ),
            ),
        ),
        Row(
            "Operator",
            (
                lines(
                    "Time of a pass",
                    "Looking, judging, planning.",
                    Query(_quantile(0.5, "drse_plan_duration_seconds"), "p50"),
                    Query(_quantile(0.99, "drse_plan_duration_seconds"), "p99"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Age of the picture",
                    "When it was scraped.",
                    Query("max(drse_snapshot_age_seconds)", "age"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Time of a status write",
                    "Until the API server has answered.",
                    Query(_quantile(0.5, "drse_status_write_duration_seconds"), "p50"),
                    Query(_quantile(0.95, "drse_status_write_duration_seconds"), "p95"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Writes that wait",
                    "Jobs whose status or objects are being written, or wait to be.",
                    Query("sum(drse_writes_pending_jobs)", "jobs"),
                ),
                stack(
                    "Failed requests to the API server",
                    "A minute, by reason. Empty is good.",
                    Query("sum by (reason) (rate(drse_api_errors_total[5m])) * 60", "{{reason}}"),
                    width=8,
                ),
                lines(
                    "Gangs and workers that failed",
                    "In an hour.",
                    Query("sum(increase(drse_gang_timeouts_total[1h]))", "did not bind in time"),
                    Query("sum(increase(drse_worker_failures_total[1h]))", "worker failed"),
                ),
                lines(
                    "Leadership",
                    "1 for the leader.",
                    Query("max by (instance) (drse_leader)", "{{instance}}"),
                ),
                lines(
                    "Memory",
                    "Of each operator.",
                    Query(
                        "max by (instance) (process_resident_memory_bytes and on (instance) drse_build_info)",
                        "{{instance}}",
                    ),
                    unit=Unit.BYTES,
                    width=12,
                ),
                lines(
                    "Cores in use",
                    "Of each operator.",
                    Query(
                        "max by (instance) (rate(process_cpu_seconds_total[$__rate_interval]) "
                        "and on (instance) drse_build_info)",
                        "{{instance}}",
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Forecaster",
            (
                lines(
                    "Time of a round",
                    "Over all jobs.",
                    Query(_quantile(0.5, "drse_forecast_round_seconds"), "p50"),
                    Query(_quantile(0.95, "drse_forecast_round_seconds"), "p95"),
                    unit=Unit.SECONDS,
                ),
                stack(
                    "Failed reads of Prometheus",
                    "A minute, by what has to be mended.",
                    Query("sum by (reason) (rate(drse_forecast_source_errors_total[5m])) * 60", "{{reason}}"),
                    width=8,
                ),
                lines(
                    "Time of the fits",
                    "By model.",
                    Query(
                        "sum by (model) (rate(drse_forecast_fit_seconds_sum[1h])) / "
                        "(sum by (model) (rate(drse_forecast_fit_seconds_count[1h])) > 0)",
                        "{{model}}",
                    ),
                    unit=Unit.SECONDS,
                ),
            ),
        ),
        Row(
            "Alerts",
            (
                table(
                    "What fires or is about to",
                    "Alerts of DRSE. Empty is good.",
                    Query('ALERTS{alertname=~"DRSE.*|HighInferenceLatency"}'),
                    width=24,
                ),
            ),
        ),
    ),
)
