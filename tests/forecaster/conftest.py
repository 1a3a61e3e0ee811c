"""A real Prometheus for the tests that need one, filled with recorded samples.

Everything else under this folder runs on plain data.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.forecaster.prometheus import PrometheusProcess
from tests.names import names

__all__ = ["names"]

StartPrometheus = Callable[[str], str]


@pytest.fixture(scope="module")
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPrometheus]:
    """Return a function from OpenMetrics text to the URL of a Prometheus that holds those samples."""
    with ExitStack() as stack:

        def start(openmetrics: str) -> str:
            prometheus = PrometheusProcess(tmp_path_factory.mktemp("prometheus"), free_port())
            prometheus.backfill(openmetrics)
            stack.callback(prometheus.stop)
            prometheus.start()
            return prometheus.url

        yield start


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def unused_port() -> int:
    return free_port()
