"""Who waits, how long, and why?"""

from __future__ import annotations

from deploy.boards.model import Board, Look, Panel, Query, Row, Unit, lines, number, stack, table

WAITING = Board(
    "drse-waiting",
    "Who waits, how long, and why?",
    "The queues, the reasons in them, and how far the starts that were promised can be trusted.",
    (
        Row(
            "Now",
            (
                number("Waiting jobs", "Of all queues.", "sum(drse_queue_pending_jobs) or vector(0)"),
                number(
                    "Can never start",
                    "Jobs that wait until somebody changes them.",
                    "sum(drse_unschedulable_jobs) or vector(0)",
                    alarm=1,
                ),
                number("Oldest wait", "Of all queues.", "max(drse_queue_oldest_wait_seconds)", Unit.SECONDS),
                number(
                    "Reserved",
                    "Jobs whose GPUs are held for them.",
                    'sum(drse_queue_pending_jobs{reason="Reserved"}) or vector(0)',
                ),
                number(
                    "Idle without a reason",
                    "GPUs that a waiting job could use; must be 0.",
                    "max(drse_unexplained_idle_gpus)",
                    alarm=1,
                ),
                number(
                    "Started by their p90",
                    "Share of jobs; nine in ten is right.",
                    "sum(drse_eta_coverage_ratio * drse_eta_judged_jobs) / sum(drse_eta_judged_jobs)",
                    Unit.SHARE,
                ),
            ),
        ),
        Row(
            "Why",
            (
                stack(
                    "Waiting jobs by reason",
                    "The API reference says what each means and what clears it.",
                    Query("sum by (reason) (drse_queue_pending_jobs)", "{{reason}}"),
                ),
                stack(
                    "GPUs waited for by queue",
                    "Without what can never start.",
                    Query(
                        "max by (queue) (drse_queue_requested_gpus) - max by (queue) "
                        "(drse_queue_assigned_gpus)",
                        "{{queue}}",
                    ),
                ),
                table(
                    "Jobs that can never start",
                    "By namespace, queue and reason. Empty is good.",
                    Query("sum by (deepseekjob_namespace, queue, reason) (drse_unschedulable_jobs)"),
                ),
                stack(
                    "Decisions",
                    "A minute, by kind and reason.",
                    Query(
                        "sum by (kind, reason) (rate(drse_decisions_total[5m])) * 60", "{{kind}} {{reason}}"
                    ),
                ),
            ),
        ),
        Row(
            "How long",
            (
                lines(
                    "Wait until the first GPUs, p50",
                    "Of jobs that started in the last six hours.",
                    Query("drse:queue_wait_seconds:p50", "{{queue}}"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Wait until the first GPUs, p90",
                    "Of jobs that started in the last six hours.",
                    Query("drse:queue_wait_seconds:p90", "{{queue}}"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Oldest wait by queue",
                    "Of jobs that are still waiting.",
                    Query("max by (queue) (drse_queue_oldest_wait_seconds)", "{{queue}}"),
                    unit=Unit.SECONDS,
                ),
                Panel(
                    "Waits of jobs as they start",
                    "Jobs by how long they waited.",
                    (
                        Query(
                            "sum by (le) (increase(drse_job_wait_seconds_bucket[$__rate_interval]))", "{{le}}"
                        ),
                    ),
                    Unit.SECONDS,
                    Look.HEAT,
                    12,
                ),
                table(
                    "Next to start",
                    "The first of each queue, with the time until they start: as likely earlier as later.",
                    Query('sort(drse_job_eta_seconds{quantile="0.5"})'),
                    Unit.SECONDS,
                ),
            ),
        ),
    ),
)
