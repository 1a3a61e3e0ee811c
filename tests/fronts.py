"""A server of a test's own that stands before the real API server, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web


class Front:
    """Answers every request by :meth:`handle` while it is entered; ``url`` is where.

    ``session`` is for asking on; it is made by :meth:`connect`, on the server's own loop.
    """

    session: aiohttp.ClientSession

    def __init__(self) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def write_kubeconfig(self, path: Path, user: dict[str, Any]) -> Path:
        """A kubeconfig that leads here, for somebody with these credentials."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "front", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "front", "context": {"cluster": "front", "user": "me"}}],
            "current-context": "front",
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    async def connect(self) -> aiohttp.ClientSession:
        """The session to ask on with."""
        return aiohttp.ClientSession()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        raise NotImplementedError

    async def _start(self) -> None:
        self.session = await self.connect()
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self.session.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
