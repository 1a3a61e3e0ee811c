"""Is sharing fair?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, lines, number, shares, stack, table

_HELD, _FAIR = "max by (queue) (drse_queue_assigned_gpus)", "max by (queue) (drse_queue_fair_share_gpus)"
_GUARANTEED = "max by (queue) (drse_queue_guaranteed_gpus)"

SHARING = Board(
    "drse-sharing",
    "Is sharing fair?",
    "What each queue holds against what is fair, and what it costs to keep it so.",
    (
        Row(
            "Now",
            (
                number(
                    "Fairness bound used",
                    "Largest share of the proven bound that was ever used; at most 1.",
                    "max(drse_fairness_bound_used_ratio)",
                    Unit.SHARE,
                    alarm=0.9,
                ),
                number(
                    "Queues below their guarantee",
                    "Although they ask for it.",
                    f"count({_HELD} < {_GUARANTEED} and max by (queue) (drse_queue_requested_gpus) "
                    f">= {_GUARANTEED}) or vector(0)",
                    alarm=1,
                ),
                number(
                    "Preempted in an hour",
                    "Replicas that were taken away.",
                    "sum(increase(drse_preemptions_total[1h]))",
                ),
                number(
                    "Lost in a day",
                    "GPU-hours that preempted replicas had run.",
                    "sum(increase(drse_lost_gpu_seconds_total[1d])) / 3600",
                    Unit.HOURS,
                ),
            ),
        ),
        Row(
            "Shares",
            (
                stack("Held by queue", "GPUs.", Query(_HELD, "{{queue}}")),
                lines(
                    "Held / fair share",
                    "1 is fair. Above: more than its weight gives it among those who ask now.",
                    Query(f"{_HELD} / on (queue) ({_FAIR} > 0)", "{{queue}}"),
                    width=12,
                ),
                lines(
                    "Borrowed",
                    "GPUs held beyond the guarantee.",
                    Query(f"clamp_min({_HELD} - on (queue) {_GUARANTEED}, 0)", "{{queue}}"),
                    width=6,
                ),
                lines(
                    "Lent",
                    "GPUs of the guarantee that others may use meanwhile.",
                    Query(f"clamp_min({_GUARANTEED} - on (queue) {_HELD}, 0)", "{{queue}}"),
                    width=6,
                ),
                lines(
                    "Fair share", "GPUs, by weight among those who ask.", Query(_FAIR, "{{queue}}"), width=6
                ),
                lines(
                    "Asked for",
                    "GPUs held and waited for.",
                    Query("max by (queue) (drse_queue_requested_gpus)", "{{queue}}"),
                    width=6,
                ),
            ),
        ),
        Row(
            "Proof",
            (
                shares(
                    "Fairness bound used over time",
                    "It may only rise, and never above 1.",
                    Query("max by (queue) (drse_fairness_bound_used_ratio)", "{{queue}}"),
                    width=12,
                ),
                lines(
                    "Lag of waiting flows",
                    "Service per weight behind the flow that has had most, in seconds of the whole cluster. "
                    "The panel beside it says how much of what is allowed that is.",
                    Query("max by (queue, type) (drse_flow_lag_seconds)", "{{queue}} {{type}}"),
                    unit=Unit.SECONDS,
                    width=12,
                ),
                lines(
                    "Service by flow",
                    "Per weight, in seconds of the whole cluster. Flows that wait rise together; one that "
                    "was idle comes in where the others are.",
                    Query("max by (queue, type) (drse_flow_service_seconds)", "{{queue}} {{type}}"),
                    unit=Unit.SECONDS,
                ),
                lines(
                    "Preemptions",
                    "Replicas taken away an hour, by the queue that lost them.",
                    Query("sum by (queue) (increase(drse_preemptions_total[1h]))", "{{queue}}"),
                ),
                stack(
                    "Preemptions by reason",
                    "Replicas taken away an hour: for a higher priority, or by another queue's guarantee.",
                    Query("sum by (reason) (increase(drse_preemptions_total[1h]))", "{{reason}}"),
                    width=8,
                ),
            ),
        ),
        Row(
            "Settings",
            (
                table("Weights", "Of the queues.", Query("max by (queue) (drse_queue_weight)"), width=8),
                table("Guarantees", "GPUs that a queue can take back.", Query(_GUARANTEED), width=8),
                table(
                    "Limits",
                    "GPUs that a queue never exceeds.",
                    Query("max by (queue) (drse_queue_limit_gpus)"),
                    width=8,
                ),
            ),
        ),
    ),
)
