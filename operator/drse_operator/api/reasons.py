"""Typed reasons. Each answers "why not?", is stable and alertable, and says who must act.

A reason carries its meaning and what clears it, which the API reference prints. Sentences with numbers go
into the message beside the reason, never into the reason.
"""

from __future__ import annotations

from drse_operator.api.words import Word


class WaitReason(Word):
    """Why a job, or a further replica of it, does not hold the GPUs it asks for."""

    # -- the user must act -------------------------------------------------------------------------
    QUEUE_NOT_FOUND = (
        "QueueNotFound",
        "spec.queue names no GPUQueue. Cleared by creating the queue or changing spec.queue.",
    )
    NAMESPACE_NOT_ALLOWED = (
        "NamespaceNotAllowed",
        "The GPUQueue does not let this namespace in. Cleared by changing the queue's namespaces.",
    )
    PRIORITY_CLASS_NOT_FOUND = (
        "PriorityClassNotFound",
        "priorityClassName names no PriorityClass. Cleared by creating it.",
    )
    MODEL_UNKNOWN = (
        "ModelUnknown",
        "The model is not in the catalogue and no shape or GPU count is given. Cleared by giving one.",
    )
    RESOURCES_CONTRADICT_MODEL = (
        "ResourcesContradictModel",
        "The stated resources cannot hold the model, whatever the cluster has. Cleared by stating more, "
        "or nothing.",
    )
    NO_SUCH_ACCELERATOR = (
        "NoSuchAccelerator",
        "No node has an accelerator of the kinds asked for. Cleared by such a node or another choice.",
    )
    INSUFFICIENT_MEMORY_PER_GPU = (
        "InsufficientMemoryPerGPU",
        "Accelerators of the right kind exist, but none has enough memory. Cleared by larger GPUs, or by "
        "spreading the model over more of them.",
    )
    INSUFFICIENT_COMPUTE_PER_GPU = (
        "InsufficientComputePerGPU",
        "Accelerators of the right kind exist, but none computes fast enough. Cleared by asking for less "
        "computePerGPU.",
    )
    TOO_MANY_GPUS_PER_NODE = (
        "TooManyGPUsPerNode",
        "One worker needs more GPUs than any fitting node has. Cleared by more workersPerReplica.",
    )
    TOO_LARGE_FOR_CLUSTER = (
        "TooLargeForCluster",
        "The job needs more fitting GPUs than the cluster has. Cleared by more nodes or a smaller job.",
    )
    EXCEEDS_QUEUE_LIMIT = (
        "ExceedsQueueLimit",
        "The job needs more GPUs than its queue may ever hold. Cleared by a higher limit or a smaller job.",
    )
    POD_TEMPLATE_CONFLICT = (
        "PodTemplateConflict",
        "The pod template sets what DRSE sets (node, GPUs, claims). Cleared by removing it there.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        "The object in the API does not parse (older schema, written past validation). Cleared by applying "
        "it again.",
    )
    SUSPENDED = ("Suspended", "spec.suspend is true. Cleared by setting it to false.")

    # -- somebody else's part, it goes on by itself -------------------------------------------------
    LIMIT_REACHED = ("LimitReached", "The queue holds its limit now. Cleared when one of its jobs ends.")
    WAITING_FOR_TURN = ("WaitingForTurn", "Others go first, by priority and order in the queue.")
    QUEUE_CORDONED = (
        "QueueCordoned",
        "spec.cordoned of the GPUQueue is true: nobody in it starts. Cleared by setting it to false.",
    )
    LEAD_CAP_REACHED = (
        "LeadCapReached",
        "The job would fit, but its flow has already run ahead of the one at the head by the cap that keeps "
        "backfilling fair. Cleared when the head starts.",
    )
    RESERVED = ("Reserved", "First in order; the GPUs it needs are held. Cleared when holders end.")
    FRAGMENTED = ("Fragmented", "Enough GPUs are free, but not in blocks that one worker can use.")
    TOPOLOGY_UNAVAILABLE = (
        "TopologyUnavailable",
        "Enough GPUs are free, but not within the rack, zone or NVLink domain asked for.",
    )
    INSUFFICIENT_FREE_GPUS = ("InsufficientFreeGPUs", "All fitting GPUs are held.")
    BACKING_OFF = (
        "BackingOff",
        "The last attempt failed or did not bind; the next one starts after the back-off.",
    )
    ASSIGNING = ("Assigning", "Planned this instant; the assignment is being written.")

    @property
    def user_must_act(self) -> bool:
        """True where no passing of time can clear the reason."""
        return self in _USER_MUST_ACT

    @property
    def has_start(self) -> bool:
        """True where a start can be foretold: nobody has to do something first."""
        return self not in _USER_MUST_ACT and self is not WaitReason.QUEUE_CORDONED


