"""Closed word lists of the API: what spec fields may say, and what status fields tell."""

from __future__ import annotations

from drse_operator.api.words import Word


class TaskType(Word):
    """What kind of work a job is. With its queue it names the job's flow."""

    INFERENCE = ("Inference", "Serves requests until it is deleted.")
    FINE_TUNING = ("FineTuning", "Adapts a model to data, and ends.")
    PRE_TRAINING = ("PreTraining", "Trains a model from scratch, and ends.")
    DISTILLATION = ("Distillation", "Trains a small model on the answers of a large one, and ends.")
    BATCH = ("Batch", "Any other work that ends, such as an evaluation.")

    @property
    def serves(self) -> bool:
        """True for services, which run until deleted; all other tasks end by themselves."""
        return self is TaskType.INFERENCE


class Precision(Word):
    """Number format of the weights."""

    FP32 = ("FP32", "32-bit floating point, 4 bytes a weight.")
    BF16 = ("BF16", "16-bit brain floating point, 2 bytes a weight.")
    FP16 = ("FP16", "16-bit floating point, 2 bytes a weight.")
    FP8 = ("FP8", "8-bit floating point, 1 byte a weight.")
    INT8 = ("INT8", "8-bit integers, 1 byte a weight.")
    INT4 = ("INT4", "4-bit integers, half a byte a weight.")


class Vendor(Word):
    """Maker of an accelerator."""

    NVIDIA = ("nvidia", "NVIDIA GPUs.")
    AMD = ("amd", "AMD Instinct GPUs.")
    HABANA = ("habana", "Intel Gaudi accelerators.")


class TopologyScope(Word):
    """How close the workers of one replica must be to each other."""

    NODE = ("Node", "One node.")
    NVLINK_DOMAIN = ("NVLinkDomain", "Nodes whose GPUs are joined by one NVLink fabric.")
    RACK = ("Rack", "Nodes of one rack.")
    ZONE = ("Zone", "Nodes of one zone.")


class TopologyMode(Word):
    """What happens where no place is close enough."""

    REQUIRED = ("Required", "The job waits until there is such a place.")
    PREFERRED = ("Preferred", "Such a place is tried first.")


class ScalingMode(Word):
    """Who acts on the scaling decision: nobody asks (Off), a person reads (Recommend), DRSE acts (Auto)."""

    OFF = ("Off", "Nobody asks: spec.replicas is the number.")
    RECOMMEND = ("Recommend", "A person reads: DRSE writes into status.scaling what it would do.")
    AUTO = ("Auto", "DRSE acts.")


class ScalingPolicy(Word):
    """What the decision looks at: load and forecast, or load alone."""

    FORECAST = ("Forecast", "Load now and the forecast.")
    REACTIVE = ("Reactive", "Load now alone.")


class Engine(Word):
    """The program in the container; Custom runs ``runtime.image`` with ``runtime.args`` untouched."""

    VLLM = ("vLLM", "The vLLM OpenAI-compatible server.")
    SGLANG = ("SGLang", "The SGLang server.")
    CUSTOM = ("Custom", "runtime.image runs with runtime.args untouched.")


class Phase(Word):
    """One word for where a job stands; conditions carry the detail."""

    QUEUED = ("Queued", "It waits for GPUs; status.queue says why.")
    STARTING = ("Starting", "It holds GPUs and its workers are starting.")
    RUNNING = ("Running", "Its workers run.")
    SUSPENDED = ("Suspended", "spec.suspend is true; it holds no GPUs.")
    SUCCEEDED = ("Succeeded", "It has ended well.")
    FAILED = ("Failed", "It has failed for good.")

    @property
    def finished(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class DeviceSelection(Word):
    """Exact: DRSE names the devices. CountOnly: the node's device plugin picks among its free ones."""

    EXACT = ("Exact", "DRSE names the devices.")
    COUNT_ONLY = ("CountOnly", "The node's device plugin picks among its free ones.")


class Ordering(Word):
    """Order of the jobs of one flow (a queue's jobs of one task type), below their priority."""

    FAIR_SOJOURN = (
        "FairSojourn",
        "Who would end first if the flow's GPUs were shared equally goes first: short waits, and nobody is "
        "overtaken for ever.",
    )
    FIFO = ("Fifo", "Who came first goes first.")


class Preemption(Word):
    """Whether jobs of a queue may take GPUs from running jobs of the same queue."""

    NEVER = ("Never", "They wait until GPUs come free.")
    LOWER_PRIORITY = (
        "LowerPriority",
        "A job that is first in order takes GPUs from running jobs with a lower priority, where the least "
        "work is lost. A job that was itself preempted takes none.",
    )
