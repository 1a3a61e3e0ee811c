"""The console's own metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)


class Figures:
    """Counts requests and refusals. One registry for each console."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        info = Gauge(
            "drse_console_build_info", "1, with the console's version.", ["version"], registry=self.registry
        )
        info.labels(version=version).set(1)
        self._requests = Counter(
            "drse_console_requests", "Pages asked for, by format.", ["format"], registry=self.registry
        )
        self._denied = Counter(
            "drse_console_denied",
            "Requests that were refused, by HTTP status.",
            ["status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "drse_console_request_duration_seconds",
            "Time until a page was made.",
            registry=self.registry,
            buckets=_BUCKETS,
        )

    @contextmanager
    def request(self, form: str) -> Iterator[None]:
        """Around the making of a page."""
        started = time.perf_counter()
        self._requests.labels(format=form).inc()
        try:
            yield
        finally:
            self._seconds.observe(time.perf_counter() - started)

    def denied(self, status: int) -> None:
        """A request was refused."""
        self._denied.labels(status=status).inc()
