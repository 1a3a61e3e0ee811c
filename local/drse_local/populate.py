"""Puts a fleet into the API server, idempotently and quickly.

Everything is server-side applied, many objects at once, so `up` on a persistent instance repairs what has
changed. A node's capacity goes to its status subresource: the API server ignores status in applies to the
node itself.
"""

from __future__ import annotations

import asyncio

from drse_local.apiclient import KubeApi, Manifest
from drse_local.concurrency import concurrently
from drse_local.fleet import Fleet, FleetNode
from drse_local.nodes import device_class, node_manifest, node_status, resource_slice

_CONCURRENCY = 32
_RESOURCE = "/apis/resource.k8s.io/v1"
_NODES = "/api/v1/nodes"


async def populate(api: KubeApi, fleet: Fleet, kubelet_port: int) -> None:
    """Create or update the DeviceClass, all Nodes and all ResourceSlices of the fleet."""
    gate = asyncio.Semaphore(_CONCURRENCY)

    async def bounded(node: FleetNode) -> None:
        async with gate:
            await _apply_node(api, node, kubelet_port)

    driver = device_class()
    await api.apply(f"{_RESOURCE}/deviceclasses/{driver['metadata']['name']}", driver)
    await concurrently(*(bounded(node) for node in fleet.nodes))


async def _apply_node(api: KubeApi, node: FleetNode, kubelet_port: int) -> None:
    await api.apply(f"{_NODES}/{node.name}", node_manifest(node))
    await api.apply(f"{_NODES}/{node.name}/status", node_status(node, kubelet_port))
    published = resource_slice(node)
    if published is not None:
        await api.apply(f"{_RESOURCE}/resourceslices/{published['metadata']['name']}", published)


async def wait_nodes_ready(api: KubeApi, fleet: Fleet, seconds: float) -> list[str]:
    """Wait until every node of the fleet is Ready and may be scheduled to; return those that are not after so
    many seconds.
    """
    wanted = {node.name for node in fleet.nodes}
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        nodes = (await api.get(_NODES, resourceVersion="0"))["items"]
        missing = wanted - {node["metadata"]["name"] for node in nodes if _is_ready(node)}
        if not missing or asyncio.get_running_loop().time() > deadline:
            return sorted(missing)
        await asyncio.sleep(0.1)


def _is_ready(node: Manifest) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    taints = {taint["key"] for taint in node["spec"].get("taints", ())}
    return conditions.get("Ready") == "True" and "node.kubernetes.io/not-ready" not in taints
