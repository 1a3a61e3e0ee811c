"""Is the cluster full?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, bars, lines, number, shares, stack, table

_STATES = "sum by (state) (drse_gpu_state)"


def _in(state: str) -> str:
    return f'sum(drse_gpu_state{{state="{state}"}})'


CLUSTER = Board(
    "drse-cluster",
    "Is the cluster full?",
    "Who holds the GPUs, which are free, and which are of no use.",
    (
        Row(
            "Now",
            (
                number("Free", "GPUs that nobody holds.", _in("Free")),
                number("Held by jobs", "GPUs that DeepSeekJobs hold.", _in("Held")),
                number("Held by others", "GPUs in pods and claims that DRSE did not make.", _in("Foreign")),
                number(
                    "Unhealthy",
                    "Tainted themselves, or on a node that is not ready.",
                    _in("Unhealthy"),
                    alarm=1,
                ),
                number(
                    "Held and idle",
                    "GPUs that were less than 5 % busy over the last hour.",
                    "count(avg_over_time(drse:gpu_used:ratio[1h]) < 0.05) or vector(0)",
                ),
                number(
                    "Waited for",
                    "GPUs that waiting jobs ask for beyond what they hold.",
                    "sum(drse_queue_requested_gpus) - sum(drse_queue_assigned_gpus)",
                ),
                number("Oldest wait", "Of all queues.", "max(drse_queue_oldest_wait_seconds)", Unit.SECONDS),
                number(
                    "Largest free block", "Most free GPUs on one node.", "max(drse_largest_free_block_gpus)"
                ),
            ),
        ),
        Row(
            "Over time",
            (
                stack("GPUs by state", "They add up to all GPUs.", Query(_STATES, "{{state}}")),
                lines(
                    "Supply and demand",
                    "GPUs asked for (held and waited for) against those in service.",
                    Query("sum(drse_queue_requested_gpus)", "asked for"),
                    Query('sum(drse_gpu_state{state=~"Free|Held"})', "in service for jobs"),
                    Query("sum(drse:queue_gpus_used:sum)", "busy"),
                    width=12,
                ),
            ),
        ),
        Row(
            "By model of GPU",
            (
                bars(
                    "Share held",
                    "Of the GPUs of each model.",
                    Query(
                        'sum by (model) (drse_gpu_state{state="Held"}) / sum by (model) (drse_gpu_state)',
                        "{{model}}",
                    ),
                    Unit.SHARE,
                ),
                lines(
                    "Free GPUs",
                    "A job needs them of one kind.",
                    Query('sum by (model) (drse_gpu_state{state="Free"})', "{{model}}"),
                ),
                shares(
                    "Fragmentation",
                    "Share of the free GPUs that are on nodes partly held.",
                    Query("max by (model) (drse_fragmentation_ratio)", "{{model}}"),
                ),
            ),
        ),
        Row(
            "Health",
            (
                table(
                    "Unhealthy GPUs",
                    "With node and model. Empty is good.",
                    Query("max by (UUID, node, model) (drse_gpu_unhealthy)"),
                    width=8,
                ),
                lines(
                    "XID errors",
                    "Code of the last one by GPU, from DCGM.",
                    Query("max by (UUID, Hostname) (DCGM_FI_DEV_XID_ERRORS) > 0", "{{Hostname}} {{UUID}}"),
                ),
                lines(
                    "Power",
                    "Of all GPUs of a model, from DCGM.",
                    Query("sum by (modelName) (DCGM_FI_DEV_POWER_USAGE)", "{{modelName}}"),
                    unit=Unit.WATTS,
                ),
            ),
        ),
    ),
)
