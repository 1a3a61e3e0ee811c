"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.threaded import ThreadedCluster


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[ThreadedCluster]:
    """A real control plane with the small fleet, started once a session (about 5 s); use namespaces of your
    own.
    """
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as cluster:
        yield cluster
