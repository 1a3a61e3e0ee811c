"""What the exporters on the nodes would say: one list of metric samples for one instant.

Names and labels are those of NVIDIA's dcgm-exporter, the exporters of AMD and Habana, and vLLM.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from drse_local.fleet import Binding, Fleet, Gpu, Vendor, device_uuid
from drse_local.gpus import lookup_product
from drse_local.holdings import Holder
from drse_local.scenario import Scenario, ServingJob
from drse_local.serving import ServingState, serve

UTILIZATION = "DCGM_FI_DEV_GPU_UTIL"
MEMORY_USED = "DCGM_FI_DEV_FB_USED"
MEMORY_FREE = "DCGM_FI_DEV_FB_FREE"
REQUESTS_RUNNING = "vllm:num_requests_running"
REQUESTS_WAITING = "vllm:num_requests_waiting"
ASSIGNED = "drse_gpu_assigned"

_SERVING_MEMORY, _TRAINING_MEMORY = 0.90, 0.86
_TRAINING_UTILIZATION, _TRAINING_SWING = 0.97, 0.02
_BYTES_PER_MIB = 1024 * 1024
_PAST_PRODUCT = "NVIDIA H100 80GB HBM3"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of an exposition."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class GpuState:
    """utilization and memory (used share), both 0 to 1."""

    utilization: float
    memory: float


_IDLE = GpuState(0.0, 0.0)


class SampleSource:
    """Turns the holders of an instant into samples.

    Until a job of the scenario holds ready GPUs for the first time, its load stays on the GPUs that carried
    it in the
    recorded past, so its series neither breaks nor counts twice: they go in the very scrape that brings the
    new ones.
    """

    def __init__(self, fleet: Fleet, scenario: Scenario, anchor: float) -> None:
        self._fleet = fleet
        self._scenario = scenario
        self._anchor = anchor
        self._on_past_gpus = set(scenario.jobs) if scenario.history_days > 0 else set()

    def samples(self, holders: Iterable[Holder], now: float) -> list[Sample]:
        """All samples at `now` (seconds since the epoch)."""
        ready = [holder for holder in holders if holder.ready]
        states: dict[str, GpuState] = {}
        collected: list[Sample] = []
        for key, job in self._scenario.jobs.items():
            members = [holder for holder in ready if holder.job == key]
            if members:
                self._on_past_gpus.discard(key)
                collected += self._serving(key, job, members, states, now)
            elif key in self._on_past_gpus:
                collected += self._past(key, job, now)
        for holder in ready:
            for gpu in holder.gpus:
                if gpu.uuid not in states:
                    states[gpu.uuid] = _training(gpu, now)
        for gpu in self._fleet.gpus:
            collected += gpu_samples(gpu, states.get(gpu.uuid, _IDLE))
        return collected

    def _state(self, job: ServingJob, gpus: int, now: float) -> ServingState:
        load = job.load.at(np.asarray(now), self._anchor)
        return serve(load, gpus, job.gpus_per_replica, job.target_concurrency)

    def _serving(
        self, key: str, job: ServingJob, members: list[Holder], states: dict[str, GpuState], now: float
    ) -> Iterator[Sample]:
        gpus = [gpu for holder in members for gpu in holder.gpus]
        state = self._state(job, len(gpus), now)
        for gpu in gpus:
            states[gpu.uuid] = GpuState(float(state.utilization), _SERVING_MEMORY)
        engines = sorted(holder.pod for holder in members if holder.worker == "0")
        for name, total in ((REQUESTS_RUNNING, state.running), (REQUESTS_WAITING, state.waiting)):
            for pod, share in zip(engines, _split(int(total), len(engines)), strict=True):
                yield Sample(name, engine_labels(key, job, pod), share)

    def _past(self, key: str, job: ServingJob, now: float) -> Iterator[Sample]:
        gpus = past_gpus(key, job)
        state = self._state(job, len(gpus), now)
        for gpu in gpus:
            yield Sample(UTILIZATION, dcgm_labels(gpu), round(float(state.utilization) * 100, 2))
            yield Sample(ASSIGNED, assigned_labels(key, job, gpu), 1)
        yield Sample(REQUESTS_RUNNING, engine_labels(key, job, past_pod(key)), float(state.running))
        yield Sample(REQUESTS_WAITING, engine_labels(key, job, past_pod(key)), float(state.waiting))


def past_gpus(key: str, job: ServingJob) -> list[Gpu]:
    """The devices that carried a job in the recorded past. They are none of the fleet's."""
    node = f"past-{key.replace('/', '-')}"
    facts = lookup_product(_PAST_PRODUCT)
    memory = facts.memory_mib if facts else 0
    vendor = Vendor.NVIDIA
    return [
        Gpu(
            device_uuid(vendor, node, index),
            index,
            f"gpu-{index}",
            node,
            _PAST_PRODUCT,
            vendor,
            Binding.DRA,
            memory,
        )
        for index in range(job.past_gpus)
    ]


