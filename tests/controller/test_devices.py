"""From nodes and ResourceSlices, as clusters publish them, to GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.enums import DeviceSelection, TopologyScope, Vendor
from drse_operator.cluster import devices
from drse_operator.cluster.devices import Gpus

Document = dict[str, Any]
GIB = 2**30


def node(
    name: str = "n1",
    labels: dict[str, str] | None = None,
    allocatable: dict[str, str] | None = None,
    ready: str = "True",
    **spec: Any,
) -> Document:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "allocatable": {"cpu": "64", **(allocatable or {})},
        },
    }


def device(index: int, product: str = "NVIDIA H100 80GB HBM3", **more: Any) -> Document:
    return {
        "name": f"gpu-{index}",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": f"GPU-{index}"},
            "productName": {"string": product},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci{index // 4}"},
        },
        "capacity": {"memory": {"value": "81559Mi"}},
        **more,
    }


def piece(
    *found: Document, generation: int = 1, name: str = "s1", driver: str = "gpu.nvidia.com", **spec: Any
) -> Document:
    pool = {"name": "n1", "generation": generation, "resourceSliceCount": 1}
    return {
        "metadata": {"name": name},
        "spec": {"driver": driver, "nodeName": "n1", "pool": pool, "devices": list(found), **spec},
    }


def gpus(nodes: list[Document], slices: list[Document] | None = None) -> list[Gpus]:
    parsed = [devices.resource_slice(document) for document in slices or []]
    return devices.gpus([devices.node(n) for n in nodes], [s for s in parsed if s is not None])


def test_a_slice_names_every_device() -> None:
    (found,) = gpus([node()], [piece(device(1), device(0))])
    assert (found.vendor, found.product, found.memory) == (
        Vendor.NVIDIA,
        "NVIDIA H100 80GB HBM3",
        81559 * 2**20,
    )
    assert (found.selection, found.count, found.resource) == (DeviceSelection.EXACT, 2, "")
    first = found.devices[0].device
    assert (first.uuid, first.driver, first.pool, first.name, first.group) == (
        "GPU-0",
        "gpu.nvidia.com",
        "n1",
        "gpu-0",
        "pci0",
    )


def test_attribute_names_may_be_qualified_by_their_driver() -> None:
    raw = device(0)
    raw["attributes"] = {f"gpu.nvidia.com/{k.rpartition('/')[2]}": v for k, v in raw["attributes"].items()}
    raw["capacity"] = {"gpu.nvidia.com/memory": {"value": "81559Mi"}}
    (found,) = gpus([node()], [piece(raw)])
    assert (found.devices[0].device.uuid, found.memory) == ("GPU-0", 81559 * 2**20)


@pytest.mark.parametrize(
    ("driver", "vendor"),
    [("gpu.nvidia.com", Vendor.NVIDIA), ("gpu.amd.com", Vendor.AMD), ("gpu.habana.ai", Vendor.HABANA)],
)
def test_drivers(driver: str, vendor: Vendor) -> None:
    (found,) = gpus([node()], [piece(device(0), driver=driver)])
    assert found.vendor is vendor


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(piece(device(0), driver="dra.cpu"), id="another driver"),
        pytest.param(piece(device(0), nodeName=""), id="devices of no single node"),
    ],
)
def test_slices_of_other_things_are_left_out(document: Document) -> None:
    assert devices.resource_slice(document) is None


def test_parts_of_gpus_and_devices_without_uuid_are_left_out() -> None:
    mig = device(1)
    mig["attributes"]["type"] = {"string": "mig"}
    nameless = device(2)
    del nameless["attributes"]["uuid"]
    (found,) = gpus([node()], [piece(device(0), mig, nameless)])
    assert [d.device.uuid for d in found.devices] == ["GPU-0"]


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    slices = [
        piece(device(0), device(1), generation=1, name="old"),
        piece(device(0), generation=2, name="new-a"),
        piece(device(2), generation=2, name="new-b"),
    ]
    (found,) = gpus([node()], slices)
    assert [d.device.uuid for d in found.devices] == ["GPU-0", "GPU-2"]


@pytest.mark.parametrize(("effect", "out"), [("NoSchedule", True), ("NoExecute", True), ("None", False)])
def test_taints_take_a_device_out_of_service(effect: str, out: bool) -> None:
    tainted = device(0, taints=[{"key": "gpu.nvidia.com/xid", "effect": effect}])
    (found,) = gpus([node()], [piece(tainted)])
    assert found.devices[0].taint == ("has the taint gpu.nvidia.com/xid" if out else "")


def test_products_on_one_node_are_kept_apart() -> None:
    found = gpus([node()], [piece(device(0), device(1, product="NVIDIA L40S"))])
    assert [(g.product, g.count) for g in found] == [("NVIDIA H100 80GB HBM3", 1), ("NVIDIA L40S", 1)]


@pytest.mark.parametrize(
    ("resource", "labels", "expected"),
    [
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"},
            (Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3", 81559 * 2**20),
            id="NVIDIA: memory in MiB",
        ),
        pytest.param(
            "amd.com/gpu",
            {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
            (Vendor.AMD, "AMD_Instinct_MI300X_OAM", 192 * 10**9),
            id="AMD: memory with a unit",
        ),
        pytest.param(
            "habana.ai/gaudi",
            {"habana.ai/gaudi.product": "Gaudi3"},
            (Vendor.HABANA, "Gaudi3", 128 * 10**9),
            id="Gaudi: memory as sold",
        ),
        pytest.param("nvidia.com/gpu", {}, (Vendor.NVIDIA, "unknown", 0), id="no labels at all"),
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "lots"},
            (Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3", 80 * 10**9),
            id="a label that is no number: as sold",
        ),
    ],
)
def test_device_plugins(resource: str, labels: dict[str, str], expected: tuple[Vendor, str, int]) -> None:
    (found,) = gpus([node(labels=labels, allocatable={resource: "8"})])
    assert (found.vendor, found.product, found.memory) == expected
    assert (found.selection, found.count, found.resource) == (DeviceSelection.COUNT_ONLY, 8, resource)


def test_memory_of_a_slice_that_is_no_quantity_is_taken_as_sold() -> None:
    raw = device(0)
    raw["capacity"] = {"memory": {"value": "8E"}}
    (found,) = gpus([node()], [piece(raw)])
    assert found.memory == 80 * 10**9


def test_gpus_published_both_ways_count_once() -> None:
    both = node(allocatable={"nvidia.com/gpu": "1", "amd.com/gpu": "2"})
    found = gpus([both], [piece(device(0))])
    assert [(g.vendor, g.selection, g.count) for g in found] == [
        (Vendor.NVIDIA, DeviceSelection.EXACT, 1),
        (Vendor.AMD, DeviceSelection.COUNT_ONLY, 2),
    ]


def test_slices_of_a_node_that_is_gone_count_for_nothing() -> None:
    assert gpus([], [piece(device(0))]) == []


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param(node(), "", id="well"),
        pytest.param(node(ready="False"), "is not ready", id="not ready"),
        pytest.param(node(ready="Unknown"), "is not ready", id="silent"),
        pytest.param(node(unschedulable=True), "is cordoned", id="cordoned"),
        pytest.param(
            node(taints=[{"key": "maintenance", "effect": "NoSchedule"}]),
            "has the taint maintenance",
            id="tainted",
        ),
        pytest.param(
            node(taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]), "", id="tainted for GPUs"
        ),
        pytest.param(
            node(taints=[{"key": "busy", "effect": "PreferNoSchedule"}]), "", id="a taint that only asks"
        ),
        pytest.param(
            {**node(), "metadata": {"name": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "is being deleted",
            id="going away",
        ),
    ],
)
def test_why_nothing_may_be_placed_on_a_node(document: Document, why: str) -> None:
    assert devices.node(document).unready == why


def test_topology_labels() -> None:
    labels = {
        "topology.kubernetes.io/zone": "z1",
        "topology.kubernetes.io/rack": "r7",
        "nvidia.com/gpu.clique": "c.1",
    }
    assert devices.domains(devices.node(node(labels=labels))) == {
        TopologyScope.ZONE: "z1",
        TopologyScope.RACK: "r7",
        TopologyScope.NVLINK_DOMAIN: "c.1",
    }
    assert devices.domains(devices.node(node())) == {}
