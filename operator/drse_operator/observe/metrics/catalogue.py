"""Every metric of the operator: its name, its kind, its labels and what it says. Nothing else is exported.

Collectors take their names from here and so does ``docs/reference/metrics.md``; a test holds them to it.
Counters are named without ``_total``, which the exposition adds. Labels that name a job are ``deepseekjob``
and ``deepseekjob_namespace``, because scrape relabelling writes ``namespace`` and ``pod`` itself.

What may grow with the cluster says how: series of one job are made for jobs that hold GPUs and for the
``SHOWN_WAITING`` first of each queue, never for all that wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: So many of those who wait in a queue have series of their own.
SHOWN_WAITING = 50

JOB = ("deepseekjob", "deepseekjob_namespace")


class Kind(StrEnum):
    """How a metric is to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """Who exports a metric."""

    INSTANCE = "every instance"
    LEADER = "the leader"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``buckets`` (upper bounds, ascending) for histograms only."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    scope: Scope = Scope.LEADER
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name as it stands in the exposition; histograms have _bucket, _sum and _count."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name


def _gauge(name: str, text: str, *labels: str, scope: Scope = Scope.LEADER) -> Family:
    return Family(name, Kind.GAUGE, text, labels, scope)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, Kind.COUNTER, text, labels, Scope.INSTANCE)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Family:
    return Family(name, Kind.HISTOGRAM, text, labels, Scope.INSTANCE, buckets)


_PASS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_WRITE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_WAIT_BUCKETS = (
    *(1.0, 5.0, 15.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY),
)

#: How much later than told, by how much earlier (negative) to how much later. A histogram keeps the sign and
#: gives any quantile over any window and all instances; quantiles made by the operator could not be added up.
_OFF = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, _DAY)
_OFF_BUCKETS = (*(-off for off in reversed(_OFF)), 0.0, *_OFF)

# -- the process -------------------------------------------------------------------------------------------

BUILD_INFO = _gauge("drse_build_info", "1, with the operator's version.", "version", scope=Scope.INSTANCE)
LEADER = _gauge("drse_leader", "1 on the instance that leads, 0 on the others.", scope=Scope.INSTANCE)
PLAN_SECONDS = _histogram(
    "drse_plan_duration_seconds", "Time of one pass: looking, judging, planning.", _PASS_BUCKETS
)
STATUS_WRITE_SECONDS = _histogram(
    "drse_status_write_duration_seconds",
    "Time until the API server has answered one write of a job's status.",
    _WRITE_BUCKETS,
)
PASS_FAILURES = _counter(
    "drse_pass_failures", "Passes that ended in an unexpected error, and jobs set aside."
)
API_ERRORS = _counter("drse_api_errors", "Requests to the API server that failed for good.", "reason")
LAST_PLAN = _gauge("drse_last_plan_timestamp_seconds", "When the last pass was made, as Unix time.")
WRITES_PENDING = _gauge(
    "drse_writes_pending_jobs",
    "Jobs whose status or objects are being written or wait to be.",
    scope=Scope.INSTANCE,
)
SNAPSHOT_AGE = _gauge("drse_snapshot_age_seconds", "Age of the picture that these numbers were made from.")

# -- decisions ---------------------------------------------------------------------------------------------

DECISIONS = _counter(
    "drse_decisions",
    "Decisions of the planner. Kind Assign has the reason Admit or Grow, Release its own, Wait the wait's.",
    "kind",
    "reason",
)
JOB_WAIT = _histogram(
    "drse_job_wait_seconds",
    "Time from entering the queue to the first GPUs, of each job.",
    _WAIT_BUCKETS,
    "queue",
)
PREEMPTIONS = _counter(
    "drse_preemptions",
    "Replicas that were taken away, by the queue that lost: for a HigherPriority in it, or a "
    "GuaranteeReclaimed by another.",
    "queue",
    "reason",
)
LOST_GPU_SECONDS = _counter(
    "drse_lost_gpu_seconds", "GPU-seconds that preempted replicas had run, by the queue that lost.", "queue"
)
GANG_TIMEOUTS = _counter("drse_gang_timeouts", "Replicas given back because a worker did not bind in time.")
WORKER_FAILURES = _counter("drse_worker_failures", "Attempts of training and batch work that failed.")
MISMATCHES = _counter(
    "drse_assignment_mismatches", "Claims that were allocated other devices than were promised; must stay 0."
)
PLAN_AUDITS = _counter(
    "drse_plan_audits", "Comparisons of the engine that is kept between passes with one made anew."
)
PLAN_DRIFTS = _counter(
    "drse_plan_drifts", "Comparisons that found other decisions, after which the new engine took over; 0."
)
SCALING_ACTIONS = _counter(
    "drse_scaling_actions", "Changes of a job's wanted number of replicas, by what drove them.", "driver"
)
DOUBLE_ASSIGNMENTS = _gauge("drse_double_assignments", "Devices that two live assignments name; must be 0.")

