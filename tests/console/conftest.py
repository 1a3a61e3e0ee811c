"""A constructed cluster and the console over it, shared by the tests of a run: both are only read."""

from __future__ import annotations

import pytest

from tests.console.serving import Served
from tests.console.stagehand import Cluster


@pytest.fixture(scope="session")
def small() -> Cluster:
    """104 GPUs and some 60 jobs."""
    return Cluster.small()


@pytest.fixture(scope="session")
def served(small: Cluster) -> Served:
    """The console over it, as an administrator sees it."""
    return Served(small)
