"""Wiring of the console process: connects, watches, serves, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from drse_operator.api.keys import JobKey
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi, load_configuration
from drse_operator.observe.console.access import Cache, Gate, LoopbackGate, ProxyGate, Reviews, TokenGate
from drse_operator.observe.console.figures import Figures
from drse_operator.observe.console.outside import Addresses
from drse_operator.observe.console.pages.job import EventRow
from drse_operator.observe.console.render import Renderer
from drse_operator.observe.console.sessions import Sessions
from drse_operator.observe.console.stage import Stage
from drse_operator.observe.console.watch import Watch
from drse_operator.observe.console.web import Login, Web
from drse_operator.observe.http import Server

log = logging.getLogger(__name__)

#: Seconds that the events of a job are kept, and how many are shown.
_EVENTS_KEPT = 5.0
_EVENTS = 30
#: Threads that make looks and pages.
_THREADS = 3


class Auth(StrEnum):
    """How the console knows who asks."""

    TOKEN = "token"
    PROXY = "proxy"
    NONE_ON_LOOPBACK = "none-on-loopback"


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of ``drse-console``."""

    kubeconfig: str | None
    listen_host: str
    listen_port: int
    auth: Auth
    addresses: Addresses
    version: str
    cluster: str = ""
    proxy_secret: str = ""
    secure_cookie: bool = False


class Console:
    """One process of the console."""

    def __init__(self, options: Options, api: KubeApi, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._clock = clock
        self._events: Cache[tuple[EventRow, ...] | None] = Cache(_EVENTS_KEPT)
        self.stage = Stage()
        self.watch = Watch(api, options.addresses, self.stage, clock)
        self.reviews = Reviews(api, self._namespaces, self._all_namespaces)
        gate, login = self._gate(options)
        renderer = Renderer(options.cluster, options.version)
        renderer.warm()
        web = Web(
            self.stage,
            gate,
            renderer,
            Figures(options.version),
            self._job_events,
            self.watch.not_ready,
            lambda: self.watch.age,
            login,
        )
        self.server = Server(web.application(), options.listen_host, options.listen_port)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``. Raises what any part raised: the process then ends and is started anew."""
        parts: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "watch": self.watch.run,
            "server": self.server.serve,
            "stop": stop.wait,
        }
        running = [asyncio.create_task(start(), name=name) for name, start in parts.items()]
        # Looks are worked out in a thread beside; a request shall not wait 5 ms for each of its turns.
        sys.setswitchinterval(0.001)
        # Few threads: each keeps memory of the largest page it has made, and one alone computes at a time.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "pages"))
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not stop.is_set():
                raise RuntimeError("a part of the console has ended, and the rest is of no use without it")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _gate(self, options: Options) -> tuple[Gate, Login | None]:
        match options.auth:
            case Auth.TOKEN:
                sessions = Sessions(options.secure_cookie)
                return TokenGate(self.reviews, sessions), Login(self.reviews, sessions)
            case Auth.PROXY:
                return ProxyGate(self.reviews, options.proxy_secret), None
            case Auth.NONE_ON_LOOPBACK:
                return LoopbackGate(), None

    def _namespaces(self) -> frozenset[str]:
        look = self.stage.look
        return frozenset() if look is None else look.namespaces

    def _all_namespaces(self) -> frozenset[str]:
        return frozenset(item.name for item in self.watch.world.namespaces.values())

    async def _job_events(self, key: JobKey) -> tuple[EventRow, ...] | None:
        """Latest events on a job, newest first; None when they cannot be read."""
        return await self._events.get(key, lambda: self._read_events(key))

    async def _read_events(self, key: JobKey) -> tuple[EventRow, ...] | None:
        query = {"fieldSelector": f"regarding.kind=DeepSeekJob,regarding.name={key.name}"}
        try:
            found = (await self._api.list(kinds.EVENT, key.namespace, query)).items
        except (ApiError, ApiUnreachable) as error:
            log.warning("events of %s: %s", key, error)
            return None
        rows = sorted((_event(document) for document in found), key=lambda row: row.at, reverse=True)
        return tuple(rows[:_EVENTS])


def _event(document: dict[str, Any]) -> EventRow:
    when = document.get("eventTime") or document["metadata"]["creationTimestamp"]
    return EventRow(
        at=datetime.fromisoformat(when),
        reason=document.get("reason", ""),
        note=document.get("note", ""),
        warning=document.get("type") == "Warning",
    )


async def run(options: Options, stop: asyncio.Event) -> None:
    """Connect and serve until ``stop``."""
    configuration = await load_configuration(options.kubeconfig)
    async with KubeApi(configuration, f"drse-console/{options.version}") as api:
        await Console(options, api).run(stop)
