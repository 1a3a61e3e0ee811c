"""Fixtures for tests that need DRSE's API on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from drse_local.threaded import ThreadedCluster
from drse_operator.api.crd import RESOURCES

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster_with_crds(local_cluster: ThreadedCluster) -> ThreadedCluster:
    """The local cluster with the committed CustomResourceDefinitions installed and served."""
    local_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    names = [f"crd/{resource.plural}.drse.dev" for resource in RESOURCES]
    local_cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    return local_cluster


@pytest.fixture(scope="session")
def custom_objects(cluster_with_crds: ThreadedCluster) -> Iterator[client.CustomObjectsApi]:
    """Administrator's client for DeepSeekJobs and GPUQueues; keeps its connection open."""
    with config.new_client_from_config(str(cluster_with_crds.kubeconfig)) as api:
        yield client.CustomObjectsApi(api)
