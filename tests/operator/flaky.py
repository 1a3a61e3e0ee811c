"""A proxy before the real API server that loses, delays and refuses a share of the requests.

It speaks plain HTTP to the operator and presents the administrator's certificate to the API server. Watches
pass through, and break now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from drse_operator.cluster.client import load_configuration
from tests.fronts import Front


class FlakyApiServer(Front):
    """``share`` of all requests meet a fault; ``faults`` counts them by kind.

    From :meth:`hold` to :meth:`let_go` all writes are kept back; they are made then although those who sent
    them have long given up. ``late`` are the paths and the HTTP statuses that these writes got.
    """

    def __init__(self, kubeconfig: Path, share: float, seed: int) -> None:
        super().__init__()
        self.faults: Counter[str] = Counter()
        self.share = share
        self.late: list[tuple[str, int]] = []
        self._holds = False
        self._released = asyncio.Event()
        self._upstream = kubeconfig
        self._chance = random.Random(seed)

    def kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads through the proxy."""
        return self.write_kubeconfig(path, {})

    def hold(self) -> None:
        """Keep back every write from now on."""
        self._holds = True

    def let_go(self) -> None:
        """Make the writes that were kept back."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def connect(self) -> aiohttp.ClientSession:
        """As the administrator."""
        configuration: Any = await load_configuration(str(self._upstream))
        self._host = configuration.host
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        return aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault(request)
        if fault in ("429", "500"):
            headers = {"Retry-After": "1"} if fault == "429" else {}
            body = {"kind": "Status", "status": "Failure", "reason": "Injected", "code": int(fault)}
            return web.json_response(body, status=int(fault), headers=headers)
        if fault == "lost request":
            return self._hang_up(request)
        headers = {
            k: v
            for k, v in request.headers.items()
            if k.lower() not in ("host", "content-length", "transfer-encoding")
        }
        # Bodies are passed on as they come, without the header that would say that they are compressed.
        headers["Accept-Encoding"] = "identity"
        data = await request.read() or None
        kept = self._holds and request.method != "GET"
        if kept:
            await self._released.wait()
        async with self.session.request(
            request.method, f"{self._host}{request.path_qs}", headers=headers, data=data
        ) as upstream:
            if kept:
                self.late.append((request.path, upstream.status))
            if fault == "lost answer":
                await upstream.read()
                return self._hang_up(request)
            answer = web.StreamResponse(status=upstream.status)
            answer.content_type = upstream.content_type
            with contextlib.suppress(ConnectionResetError):
                await self._pass_on(request, upstream, answer)
            return answer

    async def _pass_on(
        self, request: web.Request, upstream: aiohttp.ClientResponse, answer: web.StreamResponse
    ) -> None:
        await answer.prepare(request)
        async for chunk in upstream.content.iter_any():
            await answer.write(chunk)
            if "watch" in request.query and self._chance.random() < self.share / 20:
                self.faults["broken watch"] += 1
                self._hang_up(request)
                return
        await answer.write_eof()

    def _fault(self, request: web.Request) -> str:
        if "watch" in request.query or self._chance.random() > self.share:
            return ""
        fault = self._chance.choice(("429", "500", "lost request", "lost answer"))
        self.faults[fault] += 1
        return fault

    def _hang_up(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
