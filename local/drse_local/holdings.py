"""Which pod holds which GPU, worked out from pods and claims as the node's own software would know it.

With DRA the claim's allocation names the devices. With device plugins the API knows only counts, and the
kubelet picks;
its part is played here: a pod gets free devices of its node when it is first seen and keeps them until it is
gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drse_local.apiclient import Manifest
from drse_local.fleet import EXTENDED_RESOURCE, Binding, Fleet, Gpu
from drse_local.nodes import DRA_DRIVER

JOB_LABEL = "drse.dev/job"
REPLICA_LABEL = "drse.dev/replica"
WORKER_LABEL = "drse.dev/worker"


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod and its GPUs. job: `namespace/name` of the DeepSeekJob, None for pods of others."""

    namespace: str
    pod: str
    job: str | None
    replica: str
    worker: str
    ready: bool
    gpus: tuple[Gpu, ...]


class Holdings:
    """Remembers what the imagined kubelets picked, between calls of `update`."""

    def __init__(self, fleet: Fleet) -> None:
        self._by_device = {(gpu.node, gpu.device): gpu for gpu in fleet.gpus}
        self._plugin_devices: dict[tuple[str, str], list[Gpu]] = {}
        for gpu in fleet.gpus:
            if gpu.binding is Binding.DEVICE_PLUGIN:
                key = (gpu.node, EXTENDED_RESOURCE[gpu.vendor])
                self._plugin_devices.setdefault(key, []).append(gpu)
        self._picked: dict[str, tuple[Gpu, ...]] = {}

    def update(self, pods: Iterable[Manifest], claims: Mapping[str, Manifest]) -> list[Holder]:
        """Holders among the pods that are bound and not over. `claims` is keyed by `namespace/name`."""
        live = sorted(filter(_holds_devices, pods), key=_age)
        uids = {pod["metadata"]["uid"] for pod in live}
        self._picked = {uid: gpus for uid, gpus in self._picked.items() if uid in uids}
        holders = (_holder(pod, (*self._claimed(pod, claims), *self._plugged(pod))) for pod in live)
        return [holder for holder in holders if holder.gpus]

    def _claimed(self, pod: Manifest, claims: Mapping[str, Manifest]) -> Iterator[Gpu]:
        namespace = pod["metadata"]["namespace"]
        for name in _claim_names(pod):
            allocation = claims.get(f"{namespace}/{name}", {}).get("status", {}).get("allocation", {})
            for result in allocation.get("devices", {}).get("results", ()):
                gpu = self._by_device.get((result["pool"], result["device"]))
                if gpu is not None and result["driver"] == DRA_DRIVER:
                    yield gpu

    def _plugged(self, pod: Manifest) -> tuple[Gpu, ...]:
        uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
        if uid not in self._picked:
            taken = {gpu.uuid for gpus in self._picked.values() for gpu in gpus}
            picks: list[Gpu] = []
            for resource, count in _extended_limits(pod).items():
                free = [
                    gpu for gpu in self._plugin_devices.get((node, resource), ()) if gpu.uuid not in taken
                ]
                picks += free[:count]
            self._picked[uid] = tuple(picks)
        return self._picked[uid]


def _holds_devices(pod: Manifest) -> bool:
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return bool(pod["spec"].get("nodeName")) and not over


def _age(pod: Manifest) -> tuple[str, str]:
    return pod["metadata"]["creationTimestamp"], pod["metadata"]["uid"]


def _claim_names(pod: Manifest) -> Iterator[str]:
    generated = {
        each["name"]: each.get("resourceClaimName") for each in pod["status"].get("resourceClaimStatuses", ())
    }
    for reference in pod["spec"].get("resourceClaims", ()):
        name = reference.get("resourceClaimName") or generated.get(reference["name"])
        if name:
            yield name


def _extended_limits(pod: Manifest) -> dict[str, int]:
    counts: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        limits = container.get("resources", {}).get("limits", {})
        for resource in EXTENDED_RESOURCE.values():
            if resource in limits:
                counts[resource] = counts.get(resource, 0) + int(limits[resource])
    return counts


def _holder(pod: Manifest, gpus: tuple[Gpu, ...]) -> Holder:
    metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
    job = labels.get(JOB_LABEL)
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return Holder(
        namespace=metadata["namespace"],
        pod=metadata["name"],
        job=f"{metadata['namespace']}/{job}" if job else None,
        replica=labels.get(REPLICA_LABEL, "0"),
        worker=labels.get(WORKER_LABEL, "0"),
        ready=conditions.get("Ready") == "True" and pod["status"].get("phase") == "Running",
        gpus=gpus,
    )
