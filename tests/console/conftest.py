"""A constructed cluster and the console over it, shared by the tests of a run: both are only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from tests.console.browsing import CHROMIUM, Site
from tests.console.serving import Listening, Served
from tests.console.stagehand import Cluster


@pytest.fixture(scope="session")
def small() -> Cluster:
    """104 GPUs and some 60 jobs."""
    return Cluster.small()


@pytest.fixture(scope="session")
def served(small: Cluster) -> Served:
    """The console over it, as an administrator sees it."""
    return Served(small)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """For a module alone: while the browser is driven from this thread, no asyncio test can run in it."""
    served = Served(Cluster.small())
    with sync_playwright() as playwright, Listening(served.application()) as listening:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield Site(served, listening, browser)
        browser.close()


@pytest.fixture
def quiet(site: Site) -> Iterator[Site]:
    """The browser must not complain: no script errors, nothing that the security policy blocks."""
    site.complaints.clear()
    yield site
    assert site.complaints == []
