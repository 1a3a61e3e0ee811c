"""The one question that is asked of Prometheus: the load of every job.

The problem: exporters know GPUs, engines know requests, only the operator knows which job holds what; and one
query a job does not scale. The approach: one expression that joins and groups everything, with one result
series a job, in GPU-equivalents:

    load = max( sum over the job's GPUs of utilisation,
                (running + waiting requests) / target concurrency * GPUs per replica )

Utilisation alone cannot exceed what a job holds; the requests show what waits beyond it.

GPUs of replicas that still start are left out: loading weights and warming up looks busy and serves nobody.

What the joins guard against: two series of `drse_gpu_assigned` for one GPU (a hand-over without a stale
marker) would fail the whole query, so the newest wins; so do two operators' series of one job. One GPU
scraped twice must not count twice. Labels that Kubernetes scrapes add (`namespace`, `pod`) are never joined
on: on the exporters they name the exporter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

JOB_LABEL = "deepseekjob"
NAMESPACE_LABEL = "deepseekjob_namespace"

_BY_JOB = f"({NAMESPACE_LABEL}, {JOB_LABEL})"
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")


def _checked(name: str) -> str:
    if not _METRIC_NAME.match(name):
        raise ValueError(f"{name!r} is not a Prometheus name; use letters, digits, '_' and ':' only.")
    return name


@dataclass(frozen=True, slots=True)
class Utilization:
    """One exporter's metric of how busy a GPU is."""

    metric: str
    full: float = 100.0  #: the value that means fully busy
    uuid_label: str = "UUID"  #: the label that holds the GPU's UUID

    @classmethod
    def parse(cls, text: str) -> Utilization:
        """Read `NAME`, `NAME:FULL` or `NAME:FULL:UUID_LABEL`. Raises ValueError with a sentence."""
        name, _, rest = text.partition(":")
        full, _, label = rest.partition(":")
        try:
            scale = float(full or 100.0)
        except ValueError:
            raise ValueError(f"{full!r} in {text!r} is not a number; write NAME:FULL:UUID_LABEL.") from None
        if not 0 < scale < float("inf"):
            raise ValueError(f"{full!r} in {text!r} must be positive: it is the value of a fully busy GPU.")
        return cls(_checked(name), scale, _checked(label or "UUID"))

    def expression(self) -> str:
        """Return PromQL with one series a GPU: 0 to 1, labelled UUID."""
        by_uuid = f"max by ({self.uuid_label}) ({self.metric}) / {self.full:g}"
        if self.uuid_label == "UUID":
            return by_uuid
        return f'max by (UUID) (label_replace({by_uuid}, "UUID", "$1", "{self.uuid_label}", "(.+)"))'


#: NVIDIA dcgm-exporter, AMD device-metrics-exporter, Intel Gaudi exporter.
DEFAULT_UTILIZATION = (
    Utilization("DCGM_FI_DEV_GPU_UTIL"),
    Utilization("gpu_gfx_activity", uuid_label="gpu_uuid"),
    Utilization("habanalabs_utilization"),
)

#: Running and waiting requests of vLLM and SGLang.
DEFAULT_REQUESTS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
)


def build_load_query(
    utilization: tuple[Utilization, ...] = DEFAULT_UTILIZATION, requests: tuple[str, ...] = DEFAULT_REQUESTS
) -> str:
    """Return the PromQL whose series are jobs' loads in GPU-equivalents, labelled with job and namespace.

    Raises ValueError when neither kind of metric is given, or for a name that is none.
    """
    sides = []
    if utilization:
        sides.append(_labelled("gpu", _gpu_side(utilization)))
    if requests:
        sides.append(_labelled("requests", _request_side(requests)))
    if not sides:
        raise ValueError("No metric names are configured; give at least one for utilisation or for requests.")
    return f"max by {_BY_JOB} ({' or '.join(sides)})"


def _labelled(source: str, expression: str) -> str:
    """Keep both sides of the union apart: `or` drops right-hand series whose labels the left side has."""
    return f'label_replace({expression}, "source", "{source}", "", "")'


def _gpu_side(utilization: tuple[Utilization, ...]) -> str:
    busy = " or ".join(one.expression() for one in utilization)
    holder = "(0 * topk by (UUID) (1, timestamp(drse_gpu_assigned)) + 1 unless on (UUID) drse_gpu_starting)"
    return f"sum by {_BY_JOB} (({busy}) * on (UUID) group_left {_BY_JOB} {holder})"


def _request_side(requests: tuple[str, ...]) -> str:
    names = "|".join(_checked(name) for name in requests)
    count = f'sum by {_BY_JOB} ({{__name__=~"{names}", {JOB_LABEL}!=""}})'
    target = f"max by {_BY_JOB} (drse_job_target_concurrency > 0)"
    gpus = f"max by {_BY_JOB} (drse_job_gpus_per_replica)"
    return f"{count} / on {_BY_JOB} {target} * on {_BY_JOB} {gpus}"