# -- GPUs --------------------------------------------------------------------------------------------------

GPU_ASSIGNED = _gauge(
    "drse_gpu_assigned", "1 for each GPU that a job holds; joins exporters to jobs.", "UUID", *JOB, "queue"
)
GPU_STARTING = _gauge(
    "drse_gpu_starting",
    "1 for each GPU of a worker that has not been ready yet: how busy it is, is no load.",
    "UUID",
    *JOB,
)
GPU_INFO = _gauge("drse_gpu_info", "1 for each GPU with a name.", "UUID", "node", "model")
GPU_UNHEALTHY = _gauge(
    "drse_gpu_unhealthy",
    "1 for each GPU that is tainted or whose node is not ready.",
    "UUID",
    "node",
    "model",
)
GPU_STATE = _gauge(
    "drse_gpu_state",
    "GPUs by state: Free, Held by jobs, Foreign (held by others), Closed (on a cordoned or tainted node), "
    "Unhealthy. They add up to all GPUs.",
    "model",
    "state",
)
LARGEST_FREE_BLOCK = _gauge("drse_largest_free_block_gpus", "Most free GPUs on one node.", "model")
FRAGMENTATION = _gauge(
    "drse_fragmentation_ratio", "Share of the free GPUs that are on nodes partly held.", "model"
)
UNEXPLAINED_IDLE = _gauge(
    "drse_unexplained_idle_gpus",
    "GPUs of the largest replica that waits although it fits and nothing explains it; must be 0.",
)
HELD_SECONDS = _counter(
    "drse_gpu_held_seconds",
    "GPU-seconds held, by queue, namespace, model of the GPU and task type; goes on with a new leader.",
    "queue",
    "deepseekjob_namespace",
    "model",
    "type",
)
USED_SECONDS = _counter(
    "drse_gpu_used_seconds",
    "Of the GPU-seconds held, those that the job's load used, as far as its load was known.",
    "queue",
    "deepseekjob_namespace",
    "model",
    "type",
)

# -- queues ------------------------------------------------------------------------------------------------

