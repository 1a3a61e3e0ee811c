"""From nodes and ResourceSlices to the GPUs of the cluster, healthy or not.

Two ways of publishing are read. With DRA (``resource.k8s.io/v1``) every device is named and its memory is
in its capacity. With a device plugin only a count is known, and labels of the node tell what is counted.
A GPU must not be published both ways; where a node does, its slices win.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drse_operator.admission.snapshot import Device
from drse_operator.api.enums import DeviceSelection, TopologyScope, Vendor
from drse_operator.api.types import as_bytes
from drse_operator.sizing import accelerators
from drse_operator.workloads.observed import DeviceRef
from drse_operator.workloads.pods import TOLERATED_TAINTS

Document = dict[str, Any]

#: Node labels that name topology domains, most specific scope last.
DOMAIN_LABELS: Mapping[TopologyScope, tuple[str, ...]] = {
    TopologyScope.ZONE: ("topology.kubernetes.io/zone",),
    TopologyScope.RACK: ("topology.kubernetes.io/rack",),
    TopologyScope.NVLINK_DOMAIN: ("nvidia.com/gpu.clique",),
}
#: Why nothing is placed on a node with which all else is well: ``kubectl uncordon`` ends it.
CORDONED = "is cordoned"
#: What the node controller adds to such a node.
_CORDON_TAINT = "node.kubernetes.io/unschedulable"
_DRA_VENDORS = {"gpu.nvidia.com": Vendor.NVIDIA, "gpu.amd.com": Vendor.AMD, "gpu.habana.ai": Vendor.HABANA}


@dataclass(frozen=True, slots=True)
class _PluginLabels:
    vendor: Vendor
    product: str
    memory: str
    memory_unit: str


_PLUGINS = {
    "nvidia.com/gpu": _PluginLabels(Vendor.NVIDIA, "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "Mi"),
    "amd.com/gpu": _PluginLabels(Vendor.AMD, "amd.com/gpu.product-name", "amd.com/gpu.vram", ""),
    "habana.ai/gaudi": _PluginLabels(Vendor.HABANA, "habana.ai/gaudi.product", "habana.ai/gaudi.memory", ""),
}


@dataclass(frozen=True, slots=True)
class NodeObject:
    """A node as last seen. ``unready`` says why nothing may be placed on it, empty when all is well; and
    ``remedy`` what to do about it."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    unready: str
    broken: bool
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class SliceDevice:
    """One device of a ResourceSlice. ``taint`` says why it is out of service."""

    ref: DeviceRef
    device: Device
    product: str
    memory: int
    taint: str


@dataclass(frozen=True, slots=True)
class SliceObject:
    """A ResourceSlice of GPUs on one node."""

    name: str
    driver: str
    pool: str
    generation: int
    #: Number of slices that this generation of the pool consists of.
    of: int
    node: str
    devices: tuple[SliceDevice, ...]


