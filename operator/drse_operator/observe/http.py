"""``/healthz``, ``/readyz`` and ``/metrics``.

Alive means that the loop turns (or, on a follower, that the caches are fed); ready means that the caches
are complete. A probe that only proved that a web server runs would keep a dead operator in office.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

#: Returns None when all is well, else what is wrong.
Check = Callable[[], str | None]


def application(alive: Check, ready: Check, registry: CollectorRegistry) -> Starlette:
    """The three routes over two checks and a registry."""

    async def healthz(_: Request) -> Response:
        return _answer(alive())

    async def readyz(_: Request) -> Response:
        return _answer(ready())

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


def _answer(trouble: str | None) -> Response:
    return PlainTextResponse(trouble or "ok", status_code=503 if trouble else 200)


class Server(uvicorn.Server):
    """A server that leaves signals to the program it is part of; ``serve`` runs until cancelled."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        super().__init__(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off"))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: the operator handles signals."""
        yield
