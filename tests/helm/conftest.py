"""A cluster of its own with Prometheus, the chart installed on it, and its processes running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.monitoring import MonitoringOptions
from drse_local.release import Release
from drse_local.scenario import Scenario
from drse_local.threaded import ThreadedCluster


@pytest.fixture(scope="module")
def monitored() -> Iterator[ThreadedCluster]:
    """The embedded cluster with Prometheus, without a recorded past."""
    options = MonitoringOptions(Scenario(history_days=0))
    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"), monitoring=options)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def release(monitored: ThreadedCluster) -> Iterator[Release]:
    """The chart with two operators, the forecaster and the console."""
    quick = {
        "operator": {"forecastPeriodSeconds": 2},
        "forecaster": {"interval": "5s"},
        "console": {"enabled": True, "nodeSelector": {"local.drse.dev/group": "system"}},
    }
    release = Release(monitored.cluster, operator_replicas=2, values=quick)
    monitored.run(release.start())
    try:
        yield release
    finally:
        monitored.run(release.stop())
