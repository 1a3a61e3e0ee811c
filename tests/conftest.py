"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.threaded import ThreadedCluster

# HYPOTHESIS_PROFILE=ci looks longer, and always at the same examples. No deadlines: machines are shared.
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), max_examples=500, derandomize=True)
settings.register_profile("bench", settings.get_profile("dev"), max_examples=2500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with patient tests go first, those without a cluster last, so that no worker is left with a long
    one at the end."""
    patience: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        cluster = item.get_closest_marker("cluster")
        seconds = float(limit.args[0]) if limit else 1.0 if cluster else 0.0
        patience[item.path] = max(patience.get(item.path, 0.0), seconds)
    items.sort(key=lambda item: -patience[item.path])


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[ThreadedCluster]:
    """A real control plane with the small fleet, started once a session (about 5 s); use namespaces of your
    own.
    """
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as cluster:
        yield cluster
