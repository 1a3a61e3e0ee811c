"""Who waits, how long, and why?"""

from __future__ import annotations

from deploy.boards.model import (
    Board,
    Look,
    Panel,
    Query,
    Row,
    Unit,
    lines,
    number,
    shares,
    signed,
    stack,
    table,
)

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
                number(
                    "Slips in a day",
                    "Times that a p90 moved later after it had been told.",
                    "sum(increase(drse_eta_slips_total[1d]))",
                ),
                number(
                    "Latest reservation",
                    "How much later than first expected GPUs will be free that are kept for a job.",
                    "max(drse_reservation_delay_seconds) or vector(0)",
                    Unit.SECONDS,
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
                    "Of jobs that are still waiting, and what the queue is meant to have (spec.waitTarget).",
                    Query("max by (queue) (drse_queue_oldest_wait_seconds)", "{{queue}}"),
                    Query("max by (queue) (drse_queue_wait_target_seconds)", "{{queue}}, target"),
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
        Row(
            "Can the starts that are told be trusted?",
            (
                signed(
                    "Real start after the p50 told first",
                    "Of jobs that started in the last six hours, by queue; negative is earlier. Half of them "
                    "lie on either side of 0 when it is right.",
                    Query("drse:eta_error_seconds:p50", "{{queue}}, p50"),
                    Query("drse:eta_error_seconds:p90", "{{queue}}, p90"),
                    unit=Unit.SECONDS,
                ),
                shares(
                    "Started by their p90, by queue",
                    "Of all jobs judged; nine in ten is right.",
                    Query("max by (queue) (drse_eta_coverage_ratio)", "{{queue}}"),
                ),
                lines(
                    "Slips",
                    "An hour: a p90 moved later after it had been told.",
                    Query("sum by (queue) (increase(drse_eta_slips_total[1h]))", "{{queue}}"),
                ),
                table(
                    "Reservations: when",
                    "Jobs that GPUs are kept for, and seconds until these are expected to be free.",
                    Query(
                        "max by (deepseekjob_namespace, deepseekjob, queue) "
                        "(drse_reservation_start_timestamp_seconds) - time()"
                    ),
                    Unit.SECONDS,
                ),
                signed(
                    "Reservations: how much later than first expected",
                    "Only holders that run longer than they were to make it later; backfilling never does.",
                    Query(
                        "max by (deepseekjob_namespace, deepseekjob) (drse_reservation_delay_seconds)",
                        "{{deepseekjob_namespace}}/{{deepseekjob}}",
                    ),
                    unit=Unit.SECONDS,
                    width=12,
                ),
            ),
        ),
    ),
)