_USER_MUST_ACT = frozenset(
    {
        WaitReason.QUEUE_NOT_FOUND,
        WaitReason.NAMESPACE_NOT_ALLOWED,
        WaitReason.PRIORITY_CLASS_NOT_FOUND,
        WaitReason.MODEL_UNKNOWN,
        WaitReason.RESOURCES_CONTRADICT_MODEL,
        WaitReason.NO_SUCH_ACCELERATOR,
        WaitReason.INSUFFICIENT_MEMORY_PER_GPU,
        WaitReason.INSUFFICIENT_COMPUTE_PER_GPU,
        WaitReason.TOO_MANY_GPUS_PER_NODE,
        WaitReason.TOO_LARGE_FOR_CLUSTER,
        WaitReason.EXCEEDS_QUEUE_LIMIT,
        WaitReason.POD_TEMPLATE_CONFLICT,
        WaitReason.INVALID_SPEC,
        WaitReason.SUSPENDED,
    }
)


class MoveReason(Word):
    """Why a start that was told has moved; each is true of the plan of then and that of now."""

    # -- later -------------------------------------------------------------------------------------
    JOB_ARRIVED_AHEAD = (
        "JobArrivedAhead",
        "A job that came since, or asks for GPUs again, goes first or has them.",
    )
    RUNS_LONGER = ("RunsLonger", "A job that holds GPUs waited for runs longer than was expected.")
    CAPACITY_LOST = (
        "CapacityLost",
        "A node that the job could use has fewer GPUs for jobs: out of service, or held by others.",
    )
    # -- earlier -----------------------------------------------------------------------------------
    JOB_LEFT_AHEAD = ("JobLeftAhead", "A job that went first is gone.")
    ENDS_EARLIER = ("EndsEarlier", "A job gave back GPUs sooner than was expected, or will.")
    CAPACITY_GAINED = ("CapacityGained", "A node that the job could use has more GPUs for jobs.")
    # -- either way --------------------------------------------------------------------------------
    SHARE_CHANGED = (
        "ShareChanged",
        "Weight, guarantee, limit or another setting was changed of its queue, or of one whose jobs have "
        "changed places with it.",
    )
    ORDER_CHANGED = ("OrderChanged", "Jobs that waited before have changed places with it.")
    CORRECTED = (
        "Corrected",
        "The plan is as before; what is told of it follows how earlier jobs of the queue have started.",
    )
    PLAN_CHANGED = ("PlanChanged", "The plan is another, and none of the other reasons shows.")


class ScalingReason(Word):
    """Why the scaling policy decided as it did."""

    LOAD_ABOVE_THRESHOLD = ("LoadAboveThreshold", "The load exceeds scaleUpAt of the capacity.")
    FORECAST_ABOVE_THRESHOLD = ("ForecastAboveThreshold", "The forecast exceeds scaleUpAt of the capacity.")
    BELOW_THRESHOLD = (
        "BelowThreshold",
        "Load and forecast were below scaleDownAt for the whole stabilization window.",
    )
    STABILIZING = ("Stabilizing", "Below scaleDownAt, but not yet for the whole window.")
    WITHIN_THRESHOLDS = ("WithinThresholds", "Between scaleDownAt and scaleUpAt: nothing to do.")
    AT_MINIMUM = ("AtMinimum", "The wish to shrink is cut by minReplicas.")
    AT_MAXIMUM = ("AtMaximum", "The wish to grow is cut by maxReplicas.")
    STARTING = ("Starting", "A replica is still starting; its load is not meaningful yet.")
    # -- frozen: no decision is made ------------------------------------------------------------------
    FORECASTER_UNREACHABLE = ("ForecasterUnreachable", "The forecaster does not answer; replicas are kept.")
    LOAD_UNKNOWN = ("LoadUnknown", "There are no metrics of the job's load; replicas are kept.")
    LOAD_STALE = ("LoadStale", "The metrics of the job's load are too old; replicas are kept.")
    FORECAST_UNAVAILABLE = (
        "ForecastUnavailable",
        "There is no usable forecast of the job's load; replicas are kept.",
    )
    MODE_OFF = ("ModeOff", "scaling.mode is Off: spec.replicas is the number.")

    @property
    def frozen(self) -> bool:
        """True where no decision is made and replicas stay as they are."""
        return self in _FROZEN


