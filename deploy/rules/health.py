"""Alerts about DRSE itself: it decides nothing, or something that must never happen has."""

from __future__ import annotations

from deploy.rules.model import Alert, Severity

_BOARD = "drse-health"

HEALTH = (
    Alert(
        "DRSENoLeader",
        "absent(drse_leader == 1)",
        "3m",
        Severity.CRITICAL,
        "No DRSE operator leads",
        "Nothing is admitted, scaled or cleaned up; running jobs go on. See the operator's pods, the holder "
        "of its Lease, and whether it reaches the API server.",
        _BOARD,
    ),
    Alert(
        "DRSETwoLeaders",
        "sum(drse_leader) > 1",
        "1m",
        Severity.CRITICAL,
        "{{ $value }} DRSE operators lead",
        "Writes name the resourceVersion they were decided on, so no GPU is promised twice; but one of them "
        "believes in a Lease that it has lost. Delete the pod that the Lease does not name.",
        _BOARD,
    ),
    Alert(
        "DRSEDoubleAssignment",
        "max(drse_double_assignments) > 0",
        "0s",
        Severity.CRITICAL,
        "{{ $value }} GPUs are promised to two jobs",
        "This must never happen. The later job gives its replica back by itself; suspend it if it does not, "
        "and report the assignments: kubectl get dsj -A -o yaml.",
        _BOARD,
    ),
    Alert(
        "DRSEAssignmentMismatch",
        "sum(increase(drse_assignment_mismatches_total[10m])) > 0",
        "0s",
        Severity.WARNING,
        "A claim was allocated other GPUs than were promised",
        "The scheduler and DRSE disagree about a device. Compare the claim's allocation with the job's "
        "status.assignments; the condition DevicesHealthy of the job names both.",
        _BOARD,
    ),
    Alert(
        "DRSEPlanStale",
        "time() - max(drse_last_plan_timestamp_seconds) > THRESHOLD",
        "2m",
        Severity.CRITICAL,
        "The leader has made no plan for {{ $value | humanizeDuration }}",
        "A pass is made every 30 seconds at least. See the leader's log for passes that fail, and "
        "drse_api_errors_total for an API server that does not answer.",
        _BOARD,
        120,
        "seconds since the last pass",
    ),
)
