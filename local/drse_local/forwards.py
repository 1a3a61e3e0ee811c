"""Ports of simulated pods that lead to processes of this machine, so that `kubectl port-forward` works.

kwok answers in the kubelets' place, and looks up where a pod's port leads in PortForward objects, a kind of
its own that is installed with the cluster.
"""

from __future__ import annotations

import asyncio
import time

from drse_local.apiclient import ApiStatusError, KubeApi, Manifest
from drse_local.errors import LocalClusterError
from drse_local.ports import LOOPBACK

_GROUP = "kwok.x-k8s.io"
_KIND = f"portforwards.{_GROUP}"
_SERVED_SECONDS = 30.0
_POLL_SECONDS = 0.05


async def install(api: KubeApi) -> None:
    """Make the kind known, and wait until it is served: kwok lists it when it starts."""
    await api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{_KIND}", _definition())
    deadline = time.monotonic() + _SERVED_SECONDS
    while True:
        try:
            await api.get(f"/apis/{_GROUP}/v1alpha1/portforwards")
            return
        except ApiStatusError as error:
            if time.monotonic() > deadline:
                raise LocalClusterError(
                    f"{_KIND} was not served after {_SERVED_SECONDS:g} s: {error}"
                ) from error
        await asyncio.sleep(_POLL_SECONDS)


async def forward(api: KubeApi, namespace: str, pod: str, port: int, target: int) -> None:
    """Let a port of a simulated pod lead to a loopback port."""
    path = f"/apis/{_GROUP}/v1alpha1/namespaces/{namespace}/portforwards/{pod}"
    await api.apply(
        path,
        {
            "apiVersion": f"{_GROUP}/v1alpha1",
            "kind": "PortForward",
            "metadata": {"namespace": namespace, "name": pod},
            "spec": {"forwards": [{"ports": [port], "target": {"address": LOOPBACK, "port": target}}]},
        },
    )


def _definition() -> Manifest:
    """As in kwok's own manifests, less what the API server need not check."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": _KIND},
        "spec": {
            "group": _GROUP,
            "names": {
                "kind": "PortForward",
                "listKind": "PortForwardList",
                "plural": "portforwards",
                "singular": "portforward",
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
