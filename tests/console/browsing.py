"""The console in a real browser: pages, and what the browser complains about."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from drse_operator.observe.console.pages import decisions
from tests.console.serving import Listening, Served

CHROMIUM = os.environ.get("DRSE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: apt-get install chromium, or name one in DRSE_CHROMIUM"
)
#: Milliseconds that anything may take on a slow machine.
PATIENCE = 30_000


@dataclass(slots=True)
class Site:
    """The console under a URL, and what the browser complained about."""

    served: Served
    listening: Listening
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.listening.url

    def context(self, **options: object) -> BrowserContext:
        context = self.browser.new_context(base_url=self.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        return context

    def page(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda m: self.complaints.append(f"{page.url}: {m.text}") if m.type == "error" else None,
        )
        return page

    def job(self, holds: bool) -> str:
        """Path of a job that holds GPUs, or of one that waits."""
        rows = self.served.stage.look.seen_by(None).jobs.items  # type: ignore[union-attr]
        row = next(r for r in rows if (r.load if holds else r.position))
        return f"/jobs/{row.namespace}/{row.job}"

    def decision(self, kind: str) -> str:
        """Path of the latest decision of a kind."""
        rows = self.served.stage.look.seen_by(None).decisions.items  # type: ignore[union-attr]
        return decisions.path(next(r for r in reversed(rows) if r.kind == kind))
