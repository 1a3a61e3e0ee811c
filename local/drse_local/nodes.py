"""Manifests of a fleet: Nodes, ResourceSlices and the DeviceClass, as the vendors' own agents publish them.

Labels follow NVIDIA GPU feature discovery, AMD's node labeller and Habana's feature discovery; slices follow
NVIDIA's DRA driver (driver `gpu.nvidia.com`, KEP-4381 structured parameters).
"""

from __future__ import annotations

from drse_local.apiclient import Manifest
from drse_local.controlplane import KWOK_NODE_LABEL
from drse_local.fleet import EXTENDED_RESOURCE, Binding, FleetNode, Gpu, Vendor
from drse_local.ports import LOOPBACK

DRA_DRIVER = "gpu.nvidia.com"

_KUBELET_VERSION = "v1.37.1"
_POD_LIMIT = 250
_GPUS_PER_PCIE_ROOT = 2


def device_class() -> Manifest:
    """The DeviceClass that NVIDIA's driver installs for whole GPUs."""
    selector = f"device.driver == '{DRA_DRIVER}' && device.attributes['{DRA_DRIVER}'].type == 'gpu'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": DRA_DRIVER},
        "spec": {"selectors": [{"cel": {"expression": selector}}]},
    }


def node_manifest(node: FleetNode) -> Manifest:
    """The Node, without its status."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": node_labels(node),
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
    }


def node_status(node: FleetNode, kubelet_port: int | None = None) -> Manifest:
    """The Node's status as a kubelet reports it, less the conditions, which kwok keeps. ``kubelet_port``:
    loopback port where kwok answers in the kubelet's place."""
    capacity = _capacity(node)
    addresses = [{"type": "Hostname", "address": node.name}]
    served: Manifest = {}
    if kubelet_port is not None:
        addresses.append({"type": "InternalIP", "address": LOOPBACK})
        served = {"daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": addresses,
            **served,
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "simulated://1",
                "kernelVersion": "6.12.0",
                "kubeProxyVersion": "",
                "kubeletVersion": _KUBELET_VERSION,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "simulated",
                "systemUUID": "",
            },
        },
    }


def _capacity(node: FleetNode) -> dict[str, str]:
    group = node.group
    capacity = {"cpu": str(group.cpus), "memory": f"{group.host_memory}Gi", "pods": str(_POD_LIMIT)}
    if node.gpus and group.binding is Binding.DEVICE_PLUGIN:
        capacity[EXTENDED_RESOURCE[group.vendor]] = str(len(node.gpus))
    return capacity


def node_labels(node: FleetNode) -> dict[str, str]:
    """Topology, feature-discovery and the group's own labels."""
    group = node.group
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": group.zone,
        "topology.kubernetes.io/rack": node.rack,
        KWOK_NODE_LABEL: "true",
        "local.drse.dev/group": group.name,
    }
    if node.gpus:
        labels |= _vendor_labels(node)
    return labels | group.labels


def _vendor_labels(node: FleetNode) -> dict[str, str]:
    group, product, memory = node.group, node.group.product or "", node.group.facts.memory_mib
    match group.vendor:
        case Vendor.NVIDIA:
            labels = {
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.product": product.replace(" ", "-"),
                "nvidia.com/gpu.memory": str(memory),
                "nvidia.com/gpu.count": str(len(node.gpus)),
            }
            return labels | ({"nvidia.com/gpu.clique": group.nvlink_domain} if group.nvlink_domain else {})
        case Vendor.AMD:
            return {
                "amd.com/gpu.product-name": product.replace(" ", "_"),
                "amd.com/gpu.vram": f"{round(memory / 1024)}G",
                "amd.com/gpu.count": str(len(node.gpus)),
            }
        case Vendor.HABANA:
            return {"habana.ai/gaudi.product": product, "habana.ai/gaudi.count": str(len(node.gpus))}


def resource_slice(node: FleetNode) -> Manifest | None:
    """The node's ResourceSlice; None where its devices are not allocated by DRA."""
    if not node.gpus or node.group.binding is not Binding.DRA:
        return None
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node.name}-{DRA_DRIVER}"},
        "spec": {
            "driver": DRA_DRIVER,
            "nodeName": node.name,
            "pool": {"name": node.name, "generation": 1, "resourceSliceCount": 1},
            "devices": [_device(node, gpu) for gpu in node.gpus],
        },
    }


def _device(node: FleetNode, gpu: Gpu) -> Manifest:
    facts = node.group.facts
    return {
        "name": gpu.device,
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": gpu.uuid},
            "productName": {"string": gpu.product},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": facts.architecture},
            "cudaComputeCapability": {"version": facts.compute_capability or "0.0.0"},
            "driverVersion": {"version": "580.95.5"},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{gpu.index // _GPUS_PER_PCIE_ROOT:02x}"},
        },
        "capacity": {"memory": {"value": f"{gpu.memory_mib}Mi"}},
    }
