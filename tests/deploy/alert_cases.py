"""For each alert: series under which it fires, and series under which it must not.

Series are in promtool's notation, one value every ``step`` minutes from minute 0 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHAT = 'deepseekjob="chat", deepseekjob_namespace="serving"'
JOB = {"deepseekjob": "chat", "deepseekjob_namespace": "serving"}
Q = {"queue": "q"}
OWNED = {**JOB, "namespace": "serving"}
TEAM = {"deepseekjob_namespace": "team", "namespace": "team", "queue": "q"}
VLLM, SGLANG = "vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds"
DAY = 1440
#: Minutes between samples of cases that last for hours; below the five that Prometheus looks back.
LONG = 4


@dataclass(frozen=True, slots=True)
class Case:
    """Whether the alert fires at ``minute``, and with which labels besides severity."""

    alert: str
    why: str
    series: Mapping[str, str]
    minute: int
    fires: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    step: int = 1


NONE: Mapping[str, str] = {}


def fires(
    alert: str, why: str, minute: int, series: Mapping[str, str], labels: Mapping[str, str] = {}
) -> Case:
    return Case(alert, why, series, minute, True, labels)


def silent(alert: str, why: str, minute: int, series: Mapping[str, str]) -> Case:
    return Case(alert, why, series, minute, False)


def slow(
    alert: str, why: str, minute: int, series: Mapping[str, str], labels: Mapping[str, str] = NONE
) -> Case:
    """A case of hours, in long steps; it fires if labels are given."""
    return Case(alert, why, series, minute, bool(labels), labels, step=LONG)


def latency(metric: str, slow_share: int, job: str = CHAT) -> dict[str, str]:
    """Ten requests a second, of which so many in a hundred take between 0.5 and 1 second."""
    bucket = f"{metric}_bucket{{{job}, pod="
    fast = 6 * (100 - slow_share)
    return {
        f'{bucket}"chat-0-0", le="0.3"}}': f"0+{fast}x60",
        f'{bucket}"chat-0-0", le="0.5"}}': f"0+{fast}x60",
        f'{bucket}"chat-0-0", le="1.0"}}': "0+600x60",
        f'{bucket}"chat-0-0", le="+Inf"}}': "0+600x60",
    }


def queue(held: int, guaranteed: int, asked: int) -> dict[str, str]:
    names = {"assigned": held, "guaranteed": guaranteed, "requested": asked}
    return {f'drse_queue_{name}_gpus{{queue="q"}}': f"{value}x60" for name, value in names.items()}


def busy(percent: int, minutes: int = 200, job: str = CHAT) -> dict[str, str]:
    """One GPU of the job, and how busy its exporter says it is."""
    return {
        'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1", Hostname="n1"}': f"{percent}x{minutes}",
        f'drse_gpu_assigned{{UUID="GPU-1", {job}, queue="q"}}': f"1x{minutes}",
    }


def covered(share: float, minutes: int) -> dict[str, str]:
    """One forecast a minute is judged, and this share of them held; in long steps."""
    steps = minutes // LONG
    return {
        f"drse_forecast_scored_total{{{CHAT}}}": f"0+{LONG}x{steps}",
        f"drse_forecast_covered_total{{{CHAT}}}": f"0+{LONG * share}x{steps}",
    }


def growth(wanted: int, granted: int, mode: str = "Auto") -> dict[str, str]:
    return {
        f'drse_scaling_wanted_gpus{{{CHAT}, mode="{mode}"}}': f"{wanted}x60",
        f"drse_scaling_granted_gpus{{{CHAT}}}": f"{granted}x60",
    }


def runway(p90: float, granted: int, free: int) -> dict[str, str]:
    return {
        f'drse_forecast_load{{{CHAT}, quantile="0.9", horizon="10m"}}': f"{p90}x60",
        f"drse_scaling_granted_gpus{{{CHAT}}}": f"{granted}x60",
        'drse_gpu_state{state="Free", model="H100"}': f"{free}x60",
    }


def preempted(calm: int, storm: int) -> dict[str, str]:
    """Seven days with so many a day, then two hours with so many an hour, in steps of ten minutes."""
    a_step, a_stormy_step, steps = calm / DAY * 10, storm / 6, 7 * DAY // 10
    return {
        'drse_preemptions_total{queue="q"}': f"0+{a_step}x{steps} {calm * 7}+{a_stormy_step}x12",
        'drse_lost_gpu_seconds_total{queue="q"}': f"0x{steps + 12}",
        'drse_queue_assigned_gpus{queue="q"}': f"8x{steps + 12}",
    }


LEADERS = 'drse_leader{instance="a"}', 'drse_leader{instance="b"}'
FROZEN = f'drse_scaling_frozen{{{CHAT}, reason="LoadStale", instance="a"}}'
AGE = f'drse_forecast_age_seconds{{{CHAT}, instance="a"}}'
STUCK = 'drse_unschedulable_jobs{deepseekjob_namespace="team", queue="q", reason="TooLargeForCluster"}'
COVERAGE, JUDGED = 'drse_eta_coverage_ratio{queue="q"}', 'drse_eta_judged_jobs{queue="q"}'
OLDEST = 'drse_queue_oldest_wait_seconds{queue="q"}'
TARGET, OTHERS = (f'drse_queue_wait_target_seconds{{queue="{name}"}}' for name in "qr")
SKILL = f"drse_forecast_skill_ratio{{{CHAT}}}"
UNHEALTHY = 'drse_gpu_unhealthy{UUID="GPU-1", node="n1", model="H100"}'
XID = 'DCGM_FI_DEV_XID_ERRORS{UUID="GPU-1", Hostname="n1"}'
BOUND = 'drse_fairness_bound_used_ratio{queue="q"}'

HEALTH = (
    fires("DRSENoLeader", "two followers", 10, {LEADERS[0]: "0x20", LEADERS[1]: "0x20"}),
    fires("DRSENoLeader", "nothing is scraped", 10, {"up": "1x20"}),
    silent("DRSENoLeader", "one leads", 10, {LEADERS[0]: "0x20", LEADERS[1]: "1x20"}),
    silent("DRSENoLeader", "a gap of two minutes", 7, {LEADERS[0]: "1x5 0x1 1x20"}),
    fires("DRSETwoLeaders", "both say so", 5, {LEADERS[0]: "1x20", LEADERS[1]: "1x20"}),
    silent("DRSETwoLeaders", "a hand-over", 9, {LEADERS[0]: "1x5 0x20", LEADERS[1]: "0x5 1x20"}),
    fires("DRSEDoubleAssignment", "one device", 8, {'drse_double_assignments{instance="a"}': "0x5 1x5"}),
    silent("DRSEDoubleAssignment", "none", 8, {'drse_double_assignments{instance="a"}': "0x20"}),
    fires("DRSEAssignmentMismatch", "one claim", 8, {"drse_assignment_mismatches_total": "0x5 1x20"}),
    silent("DRSEAssignmentMismatch", "long ago", 19, {"drse_assignment_mismatches_total": "0x5 1x20"}),
    fires("DRSEPlanStale", "ten minutes without a pass", 10, {"drse_last_plan_timestamp_seconds": "60x20"}),
    silent("DRSEPlanStale", "a pass a minute", 10, {"drse_last_plan_timestamp_seconds": "0+60x20"}),
)
SHARING = (
    fires("DRSEJobWaitsTooLong", "six hours", 20, {OLDEST: "21600x60"}, {"queue": "q"}),
    silent("DRSEJobWaitsTooLong", "three hours", 20, {OLDEST: "10800x60"}),
    fires("DRSEJobWaitsTooLong", "over its target", 20, {OLDEST: "2400x60", TARGET: "1800x60"}, Q),
    silent("DRSEJobWaitsTooLong", "six hours of eight", 20, {OLDEST: "21600x60", TARGET: "28800x60"}),
    silent("DRSEJobWaitsTooLong", "another's target", 20, {OLDEST: "2400x60", OTHERS: "60x60"}),
    fires("DRSEIdleWhileWaiting", "for a while", 15, {"drse_unexplained_idle_gpus": "4x60"}),
    silent("DRSEIdleWhileWaiting", "for a moment", 15, {"drse_unexplained_idle_gpus": "4x3 0x60"}),
    fires("DRSENeverSchedulable", "too large", 20, {STUCK: "1x60"}, {**TEAM, "reason": "TooLargeForCluster"}),
    silent("DRSENeverSchedulable", "changed at once", 20, {STUCK: "1x5 stale"}),
    fires("DRSEQueueStarved", "holds less, asks for more", 45, queue(2, 8, 10), {"queue": "q"}),
    silent("DRSEQueueStarved", "asks for less than its guarantee", 45, queue(2, 8, 6)),
    silent("DRSEQueueStarved", "has it", 45, queue(8, 8, 20)),
    fires("DRSEFairnessBoundNear", "95 %", 15, {BOUND: "0.95x60"}),
    silent("DRSEFairnessBoundNear", "half", 15, {BOUND: "0.5x60"}),
    fires("DRSEFairnessBoundBroken", "more than all of it", 5, {BOUND: "1.2x60"}),
    silent("DRSEFairnessBoundBroken", "all of it", 5, {BOUND: "1x60"}),
    Case(
        "DRSEPreemptionStorm", "ten an hour after one a day", preempted(1, 10), 7 * DAY + 110, True, step=10
    ),
    fires(
        "DRSEPreemptionStorm",
        "a GPU in eight works for nothing",
        150,
        {
            'drse_lost_gpu_seconds_total{queue="q"}': "0+60x200",
            'drse_queue_assigned_gpus{queue="q"}': "8x200",
        },
    ),
    Case("DRSEPreemptionStorm", "as always", preempted(48, 2), 7 * DAY + 110, False, step=10),
    fires("DRSEETAUncalibrated", "half of them", 120, {COVERAGE: "0.5x200", JUDGED: "80x200"}, Q),
    fires("DRSEETAUncalibrated", "all of them", 120, {COVERAGE: "1x200", JUDGED: "80x200"}, Q),
    silent("DRSEETAUncalibrated", "nine in ten", 120, {COVERAGE: "0.9x200", JUDGED: "80x200"}),
    silent("DRSEETAUncalibrated", "too few to judge", 120, {COVERAGE: "0.5x200", JUDGED: "8x200"}),
)
USAGE = (
    fires("DRSEGPUHeldIdle", "one percent", 150, busy(1), {**OWNED, "queue": "q"}),
    silent("DRSEGPUHeldIdle", "half busy", 150, busy(50)),
    silent("DRSEGPUHeldIdle", "just started", 150, {k: f"_x130 {v[0]}x60" for k, v in busy(1).items()}),
    fires(
        "DRSEGPUUnhealthyInUse",
        "tainted",
        10,
        {**busy(90), UNHEALTHY: "1x60"},
        {**OWNED, "UUID": "GPU-1", "queue": "q"},
    ),
    fires(
        "DRSEGPUUnhealthyInUse",
        "XID",
        10,
        {**busy(9), XID: "79x60"},
        {**OWNED, "UUID": "GPU-1", "queue": "q"},
    ),
    silent("DRSEGPUUnhealthyInUse", "nobody holds it", 10, {UNHEALTHY: "1x60"}),
    silent("DRSEGPUUnhealthyInUse", "no XID", 10, {**busy(90), XID: "0x60"}),
    fires(
        "DRSEGPUMetricsMissing",
        "no exporter",
        30,
        {f'drse_gpu_assigned{{UUID="GPU-1", {CHAT}, queue="q"}}': "1x60"},
        OWNED,
    ),
    silent("DRSEGPUMetricsMissing", "measured", 30, busy(0)),
)
SCALING = (
    fires("HighInferenceLatency", "10 % over half a second", 20, latency(VLLM, 10), OWNED),
    fires("HighInferenceLatency", "SGLang too", 20, latency(SGLANG, 10), OWNED),
    silent("HighInferenceLatency", "not yet for five minutes", 4, latency(VLLM, 10)),
    silent("HighInferenceLatency", "2 % over half a second", 20, latency(VLLM, 2)),
    silent("HighInferenceLatency", "an engine of somebody else", 20, latency(VLLM, 50, 'job="other"')),
    fires("DRSEScalingFrozen", "for twenty minutes", 20, {FROZEN: "1x30"}, {**OWNED, "reason": "LoadStale"}),
    silent("DRSEScalingFrozen", "for ten minutes", 20, {FROZEN: "1x10 stale"}),
    fires("DRSEScaleUpDenied", "eight wanted, four given", 20, growth(8, 4), OWNED),
    silent("DRSEScaleUpDenied", "given", 20, growth(8, 8)),
    silent("DRSEScaleUpDenied", "only advice", 20, growth(8, 4, "Recommend")),
    fires("DRSECapacityRunway", "nine needed, eight there", 20, runway(9, 4, 4)),
    silent("DRSECapacityRunway", "seven needed", 20, runway(7, 4, 4)),
    fires("DRSEForecastStale", "ten minutes old", 20, {AGE: "0+60x40"}, OWNED),
    silent("DRSEForecastStale", "fresh", 20, {AGE: "15 45 15 45 15x30"}),
    silent("DRSEForecastStale", "late for a moment only", 20, {AGE: "15x10 400x3 15x20"}),
    slow(
        "DRSEForecastUnskilled",
        "worse than the last value",
        600,
        {SKILL: "1.4x180", **covered(0.9, 700)},
        OWNED,
    ),
    slow("DRSEForecastUnskilled", "better", 600, {SKILL: "0.7x180", **covered(0.9, 700)}),
    slow("DRSEForecastUnskilled", "a new job", 44, {SKILL: "1.4x120", **covered(0.9, 60)}),
    slow("DRSEForecastUndercovered", "seven in ten", 600, covered(0.7, 700), OWNED),
    slow("DRSEForecastUndercovered", "nine in ten", 600, covered(0.9, 700)),
    slow("DRSEForecastUndercovered", "a new job", 44, covered(0.5, 60)),
)
CASES = (*HEALTH, *SHARING, *USAGE, *SCALING)