def past_pod(key: str) -> str:
    """Name of the engine that served a job in the recorded past."""
    return f"{key.partition('/')[2]}-past"


def dcgm_labels(gpu: Gpu) -> dict[str, str]:
    """Labels of dcgm-exporter."""
    return {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "device": f"nvidia{gpu.index}",
        "modelName": gpu.product,
        "Hostname": gpu.node,
    }


def job_labels(key: str) -> dict[str, str]:
    """The labels by which every DRSE metric names a job."""
    namespace, _, name = key.partition("/")
    return {"deepseekjob": name, "deepseekjob_namespace": namespace}


def assigned_labels(key: str, job: ServingJob, gpu: Gpu) -> dict[str, str]:
    """Labels of `drse_gpu_assigned`."""
    return {"UUID": gpu.uuid, **job_labels(key), "queue": job.queue}


def engine_labels(key: str, job: ServingJob, pod: str) -> dict[str, str]:
    """Labels of vLLM's metrics, with those that a scrape adds from the pod."""
    return {"model_name": job.model_name, **job_labels(key), "pod": pod}


def gpu_samples(gpu: Gpu, state: GpuState) -> Iterator[Sample]:
    """What the vendor's exporter says of one GPU. Utilisation in percent; memory in MiB (Gaudi: bytes)."""
    percent, used = round(state.utilization * 100, 2), round(gpu.memory_mib * state.memory)
    match gpu.vendor:
        case Vendor.NVIDIA:
            labels = dcgm_labels(gpu)
            yield Sample(UTILIZATION, labels, percent)
            yield Sample(MEMORY_USED, labels, used)
            yield Sample(MEMORY_FREE, labels, gpu.memory_mib - used)
        case Vendor.AMD:
            labels = {
                "gpu_id": str(gpu.index),
                "gpu_uuid": gpu.uuid,
                "card_model": gpu.product,
                "hostname": gpu.node,
            }
            yield Sample("gpu_gfx_activity", labels, percent)
            yield Sample("gpu_used_vram", labels, used)
            yield Sample("gpu_total_vram", labels, gpu.memory_mib)
        case Vendor.HABANA:
            labels = {"device": f"accel{gpu.index}", "UUID": gpu.uuid, "hostname": gpu.node}
            yield Sample("habanalabs_utilization", labels, percent)
            yield Sample("habanalabs_memory_used_bytes", labels, used * _BYTES_PER_MIB)
            yield Sample("habanalabs_memory_total_bytes", labels, gpu.memory_mib * _BYTES_PER_MIB)


def _training(gpu: Gpu, now: float) -> GpuState:
    """Nearly busy, with a small swing that depends on device and minute only, so runs can be repeated."""
    digest = zlib.crc32(f"{gpu.uuid}/{int(now // 60)}".encode())
    swing = _TRAINING_SWING * (2 * digest / 0xFFFFFFFF - 1)
    return GpuState(_TRAINING_UTILIZATION + swing, _TRAINING_MEMORY)


def _split(total: int, parts: int) -> list[int]:
    """Whole shares that differ by one at most."""
    if parts == 0:
        return []
    share, rest = divmod(total, parts)
    return [share + (1 if index < rest else 0) for index in range(parts)]