@dataclass(frozen=True, slots=True)
class TaintRule:
    """A DeviceTaintRule that takes devices out of service; an empty field matches everything."""

    name: str
    driver: str
    pool: str
    device: str
    taint: str

    def matches(self, ref: DeviceRef) -> bool:
        """True for the devices that the rule is about."""
        return (
            self.driver in ("", ref.driver) and self.pool in ("", ref.pool) and self.device in ("", ref.name)
        )


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs of one kind on one node. ``devices`` is empty for CountOnly, where ``count`` speaks."""

    node: str
    vendor: Vendor
    product: str
    memory: int
    selection: DeviceSelection
    resource: str
    count: int
    devices: tuple[SliceDevice, ...] = ()


def node(document: Document) -> NodeObject:
    """Parse a Node."""
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    broken = conditions.get("Ready") != "True"
    unready, remedy = _unready(metadata, spec, broken)
    return NodeObject(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        allocatable={
            name: int(amount)
            for name, amount in (status.get("allocatable") or {}).items()
            if name in _PLUGINS
        },
        unready=unready,
        broken=broken,
        remedy=remedy,
    )


def _unready(metadata: Document, spec: Document, broken: bool) -> tuple[str, str]:
    """Why nothing may be placed on a node, and what to do about it."""
    name = metadata["name"]
    if "deletionTimestamp" in metadata:
        return "is being deleted", ""
    if broken:
        return "is not ready", f"kubectl describe node {name}"
    cordoned = bool(spec.get("unschedulable"))
    for taint in spec.get("taints") or ():
        if cordoned and taint["key"] == _CORDON_TAINT:
            continue
        if taint["effect"] in ("NoSchedule", "NoExecute") and taint["key"] not in TOLERATED_TAINTS:
            return f"has the taint {taint['key']}", f"kubectl taint node {name} {taint['key']}-"
    return (CORDONED, f"kubectl uncordon {name}") if cordoned else ("", "")


def resource_slice(document: Document) -> SliceObject | None:
    """Parse a ResourceSlice; None for one that publishes no whole GPUs of one node."""
    spec = document["spec"]
    driver = spec["driver"]
    if driver not in _DRA_VENDORS or not spec.get("nodeName"):
        return None
    pool = spec["pool"]["name"]
    devices = tuple(
        parsed for raw in spec.get("devices") or () if (parsed := _device(driver, pool, raw)) is not None
    )
    return SliceObject(
        name=document["metadata"]["name"],
        driver=driver,
        pool=pool,
        generation=spec["pool"].get("generation", 0),
        of=spec["pool"].get("resourceSliceCount", 1),
        node=spec["nodeName"],
        devices=devices,
    )


def _device(driver: str, pool: str, raw: Document) -> SliceDevice | None:
    attributes = {name.rpartition("/")[2]: value for name, value in (raw.get("attributes") or {}).items()}
    uuid = attributes.get("uuid", {}).get("string")
    if uuid is None or attributes.get("type", {}).get("string", "gpu") != "gpu":
        return None
    product = attributes.get("productName", {}).get("string", "unknown")
    capacity = {name.rpartition("/")[2]: value for name, value in (raw.get("capacity") or {}).items()}
    memory = capacity.get("memory", {}).get("value")
    taints = [t for t in raw.get("taints") or () if t.get("effect") in ("NoSchedule", "NoExecute")]
    return SliceDevice(
        ref=DeviceRef(driver, pool, raw["name"]),
        device=Device(
            uuid=uuid,
            driver=driver,
            pool=pool,
            name=raw["name"],
            group=attributes.get("pcieRoot", {}).get("string", ""),
        ),
        product=product,
        memory=_memory(memory, product),
        taint=f"has the taint {taints[0]['key']}" if taints else "",
    )


def taint_rule(document: Document) -> TaintRule | None:
    """Parse a DeviceTaintRule; None for one that only informs or matches nothing."""
    selector, taint = document["spec"].get("deviceSelector"), document["spec"]["taint"]
    if selector is None or taint.get("effect") not in ("NoSchedule", "NoExecute"):
        return None
    name = document["metadata"]["name"]
    return TaintRule(
        name=name,
        driver=selector.get("driver", ""),
        pool=selector.get("pool", ""),
        device=selector.get("device", ""),
        taint=f"has the taint {taint['key']} by DeviceTaintRule {name}",
    )


def gpus(
    nodes: Iterable[NodeObject], slices: Iterable[SliceObject], rules: Iterable[TaintRule] = ()
) -> list[Gpus]:
    """All GPUs of the cluster, grouped by node and kind, in a fixed order."""
    published = _current_slices(slices)
    ordered = sorted(rules, key=lambda rule: rule.name)
    found: list[Gpus] = []
    for item in sorted(nodes, key=lambda n: n.name):
        mine = published.get(item.name, [])
        found += _from_slices(item, mine, ordered)
        vendors = {_DRA_VENDORS[s.driver] for s in mine}
        found += [g for g in _from_plugins(item) if g.vendor not in vendors]
    return found


def _current_slices(slices: Iterable[SliceObject]) -> dict[str, list[SliceObject]]:
    """Slices by node. Superseded generations of a pool are left out, and pools that are not complete yet."""
    everything = list(slices)
    newest: dict[tuple[str, str], int] = {}
    for item in everything:
        pool = (item.driver, item.pool)
        newest[pool] = max(newest.get(pool, -1), item.generation)
    current = [item for item in everything if item.generation == newest[item.driver, item.pool]]
    present = Counter((item.driver, item.pool) for item in current)
    by_node: dict[str, list[SliceObject]] = defaultdict(list)
    for item in current:
        if present[item.driver, item.pool] >= item.of:
            by_node[item.node].append(item)
    return by_node


def _from_slices(item: NodeObject, slices: list[SliceObject], rules: list[TaintRule]) -> list[Gpus]:
    groups: dict[tuple[str, str, int], list[SliceDevice]] = defaultdict(list)
    for piece in slices:
        for device in piece.devices:
            rule = next((r for r in rules if r.matches(device.ref)), None)
            tainted = device if device.taint or rule is None else replace(device, taint=rule.taint)
            groups[piece.driver, device.product, device.memory].append(tainted)
    return [
        Gpus(
            node=item.name,
            vendor=_DRA_VENDORS[driver],
            product=product,
            memory=memory,
            selection=DeviceSelection.EXACT,
            resource="",
            count=len(devices),
            devices=tuple(sorted(devices, key=lambda d: d.ref.name)),
        )
        for (driver, product, memory), devices in sorted(groups.items())
    ]


def _from_plugins(item: NodeObject) -> list[Gpus]:
    found = []
    for resource, labels in _PLUGINS.items():
        count = item.allocatable.get(resource, 0)
        if count == 0:
            continue
        product = item.labels.get(labels.product, "unknown")
        text = item.labels.get(labels.memory)
        memory = _memory(text + labels.memory_unit if text else None, product)
        found.append(
            Gpus(item.name, labels.vendor, product, memory, DeviceSelection.COUNT_ONLY, resource, count)
        )
    return found


def _memory(published: str | None, product: str) -> int:
    """Bytes of one GPU: as published, else as the product is sold, 0 when it is not in the table.

    What is published comes from other people's software: one odd label must not stop everything.
    """
    if published:
        with contextlib.suppress(ValueError, KeyError):
            return as_bytes(published)
    facts = accelerators.lookup(product)
    return 0 if facts is None else facts.memory


def domains(item: NodeObject) -> dict[TopologyScope, str]:
    """Topology domains of a node, from its labels. A nearer domain lies within the farther ones."""
    found: dict[TopologyScope, str] = {}
    for scope, keys in DOMAIN_LABELS.items():
        for key in keys:
            if key in item.labels:
                found[scope] = item.labels[key]
    return found
