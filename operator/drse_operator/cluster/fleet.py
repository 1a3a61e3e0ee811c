"""The GPUs of the cluster and what kinds of them there are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from drse_operator.admission.snapshot import Closed
from drse_operator.api.enums import Vendor
from drse_operator.cluster import devices
from drse_operator.cluster.world import World
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind
from drse_operator.workloads.observed import DeviceRef


@dataclass(frozen=True, slots=True)
class Fleet:
    """GPUs of the cluster, as of one epoch of nodes and slices."""

    gpus: tuple[devices.Gpus, ...]
    kinds: tuple[AcceleratorKind, ...]
    kind_of: dict[tuple[Vendor, str, int], AcceleratorKind]
    uuids: dict[DeviceRef, str]
    #: Device by UUID, with its node.
    by_uuid: dict[str, tuple[str, devices.SliceDevice]]
    #: GPUs on which nothing may be placed, whoever holds them now.
    closed: tuple[Closed, ...] = ()


def draw_fleet(world: World) -> Fleet:
    """The fleet as the nodes and slices of now show it."""
    found = tuple(devices.gpus(world.nodes.values(), world.slices.values(), world.taint_rules.values()))
    total: dict[tuple[Vendor, str, int], int] = defaultdict(int)
    most: dict[tuple[Vendor, str, int], int] = defaultdict(int)
    for gpus in found:
        key = (gpus.vendor, gpus.product, gpus.memory)
        total[key] += gpus.count
        most[key] = max(most[key], gpus.count)
    kind_of = {
        (vendor, product, memory): AcceleratorKind(
            vendor=gpus.vendor,
            product=product,
            memory=memory,
            tflops=0 if (facts := accelerators.lookup(product)) is None else facts.tflops,
            max_per_node=most[vendor, product, memory],
            total=total[vendor, product, memory],
        )
        for gpus in found
        for vendor, product, memory in [(gpus.vendor, gpus.product, gpus.memory)]
    }
    named = [(gpus.node, device) for gpus in found for device in gpus.devices]
    return Fleet(
        gpus=found,
        kinds=tuple(sorted(kind_of.values(), key=lambda k: (k.vendor, k.product, k.memory))),
        kind_of=kind_of,
        uuids={device.ref: device.device.uuid for _, device in named},
        by_uuid={device.device.uuid: (node, device) for node, device in named},
        closed=tuple(
            closed
            for gpus in found
            if (closed := _closed(world, gpus, kind_of[gpus.vendor, gpus.product, gpus.memory])) is not None
        ),
    )


def _closed(world: World, gpus: devices.Gpus, kind: AcceleratorKind) -> Closed | None:
    """What of the GPUs of a node is out of service: all, or tainted devices."""
    item = world.nodes.get("", gpus.node)
    if item is not None and item.unready:
        return Closed(gpus.node, kind, gpus.count, item.unready, item.remedy, True)
    tainted = [device.taint for device in gpus.devices if device.taint]
    return Closed(gpus.node, kind, len(tainted), tainted[0], "", False) if tainted else None