QUEUE_WEIGHT = _gauge("drse_queue_weight", "Weight of the queue.", "queue")
QUEUE_GUARANTEED = _gauge("drse_queue_guaranteed_gpus", "GPUs that the queue can take back.", "queue")
QUEUE_LIMIT = _gauge(
    "drse_queue_limit_gpus", "GPUs that the queue never exceeds; absent without limit.", "queue"
)
QUEUE_ASSIGNED = _gauge("drse_queue_assigned_gpus", "GPUs that the queue's jobs hold.", "queue")
QUEUE_REQUESTED = _gauge(
    "drse_queue_requested_gpus",
    "GPUs held and waited for, without jobs that can never start as they are.",
    "queue",
)
QUEUE_FAIR_SHARE = _gauge(
    "drse_queue_fair_share_gpus",
    "Weighted max-min share of the healthy GPUs among queues that ask, all kinds taken alike.",
    "queue",
)
QUEUE_JOBS = _gauge("drse_queue_jobs", "Jobs by phase.", "queue", "phase")
QUEUE_PENDING_JOBS = _gauge("drse_queue_pending_jobs", "Jobs that wait, by reason.", "queue", "reason")
QUEUE_PENDING_GPUS = _gauge(
    "drse_queue_pending_gpus", "GPUs that are waited for, by reason.", "queue", "reason"
)
QUEUE_OLDEST_WAIT = _gauge(
    "drse_queue_oldest_wait_seconds", "Longest wait among jobs that time alone can help.", "queue"
)
UNSCHEDULABLE_JOBS = _gauge(
    "drse_unschedulable_jobs",
    "Jobs that wait until somebody changes them, by namespace, queue and reason.",
    "deepseekjob_namespace",
    "queue",
    "reason",
)
QUEUE_WAIT_TARGET = _gauge(
    "drse_queue_wait_target_seconds",
    "Longest wait that the queue is meant to have (spec.waitTarget); absent without one.",
    "queue",
)
FLOW_SERVICE = _gauge(
    "drse_flow_service_seconds",
    "Service per weight that a flow has come to, in seconds of the whole cluster: its finish tag. While it "
    "has work waiting it grows by what it is given; one that was idle is lifted to where the others are.",
    "queue",
    "type",
)
FLOW_LAG = _gauge(
    "drse_flow_lag_seconds",
    "Service per weight by which a waiting flow is behind the waiting flow that has had most.",
    "queue",
    "type",
)
FAIRNESS_BOUND_USED = _gauge(
    "drse_fairness_bound_used_ratio",
    "Largest share of the fairness bound that the queue and any other have used; at most 1.",
    "queue",
)
ETA_COVERAGE = _gauge(
    "drse_eta_coverage_ratio", "Share of the queue's jobs that started by the p90 they were told.", "queue"
)
ETA_JUDGED = _gauge("drse_eta_judged_jobs", "Jobs that the coverage is made of.", "queue")
ETA_ERROR = _histogram(
    "drse_eta_error_seconds",
    "How much later jobs started than the p50 they were told first; negative when earlier.",
    _OFF_BUCKETS,
    "queue",
)
ETA_SLIPS = _counter(
    "drse_eta_slips",
    "Times that a p90 which a job had been told moved later by more than a minute and a tenth of the wait.",
    "queue",
)
RESERVATION_START = _gauge(
    "drse_reservation_start_timestamp_seconds",
    "When the GPUs that are kept for a job are expected to be free, as Unix time.",
    *JOB,
    "queue",
)
RESERVATION_DELAY = _gauge(
    "drse_reservation_delay_seconds",
    "How much later that is than this leader first expected it; negative when earlier.",
    *JOB,
    "queue",
)

# -- jobs --------------------------------------------------------------------------------------------------

JOB_PHASE = _gauge("drse_job_phase", "1 for the phase that a job is in.", *JOB, "queue", "phase")
JOB_GPUS = _gauge("drse_job_gpus", "GPUs that a job holds.", *JOB)
JOB_REPLICAS = _gauge("drse_job_replicas", "Replicas that hold GPUs.", *JOB)
JOB_READY = _gauge("drse_job_ready_replicas", "Replicas whose workers are all ready.", *JOB)
JOB_WANTED = _gauge("drse_job_wanted_replicas", "Replicas that the job should have now.", *JOB)
JOB_TARGET = _gauge("drse_job_target_concurrency", "Requests in flight that fill one replica.", *JOB)
JOB_PER_REPLICA = _gauge("drse_job_gpus_per_replica", "GPUs of one replica.", *JOB)
JOB_ETA = _gauge(
    "drse_job_eta_seconds", "Time until the job is expected to start.", *JOB, "queue", "quantile"
)
JOB_FAILURES = _gauge("drse_job_failures", "Attempts of a job that have failed so far.", *JOB)
JOB_PREEMPTIONS = _gauge("drse_job_preemptions", "How often GPUs were taken back from a job so far.", *JOB)
LOAD = _gauge("drse_load", "Load that the last scaling decision saw, in GPU-equivalents.", *JOB)
SCALING_CURRENT = _gauge("drse_scaling_current_gpus", "GPUs of the ready replicas of a scaled job.", *JOB)
SCALING_WANTED = _gauge(
    "drse_scaling_wanted_gpus",
    "GPUs that the scaling policy asks for; mode Recommend only says so.",
    *JOB,
    "mode",
)
SCALING_GRANTED = _gauge("drse_scaling_granted_gpus", "GPUs that a scaled job has been given.", *JOB)
SCALING_LEAD = _gauge(
    "drse_scaling_lead_seconds",
    "How far ahead growth looks: the horizon of the job, or what its replicas take to start if longer.",
    *JOB,
)
SCALING_FROZEN = _gauge("drse_scaling_frozen", "1 while a job's scaling is frozen.", *JOB, "reason")


def families() -> tuple[Family, ...]:
    """All of them, in the order of this page."""
    return tuple(value for value in globals().values() if isinstance(value, Family))
