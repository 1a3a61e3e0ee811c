"""kopf's part: watching the two custom resources.

``on.event`` hands every object over as it is and writes nothing to it (no annotations, no finalizers);
what is done about it is decided elsewhere. Each handler is one line.

kopf runs in a thread with an event loop of its own. In the main one it would take over the signals of the
process, and cancel every task it does not know when it ends. What it sees is handed to the main loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from drse_operator.api.base import GROUP, VERSION
from drse_operator.cluster.store import Store
from drse_operator.cluster.world import World

#: Takes one watch event.
Take = Callable[[Store[Any], kopf.RawEvent], None]


@dataclass(slots=True)
class Hearing:
    """How many events kopf has handed over; one that stands still while objects change is deaf."""

    events: int = 0


async def watch(world: World, configuration: Any, hearing: Hearing) -> None:
    """Keep ``world.jobs`` and ``world.queues`` true until cancelled. Returns only if kopf gives up."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = threading.Event()

    def take(store: Store[Any], event: kopf.RawEvent) -> None:
        hearing.events += 1
        loop.call_soon_threadsafe(take_event, store, event)

    def run() -> None:
        registry = build_registry(world, configuration, take)
        try:
            asyncio.run(
                kopf.operator(registry=registry, settings=build_settings(), clusterwide=True, stop_flag=stop)
            )
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, ended)

    threading.Thread(target=run, name="kopf", daemon=True).start()
    try:
        await ended
    finally:
        stop.set()


def take_event(store: Store[Any], event: kopf.RawEvent) -> None:
    """Put a watch event into its cache."""
    document = dict(event["object"])
    if event["type"] == "DELETED":
        store.discard(document)
    else:
        store.put(document)


def build_registry(world: World, configuration: Any, take: Take) -> kopf.OperatorRegistry:
    """A registry of its own: importing this module registers nothing."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return await _login(configuration)

    @kopf.on.event(GROUP, VERSION, "deepseekjobs", registry=registry)
    async def see_job(event: kopf.RawEvent, **_: Any) -> None:
        take(world.jobs, event)

    @kopf.on.event(GROUP, VERSION, "gpuqueues", registry=registry)
    async def see_queue(event: kopf.RawEvent, **_: Any) -> None:
        take(world.queues, event)

    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf's settings, each with the reason for its value."""
    settings = kopf.OperatorSettings()
    # One operator leads by Lease; kopf's peering is a second, weaker election.
    settings.peering.standalone = True
    # Events are posted on purpose (cluster.events), not for every log line.
    settings.posting.enabled = False
    # Both kinds are known, and looking for others needs rights on CRDs and namespaces.
    settings.scanning.disabled = True
    # A watch that has silently died is noticed within five minutes (kopf issue 1276).
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 330
    settings.networking.request_timeout = 30
    # Handlers only fill a cache: nothing to wait for between events, and no worker to keep for an object
    # that may not change for hours (the default of 5 s keeps one for each).
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.5
    return settings


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


async def _login(configuration: Any) -> kopf.ConnectionInfo:
    """kopf uses the credentials that the rest of the operator uses, as they are now: tokens rotate."""
    token = await configuration.get_api_key_with_prefix("BearerToken", "authorization")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme="Bearer" if token else None,
        token=token.split(" ", 1)[-1] if token else None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
