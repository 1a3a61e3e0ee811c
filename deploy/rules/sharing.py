"""Alerts about waiting and fairness, for those who run the queues."""

from __future__ import annotations

from deploy.rules.model import OWNER, Alert, Severity

_BOARD = "drse-sharing"
_WAITING = "drse-waiting"
_OLDEST = "max by (queue) (drse_queue_oldest_wait_seconds)"
_PREEMPTED = "sum(rate(drse_preemptions_total[1h])) > 3 * sum(rate(drse_preemptions_total[7d]))"

SHARING = (
    Alert(
        "DRSEJobWaitsTooLong",
        f"{_OLDEST} > on (queue) (max by (queue) (drse_queue_wait_target_seconds) "
        f"or on (queue) 0 * {_OLDEST} + THRESHOLD)",
        "10m",
        Severity.WARNING,
        "A job in queue {{ $labels.queue }} has waited for {{ $value | humanizeDuration }}",
        "Somebody asks for GPUs and does not get them in the time this queue is meant to give them. See why "
        "the oldest waits: kubectl get dsj -A -o wide, column WAIT.",
        _WAITING,
        14400,
        "seconds, unless spec.waitTarget of the queue says otherwise",
    ),
    Alert(
        "DRSEIdleWhileWaiting",
        "max(drse_unexplained_idle_gpus) > 0",
        "10m",
        Severity.WARNING,
        "{{ $value }} GPUs are free that a waiting job could use",
        "No reservation, limit or cap explains it. DRSE is work-conserving, so this should be impossible: "
        "keep the state of jobs, queues and nodes, and report it.",
        _WAITING,
    ),
    Alert(
        "DRSENeverSchedulable",
        "sum by (deepseekjob_namespace, queue, reason) (drse_unschedulable_jobs) > 0",
        "15m",
        Severity.INFO,
        "{{ $value }} jobs in namespace {{ $labels.deepseekjob_namespace }} can never start: "
        "{{ $labels.reason }}",
        "No waiting helps: the job or its queue has to change. kubectl get dsj -o wide in the namespace "
        "says for each what to change.",
        _WAITING,
        labels=OWNER,
    ),
    Alert(
        "DRSEQueueStarved",
        "max by (queue) (drse_queue_assigned_gpus) < max by (queue) (drse_queue_guaranteed_gpus) and "
        "max by (queue) (drse_queue_requested_gpus) >= max by (queue) (drse_queue_guaranteed_gpus)",
        "30m",
        Severity.WARNING,
        "Queue {{ $labels.queue }} holds {{ $value }} GPUs, less than its guarantee, and asks for more",
        "Others hold what it is promised. See who borrows, and whether they may be preempted (preemption and "
        "minRuntime of the queues).",
        _BOARD,
    ),
    Alert(
        "DRSEFairnessBoundNear",
        "max(drse_fairness_bound_used_ratio) > THRESHOLD",
        "10m",
        Severity.WARNING,
        "{{ $value | humanizePercentage }} of the fairness bound is used",
        "Two queues that both wait have been given service as unequal as the bound nearly allows. Large jobs "
        "and a large lead cap make it so; it is no fault by itself.",
        _BOARD,
        0.9,
        "share of the bound",
    ),
    Alert(
        "DRSEFairnessBoundBroken",
        "max(drse_fairness_bound_used_ratio) > 1",
        "1m",
        Severity.CRITICAL,
        "The fairness bound is exceeded: {{ $value | humanizePercentage }} of it",
        "What is proven has not held. Keep the state of jobs and queues, and report it.",
        _BOARD,
    ),
    Alert(
        "DRSEPreemptionStorm",
        f"({_PREEMPTED} and sum(increase(drse_preemptions_total[1h])) >= 5) or "
        "sum(rate(drse_lost_gpu_seconds_total[1h])) > THRESHOLD * sum(drse_queue_assigned_gpus)",
        "30m",
        Severity.WARNING,
        "Preemption takes much more than usual",
        "In the last hour jobs were preempted more than three times as often as in the last week, or more "
        "than the threshold's share of the held GPUs' time was lost to it. See the priorities in use, and "
        "minRuntime.",
        _BOARD,
        0.05,
        "share of the held GPU time that may be lost",
    ),
    Alert(
        "DRSEETAUncalibrated",
        "(avg_over_time(drse_eta_coverage_ratio[1d]) < THRESHOLD or "
        "avg_over_time(drse_eta_coverage_ratio[1d]) > 0.97) and drse_eta_judged_jobs >= 50",
        "1h",
        Severity.INFO,
        "{{ $value | humanizePercentage }} of the jobs in queue {{ $labels.queue }} start by the p90 they "
        "are told",
        "It should be nine in ten. Jobs that state wrong durations make starts come late; compare "
        "estimatedDuration with how long they ran.",
        _WAITING,
        0.8,
        "share of jobs",
    ),
)