_FROZEN = frozenset(
    {
        ScalingReason.FORECASTER_UNREACHABLE,
        ScalingReason.LOAD_UNKNOWN,
        ScalingReason.LOAD_STALE,
        ScalingReason.FORECAST_UNAVAILABLE,
    }
)


class ConditionType(Word):
    """Conditions of a DeepSeekJob."""

    ADMITTED = (
        "Admitted",
        "The job holds the GPUs of at least its first unit; False carries the reason of the wait.",
    )
    READY = ("Ready", "All wanted replicas are ready.")
    SCALING_ACTIVE = (
        "ScalingActive",
        "Scaling decisions are being made; False carries the reason why they are frozen.",
    )
    DEVICES_HEALTHY = ("DevicesHealthy", "Every device the job holds is present and healthy.")
    PREEMPTED = (
        "Preempted",
        "GPUs were taken from the job; the message says for whom. False once it holds GPUs again.",
    )
    COMPLETE = ("Complete", "The job has ended well.")
    FAILED = ("Failed", "The job has failed for good.")


class StateReason(Word):
    """Reasons of conditions other than waits and scaling."""

    GPUS_ASSIGNED = ("GPUsAssigned", "GPUs have been promised to the job; see status.assignments.")
    REPLICAS_READY = ("ReplicasReady", "As many replicas are ready as are wanted.")
    REPLICAS_STARTING = ("ReplicasStarting", "Some wanted replicas are not ready yet.")
    NOT_ADMITTED = ("NotAdmitted", "The job holds no GPUs.")
    ALL_HEALTHY = ("AllHealthy", "Every device the job holds is present and healthy.")
    NODE_VANISHED = ("NodeVanished", "A node of the job is gone.")
    NODE_NOT_READY = ("NodeNotReady", "A node of the job is not ready.")
    DEVICE_VANISHED = ("DeviceVanished", "A device of the job is no longer published by its node.")
    DEVICE_TAINTED = ("DeviceTainted", "A device of the job has been taken out of service.")
    DEVICE_MISMATCH = ("DeviceMismatch", "A pod got other devices than were promised.")
    WORKERS_SUCCEEDED = ("WorkersSucceeded", "All workers ended well.")
    BACKOFF_LIMIT_EXCEEDED = ("BackoffLimitExceeded", "More attempts failed than spec.backoffLimit allows.")
    DEADLINE_EXCEEDED = ("DeadlineExceeded", "The job ran for longer than spec.activeDeadlineSeconds.")
    GUARANTEE_RECLAIMED = (
        "GuaranteeReclaimed",
        "Another queue took back what it is guaranteed; this one held more than its own guarantee.",
    )
    HIGHER_PRIORITY = ("HigherPriority", "A job of the same queue with a higher priority took the GPUs.")
    SCALING_ON = ("Deciding", "Scaling decisions are being made.")


class EventReason(Word):
    """Reasons of events; conditions hold the state, events tell the story."""

    ASSIGNED = ("Assigned", "GPUs were promised to the job.")
    WAITING = ("Waiting", "The reason of the wait changed.")
    RELEASED = ("Released", "GPUs were given back.")
    PREEMPTED = ("Preempted", "GPUs were taken from the job for another one; the message says for whom.")
    PREEMPTING = ("Preempting", "GPUs are being taken from other jobs for this one.")
    BIND_TIMEOUT = ("BindTimeout", "A replica did not bind in time; it is released whole and planned again.")
    WORKER_FAILED = ("WorkerFailed", "A worker failed; the message says how it ended.")
    WORKER_DISRUPTED = (
        "WorkerDisrupted",
        "A worker was evicted or deleted, or its node went out of service: the replica is planned again, and "
        "backoffLimit does not count it.",
    )
    SUCCEEDED = ("Succeeded", "The job ended well.")
    FAILED = ("Failed", "The job failed for good.")
    DEVICE_LOST = ("DeviceLost", "A device or node under the running job vanished or became unhealthy.")
    SCALED_UP = ("ScaledUp", "More replicas are wanted; the message has the numbers.")
    SCALED_DOWN = ("ScaledDown", "Fewer replicas are wanted; the message has the numbers.")
    SCALING_FROZEN = ("ScalingFrozen", "No scaling decisions are made until load or forecast is known again.")
    CREATE_REFUSED = ("CreateRefused", "The API server refuses a pod, claim or Service of the job.")
    NAME_TAKEN = ("NameTaken", "An object that DRSE did not make has the name of one that it must make.")
